//! Generation jobs.

use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{
    AddGenerationJob, Job, JobId, Jobs, ListJobs, Newest, Page, Result, Stored, TaskId, UpdateJobStatus,
};

use crate::MemoryStorage;
use crate::state::{Order, page};

#[async_trait]
impl Jobs for MemoryStorage {
    async fn add_generation_job(&self, add: AddGenerationJob) -> Result<Stored<Job>> {
        self.apply(add)
    }

    async fn update_job_status(&self, update: UpdateJobStatus) -> Result<Stored<Job>> {
        self.apply(update)
    }

    async fn get_job(&self, job: &JobId) -> Result<Option<Arc<Job>>> {
        self.read("get_job", |state| Ok(state.jobs.get(job).cloned()))
    }

    async fn find_job_by_task_id(&self, task: &TaskId) -> Result<Option<Arc<Job>>> {
        self.read("find_job_by_task_id", |state| Ok(state.by_task(task).cloned()))
    }

    async fn list_jobs(&self, list: ListJobs) -> Result<Page<Job>> {
        self.read("list_jobs", |state| {
            let jobs = state.jobs.values().filter(|job| list.matches(job));
            let position = |job: &Job| Newest::new(job.created_at, job.id.clone());
            page(jobs, &list.page, list.filter(), Order::Descending, position)
        })
    }
}
