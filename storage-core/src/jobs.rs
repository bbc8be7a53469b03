//! Generation jobs, from the order to the result.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    Error, ErrorMessage, Fingerprint, JobId, ModelId, ModelName, Money, OperationKey, Page, PageRequest, Params,
    Result, ResultUrls, Stored, TaskId, Timestamp, UserId,
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
    /// Judges an update: the changed job, `None` for a replay, or `InvalidTransition`.
    pub fn judge_update(&self, update: &UpdateJobStatus, now: Timestamp) -> Result<Option<Self>> {
        let UpdateJobStatus { job: _, status, result_urls, error_message, external_task_id, key: _ } = update;
        update.check()?;
        let equal = is_same(result_urls.as_ref(), Some(&self.result_urls))
            && is_same(error_message.as_ref(), self.error_message.as_ref())
            && is_same(external_task_id.as_ref(), self.external_task_id.as_ref());
        let stays = *status == self.status;
        if stays && equal {
            return Ok(None);
        }
        if !self.status.may_become(*status) && (!stays || self.status.is_final()) {
            return Err(Error::transition("job", &self.id, self.status.as_str(), status.as_str()));
        }
        let mut job = self.clone();
        job.status = *status;
        job.updated_at = now;
        if let Some(urls) = result_urls {
            job.result_urls = urls.clone();
        }
        if let Some(task) = external_task_id {
            job.external_task_id = Some(task.clone());
        }
        job.error_message = match (status, error_message) {
            (JobStatus::Completed, _) => None,
            (_, Some(message)) => Some(message.clone()),
            (_, None) => job.error_message,
        };
        Ok(Some(job))
    }
}

/// Whether a detail that was given equals the stored one; one that was not given keeps what is stored.
fn is_same<T: PartialEq>(given: Option<&T>, stored: Option<&T>) -> bool {
    given.is_none() || given == stored
}

/// Arguments of [`Jobs::add_generation_job`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddGenerationJob {
    /// Whose job.
    pub user: UserId,
    /// Its id; without one it is the external task id, else minted.
    pub job: Option<JobId>,
    /// The provider's id.
    pub external_task_id: Option<TaskId>,
    /// Which model.
    pub model_id: ModelId,
    /// The model's name.
    pub model_name: ModelName,
    /// The parameters.
    pub params: Params,
    /// What it costs.
    pub price: Money,
    /// Makes the call repeatable.
    pub key: Option<OperationKey>,
}

impl AddGenerationJob {
    /// What a repeated creation of the same job must repeat.
    pub fn creation(&self) -> Fingerprint {
        let Self { user, job: _, external_task_id, model_id, model_name, params, price, key: _ } = self;
        let task = external_task_id.as_ref().map_or("", TaskId::as_str);
        let (user, price) = (user.to_string(), price.to_string());
        Fingerprint::of(
            "add_generation_job",
            &[&user, task, model_id.as_str(), model_name.as_str(), params.as_json(), &price],
        )
    }
    /// What a replay by key must repeat: the creation arguments and the id.
    pub fn fingerprint(&self) -> Fingerprint {
        let id = self.job.as_ref().map_or("", JobId::as_str);
        Fingerprint::of("add_generation_job", &[id, &self.creation().to_string()])
    }
}

/// Arguments of [`Jobs::update_job_status`]. `None` keeps what is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateJobStatus {
    /// Which job.
    pub job: JobId,
    /// Its new state.
    pub status: JobStatus,
    /// Where the results are.
    pub result_urls: Option<ResultUrls>,
    /// Why it failed.
    pub error_message: Option<ErrorMessage>,
    /// The provider's id.
    pub external_task_id: Option<TaskId>,
    /// Makes the call repeatable.
    pub key: Option<OperationKey>,
}

impl UpdateJobStatus {
    /// Only the status.
    pub fn new(job: JobId, status: JobStatus) -> Self {
        Self { job, status, result_urls: None, error_message: None, external_task_id: None, key: None }
    }
    /// The rule that no single value can keep: `InvalidInput` for a completed job with an error message. Backends
    /// call it first of all.
    pub fn check(&self) -> Result<()> {
        if self.status == JobStatus::Completed && self.error_message.is_some() {
            return Err(Error::invalid("error message", "must be absent from a completed job"));
        }
        Ok(())
    }
    /// What a replay must repeat.
    pub fn fingerprint(&self) -> Fingerprint {
        let Self { job, status, result_urls, error_message, external_task_id, key: _ } = self;
        let urls = result_urls.as_ref().map_or_else(String::new, |urls| format!("={}", urls.as_slice().join("\n")));
        let message = error_message.as_ref().map_or_else(String::new, |message| format!("={message}"));
        let task = external_task_id.as_ref().map_or("", TaskId::as_str);
        Fingerprint::of("update_job_status", &[job.as_str(), status.as_str(), &urls, &message, task])
    }
}

