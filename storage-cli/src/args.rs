//! The command line: its words, and how flags and environment variables become a configuration.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use storage_core::{
    Actor, Amount, Cursor, Destination, HistoryRetention, JobId, JobStatus, Language, Note, OperationKey, PageRequest,
    PageSize, PaymentId, PaymentStatus, TimeZone, UserId,
};
use storage_factory::{Config, choose};

use crate::context::Context;
use crate::endpoint::Endpoint;
use crate::exit::Failure;
use crate::output::Output;

/// Look into, correct, import, verify, dump and restore a generation storage.
///
/// Data goes to stdout; plans, progress, prompts and errors go to stderr.
#[derive(Debug, Parser)]
#[command(name = "storage", version, after_help = EXIT_CODES, max_term_width = 110, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    everywhere: Everywhere,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 usage, 3 pending migrations, 4 differences found, 5 locked, 6 cannot connect, \
7 refused.
An empty environment variable counts as unset; a flag wins over its variable. The policy comes from \
STORAGE_TIME_ZONE, STORAGE_DAILY_FREE, STORAGE_MAIN_ADMIN, STORAGE_ADMIN_LIMIT, STORAGE_DEFAULT_LANGUAGE and \
STORAGE_HISTORY. PostgreSQL: STORAGE_SCHEMA, STORAGE_POOL_MIN, STORAGE_POOL_MAX, STORAGE_STATEMENTS, STORAGE_POOL_WAIT, \
STORAGE_STATEMENT_TIMEOUT, STORAGE_LOCK_TIMEOUT, STORAGE_DEADLINE, STORAGE_FALLBACK.";

/// The flags of every command. Their environment variables are read here and not by clap, which would print the
/// values in its help and its errors.
#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
struct Everywhere {
    #[arg(long, global = true, help = "The backend: auto, postgres or json [env: STORAGE_MODE]", value_name = "MODE")]
    mode: Option<OsString>,
    #[arg(long, global = true, help = "The PostgreSQL database [env: DATABASE_URL]", value_name = "URL")]
    database_url: Option<Secret>,
    #[arg(
        long,
        global = true,
        help = "The directory of the JSON backend, ./data when not given [env: DATA_DIR]",
        value_name = "DIR"
    )]
    data_dir: Option<PathBuf>,
    #[arg(long, global = true, help = "Answer with one JSON object [env: STORAGE_JSON]")]
    json: bool,
    #[arg(long, global = true, help = "Go on without asking [env: STORAGE_YES]")]
    yes: bool,
    #[arg(long, global = true, help = "Show what would be done, and change nothing [env: STORAGE_DRY_RUN]")]
    dry_run: bool,
}

/// A value that is never printed.
#[derive(Clone)]
struct Secret(OsString);

impl From<OsString> for Secret {
    fn from(value: OsString) -> Self {
        Self(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Which store this is, what is in it, and what to know about it; changes and creates nothing
    Status,
    /// Examine where the store lives, the disk or the server, with a remedy for each finding; opens and changes nothing
    Doctor,
    /// Prove the backend on a scratch area, then audit the store; real users are only read
    Verify,
    /// Bring in a directory that the earlier system left; what the store knows already is kept
    Import(ImportArgs),
    #[command(
        about = "Bring the PostgreSQL schema to this program's version, by MIGRATION_DATABASE_URL when that is set"
    )]
    Migrate(MigrateArgs),
    #[command(
        about = "Spread the tables by user over the nodes of a sharding engine (Citus); nothing to do where there is none"
    )]
    Shard(ShardArgs),
    /// Give a store another time zone and history retention; nobody else may have it open
    Policy {
        /// Where a day begins, an IANA name; as it is when not given
        #[arg(long, value_name = "ZONE", required_unless_present = "history")]
        time_zone: Option<TimeZone>,
        /// How many history entries of a user are kept, or everything; as it is when not given
        #[arg(long, value_name = "COUNT", value_parser = storage_factory::parse_history)]
        history: Option<HistoryRetention>,
    },
    /// Write every record to a file, or to stdout
    Dump {
        /// The file; - is stdout
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Load a dump into an empty store
    Restore {
        /// The file; - is stdin
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Dump into a new file of a directory, prove it by a restore, and keep the newest ones
    Backup(BackupArgs),
    /// Copy everything from one store into another, empty one, and prove that it arrived
    Copy(CopyArgs),
    /// Do on one store what another did while it stood in for it, once, by the operations' own keys
    Merge(MergeArgs),
    /// Compare two stores record by record; exit with 4 when they differ
    Compare(CompareArgs),
    /// Let a store take changes again that was marked as moved
    Lift {
        /// The place that the mark names; `storage status` shows it
        place: Destination,
    },
    /// Users and their money
    #[command(subcommand)]
    User(UserCommand),
    /// Payments
    #[command(subcommand)]
    Payments(PaymentsCommand),
    /// Generation jobs
    #[command(subcommand)]
    Jobs(JobsCommand),
    /// A user's generations, newest first
    History {
        /// The user's id
        #[arg(allow_negative_numbers = true)]
        user: UserId,
        #[command(flatten)]
        page: Paging<10>,
    },
    /// Who brought a user, and whom the user brought
    Referrals {
        /// The user's id
        #[arg(allow_negative_numbers = true)]
        user: UserId,
        #[command(flatten)]
        page: Paging<100>,
    },
    /// Add up the ledger and compare it with what the store answers
    Audit {
        /// Only this user
        #[arg(long, value_name = "ID", allow_negative_numbers = true)]
        user: Option<UserId>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The directory that the earlier system left; it is only read
    pub(crate) dir: PathBuf,
    /// Exit with 4 when a record was refused
    #[arg(long)]
    pub(crate) strict: bool,
    /// The zone of times that were written without one, an IANA name
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    pub(crate) time_zone: TimeZone,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The directory that holds the backups
    pub(crate) dir: PathBuf,
    /// How many stay, the new one included; older ones are removed when the new one is proved. All when not given
    #[arg(long, value_name = "COUNT")]
    pub(crate) keep: Option<NonZeroU32>,
    /// How it is compressed
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Compression::Zst)]
    pub(crate) compress: Compression,
}

