//! Payments.

use std::sync::Arc;

use async_trait::async_trait;

use super::Serial;
use super::page::page;
use crate::kernel::Halt;
use crate::{
    AddPayment, ListPayments, MarkPaymentStatus, Newest, Page, Payment, PaymentId, Payments, RefundPayment, Result,
    Stored,
};

#[async_trait]
impl Payments for Serial {
    async fn add_payment(&self, add: AddPayment) -> Result<Stored<Payment>> {
        self.apply(add).await
    }

    async fn mark_payment_status(&self, mark: MarkPaymentStatus) -> Result<Stored<Payment>> {
        self.apply(mark).await
    }

    async fn refund_payment(&self, refund: RefundPayment) -> Result<Stored<Payment>> {
        self.apply(refund).await
    }

    async fn get_payment(&self, payment: &PaymentId) -> Result<Option<Arc<Payment>>> {
        let payment = payment.clone();
        self.look("get_payment", move |unit, _| unit.payment(&payment).map_err(Halt::into_error)).await
    }

    async fn list_payments(&self, list: ListPayments) -> Result<Page<Payment>> {
        let position = |payment: &Payment| Newest::new(payment.created_at, payment.id.clone());
        self.look("list_payments", move |unit, _| {
            page(&list.page, list.filter(), |after, most| unit.payments(&list, after, most), position)
        })
        .await
    }
}
