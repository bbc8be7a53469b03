//! Random histories, compared with an oracle at every step.
//!
//! `CONFORMANCE_SEED` (default 1) chooses the histories, `CONFORMANCE_OPERATIONS` (default 300) says how many operations
//! each scenario makes at least, `CONFORMANCE_LENGTH` (default 80) how many a history has at most. A failure prints
//! the seed and the shortest history that shows it, as code for `regressions.rs`.

mod ask;
mod build;
mod check;
mod differ;
mod op;
mod oracle;
mod play;
mod regressions;
mod settings;
mod strategy;

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use tokio::runtime::Handle;

use crate::check::{Check, Failure};
use crate::context::Context;
use crate::harness::Harness;
use crate::scenario::list_scenarios;

use self::check::{as_code, check};
use self::strategy::histories;

pub(crate) use self::settings::Settings;

list_scenarios! {
    "model":
    one_handle_answers_as_the_oracle ["R1", "R2", "R6", "R8", "R11", "V11"];
    several_handles_answer_as_the_oracle ["R4", "R5", "R6", "R8", "R10", "M1", "V11", "W14"]
        needs [SecondHandle, Reopen, TimeZones];
    histories_that_once_differed_answer_as_the_oracle ["R8"] needs [SecondHandle, Reopen, TimeZones];
}

/// Histories are played side by side, each lane with a seed of its own.
const LANES: u64 = 4;

async fn one_handle_answers_as_the_oracle(context: Context) -> Check {
    random(context, false).await
}

async fn several_handles_answer_as_the_oracle(context: Context) -> Check {
    random(context, true).await
}

async fn histories_that_once_differed_answer_as_the_oracle(context: Context) -> Check {
    for (what, history) in regressions::histories() {
        let outcome = check(&context.harness(), &history).await;
        outcome.map_err(|difference| Failure::new(format!("{what}: {difference}")))?;
    }
    Ok(())
}

async fn random(context: Context, several: bool) -> Check {
    let settings = Settings::from_environment().map_err(Failure::new)?;
    let harness = context.harness();
    let (done, outcome) =
        play_lanes(settings, several, move |runtime, history| runtime.block_on(check(&harness, history)).map(drop))
            .await;
    context.note(format!("seed {}, {done} operations", settings.seed));
    match outcome {
        Ok(()) => Ok(()),
        Err(problem) => Err(Failure::new(problem)),
    }
}

/// Plays the same random histories on several backends, and compares every answer and every dump with the first one's.
///
/// The seed and the number of operations come from the environment, as for the scenarios of the suite. Answers what
/// was played; an error holds the shortest history that shows a difference, as code. Must be called inside a runtime
/// of several threads.
///
/// # Errors
/// The difference, or what kept the histories from being played.
pub async fn differential(harnesses: Vec<Arc<dyn Harness>>) -> Result<String, String> {
    let settings = Settings::from_environment()?;
    let (done, outcome) =
        play_lanes(settings, true, move |runtime, history| runtime.block_on(differ::differ(&harnesses, history))).await;
    outcome.map(|()| format!("seed {}, {done} operations on each backend", settings.seed))
}

/// Plays histories side by side. Answers how many operations were made, and how the first failure shows.
async fn play_lanes<F>(settings: Settings, several: bool, play: F) -> (u64, Result<(), String>)
where
    F: Fn(&Handle, &op::History) -> Result<(), String> + Send + Sync + 'static,
{
    let (done, play) = (Arc::new(AtomicU64::new(0)), Arc::new(play));
    let mut lanes = Vec::new();
    for lane in 0..LANES {
        let (done, play) = (Arc::clone(&done), Arc::clone(&play));
        // A lane waits for the answers of its stores, and must not keep a worker from answering.
        lanes.push(tokio::task::spawn_blocking(move || play_lane(&*play, settings, lane, several, &done)));
    }
    let mut outcome = Ok(());
    for lane in lanes {
        let ended = lane.await.unwrap_or_else(|error| Err(format!("a lane failed: {error}")));
        outcome = outcome.and(ended);
    }
    (done.load(Ordering::SeqCst), outcome)
}

/// One lane: histories until there were operations enough.
fn play_lane(
    play: &dyn Fn(&Handle, &op::History) -> Result<(), String>,
    settings: Settings,
    lane: u64,
    several: bool,
    done: &AtomicU64,
) -> Result<(), String> {
    let runtime = Handle::current();
    let wanted = settings.operations.div_ceil(LANES);
    let mut runner = TestRunner::new_with_rng(config(), rng(settings.seed, lane, several));
    let strategy = histories(settings.length, several);
    let mut made = 0;
    while made < wanted {
        let steps = Cell::new(0);
        let tree = strategy.new_tree(&mut runner).map_err(|reason| format!("no history could be made: {reason}"))?;
        let outcome = runner.run_one(tree, |history| {
            steps.set(history.steps.len() as u64);
            play(&runtime, &history).map_err(TestCaseError::fail)
        });
        made += steps.get();
        done.fetch_add(steps.get(), Ordering::SeqCst);
        outcome.map_err(|error| failure(&error, settings))?;
    }
    Ok(())
}

fn failure(error: &TestError<op::History>, settings: Settings) -> String {
    match error {
        TestError::Fail(reason, history) => format!(
            "an answer is another one; CONFORMANCE_SEED={}, the shortest history:\n{}\n{reason}",
            settings.seed,
            as_code(history),
        ),
        TestError::Abort(reason) => format!("no history could be made: {reason}"),
    }
}

fn config() -> Config {
    Config { failure_persistence: None, max_shrink_iters: 600, max_shrink_time: 20_000, ..Config::default() }
}

fn rng(seed: u64, lane: u64, several: bool) -> TestRng {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&seed.wrapping_add(1).to_le_bytes());
    bytes[8..].copy_from_slice(&(lane * 2 + u64::from(several) + 1).to_le_bytes());
    // The fastest: each operation is made with a generator of its own.
    TestRng::from_seed(RngAlgorithm::XorShift, &bytes)
}
