//! Holds.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use storage_core::{
    Answer, CommitReserve, Error, Fingerprint, Hold, HoldName, HoldPlace, HoldStatus, HoldStep, ListReserves, Memo,
    Money, Newest, OperationKey, OperationKind, Page, PageSize, Receipt, Reference, ReleaseReserve, ReserveBalance,
    Reserves, Result, Stamp, Sweep, Timestamp, UserId,
};
use tokio::time::{Instant, sleep};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::account::{self, Posting};
use crate::attempts::was_not_waited_for;
use crate::balances::memo_values;
use crate::codec::{Micros, Moment};
use crate::express::key_is_unused;
use crate::fault::Fault;
use crate::fields::Fields;
use crate::keys;
use crate::pool::Pool;
use crate::queues::Lock;
use crate::statement::statements;
use crate::store::PgStorage;
use crate::tx::{Express, Loaded, Param, Tx, param, uuid};
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
/// that returns to the balance. Every figure comes from the rows as they were locked.
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
                 WHERE h.user_id = u.id AND h.name = $2 AND h.status = 'open' AND ($7::numeric IS NULL OR h.amount = $7)
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

fn referring_to(name: &HoldName, memo: Memo) -> Result<Memo> {
    Ok(Memo { reference: Some(Reference::new(name.as_str())?), ..memo })
}

/// Where a list of holds goes on: behind this creation time, name and user.
fn behind(after: Option<Newest<HoldPlace>>) -> (Moment, String, i64) {
    after.map_or((Moment::Infinity, String::new(), i64::MAX), |Newest { at, id: HoldPlace { name, user } }| {
        (Moment::At(at), name.to_string(), user.get())
    })
}

/// Ends an open hold: spends `spent` of it and gives the rest back.
fn end(
    tx: &mut Tx<'_>,
    loaded: &mut account::Account,
    hold: &Hold,
    spent: Money,
    (key, arguments): (&OperationKey, Fingerprint),
) -> Result<(Receipt, Hold)> {
    let rest = Money::from_micros(hold.amount.money().micros() - spent.micros())?;
    let mut receipt = account::receipt(tx.stamp.operation, loaded.record.balance);
    let parts = [(OperationKind::Commit, spent, Money::ZERO), (OperationKind::Release, rest, rest)];
    for (kind, part, back) in parts {
        if part.is_zero() {
            continue;
        }
        let balance = loaded.record.balance.checked_add(back)?;
        let held = Money::from_micros(loaded.record.held.micros() - part.micros())?;
        let memo = referring_to(&hold.name, Memo::default())?;
        receipt = account::post(tx, loaded, key, Posting { kind, balance, held, memo })?;
    }
    let ended = Hold {
        status: if spent.is_zero() { HoldStatus::Released } else { HoldStatus::Committed },
        committed: spent,
        updated_at: tx.now(),
        ended: Some(receipt),
        ..hold.clone()
    };
    let values = vec![
        param(ended.user.get()),
        param(ended.name.as_str().to_owned()),
        param(ended.status.as_str()),
        param(Micros::from(ended.committed)),
        param(Moment::At(ended.updated_at)),
        param(uuid(receipt.operation)),
        param(Micros::from(receipt.balance_after)),
        param(uuid(tx.stamp.operation)),
    ];
    tx.queue_child(&tx.sql().reserves.end, values);
    keys::settle_operation(tx, loaded, key, arguments, Answer::Money(receipt));
    Ok((receipt, ended))
}

/// Judges the end of a hold by what `step` makes of it; `kind` is commit or release.
async fn judge_end(
    tx: &mut Tx<'_>,
    kind: OperationKind,
    (user, name): (UserId, HoldName),
    (key, arguments): (Option<OperationKey>, Fingerprint),
    step: impl Fn(&Hold) -> Result<HoldStep>,
) -> Result<Receipt, Fault> {
    let used_up = tx.key(key.as_ref());
    let (id, word) = (user.get(), name.as_str());
    let find = (&tx.sql().reserves.find_locked, vec![&id as _, &word as _]);
    let Loaded { mut account, used, more } = tx.load(user, &used_up, vec![find]).await?;
    if let Some(first) = keys::replayed_receipt(tx, user, &used_up, arguments, used)? {
        return Ok(first);
    }
    let found = more.first().and_then(|rows| rows.first()).map(hold).transpose()?;
    let found = found.ok_or_else(|| Error::not_found("hold", &name))?;
    match step(&found)? {
        HoldStep::Replay(first) => {
            keys::settle_unchanged(tx, &mut account, key.as_ref(), arguments, Answer::Money(first));
            Ok(first)
        }
        HoldStep::Apply(amount) => {
            let spent = if kind == OperationKind::Commit { amount } else { Money::ZERO };
            Ok(end(tx, &mut account, &found, spent, (&used_up, arguments))?.0)
        }
    }
}

