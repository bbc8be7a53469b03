//! Gathers what waits: while every connection is in use, balances that are asked for and changes of balances are put
//! together, and one statement does for many callers what each would have waited for alone: one round trip and, for
//! changes, one commit. The idea is group commit, one level up.
//!
//! What stays as it is for each caller: an answer and an error of its own, its key, its time limits. A gathered
//! statement only ever does the plain cases. Whoever is no plain case (the key was used before, the funds do not
//! suffice, the user is new or held by somebody else) gets no row from it, changes nothing, and goes on alone, as does
//! everybody when the statement fails.
//!
//! A user's changes are applied in the order in which they came, and are never in two statements at once: whoever has the user's
//! turn ([`Queues`]) runs them, and what comes meanwhile is kept aside until it is their turn, to share one statement then.
//!
//! The statements are sent by tasks of their own: whoever is dropped takes nobody along.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use storage_core::{Fingerprint, Memo, Money, OperationKey, OperationKind, Stamp, UserId};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::account::{account_columns, account_tables};
use crate::codec::{Micros, Moment};
use crate::express::key_is_unused;
use crate::fault::{Fault, Remedy};
use crate::jobs::{JOB_COLUMNS, job_columns_read};
use crate::options::{Gather, Limits};
use crate::pool::{Link, Pool};
use crate::queues::{Queue, Queues, Turn};
use crate::statement::{Statement, statements};
use crate::store::Sql;
use crate::tx::uuid;

/// Pages that are larger are read alone: their rows take longer than the round trip.
const MOST_JOBS: i64 = 101;
statements! {
    /// Statements that gather the operations of many users: the one list that is exempt from the rule that a hot
    /// statement names its user. They lock users in ascending order, and are off where a store is sharded.
    GatherStatements {
        balances(INT8_ARRAY) = "SELECT u.balance, u.id FROM {s}.users u WHERE u.id = ANY($1)";
        users(INT8_ARRAY) =
            concat!("SELECT ", account_columns!(), " FROM ", account_tables!(), " WHERE u.id = ANY($1)");
        /// The newest jobs of each user, at most so many. One descent into the index for each.
        jobs(INT8_ARRAY, INT8_ARRAY) = concat!(
            "SELECT j.*, a.n FROM unnest($1, $2) WITH ORDINALITY AS a (id, most, n) CROSS JOIN LATERAL (
                 SELECT ", job_columns_read!(), " FROM {s}.generation_jobs AS t WHERE t.user_id = a.id
                 ORDER BY t.created_at DESC, t.job_id DESC LIMIT a.most
             ) AS j ORDER BY a.n ASC, j.created_at DESC, j.job_id DESC"
        );
        /// Changes by ordinal. A user's changes are all applied or none: none when one would leave the balance negative or
        /// beyond its limit. Users whom somebody holds are passed over: the others in the statement would wait as well.
        post(INT8_ARRAY, NUMERIC_ARRAY, TEXT_ARRAY, TEXT_ARRAY, UUID_ARRAY, TIMESTAMPTZ_ARRAY, TEXT_ARRAY, TEXT_ARRAY,
             TEXT_ARRAY, UUID_ARRAY) = concat!(
            "WITH asked AS MATERIALIZED (
                 SELECT a.* FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) WITH ORDINALITY AS a
                     (id, change, key, kind, operation, at, reference, reason, actor, arguments, n)
                 WHERE ", key_is_unused!("a.id", "a.key"), "
             ), placed AS MATERIALIZED (
                 SELECT a.*, sum(a.change) OVER w AS running, row_number() OVER w AS place FROM asked a
                 WINDOW w AS (PARTITION BY a.id ORDER BY a.n ASC ROWS UNBOUNDED PRECEDING)
             ), due AS MATERIALIZED (
                 SELECT p.id, sum(p.change) AS total, min(p.running) AS lowest, max(p.running) AS highest,
                     count(*) AS many, (array_agg(p.at ORDER BY p.n DESC))[1] AS at,
                     (array_agg(p.operation ORDER BY p.n DESC))[1] AS last
                 FROM placed p GROUP BY p.id
             ), held AS MATERIALIZED (
                 SELECT u.id FROM {s}.users u
                 WHERE u.id = ANY($1) ORDER BY u.id ASC FOR NO KEY UPDATE SKIP LOCKED
             ), posted AS (
                 UPDATE {s}.users AS u SET balance = u.balance + d.total, ledger_rows = u.ledger_rows + d.many,
                     updated_at = d.at, last_operation = d.last
                 FROM held h JOIN due d ON d.id = h.id
                 WHERE u.id = h.id AND u.balance + d.lowest >= 0
                     AND u.balance + u.held + d.highest <= 999999999999.999999
                 RETURNING u.id, u.ledger_rows - d.many AS ledger_rows, u.balance - d.total AS balance, u.held
             ), row AS (
                 INSERT INTO {s}.operations (user_id, seq, operation_id, kind, balance_change, held_change,
                     balance_after, held_after, key, reference, reason, actor, created_at)
                 SELECT p.id, u.ledger_rows + p.place, p.operation, p.kind, p.change, 0, u.balance + p.running, u.held,
                     p.key, p.reference, p.reason, p.actor, p.at
                 FROM placed p JOIN posted u ON u.id = p.id
             ), key AS (
                 INSERT INTO {s}.operation_keys (user_id, space, key, arguments, operation_id, answer,
                     answer_operation, answer_balance)
                 SELECT p.id, 'operation', p.key, p.arguments, p.operation, 'money', p.operation, u.balance + p.running
                 FROM placed p JOIN posted u ON u.id = p.id
             )
             SELECT u.balance + p.running AS balance, p.n FROM placed p JOIN posted u ON u.id = p.id"
        );
    }
}

