//! One store for a whole process.

use storage_core::{Result, SharedStorage};
use tokio::sync::OnceCell;

use crate::{Config, connect};

/// A store that is opened by whoever asks first and shared with all who ask later.
///
/// # Contract
/// - Of concurrent first calls one opens; the others wait for it.
/// - A first call that fails is not kept: the next one tries again.
/// - After a close every call answers the same closed handle, whose operations answer `Closed`; nothing reopens.
#[derive(Debug, Default)]
pub struct SharedStore {
    cell: OnceCell<SharedStorage>,
}

impl SharedStore {
    /// Opened by nobody yet.
    pub const fn new() -> Self {
        Self { cell: OnceCell::const_new() }
    }

    /// The store; the first call opens it with the configuration that `config` gives.
    ///
    /// # Errors
    /// Those of `config` and of [`connect`].
    pub async fn get(&self, config: impl FnOnce() -> Result<Config>) -> Result<SharedStorage> {
        self.cell.get_or_try_init(async || connect(config()?).await).await.cloned()
    }
}

static STORAGE: SharedStore = SharedStore::new();

/// The process's store, configured by its environment: see the crate's documentation for the variables.
///
/// # Contract
/// That of [`SharedStore`].
///
/// # Errors
/// Those of [`Config::from_env`] and of [`connect`].
///
/// ```
/// # async fn example() -> storage_core::Result<()> {
/// let storage = storage_factory::get_storage().await?;
/// # Ok(()) }
/// ```
pub async fn get_storage() -> Result<SharedStorage> {
    STORAGE.get(Config::from_env).await
}
