//! What SQLite's errors mean. They are told apart by code, never by text.

use std::path::Path;
use std::time::Duration;

use rusqlite::ErrorCode;
use storage_core::{Error, ErrorKind, Place};

/// How long connecting waits for other connections, and how long each transaction does. Both together stay below the deadline of a
/// call, so that the caller hears `Busy` from here.
pub(crate) const WAIT: Duration = Duration::from_secs(5);

/// An error of a statement. SQLite or the caller rolls the transaction back, so that nothing of it was applied.
pub(crate) fn of_sqlite(path: &Path, error: rusqlite::Error) -> Error {
    let kind = match error.sqlite_error_code() {
        // The protocol of the locks fails when too many others were faster.
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
            ErrorKind::Busy { waited: WAIT }
        }
        Some(ErrorCode::DiskFull) => ErrorKind::StorageFull,
        Some(ErrorCode::ReadOnly) => ErrorKind::ReadOnly,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            ErrorKind::Corrupt(Place::new(path.display().to_string()))
        }
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::SystemIoFailure) => {
            ErrorKind::Unavailable
        }
        _ => ErrorKind::Internal,
    };
    Error::new(kind).caused_by(error)
}

/// An error of a commit. A failure before the last page is written means that nothing was applied. After any other one the pages may or
/// may not be on the disk, so the outcome is unknown.
pub(crate) fn of_commit(path: &Path, error: rusqlite::Error) -> Error {
    let error = of_sqlite(path, error);
    match error.kind() {
        ErrorKind::Busy { .. } | ErrorKind::StorageFull | ErrorKind::ReadOnly => error,
        _ => error.unknown(None),
    }
}
