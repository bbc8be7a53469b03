//! Generation jobs, from the order to the result.

use std::sync::Arc;

use super::keys::{first, made_by_key};
use super::{Atom, Changes, Decision, Halt, Record, View};
use crate::{
    AddGenerationJob, Answer, Error, Job, JobId, JobStatus, OperationId, Result, Stored, TaskId, UpdateJobStatus,
};

/// The id of a new job: the caller's, else the external task id, else the operation's own.
pub fn id_of(add: &AddGenerationJob, operation: OperationId) -> JobId {
    match (&add.job, &add.external_task_id) {
        (Some(id), _) => id.clone(),
        (None, Some(task)) => JobId::from(task),
        (None, None) => JobId::from(&operation.to_key()),
    }
}

pub(super) fn add(atom: &Atom, add: &AddGenerationJob, view: &dyn View) -> Result<Decision, Halt> {
    let user = add.user;
    if let Some(first) = first(atom, user, view)? {
        let record = made_by_key(atom, "job", view.job(&id_of(add, first.used.operation))?)?;
        // A hand edit may have made it another user's since, or put another one in its place.
        is_the_same(&record, add)?;
        return Ok(Changes::default().answering(Stored { record, replayed: first.replayed }));
    }
    let id = id_of(add, atom.stamp().operation);
    let is_minted = add.job.is_none() && add.external_task_id.is_none();
    if !is_minted && let Some(record) = view.job(&id)? {
        is_the_same(&record, add)?;
        let changes = Changes::default().settled_unchanged(atom, user, Answer::Record);
        return Ok(changes.answering(Stored { record, replayed: true }));
    }
    task_is_free(add.external_task_id.as_ref(), &id, view)?;
    let record = Arc::new(Job::create(add.clone(), id, atom.stamp().now));
    let changes = Changes { record: Some(Record::Job(Arc::clone(&record))), ..Changes::with_user(atom, user, view)? };
    Ok(changes.settled(atom, user, Answer::Record).answering(Stored { record, replayed: false }))
}

pub(super) fn update(atom: &Atom, update: &UpdateJobStatus, view: &dyn View) -> Result<Decision, Halt> {
    let record = view.job(&update.job)?.ok_or_else(|| Error::not_found("job", &update.job))?;
    let owner = record.user;
    if let Some(first) = first(atom, owner, view)? {
        return Ok(Changes::default().answering(Stored { record, replayed: first.replayed }));
    }
    task_is_free(update.external_task_id.as_ref(), &update.job, view)?;
    let Some(changed) = changed(&record, update, atom)? else {
        let changes = Changes::default().settled_unchanged(atom, owner, Answer::Record);
        return Ok(changes.answering(Stored { record, replayed: true }));
    };
    let record = Arc::new(changed);
    let changes = Changes { record: Some(Record::Job(Arc::clone(&record))), ..Changes::default() };
    Ok(changes.settled(atom, owner, Answer::Record).answering(Stored { record, replayed: false }))
}

/// Whether a job that stands is the one that is added again.
fn is_the_same(job: &Job, again: &AddGenerationJob) -> Result<()> {
    if job.user == again.user && job.created_with == again.creation() {
        return Ok(());
    }
    Err(Error::conflict("job", &job.id, "it was created with other arguments"))
}

/// `Conflict` when the external task id is another job's.
pub(super) fn task_is_free(task: Option<&TaskId>, job: &JobId, view: &dyn View) -> Result<(), Halt> {
    let Some(task) = task else { return Ok(()) };
    match view.job_of(task)? {
        Some(other) if other.id != *job => {
            Err(Error::conflict("external task id", task, format!("it belongs to job {}", other.id)).into())
        }
        _ => Ok(()),
    }
}

/// The job once it is updated; `None` where nothing changes.
fn changed(job: &Job, update: &UpdateJobStatus, atom: &Atom) -> Result<Option<Job>> {
    let UpdateJobStatus { job: _, status, result_urls, error_message, external_task_id, key: _ } = update;
    let equal = is_same(result_urls.as_ref(), Some(&job.result_urls))
        && is_same(error_message.as_ref(), job.error_message.as_ref())
        && is_same(external_task_id.as_ref(), job.external_task_id.as_ref());
    let stays = *status == job.status;
    if stays && equal {
        return Ok(None);
    }
    if !job.status.may_become(*status) && (!stays || job.status.is_final()) {
        return Err(Error::transition("job", &job.id, job.status.as_str(), status.as_str()));
    }
    let mut changed = Job { status: *status, updated_at: atom.stamp().now, ..job.clone() };
    if let Some(urls) = result_urls {
        changed.result_urls = urls.clone();
    }
    if let Some(task) = external_task_id {
        changed.external_task_id = Some(task.clone());
    }
    changed.error_message = match (status, error_message) {
        (JobStatus::Completed, _) => None,
        (_, Some(message)) => Some(message.clone()),
        (_, None) => changed.error_message,
    };
    Ok(Some(changed))
}

/// Whether a detail that was given equals the stored one; one that was not given keeps what is stored.
fn is_same<T: PartialEq>(given: Option<&T>, stored: Option<&T>) -> bool {
    given.is_none() || given == stored
}
