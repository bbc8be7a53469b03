//! A backend that keeps everything in one SQLite file: a whole store over an embedded database.
//!
//! Each handle has a thread and a connection of its own, and any number of handles and processes share a file. A transaction is
//! SQLite's own, in WAL mode with `synchronous = FULL`: what was acknowledged is on the disk. A record is stored as the JSON text
//! that a dump has of it, beside the columns that indexes need.
//!
//! | file | what it is about |
//! | --- | --- |
//! | `engine.rs` | how a transaction runs, and what becomes of a connection when it fails |
//! | `found.rs` | whose file it is, and how a new one is made ours |
//! | `schema.sql` | the tables and indexes |
//! | `rows.rs` | how a record is read and written, and how a damaged one is named |
//! | `unit.rs` | the methods that the storage asks for |
//! | `list.rs` | lists, each by an index |
//! | `put.rs` | what an atom changes |
//! | `error.rs` | what SQLite's errors mean |
//!
//! # Limits
//!
//! This is an example. It is proven by the suite, not by years of use:
//!
//! - There is one version of the schema, and no migration to a next one.
//! - A handle runs one transaction at a time. Looks wait for writes of the same handle, and everything waits for a dump or an audit.
//! - Writers take turns. One that waits for longer than 5 seconds answers `Busy`; there is no queue among processes, so that nothing
//!   is fair but chance.
//! - Each new entry of a history counts the entries that are kept. That suits a hundred of them, not a hundred thousand.
//! - Opening empties the log, which needs the file without readers. It waits 5 seconds for them, then answers `Busy`.
//! - After a failed sync of the log the handle writes the log to the file before its next call. Another process that writes in between
//!   knows nothing of the failure, and a power cut can lose what it acknowledged.
//! - SQLite empties the log by itself after some commits and reports no error of that. When such a sync fails while another process
//!   reads, a power cut can lose what was acknowledged.
//! - WAL mode needs shared memory: the file must be on a local disk, not on a network file system.

mod engine;
mod error;
mod found;
mod list;
mod put;
mod rows;
#[cfg(test)]
mod tests;
mod unit;

use std::path::Path;

use storage_core::serial::{DEADLINE, Serial};
use storage_core::{BackendInfo, Environment, Error, ErrorKind, Result};

use crate::engine::Sqlite;

/// Opens the store in a file, and founds it where there is no file or an empty one.
///
/// # Errors
/// `SchemaMismatch` for a file of another program, of a newer version of this one, or of another time zone or history retention;
/// nothing of it is changed. `Corrupt` for a file that is none of SQLite's. Those that every operation shares.
pub async fn open(path: impl AsRef<Path>, environment: Environment) -> Result<Serial> {
    // A connection that was lost is opened again: by then the process may work in another directory.
    let path = std::path::absolute(path).map_err(|error| Error::new(ErrorKind::Unavailable).caused_by(error))?;
    let info = BackendInfo {
        name: "sqlite".to_owned(),
        reason: "opened directly".to_owned(),
        location: path.display().to_string(),
        warnings: Vec::new(),
    };
    Serial::open(Sqlite::new(path), environment, info, DEADLINE).await
}