/// How a backup is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compression {
    /// Zstandard
    Zst,
    /// gzip
    Gz,
    /// Not at all
    None,
}

#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    #[arg(help = "The source: json:DIR, a PostgreSQL URL, or the word DATABASE_URL", long, value_name = "STORE")]
    pub(crate) from: Endpoint,
    #[arg(
        help = "The target, which must be empty: json:DIR, a PostgreSQL URL, or the word DATABASE_URL",
        long,
        value_name = "STORE"
    )]
    pub(crate) to: Endpoint,
    /// Do not mark the source as moved: it goes on being used, and the copy is of one moment
    #[arg(long)]
    pub(crate) keep_source: bool,
    /// Write the receipt into a file too, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) receipt: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    #[arg(
        help = "The store that stood in: json:DIR, a PostgreSQL URL, or the word DATABASE_URL",
        long,
        value_name = "STORE"
    )]
    pub(crate) from: Endpoint,
    #[arg(
        help = "The store that goes on: json:DIR, a PostgreSQL URL, or the word DATABASE_URL",
        long,
        value_name = "STORE"
    )]
    pub(crate) to: Endpoint,
    /// Do not mark the source as moved: it goes on being used, and what it does next is for another merge
    #[arg(long)]
    pub(crate) keep_source: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    #[arg(help = "One store: json:DIR, a PostgreSQL URL, or the word DATABASE_URL", value_name = "STORE")]
    pub(crate) from: Endpoint,
    #[arg(help = "The other one, written in the same way", value_name = "STORE")]
    pub(crate) to: Endpoint,
}

#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = false, args = ["check", "apply"])]
pub(crate) struct ShardArgs {
    /// Only say what is to be spread; exit with 3 when something is
    #[arg(long)]
    pub(crate) check: bool,
    /// Spread what is not spread yet; repeating it is harmless
    #[arg(long)]
    pub(crate) apply: bool,
    /// How long to wait for others and for locks
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) wait: u64,
}

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// Only say what is pending; exit with 3 when something is
    #[arg(long, conflicts_with = "adopt")]
    pub(crate) check: bool,
    /// How long to wait for other migrations and for locks
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) wait: u64,
    /// Adopt the earlier system's tables: they stay under other names, and their rows are imported
    #[arg(long)]
    pub(crate) adopt: bool,
    /// With --adopt: exit with 4 when a row was refused
    #[arg(long, requires = "adopt")]
    pub(crate) strict: bool,
    /// With --adopt: the zone of times that were stored without one, an IANA name
    #[arg(long, value_name = "ZONE", default_value = "UTC", requires = "adopt")]
    pub(crate) time_zone: TimeZone,
}

/// Which page of a list.
#[derive(Debug, Args)]
pub(crate) struct Paging<const DEFAULT: u32> {
    /// How many rows, 1 to 1000
    #[arg(long, value_name = "ROWS", default_value_t = DEFAULT)]
    limit: u32,
    /// Go on behind this cursor: what the page before gave as `next`
    #[arg(long, value_name = "CURSOR")]
    after: Option<Cursor>,
}

