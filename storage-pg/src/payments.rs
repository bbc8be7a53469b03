//! Payments.

use std::sync::Arc;

use async_trait::async_trait;
use storage_core::kernel::{Atom, Reply, payment_id};
use storage_core::{
    AddPayment, ListPayments, MarkPaymentStatus, Newest, Page, Payment, PaymentId, PaymentOrigin, PaymentStatus,
    Payments, RefundPayment, Result, Stamp, Stored, UserId,
};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::codec::{Micros, Moment};
use crate::express::key_is_unused;
use crate::fields::Fields;
use crate::history::behind;
use crate::statement::statements;
use crate::store::PgStorage;
use crate::tx::{Express, Param, Tx, param, uuid};
use crate::users::surplus;

macro_rules! payment_columns {
    () => {
        "user_id, payment_id, amount, payment_method, screenshot_file_id, provider_key, status, admin_id, notes, \
         origin, by_hand, created_at, updated_at"
    };
}
pub(crate) use payment_columns;

macro_rules! payment_list {
    ($filter:literal) => {
        concat!(
            "SELECT ",
            payment_columns!(),
            " FROM {s}.payments WHERE ",
            $filter,
            " AND (created_at, payment_id) < ($1, $2) ORDER BY created_at DESC, payment_id DESC LIMIT $3"
        )
    };
}

