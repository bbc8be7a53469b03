//! Connections: bb8 keeps them, `connect` makes them, and no wait for one is without a limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bb8::{ErrorSink, ManageConnection, PooledConnection, QueueStrategy, RunError};
use bb8_postgres::PostgresConnectionManager;
use futures_util::FutureExt as _;
use storage_core::{Error, ErrorKind, Result};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_postgres::Client;

use crate::connect::{self, Connector, Failure, Hello, Session, Target};
use crate::options::{Limits, PgOptions, Statements};
use crate::wire::{Prepared, Wire};

/// How long a connection may take to prove that it is well, when there is a doubt.
const CHECK: Duration = Duration::from_secs(1);
/// The same when somebody gave it up in the middle of something: that may go on for long, and the next one in the queue waits.
const AFTER_DROP: Duration = Duration::from_millis(100);

/// What statements need of a connection besides the client.
#[derive(Debug)]
pub(crate) struct Parts {
    prepared: Option<Prepared>,
    /// Behind a pooler, where nothing of a session outlives a transaction: what begins one, with the limits in it, and where names
    /// are looked up.
    begin: Option<Arc<str>>,
}

impl Parts {
    pub(crate) fn wire<'c>(&'c self, client: &'c Client) -> Wire<'c> {
        Wire::new(client, self.prepared.as_ref(), self.begin.as_deref())
    }
    /// How statements are sent.
    pub(crate) fn statements(&self) -> Statements {
        if self.prepared.is_some() { Statements::Prepared } else { Statements::Unnamed }
    }
    /// Whether nothing of a session outlives a transaction.
    pub(crate) fn behind_pooler(&self) -> bool {
        self.begin.is_some()
    }
}

/// A connection as the pool keeps it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) parts: Parts,
    pub(crate) encrypted: bool,
    /// What the server said of the database.
    pub(crate) encoding: Option<String>,
    /// What it is in the middle of: in use, or put back so because a future was dropped.
    busy: Option<Use>,
    /// Nothing may be sent on it any more.
    lost: bool,
    /// The doubts that there were when it last proved that it is well.
    proved: u64,
    /// How often prepared statements had been forgotten when these were prepared.
    prepared_at: u64,
    /// Moves the bytes.
    task: AbortHandle,
    connector: Connector,
}

/// What a connection is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Nothing will be changed.
    Reading,
    /// Something may be.
    Writing,
}

/// Nobody waits for the answer to what is under way any more, but the connection would, and the server would work on.
impl Drop for Connection {
    fn drop(&mut self) {
        if self.busy.is_none() || self.client.is_closed() {
            return;
        }
        let task = self.task.clone();
        // Only reads are cancelled: a commit that waits for its synchronous standby would be shown, and could still be
        // lost. And not behind a pooler, which may lose its way when the one who asks is gone; there every statement
        // has a limit of its own.
        match Handle::try_current() {
            Ok(runtime) if self.busy == Some(Use::Reading) && !self.parts.behind_pooler() => {
                let (cancel, connector) = (self.client.cancel_token(), self.connector.clone());
                runtime.spawn(async move {
                    // Whether it reaches the server or not, nothing more can be done.
                    let _ = timeout(CHECK, cancel.cancel_query(connector)).await;
                    task.abort();
                });
            }
            _ => task.abort(),
        }
    }
}

/// Makes connections and says whether they are well.
#[derive(Debug)]
pub(crate) struct Manager {
    /// Judges the connections that `connect` made.
    inner: PostgresConnectionManager<Connector>,
    connector: Connector,
    target: Target,
    /// What a direct connection has as startup options.
    session: Session,
    /// Behind a pooler: the beginning of each transaction, with the limits of a statement and of a lock.
    begin: Arc<str>,
    /// Whether startup options were refused, and are not worth another attempt.
    refused: AtomicBool,
    /// Whether the last connection was behind a pooler.
    pooler: AtomicBool,
    statements: Statements,
    /// How often there was a reason to doubt the connections that are there: one was silent, or led to a server that takes no
    /// writes any more.
    doubts: Arc<AtomicU64>,
    /// Set when all connections are to end, whoever uses them.
    ended: watch::Sender<bool>,
}

