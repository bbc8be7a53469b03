//! `storage migrate`: the PostgreSQL schema, brought to this program's version.

use serde_json::json;

use crate::args::MigrateArgs;
use crate::context::Context;
use crate::exit::{Exit, Outcome};

pub(crate) async fn migrate(context: &Context, arguments: MigrateArgs) -> Outcome {
    if let Some(dir) = context.choice.data_dir() {
        // Whoever has a database beside it most likely means that one.
        let text = format!(
            "nothing to migrate: {} has no schema (its format is checked when it opens); for a database: storage \
             migrate --mode postgres",
            context.choice
        );
        let object = json!({ "backend": "json", "location": dir.display().to_string(), "pending": [] });
        context.out.answer(&object, || text)?;
        return Ok(Exit::Done);
    }
    database(context, arguments).await
}

#[cfg(not(feature = "postgres"))]
async fn database(context: &Context, arguments: MigrateArgs) -> Outcome {
    let MigrateArgs { check: _, wait: _, adopt: _, strict: _, time_zone: _, grants: _ } = arguments;
    // Opening says why this build has no such backend.
    storage_factory::look(context.config.clone()).await?.close().await?;
    Ok(Exit::Done)
}

#[cfg(feature = "postgres")]
use on_postgres::database;

#[cfg(feature = "postgres")]
mod on_postgres {
    use std::time::Duration;

    use serde_json::{Value, json};
    use storage_core::{Error, ErrorKind};
    use storage_factory::{Config, Mode, look, pg_options};
    use storage_pg::{Migrated, PgOptions, SchemaReport, SchemaState, migration_steps, schema_report};

    /// How long others and locks are waited for.
    const WAIT: Duration = Duration::from_mins(1);

    use crate::adopt;
    use crate::args::MigrateArgs;
    use crate::confirm::Plan;
    use crate::context::{Context, Planned};
    use crate::exit::{Exit, Failure, Outcome};

    pub(super) async fn database(context: &Context, arguments: MigrateArgs) -> Outcome {
        let MigrateArgs { check, wait, adopt, strict, time_zone, grants } = arguments;
        let options = pg_options(&context.config)?;
        if let Some(role) = grants {
            let sql = storage_pg::grants(&options, &role)?;
            context.out.answer(&json!({ "role": role, "sql": sql }), || sql.trim_end().to_owned())?;
            return Ok(Exit::Done);
        }
        if let Some(wait) = wait {
            reached(context, &options, Duration::from_secs(wait)).await?;
        }
        let wait = wait.map_or(WAIT, Duration::from_secs);
        let report = schema_report(&options).await.map_err(Error::from)?;
        for (what, remedy) in &report.around {
            context.out.note(&format!("warning: {what}: {remedy}"));
        }
        if adopt {
            return adopt::adopt(context, &options, report, wait, strict, &time_zone).await;
        }
        match report.state {
            SchemaState::Current(version) => current(context, version, &report),
            SchemaState::Pending { applied, ref pending } if check => {
                let answered = context.out.answer(&facts(context, "pending", applied, pending), || {
                    format!("{}\npending: {}\nolder programs: {}", report.text, named(pending), older(applied))
                });
                answered.map(|()| Exit::PendingMigrations)
            }
            SchemaState::Pending { applied, ref pending } if context.dry_run => show(context, applied, pending),
            SchemaState::Pending { applied, ref pending } => {
                plan(context, applied, pending, wait).ask(context)?;
                let migrated = storage_pg::migrate(&options, wait).await.map_err(Error::from)?;
                done(context, &migrated)
            }
            _ => Err(no_way(context).await),
        }
    }

    /// Waits until the server can be reached, and says once for what.
    async fn reached(context: &Context, options: &PgOptions, wait: Duration) -> Result<(), Failure> {
        let mut said = String::new();
        let told = |error: &Error| {
            let why = error.report().to_string();
            if said != why {
                context.out.note(&format!("waiting for the server, {} s at most: {why}", wait.as_secs()));
                said = why;
            }
        };
        Ok(storage_pg::reach(options, wait, told).await.map_err(Error::from)?)
    }

    fn current(context: &Context, version: i32, report: &SchemaReport) -> Outcome {
        let adopted = report.adopted.join(", ");
        let around: Vec<Value> =
            report.around.iter().map(|(what, remedy)| json!({ "what": what, "remedy": remedy })).collect();
        let object = json!({
            "state": "current", "version": version, "pending": [], "adopted": report.adopted, "around": around
        });
        context.out.answer(&object, || {
            let more = if adopted.is_empty() {
                String::new()
            } else {
                format!("\nadopted from the earlier system: {adopted}; storage migrate --adopt imports their rows")
            };
            format!("{}: {}{more}", context.choice.location(), report.text)
        })?;
        Ok(Exit::Done)
    }

