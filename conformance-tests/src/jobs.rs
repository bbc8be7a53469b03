//! Generation jobs, from the order to the result.

use storage_core::{AddGenerationJob, JobStatus, ListJobs, Params, ResultUrls, Storage, UpdateJobStatus};

use crate::check::{Check, ensure, ensure_eq, present};
use crate::context::Context;
use crate::expect::{Expected, conflict, not_found, refused, refused_without_trace, transition};
use crate::scenario::list_scenarios;
use crate::steps::{count, dump_text, job, order, together};

list_scenarios! {
    "jobs":
    a_new_job_is_pending_and_as_ordered ["add_generation_job", "get_job", "W17"];
    a_job_creates_its_user ["add_generation_job", "R2", "W18"];
    the_external_task_id_is_the_id_of_a_job_without_one ["add_generation_job", "find_job_by_task_id"];
    a_job_without_any_id_gets_a_minted_one ["add_generation_job", "find_job_by_task_id", "V11"];
    the_same_creation_again_is_a_replay_and_shows_the_job_as_it_stands ["add_generation_job", "R6"];
    a_duplicate_id_never_changes_the_owner ["W23", "add_generation_job"];
    a_duplicate_id_with_any_other_argument_is_a_conflict ["W23", "add_generation_job"];
    an_external_task_id_belongs_to_one_job ["add_generation_job", "update_job_status", "find_job_by_task_id"];
    params_come_back_as_the_value_they_were ["W24", "V8", "get_job"];
    a_job_goes_forward_only ["update_job_status", "W26"];
    the_final_states_are_final ["update_job_status", "W26"];
    a_refused_step_leaves_no_trace ["update_job_status", "W26", "R8"];
    an_unknown_job_is_not_found ["W22", "update_job_status", "get_job"];
    a_failure_with_only_a_message_is_stored ["W21", "update_job_status"];
    success_clears_an_old_error ["W25", "update_job_status"];
    success_with_an_error_message_is_refused ["update_job_status"];
    absent_details_keep_what_is_stored ["update_job_status"];
    the_present_status_with_equal_details_is_a_replay ["update_job_status", "R6"];
    a_running_job_may_learn_details ["update_job_status"];
    a_final_job_takes_no_other_details ["update_job_status"];
    of_fifty_endings_one_stays ["update_job_status", "R4"];
    fifty_equal_orders_make_one_job ["add_generation_job", "R4"];
    jobs_are_listed_by_user_and_any_of_several_states ["list_jobs"];
    a_listed_job_is_the_job ["list_jobs", "get_job"];
}

fn update(id: &str, status: JobStatus) -> Check<UpdateJobStatus> {
    Ok(UpdateJobStatus::new(id.parse()?, status))
}

fn failed(id: &str, message: &str) -> Check<UpdateJobStatus> {
    Ok(UpdateJobStatus { error_message: Some(message.parse()?), ..update(id, JobStatus::Failed)? })
}

async fn to(storage: &dyn Storage, id: &str, status: JobStatus) -> Check {
    ensure_eq!(storage.update_job_status(update(id, status)?).await?.replayed, false);
    Ok(())
}

async fn status_of(storage: &dyn Storage, id: &str) -> Check<JobStatus> {
    Ok(present(storage.get_job(&id.parse()?).await?, "the job")?.status)
}

async fn a_new_job_is_pending_and_as_ordered(context: Context) -> Check {
    let storage = context.open().await?;
    let add = AddGenerationJob { external_task_id: Some("kie-1".parse()?), ..job(context.alice, "job-1")? };
    let stored = storage.add_generation_job(add.clone()).await?;
    ensure_eq!(stored.replayed, false);
    let job = stored.record;
    ensure_eq!((job.id.as_str(), job.user, job.status), ("job-1", context.alice, JobStatus::Pending));
    ensure_eq!((&job.model_id, &job.model_name, &job.params), (&add.model_id, &add.model_name, &add.params));
    ensure_eq!((job.price, &job.external_task_id), (add.price, &add.external_task_id));
    ensure_eq!((job.result_urls.is_empty(), &job.error_message), (true, &None));
    ensure_eq!((job.created_at, job.updated_at), (context.now(), context.now()));
    context.clock.advance_secs(60);
    ensure_eq!(present(storage.get_job(&"job-1".parse()?).await?, "the job")?, job);
    ensure_eq!(present(storage.find_job_by_task_id(&"kie-1".parse()?).await?, "the job")?, job);
    Ok(())
}

