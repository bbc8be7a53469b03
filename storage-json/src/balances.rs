//! Balances.

use async_trait::async_trait;
use storage_core::{
    AddBalance, Answer, Balances, Error, Fingerprint, HeapSize as _, Memo, Money, OperationKey, OperationKind, Receipt,
    Result, SetBalance, SubtractBalance, UserId,
};

use crate::engine::JsonStorage;
use crate::state::Account;
use crate::tx::{Posting, Tx};

/// Moves a balance to `balance`, held money staying, and settles the key.
fn post_balance(
    tx: &mut Tx<'_>,
    mut account: Account,
    kind: OperationKind,
    balance: Money,
    memo: Memo,
    (key, fingerprint): (Option<OperationKey>, Fingerprint),
) -> Result<Receipt> {
    let held = account.record.held;
    let row = tx.post(&mut account, Posting { kind, balance, held, memo })?;
    let receipt = tx.receipt(balance);
    tx.settle_operation(account, key, fingerprint, Answer::Money(receipt), vec![row])?;
    Ok(receipt)
}

#[async_trait]
impl Balances for JsonStorage {
    async fn get_balance(&self, user: UserId) -> Result<Money> {
        self.read("get_balance", |state| state.account(user).map_or(Money::ZERO, |account| account.record.balance))
            .await
    }

    async fn set_balance(&self, set: SetBalance) -> Result<Receipt> {
        self.write("set_balance", set.key.clone(), set.heap_size(), move |tx| {
            let fingerprint = set.fingerprint();
            let SetBalance { user, balance, memo, key } = set;
            if let Some(receipt) = tx.replayed_receipt(user, key.as_ref(), fingerprint)? {
                return Ok(receipt);
            }
            let account = tx.account_or_new(user);
            if account.record.balance == balance {
                let receipt = tx.receipt(balance);
                tx.ensure_account(user);
                tx.settle_unchanged(user, key, fingerprint, Answer::Money(receipt))?;
                return Ok(receipt);
            }
            post_balance(tx, account, OperationKind::Adjustment, balance, memo, (key, fingerprint))
        })
        .await
    }

    async fn add_balance(&self, add: AddBalance) -> Result<Receipt> {
        self.write("add_balance", add.key.clone(), add.heap_size(), move |tx| {
            let fingerprint = add.fingerprint();
            let AddBalance { user, amount, memo, key } = add;
            if let Some(receipt) = tx.replayed_receipt(user, key.as_ref(), fingerprint)? {
                return Ok(receipt);
            }
            let account = tx.account_or_new(user);
            let balance = account.record.balance.checked_add(amount.money())?;
            post_balance(tx, account, OperationKind::Credit, balance, memo, (key, fingerprint))
        })
        .await
    }

    async fn subtract_balance(&self, subtract: SubtractBalance) -> Result<Receipt> {
        self.write("subtract_balance", subtract.key.clone(), subtract.heap_size(), move |tx| {
            let fingerprint = subtract.fingerprint();
            let SubtractBalance { user, amount, memo, key } = subtract;
            if let Some(receipt) = tx.replayed_receipt(user, key.as_ref(), fingerprint)? {
                return Ok(receipt);
            }
            let account = tx.account_or_new(user);
            let available = account.record.balance;
            let balance = available
                .checked_sub(amount.money())
                .ok_or_else(|| Error::insufficient_funds(available, amount.money()))?;
            post_balance(tx, account, OperationKind::Debit, balance, memo, (key, fingerprint))
        })
        .await
    }
}
