//! One transaction that applies everything, and the waiting around it.

use std::fmt;
use std::hash::BuildHasher;
use std::time::Duration;

use refinery::Migration;
use refinery_core::AsyncMigrate;
use refinery_core::error::Kind;
use refinery_core::traits::r#async::{AsyncQuery, AsyncTransaction};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, IsolationLevel, Transaction};

use crate::answered;
use crate::error::Error;
use crate::plan::Plan;
use crate::reader::{PIN, Reader};
use crate::schema::Schema;
use crate::state::{State, inspect};

/// What migrating did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// The versions that this run applied; none when another run, or an earlier one, had done it.
    pub applied: Vec<i32>,
    /// The version before, 0 for a new store.
    pub from: i32,
    /// The version now.
    pub to: i32,
    /// How long it took, waiting included.
    pub waited: Duration,
}

/// A statement waits at most this long for a lock: behind a waiting `ALTER TABLE` every reader of that table queues up.
const LOCK: Duration = Duration::from_secs(2);

/// How long one wait is, from and to. Jitter, so that runners started together do not knock together.
const PAUSE: (u64, u64) = (20, 120);

/// How often, and until when, something is tried.
pub(crate) struct Patience {
    start: Instant,
    wait: Duration,
    random: std::hash::RandomState,
}

impl Patience {
    pub(crate) fn new(wait: Duration) -> Self {
        Self { start: Instant::now(), wait, random: std::hash::RandomState::new() }
    }

    pub(crate) fn waited(&self) -> Duration {
        self.start.elapsed()
    }

    fn left(&self) -> Duration {
        self.wait.saturating_sub(self.waited())
    }

    /// Pauses before the next attempt, or says that there is none.
    pub(crate) async fn pause(&self, source: Option<tokio_postgres::Error>) -> Result<(), Error> {
        let left = self.left();
        if left.is_zero() {
            return Err(Error::Busy { waited: self.waited(), source });
        }
        let spread = self.random.hash_one(self.waited().as_nanos()) % (PAUSE.1 - PAUSE.0);
        sleep(Duration::from_millis(PAUSE.0 + spread).min(left)).await;
        Ok(())
    }
}

/// How one attempt ended when it did not fail for good.
pub(crate) enum Attempt<T> {
    Done(T),
    /// The advisory lock is somebody else's, or the server gave up on a table's lock and can be asked again.
    Again(Option<tokio_postgres::Error>),
}

/// Turns an error that passes by itself into another attempt.
pub(crate) fn or_again<T>(error: Error) -> Result<Attempt<T>, Error> {
    match error {
        Error::Postgres(source) | Error::Migration { source: Some(source), .. } if passes(&source) => {
            Ok(Attempt::Again(Some(source)))
        }
        other => Err(other),
    }
}

fn passes(error: &tokio_postgres::Error) -> bool {
    let passing = [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE];
    error.code().is_some_and(|code| passing.contains(code))
}

/// Opens the transaction and takes the lock of the schema's migrations. None: somebody else has it.
///
/// A lock that ends with the transaction is right behind a pooler, where a session is nobody's. It is tried and not
/// waited for, so that nobody holds a transaction open while waiting.
pub(crate) async fn begin<'a>(
    client: &'a mut Client,
    schema: &Schema,
    patience: &Patience,
) -> Result<Option<Transaction<'a>>, tokio_postgres::Error> {
    // Spelled out, because defaults of the role or the database may say otherwise: under the lock every statement must
    // see what its last holder committed.
    let builder = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).read_only(false);
    let transaction = builder.start().await?;
    transaction.batch_execute(PIN).await?;
    let row = transaction
        .query_typed_one(
            "SELECT pg_catalog.pg_try_advisory_xact_lock(
                pg_catalog.hashtextextended('generation-storage migrations in ' || $1, 0))",
            &[(&schema.name(), Type::TEXT)],
        )
        .await?;
    if !row.try_get::<_, bool>(0)? {
        transaction.rollback().await?;
        return Ok(None);
    }
    let lock = patience.left().clamp(Duration::from_millis(100), LOCK).as_millis();
    // Releases before 17 have no transaction_timeout.
    transaction
        .batch_execute(&format!(
            "SET LOCAL lock_timeout = {lock};
             SET LOCAL statement_timeout = 0;
             SET LOCAL idle_in_transaction_session_timeout = 0;
             SET LOCAL client_min_messages = warning;
             SELECT pg_catalog.set_config(name, '0', true) FROM pg_catalog.pg_settings WHERE name = 'transaction_timeout'"
        ))
        .await?;
    Ok(Some(transaction))
}

/// Brings the schema up to date, unless it is or cannot be.
pub(crate) async fn migrate(
    client: &mut Client,
    schema: &Schema,
    plan: &Plan,
    wait: Duration,
) -> Result<Outcome, Error> {
    let patience = Patience::new(wait);
    loop {
        // Without the lock first: a schema that is current keeps nobody waiting, whoever works in it.
        let state = plan.inspect(client, schema).await?;
        if !is_pending(&state) {
            return nothing_to_do(state, &patience);
        }
        match attempt(client, schema, plan, &patience).await.or_else(or_again)? {
            Attempt::Done(outcome) => return Ok(outcome),
            Attempt::Again(source) => patience.pause(source).await?,
        }
    }
}

