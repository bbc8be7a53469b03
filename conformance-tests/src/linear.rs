//! Many tasks at once, over one handle and several, some of whose calls are dropped half way: what they saw must be
//! what one order of whole calls would have shown (R4), and no money may appear or vanish.
//!
//! The search for that order is our own: the one in `stateright` remembers no states that it has seen, so that it takes
//! exponentially long where calls overlap much; it knows no calls that may never have happened; and it brings a web server.

mod act;
mod order;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use storage_core::{AddBalance, AuditScope, Money, OperationKey, Storage, SubtractBalance, UserId};

use crate::check::{Check, Failure, ensure_eq};
use crate::context::Context;
use crate::model::Settings;
use crate::scenario::list_scenarios;
use crate::steps::{clean, credit, dropped_after, pay, together};

use self::act::{Act, State, perform};
use self::order::{Seen, is_one_order};

list_scenarios! {
    "linear":
    calls_of_one_handle_have_one_order ["R4", "W13"];
    calls_of_several_handles_have_one_order ["R4", "W14"] needs [SecondHandle];
    dropped_calls_are_whole_and_in_order ["R3", "R4"] needs [SecondHandle];
    transfers_with_dropped_calls_keep_every_penny ["R3", "R4", "R6"] needs [SecondHandle];
}

/// How many tasks call at once, and how many calls each makes.
const TASKS: usize = 5;
const CALLS: usize = 7;
/// How many histories a scenario records at most.
const MOST_ROUNDS: u64 = 300;

/// Random numbers from a seed: `splitmix64`.
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }
}

async fn calls_of_one_handle_have_one_order(context: Context) -> Check {
    let handles = [context.open().await?];
    recorded(&context, &handles, false).await
}

async fn calls_of_several_handles_have_one_order(context: Context) -> Check {
    let handles = [context.open().await?, context.open().await?, context.open().await?];
    recorded(&context, &handles, false).await
}

async fn dropped_calls_are_whole_and_in_order(context: Context) -> Check {
    let handles = [context.open().await?, context.open().await?];
    recorded(&context, &handles, true).await
}

/// Records histories of a user each, and looks for an order of each.
async fn recorded(context: &Context, handles: &[Arc<dyn Storage>], dropping: bool) -> Check {
    let Settings { seed, operations, .. } = Settings::from_environment().map_err(Failure::new)?;
    let rounds = (operations / (2 * TASKS * CALLS) as u64).clamp(1, MOST_ROUNDS);
    context.note(format!("seed {seed}, {rounds} histories of {TASKS} tasks with {CALLS} calls each"));
    for round in 0..rounds {
        let user = context.numbered(7000, usize::try_from(round).unwrap_or_default())?;
        credit(&*handles[0], user, "10").await?;
        pay(&*handles[0], user, &format!("p-{user}"), "5").await?;
        let clock = Arc::new(AtomicU64::new(0));
        let answers = together(TASKS, |task| {
            let dice = Dice(seed.wrapping_mul(1000) + round * 100 + task as u64);
            lane(handles[task % handles.len()].clone(), user, Arc::clone(&clock), dice, dropping)
        })
        .await?;
        let mut seen: Vec<Seen> = Vec::new();
        for lane in answers {
            seen.extend(lane.map_err(Failure::new)?);
        }
        // What every handle answers at the end belongs to the order, too.
        for storage in handles {
            for act in [Act::Balance, Act::Remaining] {
                let began = clock.fetch_add(1, Ordering::SeqCst);
                let outcome = perform(&**storage, user, act).await.map_err(Failure::new)?;
                seen.push(Seen { act, began, ended: Some((clock.fetch_add(1, Ordering::SeqCst), outcome)) });
            }
        }
        if !is_one_order(&State::new(10_000_000), &seen) {
            return Err(Failure::new(format!(
                "no order of whole calls shows this (seed {seed}, round {round}):\n{seen:#?}"
            )));
        }
    }
    clean(&*handles[0]).await
}

/// One task's calls, one after the other.
async fn lane(
    storage: Arc<dyn Storage>,
    user: UserId,
    clock: Arc<AtomicU64>,
    mut dice: Dice,
    dropping: bool,
) -> Result<Vec<Seen>, String> {
    let mut seen = Vec::new();
    for _ in 0..CALLS {
        let act = Act::random(&mut |sides| dice.throw(sides));
        let polls =
            if dropping && dice.throw(3) == 0 { usize::try_from(dice.throw(4)).unwrap_or(0) } else { usize::MAX };
        let began = clock.fetch_add(1, Ordering::SeqCst);
        let outcome = dropped_after(polls, perform(&*storage, user, act)).await.transpose()?;
        let ended = outcome.map(|outcome| (clock.fetch_add(1, Ordering::SeqCst), outcome));
        seen.push(Seen { act, began, ended });
    }
    Ok(seen)
}

async fn transfers_with_dropped_calls_keep_every_penny(context: Context) -> Check {
    let handles = [context.open().await?, context.open().await?];
    let seed = Settings::from_environment().map_err(Failure::new)?.seed;
    context.note(format!("seed {seed}"));
    let users: Vec<UserId> = (1..=5).map(|number| context.user(8000 + number)).collect::<Check<_>>()?;
    for user in &users {
        credit(&*handles[0], *user, "20").await?;
    }
    let answers = together(60, |number| {
        let (storage, mut dice) = (handles[number % 2].clone(), Dice(seed.wrapping_mul(7777) + number as u64));
        let users = users.clone();
        async move {
            let mut user = || users[usize::try_from(dice.throw(5)).unwrap_or_default()];
            let (from, to) = (user(), user());
            let polls = usize::try_from(dice.throw(5)).unwrap_or_default();
            transfer(&*storage, (from, to), &format!("transfer-{number}"), polls).await
        }
    })
    .await?;
    answers.into_iter().collect::<Check<Vec<()>>>()?;
    let report = handles[1].audit(AuditScope::Everyone).await?;
    ensure_eq!((report.balances.to_string().as_str(), report.findings.len()), ("100.00", 0));
    Ok(())
}

/// A debit and, when it succeeded, a credit. Each is begun, dropped half way, and settled by its key.
async fn transfer(storage: &dyn Storage, (from, to): (UserId, UserId), key: &str, polls: usize) -> Check {
    let (one, key) = (storage_core::Amount::new(Money::from_units(1)?)?, key.parse::<OperationKey>()?);
    // Another name for the other half: both may be one user's.
    let other = format!("{key}-credit").parse::<OperationKey>()?;
    let debit = SubtractBalance::new(from, one).with_key(key);
    // Whatever became of it, the repeat with its key settles it.
    let _ = dropped_after(polls, storage.subtract_balance(debit.clone())).await;
    match storage.subtract_balance(debit).await {
        Ok(_) => {}
        Err(error) if error.kind().name() == "InsufficientFunds" => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let add = AddBalance::new(to, one).with_key(other);
    let _ = dropped_after(polls, storage.add_balance(add.clone())).await;
    storage.add_balance(add).await?;
    Ok(())
}
