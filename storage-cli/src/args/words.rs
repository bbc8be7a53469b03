//! The commands and their arguments.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use storage_core::{
    Actor, Amount, Cursor, Destination, HistoryRetention, JobId, JobStatus, Language, Note, OperationKey, PageRequest,
    PageSize, PaymentId, PaymentStatus, TimeZone, UserId,
};

use crate::endpoint::Endpoint;
use crate::exit::Failure;

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
        #[arg(long, value_name = "COUNT")]
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
    /// Write a completion script for a shell to stdout
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual: the page of this command to stdout, or all pages into a directory
    Man {
        /// Where the pages go, storage.1 and one for each command; it must be there
        dir: Option<PathBuf>,
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
    /// A file of another name: its usual one without .json, such as `user_balances=balances-2025.json`; may be repeated
    #[arg(long, value_name = "ROLE=FILE", value_parser = mapping)]
    pub(crate) map: Vec<(String, PathBuf)>,
}

/// Which file stands for which.
fn mapping(text: &str) -> Result<(String, PathBuf), String> {
    let known = || storage_json::legacy::roles().collect::<Vec<_>>().join(", ");
    match text.split_once('=') {
        Some((role, file)) if !file.is_empty() => {
            let role = role.strip_suffix(".json").unwrap_or(role);
            if storage_json::legacy::roles().any(|known| known == role) {
                Ok((role.to_owned(), file.into()))
            } else {
                Err(format!("{role:?} is no file of the earlier system; there are: {}", known()))
            }
        }
        _ => Err(format!("must be ROLE=FILE, where ROLE is one of {}", known())),
    }
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
    /// How long to wait for the server to come up, for other migrations and for locks; without it 60 for others and for locks alone
    #[arg(long, value_name = "SECONDS")]
    pub(crate) wait: Option<u64>,
    /// Adopt the earlier system's tables: they stay under other names, and their rows are imported
    #[arg(long)]
    pub(crate) adopt: bool,
    /// With --adopt: exit with 4 when a row was refused
    #[arg(long, requires = "adopt")]
    pub(crate) strict: bool,
    /// With --adopt: the zone of times that were stored without one, an IANA name
    #[arg(long, value_name = "ZONE", default_value = "UTC", requires = "adopt")]
    pub(crate) time_zone: TimeZone,
    /// Only print the SQL that gives a role the least rights to run the store; the owner of the tables runs it
    #[arg(long, value_name = "ROLE", conflicts_with_all = ["check", "adopt"])]
    pub(crate) grants: Option<String>,
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