async fn a_job_creates_its_user(context: Context) -> Check {
    let storage = context.open().await?;
    order(&*storage, context.alice, "job-1").await?;
    let user = present(storage.find_user(context.alice).await?, "the user")?;
    ensure_eq!((user.created_at, user.balance.is_zero()), (context.now(), true));
    Ok(())
}

async fn the_external_task_id_is_the_id_of_a_job_without_one(context: Context) -> Check {
    let storage = context.open().await?;
    let add = AddGenerationJob { job: None, external_task_id: Some("kie-1".parse()?), ..job(context.alice, "unused")? };
    let stored = storage.add_generation_job(add.clone()).await?;
    ensure_eq!(stored.record.id.as_str(), "kie-1");
    ensure_eq!(storage.find_job_by_task_id(&"kie-1".parse()?).await?.as_ref(), Some(&stored.record));
    let again = storage.add_generation_job(add).await?;
    ensure_eq!((again.replayed, again.record), (true, stored.record));
    Ok(())
}

async fn a_job_without_any_id_gets_a_minted_one(context: Context) -> Check {
    let storage = context.open().await?;
    let add = AddGenerationJob { job: None, ..job(context.alice, "unused")? };
    let first = storage.add_generation_job(add.clone()).await?.record;
    let second = storage.add_generation_job(add).await?.record;
    ensure!(first.id != second.id, "two orders got one id: {}", first.id);
    for minted in [first, second] {
        ensure_eq!(minted.id.as_str().parse::<storage_core::OperationId>()?.to_string(), minted.id.as_str());
        ensure_eq!(minted.id.as_str().as_bytes().get(14), Some(&b'7'), "a UUIDv7");
        // It has no external task id, and is not found by what looks like one.
        ensure_eq!(storage.find_job_by_task_id(&minted.id.as_str().parse()?).await?, None);
        ensure_eq!(storage.get_job(&minted.id).await?, Some(minted));
    }
    Ok(())
}

async fn the_same_creation_again_is_a_replay_and_shows_the_job_as_it_stands(context: Context) -> Check {
    let storage = context.open().await?;
    order(&*storage, context.alice, "job-1").await?;
    to(&*storage, "job-1", JobStatus::Running).await?;
    context.clock.advance_secs(60);
    let before = dump_text(&*storage).await?;
    let again = storage.add_generation_job(job(context.alice, "job-1")?).await?;
    ensure_eq!((again.replayed, again.record.status), (true, JobStatus::Running));
    ensure_eq!(dump_text(&*storage).await?, before);
    Ok(())
}

async fn a_duplicate_id_never_changes_the_owner(context: Context) -> Check {
    let storage = context.open().await?;
    let first = order(&*storage, context.alice, "job-1").await?;
    let other = storage.add_generation_job(job(context.bob, "job-1")?);
    refused_without_trace!(storage, other, conflict("job", "job-1"));
    ensure_eq!(storage.get_job(&"job-1".parse()?).await?, Some(first));
    ensure_eq!(storage.find_user(context.bob).await?, None, "a refusal created a user");
    Ok(())
}

async fn a_duplicate_id_with_any_other_argument_is_a_conflict(context: Context) -> Check {
    let storage = context.open().await?;
    order(&*storage, context.alice, "job-1").await?;
    let base = || job(context.alice, "job-1");
    for other in [
        AddGenerationJob { model_id: "other".parse()?, ..base()? },
        AddGenerationJob { model_name: "Other".parse()?, ..base()? },
        AddGenerationJob { params: Params::from_json("{}")?, ..base()? },
        AddGenerationJob { price: "7.500001".parse()?, ..base()? },
        AddGenerationJob { external_task_id: Some("kie-1".parse()?), ..base()? },
    ] {
        refused_without_trace!(storage, storage.add_generation_job(other), conflict("job", "job-1"));
    }
    Ok(())
}

