//! Payments.

use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{
    AddPayment, ListPayments, MarkPaymentStatus, Newest, Page, Payment, PaymentId, Payments, RefundPayment, Result,
    Stored,
};

use crate::engine::JsonStorage;
use crate::lists::Start;

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
        self.apply(add).await
    }

    async fn mark_payment_status(&self, mark: MarkPaymentStatus) -> Result<Stored<Payment>> {
        self.apply(mark).await
    }

    async fn refund_payment(&self, refund: RefundPayment) -> Result<Stored<Payment>> {
        self.apply(refund).await
    }

    async fn get_payment(&self, payment: &PaymentId) -> Result<Option<Arc<Payment>>> {
        self.read("get_payment", |state| state.payments.get(payment).cloned()).await
    }

    async fn list_payments(&self, list: ListPayments) -> Result<Page<Payment>> {
        self.opened("list_payments")?;
        self.page_of_payments(list).await.map_err(|error| error.in_operation("list_payments"))
    }
}
