//! Stands where the PostgreSQL backend is not compiled in.

use std::future::{Ready, ready};

use storage_core::{Error, ErrorKind, Result, SharedStorage};

use crate::open::Manner;
use crate::{Config, DatabaseUrl};

/// Answers why there is no such store. A configured database is never replaced by files unasked.
pub(crate) fn open(_: Config, url: &DatabaseUrl, _: String, _: Manner) -> Ready<Result<SharedStorage>> {
    let error = Error::new(ErrorKind::BackendDisabled { feature: "postgres" }).message(format!(
        "{url} is a PostgreSQL database; a configured database is never replaced by JSON files unasked, \
         so unset DATABASE_URL or set STORAGE_MODE=json to use those"
    ));
    ready(Err(error.in_operation("connect")))
}