/// What came of an operation that waited to be gathered.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The statement was run; its rows for this one. Without a row it changed nothing for it.
    Done(Vec<Row>),
    /// It was not tried, or what was tried changed nothing.
    Alone,
    /// It may have been applied: the answer was lost.
    Doubt,
    /// No connection came free in time, and nothing was tried.
    Late,
    /// The user's turn did not come in time, and nothing was tried.
    Behind,
}

/// A change of a user's balance.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(crate) user: UserId,
    pub(crate) kind: OperationKind,
    pub(crate) amount: Money,
    pub(crate) memo: Memo,
    pub(crate) key: OperationKey,
    pub(crate) arguments: Fingerprint,
    pub(crate) stamp: Stamp,
}

impl Post {
    fn change(&self) -> Micros {
        let Micros(amount) = Micros::from(self.amount);
        Micros(if self.kind == OperationKind::Debit { -amount } else { amount })
    }
}

/// A balance that is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AskBalance(pub(crate) UserId);

/// A user who is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AskUser(pub(crate) UserId);

/// A user's newest jobs, and how many at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AskJobs(pub(crate) UserId, pub(crate) i64);

/// A kind of operation that can be gathered.
pub(crate) trait Gathered: Sized + Send + Sync + 'static {
    /// Whether nothing is changed.
    const READS: bool;
    /// Which part of the connections may be at it: the fewer there are, the more each statement gathers, and the less goes on
    /// side by side. Measured with 64 tasks on 10 connections.
    const SHARE: usize = 5;
    /// The most operations of one statement.
    const MOST: usize = 64;

    /// Whose turn it has to be; none when that does not matter.
    fn user(&self) -> Option<UserId>;
    /// Whether both may be in one statement.
    fn agrees(&self, other: &Self) -> bool;
    /// Runs the statement; the rows of each.
    fn run(link: &Link<'_>, sql: &Sql, batch: &[Self]) -> impl Future<Output = Result<Vec<Vec<Row>>, Fault>> + Send;
}

/// A row that cannot be read.
fn unreadable(error: tokio_postgres::Error) -> Fault {
    Fault::Database(error)
}

/// Asks for users by a statement that answers each once, whoever asks, with the id in a column.
async fn each_user(
    link: &Link<'_>,
    (statement, column): (&Statement, usize),
    users: impl Iterator<Item = UserId> + Clone,
) -> Result<Vec<Vec<Row>>, Fault> {
    let mut ids: Vec<i64> = users.clone().map(UserId::get).collect();
    ids.sort_unstable();
    ids.dedup();
    let rows = link.wire().alone(statement, &[&ids]).await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in rows {
        found.insert(row.try_get::<_, i64>(column).map_err(unreadable)?, row);
    }
    Ok(users.map(|user| found.get(&user.get()).cloned().into_iter().collect()).collect())
}

