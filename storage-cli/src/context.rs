//! What every command runs with: the configuration, the way out, and the answers given beforehand.

use storage_core::{Error, SharedStorage, Storage};
use storage_factory::{Choice, Config, connect, connect_existing, look};

use crate::exit::Failure;
use crate::output::Output;

/// What every command runs with.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) config: Config,
    /// The variable that holds the database's URL.
    pub(crate) url_variable: &'static str,
    pub(crate) choice: Choice,
    pub(crate) out: Output,
    pub(crate) yes: bool,
    pub(crate) dry_run: bool,
}

impl Context {
    /// Runs `work` on the store, which must be there, and closes it.
    pub(crate) async fn with_store<T>(
        &self,
        work: impl AsyncFnOnce(&dyn Storage) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if !self.choice.exists() {
            return Err(self.no_store());
        }
        let storage = connect_existing(self.config.clone()).await?;
        self.with(storage, work).await
    }

    /// Runs `work`, which only looks, on the store, which must be there. Nothing remembers that it was opened.
    pub(crate) async fn looking_at_store<T>(
        &self,
        work: impl AsyncFnOnce(&dyn Storage) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if !self.choice.exists() {
            return Err(self.no_store());
        }
        let storage = look(self.config.clone()).await?;
        self.with(storage, work).await
    }

    /// Runs `work` on the store, creating it when missing, and closes it.
    pub(crate) async fn with_new_store<T>(
        &self,
        work: impl AsyncFnOnce(&dyn Storage) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let storage = connect(self.config.clone()).await?;
        self.with(storage, work).await
    }

    async fn with<T>(
        &self,
        storage: SharedStorage,
        work: impl AsyncFnOnce(&dyn Storage) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        for warning in storage.backend().warnings {
            self.out.note(&format!("warning: {warning}"));
        }
        let outcome = work(&*storage).await;
        // What the work has to say is worth more than a close that fails after it: what was done stays done, and a
        // caller told otherwise would do it twice.
        if let (Err(error), true) = (storage.close().await, outcome.is_ok()) {
            self.out.note(&format!("warning: it was done, only the store could not be closed: {}", error.report()));
        }
        outcome
    }

    /// The failure of a command that needs a store where there is none.
    pub(crate) fn no_store(&self) -> Failure {
        Failure::from(Error::not_found("store", self.choice.location()))
            .with_hint("storage import DIR, or start the bot, or name another place with --data-dir")
    }
}
