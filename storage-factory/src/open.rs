//! From a configuration to an open store: what `auto` tries, when it falls back, and when it refuses to.

use storage_core::{Error, ErrorKind, Result, SharedStorage};

use crate::choose::{Backend, choose};
use crate::marker::{self, Marker};
use crate::{Config, Mode, postgres};

/// Whether JSON may take the place of a server that cannot be reached. Never in a directory of another store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StandIn {
    /// It may, and is made where there is nothing yet.
    Make,
    /// Only where it does already.
    Find,
    /// Never, whatever stands there.
    Never,
}

/// How a store is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manner {
    pub(crate) stand_in: StandIn,
    /// Whether the directory remembers what was opened.
    pub(crate) remember: bool,
    /// Whether the configuration's time zone and retention become the store's own.
    pub(crate) adopt: bool,
}

impl Manner {
    /// As a program does that works with the store.
    pub(crate) const WORK: Self = Self { stand_in: StandIn::Make, remember: true, adopt: false };
    /// To work with that store and no other.
    pub(crate) const CHOSEN: Self = Self { stand_in: StandIn::Never, ..Self::WORK };
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
