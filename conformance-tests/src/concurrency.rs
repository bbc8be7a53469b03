//! Many calls at once, over one handle and several, and calls that are dropped half way.

use std::sync::Arc;

use storage_core::{
    AddBalance, AddReferralBonus, Amount, AuditScope, CommitReserve, IncrementFreeGenerations, JobStatus, ListJobs,
    Money, OperationKey, Receipt, ReleaseReserve, ReserveBalance, SetGiftClaimed, Storage, SubtractBalance,
    UpdateJobStatus, UserId,
};

use crate::calls::{Arguments, Keyed, prepare};
use crate::check::{Check, ensure, ensure_eq};
use crate::context::Context;
use crate::expect::{Expected, closed, refused};
use crate::scenario::list_scenarios;
use crate::steps::{
    approve, balance, clean, count, credit, dropped_after, dump_text, generation, hold, job, ledger, order, pay, rows,
    together,
};

list_scenarios! {
    "concurrency":
    two_hundred_mixed_calls_finish ["R9", "W12"];
    two_hundred_mixed_calls_on_two_handles_finish ["R9", "R4", "W14"] needs [SecondHandle];
    ten_calls_at_once_do_not_hang ["W12", "R9"];
    money_moves_and_is_never_made ["R4", "R3", "W11"];
    twenty_five_debits_over_two_handles_never_overdraw ["R4", "W11", "W14"] needs [SecondHandle];
    neighbours_have_their_own_answers ["R4", "R6", "add_balance", "subtract_balance"];
    approvals_over_two_handles_credit_once ["R4", "W3", "W14"] needs [SecondHandle];
    claims_and_takes_over_two_handles_keep_their_limits ["R4", "W32", "W33"] needs [SecondHandle];
    releases_over_two_handles_refund_once ["R4", "release_reserve"] needs [SecondHandle];
    a_circle_over_two_handles_stays_open ["R4", "W38"] needs [SecondHandle];
    a_snapshot_taken_between_writes_adds_up ["R4", "dump", "M1"];
    a_dropped_call_is_whole_or_not_there ["R3"];
    a_dropped_call_is_settled_by_its_key ["R3", "R6", "R7"];
    a_dropped_call_blocks_nobody ["R3", "R9"];
    a_dropped_read_leaves_nothing ["R1", "R3"];
    a_close_waits_for_what_began_before ["R10", "R5", "close"] needs [Reopen];
    many_users_do_not_disturb_each_other ["R4"];
    reads_beside_writes_see_whole_operations ["R3", "R4"];
}

/// One of many calls, chosen by its number. Only a refusal for lack of money or quota is expected.
async fn mixed(storage: Arc<dyn Storage>, user: UserId, number: usize) -> Check {
    let name = format!("{user}-{number}");
    let answer = match number % 10 {
        0 | 1 => storage.add_balance(AddBalance::new(user, "5".parse()?)).await.map(drop),
        2 => storage.subtract_balance(SubtractBalance::new(user, "1".parse()?)).await.map(drop),
        3 => storage.reserve_balance(ReserveBalance::new(user, name.parse()?, "1".parse()?)).await.map(drop),
        4 => storage.add_generation_job(job(user, &name)?).await.map(drop),
        5 => storage.add_generation_to_history(generation(user, &name, "1")?).await.map(drop),
        6 => {
            pay(&*storage, user, &name, "2").await?;
            approve(&*storage, &name).await?;
            Ok(())
        }
        7 => storage.increment_free_generations(IncrementFreeGenerations::new(user)).await.map(drop),
        8 => storage.get_user(user).await.map(drop),
        _ => storage.list_jobs(ListJobs { user: Some(user), ..ListJobs::default() }).await.map(drop),
    };
    match answer {
        Err(error) if !["InsufficientFunds", "QuotaExhausted"].contains(&error.kind().name()) => Err(error.into()),
        _ => Ok(()),
    }
}

async fn two_hundred_mixed_calls_finish(context: Context) -> Check {
    let storage = context.open().await?;
    let users = [context.alice, context.bob, context.carol];
    let answers = together(200, |number| mixed(storage.clone(), users[number % 3], number)).await?;
    answers.into_iter().collect::<Check>()?;
    clean(&*storage).await
}

async fn two_hundred_mixed_calls_on_two_handles_finish(context: Context) -> Check {
    let handles = [context.open().await?, context.open().await?];
    let users = [context.alice, context.bob, context.carol];
    let answers = together(200, |number| mixed(handles[number % 2].clone(), users[number % 3], number)).await?;
    answers.into_iter().collect::<Check>()?;
    ensure_eq!(dump_text(&*handles[0]).await?, dump_text(&*handles[1]).await?);
    clean(&*handles[1]).await
}