impl Manager {
    pub(crate) async fn new(target: Target, options: &PgOptions) -> Result<Self, Failure> {
        let Limits { statement, lock, .. } = options.limits;
        let (statement, lock) = (statement.as_millis(), lock.as_millis());
        // Not statement_timeout: its timer costs a short read a tenth of its time. What a statement waits for is a lock;
        // transactions limit the rest, and reads are cancelled.
        let session = Session { lock_timeout: lock };
        let begin = format!(
            "BEGIN; {}; SET LOCAL statement_timeout = {statement}; SET LOCAL lock_timeout = {lock}",
            migrations::PIN
        );
        let connector = Connector::load(&target).await?;
        let inner = PostgresConnectionManager::new(target.config(Some(&session)), connector.clone());
        Ok(Self {
            inner,
            connector,
            target,
            session,
            begin: begin.into(),
            refused: AtomicBool::new(false),
            pooler: AtomicBool::new(false),
            statements: options.statements,
            doubts: Arc::default(),
            ended: watch::Sender::new(false),
        })
    }

    /// Connects, within the target's limit of time. A connection that is not proved to be direct is used as one behind a pooler:
    /// that is right everywhere.
    pub(crate) async fn dial(&self) -> Result<Connection, Failure> {
        let proved = self.doubts.load(Ordering::Acquire);
        let session = (!self.refused.load(Ordering::Acquire)).then_some(&self.session);
        let made = connect::connect(&self.target, &self.connector, session).await?;
        let connect::Link { client, connection, encrypted, took_ours, direct, .. } = made;
        self.refused.store(!took_ours, Ordering::Release);
        self.pooler.store(!direct, Ordering::Release);
        let encoding = connection.parameter("server_encoding").map(ToOwned::to_owned);
        let mut ended = self.ended.subscribe();
        // What ends the connection is also the error of whatever waits for an answer on it.
        let task = tokio::spawn(async move {
            tokio::select! {
                _ = connection => {}
                // The sender outlives the pool's last connection, or nobody needs this one any more.
                Ok(_) = ended.wait_for(|ended| *ended) => {}
            }
        });
        let task = task.abort_handle();
        // Behind a pooler never, whatever was asked for: whoever opens a store so is told, and whoever only looks gets its answer.
        let prepared = (direct && self.statements != Statements::Unnamed).then(Prepared::default);
        let parts = Parts { prepared, begin: (!direct).then(|| Arc::clone(&self.begin)) };
        let connector = self.connector.clone();
        Ok(Connection {
            client,
            parts,
            encrypted,
            encoding,
            busy: None,
            lost: false,
            proved,
            prepared_at: 0,
            task,
            connector,
        })
    }

    pub(crate) fn is_behind_pooler(&self) -> bool {
        self.pooler.load(Ordering::Acquire)
    }
}

/// Why the pool could not hand out a connection.
#[derive(Debug)]
pub(crate) enum NoConnection {
    /// It could not be made.
    Failed(Failure),
    /// It was not well any more. The pool tries another one.
    Unwell,
}

impl ManageConnection for Manager {
    type Connection = Connection;
    type Error = NoConnection;

    async fn connect(&self) -> Result<Connection, NoConnection> {
        self.dial().await.map_err(NoConnection::Failed)
    }

    async fn is_valid(&self, connection: &mut Connection) -> Result<(), NoConnection> {
        if self.has_broken(connection) {
            return Err(NoConnection::Unwell);
        }
        let doubts = self.doubts.load(Ordering::Acquire);
        if connection.busy.is_some() || connection.proved != doubts {
            // It was put back in the middle of something, or another one gave reason for doubt. Lost until it has proven the
            // contrary: a check whose own future is dropped must not put it back as good.
            connection.lost = true;
            // A pooler may lose its way when a client is gone in the middle of something: there it is given its time.
            let brief = connection.busy.is_some() && !connection.parts.behind_pooler();
            let limit = if brief { AFTER_DROP } else { CHECK };
            let checked = timeout(limit, Hello::ask(&connection.client)).await;
            if !matches!(checked, Ok(Ok(Hello { writes: true, .. }))) {
                return Err(NoConnection::Unwell);
            }
            (connection.lost, connection.busy, connection.proved) = (false, None, doubts);
        }
        Ok(())
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        connection.lost || self.inner.has_broken(&mut connection.client)
    }
}

