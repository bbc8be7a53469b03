//! The earlier system's tables step aside, and the store's take their places.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Transaction};

use crate::answered;
use crate::error::Error;
use crate::plan::Plan;
use crate::reader::Reader;
use crate::run::{Attempt, Outcome, Patience, apply, begin, migrate, or_again};
use crate::schema::{MAX_IDENTIFIER, Schema, quote};
use crate::shape::ORIGINAL;
use crate::state::{State, inspect};

/// What an adopted table and everything that hangs on it is called: `legacy_users`, `legacy_users_pkey`.
pub const LEGACY_PREFIX: &str = "legacy_";

/// What adopting did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Adopted {
    /// The adopted tables that exist now, under their new names.
    pub tables: Vec<String>,
    /// What this run renamed, tables, indexes, constraints and sequences alike, from and to. None: it had been done.
    pub renamed: Vec<(String, String)>,
    /// What migrating did after that.
    pub outcome: Outcome,
}

impl Adopted {
    /// Whether an earlier run had already adopted everything.
    pub fn already(&self) -> bool {
        self.renamed.is_empty()
    }
}

/// Which adopted tables exist, in the order in which the earlier system fills them.
pub(crate) async fn adopted_tables(reader: Reader<'_>, schema: &Schema) -> Result<Vec<String>, tokio_postgres::Error> {
    let names: Vec<String> = ORIGINAL.iter().map(|table| format!("{LEGACY_PREFIX}{}", table.name)).collect();
    let rows = reader
        .rows(
            "SELECT c.relname::text
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = $1 AND c.relname = ANY ($2) AND c.relkind IN ('r', 'p')
             ORDER BY array_position($2::text[], c.relname::text)",
            &[(&schema.name(), Type::NAME), (&names, Type::NAME_ARRAY)],
        )
        .await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

pub(crate) async fn adopt(client: &mut Client, schema: &Schema, plan: &Plan, wait: Duration) -> Result<Adopted, Error> {
    let mut adopted = adopt_tables(client, schema, plan, wait).await?;
    // What comes after the first transaction.
    adopted.outcome = adopted.outcome.and(migrate(client, schema, plan, wait).await?);
    Ok(adopted)
}

async fn adopt_tables(client: &mut Client, schema: &Schema, plan: &Plan, wait: Duration) -> Result<Adopted, Error> {
    let patience = Patience::patient(wait);
    loop {
        // Without the lock only what no other run can change under the two readings.
        let state = plan.inspect(client, schema).await?;
        if !matches!(state, State::Original { .. } | State::Missing | State::Older { .. }) {
            let tables = adopted_tables(Reader::Alone(client), schema).await?;
            if let Some(done) = settled(state, tables, &patience)? {
                return Ok(done);
            }
        }
        match attempt(client, schema, plan, &patience).await.or_else(or_again)? {
            Attempt::Done(adopted) => return Ok(adopted),
            Attempt::Again(source) => patience.pause(client, schema, source).await?,
        }
    }
}

/// Whether there is nothing left to do, or nothing that can be done.
fn settled(state: State, tables: Vec<String>, patience: &Patience) -> Result<Option<Adopted>, Error> {
    match state {
        State::Original { tables: original } => {
            let twice = |table: &String| tables.iter().any(|legacy| legacy.strip_prefix(LEGACY_PREFIX) == Some(table));
            let twice: Vec<String> = original.into_iter().filter(twice).collect();
            if twice.is_empty() { Ok(None) } else { Err(Error::AdoptedTwice { tables: twice }) }
        }
        State::Divergent { .. } | State::Foreign { .. } | State::Newer { .. } => Err(Error::State(state)),
        state if tables.is_empty() => Err(Error::NothingToAdopt(state)),
        State::Missing | State::Older { .. } => Ok(None),
        State::Current { version: applied } | State::Ahead { applied, .. } | State::Unfinished { applied, .. } => {
            let outcome = Outcome { applied: Vec::new(), from: applied, to: applied, waited: patience.waited() };
            Ok(Some(Adopted { tables, renamed: Vec::new(), outcome }))
        }
    }
}

async fn attempt(
    client: &mut Client,
    schema: &Schema,
    plan: &Plan,
    patience: &Patience,
) -> Result<Attempt<Adopted>, Error> {
    let Some(transaction) = answered(begin(client, schema, patience)).await? else { return Ok(Attempt::Again(None)) };
    let mut state = answered(inspect(Reader::Within(transaction.client()), schema, plan)).await?;
    let tables = answered(adopted_tables(Reader::Within(transaction.client()), schema)).await?;
    if let Some(done) = settled(state.clone(), tables, patience)? {
        transaction.rollback().await?;
        return Ok(Attempt::Done(done));
    }
    let mut renamed = Vec::new();
    if let State::Original { tables } = &state {
        renamed = rename(&transaction, schema, tables).await?;
        state = inspect(Reader::Within(transaction.client()), schema, plan).await?;
        if state != State::Missing {
            return Err(Error::State(state));
        }
    }
    let outcome = apply(&transaction, schema, plan, &state, patience).await?;
    let tables = adopted_tables(Reader::Within(transaction.client()), schema).await?;
    transaction.commit().await?;
    let outcome = Outcome { waited: patience.waited(), ..outcome };
    Ok(Attempt::Done(Adopted { tables, renamed, outcome }))
}

/// Indexes, constraints without an index, and owned sequences of the tables: how to rename each, up to the new name.
///
/// Names of indexes and sequences are the schema's, so one that stays could stand in the way of ours. A constraint's
/// name is its table's alone; it goes along so that an error message tells old from new. Renaming an index renames its
/// constraint. What an inheritance parent rules cannot be renamed here.
const PARTS: &str = "
    SELECT 'ALTER INDEX ' || format('%I.%I', n.nspname, i.relname) || ' RENAME TO ', i.relname::text
    FROM pg_catalog.pg_index x
    JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
    JOIN pg_catalog.pg_class t ON t.oid = x.indrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
    WHERE n.nspname = $1 AND t.relname = ANY ($2)
    UNION ALL
    SELECT 'ALTER TABLE ' || format('%I.%I', n.nspname, t.relname) || ' RENAME CONSTRAINT '
        || quote_ident(c.conname) || ' TO ', c.conname::text
    FROM pg_catalog.pg_constraint c
    JOIN pg_catalog.pg_class t ON t.oid = c.conrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
    WHERE n.nspname = $1 AND t.relname = ANY ($2) AND c.contype IN ('c', 'f', 'n') AND c.coninhcount = 0
    UNION ALL
    SELECT 'ALTER SEQUENCE ' || format('%I.%I', n.nspname, s.relname) || ' RENAME TO ', s.relname::text
    FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'
    JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace
    JOIN pg_catalog.pg_class t ON t.oid = d.refobjid
    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
        AND d.deptype IN ('a', 'i') AND n.nspname = $1 AND t.relnamespace = n.oid AND t.relname = ANY ($2)
    ORDER BY 2, 1";

/// Every name in the schema that a new name could meet.
const TAKEN: &str = "
    SELECT relname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1
    UNION SELECT typname::text FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    WHERE n.nspname = $1
    UNION SELECT conname::text FROM pg_catalog.pg_constraint c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.connamespace WHERE n.nspname = $1";

async fn rename(
    transaction: &Transaction<'_>,
    schema: &Schema,
    tables: &[String],
) -> Result<Vec<(String, String)>, Error> {
    // All locks before all changes, in the order in which the earlier system takes its own.
    let listed: Vec<String> = tables.iter().map(|table| format!("{}.{}", schema.quoted(), quote(table))).collect();
    transaction.batch_execute(&format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", listed.join(", "))).await?;
    let mut taken = BTreeSet::new();
    for row in transaction.query_typed(TAKEN, &[(&schema.name(), Type::NAME)]).await? {
        taken.insert(row.try_get::<_, String>(0)?);
    }
    let mut statements = String::new();
    let mut renamed = Vec::new();
    let parts = transaction.query_typed(PARTS, &[(&schema.name(), Type::NAME), (&tables, Type::NAME_ARRAY)]).await?;
    for row in parts {
        let statement: String = row.try_get(0)?;
        let old: String = row.try_get(1)?;
        if old.starts_with(LEGACY_PREFIX) {
            continue;
        }
        let new = legacy_name(&old, &taken);
        let _ = writeln!(statements, "{statement}{};", quote(&new));
        taken.insert(new.clone());
        renamed.push((old, new));
    }
    // The tables last: the statements above name them as they were.
    for (table, place) in tables.iter().zip(&listed) {
        let new = format!("{LEGACY_PREFIX}{table}");
        let _ = writeln!(statements, "ALTER TABLE {place} RENAME TO {};", quote(&new));
        renamed.push((table.clone(), new));
    }
    transaction.batch_execute(&statements).await?;
    Ok(renamed)
}

/// The new name, no longer than PostgreSQL keeps, and not taken.
fn legacy_name(old: &str, taken: &BTreeSet<String>) -> String {
    let wanted = format!("{LEGACY_PREFIX}{old}");
    let mut name = cut(&wanted, MAX_IDENTIFIER).to_owned();
    let mut number = 2_u32;
    while taken.contains(&name) {
        let suffix = format!("_{number}");
        name = format!("{}{suffix}", cut(&wanted, MAX_IDENTIFIER - suffix.len()));
        number += 1;
    }
    name
}

fn cut(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::legacy_name;

    #[test]
    fn a_new_name_fits_and_is_its_own() {
        let mut taken = BTreeSet::new();
        assert_eq!(legacy_name("users_pkey", &taken), "legacy_users_pkey");
        for old in ["é".repeat(31), format!("{}x", "é".repeat(31)), format!("{}y", "é".repeat(31))] {
            let new = legacy_name(&old, &taken);
            assert!(new.len() <= 63 && new.starts_with("legacy_é"), "{new}");
            assert!(taken.insert(new));
        }
    }
}
