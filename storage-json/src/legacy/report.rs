//! What reading a data directory of the earlier system found.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use storage_core::{ImportRecord, Money, TimeZone, Timestamp, Total, UserId};

/// How a data directory is read.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// The zone of times that were written without one. Default UTC.
    pub time_zone: TimeZone,
    /// The present moment: the time of a record that has none, in a file whose own time cannot be told.
    pub now: Timestamp,
    /// Files of other names, by the usual name without `.json`; a relative one is looked for in the directory.
    pub map: BTreeMap<String, PathBuf>,
}

impl ReadOptions {
    /// Times without a zone are UTC, and files have their usual names.
    pub fn new(now: Timestamp) -> Self {
        Self { time_zone: TimeZone::UTC, now, map: BTreeMap::new() }
    }
}

/// How far reading has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The file that is being read.
    pub file: &'a str,
    /// Bytes read so far, over all files.
    pub done: u64,
    /// Bytes to read, over all files.
    pub total: u64,
}

/// What a data directory of the earlier system holds.
#[derive(Clone, Debug)]
pub struct Legacy {
    /// The good records: balances, languages, gifts, quotas, limits, spent, referrals, payments, jobs, history.
    pub records: Vec<LegacyRecord>,
    /// Everything else that there is to say.
    pub report: Report,
}

/// A good record, and where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyRecord {
    /// The file's name.
    pub file: Arc<str>,
    /// The record's key in the file; of an entry in a list, the list's key, a slash and the position from 1.
    pub key: Arc<str>,
    /// The record.
    pub record: ImportRecord,
}

/// A record that breaks a rule and was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The file's name.
    pub file: String,
    /// The record's key, as in [`LegacyRecord::key`].
    pub key: String,
    /// The field and the rule it breaks.
    pub reason: String,
}

/// Money that had more than six decimals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoundedMoney {
    /// The file's name.
    pub file: String,
    /// The record's key, as in [`LegacyRecord::key`].
    pub key: String,
    /// What stands in the file.
    pub from: String,
    /// What it was rounded to, half-even.
    pub to: Money,
}

/// Something that an operator should know, though nothing was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileNote {
    /// The file's name.
    pub file: String,
    /// The record's key; none when the note is about the file.
    pub key: Option<String>,
    /// What there is to know.
    pub note: String,
}

/// An approved payment of which the files do not say that it was ever credited. It is imported as approved and
/// never credits; whether its user was paid is for the operator to find out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UncertainPayment {
    /// The file's name.
    pub file: String,
    /// The payment's id.
    pub key: String,
    /// Who paid.
    pub user: UserId,
    /// How much.
    pub amount: Money,
}

/// Something that people had and that has no counterpart here: it is listed and not brought in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unsettled {
    /// The file's name.
    pub file: String,
    /// The record's key, as in [`LegacyRecord::key`].
    pub key: String,
    /// Whose, when it is somebody's.
    pub user: Option<UserId>,
    /// How much, when it is money.
    pub amount: Option<Money>,
    /// What it is.
    pub what: String,
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileSeen {
    /// The file's name.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// How many good records it gave.
    pub records: u64,
    /// How many were refused.
    pub refused: u64,
}

/// A file or directory that was not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftAlone {
    /// Its name.
    pub file: String,
    /// Why.
    pub reason: String,
}

/// What there is to say about a data directory besides its good records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many users the good records create.
    pub users: u64,
    /// The sum of the good balances.
    pub balance_sum: Total,
    /// How many payments are good.
    pub payments: u64,
    /// How many jobs are good.
    pub jobs: u64,
    /// How many history entries are good.
    pub history_records: u64,
    /// How many amounts were rounded to six decimals.
    pub rounded: u64,
    /// The records that were refused.
    pub refused: Vec<Refusal>,
    /// What else an operator should know. Of notes with the same words the first 20 of a file name their record,
    /// and one more counts the rest.
    pub notes: Vec<FileNote>,
    /// Each rounded amount.
    pub roundings: Vec<RoundedMoney>,
    /// Approved payments of which nobody knows whether they were credited.
    pub uncertain_payments: Vec<UncertainPayment>,
    /// Their sum.
    pub uncertain_sum: Total,
    /// Open holds, bonus balances, promotion codes, blocks: for the operator to settle.
    pub unsettled: Vec<Unsettled>,
    /// The sum of the amounts among them.
    pub unsettled_sum: Total,
    /// The files that were read.
    pub files: Vec<FileSeen>,
    /// The files and directories that were not, and why.
    pub left_alone: Vec<LeftAlone>,
    /// Leftovers of writing and locking that hold no records of their own.
    pub ignored: Vec<String>,
}