/// Puts rows with those who asked, by the ordinal in a column.
fn by_ordinal(rows: Vec<Row>, column: usize, count: usize) -> Result<Vec<Vec<Row>>, Fault> {
    let mut answers = vec![Vec::new(); count];
    for row in rows {
        let ordinal = row.try_get::<_, i64>(column).map_err(unreadable)?;
        let place = usize::try_from(ordinal).ok().and_then(|ordinal| answers.get_mut(ordinal.checked_sub(1)?));
        if let Some(place) = place {
            place.push(row);
        }
    }
    Ok(answers)
}

/// What only reads can always be together.
macro_rules! reads {
    () => {
        const READS: bool = true;

        fn user(&self) -> Option<UserId> {
            None
        }
        fn agrees(&self, _: &Self) -> bool {
            true
        }
    };
}

impl Gathered for AskBalance {
    reads!();
    async fn run(link: &Link<'_>, sql: &Sql, batch: &[Self]) -> Result<Vec<Vec<Row>>, Fault> {
        each_user(link, (&sql.gather.balances, 1), batch.iter().map(|Self(user)| *user)).await
    }
}

impl Gathered for AskUser {
    reads!();
    async fn run(link: &Link<'_>, sql: &Sql, batch: &[Self]) -> Result<Vec<Vec<Row>>, Fault> {
        each_user(link, (&sql.gather.users, 0), batch.iter().map(|Self(user)| *user)).await
    }
}

impl Gathered for AskJobs {
    // Reading the rows is most of the work, on both sides.
    const SHARE: usize = 2;
    const MOST: usize = 16;
    reads!();
    async fn run(link: &Link<'_>, sql: &Sql, batch: &[Self]) -> Result<Vec<Vec<Row>>, Fault> {
        let ids: Vec<i64> = batch.iter().map(|Self(user, _)| user.get()).collect();
        let most: Vec<i64> = batch.iter().map(|Self(_, most)| *most).collect();
        let rows = link.wire().alone(&sql.gather.jobs, &[&ids, &most]).await?;
        by_ordinal(rows, JOB_COLUMNS, batch.len())
    }
}

impl Gathered for Post {
    const READS: bool = false;

    fn user(&self) -> Option<UserId> {
        Some(self.user)
    }
    fn agrees(&self, other: &Self) -> bool {
        // The second one is a repetition, and has to see the first.
        self.user != other.user || self.key != other.key
    }
    async fn run(link: &Link<'_>, sql: &Sql, batch: &[Self]) -> Result<Vec<Vec<Row>>, Fault> {
        let ids: Vec<i64> = batch.iter().map(|post| post.user.get()).collect();
        let changes: Vec<Micros> = batch.iter().map(Self::change).collect();
        let keys: Vec<&str> = batch.iter().map(|post| post.key.as_str()).collect();
        let kinds: Vec<&str> = batch.iter().map(|post| post.kind.as_str()).collect();
        let operations: Vec<Uuid> = batch.iter().map(|post| uuid(post.stamp.operation)).collect();
        let moments: Vec<Moment> = batch.iter().map(|post| Moment::At(post.stamp.now)).collect();
        let references: Vec<Option<&str>> =
            batch.iter().map(|post| post.memo.reference.as_ref().map(storage_core::Reference::as_str)).collect();
        let reasons: Vec<Option<&str>> =
            batch.iter().map(|post| post.memo.reason.as_ref().map(storage_core::Note::as_str)).collect();
        let actors: Vec<Option<&str>> =
            batch.iter().map(|post| post.memo.actor.as_ref().map(storage_core::Actor::as_str)).collect();
        let arguments: Vec<Uuid> = batch.iter().map(|post| Uuid::from_bytes(post.arguments.to_bytes())).collect();
        let rows = link
            .wire()
            .alone(
                &sql.gather.post,
                &[&ids, &changes, &keys, &kinds, &operations, &moments, &references, &reasons, &actors, &arguments],
            )
            .await?;
        by_ordinal(rows, 1, batch.len())
    }
}

