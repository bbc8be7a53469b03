//! One check's scratch store, and how a check says what it missed.

use std::fmt::{Debug, Display};
use std::path::PathBuf;
use std::sync::Arc;

use storage_core::{
    AuditScope, Environment, Error, ManualClock, ModelId, ModelName, Money, Params, Result as Stored, SharedStorage,
    Timestamp, UserId,
};
use storage_factory::{Config, Mode, connect};

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
    pub(super) clock: Arc<ManualClock>,
}

impl Site {
    pub(super) fn new(data_dir: PathBuf) -> Self {
        // 2026-01-15, noon.
        let clock = Arc::new(ManualClock::at(Timestamp::MIN.plus_micros(1_768_478_400_000_000)));
        let environment = Environment { clock: clock.clone(), ..Environment::default() };
        Self { config: Config { mode: Mode::Json, data_dir, environment, ..Config::default() }, clock }
    }
    /// Another handle on the store; the first call creates it.
    pub(super) async fn open(&self) -> Stored<SharedStorage> {
        connect(self.config.clone()).await
    }
    /// A place for a second store.
    pub(super) fn beside(&self) -> Self {
        let mut data_dir = self.config.data_dir.clone();
        data_dir.as_mut_os_string().push("-beside");
        Self { config: Config { data_dir, ..self.config.clone() }, clock: self.clock.clone() }
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
