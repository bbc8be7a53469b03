//! Opens the JSON directory.

use std::sync::Arc;

use storage_core::{Result, SharedStorage};
use storage_json::{Access, JsonOptions, JsonStorage, PolicyMismatch};

use crate::Config;

/// Opens the directory of `config`, creating it when missing.
pub(crate) async fn open(config: Config, reason: String) -> Result<SharedStorage> {
    open_with(config, reason, PolicyMismatch::Refuse).await
}

/// Opens the directory and makes the configuration's time zone and retention the store's own.
pub(crate) async fn adopt_policy(config: Config, reason: String) -> Result<SharedStorage> {
    open_with(config, reason, PolicyMismatch::Adopt).await
}

async fn open_with(config: Config, reason: String, on_policy_mismatch: PolicyMismatch) -> Result<SharedStorage> {
    let Config { mode: _, database_url: _, data_dir, fallback: _, environment } = config;
    // Who changes the policy must have the store alone; the others would go on by the old one.
    let access = match on_policy_mismatch {
        PolicyMismatch::Adopt => Access::Exclusive,
        PolicyMismatch::Refuse => Access::Shared,
    };
    let options = JsonOptions { environment, reason, access, on_policy_mismatch, ..JsonOptions::new(data_dir) };
    Ok(Arc::new(JsonStorage::open(options).await?))
}
