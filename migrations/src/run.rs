//! The transaction that applies what is pending, and the waiting around it.

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
use crate::outside;
use crate::plan::{META_TABLE, Plan, UNFINISHED, WORKS_SINCE};
use crate::reader::{PIN, Reader};
use crate::schema::{Schema, quote};
use crate::state::{State, inspect};

/// What migrating did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// The versions that this run applied, or saw through to their end; none when another run, or an earlier one, had done it.
    pub applied: Vec<i32>,
    /// The version before, 0 for a new store.
    pub from: i32,
    /// The version now.
    pub to: i32,
    /// How long it took, waiting included.
    pub waited: Duration,
}

/// A statement of a migration waits at most this long for a lock, in milliseconds: behind a waiting `ALTER TABLE` everybody who needs that
/// table queues up.
const BRIEFLY: u64 = 100;
/// The same where those who change something are to be waited for, and may be at it for longer.
const PATIENTLY: u64 = 2_000;

/// How long the pause is before another attempt, from and to, in milliseconds. Jitter, so that runners started together do not knock
/// together. After a lock on a table long enough that the programs which use it hardly notice.
const AFTER_RUNNER: (u64, u64) = (20, 120);
const AFTER_TABLE: (u64, u64) = (900, 1100);

/// How often, and until when, something is tried.
pub(crate) struct Patience {
    start: Instant,
    wait: Duration,
    /// Milliseconds of one wait for a lock.
    lock: u64,
    random: std::hash::RandomState,
}

impl Patience {
    /// For what programs hardly notice: short attempts, long pauses.
    pub(crate) fn brief(wait: Duration) -> Self {
        Self { start: Instant::now(), wait, lock: BRIEFLY, random: std::hash::RandomState::new() }
    }

    /// For what ends the programs' work anyhow.
    pub(crate) fn patient(wait: Duration) -> Self {
        Self { lock: PATIENTLY, ..Self::brief(wait) }
    }

    /// The same from now on.
    pub(crate) fn renewed(&self) -> Self {
        Self { start: Instant::now(), random: self.random.clone(), ..*self }
    }

    pub(crate) fn waited(&self) -> Duration {
        self.start.elapsed()
    }

    fn left(&self) -> Duration {
        self.wait.saturating_sub(self.waited())
    }

    /// Pauses before the next attempt, or says that there is none, and who is in the way.
    pub(crate) async fn pause(
        &self,
        client: &Client,
        schema: &Schema,
        source: Option<tokio_postgres::Error>,
    ) -> Result<(), Error> {
        let left = self.left();
        if left.is_zero() {
            let holders = match &source {
                // Whoever cannot be asked for is not named.
                Some(_) => answered(holders(client, schema, self.lock == BRIEFLY)).await.unwrap_or_default(),
                None => Vec::new(),
            };
            return Err(Error::Busy { waited: self.waited(), holders, source });
        }
        let (from, to) = if source.is_some() && self.lock == BRIEFLY { AFTER_TABLE } else { AFTER_RUNNER };
        let spread = self.random.hash_one(self.waited().as_nanos()) % (to - from);
        sleep(Duration::from_millis(from + spread).min(left)).await;
        Ok(())
    }
}

