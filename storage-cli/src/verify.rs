//! `storage verify`: proves the backend on a scratch area, then audits the store. Real users are only read.

mod checks;
mod site;

use std::time::Duration;

use serde::Serialize;
use storage_core::{AuditReport, AuditScope};
use storage_factory::Backend;

use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use checks::CHECKS;
use site::{Miss, Site};

/// No check takes longer than this; one that hangs has failed.
const LIMIT: Duration = Duration::from_mins(2);

#[derive(Debug, Serialize)]
struct Checked {
    name: String,
    ok: bool,
    problem: Option<String>,
}

pub(crate) async fn verify(context: &Context) -> Outcome {
    match &context.choice.backend {
        Backend::Json => {
            let scratch = tempfile::Builder::new()
                .prefix("storage-verify-")
                .tempdir()
                .map_err(|error| Failure::io("no scratch directory could be made", error))?;
            context.out.line("verify: the json backend, in a scratch directory that is removed afterwards")?;
            prove(context, |number| Site::in_directory(scratch.path().join(number.to_string()))).await
        }
        Backend::Postgres(_) => in_schemas(context).await,
    }
}

#[cfg(not(feature = "postgres"))]
async fn in_schemas(context: &Context) -> Outcome {
    // Opening says why this build has no such backend.
    storage_factory::look(context.config.clone()).await?.close().await?;
    Ok(Exit::Done)
}

/// Runs the checks in schemas of the same database, whose names nobody else has.
#[cfg(feature = "postgres")]
async fn in_schemas(context: &Context) -> Outcome {
    let id = context.config.environment.ids.next_id().to_string().replace('-', "");
    let site = |number: usize| Site::in_schema(&context.config, format!("storage_verify_{id}_{number}"));
    // Before any check: whether scratch schemas can be made at all. The last number is no check's.
    let first = site(CHECKS.len());
    let made = first.made().await;
    let removed = first.remove().await;
    made.map_err(|error| match error.kind() {
        storage_core::ErrorKind::ReadOnly => {
            let error = storage_core::Error::new(storage_core::ErrorKind::ReadOnly)
                .message("verify works in scratch schemas of this database, and the role may not create any")
                .caused_by(error);
            Failure::from(error).with_hint("GRANT CREATE ON DATABASE name TO role, by the database's owner")
        }
        _ => Failure::from(error),
    })?;
    removed?;
    let place = context.choice.location();
    context.out.line(&format!(
        "verify: the postgres backend at {place}, in schemas storage_verify_... that are removed afterwards"
    ))?;
    prove(context, site).await
}

/// Runs every check on a site of its own, then audits the store.
async fn prove(context: &Context, site: impl Fn(usize) -> Site) -> Outcome {
    let mut results = Vec::new();
    for (number, check) in CHECKS.iter().enumerate() {
        let site = site(number);
        let outcome = tokio::time::timeout(LIMIT, async {
            (check.run)(&site).await?;
            site.audited().await
        });
        let outcome = outcome.await.unwrap_or_else(|_| Err(Miss(format!("still running after {} s", LIMIT.as_secs()))));
        // Also after a failure. What the check found is worth more than what was left behind.
        let removed = site.remove().await.map_err(Miss::from);
        results.push(print(context, check.name.to_owned(), outcome.and(removed).map(|()| None))?);
    }
    let mut store = None;
    if context.choice.exists() {
        let name = format!("the audit of the store at {}", context.choice.location());
        let outcome = audit(context).await;
        if let Ok(report) = &outcome {
            store = Some(report.clone());
        }
        results.push(print(context, name, judged(outcome))?);
    }
    finish(context, &results, store.as_ref())
}

/// A finding makes a check fail; so does a store that cannot be opened.
fn judged(outcome: Result<AuditReport, Failure>) -> Result<Option<String>, Miss> {
    let report = outcome.map_err(|failure| Miss(failure.report().message))?;
    match report.findings.first() {
        None => Ok(Some(format!("{} users, {} ledger rows", report.users, report.rows))),
        Some(first) => {
            let count = report.findings.len();
            Err(Miss(format!(
                "{count} findings, the first: user {}: {}; see: storage audit",
                first.user, first.problem
            )))
        }
    }
}

async fn audit(context: &Context) -> Result<AuditReport, Failure> {
    context.looking_at_chosen_store(async |storage| Ok(storage.audit(AuditScope::Everyone).await?)).await
}

fn print(context: &Context, name: String, outcome: Result<Option<String>, Miss>) -> Result<Checked, Failure> {
    let (word, more, problem) = match outcome {
        Ok(more) => (context.out.good("ok    "), more, None),
        Err(Miss(problem)) => (context.out.bad("FAILED"), Some(problem.clone()), Some(problem)),
    };
    let more = more.map_or_else(String::new, |more| format!(": {more}"));
    context.out.line(&format!("  {word}  {name}{more}"))?;
    Ok(Checked { name, ok: problem.is_none(), problem })
}

fn finish(context: &Context, results: &[Checked], store: Option<&AuditReport>) -> Outcome {
    let (passed, total) = (results.iter().filter(|check| check.ok).count(), results.len());
    let all = passed == total;
    let object = serde_json::json!({ "ok": all, "passed": passed, "total": total, "checks": results, "store": store });
    context.out.answer(&object, || {
        let hint = if store.is_none() && !context.choice.exists() {
            format!("there is no store at {} yet to audit\n", context.choice.location())
        } else {
            String::new()
        };
        format!("{hint}verify: {passed} of {total} checks passed")
    })?;
    Ok(if all { Exit::Done } else { Exit::Differences })
}