/// One that waits.
#[derive(Debug)]
struct Waiting<K> {
    id: u64,
    operation: K,
    answer: oneshot::Sender<Outcome>,
}

/// What waits, and what is under way.
#[derive(Debug)]
struct Lane<K> {
    waiting: VecDeque<Waiting<K>>,
    /// What waits for its user's turn. A task of its own waits for each of these users.
    aside: HashMap<UserId, VecDeque<Waiting<K>>>,
    /// Tasks that run statements.
    running: usize,
    ids: u64,
}

impl<K> Default for Lane<K> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), aside: HashMap::new(), running: 0, ids: 0 }
    }
}

/// What goes into one statement.
struct Taken<K> {
    batch: Vec<Waiting<K>>,
    turns: HashMap<UserId, Turn>,
    /// Users for whom something is kept aside since now.
    aside: Vec<UserId>,
}

impl<K: Gathered> Lane<K> {
    /// Takes what may be in one statement, in order, and keeps aside what has to wait for its user's turn.
    fn take(&mut self, queues: &Arc<Queues>) -> Taken<K> {
        let (mut batch, mut turns, mut aside) = (Vec::<Waiting<K>>::new(), HashMap::new(), Vec::new());
        while batch.len() < K::MOST
            && let Some(next) = self.waiting.pop_front()
        {
            // Nobody waits for its answer any more, and nothing was sent.
            if next.answer.is_closed() {
                continue;
            }
            let Some(user) = next.operation.user() else {
                batch.push(next);
                continue;
            };
            if let Some(others) = self.aside.get_mut(&user) {
                others.push_back(next);
                continue;
            }
            if let Entry::Vacant(vacant) = turns.entry(user)
                && let Some(turn) = queues.try_take(Queue::User(user))
            {
                vacant.insert(turn);
            }
            if turns.contains_key(&user) && batch.iter().all(|other| next.operation.agrees(&other.operation)) {
                batch.push(next);
            } else {
                self.aside.entry(user).or_default().push_back(next);
                aside.push(user);
            }
        }
        Taken { batch, turns, aside }
    }

    /// Takes what is kept aside for a user and may be in one statement, in order. Nothing is left of the queue when nothing is left
    /// in it.
    fn take_aside(&mut self, user: UserId) -> Vec<Waiting<K>> {
        let mut batch = Vec::<Waiting<K>>::new();
        let Entry::Occupied(mut aside) = self.aside.entry(user) else { return batch };
        let waiting = aside.get_mut();
        while batch.len() < K::MOST
            && let Some(next) = waiting.pop_front()
        {
            if next.answer.is_closed() {
                continue;
            }
            if batch.iter().all(|other| next.operation.agrees(&other.operation)) {
                batch.push(next);
            } else {
                waiting.push_front(next);
                break;
            }
        }
        // While there is a batch, its task comes back and looks again.
        if batch.is_empty() && waiting.is_empty() {
            aside.remove();
        }
        batch
    }

    /// Withdraws one that still waits for a statement.
    fn withdraw(&mut self, id: u64) -> bool {
        without(&mut self.waiting, id)
    }

    /// Withdraws one that still waits for its user's turn.
    fn withdraw_aside(&mut self, id: u64, user: UserId) -> bool {
        self.aside.get_mut(&user).is_some_and(|waiting| without(waiting, id))
    }
}

fn without<K>(waiting: &mut VecDeque<Waiting<K>>, id: u64) -> bool {
    let place = waiting.iter().position(|waiting| waiting.id == id);
    place.is_some_and(|place| waiting.remove(place).is_some())
}

/// A lane that callers and the tasks of its statements share.
#[derive(Debug)]
struct Shared<K>(Mutex<Lane<K>>);

impl<K> Default for Shared<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K> Shared<K> {
    fn lane(&self) -> MutexGuard<'_, Lane<K>> {
        // Every change of a lane is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a task out, also when it was ended in the middle.
struct Running<'l, K> {
    lane: &'l Shared<K>,
    counted: bool,
}