async fn an_external_task_id_belongs_to_one_job(context: Context) -> Check {
    let storage = context.open().await?;
    let task = |id: &str, task: &str| {
        Ok::<_, crate::Failure>(AddGenerationJob { external_task_id: Some(task.parse()?), ..job(context.alice, id)? })
    };
    storage.add_generation_job(task("job-1", "kie-1")?).await?;
    order(&*storage, context.alice, "job-2").await?;
    let taken = Expected::ConflictNaming("kie-1".to_owned());
    refused_without_trace!(storage, storage.add_generation_job(task("job-3", "kie-1")?), taken);
    let steal = UpdateJobStatus { external_task_id: Some("kie-1".parse()?), ..update("job-2", JobStatus::Running)? };
    refused_without_trace!(storage, storage.update_job_status(steal), taken);
    let own = UpdateJobStatus { external_task_id: Some("kie-2".parse()?), ..update("job-2", JobStatus::Running)? };
    storage.update_job_status(own).await?;
    let found = present(storage.find_job_by_task_id(&"kie-2".parse()?).await?, "the job")?;
    ensure_eq!(found.id.as_str(), "job-2");
    ensure_eq!(storage.find_job_by_task_id(&"kie-3".parse()?).await?, None);
    Ok(())
}

async fn params_come_back_as_the_value_they_were(context: Context) -> Check {
    let storage = context.open().await?;
    let value = serde_json::json!({
        "prompt": "кот 🐈 \"в\" дождь\n\\ \u{2028}", "steps": 30, "scale": 7.5, "seed": u64::MAX, "low": i64::MIN,
        "tiny": 5e-324, "zero": -0.0, "big": 1e16, "list": [[], {}, null, true], "z": 1, "a": 2,
    });
    let params = Params::new(&value)?;
    storage.add_generation_job(AddGenerationJob { params: params.clone(), ..job(context.alice, "job-1")? }).await?;
    let stored = present(storage.get_job(&"job-1".parse()?).await?, "the job")?;
    ensure_eq!(stored.params.to_value()?, value);
    ensure_eq!(stored.params, params, "kept verbatim");
    Ok(())
}

async fn a_job_goes_forward_only(context: Context) -> Check {
    let storage = context.open().await?;
    for (number, from) in [JobStatus::Pending, JobStatus::Running].into_iter().enumerate() {
        for next in JobStatus::ALL.into_iter().filter(|next| *next != from) {
            let id = format!("job-{number}-{next}");
            order(&*storage, context.alice, &id).await?;
            if from == JobStatus::Running {
                to(&*storage, &id, JobStatus::Running).await?;
            }
            if from.may_become(next) {
                to(&*storage, &id, next).await?;
                ensure_eq!(status_of(&*storage, &id).await?, next);
            } else {
                let refusal = transition("job", &id, from.as_str(), next.as_str());
                refused(storage.update_job_status(update(&id, next)?).await, &refusal)?;
                ensure_eq!(status_of(&*storage, &id).await?, from);
            }
        }
    }
    Ok(())
}

async fn the_final_states_are_final(context: Context) -> Check {
    let storage = context.open().await?;
    for from in JobStatus::ALL.into_iter().filter(|status| status.is_final()) {
        let id = format!("job-{from}");
        order(&*storage, context.alice, &id).await?;
        to(&*storage, &id, from).await?;
        for next in JobStatus::ALL.into_iter().filter(|next| *next != from) {
            let refusal = transition("job", &id, from.as_str(), next.as_str());
            refused(storage.update_job_status(update(&id, next)?).await, &refusal)?;
            ensure_eq!(status_of(&*storage, &id).await?, from);
        }
    }
    Ok(())
}

async fn a_refused_step_leaves_no_trace(context: Context) -> Check {
    let storage = context.open().await?;
    order(&*storage, context.alice, "job-1").await?;
    storage.update_job_status(failed("job-1", "the provider said no")?).await?;
    context.clock.advance_secs(60);
    let back = UpdateJobStatus {
        external_task_id: Some("kie-1".parse()?),
        key: Some("retry-1".parse()?),
        ..update("job-1", JobStatus::Pending)?
    };
    let refusal = transition("job", "job-1", "failed", "pending");
    refused_without_trace!(storage, storage.update_job_status(back), refusal);
    ensure_eq!(storage.find_job_by_task_id(&"kie-1".parse()?).await?, None);
    Ok(())
}