/// The express form of ending a hold.
fn express_end<'s>(
    statement: &'s crate::statement::Statement,
    kind: OperationKind,
    (user, name, amount): (UserId, &HoldName, Option<Money>),
    (key, arguments): (Option<&OperationKey>, Fingerprint),
    stamp: Stamp,
) -> Express<'s, Receipt> {
    let key = key.cloned().unwrap_or_else(|| stamp.operation.to_key());
    let values = vec![
        param(user.get()),
        param(name.as_str().to_owned()),
        param(key.as_str().to_owned()),
        param(uuid(stamp.operation)),
        param(Moment::At(stamp.now)),
        param(Uuid::from_bytes(arguments.to_bytes())),
        param(amount.map(Micros::from)),
        param(kind.as_str()),
    ];
    let answer = Box::new(move |row: &Row| Ok(account::receipt(stamp.operation, Fields::of(row, "users").money()?)));
    Express::new(statement, values, answer)
}

async fn judge_reserve(tx: &mut Tx<'_>, reserve: ReserveBalance) -> Result<Receipt, Fault> {
    let (arguments, user) = (reserve.fingerprint(), reserve.user);
    let used_up = tx.key(reserve.key.as_ref());
    let (id, word) = (user.get(), reserve.name.as_str());
    let find = (&tx.sql().reserves.find_locked, vec![&id as _, &word as _]);
    let Loaded { mut account, used, more } = tx.load(user, &used_up, vec![find]).await?;
    if let Some(first) = keys::replayed_receipt(tx, user, &used_up, arguments, used)? {
        return Ok(first);
    }
    if let Some(row) = more.first().and_then(|rows| rows.first()) {
        let again = hold(row)?.judge_reserve(&reserve)?;
        keys::settle_unchanged(tx, &mut account, reserve.key.as_ref(), arguments, Answer::Money(again));
        return Ok(again);
    }
    let ReserveBalance { user, name, amount, expires_at, memo, key: _ } = reserve;
    let available = account.record.balance;
    let amount_held = amount.money();
    let balance =
        available.checked_sub(amount_held).ok_or_else(|| Error::insufficient_funds(available, amount_held))?;
    let held = account.record.held.checked_add(amount_held)?;
    let posting = Posting { kind: OperationKind::Hold, balance, held, memo: referring_to(&name, memo)? };
    let receipt = account::post(tx, &mut account, &used_up, posting)?;
    let opened = Hold {
        user,
        name,
        amount,
        status: HoldStatus::Open,
        committed: Money::ZERO,
        expires_at,
        created_at: tx.now(),
        updated_at: tx.now(),
        opened: receipt,
        ended: None,
    };
    keys::settle_operation(tx, &mut account, &used_up, arguments, Answer::Money(receipt));
    tx.queue_child(&tx.sql().reserves.create, values(&opened, Some(uuid(tx.stamp.operation))));
    Ok(receipt)
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
                        let stamp = self.environment().stamp();
                        let mut outcome = self.release_expired(&pool, stamp, user, name.clone()).await;
                        // A refused call is answered before the server has ended its transaction, so a user can look held for a moment.
                        // The sweep waits that moment, because passing over the user would release holds out of order.
                        while !patience.is_zero() && outcome.as_ref().is_err_and(was_not_waited_for) {
                            let begun = Instant::now();
                            sleep(BREATH).await;
                            outcome = self.release_expired(&pool, stamp, user, name.clone()).await;
                            patience = patience.saturating_sub(begun.elapsed());
                        }
                        if outcome.as_ref().is_err_and(was_not_waited_for) {
                            held.push((stamp, user, name));
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
    async fn sweep_held(&self, pool: &Pool, sweep: &mut Sweep, mut held: Vec<(Stamp, UserId, HoldName)>) {
        let mut free = Instant::now();
        while !held.is_empty() {
            let mut last = None;
            for (stamp, user, name) in std::mem::take(&mut held) {
                let outcome = self.release_expired(pool, stamp, user, name.clone()).await;
                match outcome {
                    Err(error) if was_not_waited_for(&error) => {
                        held.push((stamp, user, name));
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

    /// Releases one expired hold in an atom of its own; `None` when somebody ended it first. Whoever asks again has the same stamp.
    async fn release_expired(
        &self,
        pool: &Pool,
        stamp: Stamp,
        user: UserId,
        name: HoldName,
    ) -> Result<Option<Arc<Hold>>> {
        self.write_at(pool, stamp, Lock::Free(user), |tx| {
            let name = name.clone();
            Box::pin(async move {
                let key = tx.key(None);
                let (id, word) = (user.get(), name.as_str());
                let sql = &tx.sql().reserves;
                let more =
                    vec![(&sql.find_locked_now, vec![&id as _, &word as _]), (&sql.find, vec![&id as _, &word as _])];
                let Loaded { mut account, used, more } = tx.load(user, &key, more).await?;
                let row = |at: usize| more.get(at).and_then(|rows| rows.first());
                let Some(locked) = row(0) else {
                    // Somebody who needs no user's lock may have the hold's row: a person.
                    return if row(1).is_some() { Err(Fault::Held(user)) } else { Ok(None) };
                };
                let found = hold(locked)?;
                if used.is_some() {
                    // An earlier attempt of this very call did it, and its answer was lost.
                    return Ok(Some(Arc::new(found)));
                }
                let due = found.expires_at.is_some_and(|at| at <= tx.now());
                if found.status != HoldStatus::Open || !due {
                    return Ok(None);
                }
                let arguments = ReleaseReserve::new(user, name).fingerprint();
                let (_, ended) = end(tx, &mut account, &found, Money::ZERO, (&key, arguments))?;
                Ok(Some(Arc::new(ended)))
            })
        })
        .await
    }
}

#[async_trait]
impl Reserves for PgStorage {
    async fn reserve_balance(&self, reserve: ReserveBalance) -> Result<Receipt> {
        let given = reserve.key.clone();
        self.write(
            "reserve_balance",
            (Lock::User(reserve.user), given.as_ref()),
            |stamp| {
                let ReserveBalance { user, name, amount, expires_at, memo, key } = &reserve;
                let key = key.clone().unwrap_or_else(|| stamp.operation.to_key());
                let [_, reason, actor] = memo_values(memo);
                let values = vec![
                    param(user.get()),
                    param(Micros::from(amount.money())),
                    param(key.as_str().to_owned()),
                    param(uuid(stamp.operation)),
                    param(Moment::At(stamp.now)),
                    param(name.as_str().to_owned()),
                    reason,
                    actor,
                    param(Uuid::from_bytes(reserve.fingerprint().to_bytes())),
                    param(expires_at.map(Moment::At)),
                ];
                let answer =
                    Box::new(move |row: &Row| Ok(account::receipt(stamp.operation, Fields::of(row, "users").money()?)));
                Some(Express::new(&self.sql().reserves.reserve, values, answer))
            },
            |tx| {
                let reserve = reserve.clone();
                Box::pin(judge_reserve(tx, reserve))
            },
        )
        .await
    }

    async fn commit_reserve(&self, commit: CommitReserve) -> Result<Receipt> {
        let arguments = commit.fingerprint();
        let CommitReserve { user, name, amount, key } = commit;
        self.write(
            "commit_reserve",
            (Lock::User(user), key.as_ref()),
            |stamp| {
                let (statement, kind) = (&self.sql().reserves.commit, OperationKind::Commit);
                let whole = amount.map(storage_core::Amount::money);
                Some(express_end(statement, kind, (user, &name, whole), (key.as_ref(), arguments), stamp))
            },
            |tx| {
                let (name, key) = (name.clone(), key.clone());
                let step = move |hold: &Hold| hold.judge_commit(amount);
                Box::pin(judge_end(tx, OperationKind::Commit, (user, name), (key, arguments), step))
            },
        )
        .await
    }

    async fn release_reserve(&self, release: ReleaseReserve) -> Result<Receipt> {
        let arguments = release.fingerprint();
        let ReleaseReserve { user, name, key } = release;
        self.write(
            "release_reserve",
            (Lock::User(user), key.as_ref()),
            |stamp| {
                let (statement, kind) = (&self.sql().reserves.release, OperationKind::Release);
                Some(express_end(statement, kind, (user, &name, None), (key.as_ref(), arguments), stamp))
            },
            |tx| {
                let (name, key) = (name.clone(), key.clone());
                Box::pin(judge_end(tx, OperationKind::Release, (user, name), (key, arguments), Hold::judge_release))
            },
        )
        .await
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
