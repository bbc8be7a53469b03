//! Jobs and their words.

use super::*;

#[test]
fn jobs_of_the_unified_storage() {
    let (legacy, job) = only_job(
        "generation_jobs.json",
        r#"{"j1":{"job_id":"j1","user_id":1001,"model_id":"m","model_name":"M","params":{"prompt":"x"},"price":1.5,"status":"pending","task_id":null,"external_task_id":null,"created_at":"2025-12-22T10:00:00","updated_at":"2025-12-22T10:00:00","result_urls":[],"error_message":null}}"#,
    );
    assert_eq!((job.id.as_str(), job.user, job.price), ("j1", user(1001), money("1.5")));
    assert_eq!((job.model_id.as_str(), job.model_name.as_str()), ("m", "M"));
    assert_eq!(
        (job.params.as_json(), job.status, job.external_task_id),
        (r#"{"prompt":"x"}"#, JobStatus::Pending, None)
    );
    assert_eq!((job.created_at, job.error_message), (at("2025-12-22T10:00:00Z"), None));
    assert_eq!(notes(&legacy), Vec::<String>::new());
    let again = storage_core::AddGenerationJob {
        user: user(1001),
        job: Some(job.id),
        external_task_id: None,
        model_id: job.model_id,
        model_name: job.model_name,
        params: job.params,
        price: job.price,
        key: None,
    };
    assert_eq!(job.created_with, again.creation());
}

#[test]
fn jobs_with_absent_fields() {
    let (legacy, job) = only_job(
        "generation_jobs.json",
        r#"{"job-1":{"job_id":"job-1","user_id":1001,"status":"delivered","task_id":"t1","chat_id":1001,"message_id":5,"sku_id":"s","is_free":true,"updated_at":"2026-01-01T00:00:00","result_url":"https://e/1"}}"#,
    );
    assert_eq!((job.model_id.as_str(), job.model_name.as_str()), ("s", "s"));
    assert_eq!((job.status, job.params.as_json(), job.price), (JobStatus::Completed, "{}", Money::ZERO));
    assert_eq!(job.external_task_id.unwrap().as_str(), "t1");
    assert_eq!(job.result_urls.as_slice(), ["https://e/1"]);
    assert_eq!(
        notes(&legacy),
        [
            "job-1: no model_id: the sku_id was put in",
            "job-1: no model_name: the model_id was put in",
            "job-1: no params: {} was put in",
            "job-1: no price: 0 was put in",
            "job-1: no created_at: updated_at was taken",
        ]
    );
    let (_, job) = only_job(
        "jobs.json",
        r#"{"job-1":{"job_id":"job-1","user_id":1001,"chat_id":1001,"state":"success","start_ts_ms":1769000000000,"updated_ts_ms":1769000009500,"prompt":"a cat"}}"#,
    );
    assert_eq!((job.model_id.as_str(), job.status), ("unknown", JobStatus::Completed));
    assert_eq!(job.created_at, at("2026-01-21T12:53:20Z"));
    assert_eq!(job.updated_at, at("2026-01-21T12:53:29.5Z"));
    assert_eq!(job.params.as_json(), r#"{"prompt":"a cat"}"#);
}

#[test]
fn words_of_jobs() {
    let job = |rest: &str| {
        let text = format!(
            r#"{{"7":{{"user_id":1,"model_id":"m","model_name":"M","params":{{}},"price":0,"created_at":1,{rest}}}}}"#
        );
        only_job("generation_jobs.json", &text).1
    };
    for (words, status) in [
        ("pending queued queuing create_start task_created draft await_confirm waiting", JobStatus::Pending),
        ("processing running generating in_progress", JobStatus::Running),
        (
            "completed done success succeeded result_validated tg_deliver delivery_pending delivered",
            JobStatus::Completed,
        ),
        ("failed fail error exception timeout", JobStatus::Failed),
        ("cancel canceled cancelled", JobStatus::Cancelled),
    ] {
        for word in words.split(' ') {
            let job = job(&format!(r#""status":"{word}""#));
            let message = (word == "timeout").then_some("timeout");
            assert_eq!((job.id.as_str(), job.status), ("7", status), "{word}");
            assert_eq!(job.error_message.as_ref().map(storage_core::ErrorMessage::as_str), message, "{word}");
        }
    }
    let message = |rest: &str| job(rest).error_message.map(|message| message.as_str().to_owned());
    assert_eq!(message(r#""status":"timeout","error_message":"too slow""#).unwrap(), "timeout: too slow");
    assert_eq!(message(r#""status":"fail","error_code":"E7""#).unwrap(), "E7");
    assert_eq!(message(r#""status":"done","error_message":"old""#), None);
}

#[test]
fn bad_jobs_are_refused_by_name() {
    let legacy = one(
        "generation_jobs.json",
        r#"{"a":{"user_id":1,"status":"teleported","created_at":1},
            "b":{"user_id":1,"status":"done","task_id":"t","created_at":1},
            "c":{"user_id":1,"status":"done","external_task_id":"t","created_at":1},
            "d":{"user_id":1,"status":"done","result_urls":["a\nb"],"created_at":1},
            "e":{"user_id":1,"status":"done","params":{"x":NaN},"created_at":1},
            "f":{"user_id":1,"status":"done","price":-1,"created_at":1},
            "g":{"user_id":0,"status":"done"},
            "h":{"status":"done"}}"#
            .replace("a\nb", "a\\nb")
            .as_str(),
    );
    let found: Vec<_> = refused(&legacy).into_iter().map(|(_, key, reason)| (key, reason.to_owned())).collect();
    assert_eq!(found[0], ("a", "status: the word \"teleported\" is unknown".to_owned()));
    assert_eq!(found[1], ("c", "external_task_id: belongs to the job \"b\" already".to_owned()));
    assert_eq!(found[2], ("d", "result_urls: must not contain control characters".to_owned()));
    assert!(found[3].0 == "e" && found[3].1.starts_with("params: must be JSON"), "{:?}", found[3]);
    assert_eq!(found[4], ("f", "price: must not be negative".to_owned()));
    assert_eq!(found[5], ("g", "user_id: must not be 0".to_owned()));
    assert_eq!(found[6], ("h", "user_id: is missing".to_owned()));
    assert_eq!((legacy.report.jobs, found.len()), (1, 7));
}

#[test]
fn a_job_in_both_files_is_taken_once() {
    let legacy = legacy(&[
        (
            "generation_jobs.json",
            r#"{"j":{"user_id":1,"status":"pending","created_at":1},"k":{"user_id":1,"status":"odd"}}"#,
        ),
        (
            "jobs.json",
            r#"{"j":{"user_id":1,"state":"success","start_ts_ms":5},"k":{"user_id":1,"state":"done","start_ts_ms":5}}"#,
        ),
    ]);
    assert_eq!(legacy.report.jobs, 2);
    assert!(notes(&legacy).contains(&"j: generation_jobs.json holds this job already, which counts".to_owned()));
}
