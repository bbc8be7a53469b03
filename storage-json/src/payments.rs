//! Payments.

use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{
    AddPayment, Answer, Error, HeapSize as _, ListPayments, MarkPaymentStatus, Memo, Newest, OperationId,
    OperationKind, Page, Payment, PaymentId, PaymentStatus, Payments, RefundPayment, Result, Stored, made_by_key,
};

use crate::engine::JsonStorage;
use crate::lists::Start;
use crate::tx::{Posting, Tx, reference};

/// The payment that stands under the call's provider key or id already.
fn standing(tx: &Tx<'_>, add: &AddPayment, minted: OperationId) -> Result<Option<Arc<Payment>>> {
    if let Some(payment) = add.provider_key.as_ref().and_then(|provider| tx.payment_by_provider(provider)) {
        return Ok(Some(payment));
    }
    Ok(tx.payment(&id_of(add, minted)?))
}

fn id_of(add: &AddPayment, minted: OperationId) -> Result<PaymentId> {
    add.payment.clone().map_or_else(|| PaymentId::new(minted.to_string()), Ok)
}

/// The money that a decision moves, as ledger rows: approval credits, a refund takes back, nothing else moves any.
fn move_money(tx: &mut Tx<'_>, payment: &Payment) -> Result<(crate::state::Account, Vec<crate::ledger::Row>)> {
    let mut account = tx.account_or_new(payment.user);
    let (available, held, amount) = (account.record.balance, account.record.held, payment.amount.money());
    let memo = Memo { reference: reference(payment.id.as_str())?, ..Memo::default() };
    let posting = match payment.status {
        PaymentStatus::Approved => {
            Posting { kind: OperationKind::Payment, balance: available.checked_add(amount)?, held, memo }
        }
        PaymentStatus::Refunded => {
            let balance = available.checked_sub(amount).ok_or_else(|| Error::insufficient_funds(available, amount))?;
            Posting { kind: OperationKind::Refund, balance, held, memo }
        }
        PaymentStatus::Pending | PaymentStatus::Rejected | PaymentStatus::Cancelled => {
            return Ok((account, Vec::new()));
        }
    };
    let row = tx.post(&mut account, posting)?;
    Ok((account, vec![row]))
}

fn decide(tx: &mut Tx<'_>, mark: MarkPaymentStatus) -> Result<Stored<Payment>> {
    let fingerprint = mark.fingerprint();
    let payment = tx.payment(&mark.payment).ok_or_else(|| Error::not_found("payment", &mark.payment))?;
    if tx.replayed(payment.user, mark.key.as_ref(), fingerprint)?.is_some() {
        return Ok(Stored { record: payment, replayed: true });
    }
    let Some(changed) = payment.judge_mark(&mark, tx.now())? else {
        tx.settle_unchanged(payment.user, mark.key, fingerprint, Answer::Record)?;
        return Ok(Stored { record: payment, replayed: true });
    };
    let (account, rows) = move_money(tx, &changed)?;
    let record = tx.put_payment(changed);
    tx.settle_operation(account, mark.key, fingerprint, Answer::Record, rows)?;
    Ok(Stored { record, replayed: false })
}

impl JsonStorage {
    async fn page_of_payments(&self, list: ListPayments) -> Result<Page<Payment>> {
        let filter = list.filter();
        let after = list.page.position(filter)?.map(Newest::into_parts);
        let wanted = list.page.size.get() + 1;
        let rows = self
            .read("list_payments", |state| {
                let start = Start::behind(after);
                let stands = |status| list.status.is_none_or(|wanted| wanted == status);
                let found = |id: &PaymentId| state.payments.get(id).cloned();
                match list.user {
                    Some(user) => {
                        let mine =
                            state.payments_by_user.newest_of(user, start).filter(|(.., status)| stands(**status));
                        mine.filter_map(|(_, id, _)| found(id)).take(wanted).collect()
                    }
                    None => {
                        let all = state.payments_by_time.newest(start, stands);
                        all.filter_map(|(_, id)| found(id)).take(wanted).collect()
                    }
                }
            })
            .await?;
        Ok(Page::from_surplus(rows, list.page.size, filter, |payment| {
            Newest::new(payment.created_at, payment.id.clone())
        }))
    }
}

#[async_trait]
impl Payments for JsonStorage {
    async fn add_payment(&self, add: AddPayment) -> Result<Stored<Payment>> {
        self.write("add_payment", add.key.clone(), add.heap_size(), move |tx| {
            let fingerprint = add.fingerprint();
            if let Some(used) = tx.replayed(add.user, add.key.as_ref(), fingerprint)? {
                let record = made_by_key(add.key.as_ref(), "payment", standing(tx, &add, used.operation)?)?;
                // A hand edit may have made it another user's since, or put another one in its place.
                record.judge_add(&add)?;
                return Ok(Stored { record, replayed: true });
            }
            if let Some(record) = standing(tx, &add, tx.stamp.operation)? {
                record.judge_add(&add)?;
                tx.settle_unchanged(add.user, add.key, fingerprint, Answer::Record)?;
                return Ok(Stored { record, replayed: true });
            }
            let (user, key, id) = (add.user, add.key.clone(), id_of(&add, tx.stamp.operation)?);
            let record = tx.put_payment(Payment::create(add, id, tx.now()));
            let account = tx.account_or_new(user);
            tx.settle_operation(account, key, fingerprint, Answer::Record, Vec::new())?;
            Ok(Stored { record, replayed: false })
        })
        .await
    }

    async fn mark_payment_status(&self, mark: MarkPaymentStatus) -> Result<Stored<Payment>> {
        self.write("mark_payment_status", mark.key.clone(), mark.heap_size(), move |tx| decide(tx, mark)).await
    }

    async fn refund_payment(&self, refund: RefundPayment) -> Result<Stored<Payment>> {
        self.write("refund_payment", refund.key.clone(), refund.heap_size(), move |tx| decide(tx, refund.into())).await
    }

    async fn get_payment(&self, payment: &PaymentId) -> Result<Option<Arc<Payment>>> {
        self.read("get_payment", |state| state.payments.get(payment).cloned()).await
    }

    async fn list_payments(&self, list: ListPayments) -> Result<Page<Payment>> {
        self.opened("list_payments")?;
        self.page_of_payments(list).await.map_err(|error| error.in_operation("list_payments"))
    }
}
