//! Holds.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use storage_core::kernel::{Atom, ReleaseExpired, Reply};
use storage_core::{
    Amount, CommitReserve, Hold, HoldName, HoldPlace, HoldStatus, ListReserves, Money, Newest, OperationKind, Page,
    PageSize, Receipt, ReleaseReserve, ReserveBalance, Reserves, Result, Stamp, Sweep, Timestamp, UserId,
};
use tokio::time::{Instant, sleep};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::account;
use crate::attempts::was_not_waited_for;
use crate::balances::memo_values;
use crate::codec::{Micros, Moment};
use crate::express::key_is_unused;
use crate::fault::Fault;
use crate::fields::Fields;
use crate::pool::Pool;
use crate::queues::Lock;
use crate::statement::statements;
use crate::store::PgStorage;
use crate::tx::{Answering, Express, Param, Tx, param, uuid};
use crate::users::surplus;

/// For so long in all a sweep waits for users whom somebody holds before it passes over them.
const HELD_FOR_A_MOMENT: Duration = Duration::from_millis(300);
/// When it comes back to those, it ends when none was free for so long.
const HELD_FOR_LONG: Duration = Duration::from_secs(1);
/// Between two looks at a held user.
const BREATH: Duration = Duration::from_millis(10);

macro_rules! hold_columns {
    () => {
        "user_id, name, amount, status, committed, expires_at, created_at, updated_at, opened_operation, \
         opened_balance, ended_operation, ended_balance"
    };
}
pub(crate) use hold_columns;

macro_rules! hold_list {
    ($filter:literal) => {
        concat!(
            "SELECT ",
            hold_columns!(),
            " FROM {s}.balance_reserves WHERE ",
            $filter,
            " AND (created_at, name, user_id) < ($1, $2, $3) AND created_at < $4
             ORDER BY created_at DESC, name DESC, user_id DESC LIMIT $5"
        )
    };
}

/// Ends the open hold `$2` of the user `$1` in one statement: `$status` is its new state, `$back` the part of `amount`
/// that returns to the balance. Every figure comes from the rows as they were locked. No index may serve the
/// question for the state: of what stands there as open, nearly all has ended.
macro_rules! end_hold {
    ($status:literal, $committed:literal, $back:literal) => {
        concat!(
            "WITH u AS (
                 SELECT id, balance, held, ledger_rows FROM {s}.users WHERE id = $1 FOR NO KEY UPDATE
             ), hold AS (
                 UPDATE {s}.balance_reserves AS h SET status = '", $status, "', committed = ", $committed, ",
                     updated_at = $5, ended_operation = $4, ended_balance = u.balance + ", $back, ",
                     last_operation = $4
                 FROM u
                 WHERE h.user_id = u.id AND h.name = $2 AND h.status || '' = 'open' AND ($7::numeric IS NULL OR h.amount = $7)
                     AND ", key_is_unused!("$1", "$3"), "
                 RETURNING h.amount, h.ended_balance
             ), posted AS (
                 UPDATE {s}.users AS p SET balance = hold.ended_balance, held = p.held - hold.amount,
                     ledger_rows = p.ledger_rows + 1, last_operation = $4,
                     updated_at = CASE WHEN p.balance = hold.ended_balance THEN p.updated_at ELSE $5 END
                 FROM hold WHERE p.id = $1
                 RETURNING p.id, p.ledger_rows, p.balance, p.held, hold.amount
             ), row AS (
                 INSERT INTO {s}.operations (user_id, seq, operation_id, kind, balance_change, held_change,
                     balance_after, held_after, key, reference, created_at)
                 SELECT p.id, p.ledger_rows, $4, $8, ", $back, ", -h.amount, p.balance, p.held, $3, $2, $5
                 FROM posted p, LATERAL (SELECT p.amount) h (amount)
             ), key AS (
                 INSERT INTO {s}.operation_keys (user_id, space, key, arguments, operation_id, answer,
                     answer_operation, answer_balance)
                 SELECT p.id, 'operation', $3, $6, $4, 'money', $4, p.balance FROM posted p
             )
             SELECT p.balance FROM posted p"
        )
    };
}

