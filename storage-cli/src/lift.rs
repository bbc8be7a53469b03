//! `storage lift`: a store that is marked as moved takes changes again.

use serde_json::json;
use storage_core::Destination;

use crate::confirm::Plan;
use crate::context::{Context, Planned};
use crate::exit::{Exit, Failure, Outcome, quoted};

pub(crate) async fn run(context: &Context, place: Destination) -> Outcome {
    if !context.choice.exists() {
        return Err(context.no_store());
    }
    let storage = context.chosen_store().await?;
    let lifted = async {
        match storage.moved_to().await? {
            None => {
                let message = "the store is not marked as moved: there is nothing to lift";
                return Err(Failure::refused(message, "storage status"));
            }
            Some(found) if found != place => {
                let message = format!("the store is marked as moved to {found}, and a mark is lifted by its name");
                return Err(Failure::refused(message, format!("storage lift {}", quoted(found.as_str()))));
            }
            Some(_) => {}
        }
        let mut plan = Plan::new(&Planned::open(&*storage), "the store will take changes again");
        plan.add("was moved to", place.to_string());
        plan.add("mind", "what was changed there since is not here");
        if !plan.approve(context)? {
            return Ok(false);
        }
        storage.lift_moved(place.clone()).await?;
        Ok(true)
    };
    let outcome = lifted.await;
    let _ = storage.close().await;
    if outcome? {
        let object = json!({ "lifted": place, "store": context.choice.location() });
        let printed =
            context.out.answer(&object, || format!("lifted: {} takes changes again", context.choice.location()));
        printed.map_err(|failure| failure.after_change("storage status"))?;
    }
    Ok(Exit::Done)
}
