//! The PostgreSQL backend's place: its configuration is known, the backend itself is not in this release.

use storage_core::{Error, ErrorKind, Result, SharedStorage};

use crate::DatabaseUrl;

/// Answers why there is no such store.
pub(crate) fn open(url: &DatabaseUrl) -> Result<SharedStorage> {
    let error = if cfg!(feature = "postgres") {
        Error::new(ErrorKind::Unavailable)
            .message(format!("this release has no PostgreSQL backend yet, so {url} cannot be opened; use json"))
    } else {
        Error::new(ErrorKind::BackendDisabled { feature: "postgres" }).message(format!(
            "{url} is a PostgreSQL database; a configured database is never replaced by JSON files unasked, \
             so unset DATABASE_URL or set STORAGE_MODE=json to use those"
        ))
    };
    Err(error.in_operation("connect"))
}