statements! {
    /// Statements of holds.
    ReserveStatements {
        find(INT8, TEXT) = concat!(
            "SELECT ", hold_columns!(), " FROM {s}.balance_reserves WHERE user_id = $1 AND name = $2"
        );
        find_locked(INT8, TEXT) = concat!(
            "SELECT ", hold_columns!(), " FROM {s}.balance_reserves WHERE user_id = $1 AND name = $2
             FOR NO KEY UPDATE"
        );
        find_locked_now(INT8, TEXT) = concat!(
            "SELECT ", hold_columns!(), " FROM {s}.balance_reserves WHERE user_id = $1 AND name = $2
             FOR NO KEY UPDATE SKIP LOCKED"
        );
        create(INT8, TEXT, NUMERIC, TEXT, NUMERIC, TIMESTAMPTZ, TIMESTAMPTZ, TIMESTAMPTZ, UUID, NUMERIC, UUID,
            NUMERIC, UUID) = concat!(
            "INSERT INTO {s}.balance_reserves (", hold_columns!(), ", last_operation)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
        );
        end(INT8, TEXT, TEXT, NUMERIC, TIMESTAMPTZ, UUID, NUMERIC, UUID) =
            "UPDATE {s}.balance_reserves SET status = $3, committed = $4, updated_at = $5, ended_operation = $6,
                 ended_balance = $7, last_operation = $8
             WHERE user_id = $1 AND name = $2";
        /// Written so that no index of states tempts the planner away from the user's own.
        list_of_user(TIMESTAMPTZ, TEXT, INT8, TIMESTAMPTZ, INT8, INT8, TEXT) =
            hold_list!("user_id = $6 AND ($7::text IS NULL OR status || '' = $7)");
        list_by_status(TIMESTAMPTZ, TEXT, INT8, TIMESTAMPTZ, INT8, TEXT) = hold_list!("status = $6");
        list_all(TIMESTAMPTZ, TEXT, INT8, TIMESTAMPTZ, INT8) = hold_list!("true");
        expired(TIMESTAMPTZ, TIMESTAMPTZ, INT8, TEXT, INT8) =
            "SELECT user_id, name, expires_at FROM {s}.balance_reserves
             WHERE status = 'open' AND expires_at IS NOT NULL AND expires_at <= $1
                 AND (expires_at, user_id, name) > ($2, $3, $4)
             ORDER BY expires_at ASC, user_id ASC, name ASC LIMIT $5";
        reserve(INT8, NUMERIC, TEXT, UUID, TIMESTAMPTZ, TEXT, TEXT, TEXT, UUID, TIMESTAMPTZ) = concat!(
            "WITH posted AS (
                 UPDATE {s}.users AS u SET balance = u.balance - $2, held = u.held + $2,
                     ledger_rows = u.ledger_rows + 1, updated_at = $5, last_operation = $4
                 WHERE u.id = $1 AND u.balance >= $2 AND ", key_is_unused!("$1", "$3"), "
                     AND NOT EXISTS (SELECT FROM {s}.balance_reserves h WHERE h.user_id = $1 AND h.name = $6)
                 RETURNING u.id, u.ledger_rows, u.balance, u.held
             ), hold AS (
                 INSERT INTO {s}.balance_reserves (user_id, name, amount, status, committed, expires_at, created_at,
                     updated_at, opened_operation, opened_balance, last_operation)
                 SELECT p.id, $6, $2, 'open', 0, $10, $5, $5, $4, p.balance, $4 FROM posted p
             ), row AS (
                 INSERT INTO {s}.operations (user_id, seq, operation_id, kind, balance_change, held_change,
                     balance_after, held_after, key, reference, reason, actor, created_at)
                 SELECT p.id, p.ledger_rows, $4, 'hold', -$2, $2, p.balance, p.held, $3, $6, $7, $8, $5 FROM posted p
             ), key AS (
                 INSERT INTO {s}.operation_keys (user_id, space, key, arguments, operation_id, answer,
                     answer_operation, answer_balance)
                 SELECT p.id, 'operation', $3, $9, $4, 'money', $4, p.balance FROM posted p
             )
             SELECT p.balance FROM posted p"
        );
        commit(INT8, TEXT, TEXT, UUID, TIMESTAMPTZ, UUID, NUMERIC, TEXT) = end_hold!("committed", "h.amount", "0");
        release(INT8, TEXT, TEXT, UUID, TIMESTAMPTZ, UUID, NUMERIC, TEXT) = end_hold!("released", "0", "h.amount");
    }
}