impl<K> Drop for Running<'_, K> {
    fn drop(&mut self) {
        if self.counted {
            let mut lane = self.lane.lane();
            lane.running = lane.running.saturating_sub(1);
        }
    }
}

/// Lets go of what is kept aside for a user, when the task that waits for the turn was ended in the middle.
struct Aside<'l, K> {
    lane: &'l Shared<K>,
    user: UserId,
    /// Whether what is kept aside is this task's to run. Not after its end: there may be another one.
    mine: bool,
}

impl<K> Drop for Aside<'_, K> {
    fn drop(&mut self) {
        if self.mine {
            // Whoever waits learns so that nobody will answer.
            let left = self.lane.lane().aside.remove(&self.user);
            drop(left);
        }
    }
}

/// What the statements of a store need, whoever sends them.
#[derive(Clone, Debug)]
struct Means {
    sql: Arc<Sql>,
    queues: Arc<Queues>,
    limits: Limits,
}

/// What a store gathers.
#[derive(Debug)]
pub(crate) struct Gatherer {
    mode: Gather,
    connections: usize,
    means: Means,
    balances: Arc<Shared<AskBalance>>,
    users: Arc<Shared<AskUser>>,
    jobs: Arc<Shared<AskJobs>>,
    posts: Arc<Shared<Post>>,
}

impl Gatherer {
    pub(crate) fn new(mode: Gather, connections: usize, sql: Arc<Sql>, limits: Limits, queues: Arc<Queues>) -> Self {
        let (balances, users, jobs, posts) = Default::default();
        let means = Means { sql, queues, limits };
        Self { mode, connections, means, balances, users, jobs, posts }
    }

    /// Asks for a balance; `None` when it is quicker to ask alone.
    pub(crate) async fn balance(&self, pool: &Arc<Pool>, user: UserId) -> Option<Outcome> {
        self.join(&self.balances, pool, None, || AskBalance(user)).await
    }

    /// Asks for a user; `None` when it is quicker to ask alone.
    pub(crate) async fn user(&self, pool: &Arc<Pool>, user: UserId) -> Option<Outcome> {
        self.join(&self.users, pool, None, || AskUser(user)).await
    }

    /// Asks for a user's newest jobs; `None` when it is quicker to ask alone.
    pub(crate) async fn jobs(&self, pool: &Arc<Pool>, user: UserId, most: i64) -> Option<Outcome> {
        if most > MOST_JOBS {
            return None;
        }
        self.join(&self.jobs, pool, None, || AskJobs(user, most)).await
    }

    /// Changes a balance; `None` when it is quicker to do that alone.
    pub(crate) async fn post(&self, pool: &Arc<Pool>, post: &Post) -> Option<Outcome> {
        self.join(&self.posts, pool, Some(post.user), || post.clone()).await
    }

    async fn join<K: Gathered>(
        &self,
        shared: &Arc<Shared<K>>,
        pool: &Arc<Pool>,
        user: Option<UserId>,
        operation: impl FnOnce() -> K,
    ) -> Option<Outcome> {
        let limits = self.means.limits;
        let (id, mut answer) = {
            let mut lane = shared.lane();
            let gather = match self.mode {
                Gather::Never => false,
                Gather::Always => true,
                // Whoever overtook what is being gathered would take connections from it.
                Gather::WhenBusy if lane.running > 0 => true,
                // Measured with 8 tasks on 10 connections: reads gain by sharing a statement long before they would have to
                // wait (0.86 of pgbench, 0.79 alone), changes only lose by it (0.54, 0.96): the server shares their commits anyway.
                Gather::WhenBusy if K::READS => pool.is_half_used(),
                // Those who wait for one user can wait together, and share a statement when it is their turn.
                Gather::WhenBusy => {
                    pool.is_busy() || user.is_some_and(|user| self.means.queues.is_taken(Queue::User(user)))
                }
            };
            if !gather {
                return None;
            }
            let (sender, answer) = oneshot::channel();
            lane.ids += 1;
            let id = lane.ids;
            lane.waiting.push_back(Waiting { id, operation: operation(), answer: sender });
            if lane.running < (self.connections / K::SHARE).max(1) {
                lane.running += 1;
                tokio::spawn(run(Arc::clone(shared), Arc::clone(pool), self.means.clone()));
            }
            (id, answer)
        };
        let patience = limits.pool.min(limits.operation);
        if let Ok(answered) = timeout(patience, &mut answer).await {
            return Some(answered.unwrap_or(Outcome::Doubt));
        }
        if shared.lane().withdraw(id) {
            return Some(Outcome::Late);
        }
        // It is in a statement, which has a limit of its own, or waits for its user's turn.
        let left = limits.operation.saturating_sub(patience);
        let for_turn = limits.for_turn(limits.operation).saturating_sub(patience);
        if let Ok(answered) = timeout(for_turn, &mut answer).await {
            return Some(answered.unwrap_or(Outcome::Doubt));
        }
        if user.is_some_and(|user| shared.lane().withdraw_aside(id, user)) {
            return Some(Outcome::Behind);
        }
        Some(match timeout(left.saturating_sub(for_turn), answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Outcome::Doubt,
        })
    }
}

