//! Sharding by user on an existing engine: Citus. A step of its own after migrating, because it is a property of the
//! server and not of the schema.
//!
//! Every table of a user is distributed by the user and lies beside `users`, so that an operation of one user is an
//! operation of one node. `id_routes`, which leads from an id to its user, is distributed by the id. `storage_meta`
//! is copied to every node. Without the engine there is nothing to do.

use std::time::Duration;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Transaction};

use crate::answered;
use crate::error::Error;
use crate::reader::Reader;
use crate::run::{Attempt, Patience, begin, or_again};
use crate::schema::Schema;

/// Where the rows of a table lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// On one node, as an unsharded server has it.
    Local,
    /// On the node that a column says.
    By(String),
    /// On every node.
    Everywhere,
}

impl std::fmt::Display for Placement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local => f.write_str("on one node"),
            Self::By(column) => write!(f, "by {column}"),
            Self::Everywhere => f.write_str("on every node"),
        }
    }
}

/// A table, where it should lie and where it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The table.
    pub table: &'static str,
    /// Where its rows should lie.
    pub wanted: Placement,
    /// Where they lie.
    pub found: Placement,
}

/// How a schema is sharded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharding {
    /// The engine's version; `None` where the database has none.
    pub engine: Option<String>,
    /// Every table; empty without an engine.
    pub tables: Vec<Placed>,
}

impl Sharding {
    /// Whether rows of users lie on several nodes.
    pub fn is_sharded(&self) -> bool {
        self.tables.iter().any(|placed| placed.found != Placement::Local)
    }
    /// The tables that lie on one node and should not.
    pub fn pending(&self) -> impl Iterator<Item = &Placed> {
        self.tables.iter().filter(|placed| placed.found == Placement::Local)
    }
    /// The tables that lie elsewhere than they should, and that nothing here moves.
    pub fn misplaced(&self) -> impl Iterator<Item = &Placed> {
        self.tables.iter().filter(|placed| placed.found != Placement::Local && placed.found != placed.wanted)
    }
}

/// The tables by the column that says where a row lies, users first; `None` is every node.
pub(crate) const TABLES: [(&str, Option<&str>); 14] = [
    ("users", Some("id")),
    ("user_settings", Some("user_id")),
    ("daily_free_generations", Some("user_id")),
    ("admin_limits", Some("user_id")),
    ("operations", Some("user_id")),
    ("operation_keys", Some("user_id")),
    ("balance_reserves", Some("user_id")),
    ("generation_jobs", Some("user_id")),
    ("generation_history", Some("user_id")),
    ("payments", Some("user_id")),
    ("referrals", Some("user_id")),
    ("referral_heights", Some("user_id")),
    ("id_routes", Some("id")),
    ("storage_meta", None),
];

fn wanted(column: Option<&str>) -> Placement {
    column.map_or(Placement::Everywhere, |column| Placement::By(column.to_owned()))
}

/// Looks. Two round trips at most.
pub(crate) async fn look(client: &Client, schema: &Schema) -> Result<Sharding, tokio_postgres::Error> {
    // Releases put the view into different schemas. The engine's own is the one that belongs to the extension's owner.
    let found = Reader::Alone(client)
        .rows(
            "SELECT e.extversion, (SELECT quote_ident(n.nspname)
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE c.relname = 'citus_tables' AND c.relowner = e.extowner ORDER BY n.nspname ASC LIMIT 1)
             FROM pg_extension e WHERE e.extname = 'citus'",
            &[],
        )
        .await?;
    let Some(row) = found.first() else { return Ok(Sharding { engine: None, tables: Vec::new() }) };
    let (engine, place) = (Some(row.try_get(0)?), row.try_get::<_, Option<String>>(1)?);
    let view = place.map_or_else(|| "citus_tables".to_owned(), |place| format!("{place}.citus_tables"));
    let names: Vec<String> = TABLES.iter().map(|(table, _)| format!("{}.{table}", schema.quoted())).collect();
    let rows = Reader::Alone(client)
        .rows(
            &format!(
                "SELECT a.name, c.citus_table_type, c.distribution_column
                 FROM unnest($1) WITH ORDINALITY AS a (name, n)
                     LEFT JOIN {view} c ON c.table_name = to_regclass(a.name) ORDER BY a.n ASC"
            ),
            &[(&names, Type::TEXT_ARRAY)],
        )
        .await?;
    let mut tables = Vec::new();
    for ((table, column), row) in TABLES.iter().zip(rows) {
        let found = match (row.try_get::<_, Option<&str>>(1)?, row.try_get::<_, Option<&str>>(2)?) {
            (None, _) => Placement::Local,
            (Some("reference"), _) => Placement::Everywhere,
            (Some(_), column) => Placement::By(column.unwrap_or_default().to_owned()),
        };
        tables.push(Placed { table, wanted: wanted(*column), found });
    }
    Ok(Sharding { engine, tables })
}

