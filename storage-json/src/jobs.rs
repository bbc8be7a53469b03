//! Generation jobs.

use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{
    AddGenerationJob, Job, JobId, Jobs, ListJobs, Newest, Page, Result, Stored, TaskId, UpdateJobStatus,
};

use crate::engine::JsonStorage;
use crate::lists::Start;

impl JsonStorage {
    async fn page_of_jobs(&self, list: ListJobs) -> Result<Page<Job>> {
        let filter = list.filter();
        let after = list.page.position(filter)?.map(Newest::into_parts);
        let wanted = list.page.size.get() + 1;
        let rows = self
            .read("list_jobs", |state| {
                let start = Start::behind(after);
                let stands = |status| list.statuses.is_empty() || list.statuses.contains(&status);
                let found = |id: &JobId| state.jobs.get(id).cloned();
                match list.user {
                    Some(user) => {
                        let mine = state.jobs_by_user.newest_of(user, start).filter(|(.., status)| stands(**status));
                        mine.filter_map(|(_, id, _)| found(id)).take(wanted).collect()
                    }
                    None => {
                        let all = state.jobs_by_time.newest(start, stands);
                        all.filter_map(|(_, id)| found(id)).take(wanted).collect()
                    }
                }
            })
            .await?;
        Ok(Page::from_surplus(rows, list.page.size, filter, |job| Newest::new(job.created_at, job.id.clone())))
    }
}

#[async_trait]
impl Jobs for JsonStorage {
    async fn add_generation_job(&self, add: AddGenerationJob) -> Result<Stored<Job>> {
        self.apply(add).await
    }

    async fn update_job_status(&self, update: UpdateJobStatus) -> Result<Stored<Job>> {
        self.apply(update).await
    }

    async fn get_job(&self, job: &JobId) -> Result<Option<Arc<Job>>> {
        self.read("get_job", |state| state.jobs.get(job).cloned()).await
    }

    async fn find_job_by_task_id(&self, task: &TaskId) -> Result<Option<Arc<Job>>> {
        self.read("find_job_by_task_id", |state| {
            state.jobs_by_task.get(task).and_then(|id| state.jobs.get(id)).cloned()
        })
        .await
    }

    async fn list_jobs(&self, list: ListJobs) -> Result<Page<Job>> {
        self.opened("list_jobs")?;
        self.page_of_jobs(list).await.map_err(|error| error.in_operation("list_jobs"))
    }
}
