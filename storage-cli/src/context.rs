//! What every command runs with: the configuration, the way out, and the answers given beforehand.

use std::fmt;

use storage_core::{Error, ErrorKind, SharedStorage, Storage};
use storage_factory::{Choice, Config, Mode, connect_without_fallback, look, look_without_fallback};

use crate::exit::{Failure, quoted};
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

/// The store of a plan: the one that was opened for it, or the one that will be made.
#[derive(Debug)]
pub(crate) struct Planned(String);

impl Planned {
    /// An open one.
    pub(crate) fn open(storage: &dyn Storage) -> Self {
        Self(storage.backend().to_string())
    }
    /// The one of the configuration, for who has just spoken to it without opening it as a store.
    pub(crate) fn chosen(context: &Context) -> Self {
        Self(context.choice.to_string())
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Context {
    /// Runs `work`, which may change something, on the store, which must be there, and closes it. Nothing stands in for it.
    pub(crate) async fn with_store<T>(
        &self,
        work: impl AsyncFnOnce(&dyn Storage) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if !self.choice.exists() {
            return Err(self.no_store());
        }
        self.with_new_store(work).await
    }

    /// [`Context::with_store`], creating it when missing.
    pub(crate) async fn with_new_store<T>(
        &self,
        work: impl AsyncFnOnce(&dyn Storage) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let opened = connect_without_fallback(self.config.clone()).await;
        self.with(opened.map_err(|error| self.chosen_failed(error))?, work).await
    }

    /// Runs `work`, which only looks and shows to a person what it saw, on the store, which must be there. JSON may stand in
    /// for a server, where it does already; that is said. Nothing remembers that it was opened.
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

    /// [`Context::looking_at_store`] where nothing stands in: for what is kept of a look, or proved by it.
    pub(crate) async fn looking_at_chosen_store<T>(
        &self,
        work: impl AsyncFnOnce(&dyn Storage) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if !self.choice.exists() {
            return Err(self.no_store());
        }
        self.with(self.chosen_store().await?, work).await
    }

    /// The store as it is, for a plan of what will be changed there: nothing stands in for it, and the plan names what was
    /// opened. `None` where it would be made.
    pub(crate) async fn planning<T>(
        &self,
        work: impl AsyncFnOnce(&dyn Storage) -> Result<T, Failure>,
    ) -> Result<(Planned, Option<T>), Failure> {
        if !self.choice.exists() {
            return Ok((Planned(format!("{}, which will be created", self.choice)), None));
        }
        let work = async |storage: &dyn Storage| Ok((Planned::open(storage), Some(work(storage).await?)));
        self.with(self.chosen_store().await?, work).await
    }

    /// Opens the store that was chosen, to look at it.
    pub(crate) async fn chosen_store(&self) -> Result<SharedStorage, Failure> {
        look_without_fallback(self.config.clone()).await.map_err(|error| self.chosen_failed(error))
    }

    /// The failure of opening where nothing stands in.
    pub(crate) fn chosen_failed(&self, error: Error) -> Failure {
        let may_be_meant = self.config.mode == Mode::Auto && self.choice.data_dir().is_none();
        if may_be_meant && matches!(error.kind(), ErrorKind::Unavailable) {
            let dir = quoted(&self.config.data_dir.display().to_string());
            let hint = format!(
                "the same command when that is put right; --mode json only where the JSON store at {dir} is meant"
            );
            return Failure::from(error).with_hint(hint);
        }
        Failure::from(error)
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
