//! `storage shard`: the tables of a PostgreSQL store, spread by user over the nodes of a sharding engine.

use serde_json::json;

use crate::args::ShardArgs;
use crate::context::Context;
use crate::exit::{Exit, Outcome};

pub(crate) async fn shard(context: &Context, arguments: ShardArgs) -> Outcome {
    if let Some(dir) = context.choice.data_dir() {
        let object = json!({ "backend": "json", "location": dir.display().to_string(), "engine": null, "pending": [] });
        context.out.answer(&object, || format!("nothing to shard: {} is one directory", context.choice))?;
        return Ok(Exit::Done);
    }
    database(context, arguments).await
}

#[cfg(not(feature = "postgres"))]
async fn database(context: &Context, arguments: ShardArgs) -> Outcome {
    let ShardArgs { check: _, apply: _, wait: _ } = arguments;
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
    use storage_core::Error;
    use storage_factory::pg_options;
    use storage_pg::{Placed, Sharding};

    use crate::args::ShardArgs;
    use crate::confirm::Plan;
    use crate::context::{Context, Planned};
    use crate::exit::{Exit, Failure, Outcome};

    pub(super) async fn database(context: &Context, arguments: ShardArgs) -> Outcome {
        let ShardArgs { check, apply: _, wait } = arguments;
        let wait = Duration::from_secs(wait);
        let options = pg_options(&context.config)?;
        let sharding = storage_pg::sharding(&options).await.map_err(Error::from)?;
        let Some(engine) = &sharding.engine else {
            let object = json!({ "engine": null, "tables": [], "pending": [] });
            context.out.answer(&object, || {
                format!(
                    "{}: the database has no sharding engine (the extension citus), there is nothing to do",
                    context.choice.location()
                )
            })?;
            return Ok(Exit::Done);
        };
        let misplaced: Vec<&Placed> = sharding.misplaced().collect();
        if !misplaced.is_empty() {
            let named: Vec<String> =
                misplaced.iter().map(|placed| format!("{} {}", placed.table, placed.found)).collect();
            return Err(Failure::refused(
                format!("tables lie where the store cannot work with them: {}", named.join(", ")),
                "undistribute_table of the engine for each of them, then storage shard --apply",
            ));
        }
        let pending: Vec<&Placed> = sharding.pending().collect();
        if pending.is_empty() {
            context.out.answer(&facts(engine, &sharding), || {
                format!("citus {engine}: every table lies where it should, there is nothing to do")
            })?;
            return Ok(Exit::Done);
        }
        if check {
            context.out.answer(&facts(engine, &sharding), || {
                format!("citus {engine}: to be spread: {}\ntry: storage shard --apply", named(&pending))
            })?;
            return Ok(Exit::PendingMigrations);
        }
        let mut plan = Plan::new(
            &Planned::chosen(context),
            "the tables will be spread over the engine's nodes, in one transaction",
        );
        plan.add("engine", format!("citus {engine}"));
        plan.add("to be spread", named(&pending));
        plan.add("waits at most", format!("{} s for others", wait.as_secs()));
        plan.add(
            "meanwhile",
            "writers wait for the tables' locks; programs that have the store open are restarted after it",
        );
        if !plan.approve(context)? {
            return Ok(Exit::Done);
        }
        let spread = storage_pg::shard(&options, wait).await.map_err(Error::from)?;
        let printed = context.out.answer(&json!({ "engine": engine, "spread": spread }), || match spread.as_slice() {
            [] => "another run was first: there was nothing left to do".to_owned(),
            spread => format!("spread: {}; restart the programs that have the store open", spread.join(", ")),
        });
        printed.map_err(|failure| failure.after_change("storage shard --check"))?;
        Ok(Exit::Done)
    }

    fn named(tables: &[&Placed]) -> String {
        let names: Vec<String> = tables.iter().map(|placed| format!("{} {}", placed.table, placed.wanted)).collect();
        names.join(", ")
    }

    fn facts(engine: &str, sharding: &Sharding) -> Value {
        let tables: Vec<Value> = sharding
            .tables
            .iter()
            .map(|placed| {
                json!({ "table": placed.table, "wanted": placed.wanted.to_string(), "found": placed.found.to_string() })
            })
            .collect();
        let pending: Vec<&str> = sharding.pending().map(|placed| placed.table).collect();
        json!({ "engine": engine, "tables": tables, "pending": pending })
    }
}