/// Arguments of [`Jobs::list_jobs`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListJobs {
    /// Only this user's.
    pub user: Option<UserId>,
    /// Only those that stand in one of these states; empty is any.
    pub statuses: Vec<JobStatus>,
    /// Which page.
    pub page: PageRequest,
}

impl ListJobs {
    /// Which list a cursor belongs to. The order and repetition of states does not matter.
    pub fn filter(&self) -> Fingerprint {
        let user = self.user.map_or_else(String::new, |user| user.to_string());
        let mut words: Vec<&str> = self.statuses.iter().map(|status| status.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        Fingerprint::of("list_jobs", &[&user, &words.join(",")])
    }
    /// Whether a job matches.
    pub fn matches(&self, job: &Job) -> bool {
        self.user.is_none_or(|user| user == job.user)
            && (self.statuses.is_empty() || self.statuses.contains(&job.status))
    }
}

/// Generation jobs, from the order to the result.
#[async_trait]
pub trait Jobs {
    /// Stores a new job, `Pending`.
    ///
    /// # Contract
    /// - Job ids and external task ids are each unique in the store.
    /// - The same id with the same creation arguments is a replay and answers the job as it stands; nothing is
    ///   ever overwritten.
    /// - Creates the user when missing.
    ///
    /// # Errors
    /// `Conflict` when the id, the external task id or the key stands for something else.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage, user: UserId) -> Result<()> {
    /// let job = storage
    ///     .add_generation_job(AddGenerationJob {
    ///         user,
    ///         job: Some("job-7".parse()?),
    ///         external_task_id: None,
    ///         model_id: "z-image".parse()?,
    ///         model_name: "Z Image".parse()?,
    ///         params: Params::from_json(r#"{"prompt": "a cat in the rain"}"#)?,
    ///         price: "7.50".parse()?,
    ///         key: None,
    ///     })
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `jobs::*`.
    async fn add_generation_job(&self, add: AddGenerationJob) -> Result<Stored<Job>>;

    /// Moves a job on, and stores its results or its error.
    ///
    /// # Contract
    /// - `Pending` to any other state, `Running` to a final one; the present state again with equal details is a
    ///   replay, with others it updates them unless the state is final.
    /// - Success clears an old error.
    ///
    /// # Errors
    /// `NotFound`; `InvalidTransition`; `Conflict` when the external task id is another job's or the key was used
    /// for something else; `InvalidInput` for a completed job with an error message.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage) -> Result<()> {
    /// let mut failed = UpdateJobStatus::new("job-7".parse()?, JobStatus::Failed);
    /// failed.error_message = Some("the provider said no".parse()?);
    /// storage.update_job_status(failed).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `jobs::*`.
    async fn update_job_status(&self, update: UpdateJobStatus) -> Result<Stored<Job>>;

    /// Gives a job by id.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage) -> Result<()> {
    /// let job = storage.get_job(&"job-7".parse()?).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `jobs::*`.
    async fn get_job(&self, job: &JobId) -> Result<Option<Arc<Job>>>;

    /// Gives a job by the provider's id.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage) -> Result<()> {
    /// let job = storage.find_job_by_task_id(&"kie-17".parse()?).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `jobs::*`.
    async fn find_job_by_task_id(&self, task: &TaskId) -> Result<Option<Arc<Job>>>;

    /// Lists jobs, newest first by creation time and id.
    ///
    /// # Errors
    /// `InvalidInput` for a cursor of another list or filter.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage, user: UserId) -> Result<()> {
    /// let unfinished =
    ///     ListJobs { user: Some(user), statuses: vec![JobStatus::Pending, JobStatus::Running], ..Default::default() };
    /// let jobs = storage.list_jobs(unfinished).await?.items;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `jobs::*`.
    async fn list_jobs(&self, list: ListJobs) -> Result<Page<Job>>;
}
