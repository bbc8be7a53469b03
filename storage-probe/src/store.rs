//! Opens the directory under test.

use std::path::PathBuf;
use std::sync::Arc;

use storage_core::{Environment, Error, ManualClock, Policy, Result, SystemIds, Timestamp};
use storage_json::{JsonOptions, JsonStorage};

/// Turns the argument into a directory.
pub(crate) fn directory(store: &str) -> Result<PathBuf, String> {
    if store.contains("://") {
        return Err("this build of the probe knows directories only: give the path of a data directory".to_owned());
    }
    if store.is_empty() {
        return Err("give the path of a data directory".to_owned());
    }
    Ok(PathBuf::from(store))
}

/// Opens a directory with a clock that the probe moves.
///
/// The ids are random ones: a program that begins again must not mint those that it minted before.
pub(crate) async fn open(dir: PathBuf, checkpoint_bytes: Option<u64>) -> Result<(JsonStorage, Arc<ManualClock>)> {
    let clock = Arc::new(ManualClock::at(Timestamp::MIN));
    let mut options = JsonOptions::new(dir);
    options.environment =
        Environment { clock: Arc::clone(&clock) as _, ids: Arc::new(SystemIds), policy: Policy::default() };
    if let Some(bytes) = checkpoint_bytes {
        options.checkpoint_bytes = bytes;
    }
    let storage = JsonStorage::open(options).await.map_err(|error: Error| error.in_operation("open"))?;
    Ok((storage, clock))
}
