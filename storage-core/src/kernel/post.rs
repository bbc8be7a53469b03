//! A change of a user's money, and the ledger row that says so.

use super::keys::First;
use super::{Account, Atom, Halt};
use crate::{Answer, Error, LedgerRow, Memo, Money, OperationKind, Receipt, Reference, Result};

/// What both kinds of a user's money come to, and what the ledger notes beside it.
pub(super) struct Posting {
    pub(super) kind: OperationKind,
    pub(super) balance: Money,
    pub(super) held: Money,
    pub(super) memo: Memo,
}

/// Changes an account's money and gives the row that records it. `InvalidInput` above the maximum.
pub(super) fn post(atom: &Atom, account: &mut Account, posting: Posting) -> Result<LedgerRow> {
    let Posting { kind, balance, held, memo } = posting;
    // The most that both may come to together.
    balance.checked_add(held)?;
    let now = atom.stamp().now;
    let Account { record, rows } = account;
    let row = LedgerRow {
        user: record.user,
        seq: *rows + 1,
        operation: atom.stamp().operation,
        kind,
        balance_change: balance.change_since(record.balance),
        held_change: held.change_since(record.held),
        balance_after: balance,
        held_after: held,
        key: atom.key().clone(),
        reference: memo.reference,
        reason: memo.reason,
        actor: memo.actor,
        at: now,
    };
    if balance != record.balance {
        record.updated_at = now;
    }
    (record.balance, record.held) = (balance, held);
    *rows += 1;
    Ok(row)
}

/// The receipt of this very operation.
pub(super) fn receipt(atom: &Atom, account: &Account) -> Receipt {
    Receipt { operation: atom.stamp().operation, balance_after: account.record.balance, replayed: false }
}

/// What is left when `amount` is spent; `InsufficientFunds` with both figures.
pub(super) fn spend(available: Money, amount: Money) -> Result<Money> {
    available.checked_sub(amount).ok_or_else(|| Error::insufficient_funds(available, amount))
}

/// A memo that refers to a record.
pub(super) fn referring_to(reference: Reference, memo: &Memo) -> Memo {
    Memo { reference: Some(reference), ..memo.clone() }
}

/// The first receipt of a money operation.
pub(super) fn first_receipt(first: &First) -> Result<Receipt, Halt> {
    match first.used.answer {
        // The key of a call that repeated another one under a new key remembers that one's receipt.
        Answer::Money(receipt) => {
            let repeats = first.replayed || receipt.operation != first.used.operation;
            Ok(Receipt { replayed: repeats, ..receipt })
        }
        _ => Err(Halt::Failed(Error::internal("the key of a money operation answers something else"))),
    }
}
