//! A user's account: locked, loaded, and written back by what differs.

use storage_core::{AccountRecord, LedgerRow, Money, OperationId, Receipt, Result, Stamp, Timestamp, UserId};
use tokio_postgres::Row;

use crate::codec::{Day, Micros, Moment};
use crate::fields::Fields;
use crate::statement::statements;
use crate::tx::{Param, Tx, param, uuid};

/// The columns of an account, in the order in which [`record`] reads them. `{s}.users u` is the anchor.
macro_rules! account_columns {
    () => {
        "u.id, u.ledger_rows, u.created_at, u.updated_at, u.balance, u.held, u.spent, s.language, \
         coalesce(s.gift_claimed, false) AS gift_claimed, d.date, coalesce(d.used, 0) AS used, \
         coalesce(d.bank, 0) AS bank, l.limit_amount, r.referrer_id, r.created_at AS referred_at, \
         greatest(coalesce(r.bonus, 0), u.referral_bonus) AS bonus"
    };
}
macro_rules! account_tables {
    () => {
        "{s}.users u LEFT JOIN {s}.user_settings s ON s.user_id = u.id \
         LEFT JOIN {s}.daily_free_generations d ON d.user_id = u.id \
         LEFT JOIN {s}.admin_limits l ON l.user_id = u.id LEFT JOIN {s}.referrals r ON r.user_id = u.id"
    };
}
pub(crate) use {account_columns, account_tables};

statements! {
    /// Statements of accounts.
    AccountStatements {
        /// The lock that orders the changes of users, taken by ascending id. `lock_now` skips users whose row somebody else holds.
        lock(INT8_ARRAY) = "SELECT id FROM {s}.users WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE";
        lock_now(INT8_ARRAY) =
            "SELECT id FROM {s}.users WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED";
        load(INT8) = concat!("SELECT ", account_columns!(), " FROM ", account_tables!(), " WHERE u.id = $1");
        /// The same for the user of whom only an id that leads to it is known.
        lock_routed(TEXT, TEXT) =
            "SELECT id FROM {s}.users WHERE id = (SELECT user_id FROM {s}.id_routes WHERE kind = $1 AND id = $2)
             FOR NO KEY UPDATE";
        lock_routed_now(TEXT, TEXT) =
            "SELECT id FROM {s}.users WHERE id = (SELECT user_id FROM {s}.id_routes WHERE kind = $1 AND id = $2)
             FOR NO KEY UPDATE SKIP LOCKED";
        load_routed(TEXT, TEXT) = concat!(
            "SELECT ", account_columns!(), " FROM ", account_tables!(),
            " WHERE u.id = (SELECT user_id FROM {s}.id_routes WHERE kind = $1 AND id = $2)"
        );
        /// Claims an id that arrives without its user.
        claim(TEXT, TEXT, INT8) = "INSERT INTO {s}.id_routes (kind, id, user_id) VALUES ($1, $2, $3)";
        /// Gives one up.
        unclaim(TEXT, TEXT, INT8) = "DELETE FROM {s}.id_routes WHERE kind = $1 AND id = $2 AND user_id = $3";
        create(INT8, TIMESTAMPTZ, TIMESTAMPTZ, NUMERIC, NUMERIC, INT8, NUMERIC, UUID, INT8) =
            "INSERT INTO {s}.users (id, created_at, updated_at, balance, held, ledger_rows, spent, last_operation,
                 referral_bonus)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        /// What is written was decided on the ledger as it was: the lock says so, and this would show it.
        change(INT8, TIMESTAMPTZ, TIMESTAMPTZ, NUMERIC, NUMERIC, INT8, NUMERIC, UUID, INT8, INT8) =
            "UPDATE {s}.users SET created_at = $2, updated_at = $3, balance = $4, held = $5, ledger_rows = $6,
                 spent = $7, last_operation = $8, referral_bonus = $9
             WHERE id = $1 AND ledger_rows = $10 RETURNING id";
        settings(INT8, TEXT, BOOL, TIMESTAMPTZ, UUID) =
            "INSERT INTO {s}.user_settings AS t (user_id, language, gift_claimed, created_at, updated_at, last_operation)
             VALUES ($1, $2, $3, $4, $4, $5)
             ON CONFLICT (user_id) DO UPDATE SET language = excluded.language, gift_claimed = excluded.gift_claimed,
                 updated_at = excluded.updated_at, last_operation = excluded.last_operation";
        quota(INT8, DATE, INT8, INT8, TIMESTAMPTZ, UUID) =
            "INSERT INTO {s}.daily_free_generations AS t
                 (user_id, date, used, bank, created_at, updated_at, last_operation)
             VALUES ($1, $2, $3, $4, $5, $5, $6)
             ON CONFLICT (user_id) DO UPDATE SET date = excluded.date, used = excluded.used, bank = excluded.bank,
                 updated_at = excluded.updated_at, last_operation = excluded.last_operation";
        limit(INT8, NUMERIC, TIMESTAMPTZ, UUID) =
            "INSERT INTO {s}.admin_limits AS t (user_id, limit_amount, created_at, updated_at, last_operation)
             VALUES ($1, $2, $3, $3, $4)
             ON CONFLICT (user_id) DO UPDATE SET limit_amount = excluded.limit_amount,
                 updated_at = excluded.updated_at, last_operation = excluded.last_operation";
        /// Whoever sends it sees to the heights above, or says that nobody did.
        refer(INT8, INT8, INT8, TIMESTAMPTZ, BOOL) =
            "INSERT INTO {s}.referrals (user_id, referrer_id, bonus, created_at, measured) VALUES ($1, $2, $3, $4, $5)";
        post(INT8, INT8, UUID, TEXT, NUMERIC, NUMERIC, NUMERIC, NUMERIC, TEXT, TEXT, TEXT, TEXT, TIMESTAMPTZ) =
            "INSERT INTO {s}.operations (user_id, seq, operation_id, kind, balance_change, held_change, balance_after,
                 held_after, key, reference, reason, actor, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
    }
}