fn is_pending(state: &State) -> bool {
    matches!(state, State::Missing | State::Older { .. })
}

fn nothing_to_do(state: State, patience: &Patience) -> Result<Outcome, Error> {
    match state {
        State::Current { version } => {
            Ok(Outcome { applied: Vec::new(), from: version, to: version, waited: patience.waited() })
        }
        other => Err(Error::State(other)),
    }
}

async fn attempt(
    client: &mut Client,
    schema: &Schema,
    plan: &Plan,
    patience: &Patience,
) -> Result<Attempt<Outcome>, Error> {
    let Some(transaction) = answered(begin(client, schema, patience)).await? else { return Ok(Attempt::Again(None)) };
    // Again under the lock: its last holder may have done the work.
    let state = inspect(Reader::Within(transaction.client()), schema, plan).await?;
    if !is_pending(&state) {
        transaction.rollback().await?;
        return nothing_to_do(state, patience).map(Attempt::Done);
    }
    let outcome = apply(&transaction, schema, plan, &state, patience).await?;
    transaction.commit().await?;
    Ok(Attempt::Done(Outcome { waited: patience.waited(), ..outcome }))
}

/// Applies what is pending inside the transaction, under the lock.
pub(crate) async fn apply(
    transaction: &Transaction<'_>,
    schema: &Schema,
    plan: &Plan,
    state: &State,
    patience: &Patience,
) -> Result<Outcome, Error> {
    create_schema(transaction, schema).await?;
    // Migrations name the store's tables without their schema. The system's own names come first by themselves, so that the schema can
    // offer only what fits better than those; V3 leaves nothing of that kind in use.
    transaction.batch_execute(&format!("SET LOCAL search_path = {}, pg_temp", schema.quoted())).await?;
    let mut target = OneTransaction { transaction, failed: None };
    let report = plan.runner().run_async(&mut target).await.map_err(|error| from_refinery(&error, target.failed))?;
    transaction.batch_execute(PIN).await?;
    let applied = report.applied_migrations().iter().map(Migration::version).collect();
    let from = if let State::Older { applied, .. } = state { *applied } else { 0 };
    Ok(Outcome { applied, from, to: plan.latest(), waited: patience.waited() })
}

/// Only when it is missing: `IF NOT EXISTS` asks for the right to create schemas even when there is nothing to create.
async fn create_schema(transaction: &Transaction<'_>, schema: &Schema) -> Result<(), tokio_postgres::Error> {
    let exists = transaction
        .query_typed_opt("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1", &[(&schema.name(), Type::NAME)])
        .await?;
    if exists.is_none() {
        transaction.batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS {}", schema.quoted())).await?;
    }
    Ok(())
}

/// Keeps refinery's words about what it did, and the server's own about what failed, each once.
fn from_refinery(error: &refinery::Error, source: Option<tokio_postgres::Error>) -> Error {
    let doing = match error.kind() {
        Kind::Connection(doing, _) => doing.clone(),
        other => other.to_string(),
    };
    Error::Migration { doing, source }
}

/// Refinery's view of our one transaction. Its own implementation commits after every step.
struct OneTransaction<'a, 'b> {
    transaction: &'a Transaction<'b>,
    /// What the server said. Refinery would lend it and never give it back.
    failed: Option<tokio_postgres::Error>,
}

/// Stands for the error in [`OneTransaction::failed`].
#[derive(Debug)]
struct Failed;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server refused")
    }
}

impl std::error::Error for Failed {}

impl OneTransaction<'_, '_> {
    fn keep<T>(&mut self, result: Result<T, tokio_postgres::Error>) -> Result<T, Failed> {
        result.map_err(|error| {
            self.failed = Some(error);
            Failed
        })
    }
}

impl AsyncTransaction for OneTransaction<'_, '_> {
    type Error = Failed;

    async fn execute<'a, T: Iterator<Item = &'a str> + Send + 'a>(&'a mut self, queries: T) -> Result<usize, Failed> {
        let mut count = 0;
        for query in queries {
            let result = self.transaction.batch_execute(query).await;
            self.keep(result)?;
            count += 1;
        }
        Ok(count)
    }
}

impl AsyncQuery<Vec<Migration>> for OneTransaction<'_, '_> {
    async fn query<'a>(&'a mut self, query: &'a str) -> Result<Vec<Migration>, Failed> {
        let rows = self.transaction.query_typed(query, &[]).await;
        let rows = self.keep(rows)?;
        let applied = rows.iter().map(|row| {
            let checksum: String = row.try_get(3)?;
            // The state was found in order a moment ago, in this transaction: what cannot be read was told there.
            let checksum = checksum.parse().unwrap_or(0);
            Ok(Migration::applied(row.try_get(0)?, row.try_get(1)?, OffsetDateTime::UNIX_EPOCH, checksum))
        });
        let applied = applied.collect();
        self.keep(applied)
    }
}

impl AsyncMigrate for OneTransaction<'_, '_> {}
