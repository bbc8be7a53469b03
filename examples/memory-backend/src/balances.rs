//! Balances.

use async_trait::async_trait;
use storage_core::{
    AddBalance, Answer, Balances, Error, Money, OperationKind, Receipt, Result, SetBalance, SignedMoney,
    SubtractBalance, UserId,
};

use crate::MemoryStorage;
use crate::state::Posting;

#[async_trait]
impl Balances for MemoryStorage {
    async fn get_balance(&self, user: UserId) -> Result<Money> {
        self.read("get_balance", |state| Ok(state.balance(user)))
    }

    async fn set_balance(&self, set: SetBalance) -> Result<Receipt> {
        self.write("set_balance", |state, stamp| {
            let arguments = set.fingerprint();
            let SetBalance { user, balance, memo, key } = set;
            if let Some(first) = state.replay_money(user, key.as_ref(), arguments)? {
                return Ok(first);
            }
            let before = state.account(user, stamp.now).balance;
            if before == balance {
                let receipt = Receipt { operation: stamp.operation, balance_after: balance, replayed: false };
                state.settle_unchanged(user, key, arguments, Answer::Money(receipt), stamp);
                return Ok(receipt);
            }
            let key = key.unwrap_or_else(|| stamp.operation.to_key());
            let posting = Posting {
                kind: OperationKind::Adjustment,
                balance: balance.change_since(before),
                held: SignedMoney::ZERO,
                key: key.clone(),
                memo,
            };
            let receipt = state.post(user, posting, stamp)?;
            state.settle(user, Some(key), arguments, Answer::Money(receipt), stamp);
            Ok(receipt)
        })
    }

    async fn add_balance(&self, add: AddBalance) -> Result<Receipt> {
        self.write("add_balance", |state, stamp| {
            let arguments = add.fingerprint();
            let AddBalance { user, amount, memo, key } = add;
            if let Some(first) = state.replay_money(user, key.as_ref(), arguments)? {
                return Ok(first);
            }
            let key = key.unwrap_or_else(|| stamp.operation.to_key());
            let posting = Posting {
                kind: OperationKind::Credit,
                balance: SignedMoney::plus(amount.money()),
                held: SignedMoney::ZERO,
                key: key.clone(),
                memo,
            };
            let receipt = state.post(user, posting, stamp)?;
            state.settle(user, Some(key), arguments, Answer::Money(receipt), stamp);
            Ok(receipt)
        })
    }

    async fn subtract_balance(&self, subtract: SubtractBalance) -> Result<Receipt> {
        self.write("subtract_balance", |state, stamp| {
            let arguments = subtract.fingerprint();
            let SubtractBalance { user, amount, memo, key } = subtract;
            if let Some(first) = state.replay_money(user, key.as_ref(), arguments)? {
                return Ok(first);
            }
            let available = state.balance(user);
            if available < amount.money() {
                return Err(Error::insufficient_funds(available, amount.money()));
            }
            let key = key.unwrap_or_else(|| stamp.operation.to_key());
            let posting = Posting {
                kind: OperationKind::Debit,
                balance: SignedMoney::minus(amount.money()),
                held: SignedMoney::ZERO,
                key: key.clone(),
                memo,
            };
            let receipt = state.post(user, posting, stamp)?;
            state.settle(user, Some(key), arguments, Answer::Money(receipt), stamp);
            Ok(receipt)
        })
    }
}