/// A user as an operation decides on it.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) record: AccountRecord,
    /// Rows in the user's ledger.
    pub(crate) rows: u64,
    /// What the tables hold; `None` for a user who is not there yet.
    stored: Option<(AccountRecord, u64)>,
}

/// Reads the columns of `account_columns!`.
pub(crate) fn record(row: &Row) -> Result<(AccountRecord, u64)> {
    let mut fields = Fields::of(row, "users");
    let (user, rows) = (fields.user()?, fields.count()?);
    let record = AccountRecord {
        user,
        created_at: fields.at()?,
        updated_at: fields.at()?,
        balance: fields.money()?,
        held: fields.money()?,
        spent: fields.total()?,
        language: fields.opt_text()?,
        gift_claimed: fields.flag()?,
        quota_date: fields.opt_day()?,
        quota_used: fields.count()?,
        bank: fields.count()?,
        admin_limit: fields.opt_money()?,
        referrer: fields.opt_user()?,
        referred_at: fields.opt_at()?,
        referral_bonus: fields.count()?,
    };
    Ok((record, rows))
}

impl Account {
    /// The user that was loaded.
    pub(crate) fn found(row: &Row) -> Result<Self> {
        let (record, rows) = record(row)?;
        Ok(Self { record: record.clone(), rows, stored: Some((record, rows)) })
    }
    /// The user that was loaded, else one who is not there yet.
    pub(crate) fn of(user: UserId, row: Option<&Row>, now: Timestamp) -> Result<Self> {
        let nobody = || Ok(Self { record: AccountRecord::new(user, now), rows: 0, stored: None });
        row.map_or_else(nobody, Self::found)
    }
    pub(crate) fn user(&self) -> UserId {
        self.record.user
    }
    pub(crate) fn is_new(&self) -> bool {
        self.stored.is_none()
    }
}

