//! The handle: what all operations share, and the store as a whole.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use migrations::{Remark, Schema};
use storage_core::dump::DumpSource;
use storage_core::{
    BackendInfo, Destination, DumpSummary, Environment, Error, ErrorKind, ImportOutcome, ImportRecord, Result, Store,
};
use tokio::io::AsyncWrite;
use tokio::sync::{RwLock, RwLockReadGuard};
use tokio::time::timeout;

use crate::gather::Gatherer;
use crate::options::{FastForms, Gather, Limits, Statements};
use crate::pool::{Pool, PoolState};
use crate::queues::Queues;
use crate::statement::{pinned, statements};
use crate::{
    account, admin_limits, balances, dump, free_generations, gather, history, import, jobs, keys, operations, payments,
};
use crate::{referrals, reserves, restore, routes, users};

statements! {
    /// Statements of the store as a whole.
    StoreStatements {
        ping() = "SELECT pg_is_in_recovery() AS standby";
        limits(TEXT, TEXT) = "SELECT set_config('statement_timeout', $1, true), set_config('lock_timeout', $2, true)";
        /// The same behind a pooler, where the session is not as we want it until this has run.
        limits_pinned(TEXT, TEXT) =
            pinned!("pg_catalog.set_config('statement_timeout', $1, true), pg_catalog.set_config('lock_timeout', $2, true)");
        /// For a transaction of many steps: what limits one is the longest step, and it may idle in between. Releases before 17
        /// have no limit of a whole transaction.
        by_step() =
            pinned!("pg_catalog.set_config('statement_timeout', '60000', true),
                 pg_catalog.set_config('lock_timeout', '5000', true),
                 pg_catalog.set_config('idle_in_transaction_session_timeout', '0', true),
                 (SELECT pg_catalog.set_config(s.name, '0', true) FROM pg_catalog.pg_settings AS s
                     WHERE s.name OPERATOR(pg_catalog.=) 'transaction_timeout')");
        facts() =
            "SELECT current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS synchronous_commit,
                 current_setting('server_version_num')::bigint AS version,
                 EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'citus') AS can_shard";
        moved_to() = "SELECT value FROM {s}.storage_meta WHERE name = 'moved_to'";
        meta() = "SELECT name, value FROM {s}.storage_meta ORDER BY name ASC";
        found(TEXT, TEXT, TEXT) =
            "INSERT INTO {s}.storage_meta AS m (name, value)
             VALUES ('time_zone', $1), ('history', $2), ('store_id', $3) ON CONFLICT (name) DO NOTHING";
        adopt_policy(TEXT, TEXT) =
            "INSERT INTO {s}.storage_meta AS m (name, value) VALUES ('time_zone', $1), ('history', $2)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    }
}

/// Every statement of a store, with its schema filled in.
#[derive(Debug)]
pub(crate) struct Sql {
    pub(crate) account: account::AccountStatements,
    pub(crate) admin_limits: admin_limits::AdminLimitStatements,
    pub(crate) balances: balances::BalanceStatements,
    pub(crate) dump: dump::DumpStatements,
    pub(crate) free_generations: free_generations::FreeGenerationStatements,
    pub(crate) gather: gather::GatherStatements,
    pub(crate) history: history::HistoryStatements,
    pub(crate) import: import::ImportStatements,
    pub(crate) jobs: jobs::JobStatements,
    pub(crate) keys: keys::KeyStatements,
    pub(crate) operations: operations::OperationStatements,
    pub(crate) payments: payments::PaymentStatements,
    pub(crate) referrals: referrals::ReferralStatements,
    pub(crate) reserves: reserves::ReserveStatements,
    pub(crate) restore: restore::RestoreStatements,
    pub(crate) dangling: routes::DanglingStatements,
    pub(crate) store: StoreStatements,
    pub(crate) users: users::UserStatements,
}

impl Sql {
    pub(crate) fn new(schema: &Schema) -> Self {
        Self {
            account: account::AccountStatements::new(schema),
            admin_limits: admin_limits::AdminLimitStatements::new(schema),
            balances: balances::BalanceStatements::new(schema),
            dump: dump::DumpStatements::new(schema),
            free_generations: free_generations::FreeGenerationStatements::new(schema),
            gather: gather::GatherStatements::new(schema),
            history: history::HistoryStatements::new(schema),
            import: import::ImportStatements::new(schema),
            jobs: jobs::JobStatements::new(schema),
            keys: keys::KeyStatements::new(schema),
            operations: operations::OperationStatements::new(schema),
            payments: payments::PaymentStatements::new(schema),
            referrals: referrals::ReferralStatements::new(schema),
            reserves: reserves::ReserveStatements::new(schema),
            restore: restore::RestoreStatements::new(schema),
            dangling: routes::DanglingStatements::new(schema),
            store: StoreStatements::new(schema),
            users: users::UserStatements::new(schema),
        }
    }
}

#[cfg(test)]
impl Sql {
    /// Every statement, for the tests that look at them all.
    pub(crate) fn all(&self) -> Vec<&crate::statement::Statement> {
        let Self {
            account,
            admin_limits,
            balances,
            dump,
            free_generations,
            gather,
            history,
            import,
            jobs,
            keys,
            operations,
            payments,
            referrals,
            reserves,
            restore,
            dangling,
            store,
            users,
        } = self;
        [
            account.all(),
            admin_limits.all(),
            balances.all(),
            dump.all(),
            free_generations.all(),
            gather.all(),
            history.all(),
            import.all(),
            jobs.all(),
            keys.all(),
            operations.all(),
            payments.all(),
            referrals.all(),
            reserves.all(),
            restore.all(),
            dangling.all(),
            store.all(),
            users.all(),
        ]
        .concat()
    }
}

/// A store in a PostgreSQL database. Handles on one database share nothing but the database.
pub struct PgStorage {
    /// `None` after a close. Whoever works holds it for reading, so that a close waits for what began before.
    pool: RwLock<Option<Arc<Pool>>>,
    closed: AtomicBool,
    sql: Arc<Sql>,
    gatherer: Gatherer,
    pub(crate) fast_forms: FastForms,
    queues: Arc<Queues>,
    environment: Environment,
    limits: Limits,
    limits_text: (String, String),
    at_once: usize,
    schema: Schema,
    info: BackendInfo,
    store_id: String,
    /// Whether users lie on several nodes.
    sharded: bool,
    statements: Statements,
    pauses: AtomicU64,
}

impl std::fmt::Debug for PgStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PgStorage").field("location", &self.info.location).finish_non_exhaustive()
    }
}