/// The sessions with locks on the schema's tables whose transactions are the oldest, and older than an attempt waits; without `readers`
/// only those that change something. What they are at shows only to a member of `pg_monitor`, or when they are of the same role.
async fn holders(client: &Client, schema: &Schema, readers: bool) -> Result<Vec<String>, tokio_postgres::Error> {
    const HOLDERS: &str = "
        SELECT a.pid, coalesce(a.usename::text, ''), coalesce(a.application_name, ''), coalesce(a.state, ''),
            string_agg(DISTINCT c.relname::text, ', ' ORDER BY c.relname::text ASC),
            coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::bigint
        FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
            JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND l.granted AND l.pid <> pg_backend_pid()
            AND ($2 OR l.mode NOT IN ('AccessShareLock', 'RowShareLock'))
            AND (a.xact_start IS NULL OR clock_timestamp() - a.xact_start > interval '100 ms')
        GROUP BY a.pid, a.usename, a.application_name, a.state, a.xact_start
        ORDER BY a.xact_start ASC NULLS LAST, a.pid ASC LIMIT 3";
    let rows = Reader::Alone(client).rows(HOLDERS, &[(&schema.name(), Type::NAME), (&readers, Type::BOOL)]).await?;
    rows.iter()
        .map(|row| {
            let (pid, tables, seconds): (i32, String, i64) = (row.try_get(0)?, row.try_get(4)?, row.try_get(5)?);
            let told = (1..4).map(|column| row.try_get::<_, String>(column)).collect::<Result<Vec<_>, _>>()?;
            let told: Vec<String> = told.into_iter().filter(|text| !text.is_empty()).collect();
            let told = if told.is_empty() { String::new() } else { format!(" ({})", told.join(", ")) };
            Ok(format!("process {pid}{told} has locks on {tables} in a transaction of {seconds} s"))
        })
        .collect()
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
    // Releases before 17 have no transaction_timeout.
    transaction
        .batch_execute(&format!(
            "SET LOCAL lock_timeout = {};
             SET LOCAL statement_timeout = 0;
             SET LOCAL idle_in_transaction_session_timeout = 0;
             SET LOCAL client_min_messages = warning;
             SELECT pg_catalog.set_config(name, '0', true) FROM pg_catalog.pg_settings WHERE name = 'transaction_timeout'",
            patience.lock
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
    let patience = Patience::brief(wait);
    let mut done: Option<Outcome> = None;
    loop {
        // Without the lock first: a schema that is current keeps nobody waiting, whoever works in it.
        let state = plan.inspect(client, schema).await?;
        let more = match state {
            State::Missing | State::Older { .. } => {
                match attempt(client, schema, plan, &patience).await.or_else(or_again)? {
                    Attempt::Done(Some(outcome)) => outcome,
                    // Somebody else was first.
                    Attempt::Done(None) => continue,
                    Attempt::Again(source) => {
                        patience.pause(client, schema, source).await?;
                        continue;
                    }
                }
            }
            State::Unfinished { applied, unfinished, .. } => {
                outside::finish(client, schema, plan, unfinished, &patience).await?;
                Outcome { applied: vec![unfinished], from: applied, to: applied, waited: patience.waited() }
            }
            State::Current { version } | State::Ahead { applied: version, .. } => {
                let nothing = Outcome { applied: Vec::new(), from: version, to: version, waited: patience.waited() };
                return Ok(Outcome { to: version, waited: patience.waited(), ..done.unwrap_or(nothing) });
            }
            other => return Err(Error::State(other)),
        };
        let is_last = plan.next_stop(more.from) == (more.to, false);
        let so_far = match done {
            None => more,
            Some(before) => before.and(more),
        };
        // What was committed is done, whatever a look would come to.
        if is_last {
            return Ok(Outcome { waited: patience.waited(), ..so_far });
        }
        done = Some(so_far);
    }
}

impl Outcome {
    /// This, and what came after it.
    pub(crate) fn and(mut self, later: Self) -> Self {
        self.applied.extend(later.applied);
        self.applied.dedup();
        Self { applied: self.applied, from: self.from, ..later }
    }
}

/// One transaction of it; none when there is nothing left for one.
async fn attempt(
    client: &mut Client,
    schema: &Schema,
    plan: &Plan,
    patience: &Patience,
) -> Result<Attempt<Option<Outcome>>, Error> {
    let Some(transaction) = answered(begin(client, schema, patience)).await? else { return Ok(Attempt::Again(None)) };
    // Again under the lock: its last holder may have done the work.
    let state = answered(inspect(Reader::Within(transaction.client()), schema, plan)).await?;
    if !matches!(state, State::Missing | State::Older { .. }) {
        transaction.rollback().await?;
        return Ok(Attempt::Done(None));
    }
    let outcome = apply(&transaction, schema, plan, &state, patience).await?;
    transaction.commit().await?;
    Ok(Attempt::Done(Some(outcome)))
}

/// Applies what is pending inside the transaction, under the lock: up to the first version that has steps outside of it.
pub(crate) async fn apply(
    transaction: &Transaction<'_>,
    schema: &Schema,
    plan: &Plan,
    state: &State,
    patience: &Patience,
) -> Result<Outcome, Error> {
    answered(refuse_without_rights(transaction, schema, plan)).await?;
    create_schema(transaction, schema).await?;
    within_the_schema(transaction, schema).await?;
    let from = if let State::Older { applied, .. } = state { *applied } else { 0 };
    let (to, has_steps) = plan.next_stop(from);
    if has_steps && from > 0 {
        refuse_moved(transaction, schema).await?;
    }
    let mut target = OneTransaction { transaction, failed: None };
    let report = plan.runner(to).run_async(&mut target).await.map_err(|error| from_refinery(&error, target.failed))?;
    transaction.batch_execute(PIN).await?;
    let mut rows = vec![(WORKS_SINCE, plan.works_since_row(to))];
    if has_steps {
        rows.push((UNFINISHED, to.to_string()));
    }
    let meta = format!(
        "INSERT INTO {}.{META_TABLE} AS m (name, value) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        schema.quoted()
    );
    for (name, value) in rows {
        transaction.execute_typed(&meta, &[(&name, Type::TEXT), (&value, Type::TEXT)]).await?;
    }
    let applied = report.applied_migrations().iter().map(Migration::version).collect();
    Ok(Outcome { applied, from, to, waited: patience.waited() })
}

/// Migrations name the store's tables without their schema. The system's own names come first by themselves, so that the schema can offer
/// only what fits better than those; V3 leaves nothing of that kind in use.
pub(crate) async fn within_the_schema(
    transaction: &Transaction<'_>,
    schema: &Schema,
) -> Result<(), tokio_postgres::Error> {
    transaction.batch_execute(&format!("SET LOCAL search_path = {}, pg_temp", schema.quoted())).await
}

/// A mark refuses what changes rows, and a version would be left half done.
async fn refuse_moved(transaction: &Transaction<'_>, schema: &Schema) -> Result<(), Error> {
    let sql = format!("SELECT m.value FROM {}.{META_TABLE} AS m WHERE m.name = 'moved_to'", schema.quoted());
    match transaction.query_typed_opt(&sql, &[]).await? {
        Some(row) => Err(Error::Moved { to: row.try_get(0)? }),
        None => Ok(()),
    }
}

/// Said before anything is done, with what helps: the server would say only which right is missing.
pub(crate) async fn refuse_without_rights(
    transaction: &Transaction<'_>,
    schema: &Schema,
    plan: &Plan,
) -> Result<(), Error> {
    let tables: Vec<&str> = plan.tables(plan.latest()).into_iter().collect();
    let row = transaction
        .query_typed_one(
            "SELECT current_user::text, current_database()::text, n.oid IS NOT NULL,
                coalesce(has_schema_privilege(n.oid, 'CREATE') AND has_schema_privilege(n.oid, 'USAGE'),
                    has_database_privilege(current_database(), 'CREATE')),
                (SELECT min(pg_get_userbyid(c.relowner)::text) FROM pg_class c
                    WHERE c.relnamespace = n.oid AND c.relname = ANY ($2) AND NOT pg_has_role(c.relowner, 'USAGE'))
             FROM (SELECT $1::name AS name) s LEFT JOIN pg_namespace n ON n.nspname = s.name",
            &[(&schema.name(), Type::NAME), (&tables, Type::NAME_ARRAY)],
        )
        .await?;
    let (role, database): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let (is_there, may_make): (bool, bool) = (row.try_get(2)?, row.try_get(3)?);
    let (to, s) = (quote(&role), schema.quoted());
    let (what, run) = match (is_there, may_make, row.try_get::<_, Option<String>>(4)?) {
        (_, true, None) => return Ok(()),
        (_, _, Some(owner)) => (
            format!("change the tables of {owner} in the schema {schema}"),
            format!("run it as {owner}, or GRANT {} TO {to};", quote(&owner)),
        ),
        (true, false, None) => {
            (format!("make tables in the schema {schema}"), format!("GRANT USAGE, CREATE ON SCHEMA {s} TO {to};"))
        }
        (false, false, None) => {
            (format!("make the schema {schema}"), format!("GRANT CREATE ON DATABASE {} TO {to};", quote(&database)))
        }
    };
    Err(Error::NoRight { role, what, run })
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
            // What refinery notes of it is of the whole file.
            let result = self.transaction.batch_execute(outside::inside(query)).await;
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
