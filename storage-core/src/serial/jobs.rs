//! Generation jobs.

use std::sync::Arc;

use async_trait::async_trait;

use super::Serial;
use super::page::page;
use crate::kernel::Halt;
use crate::{AddGenerationJob, Job, JobId, Jobs, ListJobs, Newest, Page, Result, Stored, TaskId, UpdateJobStatus};

#[async_trait]
impl Jobs for Serial {
    async fn add_generation_job(&self, add: AddGenerationJob) -> Result<Stored<Job>> {
        self.apply(add).await
    }

    async fn update_job_status(&self, update: UpdateJobStatus) -> Result<Stored<Job>> {
        self.apply(update).await
    }

    async fn get_job(&self, job: &JobId) -> Result<Option<Arc<Job>>> {
        let job = job.clone();
        self.look("get_job", move |unit, _| unit.job(&job).map_err(Halt::into_error)).await
    }

    async fn find_job_by_task_id(&self, task: &TaskId) -> Result<Option<Arc<Job>>> {
        let task = task.clone();
        self.look("find_job_by_task_id", move |unit, _| unit.job_of(&task).map_err(Halt::into_error)).await
    }

    async fn list_jobs(&self, list: ListJobs) -> Result<Page<Job>> {
        let position = |job: &Job| Newest::new(job.created_at, job.id.clone());
        self.look("list_jobs", move |unit, _| {
            page(&list.page, list.filter(), |after, most| unit.jobs(&list, after, most), position)
        })
        .await
    }
}
