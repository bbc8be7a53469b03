//! storage-json beside the floor that the disk sets, and beside other embedded stores that keep the same promise: what
//! was answered survives a power cut.

mod balance;
mod bare;
pub(crate) mod beside;
mod bytes;
mod checkpoint;
pub(crate) mod child;
mod contest;
mod contestant;
mod fjall;
mod floor;
mod gather;
mod jobs;
mod memory;
mod op;
mod opening;
mod processes;
mod redb;
mod slice;
mod sqlite;
mod store;
mod writes;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::json;

use self::contest::Turns;
use self::op::Work;
pub(crate) use self::store::{import, new_payment, old_job};
use crate::result::{Grid, Report};
use crate::single::scratch;

#[derive(Debug, Args)]
pub(crate) struct JsonArgs {
    /// Only these workloads; without it all
    #[arg(long, value_delimiter = ',')]
    workload: Vec<Workload>,
    /// Users that each store holds
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    users: u32,
    /// Seconds that each contestant works for each line of figures, divided among the rounds
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Rounds; each gives every contestant its turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Jobs among which the newest of a user are looked for
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    jobs: u32,
    /// Bytes of the journal after which the workload `checkpoint` gets its checkpoint; without it the store decides
    #[arg(long)]
    checkpoint_bytes: Option<u64>,
    /// Where the scratch directory is made: the disk that is measured
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Workload {
    /// Credits by 1, 8 and 64 tasks
    Credit,
    /// Debits, each with its ledger row, by 1, 8 and 64 tasks
    Debit,
    /// What a bot does, by 64 tasks: 60 % balance, 10 % user, 10 % debit, 10 % add job, 5 % job status, 5 % approve a
    /// payment
    Bot,
    /// A balance read by one task, from a store opened shared and from one opened exclusively
    Balance,
    /// The newest 20 jobs of a user among many jobs
    Jobs,
    /// Credits by two processes with 32 tasks each beside one with 64
    Processes,
    /// Credits by 64 tasks while a checkpoint happens
    Checkpoint,
    /// Memory for each user, job and payment
    Memory,
    /// Opening after a clean close
    Open,
}

/// Tables one below the other.
#[derive(Debug)]
struct Tables(Vec<Grid>);

impl Report for Tables {
    fn to_text(&self) -> String {
        let grids: Vec<String> = self.0.iter().map(Grid::to_text).collect();
        format!(
            "{}\nRatios are those of each round: their median, the least and the most. A call's processor time is that of \
             the whole process.\n",
            grids.join("\n")
        )
    }
    fn to_json(&self) -> serde_json::Value {
        json!({ "tables": self.0.iter().map(Grid::to_json).collect::<Vec<_>>() })
    }
}

/// Measures.
pub(crate) async fn measure(arguments: JsonArgs) -> Result<Box<dyn Report>, String> {
    let JsonArgs { workload, users, seconds, rounds, jobs, checkpoint_bytes, dir } = arguments;
    let chosen = |one: Workload| workload.is_empty() || workload.contains(&one);
    let seconds = Duration::try_from_secs_f64(seconds).map_err(|error| format!("--seconds: {error}"))?;
    let turns = Turns { rounds, slice: (seconds / rounds).max(Duration::from_millis(1)) };
    let scratch = scratch(&dir)?;
    let mut grids = Vec::new();
    let writes: Vec<writes::Job> = [
        (Workload::Credit, writes::Job(Work::Credit, "credit", &[1, 8, 64])),
        (Workload::Debit, writes::Job(Work::Debit, "debit", &[1, 8, 64])),
        (Workload::Bot, writes::Job(Work::Mix, "bot mix", &[64])),
    ]
    .into_iter()
    .filter_map(|(workload, job)| chosen(workload).then_some(job))
    .collect();
    if !writes.is_empty() {
        grids.extend(writes::measure(scratch.path(), &writes, users, turns).await?);
    }
    if chosen(Workload::Balance) {
        grids.extend(balance::measure(scratch.path(), users, turns).await?);
    }
    if chosen(Workload::Jobs) {
        grids.push(jobs::measure(scratch.path(), jobs, turns).await?);
    }
    if chosen(Workload::Processes) {
        grids.push(processes::measure(scratch.path(), users, turns).await?);
    }
    if chosen(Workload::Checkpoint) {
        grids.push(checkpoint::measure(scratch.path(), users, checkpoint_bytes, turns).await?);
    }
    if chosen(Workload::Memory) {
        grids.push(memory::measure(scratch.path(), users).await?);
    }
    if chosen(Workload::Open) {
        grids.push(opening::measure(scratch.path(), users, rounds).await?);
    }
    Ok(Box::new(Tables(grids)))
}
