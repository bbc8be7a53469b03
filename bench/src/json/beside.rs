//! The calls of a saturated writer, alone and beside a process that opens and closes the store again and again.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;

use super::child::{Opener, Openings};
use super::contest::percentile;
use super::contestant::Contestant;
use super::op::Work;
use super::slice::{Crew, Done};
use super::store::{Filling, Json, fill};
use crate::result::{Column, Grid, median};
use crate::single::scratch;

/// What an opening may add to the waits of others, in milliseconds.
const AT_MOST: f64 = 50.0;

#[derive(Debug, Args)]
pub(crate) struct OpeningArgs {
    /// Users that the store holds, each with settings and one ledger row
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    users: u32,
    /// More ledger rows of each user
    #[arg(long, default_value_t = 9)]
    rows: u32,
    /// Jobs that the store holds, and as many payments; without it half as many as users
    #[arg(long)]
    jobs: Option<u32>,
    /// How many tasks write
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    tasks: u32,
    /// Seconds of each turn; beside openings at least until one went by
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Rounds; each measures the writer alone and beside openings
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Keep the store here and use it again; without it a scratch directory is used
    #[arg(long, value_name = "DATA_DIR")]
    keep: Option<PathBuf>,
    /// Where the scratch directory is made: the disk that is measured
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

/// What one turn was like: calls a second, and milliseconds.
#[derive(Clone, Copy, Debug)]
struct Turn {
    rate: f64,
    p50: f64,
    p99: f64,
    p999: f64,
    longest: f64,
}

impl Turn {
    fn new(mut done: Done, elapsed: Duration) -> Self {
        done.latencies.sort_unstable();
        let at = |thousandths| percentile(&done.latencies, thousandths).unwrap_or(0.0) / 1000.0;
        let longest = done.latencies.last().map_or(0.0, |micros| f64::from(*micros) / 1000.0);
        let count = f64::from(u32::try_from(done.count).unwrap_or(u32::MAX));
        Self { rate: count / elapsed.as_secs_f64(), p50: at(500), p99: at(990), p999: at(999), longest }
    }
    fn figures(self) -> [f64; 5] {
        [self.rate, self.p50, self.p99, self.p999, self.longest]
    }
}

pub(crate) async fn measure(arguments: OpeningArgs) -> Result<Grid, String> {
    let OpeningArgs { users, rows, jobs, tasks, seconds, rounds, keep, dir } = arguments;
    let slice = Duration::try_from_secs_f64(seconds).map_err(|error| format!("--seconds: {error}"))?;
    let scratch = scratch(&dir)?;
    let store = keep.unwrap_or_else(|| scratch.path().join("store"));
    let jobs = jobs.unwrap_or(users / 2);
    if !store.exists() {
        fill(&store, Filling { users, more_rows: rows, jobs, payments: jobs, owners: users }).await?;
    }
    let writer = Arc::new(Contestant::of_store(Json::patient(&store).await?, users));
    let crew = Crew { work: Work::Credit, tasks, users };
    let (mut alone, mut beside, mut openings) = (Vec::new(), Vec::new(), Openings::default());
    for round in 0..rounds {
        // Whoever is first finds the journal as the round before left it.
        for first in [true, false] {
            if first == (round % 2 == 0) {
                alone.push(turn(&writer, crew, slice, None).await?);
            } else {
                let mut opener = Opener::start(&store)?;
                beside.push(turn(&writer, crew, slice, Some((&mut opener, &mut openings))).await?);
                opener.stop(&mut openings).await?;
            }
        }
    }
    writer.close().await?;
    Ok(table(&alone, &beside, &openings, &format!("{users} users, {jobs} jobs, as many payments, {tasks} tasks")))
}

/// The writer works for the slice, and until an opening went by where there are any.
async fn turn(
    writer: &Arc<Contestant>,
    crew: Crew,
    slice: Duration,
    opener: Option<(&mut Opener, &mut Openings)>,
) -> Result<Turn, String> {
    let (go_on, begun) = (Arc::new(AtomicBool::new(true)), Instant::now());
    let seen = Arc::clone(&go_on);
    let working = crew.until(writer, move || seen.load(Ordering::Acquire));
    let waiting = async {
        let waited = async {
            if let Some((opener, openings)) = opener {
                opener.once(openings).await?;
            }
            tokio::time::sleep(slice.saturating_sub(begun.elapsed())).await;
            Ok::<_, String>(())
        };
        let waited = waited.await;
        // Whatever came of the openings: the tasks must not go on for ever.
        go_on.store(false, Ordering::Release);
        waited
    };
    let (done, waited) = tokio::join!(working, waiting);
    waited?;
    Ok(Turn::new(done?, begun.elapsed()))
}

fn table(alone: &[Turn], beside: &[Turn], openings: &Openings, what: &str) -> Grid {
    let Openings { seconds, refused, told } = openings;
    let count = u32::try_from(seconds.len()).unwrap_or(u32::MAX);
    let told = told.as_ref().map_or_else(String::new, |told| format!(" ({told})"));
    let title = format!(
        "credits while a second process opens and closes the store again and again: {what}, {} rounds, medians; {count} \
         openings of {:.2} s, {refused} refused{told}; an opening is to add at most {AT_MOST} ms to p99.9 and to the longest \
         wait",
        alone.len(),
        median(seconds.clone()),
    );
    let columns = vec![
        Column("a second", 0),
        Column("p50 ms", 2),
        Column("p99 ms", 2),
        Column("p99.9 ms", 2),
        Column("max ms", 1),
    ];
    let mut grid = Grid::new("opening beside a writer", title, columns);
    for (name, turns) in [("alone", alone), ("beside openings", beside)] {
        let of = |at: usize| turns.iter().map(|turn| turn.figures()[at]).collect();
        grid.add(name, (0..5).map(|at| Some(median(of(at)))).collect());
    }
    let more =
        |at: usize| alone.iter().zip(beside).map(move |(alone, beside)| beside.figures()[at] - alone.figures()[at]);
    grid.add("more, median round", (0..5).map(|at| Some(median(more(at).collect()))).collect());
    grid.add(
        "more, worst round",
        (0..5).map(|at| more(at).reduce(if at == 0 { f64::min } else { f64::max })).collect(),
    );
    grid.say("openings", count);
    grid.say("refused", *refused);
    grid.say("opening_seconds", median(seconds.clone()));
    grid.say("slowest_opening_seconds", seconds.iter().copied().fold(0.0, f64::max));
    grid.say("at_most_ms", AT_MOST);
    grid
}