/// Writes down what differs from the tables; parent rows before child rows.
pub(crate) fn put(tx: &mut Tx<'_>, stamp: Stamp, account: &mut Account) {
    let sql = &tx.sql().account;
    let Account { record, rows, stored } = account;
    let user = record.user.get();
    let (now, operation) = (Moment::At(stamp.now), uuid(stamp.operation));
    let before = stored.as_ref().map(|(record, _)| record);
    let core = |record: &AccountRecord, rows: u64| {
        let AccountRecord { created_at, updated_at, balance, held, spent, referral_bonus, .. } = *record;
        (created_at, updated_at, balance, held, spent, referral_bonus, rows)
    };
    let changed = stored.as_ref().is_none_or(|(before, rows_before)| core(before, *rows_before) != core(record, *rows));
    if changed {
        let count = |rows: u64| param(i64::try_from(rows).unwrap_or(i64::MAX));
        let mut values: Vec<Param> = vec![
            param(user),
            param(Moment::At(record.created_at)),
            param(Moment::At(record.updated_at)),
            param(Micros::from(record.balance)),
            param(Micros::from(record.held)),
            count(*rows),
            param(Micros::from(record.spent)),
            param(operation),
            param(i64::from(record.referral_bonus)),
        ];
        match &*stored {
            None => tx.queue(&sql.create, values),
            Some((_, rows_before)) => {
                values.push(count(*rows_before));
                tx.queue_sure(&sql.change, values);
            }
        }
    }
    let fresh = AccountRecord::new(record.user, record.created_at);
    let before = before.unwrap_or(&fresh);
    if (&record.language, record.gift_claimed) != (&before.language, before.gift_claimed) {
        let language = record.language.as_ref().map(|language| language.as_str().to_owned());
        let values = vec![param(user), param(language), param(record.gift_claimed), param(now), param(operation)];
        tx.queue(&sql.settings, values);
    }
    if record.quota() != before.quota() {
        let values = vec![
            param(user),
            param(record.quota_date.map(Day)),
            param(i64::from(record.quota_used)),
            param(i64::try_from(record.bank).unwrap_or(i64::MAX)),
            param(now),
            param(operation),
        ];
        tx.queue(&sql.quota, values);
    }
    if record.admin_limit != before.admin_limit
        && let Some(limit) = record.admin_limit
    {
        tx.queue(&sql.limit, vec![param(user), param(Micros::from(limit)), param(now), param(operation)]);
    }
    if record.referrer != before.referrer
        && let Some(referrer) = record.referrer
    {
        let since = Moment::At(record.referred_at.unwrap_or(record.created_at));
        let bonus = i64::from(record.referral_bonus);
        // Nobody gets a referrer here without `Joint::raise`.
        tx.queue(&sql.refer, vec![param(user), param(referrer.get()), param(bonus), param(since), param(true)]);
    }
    *stored = Some((record.clone(), *rows));
}

pub(crate) fn ledger_values(row: &LedgerRow) -> Vec<Param> {
    let text = |text: Option<&str>| param(text.map(ToOwned::to_owned));
    vec![
        param(row.user.get()),
        param(i64::try_from(row.seq).unwrap_or(i64::MAX)),
        param(uuid(row.operation)),
        param(row.kind.as_str()),
        param(Micros::from(row.balance_change)),
        param(Micros::from(row.held_change)),
        param(Micros::from(row.balance_after)),
        param(Micros::from(row.held_after)),
        param(row.key.as_str().to_owned()),
        text(row.reference.as_ref().map(storage_core::Reference::as_str)),
        text(row.reason.as_ref().map(storage_core::Note::as_str)),
        text(row.actor.as_ref().map(storage_core::Actor::as_str)),
        param(Moment::At(row.at)),
    ]
}

pub(crate) fn receipt(operation: OperationId, balance_after: Money) -> Receipt {
    Receipt { operation, balance_after, replayed: false }
}
