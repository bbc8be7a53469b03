//! Lists of what has a status, and the walk through everything.

use std::fmt::Write as _;

use rusqlite::{ToSql, params};
use serde::de::DeserializeOwned;
use storage_core::{DumpRecord, Newest, Result, Timestamp, UserId};

use crate::rows::{ACCOUNTS, HISTORY, HOLDS, JOBS, KEYS, LEDGER, PAYMENTS, Rows, Table, select, to_i64};

/// Where a page of a list begins that goes backwards: with what is before this moment, name and user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Before<'l>(pub(crate) i64, pub(crate) &'l str, pub(crate) i64);

impl<'l> Before<'l> {
    /// Behind the last row that was seen, or at the end. `name` says what the row is called, and whose it is where another user may
    /// have one of that name.
    pub(crate) fn last<Id>(
        last: Option<&'l Newest<Id>>,
        name: impl FnOnce(&'l Id) -> (&'l str, Option<UserId>),
    ) -> Self {
        last.map_or(Self(i64::MAX, "", i64::MIN), |last| {
            let (name, user) = name(&last.id);
            // No number is less: so of that name there is no further row.
            Self(last.at.micros(), name, user.map_or(i64::MIN, UserId::get))
        })
    }

    /// With what is older. No name is empty.
    pub(crate) fn moment(moment: Timestamp) -> Self {
        Self(moment.micros(), "", i64::MIN)
    }
}

impl Rows<'_> {
    /// The newest records of a table that stand in one of `statuses`.
    ///
    /// An index that begins with the status has the rows of one status in the order of the list, not those of several. So each
    /// status is searched by itself, and SQLite merges what it finds, as far as it is wanted.
    pub(crate) fn newest<T: DeserializeOwned>(
        &self,
        table: Table,
        user: Option<UserId>,
        statuses: impl Iterator<Item = &'static str>,
        Before(moment, last, last_user): Before<'_>,
        most: usize,
    ) -> Result<Vec<T>> {
        let (user, most, key) = (user.map(UserId::get), to_i64(most), table.key);
        let statuses: Vec<&str> = statuses.collect();
        let mut values: Vec<&dyn ToSql> = vec![&user, &moment, &last, &last_user, &most];
        let mut sql = String::new();
        for status in &statuses {
            values.push(status);
            let status = values.len();
            let which = match user {
                Some(_) => format!("user = ?1 AND status = ?{status} AND (created_at, {key}) < (?2, ?3)"),
                None => format!("status = ?{status} AND (created_at, {key}, user) < (?2, ?3, ?4)"),
            };
            let union = if sql.is_empty() { "" } else { " UNION ALL " };
            // Writing to a String cannot fail.
            let _ = write!(sql, "{union}SELECT record, user, {key}, created_at FROM {} WHERE {which}", table.name);
        }
        let _ = write!(sql, " ORDER BY created_at DESC, {key} DESC, user DESC LIMIT ?5");
        self.records(table, &sql, values.as_slice())
    }

    /// Shows every record in the dump's order, which each table has as well.
    pub(crate) fn each_of_all(
        &self,
        whose: Option<UserId>,
        each: &mut dyn FnMut(DumpRecord) -> Result<()>,
    ) -> Result<()> {
        self.each_of(ACCOUNTS, whose, each, DumpRecord::Account)?;
        self.each_of(HISTORY, whose, each, DumpRecord::Generation)?;
        self.each_of(HOLDS, whose, each, DumpRecord::Hold)?;
        self.each_of(JOBS, whose, each, DumpRecord::Job)?;
        self.each_of(KEYS, whose, each, DumpRecord::Key)?;
        self.each_of(LEDGER, whose, each, DumpRecord::Ledger)?;
        self.each_of(PAYMENTS, whose, each, DumpRecord::Payment)
    }

    fn each_of<T: DeserializeOwned>(
        &self,
        table: Table,
        whose: Option<UserId>,
        each: &mut dyn FnMut(DumpRecord) -> Result<()>,
        of: impl Fn(T) -> DumpRecord,
    ) -> Result<()> {
        let (first, last) = whose.map_or((i64::MIN, i64::MAX), |user| (user.get(), user.get()));
        let sql = select(table, &format!("WHERE user BETWEEN ?1 AND ?2 ORDER BY {}", table.order));
        self.each_record(table, &sql, params![first, last], |record| each(of(record)))
    }
}
