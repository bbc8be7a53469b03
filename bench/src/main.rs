//! Measurements: what a durable change costs beside a bare disk write, how long importing and opening take, how the JSON
//! backend does beside other embedded stores, and the PostgreSQL backend beside `pgbench` and other clients.
//!
//! Times of a shared machine mean little; ratios of things measured in turns within one run mean something. So
//! `single` alternates between a bare append with `fdatasync`, one task and many tasks, and prints medians of the
//! ratios of each round, and so do `json` and `pg`.

#![expect(clippy::float_arithmetic, reason = "rates and ratios of measured times; no money is computed here")]

mod cpu;
#[cfg(test)]
mod documented;
mod draw;
mod forms;
mod import;
mod json;
mod locked;
mod looks;
mod migrating;
mod open;
mod pg;
mod plot;
mod result;
mod single;
mod stopped;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use self::result::{Report, circumstances};

/// Measurements of the generation storage.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Print one JSON object instead of a table
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Durable credits by one task and by many, beside a bare append and fdatasync on the same disk
    Single(SingleArgs),
    /// Import of a directory that the earlier system left
    Import(ImportArgs),
    /// Opening a store that was closed cleanly
    Open(OpenArgs),
    /// How long the calls of a saturated writer wait while a second process opens the store, again and again
    Opening(json::beside::OpeningArgs),
    /// The PostgreSQL backend beside pgbench, sqlx and deadpool-postgres, with the same statements on the same server
    Pg(pg::PgArgs),
    /// The JSON backend beside a bare gathered append, SQLite, redb and fjall, durable against durable
    Json(json::JsonArgs),
    /// Memory while a stopped process holds the writer lock and calls go on coming
    Stopped(stopped::StoppedArgs),
    /// What a user whose row somebody holds costs the others, on PostgreSQL
    Locked(locked::LockedArgs),
    /// What each fast form of the PostgreSQL backend gains
    Forms(forms::FormsArgs),
    /// What a migration that waits for a table costs a bot, on PostgreSQL
    Migrating(migrating::MigratingArgs),
    /// Looks at a large store, and how long each keeps others from it
    Looks(looks::LooksArgs),
    /// SVG plots of figures that `json --json` and `pg --json` printed earlier
    Plot(plot::PlotArgs),
    /// A process of `json`'s own
    #[command(hide = true)]
    JsonChild(json::child::ChildArgs),
    /// A process of `stopped`'s own
    #[command(hide = true)]
    LockHolder(stopped::HolderArgs),
}

#[derive(Debug, Args)]
struct SingleArgs {
    /// Users that the store holds beforehand
    #[arg(long, default_value_t = 1000)]
    users: u32,
    /// Seconds for everything, divided among the rounds
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Rounds; each measures the bare loop, one task and many tasks
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How many tasks "many" are
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..))]
    tasks: u32,
    /// Bytes of one line of the bare loop
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    line: u32,
    /// Where the scratch directory is made: the disk that is measured
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct ImportArgs {
    /// The legacy directory; it is only read
    legacy: PathBuf,
    /// Keep the imported store here, a directory that does not exist yet; without it a scratch directory is used
    #[arg(long, value_name = "DATA_DIR")]
    keep: Option<PathBuf>,
    /// Where the scratch directory is made: the disk that is measured
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct OpenArgs {
    /// The data directory
    data_dir: PathBuf,
    /// How often it is opened and closed
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

fn boxed(report: impl Report + 'static) -> Box<dyn Report> {
    Box::new(report)
}

fn main() -> ExitCode {
    let Arguments { command, json } = Arguments::parse();
    let began = circumstances();
    let measured = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime could not be built: {error}"))
        .and_then(|runtime| {
            runtime.block_on(async {
                match command {
                    Command::Single(arguments) => single::measure(arguments).await.map(boxed),
                    Command::Import(arguments) => import::measure(arguments).await.map(boxed),
                    Command::Open(arguments) => open::measure(arguments).await.map(boxed),
                    Command::Opening(arguments) => json::beside::measure(arguments).await.map(boxed),
                    Command::Pg(arguments) => pg::measure(arguments).await,
                    Command::Json(arguments) => json::measure(arguments).await,
                    Command::Plot(arguments) => plot::draw(arguments).map(boxed),
                    Command::Stopped(arguments) => stopped::measure(arguments).await.map(boxed),
                    Command::Locked(arguments) => locked::measure(arguments).await.map(boxed),
                    Command::Forms(arguments) => forms::measure(arguments).await.map(boxed),
                    Command::Migrating(arguments) => migrating::measure(arguments).await.map(boxed),
                    Command::Looks(arguments) => looks::measure(arguments).await.map(boxed),
                    Command::JsonChild(arguments) => json::child::run(arguments).await,
                    Command::LockHolder(arguments) => stopped::hold(arguments).await,
                }
            })
        });
    let (text, code) = match measured {
        Ok(table) if json => {
            let mut figures = table.to_json();
            figures["began"] = began;
            (format!("{figures:#}\n"), ExitCode::SUCCESS)
        }
        Ok(table) => (table.to_text(), ExitCode::SUCCESS),
        Err(message) => {
            let _ = writeln!(std::io::stderr(), "storage-bench: {message}");
            return ExitCode::FAILURE;
        }
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}
