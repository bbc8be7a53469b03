//! Generation jobs.

use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{
    AddGenerationJob, Answer, Error, HeapSize as _, Job, JobId, Jobs, ListJobs, Newest, Page, Result, Stored, TaskId,
    UpdateJobStatus, UsedKey, made_by_key,
};

use crate::engine::JsonStorage;
use crate::lists::Start;
use crate::tx::Tx;

/// The id of a new job: the caller's, else the external task id, else the operation's.
fn id_of(add: &AddGenerationJob, operation: storage_core::OperationId) -> Result<JobId> {
    match (&add.job, &add.external_task_id) {
        (Some(id), _) => Ok(id.clone()),
        (None, Some(task)) => JobId::new(task.as_str()),
        (None, None) => JobId::new(operation.to_string()),
    }
}

/// The job that a replayed creation made.
fn created(tx: &Tx<'_>, add: &AddGenerationJob, used: &UsedKey) -> Result<Stored<Job>> {
    let record = made_by_key(add.key.as_ref(), "job", tx.job(&id_of(add, used.operation)?))?;
    // A hand edit may have made it another user's since, or put another one in its place.
    record.judge_add(add)?;
    Ok(Stored { record, replayed: true })
}

fn task_is_free(tx: &Tx<'_>, task: &TaskId, job: &JobId) -> Result<()> {
    match tx.job_by_task(task) {
        Some(other) if other.id != *job => {
            Err(Error::conflict("external task id", task, format!("it belongs to job {}", other.id)))
        }
        _ => Ok(()),
    }
}

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
        self.write("add_generation_job", add.key.clone(), add.heap_size(), move |tx| {
            let fingerprint = add.fingerprint();
            if let Some(used) = tx.replayed(add.user, add.key.as_ref(), fingerprint)? {
                return created(tx, &add, &used);
            }
            let id = id_of(&add, tx.stamp.operation)?;
            if let Some(record) = tx.job(&id) {
                record.judge_add(&add)?;
                tx.settle_unchanged(add.user, add.key, fingerprint, Answer::Record)?;
                return Ok(Stored { record, replayed: true });
            }
            if let Some(task) = &add.external_task_id {
                task_is_free(tx, task, &id)?;
            }
            let (user, key) = (add.user, add.key.clone());
            let record = tx.put_job(Job::create(add, id, tx.now()));
            let account = tx.account_or_new(user);
            tx.settle_operation(account, key, fingerprint, Answer::Record, Vec::new())?;
            Ok(Stored { record, replayed: false })
        })
        .await
    }

    async fn update_job_status(&self, update: UpdateJobStatus) -> Result<Stored<Job>> {
        update.check().map_err(|error| self.refuse("update_job_status", error))?;
        self.write("update_job_status", update.key.clone(), update.heap_size(), move |tx| {
            let fingerprint = update.fingerprint();
            let job = tx.job(&update.job).ok_or_else(|| Error::not_found("job", &update.job))?;
            if tx.replayed(job.user, update.key.as_ref(), fingerprint)?.is_some() {
                return Ok(Stored { record: job, replayed: true });
            }
            if let Some(task) = &update.external_task_id {
                task_is_free(tx, task, &job.id)?;
            }
            let Some(changed) = job.judge_update(&update, tx.now())? else {
                tx.settle_unchanged(job.user, update.key, fingerprint, Answer::Record)?;
                return Ok(Stored { record: job, replayed: true });
            };
            let record = tx.put_job(changed);
            let account = tx.account_or_new(record.user);
            tx.settle_operation(account, update.key, fingerprint, Answer::Record, Vec::new())?;
            Ok(Stored { record, replayed: false })
        })
        .await
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
