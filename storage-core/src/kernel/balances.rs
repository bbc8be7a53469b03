//! Balances: set, added to, taken from.

use super::keys::{account_or_new, first};
use super::post::{Posting, first_receipt, post, receipt, spend};
use super::{Account, Atom, Changes, Decision, Halt, View};
use crate::{AddBalance, Answer, Memo, Money, OperationKind, Result, SetBalance, SubtractBalance};

pub(super) fn set(atom: &Atom, set: &SetBalance, view: &dyn View) -> Result<Decision, Halt> {
    let SetBalance { user, balance, memo, key: _ } = set;
    if let Some(first) = first(atom, *user, view)? {
        return Ok(Changes::default().answering(first_receipt(&first)?));
    }
    let account = account_or_new(atom, *user, view)?;
    if account.record.balance == *balance {
        // Nothing changes and no row says so, but the user is there from now on.
        let receipt = receipt(atom, &account);
        let changes = Changes::with_user(atom, *user, view)?;
        return Ok(changes.settled_unchanged(atom, *user, Answer::Money(receipt)).answering(receipt));
    }
    moved(atom, account, OperationKind::Adjustment, *balance, memo)
}

pub(super) fn add(atom: &Atom, add: &AddBalance, view: &dyn View) -> Result<Decision, Halt> {
    let AddBalance { user, amount, memo, key: _ } = add;
    if let Some(first) = first(atom, *user, view)? {
        return Ok(Changes::default().answering(first_receipt(&first)?));
    }
    let account = account_or_new(atom, *user, view)?;
    let balance = account.record.balance.checked_add(amount.money())?;
    moved(atom, account, OperationKind::Credit, balance, memo)
}

pub(super) fn subtract(atom: &Atom, subtract: &SubtractBalance, view: &dyn View) -> Result<Decision, Halt> {
    let SubtractBalance { user, amount, memo, key: _ } = subtract;
    if let Some(first) = first(atom, *user, view)? {
        return Ok(Changes::default().answering(first_receipt(&first)?));
    }
    let account = account_or_new(atom, *user, view)?;
    let balance = spend(account.record.balance, amount.money())?;
    moved(atom, account, OperationKind::Debit, balance, memo)
}

/// The balance becomes this, held money stays.
fn moved(
    atom: &Atom,
    mut account: Account,
    kind: OperationKind,
    balance: Money,
    memo: &Memo,
) -> Result<Decision, Halt> {
    let held = account.record.held;
    let row = post(atom, &mut account, Posting { kind, balance, held, memo: memo.clone() })?;
    let (user, receipt) = (account.record.user, receipt(atom, &account));
    let changes = Changes { rows: vec![row], ..Changes::of(account) };
    Ok(changes.settled(atom, user, Answer::Money(receipt)).answering(receipt))
}
