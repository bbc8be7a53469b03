//! `storage migrate --adopt`: the earlier system's tables step aside under other names, and their rows are imported. All
//! of it can be repeated: tables that were adopted stay so, and what the store knows already is kept.

use std::time::Duration;

use storage_core::{Error, TimeZone};
use storage_factory::{Mode, choose};
use storage_json::legacy::{FileNote, LeftAlone, LegacyRecord, Refusal, UncertainPayment};
use storage_pg::{Adopted, AdoptedReport, PgOptions, SchemaReport, SchemaState, read_adopted};

use crate::confirm::Plan;
use crate::context::{Context, Planned};
use crate::exit::{Exit, Failure, Outcome};
use crate::import::{self, Report};
use crate::migrate::{adopt_tables, named, no_way};

pub(crate) async fn adopt(
    context: &Context,
    options: &PgOptions,
    report: SchemaReport,
    wait: Duration,
    strict: bool,
    time_zone: &TimeZone,
) -> Outcome {
    let SchemaReport { state, text, adopted, around: _ } = report;
    let mut plan =
        Plan::new(&Planned::chosen(context), "the earlier system's tables will be adopted, and their rows imported");
    plan.add("schema", context.config.postgres.schema.clone());
    let rename = match state {
        SchemaState::Original { tables } => {
            let renamed: Vec<_> = tables.iter().map(|table| format!("{table} -> legacy_{table}")).collect();
            plan.add("renamed", renamed.join(", "));
            true
        }
        SchemaState::Pending { ref pending, .. } if !adopted.is_empty() => {
            plan.add("to be applied", named(pending));
            true
        }
        SchemaState::Current(_) if !adopted.is_empty() => false,
        SchemaState::Current(_) | SchemaState::Pending { .. } => {
            let message = format!("there is nothing to adopt: no table of the earlier system is here; {text}");
            return Err(Failure::refused(message, "storage migrate"));
        }
        _ => return Err(no_way(context).await),
    };
    if !adopted.is_empty() {
        plan.add("adopted before", adopted.join(", "));
    }
    if context.dry_run && !rename {
        return import_adopted(context, options, strict, time_zone).await;
    }
    if !plan.approve(context)? {
        return Ok(Exit::Done);
    }
    if rename {
        let migrated = adopt_tables(options, wait).await?;
        if !migrated.adopted.is_empty() {
            context.out.note(&format!("adopted: {}", migrated.adopted.join(", ")));
        }
    }
    import_adopted(context, options, strict, time_zone).await.map_err(|failure| match failure {
        store @ Failure::Store { .. } => store.with_hint("storage migrate --adopt again: what was done stays done"),
        other => other,
    })
}

/// Imports the rows of adopted tables, and answers what an import answers.
async fn import_adopted(context: &Context, options: &PgOptions, strict: bool, time_zone: &TimeZone) -> Outcome {
    let Adopted { records, report: read } = read_adopted(options, time_zone).await.map_err(Error::from)?;
    let records = records
        .into_iter()
        .map(|adopted| LegacyRecord { file: adopted.table.into(), key: adopted.key, record: adopted.record })
        .collect();
    // Whatever the mode: the rows stand in this database, and belong into this one.
    let mut config = context.config.clone();
    config.mode = Mode::Postgres;
    let here = Context { choice: choose(&config)?, config, ..context.clone() };
    let source = format!("adopted tables at {}", here.choice.location());
    import::import_records(&here, records, as_report(source, read), "legacy_operations", strict, None).await
}

/// What was read, in the words of an import from files: a table is the file, a row's key the record's.
fn as_report(source: String, read: AdoptedReport) -> Report {
    let refusal = |refused: storage_pg::AdoptedRefusal| Refusal {
        file: refused.table.to_owned(),
        key: refused.key,
        reason: refused.reason,
    };
    let note = |note: storage_pg::AdoptedNote| FileNote { file: note.table.to_owned(), key: note.key, note: note.note };
    let left = |left: storage_pg::AdoptedLeftAlone| LeftAlone { file: left.table.to_owned(), reason: left.reason };
    let uncertain = |payment: storage_pg::UncertainAdoptedPayment| UncertainPayment {
        file: payment.table.to_owned(),
        key: payment.key,
        user: payment.user,
        amount: payment.amount,
    };
    Report {
        source,
        rounded: read.rounded,
        refused: read.refused.into_iter().map(refusal).collect(),
        notes: read.notes.into_iter().map(note).collect(),
        left_alone: read.left_alone.into_iter().map(left).collect(),
        uncertain_payments: read.uncertain_payments.into_iter().map(uncertain).collect(),
        uncertain_sum: read.uncertain_sum,
        ..Report::default()
    }
}
