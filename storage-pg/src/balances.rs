//! Balances.

use async_trait::async_trait;
use storage_core::{
    AddBalance, Answer, Balances, Error, Fingerprint, Memo, Money, OperationKey, OperationKind, Receipt, Result,
    SetBalance, Stamp, SubtractBalance, UserId,
};
use uuid::Uuid;

use crate::account::{self, Account, Posting};
use crate::codec::{Micros, Moment};
use crate::express::key_is_unused;
use crate::fault::Fault;
use crate::fields::Fields;
use crate::gather::{Gatherer, Post};
use crate::keys;
use crate::queues::Lock;
use crate::statement::{Statement, statements};
use crate::store::PgStorage;
use crate::tx::{Express, Loaded, Param, Tx, param, uuid};

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

/// A statement that changes a balance by an amount, with its ledger row and its key.
fn express<'s>(
    (statement, kind): (&'s Statement, OperationKind),
    (user, amount): (UserId, Money),
    memo: &Memo,
    (key, arguments): (Option<&OperationKey>, Fingerprint),
    stamp: Stamp,
) -> Express<'s, Receipt> {
    let key = key.cloned().unwrap_or_else(|| stamp.operation.to_key());
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
    let answer = Box::new(move |row: &_| Ok(account::receipt(stamp.operation, Fields::of(row, "users").money()?)));
    let memo = memo.clone();
    let post = Some(Post { user, kind, amount, memo, key, arguments, stamp });
    Express { post, ..Express::new(statement, values, answer) }
}

/// Moves a balance to what `after` makes of it, held money staying, and uses the key up.
async fn judge(
    tx: &mut Tx<'_>,
    user: UserId,
    kind: OperationKind,
    after: impl Fn(Money) -> Result<Money>,
    memo: Memo,
    (key, arguments): (Option<OperationKey>, Fingerprint),
) -> Result<Receipt, Fault> {
    let used_up = tx.key(key.as_ref());
    let Loaded { mut account, used, .. } = tx.load(user, &used_up, Vec::new()).await?;
    if let Some(first) = keys::replayed_receipt(tx, user, &used_up, arguments, used)? {
        return Ok(first);
    }
    let Account { record, .. } = &account;
    let (balance, held) = (after(record.balance)?, record.held);
    if balance == record.balance {
        // Nothing changes and no row says so, but the user is there from now on.
        let receipt = account::receipt(tx.stamp.operation, balance);
        account::put(tx, &mut account);
        keys::settle_unchanged(tx, &mut account, key.as_ref(), arguments, Answer::Money(receipt));
        return Ok(receipt);
    }
    let receipt = account::post(tx, &mut account, &used_up, Posting { kind, balance, held, memo })?;
    keys::settle_operation(tx, &mut account, &used_up, arguments, Answer::Money(receipt));
    Ok(receipt)
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
        let given = set.key.clone();
        self.write(
            "set_balance",
            (Lock::User(set.user), given.as_ref()),
            |_| None,
            |tx| {
                let set = set.clone();
                Box::pin(async move {
                    let arguments = set.fingerprint();
                    let SetBalance { user, balance, memo, key } = set;
                    judge(tx, user, OperationKind::Adjustment, |_| Ok(balance), memo, (key, arguments)).await
                })
            },
        )
        .await
    }

    async fn add_balance(&self, add: AddBalance) -> Result<Receipt> {
        let arguments = add.fingerprint();
        let AddBalance { user, amount, memo, key } = add;
        let amount = amount.money();
        self.write(
            "add_balance",
            (Lock::User(user), key.as_ref()),
            |stamp| {
                let statement = (&self.sql().balances.add, OperationKind::Credit);
                Some(express(statement, (user, amount), &memo, (key.as_ref(), arguments), stamp))
            },
            |tx| {
                let (memo, key) = (memo.clone(), key.clone());
                Box::pin(async move {
                    let after = |balance: Money| balance.checked_add(amount);
                    judge(tx, user, OperationKind::Credit, after, memo, (key, arguments)).await
                })
            },
        )
        .await
    }

    async fn subtract_balance(&self, subtract: SubtractBalance) -> Result<Receipt> {
        let arguments = subtract.fingerprint();
        let SubtractBalance { user, amount, memo, key } = subtract;
        let amount = amount.money();
        self.write(
            "subtract_balance",
            (Lock::User(user), key.as_ref()),
            |stamp| {
                let statement = (&self.sql().balances.subtract, OperationKind::Debit);
                Some(express(statement, (user, amount), &memo, (key.as_ref(), arguments), stamp))
            },
            |tx| {
                let (memo, key) = (memo.clone(), key.clone());
                Box::pin(async move {
                    let after = |balance: Money| {
                        balance.checked_sub(amount).ok_or_else(|| Error::insufficient_funds(balance, amount))
                    };
                    judge(tx, user, OperationKind::Debit, after, memo, (key, arguments)).await
                })
            },
        )
        .await
    }
}