/// Runs statements until nothing waits.
async fn run<K: Gathered>(shared: Arc<Shared<K>>, pool: Arc<Pool>, means: Means) {
    let mut running = Running { lane: &shared, counted: true };
    loop {
        // First the connection: what comes while it is waited for is gathered too.
        let link = pool.checkout(means.limits.pool).await;
        let Taken { batch, turns, aside } = {
            let mut lane = shared.lane();
            let taken = lane.take(&means.queues);
            if taken.batch.is_empty() {
                // Under the same lock, so that nobody comes in between and finds one running that is not.
                lane.running -= 1;
                running.counted = false;
            }
            taken
        };
        for user in aside {
            tokio::spawn(run_aside(Arc::clone(&shared), Arc::clone(&pool), means.clone(), user));
        }
        if !running.counted {
            return;
        }
        answer(link, &means, batch, turns).await;
    }
}

/// Runs statements for a user, in turn, until nothing is kept aside.
async fn run_aside<K: Gathered>(shared: Arc<Shared<K>>, pool: Arc<Pool>, means: Means, user: UserId) {
    let mut aside = Aside { lane: &*shared, user, mine: true };
    while let Some(turn) = means.queues.take(Queue::User(user)).await {
        let link = pool.checkout(means.limits.pool).await;
        let batch = shared.lane().take_aside(user);
        if batch.is_empty() {
            aside.mine = false;
            return;
        }
        answer(link, &means, batch, turn).await;
    }
}

/// Runs one statement and answers each; the turns are over before, so that whoever is answered may come back at once.
async fn answer<K: Gathered>(
    link: storage_core::Result<Link<'_>>,
    means: &Means,
    taken: Vec<Waiting<K>>,
    turns: impl Send,
) {
    let (batch, answers): (Vec<K>, Vec<_>) = taken.into_iter().map(|one| (one.operation, one.answer)).unzip();
    // Without a connection each goes on alone, and learns the cause by itself.
    let outcomes = match link {
        Ok(link) => outcomes(link, &means.sql, &batch, means.limits.statement).await,
        Err(_) => batch.iter().map(|_| Outcome::Alone).collect(),
    };
    drop(turns);
    for (answer, outcome) in answers.into_iter().zip(outcomes) {
        // Whoever was dropped meanwhile does not want it.
        let _ = answer.send(outcome);
    }
}

/// Runs one statement; what came of it for each.
async fn outcomes<K: Gathered>(mut link: Link<'_>, sql: &Sql, batch: &[K], limit: Duration) -> Vec<Outcome> {
    if K::READS {
        link.reads();
    }
    let fault = match timeout(limit, K::run(&link, sql, batch)).await {
        Ok(Ok(rows)) => {
            link.finished();
            return rows.into_iter().map(Outcome::Done).collect();
        }
        Ok(Err(fault)) => fault,
        Err(_) => Fault::Silent(limit),
    };
    if matches!(fault.remedy(), Remedy::Reconnect | Remedy::Elsewhere | Remedy::Anew) {
        link.lost();
    } else {
        link.finished();
    }
    let in_doubt = fault.leaves_doubt();
    batch.iter().map(|_| if in_doubt { Outcome::Doubt } else { Outcome::Alone }).collect()
}
