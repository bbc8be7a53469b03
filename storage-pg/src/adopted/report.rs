//! What reading an adopted database brought up.

use std::sync::Arc;

use storage_core::{ImportRecord, Money, Total, UserId};

/// What the adopted tables of the earlier system hold.
#[derive(Clone, Debug)]
pub struct Adopted {
    /// The good records: balances, languages, gifts, limits, quotas, spent, referrals, payments, jobs, history.
    pub records: Vec<AdoptedRecord>,
    /// Everything else that there is to say.
    pub report: AdoptedReport,
}

/// A good record, and where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedRecord {
    /// The table, by the name that it has now.
    pub table: &'static str,
    /// The row's primary key, its columns joined by slashes; of what several rows say together, `user` and the id.
    pub key: Arc<str>,
    /// The record.
    pub record: ImportRecord,
}

/// A row that breaks a rule and was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedRefusal {
    /// The table.
    pub table: &'static str,
    /// The row's key, as in [`AdoptedRecord::key`].
    pub key: String,
    /// The column and the rule it breaks.
    pub reason: String,
}

/// Money that had more than six decimals, as a fork's column may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedRounding {
    /// The table.
    pub table: &'static str,
    /// The row's key, as in [`AdoptedRecord::key`].
    pub key: String,
    /// What stands in the table.
    pub from: String,
    /// What it was rounded to, half-even.
    pub to: Money,
}

/// Something that an operator should know, though nothing was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedNote {
    /// The table.
    pub table: &'static str,
    /// The row's key; none when the note is about the table.
    pub key: Option<String>,
    /// What there is to know.
    pub note: String,
}

/// An approved payment that was credited once, several times, or never. It is imported as approved and never credits;
/// what its user got is for the operator to find out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UncertainAdoptedPayment {
    /// The table.
    pub table: &'static str,
    /// The payment's id.
    pub key: String,
    /// Who paid.
    pub user: UserId,
    /// How much.
    pub amount: Money,
}

/// A table that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedTable {
    /// Its name.
    pub table: &'static str,
    /// How many rows it has.
    pub rows: u64,
    /// How many good records it gave.
    pub records: u64,
    /// How many refusals. A row of settings may give two.
    pub refused: u64,
}

/// Rows that were not read, or a whole table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedLeftAlone {
    /// The table.
    pub table: &'static str,
    /// Which rows, and why.
    pub reason: String,
}

/// What there is to say about adopted tables besides their good records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdoptedReport {
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
    /// What was refused.
    pub refused: Vec<AdoptedRefusal>,
    /// What else an operator should know. Of notes with the same words the first 20 of a table name their row, and one
    /// more counts the rest.
    pub notes: Vec<AdoptedNote>,
    /// Each rounded amount.
    pub roundings: Vec<AdoptedRounding>,
    /// Approved payments of which nobody knows how often they were credited.
    pub uncertain_payments: Vec<UncertainAdoptedPayment>,
    /// Their sum.
    pub uncertain_sum: Total,
    /// The tables that were read. None: nothing was ever adopted here.
    pub tables: Vec<AdoptedTable>,
    /// What was not read, and why.
    pub left_alone: Vec<AdoptedLeftAlone>,
}