    /// The names of versions, for people.
    pub(crate) fn named(pending: &[i32]) -> String {
        let names = migration_steps().into_iter().filter(|(version, ..)| pending.contains(version));
        let names: Vec<_> = names.map(|(version, name, _)| format!("{version} {name}")).collect();
        names.join(", ")
    }

    fn facts(context: &Context, state: &str, applied: i32, pending: &[i32]) -> Value {
        let schema = &context.config.postgres.schema;
        let since = storage_pg::works_since();
        json!({ "state": state, "version": applied, "pending": pending, "schema": schema, "works_since": since })
    }

    /// What becomes of programs that work with the schema as it is.
    fn older(applied: i32) -> String {
        let since = storage_pg::works_since();
        if applied == 0 {
            "none can be using it".to_owned()
        } else if applied >= since {
            "go on".to_owned()
        } else {
            format!(
                "those that do not know version {since} are refused when they open it, and may fail: end them before"
            )
        }
    }

    /// The SQL of what is pending, as a file that psql could run.
    fn show(context: &Context, applied: i32, pending: &[i32]) -> Outcome {
        let steps = migration_steps().into_iter().filter(|(version, ..)| pending.contains(version));
        let steps: Vec<_> = steps.collect();
        let mut object = facts(context, "pending", applied, pending);
        object["dry_run"] = json!(true);
        let sql =
            |(version, name, sql): &(i32, String, String)| json!({ "version": version, "name": name, "sql": sql });
        object["sql"] = steps.iter().map(sql).collect();
        context.out.answer(&object, || {
            let schema = &context.config.postgres.schema;
            let texts = steps.iter().map(|(version, name, sql)| format!("-- {version} {name}\n{}", sql.trim_end()));
            let texts: Vec<_> = texts.collect();
            format!(
                "-- dry run: nothing was changed. storage migrate runs this in one transaction, in the schema {schema}.\n{}",
                texts.join("\n\n")
            )
        })?;
        Ok(Exit::Done)
    }

    fn plan(context: &Context, applied: i32, pending: &[i32], wait: Duration) -> Plan {
        let mut plan = Plan::new(
            &Planned::chosen(context),
            "the schema will be brought to this program's version, in one transaction",
        );
        plan.add("schema", context.config.postgres.schema.clone());
        plan.add("version now", if applied == 0 { "none".to_owned() } else { applied.to_string() });
        let (made, changed) = storage_pg::migrated_tables(pending);
        let count = |what: &str, tables: &[&str]| match tables {
            [] => format!("{what} none"),
            tables => format!("{what} {}: {}", tables.len(), tables.join(", ")),
        };
        plan.add("tables", format!("{}; {}", count("makes", &made), count("adds to", &changed)));
        plan.add("to be applied", named(pending));
        plan.add("older programs", older(applied));
        plan.add("waits at most", format!("{} s for others", wait.as_secs()));
        plan
    }

    fn done(context: &Context, migrated: &Migrated) -> Outcome {
        let Migrated { applied, from, to, .. } = migrated;
        let object = json!({ "state": "current", "applied": applied, "from": from, "version": to });
        let printed = context.out.answer(&object, || {
            if applied.is_empty() {
                format!("another run was first: the schema has version {to}, there was nothing left to do")
            } else {
                format!("applied: {}; the schema has version {to}; next: storage status", named(applied))
            }
        });
        printed.map_err(|failure| failure.after_change("storage migrate --check"))?;
        Ok(Exit::Done)
    }

    /// The failure where there is no way from what stands in the schema. Opening tells it best.
    pub(crate) async fn no_way(context: &Context) -> Failure {
        let config = Config { mode: Mode::Postgres, ..context.config.clone() };
        let error = match look(config).await {
            Err(error) => error,
            Ok(storage) => {
                // It was put in order a moment ago.
                let _ = storage.close().await;
                return Failure::refused("the schema changed while it was looked at", "storage migrate --check");
            }
        };
        let by_hand = matches!(error.kind(), ErrorKind::SchemaMismatch { run, .. } if run == "storage migrate --check");
        let failure = Failure::from(error);
        if by_hand {
            failure.with_hint("put the schema back by hand, or load a backup of the database")
        } else {
            failure
        }
    }

    /// Applies what is pending after the earlier system's tables stepped aside.
    pub(crate) async fn adopt_tables(options: &PgOptions, wait: Duration) -> Result<Migrated, Failure> {
        Ok(storage_pg::adopt_tables(options, wait).await.map_err(Error::from)?)
    }
}

#[cfg(feature = "postgres")]
pub(crate) use on_postgres::{adopt_tables, named, no_way};
