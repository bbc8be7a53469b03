//! Holds: money set aside until it is spent or given back.

pub(crate) mod expiry;

use std::sync::Arc;

use storage_core::{
    CommitReserve, Hold, HoldStatus, ListReserves, Money, ReleaseReserve, ReserveBalance, Storage, UserId,
};

use crate::check::{Check, ensure_eq, present};
use crate::context::Context;
use crate::expect::{insufficient, not_found, refused, refused_without_trace, transition};
use crate::scenario::list_scenarios;
use crate::steps::{balance, clean, count, credit, dump_text, hold, ledger, rows, together};

list_scenarios! {
    "reserves":
    a_hold_moves_money_aside ["reserve_balance", "find_reserve", "list_operations"];
    a_hold_of_too_much_is_short_and_leaves_nothing ["reserve_balance", "R8"];
    a_hold_of_an_unknown_user_is_short_and_creates_nobody ["reserve_balance", "R2", "W18"];
    the_same_hold_again_is_a_replay ["reserve_balance", "R6"];
    a_used_name_with_other_arguments_is_refused ["reserve_balance"];
    a_name_cannot_be_used_again_after_its_end ["reserve_balance"];
    names_belong_to_one_user ["reserve_balance", "find_reserve"];
    a_commit_spends_the_hold ["commit_reserve"];
    a_commit_of_a_part_gives_the_rest_back ["commit_reserve", "R3"];
    a_commit_of_more_than_is_held_is_short ["commit_reserve"];
    a_repeated_commit_is_a_replay_of_the_first_receipt ["commit_reserve", "R6"];
    a_commit_of_another_amount_is_no_replay ["commit_reserve"];
    a_release_gives_the_hold_back ["release_reserve"];
    a_repeated_release_is_a_replay_of_the_first_receipt ["release_reserve", "R6"];
    commit_after_release_and_the_reverse_are_refused ["commit_reserve", "release_reserve"];
    ending_an_unknown_hold_is_not_found ["commit_reserve", "release_reserve"];
    four_releases_at_once_refund_once ["release_reserve", "R4"];
    commit_and_release_at_once_end_the_hold_one_way ["commit_reserve", "release_reserve", "R4"];
    fifty_holds_at_once_never_overdraw ["reserve_balance", "W11", "R4"];
    holds_are_listed_by_user_status_and_age ["list_reserves"];
    an_unknown_hold_is_none ["find_reserve", "R1"];
}

async fn find(storage: &dyn Storage, user: UserId, name: &str) -> Check<Arc<Hold>> {
    present(storage.find_reserve(user, &name.parse()?).await?, "the hold")
}

fn commit(user: UserId, name: &str, amount: Option<&str>) -> Check<CommitReserve> {
    let amount = amount.map(str::parse).transpose()?;
    Ok(CommitReserve { amount, ..CommitReserve::new(user, name.parse()?) })
}

fn release(user: UserId, name: &str) -> Check<ReleaseReserve> {
    Ok(ReleaseReserve::new(user, name.parse()?))
}

async fn a_hold_moves_money_aside(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    credit(&*storage, alice, "10").await?;
    context.clock.advance_secs(5);
    let receipt = hold(&*storage, alice, "job-1", "4").await?;
    ensure_eq!((receipt.balance_after.to_string().as_str(), receipt.replayed), ("6.00", false));
    ensure_eq!(ledger(&*storage, alice).await?[1], "hold -4.00 +4.00 = 6.00 4.00 (job-1)");
    let expected = Hold {
        user: alice,
        name: "job-1".parse()?,
        amount: "4".parse()?,
        status: HoldStatus::Open,
        committed: Money::ZERO,
        expires_at: None,
        created_at: context.now(),
        updated_at: context.now(),
        opened: receipt,
        ended: None,
    };
    ensure_eq!(*find(&*storage, alice, "job-1").await?, expected);
    clean(&*storage).await
}

async fn a_hold_of_too_much_is_short_and_leaves_nothing(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "10").await?;
    hold(&*storage, context.alice, "job-1", "4").await?;
    let more = ReserveBalance::new(context.alice, "job-2".parse()?, "6.000001".parse()?);
    refused_without_trace!(storage, storage.reserve_balance(more), insufficient("6", "6.000001")?);
    ensure_eq!(storage.find_reserve(context.alice, &"job-2".parse()?).await?, None);
    hold(&*storage, context.alice, "job-2", "6").await?;
    Ok(())
}

