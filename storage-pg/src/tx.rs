//! Runs operations, and tries again: `attempts` says when.
//!
//! A write has up to two forms. The *express* form is one statement that does everything when the case is plain: one
//! round trip, atomic by itself. When it finds the case not plain it changes nothing and answers no row, or a
//! constraint stops it. Then the operation is *judged*: in a transaction the user's row is locked, what is stored is
//! loaded, and the functions of `storage-core` decide, exactly as in every other backend. Whatever the judge decides is
//! written down with the transaction's last round trips.
//!
//! Trying again: somebody was first (a unique key), the server asks for another try (deadlock, serialization), or the
//! connection was lost. Always with the operation's key, so that an attempt whose answer was lost is found and
//! answered, never applied twice.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Waker};

use storage_core::kernel::{Atom, Call, Reply};
use storage_core::{Environment, Error, OperationId, Result};
use tokio::time::Instant;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use crate::attempts::{Attempts, Course, ROW_IS_HELD, Turns};
use crate::fault::Fault;
use crate::gather::{Gatherer, Outcome, Post};
use crate::pool::{Link, Parts, Pool};
use crate::queues::{Lock, Waiting};
use crate::statement::Statement;
use crate::store::{PgStorage, Sql};
use crate::wire::{Value, Wire};

/// A parameter that a queued statement owns.
pub(crate) type Param = Box<dyn ToSql + Sync + Send>;

pub(crate) fn param(value: impl ToSql + Sync + Send + 'static) -> Param {
    Box::new(value)
}

/// An operation's id as the tables keep it.
pub(crate) fn uuid(operation: OperationId) -> Uuid {
    Uuid::from_u128(operation.as_u128())
}

/// What a judge's future looks like.
pub(crate) type Judging<'a, T> = Pin<Box<dyn Future<Output = Result<T, Fault>> + Send + 'a>>;

/// The one statement that does everything when the case is plain.
pub(crate) struct Express<'s, T> {
    pub(crate) statement: &'s Statement,
    pub(crate) values: Vec<Param>,
    /// Reads the answer from the one row.
    pub(crate) answer: Answering<'s, T>,
    /// The same as a part of a statement for many, where there is such a one; its row answers the same.
    pub(crate) post: Option<Post>,
}

impl<'s, T> Express<'s, T> {
    /// One that is always sent alone.
    pub(crate) fn new(statement: &'s Statement, values: Vec<Param>, answer: Answering<'s, T>) -> Self {
        Self { statement, values, answer, post: None }
    }
}

/// What a row of the one statement answers.
pub(crate) type Answering<'s, T> = Box<dyn Fn(&Row) -> Result<T> + Send + Sync + 's>;

/// By name: a database's own default may be a stricter level, which answers conflicts instead of waiting.
const BEGIN: &str = "START TRANSACTION ISOLATION LEVEL READ COMMITTED";

/// How far a transaction has come on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It begins with the first look, in the same round trip.
    Unsent,
    /// It was begun, and has the limits of this store.
    Open,
    /// Its end was sent.
    Ended,
}

/// One transaction in which an operation is judged.
pub(crate) struct Tx<'c> {
    client: &'c Client,
    link: &'c Parts,
    storage: &'c PgStorage,
    stage: Stage,
    waiting: Waiting,
    /// Whether anything was changed so far.
    wrote: bool,
    parents: Vec<Queued<'c>>,
    children: Vec<Queued<'c>>,
}

/// A statement that is written down at the end.
struct Queued<'c> {
    statement: &'c Statement,
    values: Vec<Param>,
    /// Whether it must answer a row: it changes what was decided on, or nothing is changed at all.
    sure: bool,
}