async fn an_unknown_job_is_not_found(context: Context) -> Check {
    let storage = context.open().await?;
    let unknown = storage.update_job_status(update("job-1", JobStatus::Completed)?);
    refused_without_trace!(storage, unknown, not_found("job", "job-1"));
    ensure_eq!(storage.get_job(&"job-1".parse()?).await?, None);
    Ok(())
}

async fn a_failure_with_only_a_message_is_stored(context: Context) -> Check {
    let storage = context.open().await?;
    order(&*storage, context.alice, "job-1").await?;
    context.clock.advance_secs(60);
    let stored = storage.update_job_status(failed("job-1", "provider: 500\nретрай")?).await?;
    ensure_eq!((stored.replayed, stored.record.status), (false, JobStatus::Failed));
    let job = present(storage.get_job(&"job-1".parse()?).await?, "the job")?;
    ensure_eq!(job.error_message, Some("provider: 500\nретрай".parse()?));
    ensure_eq!((job.updated_at, job.result_urls.is_empty()), (context.now(), true));
    Ok(())
}

async fn success_clears_an_old_error(context: Context) -> Check {
    let storage = context.open().await?;
    order(&*storage, context.alice, "job-1").await?;
    let limping =
        UpdateJobStatus { error_message: Some("slow, waiting".parse()?), ..update("job-1", JobStatus::Running)? };
    storage.update_job_status(limping).await?;
    let urls = ResultUrls::new(["https://example.org/1.png", "https://example.org/2.png"])?;
    let done = UpdateJobStatus { result_urls: Some(urls.clone()), ..update("job-1", JobStatus::Completed)? };
    let job = storage.update_job_status(done).await?.record;
    ensure_eq!((job.status, &job.error_message, &job.result_urls), (JobStatus::Completed, &None, &urls));
    ensure_eq!(storage.get_job(&"job-1".parse()?).await?, Some(job));
    Ok(())
}

async fn success_with_an_error_message_is_refused(context: Context) -> Check {
    let storage = context.open().await?;
    order(&*storage, context.alice, "job-1").await?;
    let odd = UpdateJobStatus { error_message: Some("?".parse()?), ..update("job-1", JobStatus::Completed)? };
    refused_without_trace!(storage, storage.update_job_status(odd), Expected::Invalid("error message"));
    Ok(())
}

async fn absent_details_keep_what_is_stored(context: Context) -> Check {
    let storage = context.open().await?;
    order(&*storage, context.alice, "job-1").await?;
    let urls = ResultUrls::new(["https://example.org/preview.png"])?;
    let running = UpdateJobStatus {
        external_task_id: Some("kie-1".parse()?),
        result_urls: Some(urls.clone()),
        ..update("job-1", JobStatus::Running)?
    };
    storage.update_job_status(running).await?;
    let job = storage.update_job_status(failed("job-1", "no")?).await?.record;
    ensure_eq!((job.external_task_id.clone(), job.result_urls.clone()), (Some("kie-1".parse()?), urls));
    Ok(())
}

async fn the_present_status_with_equal_details_is_a_replay(context: Context) -> Check {
    let storage = context.open().await?;
    order(&*storage, context.alice, "job-1").await?;
    let first = storage.update_job_status(failed("job-1", "no")?).await?.record;
    context.clock.advance_secs(60);
    let before = dump_text(&*storage).await?;
    for again in [failed("job-1", "no")?, update("job-1", JobStatus::Failed)?] {
        let stored = storage.update_job_status(again).await?;
        ensure_eq!((stored.replayed, &stored.record), (true, &first));
    }
    ensure_eq!(dump_text(&*storage).await?, before);
    Ok(())
}

async fn a_running_job_may_learn_details(context: Context) -> Check {
    let storage = context.open().await?;
    order(&*storage, context.alice, "job-1").await?;
    to(&*storage, "job-1", JobStatus::Running).await?;
    context.clock.advance_secs(60);
    let learn = UpdateJobStatus { external_task_id: Some("kie-1".parse()?), ..update("job-1", JobStatus::Running)? };
    let stored = storage.update_job_status(learn).await?;
    ensure_eq!((stored.replayed, stored.record.updated_at), (false, context.now()));
    ensure_eq!(storage.find_job_by_task_id(&"kie-1".parse()?).await?, Some(stored.record));
    Ok(())
}