impl<const DEFAULT: u32> Paging<DEFAULT> {
    pub(crate) fn request(&self) -> Result<PageRequest, Failure> {
        Ok(PageRequest { size: PageSize::new(self.limit)?, after: self.after.clone() })
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// All users by id
    List {
        #[command(flatten)]
        page: Paging<100>,
    },
    /// A statement: balance, holds, free generations, the last ledger lines
    Show {
        /// The user's id
        #[arg(allow_negative_numbers = true)]
        user: UserId,
        /// How many ledger lines, 1 to 1000
        #[arg(long, value_name = "ROWS", default_value_t = 10)]
        limit: u32,
    },
    /// Add to the balance
    Credit(MoneyArgs),
    /// Take from the balance
    Debit(MoneyArgs),
    /// Choose the language
    SetLanguage {
        /// The user's id
        #[arg(allow_negative_numbers = true)]
        user: UserId,
        /// A tag such as ru or pt-br
        language: Language,
        /// Makes the command repeatable: the same key and arguments change nothing twice
        #[arg(long)]
        key: Option<OperationKey>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct MoneyArgs {
    /// The user's id
    #[arg(allow_negative_numbers = true)]
    pub(crate) user: UserId,
    /// How much, such as 12.50
    pub(crate) amount: Amount,
    /// Makes the command repeatable: the same key and arguments change nothing twice
    #[arg(long)]
    pub(crate) key: Option<OperationKey>,
    /// Why, for the ledger
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<Note>,
    /// Who orders it, for the ledger
    #[arg(long, value_name = "NAME")]
    pub(crate) actor: Option<Actor>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PaymentsCommand {
    /// Payments, newest first
    List {
        /// Only of this user
        #[arg(long, value_name = "ID", allow_negative_numbers = true)]
        user: Option<UserId>,
        /// Only in this state: pending, approved, rejected, cancelled or refunded
        #[arg(long)]
        status: Option<PaymentStatus>,
        #[command(flatten)]
        page: Paging<100>,
    },
    /// One payment
    Show {
        /// The payment's id
        payment: PaymentId,
    },
    /// Credit a pending payment to its user
    Approve(DecisionArgs),
    /// Turn a pending payment down
    Reject(DecisionArgs),
    /// Take an approved payment back from the balance
    Refund(DecisionArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DecisionArgs {
    /// The payment's id
    pub(crate) payment: PaymentId,
    /// Makes the command repeatable: the same key and arguments change nothing twice
    #[arg(long)]
    pub(crate) key: Option<OperationKey>,
    /// Why; stored as the payment's notes
    #[arg(long, alias = "notes", value_name = "TEXT")]
    pub(crate) reason: Option<Note>,
    /// The id of the admin who decides; stored with the payment
    #[arg(long, alias = "actor", value_name = "ID", allow_negative_numbers = true)]
    pub(crate) admin: Option<UserId>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// Jobs, newest first
    List {
        /// Only of this user
        #[arg(long, value_name = "ID", allow_negative_numbers = true)]
        user: Option<UserId>,
        /// Only in these states, separated by commas: pending, running, completed, failed, cancelled
        #[arg(long, value_delimiter = ',')]
        status: Vec<JobStatus>,
        #[command(flatten)]
        page: Paging<100>,
    },
    /// One job
    Show {
        /// The job's id
        job: JobId,
    },
}

/// What became of a command line.
pub(crate) enum Parsed {
    /// Run this.
    Run(Box<Command>, Box<Context>),
    /// It is wrong.
    Wrong(Output, Failure),
    /// Help or version was asked for.
    Shown(clap::Error),
}

/// The variable whose database `storage migrate` prefers.
const MIGRATION_URL: &str = "MIGRATION_DATABASE_URL";

pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Reads arguments and environment.
pub(crate) fn parse(arguments: Vec<OsString>, environment: Lookup<'_>) -> Parsed {
    let json_flag = arguments.iter().any(|argument| argument == "--json");
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            let json = json_flag || switch("STORAGE_JSON", environment).unwrap_or(false);
            return Parsed::Wrong(Output::new(json, environment), Failure::Usage(error.render().to_string()));
        }
        Err(shown) => return Parsed::Shown(shown),
    };
    let Cli { everywhere, command } = cli;
    let json = everywhere.json || switch("STORAGE_JSON", environment).unwrap_or(false);
    let out = Output::new(json, environment);
    // Migrations want a direct connection, and often another role than the program's.
    let own_url = matches!(command, Command::Migrate(_) | Command::Shard(_))
        && everywhere.database_url.is_none()
        && environment(MIGRATION_URL).is_some_and(|url| !url.is_empty());
    let url_variable = if own_url { MIGRATION_URL } else { "DATABASE_URL" };
    match context(everywhere, out.clone(), environment, url_variable) {
        Ok(context) => Parsed::Run(Box::new(command), Box::new(context)),
        Err(failure) => Parsed::Wrong(out, failure),
    }
}

fn context(
    everywhere: Everywhere,
    out: Output,
    environment: Lookup<'_>,
    url_variable: &'static str,
) -> Result<Context, Failure> {
    let Everywhere { mode, database_url, data_dir, json: _, yes, dry_run } = everywhere;
    switch("STORAGE_JSON", environment)?;
    let config = Config::from_lookup(|name| {
        let flag = match name {
            "STORAGE_MODE" => mode.clone(),
            "DATABASE_URL" => database_url.as_ref().map(|secret| secret.0.clone()),
            "DATA_DIR" => data_dir.clone().map(OsString::from),
            _ => None,
        };
        flag.or_else(|| environment(if name == "DATABASE_URL" { url_variable } else { name }))
    })
    .map_err(|error| Failure::from(error).naming_url(url_variable))?;
    Ok(Context {
        choice: choose(&config)?,
        config,
        url_variable,
        out,
        yes: yes || switch("STORAGE_YES", environment)?,
        dry_run: dry_run || switch("STORAGE_DRY_RUN", environment)?,
    })
}

/// A variable that switches something on or off.
fn switch(name: &str, environment: Lookup<'_>) -> Result<bool, Failure> {
    let value = environment(name).unwrap_or_default().to_ascii_lowercase();
    match value.to_str() {
        Some("" | "0" | "false" | "no" | "off") => Ok(false),
        Some("1" | "true" | "yes" | "on") => Ok(true),
        _ => Err(Failure::Usage(format!("error: {name} must be 1, true, yes, on, 0, false, no, off or empty"))),
    }
}

/// Whether a file argument means stdin or stdout.
pub(crate) fn is_pipe(file: &std::path::Path) -> bool {
    file.as_os_str() == OsStr::new("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_secret_never_shows() {
        let url = "postgresql://bot:s3cret@h/d";
        let cli = Cli::try_parse_from(["storage", "status", "--database-url", url]).unwrap();
        assert!(!format!("{cli:?}").contains("s3cret"));
    }

    #[test]
    fn flags_win_over_variables_and_empty_ones_are_unset() {
        let read = |arguments: &[&str], variables: &[(&str, &str)]| {
            let environment =
                |name: &str| variables.iter().find(|(given, _)| *given == name).map(|(_, value)| OsString::from(value));
            let arguments = std::iter::once("storage").chain(arguments.iter().copied()).map(OsString::from).collect();
            match parse(arguments, &environment) {
                Parsed::Run(_, context) => Ok(context),
                Parsed::Wrong(_, failure) => Err(failure.exit()),
                Parsed::Shown(_) => panic!("help"),
            }
        };
        let context = read(&["status", "--data-dir", "/a"], &[("DATA_DIR", "/b"), ("STORAGE_YES", "1")]).unwrap();
        assert_eq!(context.config.data_dir, PathBuf::from("/a"));
        assert!(context.yes && !context.dry_run);
        let context = read(&["status"], &[("DATA_DIR", "/b"), ("STORAGE_YES", ""), ("STORAGE_MODE", "")]).unwrap();
        assert_eq!(context.config.data_dir, PathBuf::from("/b"));
        assert!(!context.yes);
        let url = ("DATABASE_URL", "postgresql://pooled/d");
        let direct = ("MIGRATION_DATABASE_URL", "postgresql://direct/d");
        let shown = |arguments: &[&str], variables: &[(&str, &str)]| {
            read(arguments, variables).unwrap().config.database_url.unwrap().to_string()
        };
        assert_eq!(shown(&["migrate"], &[url, direct]), direct.1);
        assert_eq!(shown(&["migrate"], &[url, ("MIGRATION_DATABASE_URL", "")]), url.1);
        assert_eq!(shown(&["status"], &[url, direct]), url.1);
        assert_eq!(shown(&["migrate", "--database-url", "postgresql://flag/d"], &[url, direct]), "postgresql://flag/d");
        for wrong in [("STORAGE_YES", "maybe"), ("STORAGE_JSON", "2"), ("STORAGE_MODE", "sqlite")] {
            assert_eq!(read(&["status"], &[wrong]).unwrap_err(), crate::Exit::Usage, "{wrong:?}");
        }
    }
}
