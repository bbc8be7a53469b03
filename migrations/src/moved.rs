//! The mark of a store whose contents were moved elsewhere: a row that names the place, and a trigger on every table that
//! refuses changes. A store that is not marked pays nothing for it, and one that is marked refuses also the programs that
//! had it open before, and people with `psql`.

use std::fmt::Write as _;
use std::time::Duration;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Transaction};

use crate::answered;
use crate::error::Error;
use crate::run::{Attempt, Patience, begin, or_again};
use crate::schema::{Schema, quote};
use crate::shard::TABLES;

/// What the server says to a change of a marked store; the detail names the place.
pub const MOVED_SQLSTATE: &str = "SM001";

/// What to do with the mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remark<'p> {
    /// The store was moved to this place.
    Set(&'p str),
    /// The store that is marked as moved to this place takes changes again.
    Lift(&'p str),
}

/// Changes the mark; `Some` is the other place that a present mark names, and then nothing was changed.
///
/// Setting waits until whoever is changing something has ended, and from then on nobody can: all of it is one transaction.
/// Repeating it is harmless. Waits at most about `wait` for others.
pub(crate) async fn apply(
    client: &mut Client,
    schema: &Schema,
    remark: Remark<'_>,
    wait: Duration,
) -> Result<Option<String>, Error> {
    let patience = Patience::patient(wait);
    loop {
        match attempt(client, schema, remark, &patience).await.or_else(or_again)? {
            Attempt::Done(outcome) => return Ok(outcome),
            Attempt::Again(source) => patience.pause(client, schema, source).await?,
        }
    }
}

async fn attempt(
    client: &mut Client,
    schema: &Schema,
    remark: Remark<'_>,
    patience: &Patience,
) -> Result<Attempt<Option<String>>, Error> {
    let Some(transaction) = answered(begin(client, schema, patience)).await? else { return Ok(Attempt::Again(None)) };
    answered(refuse_others(&transaction, schema, matches!(remark, Remark::Set(_)))).await?;
    let s = schema.quoted();
    let present = transaction
        .query_typed_opt(&format!("SELECT value FROM {s}.storage_meta WHERE name = 'moved_to'"), &[])
        .await?
        .map(|row| row.try_get::<_, String>(0))
        .transpose()?;
    match (remark, present) {
        (Remark::Lift(_), None) => {}
        (Remark::Set(place), Some(present)) if place == present => {}
        (Remark::Set(place), None) => set(&transaction, schema, place).await?,
        (Remark::Lift(place), Some(present)) if place == present => lift(&transaction, schema).await?,
        (_, Some(present)) => return Ok(Attempt::Done(Some(present))),
    }
    transaction.commit().await?;
    Ok(Attempt::Done(None))
}

/// Said before anything is done: the server would say only that a right is missing.
async fn refuse_others(transaction: &Transaction<'_>, schema: &Schema, makes: bool) -> Result<(), Error> {
    let tables: Vec<&str> = tables().collect();
    let other = transaction
        .query_typed_opt(
            "SELECT current_user::text, pg_get_userbyid(c.relowner)::text, pg_has_role(c.relowner, 'USAGE')
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = $1 AND c.relname = ANY ($2) AND NOT (
                 pg_has_role(c.relowner, 'USAGE') AND (NOT $3 OR has_schema_privilege(n.oid, 'CREATE')))
             ORDER BY c.relname ASC LIMIT 1",
            &[(&schema.name(), Type::NAME), (&tables, Type::NAME_ARRAY), (&makes, Type::BOOL)],
        )
        .await?;
    let Some(row) = other else { return Ok(()) };
    let (role, owner): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    if row.try_get(2)? {
        let what = format!("make the mark's function in the schema {schema}");
        let run = format!("GRANT CREATE ON SCHEMA {} TO {};", schema.quoted(), quote(&role));
        return Err(Error::NoRight { role, what, run });
    }
    Err(Error::NotOwner { role, owner })
}

/// The tables that hold what users own.
fn tables() -> impl Iterator<Item = &'static str> {
    TABLES.iter().map(|(table, _)| *table).filter(|table| *table != "storage_meta")
}

async fn set(transaction: &Transaction<'_>, schema: &Schema, place: &str) -> Result<(), tokio_postgres::Error> {
    let s = schema.quoted();
    let insert = format!("INSERT INTO {s}.storage_meta (name, value) VALUES ('moved_to', $1)");
    transaction.execute_typed(&insert, &[(&place, Type::TEXT)]).await?;
    let mut sql = format!(
        "CREATE OR REPLACE FUNCTION {s}.storage_refuse_moved() RETURNS trigger LANGUAGE plpgsql
             SET search_path = pg_catalog, pg_temp AS $refuse$
         BEGIN
             RAISE EXCEPTION 'the contents of this store were moved' USING ERRCODE = '{MOVED_SQLSTATE}',
                 DETAIL = (SELECT value FROM {s}.storage_meta WHERE name = 'moved_to');
         END $refuse$;\n"
    );
    // Users first, as every operation does; each waits for those who change the table, and lets readers go on.
    for table in tables() {
        // Writing to a String cannot fail.
        let _ = writeln!(
            sql,
            "CREATE TRIGGER storage_moved BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {s}.{table}
                 FOR EACH STATEMENT EXECUTE FUNCTION {s}.storage_refuse_moved();"
        );
    }
    transaction.batch_execute(&sql).await
}

async fn lift(transaction: &Transaction<'_>, schema: &Schema) -> Result<(), tokio_postgres::Error> {
    let s = schema.quoted();
    let mut sql = String::new();
    for table in tables() {
        let _ = writeln!(sql, "DROP TRIGGER IF EXISTS storage_moved ON {s}.{table};");
    }
    let _ = writeln!(sql, "DELETE FROM {s}.storage_meta WHERE name = 'moved_to';");
    transaction.batch_execute(&sql).await
}
