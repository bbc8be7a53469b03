//! `run`: does a lane's operations and acknowledges each one that the store promised.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use storage_core::{Applied, Error, ErrorKind, ManualClock, Result, SharedStorage, Timestamp};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::acks::{line, share};
use crate::call::{Answered, call};
use crate::lane::{Lane, MAX_SEED, MAX_TASKS, moment};
use crate::op::{Op, Outcome};
use crate::opener::{Opener, open};
use crate::plan::{Order, Plan, Step};

// clap would show a documentation of the type in the place of the command's own.
#[expect(missing_docs, reason = "lib.rs documents it")]
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Run {
    /// Where the store is: its path, or the URL of a server
    pub(crate) store: String,
    /// Which operations: 0 to 99999999. Runs of different seeds may share a store at the same time.
    #[arg(value_parser = clap::value_parser!(u32).range(..i64::from(MAX_SEED)))]
    seed: u32,
    /// How many operations
    #[arg(value_name = "N")]
    pub(crate) operations: u64,
    /// How many operations at a time: N is divided among so many lanes, each with users of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_TASKS)))]
    pub(crate) tasks: u32,
    /// In which order
    #[arg(long, value_enum, default_value_t)]
    plan: Order,
    /// For so many seconds an operation on a server that has no certain answer is repeated with its key.
    #[arg(long, value_name = "SECONDS", default_value_t = 45)]
    patience: u64,
    /// How long one operation may take, and opening wait for another process, in milliseconds
    #[arg(long, value_name = "MS")]
    deadline: Option<u64>,
    /// Whatever a directory or a file refuses that the plan does not let it refuse is tried so many times more with the same
    /// key, and each refusal said on stderr; then the store is closed. Opening is tried again where another process has a
    /// lock. Without it a run ends at once.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    insist: u32,
    /// Say in the end on stderr, as JSON, how many calls were made and repeated, and how long the longest took.
    #[arg(long)]
    pub(crate) tally: bool,
}

/// What the calls of a run came to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    calls: AtomicU64,
    repeated: AtomicU64,
    longest_ms: AtomicU64,
    opening_ms: AtomicU64,
    closing_ms: AtomicU64,
}

fn millis(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Tally {
    fn count(&self, begun: Instant, again: bool) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.repeated.fetch_add(u64::from(again), Ordering::Relaxed);
        self.longest_ms.fetch_max(millis(begun), Ordering::Relaxed);
    }
    /// As one JSON object.
    pub(crate) fn to_json(&self) -> String {
        let Self { calls, repeated, longest_ms, opening_ms, closing_ms } = self;
        let figures = [
            ("calls", calls),
            ("repeated", repeated),
            ("longest_ms", longest_ms),
            ("opening_ms", opening_ms),
            ("closing_ms", closing_ms),
        ];
        let figures = figures.map(|(name, figure)| format!("\"{name}\": {}", figure.load(Ordering::Relaxed)));
        format!("{{{}}}", figures.join(", "))
    }
}

struct Work {
    lane: Lane,
    steps: Vec<Step>,
    returned: BTreeSet<u64>,
    /// Whether an operation was new to the store. No later one can be known to it then.
    fresh: AtomicBool,
}

