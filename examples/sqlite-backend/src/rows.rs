//! How a record is read and written.

use std::path::Path;

use rusqlite::types::{FromSql, ValueRef};
use rusqlite::{Connection, Params, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;
use storage_core::{Error, Place, Result};

use crate::error::of_sqlite;

/// A table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// The column that names a record among those of a user; NULL where a user has but one.
    pub(crate) key: &'static str,
    /// The primary key, which is the dump's order.
    pub(crate) order: &'static str,
}

pub(crate) const ACCOUNTS: Table = Table { name: "accounts", key: "NULL", order: "user" };
pub(crate) const HISTORY: Table = Table { name: "history", key: "id", order: "user, id" };
pub(crate) const HOLDS: Table = Table { name: "holds", key: "name", order: "user, name" };
pub(crate) const JOBS: Table = Table { name: "jobs", key: "id", order: "user, id" };
pub(crate) const KEYS: Table = Table { name: "keys", key: "id", order: "user, id" };
pub(crate) const LEDGER: Table = Table { name: "ledger", key: "seq", order: "user, seq" };
pub(crate) const PAYMENTS: Table = Table { name: "payments", key: "id", order: "user, id" };

/// The store within a transaction of a connection.
#[derive(Debug)]
pub(crate) struct Rows<'c> {
    connection: &'c Connection,
    path: &'c Path,
}

impl<'c> Rows<'c> {
    pub(crate) fn new(connection: &'c Connection, path: &'c Path) -> Self {
        Self { connection, path }
    }

    /// What an error of SQLite's means.
    fn failed(&self, error: rusqlite::Error) -> Error {
        of_sqlite(self.path, error)
    }

    /// Fails when SQLite has ended the transaction on its own, as it does after an I/O error or on a full disk. Each further
    /// statement would be a transaction by itself.
    pub(crate) fn check_transaction(&self) -> Result<()> {
        if self.connection.is_autocommit() {
            return Err(Error::internal("SQLite gave the transaction up after an earlier failure"));
        }
        Ok(())
    }

    /// Changes rows.
    pub(crate) fn change(&self, sql: &str, values: impl Params) -> Result<()> {
        self.check_transaction()?;
        let change = || self.connection.prepare_cached(sql)?.execute(values);
        change().map(drop).map_err(|error| self.failed(error))
    }

    /// Shows each row that a statement finds.
    pub(crate) fn each(
        &self,
        sql: &str,
        values: impl Params,
        mut each: impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        self.each_while(sql, values, |row| each(row).map(|()| true))
    }

    /// Shows each row that a statement finds, as long as the answer is yes.
    pub(crate) fn each_while(
        &self,
        sql: &str,
        values: impl Params,
        mut each: impl FnMut(&Row<'_>) -> Result<bool>,
    ) -> Result<()> {
        let mut statement = self.connection.prepare_cached(sql).map_err(|error| self.failed(error))?;
        let mut rows = statement.query(values).map_err(|error| self.failed(error))?;
        while let Some(row) = rows.next().map_err(|error| self.failed(error))? {
            if !each(row)? {
                break;
            }
        }
        Ok(())
    }

    /// The first column of the only row there is, as it is in the file.
    pub(crate) fn value<T: FromSql>(&self, sql: &str, values: impl Params) -> Result<Option<T>> {
        let mut value = None;
        self.each(sql, values, |row| {
            value = Some(row.get(0).map_err(|error| self.failed(error))?);
            Ok(())
        })?;
        Ok(value)
    }

    /// The records that a [`select`] finds.
    pub(crate) fn records<T: DeserializeOwned>(&self, table: Table, sql: &str, values: impl Params) -> Result<Vec<T>> {
        let mut records = Vec::new();
        let push = |record| {
            records.push(record);
            Ok(())
        };
        self.each_record(table, sql, values, push)?;
        Ok(records)
    }

    /// Shows each record that a [`select`] finds.
    pub(crate) fn each_record<T: DeserializeOwned>(
        &self,
        table: Table,
        sql: &str,
        values: impl Params,
        mut each: impl FnMut(T) -> Result<()>,
    ) -> Result<()> {
        self.each(sql, values, |row| {
            let text = row.get_ref(0).ok().and_then(|text| text.as_str().ok()).unwrap_or_default();
            each(serde_json::from_str(text).map_err(|error| self.damaged(table, row).caused_by(error))?)
        })
    }

    /// That a record is damaged, by its name: user and key are the second and third column.
    pub(crate) fn damaged(&self, table: Table, row: &Row<'_>) -> Error {
        let column = |at| match row.get_ref(at) {
            Ok(ValueRef::Integer(number)) => Some(number.to_string()),
            Ok(value) => value.as_str().ok().map(str::to_owned),
            Err(_) => None,
        };
        let key = [1, 2].into_iter().filter_map(column).collect::<Vec<_>>().join("/");
        Error::corrupt(self.place(table.name).key(key), "the record is not what this program writes")
    }

    /// A table of this file.
    pub(crate) fn place(&self, table: &str) -> Place {
        Place::new(format!("table {table} of {}", self.path.display()))
    }
}

/// A statement that finds records of a table, with the columns that name them.
pub(crate) fn select(table: Table, which: &str) -> String {
    let Table { name, key, .. } = table;
    format!("SELECT record, user, {key} FROM {name} {which}")
}

/// A record as it is stored.
pub(crate) fn text_of(record: &impl Serialize) -> Result<String> {
    serde_json::to_string(record).map_err(|error| Error::internal("a record has no JSON form").caused_by(error))
}

/// A count, for SQLite. What is more than it can count is as good as the most.
pub(crate) fn to_i64(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}
