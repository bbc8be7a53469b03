//! A job, and the status machine that it goes through.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::AddGenerationJob;
use crate::{
    Error, ErrorMessage, Fingerprint, JobId, ModelId, ModelName, Money, Params, Result, ResultUrls, TaskId, Timestamp,
    UserId,
};

/// Where a job stands. The last three are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// Ordered.
    Pending,
    /// Being made.
    Running,
    /// Made.
    Completed,
    /// Could not be made.
    Failed,
    /// Called off.
    Cancelled,
}

impl JobStatus {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Running, Self::Completed, Self::Failed, Self::Cancelled];

    /// The state's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
    /// Whether nothing can follow.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
    /// Whether `to` may follow; staying is not a step.
    pub fn may_become(self, to: Self) -> bool {
        match self {
            Self::Pending => to != Self::Pending,
            Self::Running => to.is_final(),
            Self::Completed | Self::Failed | Self::Cancelled => false,
        }
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for JobStatus {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| Error::invalid("job status", "must be pending, running, completed, failed or cancelled"))
    }
}

/// A generation job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Job {
    /// Its id, unique in the store.
    pub id: JobId,
    /// Whose it is.
    pub user: UserId,
    /// Which model.
    pub model_id: ModelId,
    /// The model's name.
    pub model_name: ModelName,
    /// The parameters, as they were given.
    pub params: Params,
    /// What it costs.
    pub price: Money,
    /// Where it stands.
    pub status: JobStatus,
    /// The provider's id, unique in the store.
    pub external_task_id: Option<TaskId>,
    /// Where the results are.
    pub result_urls: ResultUrls,
    /// Why it failed.
    pub error_message: Option<ErrorMessage>,
    /// When it was ordered.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// What it was created with, so that a repeated creation is told from another one.
    #[serde(skip)]
    pub created_with: Fingerprint,
}

impl Job {
    /// A new job. `id` is the caller's, else the external task id, else a minted one.
    pub fn create(add: AddGenerationJob, id: JobId, now: Timestamp) -> Self {
        let created_with = add.creation();
        let AddGenerationJob { user, job: _, external_task_id, model_id, model_name, params, price, key: _ } = add;
        Self {
            id,
            user,
            model_id,
            model_name,
            params,
            price,
            status: JobStatus::Pending,
            external_task_id,
            result_urls: ResultUrls::default(),
            error_message: None,
            created_at: now,
            updated_at: now,
            created_with,
        }
    }
}