macro_rules! payment_by {
    ($kind:literal, $column:literal) => {
        concat!(
            "SELECT ",
            payment_columns!(),
            " FROM {s}.payments
             WHERE user_id = (SELECT user_id FROM {s}.id_routes WHERE kind = '",
            $kind,
            "' AND id = $1)
                 AND ",
            $column,
            " = $1"
        )
    };
}

statements! {
    /// Statements of payments.
    PaymentStatements {
        find(TEXT) = payment_by!("payment", "payment_id");
        find_locked(TEXT) = concat!(payment_by!("payment", "payment_id"), " FOR NO KEY UPDATE");
        find_locked_now(TEXT) = concat!(payment_by!("payment", "payment_id"), " FOR NO KEY UPDATE SKIP LOCKED");
        find_by_provider(TEXT) = payment_by!("provider", "provider_key");
        /// Written so that no index of states tempts the planner away from the user's own.
        list_of_user(TIMESTAMPTZ, TEXT, INT8, INT8, TEXT) =
            payment_list!("user_id = $4 AND ($5::text IS NULL OR status || '' = $5)");
        list_by_status(TIMESTAMPTZ, TEXT, INT8, TEXT) = payment_list!("status = $4");
        list_all(TIMESTAMPTZ, TEXT, INT8) = payment_list!("true");
        create(INT8, TEXT, NUMERIC, TEXT, TEXT, TEXT, TEXT, INT8, TEXT, TEXT, BOOL, TIMESTAMPTZ, TIMESTAMPTZ,
            UUID) = concat!(
            "INSERT INTO {s}.payments (", payment_columns!(), ", last_operation)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
        );
        change(INT8, TEXT, TEXT, INT8, TEXT, TIMESTAMPTZ, UUID, TEXT, BOOL) =
            "UPDATE {s}.payments SET status = $3, admin_id = $4, notes = $5, updated_at = $6, last_operation = $7,
                 origin = $8, by_hand = $9
             WHERE user_id = $1 AND payment_id = $2";
        add(INT8, TEXT, NUMERIC, TEXT, TEXT, TEXT, TEXT, TIMESTAMPTZ, UUID, TEXT, UUID) = concat!(
            "WITH fresh AS (
                 SELECT WHERE ", key_is_unused!("$1", "$10"), "
                     AND NOT EXISTS (SELECT FROM {s}.id_routes r WHERE r.kind = 'payment' AND r.id = $2)
                     AND NOT EXISTS (SELECT FROM {s}.id_routes r WHERE r.kind = 'provider' AND r.id = $6)
             ), owner AS (
                 INSERT INTO {s}.users (id, created_at, updated_at, last_operation)
                 SELECT $1, $8, $8, $9 FROM fresh ON CONFLICT (id) DO NOTHING
             ), route AS (
                 INSERT INTO {s}.id_routes (kind, id, user_id)
                 SELECT 'payment', $2, $1 FROM fresh
                 UNION ALL SELECT 'provider', $6, $1 FROM fresh WHERE $6::text IS NOT NULL
             ), payment AS (
                 INSERT INTO {s}.payments (user_id, payment_id, amount, payment_method, screenshot_file_id,
                     provider_key, status, notes, origin, created_at, updated_at, last_operation)
                 SELECT $1, $2, $3, $4, $5, $6, 'pending', $7, 'here', $8, $8, $9 FROM fresh
             ), key AS (
                 INSERT INTO {s}.operation_keys (user_id, space, key, arguments, operation_id, answer)
                 SELECT $1, 'operation', $10, $11, $9, 'record' FROM fresh
             )
             SELECT TRUE AS added FROM fresh"
        );
        /// Approves a payment that is in one of the states `$7`, and credits it. The user's row is locked first, as
        /// everywhere; whoever has to wait for it does so in turn, and is judged.
        approve(TEXT, INT8, TEXT, TIMESTAMPTZ, UUID, TEXT, TEXT_ARRAY, UUID) = concat!(
            "WITH owner AS (
                 SELECT id FROM {s}.users
                 WHERE id = (SELECT user_id FROM {s}.id_routes WHERE kind = 'payment' AND id = $1)
                 FOR NO KEY UPDATE SKIP LOCKED
             ), step AS (
                 SELECT t.user_id, t.payment_id FROM {s}.payments t, owner o
                 WHERE t.user_id = o.id AND t.payment_id = $1 AND t.status || '' = ANY($7)
                 FOR NO KEY UPDATE OF t SKIP LOCKED
             ), decided AS (
                 UPDATE {s}.payments AS p SET status = 'approved', origin = 'here', by_hand = FALSE,
                     admin_id = coalesce($2, p.admin_id), notes = coalesce($3, p.notes), updated_at = $4,
                     last_operation = $5
                 FROM step
                 WHERE p.user_id = step.user_id AND p.payment_id = step.payment_id AND NOT EXISTS (
                     SELECT FROM {s}.operation_keys k WHERE k.user_id = step.user_id AND k.space = 'operation'
                         AND k.key = $6)
                 RETURNING p.*
             ), posted AS (
                 UPDATE {s}.users AS u SET balance = u.balance + d.amount, ledger_rows = u.ledger_rows + 1,
                     updated_at = $4, last_operation = $5
                 FROM decided d WHERE u.id = d.user_id
                 RETURNING u.id, u.ledger_rows, u.balance, u.held, d.amount
             ), row AS (
                 INSERT INTO {s}.operations (user_id, seq, operation_id, kind, balance_change, held_change,
                     balance_after, held_after, key, reference, created_at)
                 SELECT p.id, p.ledger_rows, $5, 'payment', p.amount, 0, p.balance, p.held, $6, $1, $4 FROM posted p
             ), key AS (
                 INSERT INTO {s}.operation_keys (user_id, space, key, arguments, operation_id, answer)
                 SELECT p.id, 'operation', $6, $8, $5, 'record' FROM posted p
             )
             SELECT ", payment_columns!(), " FROM decided"
        );
    }
}

fn origin(word: &str, by_hand: bool) -> Option<PaymentOrigin> {
    match word {
        "here" => Some(PaymentOrigin::Here),
        "imported" if by_hand => Some(PaymentOrigin::ByHand),
        "imported" => Some(PaymentOrigin::Imported),
        _ => None,
    }
}

