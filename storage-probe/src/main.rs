//! The probe on the stores of this workspace: `storage-probe run DIR|URL SEED N` and `storage-probe verify DIR|URL ACKS [N]`.

mod store;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use store::{Limited, Place, Scratch};

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
        #[command(flatten)]
        run: storage_probe::Run,
        #[command(flatten)]
        schema: Scratch,
        #[command(flatten)]
        limits: Limited,
    },
    /// Compares the store with what was acknowledged; exit code 0 when all is well, 3 when it does not open.
    Verify {
        #[command(flatten)]
        verify: storage_probe::Verify,
        #[command(flatten)]
        schema: Scratch,
    },
    /// Makes the scratch schema of a database anew, with empty tables. Touches no other schema.
    Reset {
        /// The URL of the database.
        store: String,
        #[command(flatten)]
        schema: Scratch,
    },
}

fn main() -> ExitCode {
    perform(Arguments::parse().command).unwrap_or_else(|(code, message)| {
        // With stderr gone there is nobody left to tell.
        let _ = writeln!(std::io::stderr(), "storage-probe: {message}");
        ExitCode::from(code)
    })
}

/// The error is an exit code as those of `storage_probe::main`, with what to say.
fn perform(command: Command) -> Result<ExitCode, (u8, String)> {
    let place = |store: &str, schema: Scratch| Place::of(store, schema.schema).map_err(|message| (2, message));
    let mut out = std::io::stdout();
    match command {
        Command::Run { run, schema, limits } => {
            Ok(run.perform(&place(run.store(), schema)?.limited(&limits), &mut out))
        }
        Command::Verify { verify, schema } => Ok(verify.perform(&place(verify.store(), schema)?, &mut out)),
        Command::Reset { store, schema } => match place(&store, schema)? {
            Place::Database(options) => {
                store::reset(&options).map_err(|error| (3, error.report().to_string()))?;
                Ok(ExitCode::SUCCESS)
            }
            Place::Directory(..) => Err((2, "only a database is reset: remove a directory yourself".to_owned())),
        },
    }
}