/// Keeps the last failure, so that whoever waits for a connection learns the cause and not only that time is over.
#[derive(Clone, Debug)]
struct LastFailure(Arc<watch::Sender<Option<Arc<Failure>>>>);

impl ErrorSink<NoConnection> for LastFailure {
    fn sink(&self, error: NoConnection) {
        if let NoConnection::Failed(failure) = error {
            self.0.send_replace(Some(Arc::new(failure)));
        }
    }
    fn boxed_clone(&self) -> Box<dyn ErrorSink<NoConnection>> {
        Box::new(self.clone())
    }
}

/// The connections of one store.
#[derive(Debug)]
pub(crate) struct Pool {
    connections: bb8::Pool<Manager>,
    /// One permit for each connection, first come, first served. bb8 by itself lets whoever has just put a connection
    /// back take it again before the one who waits, and with many tasks some would wait for ever.
    permits: Semaphore,
    half: usize,
    failures: LastFailure,
    wait: Duration,
    /// The manager's.
    doubts: Arc<AtomicU64>,
    ended: watch::Sender<bool>,
    /// How often prepared statements were forgotten.
    forgotten: AtomicU64,
}

/// Ends a pool's connections, whoever uses them.
#[derive(Debug)]
pub(crate) struct Ending(watch::Sender<bool>);

impl Ending {
    pub(crate) fn end(self) {
        self.0.send_replace(true);
    }
}

/// How a pool does, for whoever watches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolState {
    /// Connections that there are.
    pub connections: u32,
    /// Those among them that nobody uses.
    pub idle: u32,
}

