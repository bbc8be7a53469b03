//! Who makes the pictures.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use storage_core::{ErrorMessage, JobId, Result, ResultUrls, TaskId};

use crate::trouble::Trouble;

/// What became of a task.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// It is there.
    Done(ResultUrls),
    /// It will never be.
    Failed(ErrorMessage),
}

/// A service that makes pictures.
#[async_trait]
pub(crate) trait Provider: Send + Sync + 'static {
    /// Begins a task. Called again for the same job when the first answer was lost: a provider that takes a key of the
    /// caller's is given the job's id, so that it begins once. With one that takes none a second task may begin, which
    /// costs the shop a picture and the user nothing.
    async fn start(&self, job: &JobId, prompt: &str) -> std::result::Result<TaskId, Trouble>;
    /// Waits for the end of a task, and says the same whenever it is asked again.
    async fn wait(&self, task: &TaskId) -> std::result::Result<Outcome, Trouble>;
}

/// Stands for a provider: a prompt is a picture after a while. With the word "impossible" in it it never is, and with the
/// word "unreliable" the provider does not answer the first time.
#[derive(Debug)]
pub(crate) struct Demo {
    takes: Duration,
    asked: Mutex<HashSet<TaskId>>,
}

impl Demo {
    pub(crate) fn new(takes: Duration) -> Self {
        Self { takes, asked: Mutex::default() }
    }
}

const IMPOSSIBLE: &str = "impossible";
const UNRELIABLE: &str = "unreliable";

#[async_trait]
impl Provider for Demo {
    async fn start(&self, job: &JobId, prompt: &str) -> std::result::Result<TaskId, Trouble> {
        let word = [IMPOSSIBLE, UNRELIABLE].into_iter().find(|word| prompt.contains(word)).unwrap_or("demo");
        Ok(format!("{word}/{job}").parse()?)
    }
    async fn wait(&self, task: &TaskId) -> std::result::Result<Outcome, Trouble> {
        tokio::time::sleep(self.takes).await;
        let first = self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(task.clone());
        if first && task.as_str().starts_with(UNRELIABLE) {
            return Err(Trouble::Provider("no answer in time".to_owned()));
        }
        Ok(outcome(task)?)
    }
}

fn outcome(task: &TaskId) -> Result<Outcome> {
    if task.as_str().starts_with(IMPOSSIBLE) {
        return Ok(Outcome::Failed("the model cannot draw that".parse()?));
    }
    Ok(Outcome::Done(ResultUrls::new([format!("https://example.org/{task}.png")])?))
}
