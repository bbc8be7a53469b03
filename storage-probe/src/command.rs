//! The two commands as a program has them: a runtime, an exit code, and what went wrong on stderr.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use storage_core::{Error, ErrorKind};

use crate::acks::{Acks, share};
use crate::lane::MAX_OPERATIONS;
use crate::opener::Opener;
use crate::run::{self, Run};
use crate::verify::{self, Verify};

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
    Run(Run),
    /// Compares the store with what was acknowledged; exit code 0 when all is well, 3 when it does not open.
    Verify(Verify),
}

/// The whole program: reads the command line, does `run` or `verify`, and says how it went.
///
/// | exit code | meaning |
/// | --- | --- |
/// | 0 | all is well |
/// | 1 | an answer or a state is wrong, or the file of acknowledgements cannot be read |
/// | 2 | the command line was not understood |
/// | 3 | the store refuses: it does not open, or takes no more calls |
///
/// Everything runs on one thread with tokio's timers; a store that blocks needs threads of its own.
pub fn main(opener: &impl Opener) -> ExitCode {
    let mut out = std::io::stdout();
    match Arguments::parse().command {
        Command::Run(run) => run.perform(opener, &mut out),
        Command::Verify(verify) => verify.perform(opener, &mut out),
    }
}

impl Run {
    /// Which store the command line names.
    pub fn store(&self) -> &str {
        &self.store
    }
    /// Does the operations. Each acknowledgement is a line of `out`, flushed; complaints go to stderr.
    pub fn perform(&self, opener: &impl Opener, out: &mut dyn Write) -> ExitCode {
        finish(async {
            if share(self.operations, 0, self.tasks) > MAX_OPERATIONS {
                return Err(Failure(2, format!("a lane has {MAX_OPERATIONS} operations at most")));
            }
            let tally = Arc::default();
            let outcome = run::run(opener, self, &tally, out).await;
            if self.tally {
                let _ = writeln!(std::io::stderr(), "{}", tally.to_json());
            }
            Ok(outcome?)
        })
    }
}

impl Verify {
    /// Which store the command line names.
    pub fn store(&self) -> &str {
        &self.store
    }
    /// Compares. The figures of a store that is as it should be are a line of `out`; what is wrong goes to stderr.
    pub fn perform(&self, opener: &impl Opener, out: &mut dyn Write) -> ExitCode {
        finish(async {
            let acks = read_acks(&self.acks).map_err(|message| Failure(1, message))?;
            let verdict = verify::verify(opener, self, &acks).await?;
            if !verdict.problems.is_empty() {
                return Err(Failure(1, verdict.problems.join("\n")));
            }
            // The exit code says it too.
            let _ = writeln!(
                out,
                "{} lanes, {} acknowledged operations, {} ledger rows: all as it should be",
                verdict.lanes, verdict.acknowledged, verdict.rows
            );
            Ok(())
        })
    }
}

fn read_acks(path: &Path) -> Result<Acks, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Acks::read(&bytes).map_err(|message| format!("{}: {message}", path.display()))
}

/// Why the probe failed, behind the exit code.
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

fn finish(command: impl Future<Output = Result<(), Failure>>) -> ExitCode {
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure(1, format!("the runtime could not be built: {error}")))
        .and_then(|runtime| runtime.block_on(command));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(code, message)) => {
            // With stderr gone there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "storage-probe: {message}");
            ExitCode::from(code)
        }
    }
}