async fn ten_calls_at_once_do_not_hang(context: Context) -> Check {
    let storage = context.open().await?;
    for round in 0..10 {
        let answers = together(10, |number| mixed(storage.clone(), context.alice, round * 10 + number)).await?;
        answers.into_iter().collect::<Check>()?;
    }
    clean(&*storage).await
}

async fn money_moves_and_is_never_made(context: Context) -> Check {
    let storage = context.open().await?;
    let users: Vec<UserId> = (1..=5).map(|number| context.user(number)).collect::<Check<_>>()?;
    for user in &users {
        credit(&*storage, *user, "20").await?;
    }
    // A transfer is a debit and, when it succeeded, a credit: the sum stays.
    let one = "1".parse()?;
    let answers = together(150, |number| {
        let (storage, from, to) = (storage.clone(), users[number % 5], users[(number * 7 + 3) % 5]);
        async move {
            if storage.subtract_balance(SubtractBalance::new(from, one)).await.is_ok() {
                storage.add_balance(AddBalance::new(to, one)).await.map(drop)
            } else {
                Ok(())
            }
        }
    })
    .await?;
    ensure_eq!(count(&answers, Result::is_ok), 150);
    let report = storage.audit(AuditScope::Everyone).await?;
    ensure_eq!((report.balances.to_string().as_str(), report.findings.len()), ("100.00", 0));
    Ok(())
}

async fn twenty_five_debits_over_two_handles_never_overdraw(context: Context) -> Check {
    let handles = [context.open().await?, context.open().await?];
    let (alice, one) = (context.alice, "1".parse()?);
    credit(&*handles[0], alice, "25").await?;
    let answers = together(50, |number| {
        let storage = handles[number % 2].clone();
        async move { storage.subtract_balance(SubtractBalance::new(alice, one)).await }
    })
    .await?;
    ensure_eq!(count(&answers, Result::is_ok), 25);
    for refusal in answers.into_iter().filter(Result::is_err) {
        refused(refusal, &crate::expect::insufficient("0", "1")?)?;
    }
    for storage in &handles {
        ensure_eq!(balance(&**storage, alice).await?, "0.00");
        clean(&**storage).await?;
    }
    Ok(())
}

/// Plain calls, repetitions, and calls that are refused for three reasons, all at once on a few users: a backend that does
/// several of them together must tell each caller what its own call came to.
async fn neighbours_have_their_own_answers(context: Context) -> Check {
    const KINDS: usize = 8;
    let storage = context.open().await?;
    let [alice, bob, carol] = [context.alice, context.bob, context.carol];
    let poor = context.user(77)?;
    credit(&*storage, bob, "5").await?;
    credit(&*storage, carol, "999999999999.999999").await?;
    let used: OperationKey = "used".parse()?;
    let first = storage.add_balance(AddBalance::new(alice, "1".parse()?).with_key(used.clone())).await?;
    let [one, two, three, seven]: [Amount; 4] = ["1".parse()?, "2".parse()?, "3".parse()?, "7".parse()?];
    let twice: OperationKey = "twice".parse()?;
    let newcomers = (0..20).map(|number| context.numbered(100, number)).collect::<Check<Vec<_>>>()?;
    let answers = together(20 * KINDS, |number| {
        let (storage, used, twice, newcomer) =
            (storage.clone(), used.clone(), twice.clone(), newcomers[number / KINDS]);
        async move {
            match number % KINDS {
                0 => storage.add_balance(AddBalance::new(alice, two)).await,
                1 => storage.add_balance(AddBalance::new(alice, three).with_key(twice)).await,
                2 => storage.add_balance(AddBalance::new(alice, seven).with_key(used)).await,
                3 => storage.add_balance(AddBalance::new(alice, one).with_key(used)).await,
                4 => storage.subtract_balance(SubtractBalance::new(bob, one)).await,
                5 => storage.add_balance(AddBalance::new(carol, one)).await,
                6 => storage.subtract_balance(SubtractBalance::new(poor, two)).await,
                _ => storage.add_balance(AddBalance::new(newcomer, seven)).await,
            }
        }
    })
    .await?;
    let mut kinds = vec![Vec::new(); KINDS];
    answers.into_iter().enumerate().for_each(|(number, answer)| kinds[number % KINDS].push(answer));
    // Twenty credits of 2, and one of 3 however often it is repeated, beside the 1 of before.
    ensure_eq!(count(&kinds[0], |answer| answer.as_ref().is_ok_and(|receipt| !receipt.replayed)), 20);
    ensure_eq!(count(&kinds[1], |answer| answer.as_ref().is_ok_and(|receipt| !receipt.replayed)), 1);
    let of_twice = kinds[1].iter().flatten().map(|receipt| (receipt.operation, receipt.balance_after));
    ensure_eq!(of_twice.clone().count(), 20);
    ensure_eq!(of_twice.collect::<std::collections::BTreeSet<_>>().len(), 1);
    for refusal in kinds[2].drain(..) {
        refused(refusal, &crate::expect::key_conflict("used"))?;
    }
    for repeated in kinds[3].drain(..) {
        ensure_eq!(repeated?, Receipt { replayed: true, ..first });
    }
    ensure_eq!(count(&kinds[4], Result::is_ok), 5);
    for refusal in kinds[4].drain(..).filter(Result::is_err) {
        refused(refusal, &crate::expect::insufficient("0", "1")?)?;
    }
    for refusal in kinds[5].drain(..) {
        refused(refusal, &Expected::Kind("InvalidInput"))?;
    }
    for refusal in kinds[6].drain(..) {
        refused(refusal, &crate::expect::insufficient("0", "2")?)?;
    }
    ensure_eq!(
        count(&kinds[7], |answer| answer.as_ref().is_ok_and(|receipt| receipt.balance_after == seven.money())),
        20
    );
    ensure_eq!(balance(&*storage, alice).await?, "44.00");
    ensure_eq!(rows(&*storage, alice).await?.len(), 22);
    ensure_eq!(rows(&*storage, bob).await?.len(), 6);
    ensure_eq!(rows(&*storage, carol).await?.len(), 1);
    clean(&*storage).await
}

