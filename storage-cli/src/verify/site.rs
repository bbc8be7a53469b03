//! One check's scratch store, and how a check says what it missed.

use std::fmt::{Debug, Display};
use std::path::PathBuf;
use std::sync::Arc;

use storage_core::{
    AuditScope, Error, ManualClock, ModelId, ModelName, Money, Params, Result as Stored, SharedStorage, Timestamp,
    UserId,
};
use storage_factory::{Config, Mode, look};
use tokio::sync::OnceCell;

/// What a check found wrong.
#[derive(Debug)]
pub(super) struct Miss(pub(super) String);

impl From<Error> for Miss {
    fn from(error: Error) -> Self {
        Self(error.report().to_string())
    }
}

/// What a check answers.
pub(super) type Check = Result<(), Miss>;

/// A store of its own for each check, with a clock that moves only when told to.
#[derive(Debug)]
pub(super) struct Site {
    config: Config,
    /// A schema is made at the first opening.
    made: OnceCell<()>,
    pub(super) clock: Arc<ManualClock>,
}

impl Site {
    /// In a directory of its own.
    pub(super) fn in_directory(data_dir: PathBuf) -> Self {
        Self::new(Config { mode: Mode::Json, data_dir, ..Config::default() })
    }
    /// In a schema of its own beside the store of `config`.
    #[cfg(feature = "postgres")]
    pub(super) fn in_schema(config: &Config, schema: String) -> Self {
        let mut config = Config { mode: Mode::Postgres, ..config.clone() };
        config.postgres.schema = schema;
        config.environment = storage_core::Environment::default();
        Self::new(config)
    }
    fn new(mut config: Config) -> Self {
        // 2026-01-15, noon.
        let clock = Arc::new(ManualClock::at(Timestamp::MIN.plus_micros(1_768_478_400_000_000)));
        config.environment.clock = clock.clone();
        Self { config, made: OnceCell::new(), clock }
    }
    /// Another handle on the store; the first call creates it.
    pub(super) async fn open(&self) -> Stored<SharedStorage> {
        self.made().await?;
        look(self.config.clone()).await
    }
    /// Makes the place of the store, at the first call.
    pub(super) async fn made(&self) -> Stored<()> {
        self.made.get_or_try_init(async || make(&self.config).await).await.copied()
    }
    /// A place for a second store.
    pub(super) fn beside(&self) -> Self {
        let mut config = self.config.clone();
        config.data_dir.as_mut_os_string().push("-beside");
        config.postgres.schema.push_str("_beside");
        Self { config, made: OnceCell::new(), clock: self.clock.clone() }
    }
    /// Removes what a check left in a database, that of [`Site::beside`] too. Directories go with the one around them.
    pub(super) async fn remove(&self) -> Stored<()> {
        remove(&self.config).await?;
        remove(&self.beside().config).await
    }
    /// Opens the store once more and adds up its ledger.
    pub(super) async fn audited(&self) -> Check {
        let storage = self.open().await?;
        let report = storage.audit(AuditScope::Everyone).await?;
        storage.close().await?;
        match report.findings.first() {
            None => Ok(()),
            Some(first) => Err(Miss(format!("the audit afterwards: user {}: {}", first.user, first.problem))),
        }
    }
}

#[cfg(feature = "postgres")]
async fn make(config: &Config) -> Stored<()> {
    if config.mode == Mode::Postgres {
        storage_pg::migrate(&storage_factory::pg_options(config)?, std::time::Duration::from_secs(30)).await?;
    }
    Ok(())
}

#[cfg(feature = "postgres")]
async fn remove(config: &Config) -> Stored<()> {
    if config.mode == Mode::Postgres {
        storage_pg::drop_scratch_schema(&storage_factory::pg_options(config)?).await?;
    }
    Ok(())
}

#[cfg(not(feature = "postgres"))]
fn make(_: &Config) -> std::future::Ready<Stored<()>> {
    std::future::ready(Ok(()))
}

#[cfg(not(feature = "postgres"))]
fn remove(_: &Config) -> std::future::Ready<Stored<()>> {
    std::future::ready(Ok(()))
}

/// Compares.
pub(super) fn same<T: PartialEq + Debug>(what: &str, found: &T, expected: &T) -> Check {
    if found == expected { Ok(()) } else { Err(Miss(format!("{what}: found {found:?}, expected {expected:?}"))) }
}

/// Compares what is shown.
pub(super) fn shows(what: &str, found: impl Display, expected: &str) -> Check {
    same(what, &found.to_string(), &expected.to_owned())
}

/// Expects a refusal of this kind.
pub(super) fn refused<T: Debug>(what: &str, outcome: Stored<T>, kind: &str) -> Check {
    match outcome {
        Err(error) if error.kind().name() == kind => Ok(()),
        Err(error) => Err(Miss(format!("{what}: expected {kind}, found {}", error.report()))),
        Ok(value) => Err(Miss(format!("{what}: expected {kind}, it answered {value:?}"))),
    }
}

/// Runs `task` `times` at once, each on its own task, and gives all answers.
pub(super) async fn at_once<T, F>(times: u32, task: impl Fn(u32) -> F) -> Result<Vec<T>, Miss>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let tasks: Vec<_> = (0..times).map(|number| tokio::spawn(task(number))).collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.map_err(|error| Miss(format!("a task broke off: {error}")))?);
    }
    Ok(answers)
}

pub(super) fn user(id: i64) -> Stored<UserId> {
    UserId::new(id)
}

/// A model, parameters and a price for jobs and generations.
pub(super) fn order() -> Stored<(ModelId, ModelName, Params, Money)> {
    Ok(("model".parse()?, "Model".parse()?, Params::from_json(r#"{"prompt":"a cat","x":-0.0}"#)?, "7.50".parse()?))
}