/// Reads the columns of `hold_columns!`.
pub(crate) fn hold(row: &Row) -> Result<Hold> {
    let mut fields = Fields::of(row, "balance_reserves");
    Ok(Hold {
        user: fields.user()?,
        name: fields.text()?,
        amount: fields.amount()?,
        status: fields.text()?,
        committed: fields.money()?,
        expires_at: fields.opt_at()?,
        created_at: fields.at()?,
        updated_at: fields.at()?,
        opened: fields.receipt()?,
        ended: fields.opt_receipt()?,
    })
}

/// The parameters of `create`.
pub(crate) fn values(hold: &Hold, last_operation: Option<Uuid>) -> Vec<Param> {
    vec![
        param(hold.user.get()),
        param(hold.name.as_str().to_owned()),
        param(Micros::from(hold.amount.money())),
        param(hold.status.as_str()),
        param(Micros::from(hold.committed)),
        param(hold.expires_at.map(Moment::At)),
        param(Moment::At(hold.created_at)),
        param(Moment::At(hold.updated_at)),
        param(uuid(hold.opened.operation)),
        param(Micros::from(hold.opened.balance_after)),
        param(hold.ended.map(|ended| uuid(ended.operation))),
        param(hold.ended.map(|ended| Micros::from(ended.balance_after))),
        param(last_operation),
    ]
}

/// Where a list of holds goes on: behind this creation time, name and user.
fn behind(after: Option<Newest<HoldPlace>>) -> (Moment, String, i64) {
    after.map_or((Moment::Infinity, String::new(), i64::MAX), |Newest { at, id: HoldPlace { name, user } }| {
        (Moment::At(at), name.to_string(), user.get())
    })
}

/// Writes a hold down; a known one has ended.
pub(crate) fn put(tx: &mut Tx<'_>, stamp: Stamp, hold: &Hold, is_known: bool) {
    let (sql, operation) = (tx.sql(), uuid(stamp.operation));
    let Some(ended) = hold.ended.filter(|_| is_known) else {
        return tx.queue_child(&sql.reserves.create, values(hold, Some(operation)));
    };
    let values = vec![
        param(hold.user.get()),
        param(hold.name.as_str().to_owned()),
        param(hold.status.as_str()),
        param(Micros::from(hold.committed)),
        param(Moment::At(hold.updated_at)),
        param(uuid(ended.operation)),
        param(Micros::from(ended.balance_after)),
        param(operation),
    ];
    tx.queue_child(&sql.reserves.end, values);
}

/// The receipt of an express statement, from the one row of it.
fn receipt(atom: &Atom) -> Answering<'static, Reply> {
    let operation = atom.stamp().operation;
    Box::new(move |row: &Row| Ok(account::receipt(operation, Fields::of(row, "users").money()?).into()))
}

