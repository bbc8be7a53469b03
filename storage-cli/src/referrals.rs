//! `storage referrals`: who brought whom.

use serde_json::json;
use storage_core::{GetReferrals, UserId};

use crate::args::Paging;
use crate::context::Context;
use crate::exit::{Exit, Outcome};
use crate::output::{Table, when};

pub(crate) async fn referrals(context: &Context, user: UserId, page: &Paging<100>) -> Outcome {
    let list = GetReferrals { referrer: user, page: page.request()? };
    let (referrer, brought) = context
        .looking_at_store(async |storage| Ok((storage.get_referrer(user).await?, storage.get_referrals(list).await?)))
        .await?;
    let object = json!({ "user": user, "referrer": referrer, "items": brought.items, "next": brought.next });
    context.out.answer(&object, || {
        let by = referrer.map_or_else(|| "by nobody".to_owned(), |referrer| format!("by user {referrer}"));
        let head = format!("user {user} was brought {by}");
        if brought.items.is_empty() {
            return format!("{head}\nno referrals");
        }
        let mut table = Table::new(&["brought", "since (UTC)", "bonus"]);
        for referral in &brought.items {
            table.row([referral.user.to_string(), when(referral.since), referral.bonus.to_string()]);
        }
        format!("{head}\n{}", table.to_text(""))
    })?;
    if !context.out.json {
        context.out.more(brought.next.as_ref());
    }
    Ok(Exit::Done)
}