async fn approvals_over_two_handles_credit_once(context: Context) -> Check {
    let handles = [context.open().await?, context.open().await?];
    pay(&*handles[0], context.alice, "p-1", "100").await?;
    let answers = together(50, |number| {
        let storage = handles[number % 2].clone();
        async move { approve(&*storage, "p-1").await }
    })
    .await?;
    ensure_eq!(count(&answers, |answer| answer.as_ref().is_ok_and(|stored| !stored.replayed)), 1);
    ensure_eq!(count(&answers, Result::is_ok), 50);
    ensure_eq!(ledger(&*handles[1], context.alice).await?, ["payment +100.00 +0.00 = 100.00 0.00 (p-1)"]);
    clean(&*handles[1]).await
}

async fn claims_and_takes_over_two_handles_keep_their_limits(context: Context) -> Check {
    let handles = [context.open().await?, context.open().await?];
    let alice = context.alice;
    let answers = together(50, |number| {
        let storage = handles[number % 2].clone();
        async move {
            let claim = storage.set_gift_claimed(SetGiftClaimed::new(alice)).await?;
            let take = storage.increment_free_generations(IncrementFreeGenerations::new(alice)).await;
            storage_core::Result::Ok((claim.first, take.is_ok()))
        }
    })
    .await?;
    let answers = answers.into_iter().collect::<storage_core::Result<Vec<_>>>()?;
    ensure_eq!((count(&answers, |answer| answer.0), count(&answers, |answer| answer.1)), (1, 5));
    Ok(())
}

async fn releases_over_two_handles_refund_once(context: Context) -> Check {
    let handles = [context.open().await?, context.open().await?];
    let alice = context.alice;
    credit(&*handles[0], alice, "10").await?;
    for round in 0..10 {
        let name = format!("job-{round}");
        hold(&*handles[round % 2], alice, &name, "4").await?;
        let release = ReleaseReserve::new(alice, name.parse()?);
        let answers = together(4, |number| {
            let (storage, release) = (handles[number % 2].clone(), release.clone());
            async move { storage.release_reserve(release).await }
        })
        .await?;
        ensure_eq!(count(&answers, |answer| answer.as_ref().is_ok_and(|receipt| !receipt.replayed)), 1);
        ensure_eq!(count(&answers, Result::is_ok), 4);
        ensure_eq!(balance(&*handles[0], alice).await?, "10.00");
    }
    clean(&*handles[1]).await
}