impl PgStorage {
    /// The express form of a new hold.
    pub(crate) fn express_reserve(&self, atom: &Atom, reserve: &ReserveBalance) -> Express<'_, Reply> {
        let ReserveBalance { user, name, amount, expires_at, memo, key: _ } = reserve;
        let [_, reason, actor] = memo_values(memo);
        let stamp = atom.stamp();
        let values = vec![
            param(user.get()),
            param(Micros::from(amount.money())),
            param(atom.key().as_str().to_owned()),
            param(uuid(stamp.operation)),
            param(Moment::At(stamp.now)),
            param(name.as_str().to_owned()),
            reason,
            actor,
            param(Uuid::from_bytes(atom.arguments().to_bytes())),
            param(expires_at.map(Moment::At)),
        ];
        Express::new(&self.sql().reserves.reserve, values, receipt(atom))
    }

    /// The express form of spending a whole hold; `amount` is what was asked for.
    pub(crate) fn express_commit(&self, atom: &Atom, commit: &CommitReserve) -> Express<'_, Reply> {
        let CommitReserve { user, name, amount, key: _ } = commit;
        let values = ends(atom, (*user, name), amount.map(Amount::money), OperationKind::Commit);
        Express::new(&self.sql().reserves.commit, values, receipt(atom))
    }

    /// The express form of giving a hold back.
    pub(crate) fn express_release(&self, atom: &Atom, release: &ReleaseReserve) -> Express<'_, Reply> {
        let ReleaseReserve { user, name, key: _ } = release;
        let values = ends(atom, (*user, name), None, OperationKind::Release);
        Express::new(&self.sql().reserves.release, values, receipt(atom))
    }
}

/// The parameters of `end_hold!`.
fn ends(atom: &Atom, (user, name): (UserId, &HoldName), amount: Option<Money>, kind: OperationKind) -> Vec<Param> {
    let stamp = atom.stamp();
    vec![
        param(user.get()),
        param(name.as_str().to_owned()),
        param(atom.key().as_str().to_owned()),
        param(uuid(stamp.operation)),
        param(Moment::At(stamp.now)),
        param(Uuid::from_bytes(atom.arguments().to_bytes())),
        param(amount.map(Micros::from)),
        param(kind.as_str()),
    ]
}

/// Where a hold is and when it was due.
fn place(row: &Row) -> Result<(UserId, HoldName, Timestamp)> {
    let mut fields = Fields::of(row, "balance_reserves");
    Ok((fields.user()?, fields.text()?, fields.at()?))
}

