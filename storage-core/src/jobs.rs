//! Generation jobs, from the order to the result.

mod job;

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    Error, ErrorMessage, Fingerprint, JobId, ModelId, ModelName, Money, OperationKey, Page, PageRequest, Params,
    Result, ResultUrls, Stored, TaskId, UserId,
};

pub use job::{Job, JobStatus};

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
    /// `Conflict` when the id, the external task id or the key stands for something else, or the job that the key made was
    /// removed by hand.
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