/// What opening found out.
pub(crate) struct Opened {
    pub(crate) pool: Pool,
    pub(crate) sql: Arc<Sql>,
    pub(crate) gather: Gather,
    pub(crate) fast_forms: FastForms,
    pub(crate) environment: Environment,
    pub(crate) limits: Limits,
    pub(crate) at_once: usize,
    pub(crate) schema: Schema,
    pub(crate) info: BackendInfo,
    pub(crate) store_id: String,
    pub(crate) sharded: bool,
    pub(crate) statements: Statements,
}

/// The right to work: the handle is not closed, and will not be while this is held.
pub(crate) struct Entered<'s>(RwLockReadGuard<'s, Arc<Pool>>);

impl Deref for Entered<'_> {
    type Target = Arc<Pool>;
    fn deref(&self) -> &Arc<Pool> {
        &self.0
    }
}

impl PgStorage {
    pub(crate) fn new(opened: Opened) -> Self {
        let Opened {
            pool,
            sql,
            gather,
            fast_forms,
            environment,
            limits,
            at_once,
            schema,
            info,
            store_id,
            sharded,
            statements,
        } = opened;
        let limits_text = (limits.statement.as_millis().to_string(), limits.lock.as_millis().to_string());
        let queues = Arc::new(Queues::default());
        Self {
            pool: RwLock::new(Some(Arc::new(pool))),
            closed: AtomicBool::new(false),
            gatherer: Gatherer::new(gather, at_once, Arc::clone(&sql), limits, Arc::clone(&queues)),
            fast_forms,
            queues,
            sql,
            environment,
            limits,
            limits_text,
            at_once,
            schema,
            info,
            store_id,
            sharded,
            statements,
            pauses: AtomicU64::new(u64::from(std::process::id())),
        }
    }