impl<'c> Tx<'c> {
    pub(crate) fn sql(&self) -> &'c Sql {
        self.storage.sql()
    }
    pub(crate) fn env(&self) -> &'c Environment {
        self.storage.environment()
    }
    pub(crate) fn storage(&self) -> &'c PgStorage {
        self.storage
    }
    /// Whether rows that somebody else holds may be waited for: not while it is unknown whose turn this is.
    pub(crate) fn may_wait(&self) -> bool {
        self.waiting.waits
    }
    /// Whether it is to let go of the lock of all chains rather than wait long for a user.
    pub(crate) fn gives_way(&self) -> bool {
        self.waiting.gives_way
    }
    fn wire(&self) -> Wire<'c> {
        self.link.wire(self.client)
    }

    /// Runs statements one behind the other: one round trip.
    pub(crate) async fn fetch(&mut self, batch: Vec<(&Statement, Vec<Value<'_>>)>) -> Result<Vec<Vec<Row>>, Fault> {
        if self.stage != Stage::Unsent {
            return Ok(self.wire().pipeline(&batch).await?);
        }
        let (statement, lock) = self.storage.limits_as_text();
        let store = &self.sql().store;
        let limits = if self.link.behind_pooler() { &store.limits_pinned } else { &store.limits };
        let mut limited: Vec<(&Statement, Vec<Value<'_>>)> = vec![(limits, vec![&statement, &lock])];
        limited.extend(batch);
        // Before anything is sent: whoever is dropped while the answer is on its way must end it.
        self.stage = Stage::Open;
        let mut rows = self.wire().pipeline_behind(BEGIN, &limited).await?;
        rows.remove(0);
        Ok(rows)
    }

    /// Writes this down at the end, before what needs it to be there.
    pub(crate) fn queue(&mut self, statement: &'c Statement, values: Vec<Param>) {
        self.parents.push(Queued { statement, values, sure: false });
    }
    /// [`Tx::queue`] for a statement that answers a row if what was decided on still stands.
    pub(crate) fn queue_sure(&mut self, statement: &'c Statement, values: Vec<Param>) {
        self.parents.push(Queued { statement, values, sure: true });
    }
    /// Writes this down at the end, behind the accounts.
    pub(crate) fn queue_child(&mut self, statement: &'c Statement, values: Vec<Param>) {
        self.children.push(Queued { statement, values, sure: false });
    }

    /// Sends what is queued, in one round trip; none when nothing is.
    pub(crate) async fn flush(&mut self) -> Result<(), Fault> {
        let mut queued = std::mem::take(&mut self.parents);
        queued.append(&mut self.children);
        if queued.is_empty() {
            return Ok(());
        }
        let batch = queued.iter().map(|queued| (queued.statement, borrowed(&queued.values))).collect();
        let answers = self.fetch(batch).await?;
        if queued.iter().zip(&answers).any(|(queued, rows)| queued.sure && rows.is_empty()) {
            return Err(Fault::Overtaken);
        }
        self.wrote = true;
        Ok(())
    }

    /// A transaction that a test has begun on a link, which it keeps.
    #[cfg(test)]
    pub(crate) async fn within(link: &'c Link<'_>, storage: &'c PgStorage) -> Self {
        let (client, link) = link.parts();
        client.batch_execute(BEGIN).await.unwrap();
        let waiting = Waiting { waits: true, gives_way: false };
        let (parents, children) = (Vec::new(), Vec::new());
        Self { client, link, storage, stage: Stage::Open, waiting, wrote: false, parents, children }
    }
    #[cfg(test)]
    pub(crate) async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }
    /// The texts of the first column.
    #[cfg(test)]
    pub(crate) async fn asked(&self, sql: &str) -> Vec<String> {
        let messages = self.client.simple_query(sql).await.unwrap();
        let row = |message: &tokio_postgres::SimpleQueryMessage| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(ToOwned::to_owned),
            _ => None,
        };
        messages.iter().filter_map(row).collect()
    }

    /// Makes durable what was written. Without a change there is nothing to commit: dropping the transaction sends its end,
    /// and waits for nobody.
    async fn end(mut self, course: &Course<'_>) -> Result<(), Fault> {
        self.flush().await?;
        if self.wrote {
            self.stage = Stage::Ended;
            course.sent(self.client.batch_execute("COMMIT")).await?;
        }
        Ok(())
    }
}

