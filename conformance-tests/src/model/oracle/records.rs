//! Jobs and the history of generations.

use storage_core::{
    AddGenerationJob, AddGenerationToHistory, Fingerprint, Generation, GenerationReceipt, HistoryRetention, Job,
    JobStatus, ResultUrls, TaskId, UpdateJobStatus,
};

use super::super::ask::{Answer, ok, stored};
use super::{First, Judged, Moment, Oracle, conflict, invalid, no_way};

fn word(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Pending => "pending",
        JobStatus::Running => "running",
        JobStatus::Completed => "completed",
        JobStatus::Failed => "failed",
        JobStatus::Cancelled => "cancelled",
    }
}

/// Whether a job may go from one state to another.
fn may_go(from: JobStatus, to: JobStatus) -> bool {
    match from {
        JobStatus::Pending => to != JobStatus::Pending,
        JobStatus::Running => !matches!(to, JobStatus::Pending | JobStatus::Running),
        JobStatus::Completed | JobStatus::Failed | JobStatus::Cancelled => false,
    }
}

impl Oracle {
    fn job(&self, id: &str, replayed: bool) -> Answer {
        self.jobs.get(id).map(|job| stored(job, replayed)).unwrap_or_default()
    }

    fn task_is_free(&self, task: Option<&TaskId>, id: &str) -> Judged<()> {
        let Some(task) = task else { return Ok(()) };
        let taken = |job: &Job| job.external_task_id.as_ref() == Some(task) && job.id.as_str() != id;
        if self.jobs.values().any(taken) { conflict("external task id", task) } else { Ok(()) }
    }

    pub(super) fn add_job(&mut self, add: &AddGenerationJob, at: &Moment) -> Judged<Answer> {
        let AddGenerationJob { user, job, external_task_id, model_id, model_name, params, price, key } = add.clone();
        let call = format!("{:?}", AddGenerationJob { key: None, ..add.clone() });
        if let Some(First::Record(id)) = self.replay(user, key.as_ref(), &call)? {
            return Ok(self.job(&id, true));
        }
        let minted = at.id().to_string();
        let id = job.as_ref().map(ToString::to_string).or(external_task_id.as_ref().map(ToString::to_string));
        let id = id.unwrap_or(minted);
        // What it was created with: an update may have given it another external task id since.
        let creation = format!("{:?}", AddGenerationJob { job: None, key: None, ..add.clone() });
        if let Some(known) = self.creations.get(&id) {
            if *known != creation {
                return conflict("job", &id);
            }
            self.settle(user, key.as_ref(), false, (call, First::Record(id.clone())), at.id());
            return Ok(self.job(&id, true));
        }
        self.task_is_free(external_task_id.as_ref(), &id)?;
        self.account(user, at);
        let job = Job {
            id: match id.parse() {
                Ok(id) => id,
                Err(_) => return invalid("job id"),
            },
            user,
            model_id,
            model_name,
            params,
            price,
            status: JobStatus::Pending,
            external_task_id,
            result_urls: ResultUrls::default(),
            error_message: None,
            created_at: at.now,
            updated_at: at.now,
            created_with: Fingerprint::from_bytes([0; 16]),
        };
        self.jobs.insert(id.clone(), job);
        self.creations.insert(id.clone(), creation);
        self.settle(user, key.as_ref(), true, (call, First::Record(id.clone())), at.id());
        Ok(self.job(&id, false))
    }

    pub(super) fn update_job(&mut self, update: &UpdateJobStatus, at: &Moment) -> Judged<Answer> {
        let UpdateJobStatus { job: id, status, result_urls, error_message, external_task_id, key } = update;
        if *status == JobStatus::Completed && error_message.is_some() {
            return invalid("error message");
        }
        let Some(job) = self.jobs.get(id.as_str()).cloned() else { return Self::missing("job", id.as_str()) };
        let call = format!("{:?}", UpdateJobStatus { key: None, ..update.clone() });
        if self.replay(job.user, key.as_ref(), &call)?.is_some() {
            return Ok(self.job(id.as_str(), true));
        }
        self.task_is_free(external_task_id.as_ref(), id.as_str())?;
        let same = result_urls.as_ref().is_none_or(|urls| *urls == job.result_urls)
            && (error_message.is_none() || *error_message == job.error_message)
            && (external_task_id.is_none() || *external_task_id == job.external_task_id);
        let first = (call, First::Nothing);
        if same && *status == job.status {
            self.settle(job.user, key.as_ref(), false, first, at.id());
            return Ok(self.job(id.as_str(), true));
        }
        let stays_open = *status == job.status && matches!(status, JobStatus::Pending | JobStatus::Running);
        if !stays_open && !may_go(job.status, *status) {
            return no_way("job", id, word(job.status), word(*status));
        }
        let user = job.user;
        if let Some(job) = self.jobs.get_mut(id.as_str()) {
            job.status = *status;
            job.updated_at = at.now;
            if let Some(urls) = result_urls {
                job.result_urls = urls.clone();
            }
            if external_task_id.is_some() {
                job.external_task_id.clone_from(external_task_id);
            }
            if *status == JobStatus::Completed {
                job.error_message = None;
            } else if error_message.is_some() {
                job.error_message.clone_from(error_message);
            }
        }
        self.settle(user, key.as_ref(), true, first, at.id());
        Ok(self.job(id.as_str(), false))
    }

    pub(super) fn record(&mut self, add: &AddGenerationToHistory, at: &Moment) -> Judged<Answer> {
        let AddGenerationToHistory { user, id, model_id, model_name, params, result_urls, price } = add.clone();
        let arguments = format!("{:?}", AddGenerationToHistory { id: None, ..add.clone() });
        let Ok(id) = id.map_or_else(|| at.id().to_string().parse(), Ok) else { return invalid("generation id") };
        let place = (user, id.to_string());
        match self.generations.get(&place) {
            Some(known) if *known == arguments => return Ok(ok(GenerationReceipt { id, replayed: true })),
            Some(_) => return conflict("generation", &id),
            None => {}
        }
        let kept = match self.policy.history {
            HistoryRetention::Newest(count) => count.get() as usize,
            HistoryRetention::Everything => usize::MAX,
        };
        let account = self.account(user, at);
        account.spent += i128::from(price.micros());
        let generation = Generation { id: id.clone(), model_id, model_name, params, result_urls, price, at: at.now };
        // Sorted, so that the last one is the oldest. It leaves before the new one comes, which therefore stays.
        if account.history.len() >= kept {
            account.history.pop();
        }
        account.history.push(generation);
        account.history.sort_by(|one, other| (other.at, other.id.as_str()).cmp(&(one.at, one.id.as_str())));
        self.generations.insert(place, arguments);
        Ok(ok(GenerationReceipt { id, replayed: false }))
    }
}
