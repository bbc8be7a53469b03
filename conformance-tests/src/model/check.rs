//! Compares a backend with the oracle, step by step, and the whole state at the end and after reopening.

use std::fmt::Write as _;
use std::sync::Arc;

use super::op::{History, Op, Step};
use super::oracle::{Moment, Oracle};
use super::play::{Player, closed, policy, step_id};
use crate::check::sides;
use crate::harness::{Harness, Need};

/// The most writes that one call makes: a sweep's.
const MOST_WRITES: u64 = 64;

/// Plays a history on a new site. Answers how many calls were made; an error says which answer was another one.
pub(crate) async fn check(harness: &Arc<dyn Harness>, history: &History) -> Result<u64, String> {
    let mut player = Player::new(harness, history.handles, history.zone).await?;
    let outcome = compare(harness, history, &mut player).await;
    player.finish().await;
    outcome
}

async fn compare(harness: &Arc<dyn Harness>, history: &History, player: &mut Player) -> Result<u64, String> {
    let (policy, ahead) = policy(history.zone).map_err(|error| error.to_string())?;
    let mut oracle = Oracle::new(policy, ahead);
    let mut number = 0;
    for step in &history.steps {
        number += 1;
        if step.op.is_turn() {
            player.turn(number, *step).await.map_err(|problem| format!("step {number}, {:?}: {problem}", step.op))?;
        } else {
            compare_step(player, &mut oracle, number, *step).await?;
        }
    }
    if (0..player.handles()).any(|place| player.is_closed(on(place))) {
        player.reopen_all().await?;
    }
    for place in 0..player.handles() {
        number = compare_all(player, &mut oracle, number, place).await?;
    }
    if harness.supports(Need::Reopen) {
        let before = player.dump(0).await?;
        player.reopen_all().await?;
        number = compare_all(player, &mut oracle, number, 0).await?;
        let after = player.dump(0).await?;
        if before != after {
            return Err(format!("the reopened store dumps differently{}", sides(&after, &before)));
        }
    }
    Ok(number)
}

/// A step on the handle at a place.
pub(crate) fn on(place: usize) -> Step {
    Step { on: u8::try_from(place).unwrap_or_default(), op: Op::Ping }
}

/// Everything that can be read, through one handle.
async fn compare_all(player: &mut Player, oracle: &mut Oracle, from: u64, place: usize) -> Result<u64, String> {
    let mut number = from;
    for op in Op::everything() {
        number += 1;
        compare_step(player, oracle, number, Step { op, ..on(place) })
            .await
            .map_err(|text| format!("at the end: {text}"))?;
    }
    Ok(number)
}

async fn compare_step(player: &mut Player, oracle: &mut Oracle, number: u64, step: Step) -> Result<(), String> {
    // What cannot be built never reaches a backend.
    let Ok(call) = player.call(step) else { return Ok(()) };
    let expected = if player.is_closed(step) {
        closed(step.op)
    } else {
        let ids = (0..MOST_WRITES).map(|write| step_id(number, write)).collect();
        oracle.answer(&call, &Moment { now: player.now(), ids })
    };
    let got = player.ask(number, step, call).await;
    if got == expected { Ok(()) } else { Err(format!("step {number}, {:?}{}", step.op, sides(&got, &expected))) }
}

/// A history as Rust code, to be pasted into the list of `regressions.rs`.
pub(crate) fn as_code(history: &History) -> String {
    let History { handles, zone, steps } = history;
    let mut code = format!("History {{\n    handles: {handles},\n    zone: {zone},\n    steps: vec![\n");
    for Step { on, op } in steps {
        // Writing to a String cannot fail.
        let _ = writeln!(code, "        Step {{ on: {on}, op: {} }},", op_as_code(*op));
    }
    code.push_str("    ],\n}");
    code
}

/// An operation as Rust code: its `Debug` form, with the names of the types that this leaves out.
fn op_as_code(op: Op) -> String {
    let text = format!("Op::{op:?}");
    match op {
        Op::UpdateJob { .. } => text.replace("status: ", "status: JobStatus::"),
        Op::Mark { .. } => text.replace("status: ", "status: PaymentStatus::"),
        Op::ListHolds { .. } => text.replace("status: Some(", "status: Some(HoldStatus::"),
        Op::ListPayments { .. } => text.replace("status: Some(", "status: Some(PaymentStatus::"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage_core::{HoldStatus, JobStatus, PaymentStatus};

    /// Code without its white space.
    fn dense(code: &str) -> String {
        code.chars().filter(|character| !character.is_whitespace()).collect()
    }

    #[test]
    fn a_history_prints_as_the_code_that_makes_it() {
        macro_rules! prints_as_itself {
            ($code:expr) => {
                assert_eq!(dense(&as_code(&$code)), dense(stringify!($code)));
            };
        }
        prints_as_itself!(History {
            handles: 2,
            zone: 1,
            steps: vec![
                Step { on: 0, op: Op::Credit { user: 0, micros: -1, memo: false, key: Some(3) } },
                Step {
                    on: 1,
                    op: Op::UpdateJob {
                        job: 0,
                        status: JobStatus::Failed,
                        urls: None,
                        error: Some(1),
                        task: None,
                        key: None
                    }
                },
                Step {
                    on: 1,
                    op: Op::Mark { payment: 0, status: PaymentStatus::Approved, admin: None, notes: None, key: None }
                },
                Step { on: 1, op: Op::ListHolds { user: None, status: Some(HoldStatus::Open), older: None, size: 1 } },
                Step { on: 0, op: Op::ListPayments { user: None, status: Some(PaymentStatus::Pending), size: 1 } },
                Step { on: 0, op: Op::ReopenAll },
            ],
        });
    }
}
