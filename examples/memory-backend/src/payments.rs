//! Payments.

use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{
    AddPayment, ListPayments, MarkPaymentStatus, Newest, Page, Payment, PaymentId, Payments, RefundPayment, Result,
    Stored,
};

use crate::MemoryStorage;
use crate::state::{Order, page};

#[async_trait]
impl Payments for MemoryStorage {
    async fn add_payment(&self, add: AddPayment) -> Result<Stored<Payment>> {
        self.apply(add)
    }

    async fn mark_payment_status(&self, mark: MarkPaymentStatus) -> Result<Stored<Payment>> {
        self.apply(mark)
    }

    async fn refund_payment(&self, refund: RefundPayment) -> Result<Stored<Payment>> {
        self.apply(refund)
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