async fn a_hold_of_an_unknown_user_is_short_and_creates_nobody(context: Context) -> Check {
    let storage = context.open().await?;
    let reserve = ReserveBalance::new(context.alice, "job-1".parse()?, "1".parse()?);
    refused_without_trace!(storage, storage.reserve_balance(reserve), insufficient("0", "1")?);
    ensure_eq!(storage.find_user(context.alice).await?, None);
    Ok(())
}

async fn the_same_hold_again_is_a_replay(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "10").await?;
    let first = hold(&*storage, context.alice, "job-1", "4").await?;
    credit(&*storage, context.alice, "100").await?;
    let before = dump_text(&*storage).await?;
    let again = hold(&*storage, context.alice, "job-1", "4").await?;
    ensure_eq!(again, storage_core::Receipt { replayed: true, ..first }, "the first receipt, not today's balance");
    ensure_eq!(dump_text(&*storage).await?, before);
    Ok(())
}

async fn a_used_name_with_other_arguments_is_refused(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    credit(&*storage, alice, "10").await?;
    hold(&*storage, alice, "job-1", "4").await?;
    let other_amount = ReserveBalance::new(alice, "job-1".parse()?, "3".parse()?);
    let other_expiry = ReserveBalance::new(alice, "job-1".parse()?, "4".parse()?).expiring_at(context.now());
    for other in [other_amount, other_expiry] {
        let refusal = transition("hold", "job-1", "open", "open");
        refused_without_trace!(storage, storage.reserve_balance(other), refusal);
    }
    Ok(())
}

async fn a_name_cannot_be_used_again_after_its_end(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    credit(&*storage, alice, "10").await?;
    hold(&*storage, alice, "job-1", "4").await?;
    hold(&*storage, alice, "job-2", "4").await?;
    storage.commit_reserve(commit(alice, "job-1", None)?).await?;
    storage.release_reserve(release(alice, "job-2")?).await?;
    for (name, state) in [("job-1", "committed"), ("job-2", "released")] {
        let again = ReserveBalance::new(alice, name.parse()?, "4".parse()?);
        refused_without_trace!(storage, storage.reserve_balance(again), transition("hold", name, state, "open"));
    }
    Ok(())
}

async fn names_belong_to_one_user(context: Context) -> Check {
    let storage = context.open().await?;
    for (user, amount) in [(context.alice, "4"), (context.bob, "5")] {
        credit(&*storage, user, "10").await?;
        hold(&*storage, user, "job-1", amount).await?;
    }
    ensure_eq!(find(&*storage, context.alice, "job-1").await?.amount, "4".parse()?);
    ensure_eq!(find(&*storage, context.bob, "job-1").await?.amount, "5".parse()?);
    storage.release_reserve(release(context.alice, "job-1")?).await?;
    ensure_eq!(find(&*storage, context.bob, "job-1").await?.status, HoldStatus::Open);
    clean(&*storage).await
}

async fn a_commit_spends_the_hold(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    credit(&*storage, alice, "10").await?;
    hold(&*storage, alice, "job-1", "4").await?;
    context.clock.advance_secs(5);
    let receipt = storage.commit_reserve(commit(alice, "job-1", None)?).await?;
    ensure_eq!((receipt.balance_after.to_string().as_str(), receipt.replayed), ("6.00", false));
    let ended = find(&*storage, alice, "job-1").await?;
    ensure_eq!((ended.status, ended.committed), (HoldStatus::Committed, "4".parse()?));
    ensure_eq!((ended.updated_at, ended.ended), (context.now(), Some(receipt)));
    ensure_eq!(
        ledger(&*storage, alice).await?[1..],
        ["hold -4.00 +4.00 = 6.00 4.00 (job-1)", "commit +0.00 -4.00 = 6.00 0.00 (job-1)"]
    );
    clean(&*storage).await
}

async fn a_commit_of_a_part_gives_the_rest_back(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    credit(&*storage, alice, "10").await?;
    hold(&*storage, alice, "job-1", "4").await?;
    let receipt = storage.commit_reserve(commit(alice, "job-1", Some("1.5"))?).await?;
    ensure_eq!(receipt.balance_after.to_string(), "8.50");
    let ended = find(&*storage, alice, "job-1").await?;
    ensure_eq!((ended.status, ended.amount.to_string().as_str()), (HoldStatus::Committed, "4.00"));
    ensure_eq!(ended.committed.to_string(), "1.50");
    ensure_eq!(
        ledger(&*storage, alice).await?[2..],
        ["commit +0.00 -1.50 = 6.00 2.50 (job-1)", "release +2.50 -2.50 = 8.50 0.00 (job-1)"]
    );
    let rows = rows(&*storage, alice).await?;
    ensure_eq!((rows[0].operation, rows[1].operation), (receipt.operation, receipt.operation), "one operation");
    clean(&*storage).await
}