async fn a_final_job_takes_no_other_details(context: Context) -> Check {
    let storage = context.open().await?;
    order(&*storage, context.alice, "job-1").await?;
    storage.update_job_status(failed("job-1", "no")?).await?;
    let refusal = transition("job", "job-1", "failed", "failed");
    refused_without_trace!(storage, storage.update_job_status(failed("job-1", "yes")?), refusal);
    Ok(())
}

async fn of_fifty_endings_one_stays(context: Context) -> Check {
    let storage = context.open().await?;
    order(&*storage, context.alice, "job-1").await?;
    let answers = together(50, |number| {
        let storage = storage.clone();
        async move { storage.update_job_status(failed("job-1", &format!("try {number}"))?).await.map_err(Into::into) }
    })
    .await?;
    let winners: Vec<_> = answers.iter().flatten().collect();
    ensure_eq!(winners.len(), 1);
    ensure_eq!(storage.get_job(&"job-1".parse()?).await?.as_ref(), Some(&winners[0].record));
    ensure_eq!(count(&answers, |answer: &Check<_>| answer.is_err()), 49);
    Ok(())
}

async fn fifty_equal_orders_make_one_job(context: Context) -> Check {
    let storage = context.open().await?;
    let add = job(context.alice, "job-1")?;
    let answers = together(50, |_| {
        let (storage, add) = (storage.clone(), add.clone());
        async move { storage.add_generation_job(add).await }
    })
    .await?;
    ensure_eq!(count(&answers, |answer| answer.as_ref().is_ok_and(|stored| !stored.replayed)), 1);
    ensure_eq!(count(&answers, |answer| answer.as_ref().is_ok_and(|stored| stored.replayed)), 49);
    ensure_eq!(storage.list_jobs(ListJobs::default()).await?.items.len(), 1);
    Ok(())
}

async fn jobs_are_listed_by_user_and_any_of_several_states(context: Context) -> Check {
    let storage = context.open().await?;
    for (user, id, status) in [
        (context.alice, "a-pending", JobStatus::Pending),
        (context.alice, "b-running", JobStatus::Running),
        (context.bob, "c-running", JobStatus::Running),
        (context.alice, "d-failed", JobStatus::Failed),
        (context.bob, "e-completed", JobStatus::Completed),
    ] {
        order(&*storage, user, id).await?;
        if status != JobStatus::Pending {
            to(&*storage, id, status).await?;
        }
        context.clock.advance_secs(1);
    }
    let list = async |user, statuses: &[JobStatus]| -> Check<Vec<String>> {
        let list = ListJobs { user, statuses: statuses.to_vec(), ..ListJobs::default() };
        Ok(storage.list_jobs(list).await?.items.iter().map(|job| job.id.to_string()).collect())
    };
    let (alice, open) = (Some(context.alice), [JobStatus::Pending, JobStatus::Running]);
    ensure_eq!(list(None, &[]).await?, ["e-completed", "d-failed", "c-running", "b-running", "a-pending"]);
    ensure_eq!(list(alice, &[]).await?, ["d-failed", "b-running", "a-pending"]);
    ensure_eq!(list(None, &open).await?, ["c-running", "b-running", "a-pending"]);
    ensure_eq!(list(alice, &open).await?, ["b-running", "a-pending"]);
    ensure_eq!(list(alice, &[JobStatus::Cancelled]).await?, Vec::<String>::new());
    ensure_eq!(list(Some(context.carol), &[]).await?, Vec::<String>::new());
    Ok(())
}

async fn a_listed_job_is_the_job(context: Context) -> Check {
    let storage = context.open().await?;
    order(&*storage, context.alice, "job-1").await?;
    storage.update_job_status(failed("job-1", "no")?).await?;
    let listed = storage.list_jobs(ListJobs::default()).await?.items;
    ensure_eq!(listed.first(), storage.get_job(&"job-1".parse()?).await?.as_ref());
    Ok(())
}
