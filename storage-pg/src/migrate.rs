//! The schema's migrations, as an operator sees them.

use std::time::Duration;

use migrations::State;
pub use migrations::{Placed, Placement, Sharding};
use storage_core::{Error, Result};
use tokio::time::{Instant, sleep};

use crate::open::{OpenError, dial, migration_error, mismatch, schema};
use crate::options::PgOptions;

/// Between two attempts to reach a server.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What stands in a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SchemaState {
    /// As this program needs it: the version.
    Current(i32),
    /// Something is pending: the version that stands there, 0 for none, and what is to be applied.
    Pending {
        /// The last version applied.
        applied: i32,
        /// The versions to be applied, in order.
        pending: Vec<i32>,
    },
    /// The tables of the earlier system stand there, to be adopted.
    Original {
        /// Their names.
        tables: Vec<String>,
    },
    /// No way from here: a newer program's, somebody else's, or half of ours.
    Other,
}

/// A schema's state, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaReport {
    /// The state.
    pub state: SchemaState,
    /// The state and what to do, in words.
    pub text: String,
    /// Tables that were adopted from the earlier system.
    pub adopted: Vec<String>,
    /// What stands around the tables that somebody should know of, and what to do about it.
    pub around: Vec<(String, String)>,
}

/// What a migration did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The versions that this run applied, or saw through to their end.
    pub applied: Vec<i32>,
    /// The version before, 0 for none.
    pub from: i32,
    /// The version now.
    pub to: i32,
    /// Tables of the earlier system, under the names that they have now.
    pub adopted: Vec<String>,
    /// What was renamed, from and to.
    pub renamed: Vec<(String, String)>,
}

/// The tables that versions make, and those of earlier versions that they add to.
pub fn migrated_tables(pending: &[i32]) -> (Vec<&'static str>, Vec<&'static str>) {
    migrations::tables_of(pending)
}

/// Since which version programs work with a schema that this program migrated: those before it do not open it any more.
pub fn works_since() -> i32 {
    migrations::works_since()
}

/// The migrations that this program holds: version, name, SQL.
pub fn migration_steps() -> Vec<(i32, String, String)> {
    migrations::steps().into_iter().map(|step| (step.version, step.name, step.sql)).collect()
}

/// The SQL that gives a role the least rights to run the store. The owner of the tables runs it. No connection is made.
///
/// # Errors
/// `InvalidInput` for a schema that breaks a rule.
pub fn grants(options: &PgOptions, role: &str) -> Result<String> {
    Ok(migrations::grants(&schema(&options.schema)?, role))
}

/// Tells what stands in the schema. Changes nothing.
///
/// # Errors
/// The true cause when there is no connection.
pub async fn schema_report(options: &PgOptions) -> Result<SchemaReport, OpenError> {
    let schema = schema(&options.schema)?;
    let (_, connection) = dial(&options.url, options).await?;
    let state = migrations::inspect(&connection.client, &schema).await.map_err(migration_error)?;
    let adopted = migrations::adopted_tables(&connection.client, &schema).await.map_err(migration_error)?;
    let migrations::Surroundings { mut wrong, mut strange, .. } =
        migrations::surroundings(&connection.client, &schema).await.map_err(migration_error)?;
    wrong.append(&mut strange);
    let text = state.to_string();
    let state = match state {
        State::Missing => SchemaState::Pending {
            applied: 0,
            pending: migrations::steps().into_iter().map(|step| step.version).collect(),
        },
        State::Older { applied, pending } => SchemaState::Pending { applied, pending },
        State::Unfinished { applied, unfinished, pending, .. } => {
            let pending = std::iter::once(unfinished).chain(pending).collect();
            SchemaState::Pending { applied, pending }
        }
        State::Current { version } | State::Ahead { applied: version, .. } => SchemaState::Current(version),
        State::Original { tables } => SchemaState::Original { tables },
        _ => SchemaState::Other,
    };
    Ok(SchemaReport { state, text, adopted, around: wrong })
}

