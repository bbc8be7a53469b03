//! From a configuration to an open store: what `auto` tries, when it falls back, and when it refuses to.

use storage_core::{Error, ErrorKind, Result, SharedStorage};

use crate::choose::{Backend, choose};
use crate::marker::{self, Marker};
use crate::{Config, Mode, postgres};

/// How a store is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manner {
    /// Whether a JSON store that a fallback would need may be made.
    pub(crate) create: bool,
    /// Whether the directory remembers what was opened.
    pub(crate) remember: bool,
    /// Whether the configuration's time zone and retention become the store's own.
    pub(crate) adopt: bool,
}

impl Manner {
    /// To work with it.
    pub(crate) const WORK: Self = Self { create: true, remember: true, adopt: false };
}

/// Opens a store; in mode `auto` not one to work with whose contents are elsewhere by now.
pub(crate) async fn open(config: Config, manner: Manner) -> Result<SharedStorage> {
    let judged = config.mode == Mode::Auto && manner.remember;
    let storage = open_chosen(config, manner).await?;
    let moved = if judged { storage.moved_to().await } else { Ok(None) };
    let refusal = match moved {
        Ok(None) => return Ok(storage),
        Ok(Some(to)) => Error::new(ErrorKind::Moved { to: to.to_string() }).in_operation("connect"),
        Err(error) => error.in_operation("connect"),
    };
    // The refusal is worth more than a close that fails after it.
    let _ = storage.close().await;
    Err(refusal)
}

async fn open_chosen(config: Config, manner: Manner) -> Result<SharedStorage> {
    let choice = choose(&config)?;
    match choice.backend {
        Backend::Json => {
            if config.mode == Mode::Auto
                && let Some(used) = Marker::read(&config.data_dir)?.postgres
            {
                return Err(marker::json_after_postgres(&config.data_dir, &used));
            }
            open_json(config, choice.reason, Vec::new(), manner.adopt).await
        }
        // Boxed: opening a connection is a large future, and every caller would be as large.
        Backend::Postgres(url) => Box::pin(postgres::open(config, &url, choice.reason, manner)).await,
    }
}

#[cfg(feature = "json")]
pub(crate) async fn open_json(
    config: Config,
    reason: String,
    warnings: Vec<String>,
    adopt: bool,
) -> Result<SharedStorage> {
    crate::json::open(config, reason, warnings, adopt).await
}

#[cfg(not(feature = "json"))]
pub(crate) fn open_json(_: Config, _: String, _: Vec<String>, _: bool) -> std::future::Ready<Result<SharedStorage>> {
    std::future::ready(Err(storage_core::Error::new(storage_core::ErrorKind::BackendDisabled { feature: "json" })))
}

#[cfg(feature = "json")]
pub(crate) async fn examine_json(config: Config) -> Result<Vec<storage_core::Diagnosis>> {
    crate::json::examine(config).await
}

#[cfg(not(feature = "json"))]
pub(crate) fn examine_json(_: Config) -> std::future::Ready<Result<Vec<storage_core::Diagnosis>>> {
    std::future::ready(Err(storage_core::Error::new(storage_core::ErrorKind::BackendDisabled { feature: "json" })))
}
