//! `storage history`: a user's generations.

use storage_core::{GetUserGenerationsHistory, UserId};

use crate::args::Paging;
use crate::context::Context;
use crate::exit::{Exit, Outcome};
use crate::output::{Table, short, when};

pub(crate) async fn history(context: &Context, user: UserId, page: &Paging<10>) -> Outcome {
    let list = GetUserGenerationsHistory { user, page: page.request()? };
    let generations =
        context.looking_at_store(async |storage| Ok(storage.get_user_generations_history(list).await?)).await?;
    context.out.page(&generations, "generations", || {
        let mut table = Table::new(&["time (UTC)", "generation", "price>", "model", "result"]);
        for generation in &generations.items {
            let urls = generation.result_urls.as_slice();
            let result = match urls {
                [] => "-".to_owned(),
                [url] => url.clone(),
                [url, more @ ..] => format!("{url} and {} more", more.len()),
            };
            table.row([
                when(generation.at),
                short(generation.id.as_str(), 40),
                generation.price.to_string(),
                short(generation.model_name.as_str(), 24),
                result,
            ]);
        }
        table
    })?;
    Ok(Exit::Done)
}
