//! Holds with an expiry, and the sweep that gives them back.

use storage_core::{HoldStatus, PageSize, ReserveBalance, Storage, UserId};

use super::{commit, find, release};
use crate::check::{Check, ensure_eq, present};
use crate::context::Context;
use crate::expect::{refused_without_trace, transition};
use crate::scenario::list_scenarios;
use crate::steps::{balance, clean, credit, dump_text, hold, ledger, together};

list_scenarios! {
    "reserves":
    an_expired_hold_is_released_at_its_moment_and_not_before ["release_expired_reserves"];
    an_expired_hold_can_be_committed_until_it_is_swept ["release_expired_reserves", "commit_reserve"];
    a_sweep_takes_the_longest_expired_first_and_keeps_its_limit ["release_expired_reserves"];
    a_sweep_leaves_other_holds_alone ["release_expired_reserves"];
    four_sweepers_release_each_hold_once ["release_expired_reserves", "R4"];
    a_swept_hold_answers_like_a_released_one ["release_expired_reserves"];
}

async fn expiring(context: &Context, storage: &dyn Storage, user: UserId, name: &str, in_secs: i64) -> Check {
    let at = context.now().plus_micros(in_secs * 1_000_000);
    storage.reserve_balance(ReserveBalance::new(user, name.parse()?, "1".parse()?).expiring_at(at)).await?;
    Ok(())
}

async fn sweep(storage: &dyn Storage, limit: u32) -> Check<Vec<String>> {
    let released = storage.release_expired_reserves(PageSize::new(limit)?).await?;
    Ok(released.iter().map(|hold| hold.name.to_string()).collect())
}

async fn an_expired_hold_is_released_at_its_moment_and_not_before(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "10").await?;
    expiring(&context, &*storage, context.alice, "job-1", 60).await?;
    context.clock.advance_micros(60_000_000 - 1);
    ensure_eq!(sweep(&*storage, 10).await?, Vec::<String>::new());
    context.clock.advance_micros(1);
    let released = storage.release_expired_reserves(PageSize::DEFAULT).await?;
    ensure_eq!(released.len(), 1);
    ensure_eq!(released[0], find(&*storage, context.alice, "job-1").await?, "answers the hold as it stands");
    ensure_eq!((released[0].status, released[0].updated_at), (HoldStatus::Released, context.now()));
    ensure_eq!(ledger(&*storage, context.alice).await?[2], "release +1.00 -1.00 = 10.00 0.00 (job-1)");
    ensure_eq!(sweep(&*storage, 10).await?, Vec::<String>::new(), "once");
    clean(&*storage).await
}

async fn an_expired_hold_can_be_committed_until_it_is_swept(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "10").await?;
    expiring(&context, &*storage, context.alice, "job-1", 60).await?;
    context.clock.advance_secs(3600);
    ensure_eq!(find(&*storage, context.alice, "job-1").await?.status, HoldStatus::Open);
    storage.commit_reserve(commit(context.alice, "job-1", None)?).await?;
    ensure_eq!(sweep(&*storage, 10).await?, Vec::<String>::new());
    ensure_eq!(balance(&*storage, context.alice).await?, "9.00");
    clean(&*storage).await
}

async fn a_sweep_takes_the_longest_expired_first_and_keeps_its_limit(context: Context) -> Check {
    let storage = context.open().await?;
    for user in [context.alice, context.bob] {
        credit(&*storage, user, "10").await?;
    }
    expiring(&context, &*storage, context.alice, "third", 30).await?;
    expiring(&context, &*storage, context.bob, "first", 10).await?;
    expiring(&context, &*storage, context.alice, "fourth", 40).await?;
    expiring(&context, &*storage, context.bob, "second", 20).await?;
    context.clock.advance_secs(3600);
    ensure_eq!(sweep(&*storage, 1).await?, ["first"]);
    ensure_eq!(sweep(&*storage, 2).await?, ["second", "third"]);
    ensure_eq!(sweep(&*storage, 2).await?, ["fourth"]);
    clean(&*storage).await
}

async fn a_sweep_leaves_other_holds_alone(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "10").await?;
    hold(&*storage, context.alice, "forever", "1").await?;
    expiring(&context, &*storage, context.alice, "later", 7200).await?;
    context.clock.advance_secs(3600);
    let before = dump_text(&*storage).await?;
    ensure_eq!(sweep(&*storage, 10).await?, Vec::<String>::new());
    ensure_eq!(dump_text(&*storage).await?, before);
    Ok(())
}

async fn four_sweepers_release_each_hold_once(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "100").await?;
    for number in 0..40 {
        expiring(&context, &*storage, context.alice, &format!("job-{number:02}"), 1 + number).await?;
    }
    context.clock.advance_secs(3600);
    let answers = together(4, |_| {
        let storage = storage.clone();
        async move { sweep(&*storage, 100).await }
    })
    .await?;
    let mut names: Vec<String> = Vec::new();
    for answer in answers {
        names.extend(answer?);
    }
    names.sort();
    ensure_eq!(names, (0..40).map(|number| format!("job-{number:02}")).collect::<Vec<_>>());
    ensure_eq!(balance(&*storage, context.alice).await?, "100.00");
    clean(&*storage).await
}

async fn a_swept_hold_answers_like_a_released_one(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "10").await?;
    expiring(&context, &*storage, context.alice, "job-1", 60).await?;
    context.clock.advance_secs(60);
    sweep(&*storage, 10).await?;
    let ended = present(find(&*storage, context.alice, "job-1").await?.ended, "the receipt")?;
    let again = storage.release_reserve(release(context.alice, "job-1")?).await?;
    ensure_eq!(again, storage_core::Receipt { replayed: true, ..ended });
    let refusal = transition("hold", "job-1", "released", "committed");
    refused_without_trace!(storage, storage.commit_reserve(commit(context.alice, "job-1", None)?), refusal);
    Ok(())
}