async fn a_commit_of_more_than_is_held_is_short(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "10").await?;
    hold(&*storage, context.alice, "job-1", "4").await?;
    let more = commit(context.alice, "job-1", Some("4.000001"))?;
    refused_without_trace!(storage, storage.commit_reserve(more), insufficient("4", "4.000001")?);
    Ok(())
}

async fn a_repeated_commit_is_a_replay_of_the_first_receipt(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    credit(&*storage, alice, "10").await?;
    hold(&*storage, alice, "job-1", "4").await?;
    let first = storage.commit_reserve(commit(alice, "job-1", None)?).await?;
    credit(&*storage, alice, "100").await?;
    let before = dump_text(&*storage).await?;
    for amount in [None, Some("4")] {
        let again = storage.commit_reserve(commit(alice, "job-1", amount)?).await?;
        ensure_eq!(again, storage_core::Receipt { replayed: true, ..first });
    }
    ensure_eq!(dump_text(&*storage).await?, before);
    Ok(())
}

async fn a_commit_of_another_amount_is_no_replay(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "10").await?;
    hold(&*storage, context.alice, "job-1", "4").await?;
    storage.commit_reserve(commit(context.alice, "job-1", Some("1"))?).await?;
    for amount in [None, Some("2")] {
        let other = commit(context.alice, "job-1", amount)?;
        let refusal = transition("hold", "job-1", "committed", "committed");
        refused_without_trace!(storage, storage.commit_reserve(other), refusal);
    }
    Ok(())
}

async fn a_release_gives_the_hold_back(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    credit(&*storage, alice, "10").await?;
    hold(&*storage, alice, "job-1", "4").await?;
    let receipt = storage.release_reserve(release(alice, "job-1")?).await?;
    ensure_eq!((receipt.balance_after.to_string().as_str(), receipt.replayed), ("10.00", false));
    let ended = find(&*storage, alice, "job-1").await?;
    ensure_eq!((ended.status, ended.committed, ended.ended), (HoldStatus::Released, Money::ZERO, Some(receipt)));
    ensure_eq!(ledger(&*storage, alice).await?[2], "release +4.00 -4.00 = 10.00 0.00 (job-1)");
    clean(&*storage).await
}

async fn a_repeated_release_is_a_replay_of_the_first_receipt(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "10").await?;
    hold(&*storage, context.alice, "job-1", "4").await?;
    let first = storage.release_reserve(release(context.alice, "job-1")?).await?;
    credit(&*storage, context.alice, "100").await?;
    let before = dump_text(&*storage).await?;
    let again = storage.release_reserve(release(context.alice, "job-1")?).await?;
    ensure_eq!(again, storage_core::Receipt { replayed: true, ..first });
    ensure_eq!(dump_text(&*storage).await?, before);
    Ok(())
}

async fn commit_after_release_and_the_reverse_are_refused(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    credit(&*storage, alice, "10").await?;
    hold(&*storage, alice, "spent", "4").await?;
    hold(&*storage, alice, "back", "4").await?;
    storage.commit_reserve(commit(alice, "spent", None)?).await?;
    storage.release_reserve(release(alice, "back")?).await?;
    let refusal = transition("hold", "spent", "committed", "released");
    refused_without_trace!(storage, storage.release_reserve(release(alice, "spent")?), refusal);
    let refusal = transition("hold", "back", "released", "committed");
    refused_without_trace!(storage, storage.commit_reserve(commit(alice, "back", None)?), refusal);
    Ok(())
}

async fn ending_an_unknown_hold_is_not_found(context: Context) -> Check {
    let storage = context.open().await?;
    let unknown = not_found("hold", "job-1");
    refused_without_trace!(storage, storage.commit_reserve(commit(context.alice, "job-1", None)?), unknown);
    refused_without_trace!(storage, storage.release_reserve(release(context.alice, "job-1")?), unknown);
    credit(&*storage, context.bob, "10").await?;
    hold(&*storage, context.bob, "job-1", "4").await?;
    refused_without_trace!(storage, storage.release_reserve(release(context.alice, "job-1")?), unknown);
    Ok(())
}

