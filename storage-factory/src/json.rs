//! Opens the JSON directory.

use std::sync::Arc;

use storage_core::{Diagnosis, Error, Result, SharedStorage};
use storage_json::{Access, JsonOptions, JsonStorage, PolicyMismatch};

use crate::Config;

/// Opens the directory of `config`, creating it when missing. `adopt` makes the configuration's time zone and retention
/// the store's own.
pub(crate) async fn open(config: Config, reason: String, warnings: Vec<String>, adopt: bool) -> Result<SharedStorage> {
    let Config { mode: _, database_url: _, postgres: _, data_dir, fallback: _, environment } = config;
    // Who changes the policy must have the store alone; the others would go on by the old one.
    let (access, on_policy_mismatch) =
        if adopt { (Access::Exclusive, PolicyMismatch::Adopt) } else { (Access::Shared, PolicyMismatch::Refuse) };
    let options =
        JsonOptions { environment, reason, warnings, access, on_policy_mismatch, ..JsonOptions::new(data_dir) };
    let storage = Arc::new(JsonStorage::open(options).await?);
    #[cfg(any(feature = "tracing", feature = "metrics"))]
    return Ok(crate::observe::observed_json(storage));
    #[cfg(not(any(feature = "tracing", feature = "metrics")))]
    Ok(storage)
}

/// Examines the directory. Reads every file of it, so it works beside the runtime.
pub(crate) async fn examine(config: Config) -> Result<Vec<Diagnosis>> {
    let now = config.environment.clock.now();
    tokio::task::spawn_blocking(move || storage_json::examine(&config.data_dir, now))
        .await
        .map_err(|error| Error::internal("the examination was interrupted").caused_by(error))
}
