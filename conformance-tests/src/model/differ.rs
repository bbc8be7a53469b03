//! The same histories on several backends: every answer and every dump must be the same.

use std::fmt::Write as _;
use std::sync::Arc;

use super::ask::Answer;
use super::check::on;
use super::op::{History, Op, Step};
use super::play::{Player, closed};
use crate::check::sides;
use crate::harness::Harness;

/// Plays a history on every backend. An error says where two of them differ.
pub(crate) async fn differ(harnesses: &[Arc<dyn Harness>], history: &History) -> Result<(), String> {
    let mut players = Vec::new();
    for harness in harnesses {
        players.push(Player::new(harness, history.handles, history.zone).await?);
    }
    let outcome = play(&mut players, history).await;
    for player in players {
        player.finish().await;
    }
    outcome
}

async fn play(players: &mut [Player], history: &History) -> Result<(), String> {
    let mut number = 0;
    for step in &history.steps {
        number += 1;
        if step.op.is_turn() {
            for player in &mut *players {
                let turned = player.turn(number, *step).await;
                turned.map_err(|problem| format!("{}, step {number}, {:?}: {problem}", player.name(), step.op))?;
            }
        } else {
            same_answer(players, number, *step).await?;
        }
    }
    for player in &mut *players {
        player.reopen_all().await?;
    }
    for op in Op::everything() {
        number += 1;
        same_answer(players, number, Step { op, ..on(0) }).await?;
    }
    let mut dumps = Vec::new();
    for player in &*players {
        dumps.push((player.name(), player.dump(0).await?));
    }
    same(&dumps, "the final dump")
}

async fn same_answer(players: &mut [Player], number: u64, step: Step) -> Result<(), String> {
    let mut answers: Vec<(String, Answer)> = Vec::new();
    for player in players {
        let Ok(call) = player.call(step) else { return Ok(()) };
        let is_closed = player.is_closed(step);
        let answer = player.ask(number, step, call).await;
        if is_closed && answer != closed(step.op) {
            return Err(format!("{}, step {number}: a closed handle answers {answer}", player.name()));
        }
        answers.push((player.name().to_owned(), answer));
    }
    same(&answers, &format!("step {number}, {:?}", step.op))
}

/// Fails when one backend's text is not the first one's.
fn same<N: std::fmt::Display>(texts: &[(N, String)], what: &str) -> Result<(), String> {
    let Some(((first, expected), others)) = texts.split_first() else { return Ok(()) };
    let mut problem = String::new();
    for (name, got) in others {
        if got != expected {
            // Writing to a String cannot fail.
            let _ = write!(problem, "{what}: {name} differs from {first}{}", sides(got, expected));
        }
    }
    if problem.is_empty() { Ok(()) } else { Err(problem) }
}
