//! Payments: asked for, decided, taken back.

use std::sync::Arc;

use super::keys::{First, account_or_new, first, made_by_key};
use super::post::{Posting, post, referring_to, spend};
use super::{Atom, Changes, Decision, Halt, Record, View};
use crate::{
    AddPayment, Answer, Error, LedgerRow, MarkPaymentStatus, Memo, OperationId, OperationKind, Payment, PaymentId,
    PaymentOrigin, PaymentStatus, Reference, Result, Stored,
};

/// The id of a new payment: the caller's, else the operation's own.
pub fn id_of(add: &AddPayment, operation: OperationId) -> PaymentId {
    add.payment.clone().unwrap_or_else(|| PaymentId::from(&operation.to_key()))
}

pub(super) fn add(atom: &Atom, add: &AddPayment, view: &dyn View) -> Result<Decision, Halt> {
    let user = add.user;
    let first = first(atom, user, view)?;
    // The provider's word comes first, then the caller's id, then the id that the operation mints.
    let known = match &add.provider_key {
        Some(provider) => view.payment_of(provider)?,
        None => None,
    };
    let known = match (known, &add.payment, &first) {
        (Some(known), ..) => Some(known),
        (None, Some(id), _) => view.payment(id)?,
        (None, None, Some(First { used, .. })) => view.payment(&id_of(add, used.operation))?,
        (None, None, None) => None,
    };
    if let Some(first) = first {
        let record = made_by_key(atom, "payment", known)?;
        // A hand edit may have made it another user's since, or put another one in its place.
        is_the_same(&record, add)?;
        return Ok(Changes::default().answering(Stored { record, replayed: first.replayed }));
    }
    if let Some(record) = known {
        is_the_same(&record, add)?;
        let changes = Changes::default().settled_unchanged(atom, user, Answer::Record);
        return Ok(changes.answering(Stored { record, replayed: true }));
    }
    let id = id_of(add, atom.stamp().operation);
    let record = Arc::new(Payment::create(add.clone(), id, atom.stamp().now));
    let changes =
        Changes { record: Some(Record::Payment(Arc::clone(&record))), ..Changes::with_user(atom, user, view)? };
    Ok(changes.settled(atom, user, Answer::Record).answering(Stored { record, replayed: false }))
}

/// Whether a payment that stands is the one that is added again.
fn is_the_same(payment: &Payment, again: &AddPayment) -> Result<()> {
    let other_provider_key = again.provider_key.is_some() && again.provider_key != payment.provider_key;
    let other_id = again.payment.as_ref().is_some_and(|id| *id != payment.id);
    let reason = if payment.user != again.user {
        "it belongs to another user"
    } else if payment.amount != again.amount {
        "it has another amount"
    } else if other_provider_key {
        "it has another provider key"
    } else if other_id {
        "its provider key belongs to another payment"
    } else {
        return Ok(());
    };
    Err(Error::conflict("payment", &payment.id, reason))
}

pub(super) fn mark(atom: &Atom, mark: &MarkPaymentStatus, view: &dyn View) -> Result<Decision, Halt> {
    let record = view.payment(&mark.payment)?.ok_or_else(|| Error::not_found("payment", &mark.payment))?;
    let owner = record.user;
    if let Some(first) = first(atom, owner, view)? {
        return Ok(Changes::default().answering(Stored { record, replayed: first.replayed }));
    }
    let Some(decided) = decided(&record, mark, atom)? else {
        let changes = Changes::default().settled_unchanged(atom, owner, Answer::Record);
        return Ok(changes.answering(Stored { record, replayed: true }));
    };
    let (changes, record) = (moved_money(atom, &decided, view)?, Arc::new(decided));
    let changes = Changes { record: Some(Record::Payment(Arc::clone(&record))), ..changes };
    Ok(changes.settled(atom, owner, Answer::Record).answering(Stored { record, replayed: false }))
}

/// The payment once it is decided; `None` where it was decided so before.
fn decided(payment: &Payment, mark: &MarkPaymentStatus, atom: &Atom) -> Result<Option<Payment>> {
    let MarkPaymentStatus { payment: _, status, admin, notes, key: _ } = mark;
    if *status == payment.status {
        return Ok(None);
    }
    payment.may_become(*status)?;
    Ok(Some(Payment {
        status: *status,
        admin: admin.or(payment.admin),
        notes: notes.clone().or_else(|| payment.notes.clone()),
        // Whatever it was before: an approval credits it here.
        origin: if *status == PaymentStatus::Approved { PaymentOrigin::Here } else { payment.origin },
        updated_at: atom.stamp().now,
        ..payment.clone()
    }))
}

/// The money that a decision moves: an approval credits, a refund takes back, nothing else moves any.
fn moved_money(atom: &Atom, payment: &Payment, view: &dyn View) -> Result<Changes, Halt> {
    let amount = payment.amount.money();
    if !matches!(payment.status, PaymentStatus::Approved | PaymentStatus::Refunded) {
        return Ok(Changes::default());
    }
    let mut account = account_or_new(atom, payment.user, view)?;
    let (available, held) = (account.record.balance, account.record.held);
    let (kind, balance) = match payment.status {
        PaymentStatus::Approved => (OperationKind::Payment, available.checked_add(amount)?),
        _ => (OperationKind::Refund, spend(available, amount)?),
    };
    let memo = referring_to(Reference::from(&payment.id), &Memo::default());
    let rows: Vec<LedgerRow> = vec![post(atom, &mut account, Posting { kind, balance, held, memo })?];
    Ok(Changes { rows, ..Changes::of(account) })
}
