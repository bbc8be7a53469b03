//! Holds: made, spent, given back.

use std::sync::Arc;

use super::call::ReleaseExpired;
use super::keys::{account_or_new, first};
use super::post::{Posting, first_receipt, post, receipt, referring_to, spend};
use super::{Atom, Changes, Decision, Halt, Record, View};
use crate::{
    Answer, CommitReserve, Error, Hold, HoldName, HoldStatus, Memo, Money, OperationKind, Place, Receipt, Reference,
    ReleaseReserve, ReserveBalance, Result, UserId,
};

pub(super) fn reserve(atom: &Atom, reserve: &ReserveBalance, view: &dyn View) -> Result<Decision, Halt> {
    let ReserveBalance { user, name, amount, expires_at, memo, key: _ } = reserve;
    if let Some(first) = first(atom, *user, view)? {
        return Ok(Changes::default().answering(first_receipt(&first)?));
    }
    if let Some(hold) = view.hold(*user, name)? {
        if hold.status == HoldStatus::Open && hold.amount == *amount && hold.expires_at == *expires_at {
            return Ok(replayed(atom, *user, hold.opened));
        }
        return Err(no_way(&hold, HoldStatus::Open).into());
    }
    let mut account = account_or_new(atom, *user, view)?;
    let balance = spend(account.record.balance, amount.money())?;
    let held = account.record.held.checked_add(amount.money())?;
    let memo = referring_to(Reference::from(name), memo);
    let row = post(atom, &mut account, Posting { kind: OperationKind::Hold, balance, held, memo })?;
    let (now, receipt) = (atom.stamp().now, receipt(atom, &account));
    let hold = Hold {
        user: *user,
        name: name.clone(),
        amount: *amount,
        status: HoldStatus::Open,
        committed: Money::ZERO,
        expires_at: *expires_at,
        created_at: now,
        updated_at: now,
        opened: receipt,
        ended: None,
    };
    let changes = Changes { rows: vec![row], record: Some(Record::Hold(Arc::new(hold))), ..Changes::of(account) };
    Ok(changes.settled(atom, *user, Answer::Money(receipt)).answering(receipt))
}

pub(super) fn commit(atom: &Atom, commit: &CommitReserve, view: &dyn View) -> Result<Decision, Halt> {
    let CommitReserve { user, name, amount, key: _ } = commit;
    if let Some(first) = first(atom, *user, view)? {
        return Ok(Changes::default().answering(first_receipt(&first)?));
    }
    let hold = standing(view, *user, name)?;
    let amount = amount.unwrap_or(hold.amount);
    match (hold.status, hold.ended) {
        (HoldStatus::Open, _) => {
            spend(hold.amount.money(), amount.money())?;
            let (changes, receipt, _) = ended(atom, &hold, amount.money(), view)?;
            Ok(changes.answering(receipt))
        }
        (HoldStatus::Committed, Some(ended)) if hold.committed == amount.money() => Ok(replayed(atom, *user, ended)),
        _ => Err(no_way(&hold, HoldStatus::Committed).into()),
    }
}

pub(super) fn release(atom: &Atom, release: &ReleaseReserve, view: &dyn View) -> Result<Decision, Halt> {
    let ReleaseReserve { user, name, key: _ } = release;
    if let Some(first) = first(atom, *user, view)? {
        return Ok(Changes::default().answering(first_receipt(&first)?));
    }
    let hold = standing(view, *user, name)?;
    match (hold.status, hold.ended) {
        (HoldStatus::Open, _) => {
            let (changes, receipt, _) = ended(atom, &hold, Money::ZERO, view)?;
            Ok(changes.answering(receipt))
        }
        (HoldStatus::Released, Some(ended)) => Ok(replayed(atom, *user, ended)),
        _ => Err(no_way(&hold, HoldStatus::Released).into()),
    }
}

/// One step of a sweep.
pub(super) fn release_expired(atom: &Atom, expired: &ReleaseExpired, view: &dyn View) -> Result<Decision, Halt> {
    let ReleaseExpired { user, name } = expired;
    let hold = view.hold(*user, name)?;
    if first(atom, *user, view)?.is_some() {
        // An earlier attempt released it, and the answer was lost.
        return Ok(Changes::default().answering(hold));
    }
    let is_due = |hold: &Hold| hold.expires_at.is_some_and(|at| at <= atom.stamp().now);
    match hold.filter(|hold| hold.status == HoldStatus::Open && is_due(hold)) {
        Some(hold) => {
            let (changes, _, hold) = ended(atom, &hold, Money::ZERO, view)?;
            Ok(changes.answering(Some(hold)))
        }
        // Somebody ended it first.
        None => Ok(Changes::default().answering(None::<Arc<Hold>>)),
    }
}

fn standing(view: &dyn View, user: UserId, name: &HoldName) -> Result<Arc<Hold>, Halt> {
    Ok(view.hold(user, name)?.ok_or_else(|| Error::not_found("hold", name))?)
}

/// Ends an open hold: spends a part of it and gives the rest back.
fn ended(atom: &Atom, hold: &Hold, spent: Money, view: &dyn View) -> Result<(Changes, Receipt, Arc<Hold>), Halt> {
    let mut account = account_or_new(atom, hold.user, view)?;
    let memo = referring_to(Reference::from(&hold.name), &Memo::default());
    let mut rows = Vec::with_capacity(2);
    let rest = hold.amount.money().checked_sub(spent).ok_or_else(|| larger(hold, "it spends more than it holds"))?;
    for (kind, part, back) in [(OperationKind::Commit, spent, Money::ZERO), (OperationKind::Release, rest, rest)] {
        if !part.is_zero() {
            let balance = account.record.balance.checked_add(back)?;
            let too_much = || larger(hold, "it is larger than what is held of its user");
            let held = account.record.held.checked_sub(part).ok_or_else(too_much)?;
            rows.push(post(atom, &mut account, Posting { kind, balance, held, memo: memo.clone() })?);
        }
    }
    let receipt = receipt(atom, &account);
    let ended = Arc::new(Hold {
        status: if spent.is_zero() { HoldStatus::Released } else { HoldStatus::Committed },
        committed: spent,
        updated_at: atom.stamp().now,
        ended: Some(receipt),
        ..hold.clone()
    });
    let record = Some(Record::Hold(Arc::clone(&ended)));
    let changes = Changes { rows, record, ..Changes::of(account) }.settled(atom, hold.user, Answer::Money(receipt));
    Ok((changes, receipt, ended))
}

/// Answers an earlier receipt, and uses the caller's key up for it.
fn replayed(atom: &Atom, user: UserId, first: Receipt) -> Decision {
    let receipt = Receipt { replayed: true, ..first };
    Changes::default().settled_unchanged(atom, user, Answer::Money(receipt)).answering(receipt)
}

fn no_way(hold: &Hold, to: HoldStatus) -> Error {
    Error::transition("hold", &hold.name, hold.status.as_str(), to.as_str())
}

fn larger(hold: &Hold, problem: &'static str) -> Error {
    Error::corrupt(Place::new("a hold").key(format!("{} of user {}", hold.name, hold.user)), problem)
}