impl Pool {
    pub(crate) fn state(&self) -> PoolState {
        let bb8::State { connections, idle_connections, .. } = self.connections.state();
        PoolState { connections, idle: idle_connections }
    }
    /// Connects as often as is needed, from now on; `first` is there already.
    pub(crate) fn new(manager: Manager, first: Connection, options: &PgOptions) -> Self {
        let failures = LastFailure(Arc::new(watch::Sender::new(None)));
        let most = options.max_connections.max(1);
        let (doubts, ended) = (Arc::clone(&manager.doubts), manager.ended.clone());
        let connections = bb8::Pool::builder()
            .max_size(most)
            .min_idle(Some(options.min_connections.min(most)))
            .connection_timeout(options.limits.pool)
            // One attempt for each wait: the wait begins again by itself, and tells its cause.
            .retry_connection(false)
            .error_sink(failures.boxed_clone())
            // The connection that was used last: its process on the server is the one whose memory is still at hand. In
            // turns, a single task's reads took twice the server's time.
            .queue_strategy(QueueStrategy::Lifo)
            .build_unchecked(manager);
        // A pool that is full already has no need of it.
        let _ = connections.add(first);
        let count = usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS);
        let (permits, half) = (Semaphore::new(count), count / 2);
        Self {
            connections,
            permits,
            half,
            failures,
            wait: options.limits.pool,
            doubts,
            ended,
            forgotten: AtomicU64::new(0),
        }
    }

    /// A connection, within the pool's limit of time or `limit` if that is shorter; at once the cause when none can be
    /// made.
    pub(crate) async fn checkout(&self, limit: Duration) -> Result<Link<'_>> {
        if *self.ended.borrow() {
            return Err(Error::closed());
        }
        let limit = limit.min(self.wait);
        if let Ok(permit) = self.permits.try_acquire() {
            return self.take(permit, limit).await;
        }
        let begun = Instant::now();
        match timeout(limit, self.permits.acquire()).await {
            Ok(Ok(permit)) => self.take(permit, limit.saturating_sub(begun.elapsed())).await,
            // Nobody closes the semaphore.
            Ok(Err(_)) => Err(Error::closed()),
            Err(_) => Err(self.no_time(limit)),
        }
    }

    /// What ends the connections when their users do not.
    pub(crate) fn ending(&self) -> Ending {
        Ending(self.ended.clone())
    }

    /// Says that a connection was silent, or leads where it should not: each other one proves that it is well before it is used
    /// again. All at once, or ten silent ones would be found one after the other.
    pub(crate) fn doubt(&self) {
        self.doubts.fetch_add(1, Ordering::AcqRel);
        for _ in 0..self.connections.state().idle_connections {
            let connections = self.connections.clone();
            // Taken and put back: what matters is the proof in between.
            tokio::spawn(async move { drop(connections.get().await) });
        }
    }

    /// Says that prepared statements no longer fit the tables: each connection prepares its own anew.
    pub(crate) fn forget_prepared(&self) {
        self.forgotten.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether whoever came now would have to wait.
    pub(crate) fn is_busy(&self) -> bool {
        self.permits.available_permits() == 0
    }

    /// Whether half of the connections are in use.
    pub(crate) fn is_half_used(&self) -> bool {
        self.permits.available_permits() <= self.half
    }

    /// What is said when none came free in time.
    pub(crate) fn busy(&self) -> Error {
        self.no_time(self.wait)
    }

    /// What is said of a wait for something else: the pool's own trouble where it has any, which others had before.
    pub(crate) fn late(&self, waited: Duration, why: &'static str) -> Error {
        self.trouble().unwrap_or_else(|| Error::new(ErrorKind::Busy { waited }).message(why))
    }

    async fn take<'p>(&'p self, permit: SemaphorePermit<'p>, limit: Duration) -> Result<Link<'p>> {
        // Before the first look, or its failure would be missed.
        let mut failures = self.failures.0.subscribe();
        let mut getting = std::pin::pin!(self.connections.get());
        // Nearly always one is there, and nothing needs to be waited for.
        if let Some(got) = getting.as_mut().now_or_never() {
            return self.taken(got, permit, limit);
        }
        let end = Instant::now() + limit;
        loop {
            tokio::select! {
                biased;
                got = &mut getting => return self.taken(got, permit, limit),
                changed = failures.changed() => {
                    // With other connections about, one of them may come free.
                    if changed.is_ok() && self.connections.state().connections == 0 {
                        return Err(self.no_time(limit));
                    }
                }
                // The pool goes on connecting, for whoever comes next.
                () = sleep_until(end) => return Err(self.no_time(limit)),
            }
        }
    }

    fn taken<'p>(
        &self,
        got: Result<PooledConnection<'p, Manager>, RunError<NoConnection>>,
        permit: SemaphorePermit<'p>,
        limit: Duration,
    ) -> Result<Link<'p>> {
        match got {
            Ok(mut connection) => {
                connection.busy = Some(Use::Writing);
                let forgotten = self.forgotten.load(Ordering::Acquire);
                if std::mem::replace(&mut connection.prepared_at, forgotten) != forgotten
                    && let Some(prepared) = &connection.parts.prepared
                {
                    prepared.clear();
                }
                Ok(Link { connection, _permit: permit })
            }
            Err(RunError::User(NoConnection::Failed(failure))) => Err(failure.to_error()),
            Err(RunError::User(NoConnection::Unwell) | RunError::TimedOut) => Err(self.no_time(limit)),
        }
    }

    fn no_time(&self, waited: Duration) -> Error {
        self.late(waited, "every connection is in use: raise the pool's size, or look for what keeps them")
    }

    /// Why there is no connection at all.
    fn trouble(&self) -> Option<Error> {
        let failure = self.failures.0.borrow().clone();
        failure.filter(|_| self.connections.state().connections == 0).map(|failure| failure.to_error())
    }
}

/// A connection on loan. It goes back before the permit is given on: the fields are dropped in their order.
pub(crate) struct Link<'p> {
    connection: PooledConnection<'p, Manager>,
    _permit: SemaphorePermit<'p>,
}

impl Link<'_> {
    pub(crate) fn wire(&self) -> Wire<'_> {
        self.connection.parts.wire(&self.connection.client)
    }
    pub(crate) fn parts(&self) -> (&Client, &Parts) {
        (&self.connection.client, &self.connection.parts)
    }
    pub(crate) fn split(&mut self) -> (&mut Client, &Parts) {
        let Connection { client, parts, .. } = &mut *self.connection;
        (client, parts)
    }
    /// Says that nothing will be changed on this loan.
    pub(crate) fn reads(&mut self) {
        self.connection.busy = Some(Use::Reading);
    }
    /// Says that every answer was taken. Whoever is dropped before leaves a doubt, which the next user clears.
    pub(crate) fn finished(&mut self) {
        self.connection.busy = None;
    }
    /// Says that it is not to be used again.
    pub(crate) fn lost(&mut self) {
        self.connection.lost = true;
    }
}
