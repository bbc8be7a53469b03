//! `storage policy`: another time zone and history retention for a store that has them already.

use serde_json::json;
use storage_core::{ErrorKind, HistoryRetention, TimeZone};
use storage_factory::adopt_policy;

use crate::confirm::Plan;
use crate::context::{Context, Planned};
use crate::exit::{Exit, Failure, Outcome};

pub(crate) async fn policy(
    context: &Context,
    time_zone: Option<TimeZone>,
    history: Option<HistoryRetention>,
) -> Outcome {
    if !context.choice.exists() {
        return Err(context.no_store());
    }
    // What is not given stays: it is the store's own only where the store opens as this program is set up.
    let is_whole = time_zone.is_some() && history.is_some();
    let store = match context.planning(async |_| Ok(())).await {
        Ok((store, _)) => store,
        // It was reached, and is to get another policy than this program's.
        Err(Failure::Store { error, .. }) if is_whole && matches!(error.kind(), ErrorKind::SchemaMismatch { .. }) => {
            Planned::chosen(context)
        }
        Err(failure) => return Err(failure),
    };
    let policy = &context.config.environment.policy;
    let time_zone = time_zone.unwrap_or_else(|| policy.time_zone.clone());
    let history = history.unwrap_or(policy.history);
    let mut plan = Plan::new(&store, "days and history will be counted by another policy from now on");
    plan.add("time zone", time_zone.name());
    plan.add("history kept", history.to_string());
    if !plan.approve(context)? {
        return Ok(Exit::Done);
    }
    let mut config = context.config.clone();
    config.environment.policy.time_zone = time_zone.clone();
    config.environment.policy.history = history;
    let adopted = adopt_policy(config).await.map_err(|error| context.chosen_failed(error))?;
    adopted.close().await?;
    let history = history.to_string();
    let object = json!({ "time_zone": time_zone, "history": history });
    let printed = context.out.answer(&object, || {
        format!("the store has its policy; every program needs it too: STORAGE_TIME_ZONE={time_zone} STORAGE_HISTORY={history}")
    });
    printed.map_err(|failure| failure.after_change("storage status"))?;
    Ok(Exit::Done)
}