/// Reads the columns of `payment_columns!`.
pub(crate) fn payment(row: &Row) -> Result<Payment> {
    let mut fields = Fields::of(row, "payments");
    Ok(Payment {
        user: fields.user()?,
        id: fields.text()?,
        amount: fields.amount()?,
        method: fields.text()?,
        screenshot_file_id: fields.opt_text()?,
        provider_key: fields.opt_text()?,
        status: fields.text()?,
        admin: fields.opt_user()?,
        notes: fields.opt_text()?,
        origin: {
            let (word, by_hand) = (fields.word()?, fields.flag()?);
            origin(word, by_hand).ok_or_else(|| fields.unknown(word))?
        },
        created_at: fields.at()?,
        updated_at: fields.at()?,
    })
}

/// The columns `origin` and `by_hand`.
fn origin_columns(origin: PaymentOrigin) -> [Param; 2] {
    let (word, by_hand) = match origin {
        PaymentOrigin::Here => ("here", false),
        PaymentOrigin::Imported => ("imported", false),
        PaymentOrigin::ByHand => ("imported", true),
    };
    [param(word), param(by_hand)]
}

/// The parameters of `create`.
pub(crate) fn values(payment: &Payment, last_operation: Option<Uuid>) -> Vec<Param> {
    let [origin, by_hand] = origin_columns(payment.origin);
    vec![
        param(payment.user.get()),
        param(payment.id.as_str().to_owned()),
        param(Micros::from(payment.amount.money())),
        param(payment.method.as_str().to_owned()),
        param(payment.screenshot_file_id.as_ref().map(|id| id.as_str().to_owned())),
        param(payment.provider_key.as_ref().map(|key| key.as_str().to_owned())),
        param(payment.status.as_str()),
        param(payment.admin.map(UserId::get)),
        param(payment.notes.as_ref().map(|notes| notes.as_str().to_owned())),
        origin,
        by_hand,
        param(Moment::At(payment.created_at)),
        param(Moment::At(payment.updated_at)),
        param(last_operation),
    ]
}

/// Writes a payment down, and claims the ids of a new one.
pub(crate) fn put(tx: &mut Tx<'_>, stamp: Stamp, payment: &Payment, is_known: bool) {
    let (sql, operation) = (tx.sql(), uuid(stamp.operation));
    if is_known {
        let [origin, by_hand] = origin_columns(payment.origin);
        let values = vec![
            param(payment.user.get()),
            param(payment.id.as_str().to_owned()),
            param(payment.status.as_str()),
            param(payment.admin.map(UserId::get)),
            param(payment.notes.as_ref().map(|notes| notes.as_str().to_owned())),
            param(Moment::At(payment.updated_at)),
            param(operation),
            origin,
            by_hand,
        ];
        return tx.queue_child(&sql.payments.change, values);
    }
    let claim = |kind: &'static str, id: &str| vec![param(kind), param(id.to_owned()), param(payment.user.get())];
    tx.queue_child(&sql.account.claim, claim("payment", payment.id.as_str()));
    if let Some(key) = &payment.provider_key {
        tx.queue_child(&sql.account.claim, claim("provider", key.as_str()));
    }
    tx.queue_child(&sql.payments.create, values(payment, Some(operation)));
}

impl PgStorage {
    async fn page_of_payments(&self, list: ListPayments) -> Result<Page<Payment>> {
        let filter = list.filter();
        let ListPayments { user, status, page } = list;
        let (at, id) = behind(page.position::<Newest<PaymentId>>(filter)?);
        let (limit, sql) = (surplus(page.size), &self.sql().payments);
        let rows = match (user.map(UserId::get), status.map(PaymentStatus::as_str)) {
            (Some(user), status) => {
                self.read("list_payments", &sql.list_of_user, &[&at, &id, &limit, &user, &status]).await?
            }
            (None, Some(status)) => {
                self.read("list_payments", &sql.list_by_status, &[&at, &id, &limit, &status]).await?
            }
            (None, None) => self.read("list_payments", &sql.list_all, &[&at, &id, &limit]).await?,
        };
        let payments = rows.iter().map(|row| Ok(Arc::new(payment(row)?))).collect::<Result<_>>()?;
        let position = |payment: &Payment| Newest::new(payment.created_at, payment.id.clone());
        Ok(Page::from_surplus(payments, page.size, filter, position))
    }

