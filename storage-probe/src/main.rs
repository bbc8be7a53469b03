//! The probe: a workload whose every operation can be repeated, and the verifier of what it left behind.
//!
//! `storage-probe run DIR|URL SEED N` does N seeded operations and prints one line for each that the store promised. Run
//! again with the same arguments after a crash, it repeats them all, and the store must recognise each. `storage-probe
//! verify DIR|URL ACKS [N]` compares the store with a naive model of the same operations. Whoever wants to know what a
//! crash, a full disk or a power cut does to a store lets it happen between the two; `scripts/fault` does so at every
//! single call.
//!
//! * `lane`, `op`, `plan`, `random`: which operations there are, from the seed alone.
//! * `model`: what they come to, written once more and shared with no backend.
//! * `call`, `run`: the operations as calls of a store.
//! * `acks`, `facts`, `read`, `verify`: the comparison.

mod acks;
mod call;
mod facts;
mod lane;
mod model;
mod op;
mod plan;
mod random;
mod read;
mod run;
mod store;
mod verify;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use storage_core::{Error, ErrorKind};

/// A workload with fixed keys and the verifier of its traces, for the fault tools.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Does N seeded operations and prints a line for each that the store promised.
    Run {
        /// The data directory, or the URL of a database: then its scratch schema is used.
        store: String,
        /// Which operations: 0 to 99999999. Runs of different seeds may share a store at the same time.
        #[arg(value_parser = clap::value_parser!(u32).range(..i64::from(lane::MAX_SEED)))]
        seed: u32,
        /// How many operations
        n: u64,
        /// How many operations at a time: N is divided among so many lanes, each with users of its own.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(lane::MAX_TASKS)))]
        tasks: u32,
        /// In which order
        #[arg(long, value_enum, default_value_t)]
        plan: plan::Order,
        #[command(flatten)]
        schema: store::Scratch,
        /// For so many seconds an operation on a database that has no certain answer is repeated with its key.
        #[arg(long, value_name = "SECONDS", default_value_t = 45)]
        patience: u64,
        #[command(flatten)]
        limits: store::Limited,
        /// Whatever a directory refuses that the plan does not let it refuse is tried so many times more with the same key,
        /// and each refusal said on stderr; then the store is closed. Opening is tried again where another process has a
        /// lock. Without it a run ends at once.
        #[arg(long, value_name = "COUNT", default_value_t = 0)]
        insist: u32,
        /// Say in the end on stderr, as JSON, how many calls were made and repeated, and how long the longest took.
        #[arg(long)]
        tally: bool,
    },
    /// Compares the store with what was acknowledged; exit code 0 when all is well, 3 when it does not open.
    Verify {
        /// The data directory, or the URL of a database.
        store: String,
        /// The file with the lines that `run` printed, of one run or of several.
        acks: PathBuf,
        /// How many operations each seed must have by now.
        n: Option<u64>,
        /// The plan of those runs
        #[arg(long, value_enum, default_value_t)]
        plan: plan::Order,
        /// Compare only what the file names: others have used the store too. The audit still looks at everybody.
        #[arg(long)]
        named: bool,
        #[command(flatten)]
        schema: store::Scratch,
    },
    /// Makes the scratch schema of a database anew, with empty tables. Touches no other schema.
    Reset {
        /// The URL of the database.
        store: String,
        #[command(flatten)]
        schema: store::Scratch,
    },
}

/// Why the probe failed, and the exit code: 1 for an answer or a state that is wrong, 2 for arguments that are none, 3 for a
/// store that refuses: it does not open, or takes no more calls.
struct Failure(u8, String);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        // What the plan lets succeed is refused for what the store has: it has something else.
        let is_wrong = matches!(
            error.kind(),
            ErrorKind::Internal
                | ErrorKind::NotFound(_)
                | ErrorKind::Conflict { .. }
                | ErrorKind::InsufficientFunds { .. }
                | ErrorKind::QuotaExhausted { .. }
                | ErrorKind::InvalidTransition { .. }
        );
        Self(if is_wrong { 1 } else { 3 }, error.report().to_string())
    }
}

fn main() -> ExitCode {
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure(1, format!("the runtime could not be built: {error}")))
        .and_then(|runtime| runtime.block_on(perform(Arguments::parse().command)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(code, message)) => {
            // With stderr gone there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "storage-probe: {message}");
            ExitCode::from(code)
        }
    }
}

async fn perform(command: Command) -> Result<(), Failure> {
    let place = |store: &str, schema: store::Scratch| {
        store::Place::of(store, schema.schema).map_err(|message| Failure(2, message))
    };
    match command {
        Command::Run { store, seed, n, tasks, plan, schema, patience, limits, insist, tally: wanted } => {
            let place = place(&store, schema)?.limited(&limits);
            if acks::share(n, 0, tasks) > lane::MAX_OPERATIONS {
                return Err(Failure(2, format!("a lane has {} operations at most", lane::MAX_OPERATIONS)));
            }
            let patience = Duration::from_secs(patience);
            let run = run::Run { place, seed, order: plan, operations: n, tasks, patience, insist };
            let tally = Arc::default();
            let outcome = run::run(run, &tally).await;
            if wanted {
                let _ = writeln!(std::io::stderr(), "{}", tally.to_json());
            }
            Ok(outcome?)
        }
        Command::Verify { store, acks, n, plan, named, schema } => {
            let place = place(&store, schema)?;
            let acks = read_acks(&acks).map_err(|message| Failure(1, message))?;
            let verdict = verify::verify(&place, verify::Wanted { acks: &acks, order: plan, total: n, named }).await?;
            if !verdict.problems.is_empty() {
                return Err(Failure(1, verdict.problems.join("\n")));
            }
            let _ = writeln!(
                std::io::stdout(),
                "{} lanes, {} acknowledged operations, {} ledger rows: all as it should be",
                verdict.lanes,
                verdict.acknowledged,
                verdict.rows
            );
            Ok(())
        }
        Command::Reset { store, schema } => match place(&store, schema)? {
            store::Place::Database(options) => Ok(store::reset(&options).await?),
            store::Place::Directory(..) => {
                Err(Failure(2, "only a database is reset: remove a directory yourself".to_owned()))
            }
        },
    }
}

fn read_acks(path: &Path) -> Result<acks::Acks, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    acks::Acks::read(&bytes).map_err(|message| format!("{}: {message}", path.display()))
}