/// Does it. The lanes go in step, because they share a clock: each does its operation of a round, side by side.
pub(crate) async fn run(opener: &dyn Opener, run: &Run, tally: &Arc<Tally>, out: &mut dyn Write) -> Result<()> {
    let Run { seed, plan, operations, tasks, .. } = *run;
    // Files that fail are asked again only by whoever insists: the tools that break their calls want to see how they fail.
    let (patience, insist) = if opener.is_server(&run.store) {
        (Duration::from_secs(run.patience), 0)
    } else {
        (Duration::ZERO, run.insist)
    };
    let (storage, clock) = opened(opener, run, patience, insist, tally).await?;
    let lanes: Vec<Arc<Work>> = (0..tasks)
        .map(|task| {
            let lane = Lane { seed, task };
            let (steps, returned) = Plan::steps(lane, plan, share(operations, task, tasks));
            Arc::new(Work { lane, steps, returned, fresh: AtomicBool::new(false) })
        })
        .collect();
    let rounds = share(operations, 0, tasks);
    for round in 0..rounds {
        clock.set(Timestamp::from_micros(moment(round))?);
        let mut working = JoinSet::new();
        for work in lanes.iter().filter(|work| round < share(operations, work.lane.task, tasks)) {
            let with = With { storage: Arc::clone(&storage), tally: Arc::clone(tally), tasks, patience, insist };
            working.spawn(one(with, Arc::clone(work), round));
        }
        let mut failed = None;
        while let Some(done) = working.join_next().await {
            let done = done.map_err(|error| Error::internal("a task of the probe ended badly").caused_by(error));
            if let Err(error) = done.and_then(|done| done).and_then(|line| acknowledge(out, &line)) {
                failed.get_or_insert(error);
            }
        }
        if let Some(error) = failed {
            if insist > 0 {
                // As a program does that gives up. What it answers now is not what ended the run.
                let _ = close(&storage, insist, tally).await;
            }
            return Err(error);
        }
    }
    close(&storage, insist, tally).await
}

async fn close(storage: &SharedStorage, insist: u32, tally: &Tally) -> Result<()> {
    if insist > 0 {
        say("closing");
    }
    let begun = Instant::now();
    let outcome = storage.close().await;
    tally.closing_ms.store(millis(begun), Ordering::Relaxed);
    outcome
}

/// A line on stderr, for the tools that watch how a store refuses.
fn say(line: &str) {
    // With stderr gone there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "storage-probe: {line}");
}

fn say_refused(what: &str, called: Instant, error: &Error) {
    say(&format!("{what} was refused after {} ms: {}: {}", millis(called), error.kind().name(), error.report()));
}