    /// The id that the store was founded with: what tells one database from another.
    pub fn store_id(&self) -> &str {
        &self.store_id
    }
    /// How statements reach the server: what [`Statements::Auto`] came to when the store was opened. Each later connection is proved by
    /// itself.
    pub fn statements(&self) -> Statements {
        self.statements
    }
    /// How the pool does; nothing after a close.
    pub fn pool_state(&self) -> PoolState {
        let pool = self.pool.try_read().ok();
        let state = pool.as_ref().and_then(|pool| pool.as_ref()).map(|pool| pool.state());
        state.unwrap_or(PoolState { connections: 0, idle: 0 })
    }
    pub(crate) fn sql(&self) -> &Sql {
        &self.sql
    }
    pub(crate) fn gatherer(&self) -> &Gatherer {
        &self.gatherer
    }
    pub(crate) fn queues(&self) -> &Arc<Queues> {
        &self.queues
    }
    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }
    /// The limits of a statement and of a lock, in milliseconds.
    pub(crate) fn limits_as_text(&self) -> (&str, &str) {
        (&self.limits_text.0, &self.limits_text.1)
    }
    /// How much of one piece of work goes side by side: as much as there are connections.
    pub(crate) fn at_once(&self) -> usize {
        self.at_once
    }
    pub(crate) fn schema(&self) -> &Schema {
        &self.schema
    }
    /// Whether rows of many users may go by one statement: not where users lie on several nodes.
    pub(crate) fn is_whole(&self) -> bool {
        !self.sharded
    }
    pub(crate) fn shown(&self) -> &str {
        &self.info.location
    }
    /// The name of the lock that orders changes of the referrers.
    pub(crate) fn chain_lock(&self) -> String {
        format!("generation-storage referrals in {}", self.schema)
    }

    /// `Closed` after a close. What answers an error before it works asks first.
    pub(crate) fn opened(&self, operation: &'static str) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::closed().in_operation(operation)) } else { Ok(()) }
    }

    /// Enters, unless the handle is closed or closing.
    pub(crate) async fn enter(&self) -> Result<Entered<'_>> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::closed());
        }
        RwLockReadGuard::try_map(self.pool.read().await, Option::as_ref).map(Entered).map_err(|_| Error::closed())
    }

    /// 512 to 1535: a pause times this by 1024 is one that no two wait alike. Not random: a store reads no randomness but
    /// that of its ids.
    pub(crate) fn jitter(&self) -> u32 {
        let number = self.pauses.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54;
        512 + u32::try_from(number).unwrap_or(512)
    }
}

#[async_trait]
impl Store for PgStorage {
    async fn ping(&self) -> Result<()> {
        let rows = self.read("ping", &self.sql.store.ping, &[]).await?;
        match rows.first().map(|row| row.try_get::<_, bool>(0)) {
            Some(Ok(false)) => Ok(()),
            _ => Err(Error::new(ErrorKind::ReadOnly)
                .message("the server is a standby: name the primary")
                .in_operation("ping")),
        }
    }

    fn backend(&self) -> BackendInfo {
        self.info.clone()
    }

    async fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        let limit = self.limits.operation;
        // Who else could have it for writing is another close.
        let ending = self.pool.try_read().ok().and_then(|pool| pool.as_deref().map(Pool::ending));
        let pool = timeout(limit, async { self.pool.write().await.take() }).await;
        // Dropping it ends the connections.
        pool.map(drop).map_err(|_| {
            // Whoever still waits on one is told that it was lost, and whether that leaves anything in doubt.
            if let Some(ending) = ending {
                ending.end();
            }
            Error::new(ErrorKind::Busy { waited: limit })
                .message("operations that began before did not end in time; their connections were ended")
                .in_operation("close")
        })
    }

    async fn dump(&self, out: &mut (dyn AsyncWrite + Send + Unpin)) -> Result<DumpSummary> {
        self.dump_into(out).await.map_err(|error| error.in_operation("dump"))
    }

    async fn restore(&self, from: &mut dyn DumpSource) -> Result<DumpSummary> {
        self.restore_from(from).await.map_err(|error| error.in_operation("restore"))
    }

    async fn moved_to(&self) -> Result<Option<Destination>> {
        self.destination().await
    }

    async fn mark_moved(&self, to: Destination) -> Result<()> {
        self.remark(Remark::Set(to.as_str())).await.map_err(|error| error.in_operation("mark_moved"))
    }

    async fn lift_moved(&self, to: Destination) -> Result<()> {
        self.remark(Remark::Lift(to.as_str())).await.map_err(|error| error.in_operation("lift_moved"))
    }

    async fn import_records(&self, records: Vec<ImportRecord>) -> Result<Vec<ImportOutcome>> {
        self.import_all(records).await.map_err(|error| error.in_operation("import_records"))
    }
}
