//! Generation jobs, with details in one file and bare states in another.

use storage_core::{AddGenerationJob, ErrorMessage, ImportRecord, Job, JobId, JobStatus, Result, TaskId, legacy};

use super::fields::{Attempt, Read, broken, first_text, object, owner, ruled, same_id, text, urls};
use super::gather::Gather;
use super::source_files::LegacyFile;
use crate::json_text::Node;

/// Reads `generation_jobs.json` or `jobs.json`.
pub(super) fn read(gather: &mut Gather<'_>, file: &LegacyFile) -> Result<()> {
    gather.each_record(file, &mut job)
}

fn job(gather: &mut Gather<'_>, attempt: &mut Attempt<'_>, node: &Node<'_>) -> Read<Option<ImportRecord>> {
    object(node)?;
    if let Some(file) = gather.job_ids.get(attempt.key) {
        attempt.note(format!("{file} holds this job already, which counts"));
        return Ok(None);
    }
    let id = ruled("job_id", JobId::new(attempt.key))?;
    same_id(attempt.key, node, "job_id")?;
    let user = owner(node)?;
    let (status, error_message) = status(attempt, node)?;
    let task = first_text(node, &["external_task_id", "task_id"])?;
    if let Some(job) = task.and_then(|task| gather.task_ids.get(task)) {
        return broken("external_task_id", format_args!("belongs to the job {job:?} already"));
    }
    let external_task_id = task.map(|task| ruled("external_task_id", TaskId::new(task))).transpose()?;
    let mut model = text(node, "model_id")?;
    if let (None, Some(unit)) = (model, text(node, "sku_id")?) {
        attempt.note("no model_id: the sku_id was put in");
        model = Some(unit);
    }
    let (model_id, model_name) = gather.model(attempt, model, text(node, "model_name")?)?;
    let params = attempt.params(node)?;
    let price = attempt.price(node)?;
    let result_urls = urls(node)?;
    let primary: &[&str] = if node.field("start_ts_ms").is_some() { &["start_ts_ms"] } else { &["created_at"] };
    let updates = ["updated_at", "updated_ts_ms", "finished_ts_ms", "timed_out_ts_ms", "recovered_ts_ms"];
    let created_at = attempt.moment(node, primary, &updates)?;
    let mut updated_at = created_at;
    for field in updates {
        if let Some(moment) = attempt.time(node, field)? {
            updated_at = moment;
            break;
        }
    }
    let order = AddGenerationJob { user, job: None, external_task_id, model_id, model_name, params, price, key: None };
    let created_with = order.creation();
    let AddGenerationJob { external_task_id, model_id, model_name, params, .. } = order;
    gather.job_ids.insert(attempt.key.into(), attempt.file.name.clone());
    if let Some(task) = task {
        gather.task_ids.insert(task.into(), attempt.key.into());
    }
    Ok(Some(ImportRecord::Job(Job {
        id,
        user,
        model_id,
        model_name,
        params,
        price,
        status,
        external_task_id,
        result_urls,
        error_message,
        created_at,
        updated_at,
        created_with,
    })))
}

/// The job's state, and the error message that goes with it.
fn status(attempt: &mut Attempt<'_>, node: &Node<'_>) -> Read<(JobStatus, Option<ErrorMessage>)> {
    let word = first_text(node, &["status", "state"])?;
    if word.is_none() {
        attempt.note("no status: pending was put in");
    }
    let word = word.unwrap_or("pending");
    let Some(status) = legacy::job_status(word) else {
        return broken("status", format_args!("the word {word:?} is unknown"));
    };
    let message = first_text(node, &["error_message", "error_code"])?;
    let message = match (status, message) {
        (JobStatus::Completed, Some(_)) => {
            attempt.note("a completed job with an error message, which was left out");
            None
        }
        (_, Some(message)) if word == "timeout" => Some(format!("timeout: {message}")),
        (_, None) if word == "timeout" => Some(word.to_owned()),
        (_, message) => message.map(str::to_owned),
    };
    let message = message.map(|message| ruled("error_message", ErrorMessage::new(message))).transpose()?;
    Ok((status, message))
}