async fn a_circle_over_two_handles_stays_open(context: Context) -> Check {
    let handles = [context.open().await?, context.open().await?];
    for round in 1..=20 {
        let (one, other) = (context.user(round * 2)?, context.user(round * 2 + 1)?);
        let answers = together(2, |number| {
            let storage = handles[number].clone();
            let (user, referrer) = if number == 0 { (one, other) } else { (other, one) };
            async move { storage.set_referrer(storage_core::SetReferrer::new(user, referrer)).await }
        })
        .await?;
        ensure_eq!(count(&answers, Result::is_ok), 1, "round {round}");
        let both = (handles[0].get_referrer(one).await?, handles[1].get_referrer(other).await?);
        ensure!(both.0.is_some() != both.1.is_some(), "round {round}: {both:?}");
    }
    Ok(())
}

async fn a_snapshot_taken_between_writes_adds_up(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "1000").await?;
    let answers = together(40, |number| {
        let storage = storage.clone();
        let user = context.alice;
        async move {
            if number % 4 == 0 {
                let summary = storage.dump(&mut Vec::new()).await?;
                ensure_eq!(summary.balances, summary.ledger, "balances are the sum of the ledger's changes");
            } else {
                hold(&*storage, user, &format!("job-{number}"), "1").await?;
            }
            Ok(())
        }
    })
    .await?;
    answers.into_iter().collect::<Check>()?;
    clean(&*storage).await
}

/// A call with a key of its own, dropped after some polls; then the same call again, which must settle it.
async fn a_dropped_call_is_settled_by_its_key(context: Context) -> Check {
    let storage = context.open().await?;
    for polls in 0..6 {
        for keyed in Keyed::ALL {
            let user = context.user(10_000 + 100 * i64::try_from(polls).unwrap_or(0) + keyed as i64)?;
            prepare(&*storage, user).await?;
            let before = storage.get_balance(user).await?;
            let key: OperationKey = "k".parse()?;
            let call = keyed.call(&*storage, user, Some(key.clone()), Arguments::Usual);
            let told = dropped_after(polls, call).await.transpose()?;
            let first = keyed.call(&*storage, user, Some(key.clone()), Arguments::Usual).await?;
            if let Some(told) = told {
                ensure_eq!(first, crate::calls::Told { replayed: true, ..told }, "{keyed:?} after {polls} polls");
            }
            let again = keyed.call(&*storage, user, Some(key), Arguments::Usual).await?;
            ensure_eq!((again.replayed, again.answer), (true, first.answer), "{keyed:?} after {polls} polls");
            let expected = match keyed {
                Keyed::SetBalance => Money::from_units(77)?,
                Keyed::Credit => before.checked_add("3".parse()?)?,
                Keyed::Debit => Money::from_micros(before.micros() - 3_000_000)?,
                Keyed::Hold => Money::from_micros(before.micros() - 2_000_000)?,
                Keyed::Release => before.checked_add("5".parse()?)?,
                Keyed::Approve => before.checked_add("10".parse()?)?,
                Keyed::Refund => Money::from_micros(before.micros() - 10_000_000)?,
                _ => before,
            };
            ensure_eq!(storage.get_balance(user).await?, expected, "{keyed:?} after {polls} polls");
        }
    }
    clean(&*storage).await
}

async fn a_dropped_call_is_whole_or_not_there(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    credit(&*storage, alice, "1000").await?;
    // Some calls finish and some are dropped at every possible point, many at once.
    let one = "1".parse()?;
    let answers = together(120, |number| {
        let storage = storage.clone();
        async move {
            let (polls, name) = (number / 3 % 5, format!("job-{number}").parse()?);
            match number % 3 {
                0 => drop(dropped_after(polls, storage.add_balance(AddBalance::new(alice, one))).await),
                1 => {
                    let reserve = ReserveBalance::new(alice, name, one);
                    drop(dropped_after(polls, storage.reserve_balance(reserve)).await);
                }
                _ => {
                    storage.reserve_balance(ReserveBalance::new(alice, name, one)).await?;
                    let commit = CommitReserve::new(alice, format!("job-{number}").parse()?);
                    drop(dropped_after(polls, storage.commit_reserve(commit)).await);
                }
            }
            storage_core::Result::Ok(())
        }
    })
    .await?;
    answers.into_iter().collect::<storage_core::Result<()>>()?;
    clean(&*storage).await?;
    // A dropped call may still be on its way: a write behind it has seen its end.
    credit(&*storage, alice, "1").await?;
    let rows = rows(&*storage, alice).await?;
    let credits = rows.iter().filter(|row| row.kind == storage_core::OperationKind::Credit).count() as u64;
    let (holds, commits) = (
        rows.iter().filter(|row| row.kind == storage_core::OperationKind::Hold).count() as u64,
        rows.iter().filter(|row| row.kind == storage_core::OperationKind::Commit).count() as u64,
    );
    ensure_eq!(storage.get_balance(alice).await?, Money::from_units(999 + credits - holds)?);
    let report = storage.audit(AuditScope::User(alice)).await?;
    ensure_eq!(report.held.to_string(), Money::from_units(holds - commits)?.to_string());
    clean(&*storage).await
}

