//! Stands where the PostgreSQL backend is not compiled in.

use std::future::{Ready, ready};

use storage_core::{Error, ErrorKind, Result, SharedStorage};

use crate::open::Manner;
use crate::{Config, DatabaseUrl};

/// Answers why there is no such store. A configured database is never replaced by files unasked.
pub(crate) fn open(_: Config, url: &DatabaseUrl, _: String, _: Manner) -> Ready<Result<SharedStorage>> {
    ready(Err(disabled(url).in_operation("connect")))
}

/// Answers why it cannot be examined.
pub(crate) fn examine(_: Config, url: &DatabaseUrl) -> Ready<Result<Vec<storage_core::Diagnosis>>> {
    ready(Err(disabled(url)))
}

fn disabled(url: &DatabaseUrl) -> Error {
    Error::new(ErrorKind::BackendDisabled { feature: "postgres" }).message(format!(
        "{url} is a PostgreSQL database; a configured database is never replaced by JSON files unasked, \
         so unset DATABASE_URL or set STORAGE_MODE=json to use those"
    ))
}