impl PgStorage {
    async fn page_of_reserves(&self, list: ListReserves) -> Result<Page<Hold>> {
        let filter = list.filter();
        let ListReserves { user, status, older_than, page } = list;
        let (at, name, of) = behind(page.position(filter)?);
        let older = older_than.map_or(Moment::Infinity, Moment::At);
        let limit = surplus(page.size);
        let (sql, status) = (&self.sql().reserves, status.map(HoldStatus::as_str));
        let rows = match (user.map(UserId::get), status) {
            (Some(user), status) => {
                let values: &[crate::wire::Value<'_>] = &[&at, &name, &of, &older, &limit, &user, &status];
                self.read("list_reserves", &sql.list_of_user, values).await?
            }
            (None, Some(status)) => {
                let values: &[crate::wire::Value<'_>] = &[&at, &name, &of, &older, &limit, &status];
                self.read("list_reserves", &sql.list_by_status, values).await?
            }
            (None, None) => self.read("list_reserves", &sql.list_all, &[&at, &name, &of, &older, &limit]).await?,
        };
        let holds = rows.iter().map(|row| Ok(Arc::new(hold(row)?))).collect::<Result<_>>()?;
        Ok(Page::from_surplus(holds, page.size, filter, Hold::position))
    }

    async fn sweep(&self, limit: PageSize) -> Result<Vec<Arc<Hold>>> {
        let pool = self.enter().await?;
        let (now, most) = (Moment::At(self.environment().clock.now()), surplus(limit) - 1);
        let (mut at, mut of, mut behind) = (Moment::NegativeInfinity, i64::MIN, String::new());
        let (mut sweep, mut held, mut goes_on) = (Sweep::new(limit), Vec::new(), true);
        let mut patience = HELD_FOR_A_MOMENT;
        while goes_on {
            let values: &[crate::wire::Value<'_>] = &[&now, &at, &of, &behind, &most];
            let due = match self.read_at(&pool, &self.sql().reserves.expired, values).await {
                Ok(due) => due,
                Err(error) => {
                    sweep.took(Err(error));
                    return sweep.answer();
                }
            };
            goes_on = due.len() == limit.get();
            for row in &due {
                let (id, word) = match (row.try_get::<_, i64>(0), row.try_get::<_, String>(1)) {
                    (Ok(id), Ok(word)) => (id, word),
                    (Err(error), _) | (_, Err(error)) => {
                        sweep.took(Err(Fault::from(error).into_error()));
                        return sweep.answer();
                    }
                };
                let place = place(row);
                // A moment that is none of ours can be due only when it is before all others.
                let since = place.as_ref().map_or(Moment::NegativeInfinity, |(.., since)| Moment::At(*since));
                (at, of, behind) = (since, id, word);
                let outcome = match place {
                    Ok((user, name, _)) => {
                        let release = Atom::new(ReleaseExpired { user, name }.into(), self.environment());
                        let atom = match release {
                            Ok(atom) => atom,
                            Err(error) => {
                                sweep.took(Err(error));
                                return sweep.answer();
                            }
                        };
                        let mut outcome = self.release_expired(&pool, &atom, user).await;
                        // A refused call is answered before the server has ended its transaction, so a user can look held for a moment.
                        // The sweep waits that moment, because passing over the user would release holds out of order.
                        while !patience.is_zero() && outcome.as_ref().is_err_and(was_not_waited_for) {
                            let begun = Instant::now();
                            sleep(BREATH).await;
                            outcome = self.release_expired(&pool, &atom, user).await;
                            patience = patience.saturating_sub(begun.elapsed());
                        }
                        if outcome.as_ref().is_err_and(was_not_waited_for) {
                            held.push((atom, user));
                            continue;
                        }
                        outcome
                    }
                    Err(error) => Err(error),
                };
                if !sweep.took(outcome) {
                    return sweep.answer();
                }
            }
        }
        self.sweep_held(&pool, &mut sweep, held).await;
        sweep.answer()
    }

    /// Comes back to those whose user somebody else held. Ends when none was free for a while.
    async fn sweep_held(&self, pool: &Pool, sweep: &mut Sweep, mut held: Vec<(Atom, UserId)>) {
        let mut free = Instant::now();
        while !held.is_empty() {
            let mut last = None;
            for (atom, user) in std::mem::take(&mut held) {
                let outcome = self.release_expired(pool, &atom, user).await;
                match outcome {
                    Err(error) if was_not_waited_for(&error) => {
                        held.push((atom, user));
                        last = Some(error);
                    }
                    outcome => {
                        free = Instant::now();
                        if !sweep.took(outcome) {
                            return;
                        }
                    }
                }
            }
            if let Some(error) = last {
                if free.elapsed() > HELD_FOR_LONG {
                    sweep.took(Err(error));
                    return;
                }
                sleep(BREATH).await;
            }
        }
    }

    /// Releases one expired hold; `None` when somebody ended it first. Whoever asks again has the same atom.
    async fn release_expired(&self, pool: &Pool, atom: &Atom, user: UserId) -> Result<Option<Arc<Hold>>> {
        self.apply_at(pool, atom, Lock::Free(user)).await?.try_into()
    }
}

#[async_trait]
impl Reserves for PgStorage {
    async fn reserve_balance(&self, reserve: ReserveBalance) -> Result<Receipt> {
        self.apply(reserve).await
    }

    async fn commit_reserve(&self, commit: CommitReserve) -> Result<Receipt> {
        self.apply(commit).await
    }

    async fn release_reserve(&self, release: ReleaseReserve) -> Result<Receipt> {
        self.apply(release).await
    }

    async fn find_reserve(&self, user: UserId, name: &HoldName) -> Result<Option<Arc<Hold>>> {
        let (id, word) = (user.get(), name.as_str());
        let rows = self.read("find_reserve", &self.sql().reserves.find, &[&id, &word]).await?;
        let found = rows.first().map(hold).transpose().map_err(|error| error.in_operation("find_reserve"))?;
        Ok(found.map(Arc::new))
    }

    async fn list_reserves(&self, list: ListReserves) -> Result<Page<Hold>> {
        self.opened("list_reserves")?;
        self.page_of_reserves(list).await.map_err(|error| error.in_operation("list_reserves"))
    }

    async fn release_expired_reserves(&self, limit: PageSize) -> Result<Vec<Arc<Hold>>> {
        self.sweep(limit).await.map_err(|error| error.in_operation("release_expired_reserves"))
    }
}
