//! `storage jobs`: from the order to the result.

use storage_core::{Error, JobId, ListJobs};

use crate::args::JobsCommand;
use crate::context::Context;
use crate::exit::{Exit, Outcome};
use crate::output::{Table, facts, or_dash, short, when};

pub(crate) async fn run(context: &Context, command: JobsCommand) -> Outcome {
    match command {
        JobsCommand::List { user, status, page } => {
            list(context, ListJobs { user, statuses: status, page: page.request()? }).await
        }
        JobsCommand::Show { job } => show(context, &job).await,
    }
}

async fn list(context: &Context, list: ListJobs) -> Outcome {
    let jobs = context.looking_at_store(async |storage| Ok(storage.list_jobs(list).await?)).await?;
    context.out.page(&jobs, "jobs", || {
        let mut table = Table::new(&["job", "user", "status", "price>", "model", "created (UTC)"]);
        for job in &jobs.items {
            table.row([
                job.id.to_string(),
                job.user.to_string(),
                job.status.to_string(),
                job.price.to_string(),
                short(job.model_name.as_str(), 24),
                when(job.created_at),
            ]);
        }
        table
    })?;
    Ok(Exit::Done)
}

async fn show(context: &Context, id: &JobId) -> Outcome {
    let job = context
        .looking_at_store(async |storage| Ok(storage.get_job(id).await?.ok_or_else(|| Error::not_found("job", id))?))
        .await?;
    context.out.answer(&*job, || {
        let mut about = vec![
            ("user", job.user.to_string()),
            ("status", job.status.to_string()),
            ("price", job.price.to_string()),
            ("model", format!("{} ({})", job.model_name, job.model_id)),
            ("external task", or_dash(job.external_task_id.as_ref())),
            ("params", short(job.params.as_json(), 400)),
            ("error", or_dash(job.error_message.as_ref())),
            ("created", format!("{} UTC", when(job.created_at))),
            ("updated", format!("{} UTC", when(job.updated_at))),
        ];
        about.extend(job.result_urls.as_slice().iter().map(|url| ("result", url.clone())));
        format!("Job {}\n{}", job.id, facts("  ", &about))
    })?;
    Ok(Exit::Done)
}
