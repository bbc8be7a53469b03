//! The command `storage`: migrate, import, look into, correct, verify, move, merge and back up a generation storage.
//!
//! Data goes to stdout; plans, progress, prompts and errors go to stderr. With `--json` stdout gets exactly one JSON
//! object: the answer, or `{"error": {...}}`. A list's object has `items` and `next`. Money is always text.
//! An error that stdout does not take goes to stderr.
//!
//! A command that changes something shows its plan first. `--dry-run` stops there. On a terminal it asks; elsewhere it
//! goes on only with `--yes`.
//!
//! | exit code | meaning |
//! | --- | --- |
//! | 0 | done |
//! | 1 | failed |
//! | 2 | the command line or an environment variable is wrong |
//! | 3 | the store has another format, schema or policy than this program wants; migrations are pending |
//! | 4 | differences found: by `audit`, `verify`, `compare` or `copy`; something left to a person by `merge`; records refused by `import --strict` or `migrate --adopt --strict`; something bad found by `doctor` |
//! | 5 | another process keeps the store, or a wait ran out |
//! | 6 | the store cannot be reached, or does not let this user in |
//! | 7 | refused: not confirmed, it would overwrite something, the store was moved, or `auto` would switch between two stores |
//!
//! To add a command: a variant and its arguments in `args/words.rs`, one function in the file of its group, one line in
//! `dispatch` here, examples in `examples.rs`, a transcript in `tests/transcripts`. It takes the `Context`, answers an
//! [`Exit`] or a failure, and prints through `output.rs` alone. What takes long looks at `interrupt.rs`.

#[cfg(feature = "postgres")]
mod adopt;
mod args;
mod audit;
mod backup;
mod compare;
mod confirm;
mod context;
mod copy;
mod doctor;
mod dump;
mod endpoint;
mod examples;
mod exit;
mod history;
mod import;
mod interrupt;
mod jobs;
mod lift;
mod manual;
mod merge;
mod migrate;
mod output;
mod payments;
mod policy;
mod progress;
mod referrals;
mod shard;
mod status;
mod stream;
mod users;
mod verify;

pub use exit::Exit;

use std::ffi::OsString;
use std::process::ExitCode;

use args::{Command, Lookup, Parsed};
use context::Context;
use exit::{Failure, Outcome};

/// Runs the command with the process's arguments and environment.
pub fn main() -> ExitCode {
    run(std::env::args_os().collect(), &|name| std::env::var_os(name)).into()
}

/// Runs the command with these arguments (the program's name first) and these environment variables.
pub fn run(arguments: Vec<OsString>, environment: &dyn Fn(&str) -> Option<OsString>) -> Exit {
    match args::parse(arguments, environment) {
        Parsed::Run(command, context) => {
            let outcome = block_on(*command, &context, environment);
            outcome.unwrap_or_else(|failure| context.out.failure(&failure.advised(&context)))
        }
        Parsed::About(command, out) => manual::run(*command).unwrap_or_else(|failure| out.failure(&failure)),
        Parsed::Wrong(out, failure) => out.failure(&failure),
        // Help and version: what clap could not print, nobody reads.
        Parsed::Shown(text) => text.print().map_or(Exit::Failed, |()| Exit::Done),
    }
}

fn block_on(command: Command, context: &Context, environment: Lookup<'_>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("the runtime could not be started", error))?;
    let stop = interrupt::Stop::of(&command);
    let work = dispatch(command, context, environment);
    let outcome = runtime.block_on(interrupt::until_asked(stop, &context.out, work));
    // A read of stdin that nobody waits for any more must not keep the process.
    runtime.shutdown_background();
    outcome
}

async fn dispatch(command: Command, context: &Context, environment: Lookup<'_>) -> Outcome {
    match command {
        Command::Status => status::status(context).await,
        Command::Doctor => doctor::doctor(context).await,
        Command::Verify => verify::verify(context).await,
        Command::Import(arguments) => import::import(context, arguments).await,
        Command::Migrate(arguments) => migrate::migrate(context, arguments).await,
        Command::Shard(arguments) => shard::shard(context, arguments).await,
        Command::Policy { time_zone, history } => policy::policy(context, time_zone, history).await,
        Command::Dump { file } => dump::dump(context, &file).await,
        Command::Restore { file } => dump::restore(context, &file).await,
        Command::Backup(arguments) => backup::run(context, arguments).await,
        Command::Copy(arguments) => copy::run(context, arguments, environment).await,
        Command::Merge(arguments) => merge::run(context, arguments, environment).await,
        Command::Compare(arguments) => compare::run(context, arguments, environment).await,
        Command::Lift { place } => lift::run(context, place).await,
        Command::Completions { .. } | Command::Man { .. } => manual::run(command),
        Command::User(command) => users::run(context, command).await,
        Command::Payments(command) => payments::run(context, command).await,
        Command::Jobs(command) => jobs::run(context, command).await,
        Command::History { user, page } => history::history(context, user, &page).await,
        Command::Referrals { user, page } => referrals::referrals(context, user, &page).await,
        Command::Audit { user } => audit::audit(context, user).await,
    }
}