async fn four_releases_at_once_refund_once(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    credit(&*storage, alice, "10").await?;
    for round in 0..10 {
        let name = format!("job-{round}");
        hold(&*storage, alice, &name, "4").await?;
        let release = release(alice, &name)?;
        let answers = together(4, |_| {
            let (storage, release) = (storage.clone(), release.clone());
            async move { storage.release_reserve(release).await }
        })
        .await?;
        ensure_eq!(count(&answers, |answer| answer.as_ref().is_ok_and(|receipt| !receipt.replayed)), 1);
        ensure_eq!(count(&answers, |answer| answer.as_ref().is_ok_and(|receipt| receipt.replayed)), 3);
        ensure_eq!(balance(&*storage, alice).await?, "10.00");
    }
    clean(&*storage).await
}

async fn commit_and_release_at_once_end_the_hold_one_way(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    credit(&*storage, alice, "100").await?;
    let mut spent = 0;
    for round in 0..20 {
        let name = format!("job-{round}");
        hold(&*storage, alice, &name, "1").await?;
        let (commit, release) = (commit(alice, &name, None)?, release(alice, &name)?);
        let mut answers = together(2, |number| {
            let (storage, commit, release) = (storage.clone(), commit.clone(), release.clone());
            async move {
                if number == 0 { storage.commit_reserve(commit).await } else { storage.release_reserve(release).await }
            }
        })
        .await?;
        ensure_eq!(count(&answers, Result::is_ok), 1, "{answers:?}");
        let committed = answers[0].is_ok();
        let late = answers.remove(usize::from(committed));
        let (from, to) = if committed { ("committed", "released") } else { ("released", "committed") };
        refused(late, &transition("hold", &name, from, to))?;
        spent += u64::from(committed);
    }
    ensure_eq!(storage.get_balance(alice).await?, Money::from_units(100 - spent)?);
    clean(&*storage).await
}

async fn fifty_holds_at_once_never_overdraw(context: Context) -> Check {
    let storage = context.open().await?;
    let (alice, one) = (context.alice, "1".parse()?);
    credit(&*storage, alice, "25").await?;
    let answers = together(50, |number| {
        let storage = storage.clone();
        async move { storage.reserve_balance(ReserveBalance::new(alice, format!("job-{number}").parse()?, one)).await }
    })
    .await?;
    ensure_eq!(count(&answers, Result::is_ok), 25);
    for refusal in answers.into_iter().filter(Result::is_err) {
        refused(refusal, &insufficient("0", "1")?)?;
    }
    ensure_eq!(storage.list_reserves(ListReserves::default()).await?.items.len(), 25);
    clean(&*storage).await
}

async fn holds_are_listed_by_user_status_and_age(context: Context) -> Check {
    let storage = context.open().await?;
    for user in [context.alice, context.bob] {
        credit(&*storage, user, "10").await?;
        hold(&*storage, user, "old", "1").await?;
    }
    context.clock.advance_secs(10);
    let middle = context.now();
    hold(&*storage, context.alice, "new", "1").await?;
    storage.release_reserve(release(context.alice, "old")?).await?;
    let list = async |list: ListReserves| -> Check<Vec<String>> {
        let items = storage.list_reserves(list).await?.items;
        Ok(items.iter().map(|hold| format!("{} {}", hold.user, hold.name)).collect())
    };
    let (alice, any) = (Some(context.alice), ListReserves::default());
    ensure_eq!(list(any.clone()).await?, ["1001 new", "1002 old", "1001 old"]);
    ensure_eq!(list(ListReserves { user: alice, ..any.clone() }).await?, ["1001 new", "1001 old"]);
    let open = Some(HoldStatus::Open);
    ensure_eq!(list(ListReserves { status: open, ..any.clone() }).await?, ["1001 new", "1002 old"]);
    ensure_eq!(list(ListReserves { user: alice, status: open, ..any.clone() }).await?, ["1001 new"]);
    let older = ListReserves { older_than: Some(middle), ..any.clone() };
    ensure_eq!(list(older).await?, ["1002 old", "1001 old"], "a hold made at that very time is not older");
    let committed = ListReserves { status: Some(HoldStatus::Committed), ..any };
    ensure_eq!(list(committed).await?, Vec::<String>::new());
    Ok(())
}

async fn an_unknown_hold_is_none(context: Context) -> Check {
    let storage = context.open().await?;
    ensure_eq!(storage.find_reserve(context.alice, &"job-1".parse()?).await?, None);
    ensure_eq!(storage.find_user(context.alice).await?, None, "a read created a user");
    Ok(())
}
