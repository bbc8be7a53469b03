//! How a transaction runs.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use storage_core::serial::{Engine, Unit};
use storage_core::{Applied, Error, ErrorKind, Result};

use crate::error::{of_commit, of_sqlite};
use crate::found::{IfMissing, connect};
use crate::rows::Rows;

/// A handle's way to its file.
#[derive(Debug)]
pub(crate) struct Sqlite {
    path: PathBuf,
    /// The first transaction opens it. That runs on the storage's own thread, so no task of the caller waits for the file.
    pub(crate) connection: Option<Connection>,
    if_missing: IfMissing,
}

impl Sqlite {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, connection: None, if_missing: IfMissing::Create }
    }

    /// Runs `work` between `begin` and a commit, and rolls back what failed.
    fn run(
        &mut self,
        begin: &str,
        work: impl FnOnce(&mut Rows<'_>) -> Result<()>,
        failed_commit: impl FnOnce(&Path, rusqlite::Error) -> Error,
    ) -> Result<()> {
        // The connection is put back only when it is sound. Otherwise, also after a panic, it is closed, which rolls back.
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(&self.path, self.if_missing)?,
        };
        // The store exists from now on. A later connection must not found a new one where the file is missing or empty.
        self.if_missing = IfMissing::Fail;
        let outcome = connection.execute_batch(begin).map_err(|error| of_sqlite(&self.path, error)).and_then(|()| {
            let mut rows = Rows::new(&connection, &self.path);
            work(&mut rows)?;
            // SQLite ends a transaction on its own after some failures, and `work` may have taken that for one call's failure.
            rows.check_transaction()?;
            connection.execute_batch("COMMIT").map_err(|error| failed_commit(&self.path, error))
        });
        // A sync may have failed. The next one can succeed without writing what the first one lost; connecting anew writes it again.
        let is_sound = outcome
            .as_ref()
            .map_or_else(|error| error.applied() == Applied::No && *error.kind() != ErrorKind::Unavailable, |()| true);
        if is_sound && (connection.is_autocommit() || connection.execute_batch("ROLLBACK").is_ok()) {
            self.connection = Some(connection);
        }
        outcome
    }
}

impl Engine for Sqlite {
    fn together(&mut self, work: &mut dyn FnMut(&mut dyn Unit) -> Result<()>) -> Result<()> {
        // Immediate: what was seen cannot be changed by another connection before the commit, which therefore never has to fail
        // because of one.
        self.run("BEGIN IMMEDIATE", |rows| work(rows), of_commit)
    }

    fn look(&mut self, work: &mut dyn FnMut(&dyn Unit) -> Result<()>) -> Result<()> {
        self.run("BEGIN DEFERRED", |rows| work(rows), of_sqlite)
    }
}