/// Distributes what lies on one node, all of it in one transaction; answers which tables. Repeating it is harmless.
///
/// Foreign keys step aside meanwhile: the engine takes none between a table that is distributed and one that is not yet.
pub(crate) async fn apply(client: &mut Client, schema: &Schema, wait: Duration) -> Result<Vec<&'static str>, Error> {
    let patience = Patience::patient(wait);
    loop {
        match attempt(client, schema, &patience).await.or_else(or_again)? {
            Attempt::Done(tables) => return Ok(tables),
            Attempt::Again(source) => patience.pause(client, schema, source).await?,
        }
    }
}

async fn attempt(
    client: &mut Client,
    schema: &Schema,
    patience: &Patience,
) -> Result<Attempt<Vec<&'static str>>, Error> {
    let sharding = answered(look(client, schema)).await?;
    let pending: Vec<Placed> = sharding.pending().cloned().collect();
    if pending.is_empty() {
        return Ok(Attempt::Done(Vec::new()));
    }
    let Some(transaction) = answered(begin(client, schema, patience)).await? else {
        return Ok(Attempt::Again(None));
    };
    distribute(&transaction, schema, &pending).await.map_err(Error::Postgres)?;
    transaction.commit().await.map_err(Error::Postgres)?;
    Ok(Attempt::Done(pending.iter().map(|placed| placed.table).collect()))
}

async fn distribute(
    transaction: &Transaction<'_>,
    schema: &Schema,
    pending: &[Placed],
) -> Result<(), tokio_postgres::Error> {
    // The triggers fill a column of their own row and look at nothing else. One after the other: a transaction that
    // changes several tables by foreign keys may not do it side by side.
    transaction
        .batch_execute(
            "SET LOCAL citus.enable_unsafe_triggers = on; SET LOCAL citus.multi_shard_modify_mode = 'sequential'",
        )
        .await?;
    // What the engine's functions are called without a schema, because it has moved them between releases.
    transaction
        .batch_execute(&format!("SET LOCAL search_path = pg_catalog, {}, public, pg_temp", schema.quoted()))
        .await?;
    let tables: Vec<&str> = pending.iter().map(|placed| placed.table).collect();
    let keys = transaction
        .query_typed(
            "SELECT quote_ident(t.relname), quote_ident(k.conname), pg_get_constraintdef(k.oid)
             FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class t ON t.oid = k.conrelid
                 JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
             WHERE k.contype = 'f' AND n.nspname = $1 AND t.relname = ANY($2) ORDER BY t.relname ASC, k.conname ASC",
            &[(&schema.name(), Type::TEXT), (&tables, Type::TEXT_ARRAY)],
        )
        .await?;
    let mut back = Vec::new();
    for row in keys {
        let (table, key, definition): (String, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        transaction.batch_execute(&format!("ALTER TABLE {table} DROP CONSTRAINT {key}")).await?;
        back.push(format!("ALTER TABLE {table} ADD CONSTRAINT {key} {definition}"));
    }
    let users = format!("{}.users", schema.quoted());
    for Placed { table, wanted, .. } in pending {
        let name = format!("{}.{table}", schema.quoted());
        match wanted {
            Placement::By(column) => {
                // Text beside text: ids of users and other ids have no place in common.
                let beside = if *table == "users" || *table == "id_routes" { "none" } else { users.as_str() };
                transaction
                    .query_typed(
                        "SELECT create_distributed_table($1::regclass, $2, colocate_with => $3)",
                        &[(&name, Type::TEXT), (&column.as_str(), Type::TEXT), (&beside, Type::TEXT)],
                    )
                    .await?;
            }
            Placement::Everywhere | Placement::Local => {
                transaction.query_typed("SELECT create_reference_table($1::regclass)", &[(&name, Type::TEXT)]).await?;
            }
        }
    }
    for key in back {
        transaction.batch_execute(&key).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table that a later migration adds must be placed too.
    #[test]
    fn every_table_has_its_place() {
        let placed: Vec<&str> = TABLES.iter().map(|(table, _)| *table).collect();
        for step in crate::steps() {
            for rest in step.sql.split("CREATE TABLE ").skip(1) {
                let table = rest.split([' ', '(']).next().unwrap_or_default();
                assert!(placed.contains(&table), "{table} has no place");
            }
        }
    }
}