/// Opens the store; a server that is away for a moment is waited for.
async fn opened(
    opener: &dyn Opener,
    run: &Run,
    patience: Duration,
    mut insist: u32,
    tally: &Tally,
) -> Result<(SharedStorage, Arc<ManualClock>)> {
    let deadline = run.deadline.map(Duration::from_millis);
    let begun = Instant::now();
    loop {
        let called = Instant::now();
        let outcome = open(opener, &run.store, deadline).await;
        tally.opening_ms.fetch_max(millis(called), Ordering::Relaxed);
        match outcome {
            Err(error) if is_outage(&error) && begun.elapsed() < patience => sleep(PAUSE).await,
            // Only a lock comes free by waiting; and a directory that changed would be another one at the next attempt.
            Err(error) if insist > 0 && matches!(error.kind(), ErrorKind::Locked { .. } | ErrorKind::Busy { .. }) => {
                insist -= 1;
                say_refused("opening", called, &error);
                sleep(SHORT_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);
/// The same on files, where nothing has to come back over a network.
const SHORT_PAUSE: Duration = Duration::from_millis(5);

/// Whether an error says that there was no certain answer, for now: also a disk that is full may get room, and a standby
/// may be promoted.
fn is_outage(error: &Error) -> bool {
    error.applied() == Applied::Unknown
        || matches!(
            error.kind(),
            ErrorKind::Unavailable | ErrorKind::Busy { .. } | ErrorKind::StorageFull | ErrorKind::ReadOnly
        )
}

/// What all operations of a run share.
struct With {
    storage: SharedStorage,
    tally: Arc<Tally>,
    tasks: u32,
    patience: Duration,
    insist: u32,
}

/// Does one operation; answers the line that acknowledges it.
async fn one(with: With, work: Arc<Work>, operation: u64) -> Result<String> {
    let With { storage, tally, tasks, patience, mut insist } = with;
    let Some(step) = usize::try_from(operation).ok().and_then(|at| work.steps.get(at)) else {
        return Err(Error::internal(format!("operation {operation} is not in the plan")));
    };
    let begun = Instant::now();
    let mut again = false;
    let answer = loop {
        let called = Instant::now();
        let answer = call(&*storage, work.lane, operation, &step.op).await;
        tally.count(called, again);
        match answer {
            Err(error) if is_outage(&error) && begun.elapsed() < patience => {
                again = true;
                sleep(PAUSE).await;
            }
            Err(error) if insist > 0 && !step.lets(&error) => {
                (again, insist) = (true, insist - 1);
                say_refused(&format!("operation {operation}"), called, &error);
                sleep(SHORT_PAUSE).await;
            }
            // The first attempt may have been applied, and its answer lost: then this one is no replay of an earlier run.
            Ok(answered) if again => break Ok(Answered { replayed: None, ..answered }),
            answer => break answer,
        }
    };
    judge(step, &work, operation, answer)?;
    Ok(line(work.lane, tasks, operation, step.op.word()))
}

/// Compares an answer with what the plan expects; whatever else an answer is, it is no acknowledgement.
fn judge(step: &Step, work: &Work, operation: u64, answer: Result<Answered>) -> Result<()> {
    let wrong = |what: String| {
        Err(Error::internal(format!("operation {operation} of lane {:?}, {:?}: {what}", work.lane, step.op)))
    };
    match (step.outcome, answer) {
        (Outcome::Done(expected), Ok(answered)) => {
            // The first answer of a call is the answer of its repetitions; what is not repeated by key has no figure.
            if expected.is_some() && answered.figure.is_some() && expected != answered.figure {
                return wrong(format!("answered {answered:?}, expected {expected:?}"));
            }
            match answered.replayed {
                Some(true) if work.fresh.load(Ordering::Relaxed) => {
                    wrong("is known to the store, and an earlier one of this lane was not: it was lost".to_owned())
                }
                Some(false) => {
                    work.fresh.store(true, Ordering::Relaxed);
                    Ok(())
                }
                _ => Ok(()),
            }
        }
        (Outcome::Refused(_), Err(error)) if step.lets(&error) => Ok(()),
        (Outcome::Refused(kind), Ok(answered)) => wrong(format!("answered {answered:?}, expected {kind}")),
        // A take that was given back in an earlier run says so when it is repeated.
        (Outcome::Done(_), Err(error))
            if matches!(step.op, Op::Take { .. })
                && matches!(error.kind(), ErrorKind::InvalidTransition { .. })
                && work.returned.contains(&operation) =>
        {
            Ok(())
        }
        (_, Err(error)) => Err(error),
    }
}

fn acknowledge(out: &mut dyn Write, line: &str) -> Result<()> {
    out.write_all(line.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Error::internal("the acknowledgement could not be written").caused_by(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::MAIN;

    const LANE: Lane = Lane { seed: 1, task: 0 };

    fn work() -> Work {
        Work { lane: LANE, steps: Vec::new(), returned: BTreeSet::new(), fresh: AtomicBool::new(false) }
    }

    #[test]
    fn a_refusal_counts_only_when_it_is_certain() {
        let step = Step { op: Op::Take { role: MAIN }, outcome: Outcome::Refused("Busy") };
        let refused = || Error::new(ErrorKind::Busy { waited: Duration::ZERO });
        assert!(judge(&step, &work(), 0, Err(refused().not_applied())).is_ok());
        let error = judge(&step, &work(), 0, Err(refused().unknown(None))).unwrap_err();
        assert_eq!(error.applied(), Applied::Unknown);
        let error = judge(&step, &work(), 0, Err(Error::closed())).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Closed));
    }

    #[test]
    fn a_lost_operation_is_told_from_a_repeated_one() {
        let step = Step { op: Op::Take { role: MAIN }, outcome: Outcome::Done(Some(4)) };
        let answered = |replayed| Ok(Answered { figure: Some(4), replayed });
        let told = |answer| judge(&step, &work(), 0, answer).unwrap_err().report().to_string();
        let work = work();
        // An earlier run did it, and did not come to the next one.
        assert!(judge(&step, &work, 0, answered(Some(true))).is_ok());
        assert!(judge(&step, &work, 1, answered(Some(false))).is_ok());
        // Its own first attempt, whose answer was lost, did it.
        assert!(judge(&step, &work, 2, answered(None)).is_ok());
        // An earlier run did it, and what it did before is gone.
        let lost = judge(&step, &work, 3, answered(Some(true))).unwrap_err();
        assert!(lost.report().to_string().contains("it was lost"));
        assert!(told(Ok(Answered { figure: Some(3), replayed: Some(false) })).contains("expected Some(4)"));
    }
}
