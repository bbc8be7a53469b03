//! Jobs.

use super::Change::{Before, Replace};
use super::Mutant;

pub(super) const ALL: &[Mutant] = &[
    Mutant {
        name: "failure-needs-urls",
        defect: "a failure with only a message cannot be stored (W21)",
        caught_by: "jobs::a_failure_with_only_a_message_is_stored",
        changes: &[Before(
            "kernel/jobs.rs",
            "let owner = record.user;",
            "if update.status == JobStatus::Failed && update.result_urls.is_none() { return Err(Error::invalid(\"result URLs\", \"must be given\").into()); }",
        )],
    },
    Mutant {
        name: "unknown-job-ok",
        defect: "updating an unknown job says ok (W22)",
        caught_by: "jobs::an_unknown_job_is_not_found",
        changes: &[Replace(
            "kernel/jobs.rs",
            "let record = «view.job(&update.job)?.ok_or_else(|| Error::not_found(\"job\", &update.job))?»;",
            "match view.job(&update.job)? { Some(record) => record, None => { let add = AddGenerationJob { user: storage_core::UserId::new(1)?, job: None, external_task_id: None, model_id: \"m\".parse()?, model_name: \"m\".parse()?, params: storage_core::Params::from_json(\"1\")?, price: storage_core::Money::ZERO, key: None }; let record = Arc::new(Job::create(add, update.job.clone(), atom.stamp().now)); return Ok(Changes::default().answering(Stored { record, replayed: false })); } }",
        )],
    },
    Mutant {
        name: "unknown-job-conflict",
        defect: "an unknown job is `Conflict`, not `NotFound` (R8)",
        caught_by: "jobs::an_unknown_job_is_not_found",
        changes: &[Replace(
            "kernel/jobs.rs",
            "let record = «view.job(&update.job)?.ok_or_else(|| Error::not_found(\"job\", &update.job))?»;",
            "view.job(&update.job)?.ok_or_else(|| Error::conflict(\"job\", &update.job, \"it is unknown\"))?",
        )],
    },
    Mutant {
        name: "duplicate-job-overwrites",
        defect: "a duplicate id overwrites the job and its owner (W23)",
        caught_by: "jobs::a_duplicate_id_never_changes_the_owner",
        changes: &[Replace("kernel/jobs.rs", "if «!is_minted» && let Some(record) = view.job(&id)? {", "false")],
    },
    Mutant {
        name: "duplicate-job-is-a-replay",
        defect: "a duplicate id with other arguments is answered like a replay",
        caught_by: "jobs::a_duplicate_id_with_any_other_argument_is_a_conflict",
        changes: &[Replace("kernel/jobs.rs", "job.created_with == again.creation()", "true")],
    },
    Mutant {
        name: "job-params-as-text",
        defect: "params come back as text (W24)",
        caught_by: "jobs::params_come_back_as_the_value_they_were",
        changes: &[Replace(
            "kernel/jobs.rs",
            "let record = Arc::new(«Job::create(add.clone(), id, atom.stamp().now)»);",
            "let mut job = Job::create(add.clone(), id, atom.stamp().now); let quoted = job.params.as_json().replace('\\\\', \"\\\\\\\\\").replace('\"', \"\\\\\\\"\"); job.params = storage_core::Params::from_json(&format!(\"\\\"{quoted}\\\"\"))?; job",
        )],
    },
    Mutant {
        name: "job-born-running",
        defect: "a new job is running",
        caught_by: "jobs::a_new_job_is_pending_and_as_ordered",
        changes: &[Replace(
            "kernel/jobs.rs",
            "let record = Arc::new(«Job::create(add.clone(), id, atom.stamp().now)»);",
            "Job { status: JobStatus::Running, ..Job::create(add.clone(), id, atom.stamp().now) }",
        )],
    },
    Mutant {
        name: "success-keeps-error",
        defect: "a completed job keeps its old error (W25)",
        caught_by: "jobs::success_clears_an_old_error",
        changes: &[Replace(
            "kernel/jobs.rs",
            "let Some(changed) = «changed(&record, update, atom)?» else {",
            "changed(&record, update, atom)?.map(|changed| { let error_message = changed.error_message.clone().or(record.error_message.clone()); Job { error_message, ..changed } })",
        )],
    },
    Mutant {
        name: "job-goes-back",
        defect: "a failed job goes back to pending (W26)",
        caught_by: "jobs::the_final_states_are_final",
        changes: &[Replace(
            "kernel/jobs.rs",
            "let Some(changed) = «changed(&record, update, atom)?» else {",
            "match changed(&record, update, atom) { Err(_) => Some(Job { status: update.status, ..record.as_ref().clone() }), Ok(changed) => changed }",
        )],
    },
    Mutant {
        name: "final-job-changes-details",
        defect: "a final job takes other details",
        caught_by: "jobs::a_final_job_takes_no_other_details",
        changes: &[Replace(
            "kernel/jobs.rs",
            "let Some(changed) = «changed(&record, update, atom)?» else {",
            "match changed(&record, update, atom) { Err(_) if record.status == update.status => Some(Job { error_message: update.error_message.clone(), ..record.as_ref().clone() }), other => other? }",
        )],
    },
    Mutant {
        name: "absent-details-wipe",
        defect: "details that are not given wipe what is stored",
        caught_by: "jobs::absent_details_keep_what_is_stored",
        changes: &[Replace(
            "kernel/jobs.rs",
            "let Some(changed) = «changed(&record, update, atom)?» else {",
            "changed(&record, update, atom)?.map(|changed| Job { result_urls: update.result_urls.clone().unwrap_or_default(), ..changed })",
        )],
    },
    Mutant {
        name: "update-moves-the-row",
        defect: "an update moves the job to the top of its list (R11)",
        caught_by: "paging::an_update_does_not_move_a_row",
        changes: &[Replace(
            "kernel/jobs.rs",
            "let Some(changed) = «changed(&record, update, atom)?» else {",
            "changed(&record, update, atom)?.map(|changed| Job { created_at: atom.stamp().now, ..changed })",
        )],
    },
    Mutant {
        name: "task-of-two-jobs",
        defect: "two jobs may have one external task id",
        caught_by: "jobs::an_external_task_id_belongs_to_one_job",
        changes: &[Replace("kernel/jobs.rs", "Some(other) if «other.id != *job» => {", "false && other.id != *job")],
    },
    Mutant {
        name: "job-creates-nobody",
        defect: "a job for an unknown user is stored without the user (R2)",
        caught_by: "jobs::a_job_creates_its_user",
        changes: &[Replace(
            "kernel/jobs.rs",
            "..«Changes::with_user(atom, user, view)?» }",
            "let _ = view.account(user)?; Changes::default()",
        )],
    },
    Mutant {
        name: "one-state-of-several",
        defect: "of several states in a filter only the first counts",
        caught_by: "jobs::jobs_are_listed_by_user_and_any_of_several_states",
        changes: &[Replace(
            "state.rs",
            "list.matches(job)",
            "ListJobs { statuses: list.statuses.first().copied().into_iter().collect(), ..list.clone() }.matches(job)",
        )],
    },
    Mutant {
        name: "jobs-of-everybody",
        defect: "a user's list of jobs has everybody's",
        caught_by: "jobs::jobs_are_listed_by_user_and_any_of_several_states",
        changes: &[Replace("state.rs", "list.matches(job)", "ListJobs { user: None, ..list.clone() }.matches(job)")],
    },
    Mutant {
        name: "missing-before-bad-input",
        defect: "an unknown job comes before bad input (R8)",
        caught_by: "rules::bad_input_comes_before_a_missing_record",
        changes: &[
            Replace("kernel/atom.rs", "call.check()?;", ""),
            Before("kernel/jobs.rs", "let owner = record.user;", "update.check()?;"),
        ],
    },
    Mutant {
        name: "job-ids-without-case",
        defect: "ids that differ in case are one (R8)",
        caught_by: "values::ids_that_differ_in_a_byte_are_two",
        changes: &[Replace(
            "kernel/jobs.rs",
            "(Some(id), _) => «id.clone()»,",
            "JobId::new(id.as_str().to_lowercase()).unwrap_or(id.clone())",
        )],
    },
    Mutant {
        name: "task-id-not-the-id",
        defect: "a job without an id gets a minted one though it has an external task id",
        caught_by: "jobs::the_external_task_id_is_the_id_of_a_job_without_one",
        changes: &[Replace(
            "kernel/jobs.rs",
            "(None, Some(task)) => «JobId::from(task)»,",
            "let _ = task; JobId::from(&operation.to_key())",
        )],
    },
    Mutant {
        name: "task-id-of-an-update-lost",
        defect: "an external task id that comes later is not kept",
        caught_by: "jobs::a_running_job_may_learn_details",
        changes: &[Replace("kernel/jobs.rs", "changed.external_task_id = Some(task.clone());", "let _ = task;")],
    },
    Mutant {
        name: "found-by-its-id",
        defect: "a job is found by a task id that only looks like its own id",
        caught_by: "jobs::a_job_without_any_id_gets_a_minted_one",
        changes: &[Replace(
            "state.rs",
            "self.jobs.values().find(|job| «job.external_task_id.as_ref() == Some(task)»)",
            "job.external_task_id.as_ref() == Some(task) || job.id.as_str() == task.as_str()",
        )],
    },
];
