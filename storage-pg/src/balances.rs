//! Balances.

use async_trait::async_trait;
use storage_core::kernel::{Atom, Reply};
use storage_core::{
    AddBalance, Balances, Memo, Money, OperationKind, Receipt, Result, SetBalance, SubtractBalance, UserId,
};
use uuid::Uuid;

use crate::account;
use crate::codec::{Micros, Moment};
use crate::express::key_is_unused;
use crate::fields::Fields;
use crate::gather::{Gatherer, Post};
use crate::statement::{Statement, statements};
use crate::store::PgStorage;
use crate::tx::{Express, Param, param, uuid};

/// The rest of a statement whose `posted` changed the balance by `$2` times a sign: the ledger row and the key.
macro_rules! book {
    ($kind:literal, $sign:literal) => {
        concat!(
            "), row AS (
                 INSERT INTO {s}.operations (user_id, seq, operation_id, kind, balance_change, held_change,
                     balance_after, held_after, key, reference, reason, actor, created_at)
                 SELECT p.id, p.ledger_rows, $4, '",
            $kind,
            "', ",
            $sign,
            "$2, 0, p.balance, p.held, $3, $6, $7, $8, $5 FROM posted p
             ), key AS (
                 INSERT INTO {s}.operation_keys (user_id, space, key, arguments, operation_id, answer,
                     answer_operation, answer_balance)
                 SELECT p.id, 'operation', $3, $9, $4, 'money', $4, p.balance FROM posted p
             )
             SELECT p.balance FROM posted p"
        )
    };
}

statements! {
    /// Statements of balances.
    BalanceStatements {
        get(INT8) = "SELECT balance FROM {s}.users WHERE id = $1";
        add(INT8, NUMERIC, TEXT, UUID, TIMESTAMPTZ, TEXT, TEXT, TEXT, UUID) = concat!(
            "WITH posted AS (
                 INSERT INTO {s}.users AS u
                     (id, created_at, updated_at, balance, held, ledger_rows, spent, last_operation)
                 SELECT $1, $5, $5, $2, 0, 1, 0, $4 WHERE ", key_is_unused!("$1", "$3"), "
                 ON CONFLICT (id) DO UPDATE SET balance = u.balance + excluded.balance,
                     ledger_rows = u.ledger_rows + 1, updated_at = excluded.updated_at,
                     last_operation = excluded.last_operation
                 RETURNING u.id, u.ledger_rows, u.balance, u.held
             ", book!("credit", "")
        );
        subtract(INT8, NUMERIC, TEXT, UUID, TIMESTAMPTZ, TEXT, TEXT, TEXT, UUID) = concat!(
            "WITH posted AS (
                 UPDATE {s}.users AS u SET balance = u.balance - $2, ledger_rows = u.ledger_rows + 1,
                     updated_at = $5, last_operation = $4
                 WHERE u.id = $1 AND u.balance >= $2 AND ", key_is_unused!("$1", "$3"), "
                 RETURNING u.id, u.ledger_rows, u.balance, u.held
             ", book!("debit", "-")
        );
    }
}

/// The memo's three texts.
pub(crate) fn memo_values(memo: &Memo) -> [Param; 3] {
    let text = |text: Option<&str>| param(text.map(ToOwned::to_owned));
    [
        text(memo.reference.as_ref().map(storage_core::Reference::as_str)),
        text(memo.reason.as_ref().map(storage_core::Note::as_str)),
        text(memo.actor.as_ref().map(storage_core::Actor::as_str)),
    ]
}

impl PgStorage {
    /// The express form of a credit.
    pub(crate) fn express_credit(&self, atom: &Atom, add: &AddBalance) -> Express<'_, Reply> {
        let AddBalance { user, amount, memo, key: _ } = add;
        express(atom, (&self.sql().balances.add, OperationKind::Credit), (*user, amount.money()), memo)
    }

    /// The express form of a debit.
    pub(crate) fn express_debit(&self, atom: &Atom, subtract: &SubtractBalance) -> Express<'_, Reply> {
        let SubtractBalance { user, amount, memo, key: _ } = subtract;
        express(atom, (&self.sql().balances.subtract, OperationKind::Debit), (*user, amount.money()), memo)
    }
}

/// A statement that changes a balance by an amount, with its ledger row and its key.
fn express<'s>(
    atom: &Atom,
    (statement, kind): (&'s Statement, OperationKind),
    (user, amount): (UserId, Money),
    memo: &Memo,
) -> Express<'s, Reply> {
    let (stamp, key, arguments) = (atom.stamp(), atom.key().clone(), atom.arguments());
    let [reference, reason, actor] = memo_values(memo);
    let values = vec![
        param(user.get()),
        param(Micros::from(amount)),
        param(key.as_str().to_owned()),
        param(uuid(stamp.operation)),
        param(Moment::At(stamp.now)),
        reference,
        reason,
        actor,
        param(Uuid::from_bytes(arguments.to_bytes())),
    ];
    let answer =
        Box::new(move |row: &_| Ok(account::receipt(stamp.operation, Fields::of(row, "users").money()?).into()));
    let memo = memo.clone();
    let post = Some(Post { user, kind, amount, memo, key, arguments, stamp });
    Express { post, ..Express::new(statement, values, answer) }
}

#[async_trait]
impl Balances for PgStorage {
    async fn get_balance(&self, user: UserId) -> Result<Money> {
        let id = user.get();
        let statement = &self.sql().balances.get;
        let gathered = async |gatherer: &Gatherer, pool: &_| gatherer.balance(pool, user).await;
        let rows = self.read_gathered("get_balance", gathered, statement, &[&id]).await?;
        let balance = rows.first().map(|row| Fields::of(row, "users").money()).transpose();
        Ok(balance.map_err(|error| error.in_operation("get_balance"))?.unwrap_or(Money::ZERO))
    }

    async fn set_balance(&self, set: SetBalance) -> Result<Receipt> {
        self.apply(set).await
    }

    async fn add_balance(&self, add: AddBalance) -> Result<Receipt> {
        self.apply(add).await
    }

    async fn subtract_balance(&self, subtract: SubtractBalance) -> Result<Receipt> {
        self.apply(subtract).await
    }
}