/// Connects, again and again for at most about `wait` while the server cannot be reached: what is started together comes up in any
/// order. `told` hears each cause.
///
/// # Errors
/// What is no matter of waiting, at once; the last cause when the time is over.
pub async fn reach(options: &PgOptions, wait: Duration, mut told: impl FnMut(&Error)) -> Result<(), OpenError> {
    let (begun, mut pause) = (Instant::now(), FIRST_PAUSE);
    loop {
        match dial(&options.url, options).await {
            Ok(_) => return Ok(()),
            Err(error) if error.may_come_up() && begun.elapsed() < wait => {
                told(error.error());
                sleep(pause.min(wait.saturating_sub(begun.elapsed()))).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
}

/// The options of a connection on which a statement may wait that sets no limit of its own: an index that is built beside writers waits
/// for every transaction that began before it, and would be built in vain.
fn patient(options: &PgOptions, wait: Duration) -> PgOptions {
    let mut options = options.clone();
    options.limits.lock = options.limits.lock.max(wait);
    options
}

/// Applies what is pending; waits at most about `wait` for others who do the same, and for locks.
///
/// # Errors
/// `SchemaMismatch` when there is no way from what stands there; `Busy` when others stood in the way.
pub async fn migrate(options: &PgOptions, wait: Duration) -> Result<Migrated, OpenError> {
    let schema = schema(&options.schema)?;
    let (_, mut connection) = dial(&options.url, &patient(options, wait)).await?;
    let outcome = migrations::migrate(&mut connection.client, &schema, wait).await.map_err(migration_error)?;
    let migrations::Outcome { applied, from, to, .. } = outcome;
    Ok(Migrated { applied, from, to, adopted: Vec::new(), renamed: Vec::new() })
}

/// Tells how the tables are spread over the nodes of a sharding engine. Changes nothing.
///
/// # Errors
/// `SchemaMismatch` where the schema is not current; the true cause when there is no connection.
pub async fn sharding(options: &PgOptions) -> Result<Sharding, OpenError> {
    let schema = schema(&options.schema)?;
    let (_, connection) = dial(&options.url, options).await?;
    let state = migrations::inspect(&connection.client, &schema).await.map_err(migration_error)?;
    if !state.works() {
        return Err(mismatch(&state).into());
    }
    Ok(migrations::sharding(&connection.client, &schema).await.map_err(migration_error)?)
}

/// Spreads the tables over the nodes of a sharding engine, all in one transaction; answers which. Repeating it is harmless,
/// and without an engine it does nothing. Whoever has the store open opens it anew afterwards.
///
/// # Errors
/// Those of [`sharding`]; `Busy` when others stood in the way.
pub async fn shard(options: &PgOptions, wait: Duration) -> Result<Vec<&'static str>, OpenError> {
    let schema = schema(&options.schema)?;
    let (_, mut connection) = dial(&options.url, options).await?;
    // What a newer program made would stay where it is.
    match migrations::inspect(&connection.client, &schema).await.map_err(migration_error)? {
        State::Current { .. } => {}
        other => return Err(mismatch(&other).into()),
    }
    Ok(migrations::shard(&mut connection.client, &schema, wait).await.map_err(migration_error)?)
}

/// Renames the earlier system's tables to `legacy_...` and applies what is pending, in one transaction.
///
/// # Errors
/// `SchemaMismatch` when nothing of the earlier system is there; `Busy` when others stood in the way.
pub async fn adopt_tables(options: &PgOptions, wait: Duration) -> Result<Migrated, OpenError> {
    let schema = schema(&options.schema)?;
    let (_, mut connection) = dial(&options.url, &patient(options, wait)).await?;
    let adopted = migrations::adopt(&mut connection.client, &schema, wait).await.map_err(migration_error)?;
    let migrations::Adopted { tables, renamed, outcome, .. } = adopted;
    let migrations::Outcome { applied, from, to, .. } = outcome;
    Ok(Migrated { applied, from, to, adopted: tables, renamed })
}