    /// The express form of a new payment.
    pub(crate) fn express_payment(&self, atom: &Atom, add: &AddPayment) -> Express<'_, Reply> {
        let stamp = atom.stamp();
        let added = Payment::create(add.clone(), payment_id(add, stamp.operation), stamp.now);
        let values = vec![
            param(added.user.get()),
            param(added.id.as_str().to_owned()),
            param(Micros::from(added.amount.money())),
            param(added.method.as_str().to_owned()),
            param(added.screenshot_file_id.as_ref().map(|id| id.as_str().to_owned())),
            param(added.provider_key.as_ref().map(|key| key.as_str().to_owned())),
            param(added.notes.as_ref().map(|notes| notes.as_str().to_owned())),
            param(Moment::At(stamp.now)),
            param(uuid(stamp.operation)),
            param(atom.key().as_str().to_owned()),
            param(Uuid::from_bytes(atom.arguments().to_bytes())),
        ];
        let record = Arc::new(added);
        let answer = Box::new(move |_: &Row| Ok(Stored { record: Arc::clone(&record), replayed: false }.into()));
        Express::new(&self.sql().payments.add, values, answer)
    }

    /// The express form of an approval; every other decision is judged.
    pub(crate) fn express_approval(&self, atom: &Atom, mark: &MarkPaymentStatus) -> Option<Express<'_, Reply>> {
        let MarkPaymentStatus { payment: id, status, admin, notes, key: _ } = mark;
        if *status != PaymentStatus::Approved {
            return None;
        }
        let stamp = atom.stamp();
        let from = PaymentStatus::ALL.into_iter().filter(|from| from.may_become(*status));
        let from: Vec<&'static str> = from.map(PaymentStatus::as_str).collect();
        let values = vec![
            param(id.as_str().to_owned()),
            param(admin.map(UserId::get)),
            param(notes.as_ref().map(|notes| notes.as_str().to_owned())),
            param(Moment::At(stamp.now)),
            param(uuid(stamp.operation)),
            param(atom.key().as_str().to_owned()),
            param(from),
            param(Uuid::from_bytes(atom.arguments().to_bytes())),
        ];
        let answer = Box::new(|row: &Row| Ok(Stored { record: Arc::new(payment(row)?), replayed: false }.into()));
        Some(Express::new(&self.sql().payments.approve, values, answer))
    }
}

#[async_trait]
impl Payments for PgStorage {
    async fn add_payment(&self, add: AddPayment) -> Result<Stored<Payment>> {
        self.apply(add).await
    }

    async fn mark_payment_status(&self, mark: MarkPaymentStatus) -> Result<Stored<Payment>> {
        self.apply(mark).await
    }

    async fn refund_payment(&self, refund: RefundPayment) -> Result<Stored<Payment>> {
        self.apply(refund).await
    }

    async fn get_payment(&self, payment: &PaymentId) -> Result<Option<Arc<Payment>>> {
        let word = payment.as_str();
        let rows = self.read("get_payment", &self.sql().payments.find, &[&word]).await?;
        let found = rows.first().map(self::payment).transpose().map_err(|error| error.in_operation("get_payment"))?;
        if found.is_none() {
            self.leads_nowhere("get_payment", &self.sql().dangling.payment, ("payment", word)).await?;
        }
        Ok(found.map(Arc::new))
    }

    async fn list_payments(&self, list: ListPayments) -> Result<Page<Payment>> {
        self.opened("list_payments")?;
        self.page_of_payments(list).await.map_err(|error| error.in_operation("list_payments"))
    }
}