impl Drop for Tx<'_> {
    fn drop(&mut self) {
        if self.stage == Stage::Open {
            // The first poll sends it; nobody waits for its answer. Outside of a transaction, should the beginning have
            // failed, it is a warning in the server's log.
            let rollback = pin!(self.client.batch_execute("ROLLBACK"));
            let _ = rollback.poll(&mut Context::from_waker(Waker::noop()));
        }
    }
}

/// Whoever was seen must be held: a user who was made between the lock and the look is neither new nor ours, and what
/// was written about them would undo what others write at the same time.
pub(crate) fn held(locked: &[Row], seen: &[Row]) -> Result<(), Fault> {
    if seen.len() > locked.len() { Err(Fault::Overtaken) } else { Ok(()) }
}

/// Parameters as a statement takes them.
pub(crate) fn borrowed(values: &[Param]) -> Vec<Value<'_>> {
    values.iter().map(|value| -> Value<'_> { &**value }).collect()
}

impl PgStorage {
    /// Reads with one statement. Tries again when the connection was lost.
    pub(crate) async fn read(
        &self,
        operation: &'static str,
        statement: &Statement,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>> {
        let reading = async {
            let pool = self.enter().await?;
            self.read_at(&pool, statement, values).await
        };
        reading.await.map_err(|error| error.in_operation(operation))
    }

    /// Reads with one statement, or together with others who wait.
    pub(crate) async fn read_gathered(
        &self,
        operation: &'static str,
        gathered: impl AsyncFnOnce(&Gatherer, &Arc<Pool>) -> Option<Outcome>,
        statement: &Statement,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>> {
        let begun = Instant::now();
        let reading = async {
            let pool = self.enter().await?;
            match gathered(self.gatherer(), &pool).await {
                Some(Outcome::Done(rows)) => Ok(rows),
                Some(Outcome::Late | Outcome::Behind) => Err(pool.busy().not_applied()),
                None | Some(Outcome::Alone | Outcome::Doubt) => self.read_since(begun, &pool, statement, values).await,
            }
        };
        reading.await.map_err(|error| error.in_operation(operation))
    }

    /// Does it together with others who wait; `None` when it has to be done alone.
    async fn gathered<T>(
        &self,
        (begun, pool): (Instant, &Arc<Pool>),
        course: &Course<'_>,
        Express { answer, post, .. }: &Express<'_, T>,
    ) -> Option<Result<T>> {
        match self.gatherer().post(pool, post.as_ref()?).await? {
            // It is committed, whether or not its answer can be read.
            Outcome::Done(rows) => rows.first().map(|row| {
                answer(row).map_err(|error| {
                    course.doubt();
                    course.mark(error)
                })
            }),
            Outcome::Alone => None,
            Outcome::Doubt => {
                // Asked about alone, by its key.
                course.doubt();
                None
            }
            Outcome::Late => Some(Err(course.mark(pool.busy()))),
            Outcome::Behind => Some(Err(course.mark(pool.late(begun.elapsed(), ROW_IS_HELD)))),
        }
    }

    /// [`PgStorage::read`] for whoever has entered.
    pub(crate) async fn read_at(&self, pool: &Pool, statement: &Statement, values: &[Value<'_>]) -> Result<Vec<Row>> {
        self.read_since(Instant::now(), pool, statement, values).await
    }

    async fn read_since(
        &self,
        begun: Instant,
        pool: &Pool,
        statement: &Statement,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>> {
        let mut attempts = Attempts::new(self, pool, None, begun);
        loop {
            let mut link = attempts.link().await?;
            link.reads();
            let reading = async { Ok(link.wire().alone(statement, values).await?) };
            let outcome = attempts.bounded(reading).await;
            if let Some(answer) = attempts.settled((Turns::default(), link), outcome).await {
                return answer;
            }
        }
    }

    /// Lets the kernel decide a call; by the express statement where there is one and the case is plain.
    pub(crate) async fn apply<T: TryFrom<Reply, Error = Error>>(&self, call: impl Into<Call>) -> Result<T> {
        let (begun, call) = (Instant::now(), call.into());
        let operation = call.operation();
        let applying = async {
            let pool = self.enter().await?;
            let atom = Atom::new(call, self.environment())?;
            let course = Course::new(atom.key());
            let express = self.express(&atom);
            if let Some(express) = &express
                && let Some(answer) = self.gathered((begun, &pool), &course, express).await
            {
                return answer?.try_into();
            }
            self.judge(begun, &pool, &course, &atom, Lock::of(&atom), express).await?.try_into()
        };
        applying.await.map_err(|error: Error| error.in_operation(operation))
    }

    /// [`PgStorage::apply`] for whoever has entered, with an atom of its own.
    pub(crate) async fn apply_at(&self, pool: &Pool, atom: &Atom, lock: Lock) -> Result<Reply> {
        let course = Course::new(atom.key());
        self.judge(Instant::now(), pool, &course, atom, lock, None).await
    }

    /// Decides an atom in a transaction, behind its express statement.
    pub(crate) async fn judge(
        &self,
        begun: Instant,
        pool: &Pool,
        course: &Course<'_>,
        atom: &Atom,
        lock: Lock,
        express: Option<Express<'_, Reply>>,
    ) -> Result<Reply> {
        self.write_on(begun, pool, (course, lock), express, |tx| {
            let atom = course.atom(atom);
            Box::pin(async move { tx.decide(&atom).await })
        })
        .await
    }

    /// Changes something in a transaction, behind the express statement where there is one.
    pub(crate) async fn write_on<T, J>(
        &self,
        begun: Instant,
        pool: &Pool,
        (course, lock): (&Course<'_>, Lock),
        express: Option<Express<'_, T>>,
        judge: J,
    ) -> Result<T>
    where
        T: Send,
        J: for<'a> Fn(&'a mut Tx<'_>) -> Judging<'a, T> + Send + Sync,
    {
        let mut attempts = Attempts::new(self, pool, Some((course, lock)), begun);
        loop {
            let turns = attempts.turns().await?;
            let mut link = attempts.link().await?;
            let attempt = self.attempt(&mut link, attempts.waiting(), course, express.as_ref(), &judge);
            let outcome = attempts.bounded(attempt).await;
            if let Some(answer) = attempts.settled((turns, link), outcome).await {
                return answer;
            }
        }
    }

    async fn attempt<T, J>(
        &self,
        link: &mut Link<'_>,
        waiting: Waiting,
        course: &Course<'_>,
        express: Option<&Express<'_, T>>,
        judge: &J,
    ) -> Result<T, Fault>
    where
        T: Send,
        J: for<'a> Fn(&'a mut Tx<'_>) -> Judging<'a, T> + Send + Sync,
    {
        if let Some(Express { statement, values, answer, .. }) = express {
            let values = borrowed(values);
            match course.sent(link.wire().alone(statement, &values)).await {
                Ok(rows) => {
                    if let Some(row) = rows.first() {
                        // It is committed, whether or not its answer can be read.
                        return answer(row).map_err(|error| {
                            course.doubt();
                            Fault::Refused(error)
                        });
                    }
                }
                Err(fault) if fault.is_constraint() => {}
                Err(fault) => return Err(fault),
            }
        }
        let (client, link) = link.parts();
        let (parents, children) = (Vec::new(), Vec::new());
        let (storage, stage, wrote) = (self, Stage::Unsent, false);
        let mut tx = Tx { client, link, storage, stage, waiting, wrote, parents, children };
        let answer = judge(&mut tx).await?;
        tx.end(course).await?;
        Ok(answer)
    }
}