async fn a_dropped_call_blocks_nobody(context: Context) -> Check {
    let storage = context.open().await?;
    for polls in 0..20 {
        let call = storage.add_balance(AddBalance::new(context.alice, "1".parse()?));
        drop(dropped_after(polls % 4, call).await);
        credit(&*storage, context.bob, "1").await?;
        let (storage, user) = (storage.clone(), context.alice);
        let answers = together(5, |_| {
            let storage = storage.clone();
            async move { storage.get_balance(user).await }
        })
        .await?;
        ensure_eq!(count(&answers, Result::is_ok), 5);
    }
    ensure_eq!(balance(&*storage, context.bob).await?, "20.00");
    clean(&*storage).await
}

async fn a_dropped_read_leaves_nothing(context: Context) -> Check {
    let storage = context.open().await?;
    prepare(&*storage, context.alice).await?;
    let before = dump_text(&*storage).await?;
    for polls in 0..4 {
        drop(dropped_after(polls, storage.audit(AuditScope::Everyone)).await);
        drop(dropped_after(polls, storage.list_jobs(ListJobs::default())).await);
        drop(dropped_after(polls, storage.dump(&mut Vec::new())).await);
        drop(dropped_after(polls, storage.ping()).await);
    }
    ensure_eq!(dump_text(&*storage).await?, before);
    Ok(())
}

async fn a_close_waits_for_what_began_before(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    let answers = together(51, |number| {
        let storage = storage.clone();
        async move {
            if number == 25 {
                return storage.close().await.map(|()| None);
            }
            let bonus = AddReferralBonus::new(alice);
            storage.add_referral_bonus(bonus).await.map(Some)
        }
    })
    .await?;
    let mut granted = 0;
    for answer in answers {
        match answer {
            Ok(receipt) => granted += u64::from(receipt.is_some()),
            refusal => refused(refusal, &closed())?,
        }
    }
    drop(storage);
    let storage = context.open().await?;
    let left = storage.get_user_free_generations_remaining(alice).await?;
    ensure_eq!(left, 5 + 5 * granted, "each acknowledged bonus is there, and no refused one");
    Ok(())
}

async fn many_users_do_not_disturb_each_other(context: Context) -> Check {
    let storage = context.open().await?;
    let answers = together(100, |number| {
        let (storage, user) = (storage.clone(), context.numbered(1, number % 20));
        async move {
            let user = user?;
            let id = format!("{user}-{number}");
            credit(&*storage, user, "1").await?;
            order(&*storage, user, &id).await?;
            storage.update_job_status(UpdateJobStatus::new(id.parse()?, JobStatus::Completed)).await?;
            Check::Ok(())
        }
    })
    .await?;
    answers.into_iter().collect::<Check>()?;
    for number in 1..=20 {
        let user = context.user(number)?;
        ensure_eq!(balance(&*storage, user).await?, "5.00");
        let done = ListJobs { user: Some(user), statuses: vec![JobStatus::Completed], ..ListJobs::default() };
        ensure_eq!(storage.list_jobs(done).await?.items.len(), 5);
    }
    clean(&*storage).await
}

async fn reads_beside_writes_see_whole_operations(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "100").await?;
    let answers = together(60, |number| {
        let (storage, user) = (storage.clone(), context.alice);
        async move {
            if number % 3 == 0 {
                let report = storage.audit(AuditScope::User(user)).await?;
                let sum = report.balances.micros() + report.held.micros();
                ensure_eq!(sum, 100_000_000, "held and free money together");
                ensure!(report.is_clean(), "{:?}", report.findings);
            } else {
                let name = format!("job-{number}");
                hold(&*storage, user, &name, "1").await?;
                storage.release_reserve(ReleaseReserve::new(user, name.parse()?)).await?;
            }
            Check::Ok(())
        }
    })
    .await?;
    answers.into_iter().collect::<Check>()?;
    ensure_eq!(balance(&*storage, context.alice).await?, "100.00");
    Ok(())
}
