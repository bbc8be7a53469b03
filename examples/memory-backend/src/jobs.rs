//! Generation jobs.

use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{
    AddGenerationJob, Answer, Error, Job, JobId, Jobs, ListJobs, Newest, OperationId, Page, Result, Stored, TaskId,
    UpdateJobStatus, made_by_key,
};

use crate::MemoryStorage;
use crate::state::{Order, State, page};

pub(crate) fn by_task<'a>(state: &'a State, task: &TaskId) -> Option<&'a Arc<Job>> {
    state.jobs.values().find(|job| job.external_task_id.as_ref() == Some(task))
}

/// The caller's id, else the external task id, else the operation's own.
fn id_of(add: &AddGenerationJob, operation: OperationId) -> Result<JobId> {
    match (&add.job, &add.external_task_id) {
        (Some(id), _) => Ok(id.clone()),
        (None, Some(task)) => JobId::new(task.as_str()),
        (None, None) => JobId::new(operation.to_string()),
    }
}

fn stored(state: &State, id: &JobId, replayed: bool) -> Result<Stored<Job>> {
    let record = state.jobs.get(id).cloned().ok_or_else(|| Error::not_found("job", id))?;
    Ok(Stored { record, replayed })
}

/// `Conflict` when the external task id stands for another job.
pub(crate) fn check_task(state: &State, task: Option<&TaskId>, id: &JobId) -> Result<()> {
    let Some(task) = task else { return Ok(()) };
    match by_task(state, task) {
        Some(other) if other.id != *id => {
            Err(Error::conflict("external task id", task, format!("it is the task of job {}", other.id)))
        }
        _ => Ok(()),
    }
}

#[async_trait]
impl Jobs for MemoryStorage {
    async fn add_generation_job(&self, add: AddGenerationJob) -> Result<Stored<Job>> {
        self.write("add_generation_job", |state, stamp| {
            let (arguments, user, key) = (add.fingerprint(), add.user, add.key.clone());
            if let Some(used) = state.replay(user, key.as_ref(), arguments)? {
                // A restored store may lack what was removed by hand where it came from.
                let record = state.jobs.get(&id_of(&add, used.operation)?).cloned();
                let record = made_by_key(key.as_ref(), "job", record)?;
                record.judge_add(&add)?;
                return Ok(Stored { record, replayed: true });
            }
            let id = id_of(&add, stamp.operation)?;
            if let Some(job) = state.jobs.get(&id) {
                if job.created_with != add.creation() {
                    return Err(Error::conflict("job", &id, "it was created with other arguments"));
                }
                state.settle_unchanged(user, key, arguments, Answer::Record, stamp);
                return stored(state, &id, true);
            }
            check_task(state, add.external_task_id.as_ref(), &id)?;
            state.account(user, stamp.now);
            state.jobs.insert(id.clone(), Arc::new(Job::create(add, id.clone(), stamp.now)));
            state.settle(user, key, arguments, Answer::Record, stamp);
            stored(state, &id, false)
        })
    }

    async fn update_job_status(&self, update: UpdateJobStatus) -> Result<Stored<Job>> {
        self.judge("update_job_status", update.check())?;
        self.write("update_job_status", |state, stamp| {
            let job = stored(state, &update.job, true)?;
            let (arguments, owner) = (update.fingerprint(), job.record.user);
            if state.replay(owner, update.key.as_ref(), arguments)?.is_some() {
                return Ok(job);
            }
            check_task(state, update.external_task_id.as_ref(), &update.job)?;
            let changed = job.record.judge_update(&update, stamp.now)?;
            let Some(changed) = changed else {
                state.settle_unchanged(owner, update.key, arguments, Answer::Record, stamp);
                return Ok(job);
            };
            state.jobs.insert(update.job.clone(), Arc::new(changed));
            state.settle(owner, update.key, arguments, Answer::Record, stamp);
            stored(state, &update.job, false)
        })
    }

    async fn get_job(&self, job: &JobId) -> Result<Option<Arc<Job>>> {
        self.read("get_job", |state| Ok(state.jobs.get(job).cloned()))
    }

    async fn find_job_by_task_id(&self, task: &TaskId) -> Result<Option<Arc<Job>>> {
        self.read("find_job_by_task_id", |state| Ok(by_task(state, task).cloned()))
    }

    async fn list_jobs(&self, list: ListJobs) -> Result<Page<Job>> {
        self.read("list_jobs", |state| {
            let jobs = state.jobs.values().filter(|job| list.matches(job));
            let position = |job: &Job| Newest::new(job.created_at, job.id.clone());
            page(jobs, &list.page, list.filter(), Order::Descending, position)
        })
    }
}
