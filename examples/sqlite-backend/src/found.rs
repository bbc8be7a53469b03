//! Whose file it is, and how a new one is made ours.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::types::FromSql;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, ffi};
use storage_core::{Error, ErrorKind, Result};

use crate::error::{WAIT, of_sqlite};

/// `PRAGMA application_id` of our files: "GSTO".
const OURS: i64 = 0x4753_544F;
/// `PRAGMA user_version`: the version of the schema.
const VERSION: i64 = 1;
const SCHEMA: &str = include_str!("schema.sql");
/// As many as there are statements.
const STATEMENTS: usize = 96;

/// What happens where there is no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfMissing {
    Create,
    Fail,
}

/// Opens a store's file. `SchemaMismatch` for a file of another program, which stays as it is.
pub(crate) fn connect(path: &Path, if_missing: IfMissing) -> Result<Connection> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, if_missing == IfMissing::Create);
    let failed = |error| of_sqlite(path, error);
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    let until = Instant::now() + WAIT;
    let prepare = || {
        // Each step is asked again instead: see `once_free`.
        connection.busy_timeout(Duration::ZERO)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // Until the file is known to be ours, closing it must not tidy up what its owner left in the log.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        // Without "full" a Mac's disk says that it has what it has not. Elsewhere it changes nothing.
        connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON")
    };
    once_free(path, until, prepare)?;
    claim(&connection, path, until, if_missing)?;
    log_ahead(&connection, path, until)?;
    empty_log(&connection, path, until)?;
    connection.busy_timeout(WAIT).map_err(failed)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(failed)?;
    Ok(connection)
}

/// Makes a new file ours, and refuses a file that is not. Of several that find the same new file, one makes it.
fn claim(connection: &Connection, path: &Path, until: Instant, if_missing: IfMissing) -> Result<()> {
    let look = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    once_free(path, until, || {
        // Dropped without a commit, it rolls back.
        let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
        let owner = look("PRAGMA application_id")?;
        let version = look("PRAGMA user_version")?;
        match (owner, version, look("SELECT EXISTS (SELECT 1 FROM sqlite_schema)")?) {
            (OURS, VERSION, _) => {}
            (0, 0, 0) if if_missing == IfMissing::Fail => return Ok(Err(lost(path))),
            (0, 0, 0) => {
                connection.execute_batch(SCHEMA)?;
                connection.pragma_update(None, "application_id", OURS)?;
                connection.pragma_update(None, "user_version", VERSION)?;
            }
            (owner, version, _) => return Ok(Err(refused(path, owner, version))),
        }
        transaction.commit().map(Ok)
    })?
}

fn lost(path: &Path) -> Error {
    let path = path.display();
    let problem = format!("{path} is empty, and the store that was in it is gone: put the file back and open it anew");
    Error::new(ErrorKind::Unavailable).message(problem)
}

fn refused(path: &Path, owner: i64, version: i64) -> Error {
    let path = path.display();
    let (found, remedy) = if owner == OURS {
        let remedy =
            format!("a newer release of this program, or its `storage dump` of {path} and a restore into a new file");
        (format!("a storage of version {version} in {path}"), remedy)
    } else {
        let remedy = format!("this program with the path of another file; {path} was left as it is");
        (format!("a SQLite file of another program in {path}"), remedy)
    };
    Error::schema(found, format!("a storage of version {VERSION}, or a new file"), remedy)
}

/// Writes ahead into a log from now on, so that looks wait for no writer. The file remembers it.
fn log_ahead(connection: &Connection, path: &Path, until: Instant) -> Result<()> {
    let mode: String = once_free(path, until, || run_to_end(connection, "PRAGMA journal_mode = WAL"))?;
    if mode == "wal" {
        return Ok(());
    }
    let problem = format!("{} cannot have a write-ahead log, only {mode}: use a local disk", path.display());
    Err(Error::new(ErrorKind::Unavailable).message(problem))
}

/// Moves what the log holds into the file, and begins the log anew. The log may be in the page cache alone: after a kill, because
/// nothing synced it, and after a failed sync, because a later one need not write it again. So it is written to the file and synced
/// there before any call is answered from it.
fn empty_log(connection: &Connection, path: &Path, until: Instant) -> Result<()> {
    once_free(path, until, || {
        let is_busy = run_to_end(connection, "PRAGMA wal_checkpoint(TRUNCATE)")?;
        if is_busy { Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None)) } else { Ok(()) }
    })
}

/// Asks again while another connection is in the way. SQLite's own wait does not serve here. It does not wait for a connection that
/// changes the mode or empties the log; and two that founded one file were seen to block each other until both had waited in vain.
fn once_free<T>(path: &Path, until: Instant, ask: impl Fn() -> rusqlite::Result<T>) -> Result<T> {
    loop {
        match ask().map_err(|error| of_sqlite(path, error)) {
            Err(error) if matches!(error.kind(), ErrorKind::Busy { .. }) && Instant::now() < until => {
                std::thread::sleep(WAIT / 1000);
            }
            answer => return answer,
        }
    }
}

/// Runs a statement that changes the file to its end, and gives its answer. The commit comes after the row: a statement that is
/// dropped once the row was read commits in silence, also when that fails.
fn run_to_end<T: FromSql>(connection: &Connection, sql: &str) -> rusqlite::Result<T> {
    let answers: Vec<T> = connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    answers.into_iter().next().ok_or(rusqlite::Error::QueryReturnedNoRows)
}
