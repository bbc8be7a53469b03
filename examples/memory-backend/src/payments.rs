//! Payments.

use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{
    AddPayment, Answer, Error, ListPayments, MarkPaymentStatus, Memo, Newest, OperationId, OperationKey, OperationKind,
    Page, Payment, PaymentId, PaymentStatus, Payments, ProviderKey, Reference, RefundPayment, Result, SignedMoney,
    Stamp, Stored, made_by_key,
};

use crate::MemoryStorage;
use crate::state::{Order, Posting, State, page};

pub(crate) fn by_provider_key<'a>(state: &'a State, key: &ProviderKey) -> Option<&'a Arc<Payment>> {
    state.payments.values().find(|payment| payment.provider_key.as_ref() == Some(key))
}

/// The caller's id, else the operation's own.
fn id_of(add: &AddPayment, operation: OperationId) -> Result<PaymentId> {
    add.payment.clone().map_or_else(|| PaymentId::new(operation.to_string()), Ok)
}

fn stored(state: &State, id: &PaymentId, replayed: bool) -> Result<Stored<Payment>> {
    let record = state.payments.get(id).cloned().ok_or_else(|| Error::not_found("payment", id))?;
    Ok(Stored { record, replayed })
}

/// Credits an approval or takes a refund back; every other decision moves no money.
fn move_money(state: &mut State, payment: &Payment, key: Option<OperationKey>, stamp: Stamp) -> Result<()> {
    let amount = payment.amount.money();
    let (kind, balance) = match payment.status {
        PaymentStatus::Approved => (OperationKind::Payment, SignedMoney::plus(amount)),
        PaymentStatus::Refunded => (OperationKind::Refund, SignedMoney::minus(amount)),
        _ => return Ok(()),
    };
    let available = state.balance(payment.user);
    if payment.status == PaymentStatus::Refunded && available < amount {
        return Err(Error::insufficient_funds(available, amount));
    }
    let memo = Memo { reference: Some(Reference::new(payment.id.as_str())?), ..Memo::default() };
    let key = key.unwrap_or_else(|| stamp.operation.to_key());
    state.post(payment.user, Posting { kind, balance, held: SignedMoney::ZERO, key, memo }, stamp)?;
    Ok(())
}

fn decide(state: &mut State, mark: MarkPaymentStatus, stamp: Stamp) -> Result<Stored<Payment>> {
    let present = stored(state, &mark.payment, true)?;
    let (arguments, owner) = (mark.fingerprint(), present.record.user);
    if state.replay(owner, mark.key.as_ref(), arguments)?.is_some() {
        return Ok(present);
    }
    let Some(decided) = present.record.judge_mark(&mark, stamp.now)? else {
        state.settle_unchanged(owner, mark.key, arguments, Answer::Record, stamp);
        return Ok(present);
    };
    move_money(state, &decided, mark.key.clone(), stamp)?;
    state.payments.insert(decided.id.clone(), Arc::new(decided));
    state.settle(owner, mark.key, arguments, Answer::Record, stamp);
    stored(state, &mark.payment, false)
}

#[async_trait]
impl Payments for MemoryStorage {
    async fn add_payment(&self, add: AddPayment) -> Result<Stored<Payment>> {
        self.write("add_payment", |state, stamp| {
            let (arguments, user, key) = (add.fingerprint(), add.user, add.key.clone());
            if let Some(used) = state.replay(user, key.as_ref(), arguments)? {
                let known = add.provider_key.as_ref().and_then(|key| by_provider_key(state, key));
                let id = known.map_or_else(|| id_of(&add, used.operation), |known| Ok(known.id.clone()))?;
                // A restored store may lack what was removed by hand where it came from.
                let record = made_by_key(key.as_ref(), "payment", state.payments.get(&id).cloned())?;
                record.judge_add(&add)?;
                return Ok(Stored { record, replayed: true });
            }
            let same_id = add.payment.as_ref().and_then(|id| state.payments.get(id)).cloned();
            let same_provider_key = add.provider_key.as_ref().and_then(|key| by_provider_key(state, key)).cloned();
            // The provider's word comes first.
            for known in [&same_provider_key, &same_id].into_iter().flatten() {
                known.judge_add(&add)?;
            }
            if let Some(known) = same_provider_key.or(same_id) {
                state.settle_unchanged(user, key, arguments, Answer::Record, stamp);
                return stored(state, &known.id, true);
            }
            let id = id_of(&add, stamp.operation)?;
            state.account(user, stamp.now);
            state.payments.insert(id.clone(), Arc::new(Payment::create(add, id.clone(), stamp.now)));
            state.settle(user, key, arguments, Answer::Record, stamp);
            stored(state, &id, false)
        })
    }

    async fn mark_payment_status(&self, mark: MarkPaymentStatus) -> Result<Stored<Payment>> {
        self.write("mark_payment_status", |state, stamp| decide(state, mark, stamp))
    }

    async fn refund_payment(&self, refund: RefundPayment) -> Result<Stored<Payment>> {
        self.write("refund_payment", |state, stamp| decide(state, refund.into(), stamp))
    }

    async fn get_payment(&self, payment: &PaymentId) -> Result<Option<Arc<Payment>>> {
        self.read("get_payment", |state| Ok(state.payments.get(payment).cloned()))
    }

    async fn list_payments(&self, list: ListPayments) -> Result<Page<Payment>> {
        self.read("list_payments", |state| {
            let payments = state.payments.values().filter(|payment| list.matches(payment));
            let position = |payment: &Payment| Newest::new(payment.created_at, payment.id.clone());
            page(payments, &list.page, list.filter(), Order::Descending, position)
        })
    }
}
