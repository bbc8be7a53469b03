//! Payments: asked for, approved once, refunded once.

mod payment;

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    Amount, FileId, Fingerprint, Note, OperationKey, Page, PageRequest, PaymentId, PaymentMethod, ProviderKey, Result,
    Stored, UserId,
};

pub use payment::{Payment, PaymentOrigin, PaymentStatus};

/// Arguments of [`Payments::add_payment`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddPayment {
    /// Who pays.
    pub user: UserId,
    /// How much.
    pub amount: Amount,
    /// How.
    pub method: PaymentMethod,
    /// The payment's id; minted when absent.
    pub payment: Option<PaymentId>,
    /// What the provider calls it: a charge id, a screenshot. Tells a repeated webhook from a new payment.
    pub provider_key: Option<ProviderKey>,
    /// The screenshot that proves it.
    pub screenshot_file_id: Option<FileId>,
    /// What to note.
    pub notes: Option<Note>,
    /// Makes the call repeatable.
    pub key: Option<OperationKey>,
}

impl AddPayment {
    /// Only what is needed.
    pub fn new(user: UserId, amount: Amount, method: PaymentMethod) -> Self {
        Self {
            user,
            amount,
            method,
            payment: None,
            provider_key: None,
            screenshot_file_id: None,
            notes: None,
            key: None,
        }
    }
    /// What a replay must repeat.
    pub fn fingerprint(&self) -> Fingerprint {
        let Self { user: _, amount, method, payment, provider_key, screenshot_file_id, notes, key: _ } = self;
        let note = notes.as_ref().map_or_else(String::new, |note| format!("={note}"));
        Fingerprint::of(
            "add_payment",
            &[
                &amount.to_string(),
                method.as_str(),
                payment.as_ref().map_or("", PaymentId::as_str),
                provider_key.as_ref().map_or("", ProviderKey::as_str),
                screenshot_file_id.as_ref().map_or("", FileId::as_str),
                &note,
            ],
        )
    }
}

/// Arguments of [`Payments::mark_payment_status`]. `None` keeps what is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkPaymentStatus {
    /// Which payment.
    pub payment: PaymentId,
    /// Its new state. `Refunded` does what [`Payments::refund_payment`] does.
    pub status: PaymentStatus,
    /// Who decided.
    pub admin: Option<UserId>,
    /// What to note.
    pub notes: Option<Note>,
    /// Makes the call repeatable.
    pub key: Option<OperationKey>,
}

impl MarkPaymentStatus {
    /// Only the status.
    pub fn new(payment: PaymentId, status: PaymentStatus) -> Self {
        Self { payment, status, admin: None, notes: None, key: None }
    }
    /// What a replay must repeat.
    pub fn fingerprint(&self) -> Fingerprint {
        let Self { payment, status, admin, notes, key: _ } = self;
        let admin = admin.map_or_else(String::new, |admin| admin.to_string());
        let note = notes.as_ref().map_or_else(String::new, |note| format!("={note}"));
        Fingerprint::of("mark_payment_status", &[payment.as_str(), status.as_str(), &admin, &note])
    }
}

/// Arguments of [`Payments::refund_payment`]. `None` keeps what is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefundPayment {
    /// Which payment.
    pub payment: PaymentId,
    /// Who decided.
    pub admin: Option<UserId>,
    /// What to note.
    pub notes: Option<Note>,
    /// Makes the call repeatable.
    pub key: Option<OperationKey>,
}

impl RefundPayment {
    /// Only the payment.
    pub fn new(payment: PaymentId) -> Self {
        Self { payment, admin: None, notes: None, key: None }
    }
}

impl RefundPayment {
    /// What a replay must repeat: that of the decision it is.
    pub fn fingerprint(&self) -> Fingerprint {
        MarkPaymentStatus::from(self.clone()).fingerprint()
    }
}

impl From<RefundPayment> for MarkPaymentStatus {
    fn from(refund: RefundPayment) -> Self {
        let RefundPayment { payment, admin, notes, key } = refund;
        Self { payment, status: PaymentStatus::Refunded, admin, notes, key }
    }
}

/// Arguments of [`Payments::list_payments`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPayments {
    /// Only this user's.
    pub user: Option<UserId>,
    /// Only those that stand so.
    pub status: Option<PaymentStatus>,
    /// Which page.
    pub page: PageRequest,
}

impl ListPayments {
    /// Which list a cursor belongs to.
    pub fn filter(&self) -> Fingerprint {
        let user = self.user.map_or_else(String::new, |user| user.to_string());
        Fingerprint::of("list_payments", &[&user, self.status.map_or("", PaymentStatus::as_str)])
    }
    /// Whether a payment matches.
    pub fn matches(&self, payment: &Payment) -> bool {
        self.user.is_none_or(|user| user == payment.user) && self.status.is_none_or(|status| status == payment.status)
    }
}

/// Payments: asked for, approved once, refunded once.
#[async_trait]
pub trait Payments {
    /// Stores a new payment, always `Pending`.
    ///
    /// # Contract
    /// - Id and provider key are each unique in the store; the same again for the same user and amount is a
    ///   replay and answers the payment as it stands.
    /// - Creates the user when missing.
    ///
    /// # Errors
    /// `Conflict` when id or provider key belong to another user, another amount or another payment, the key was used for
    /// something else, or the payment that it made was removed by hand.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage, user: UserId) -> Result<()> {
    /// let mut payment = AddPayment::new(user, "100".parse()?, "stars".parse()?);
    /// payment.provider_key = Some("charge-17".parse()?);
    /// let payment = storage.add_payment(payment).await?.record;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `payments::*`.
    async fn add_payment(&self, add: AddPayment) -> Result<Stored<Payment>>;

    /// Decides a payment.
    ///
    /// # Contract
    /// - Approval is one atom: status, credit, ledger row. However many approvals run at once, one credits.
    /// - The present status again is a replay and changes neither admin nor notes; `None` keeps what is stored.
    ///
    /// # Errors
    /// `NotFound`; `InvalidTransition`; `InvalidInput` when the credit would exceed [`crate::Money::MAX`];
    /// `InsufficientFunds` for a refund; `Conflict` when the key was used for something else.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage) -> Result<()> {
    /// let approve = MarkPaymentStatus::new("p-1".parse()?, PaymentStatus::Approved);
    /// let payment = storage.mark_payment_status(approve).await?.record;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `payments::*`.
    async fn mark_payment_status(&self, mark: MarkPaymentStatus) -> Result<Stored<Payment>>;

    /// Takes a credited payment back from the balance.
    ///
    /// # Contract
    /// - One atom: status, debit, a `refund` row that names the payment. A repeat is a replay.
    ///
    /// # Errors
    /// `NotFound`; `InvalidTransition` for a payment that is not approved, or was approved by hand and never credited;
    /// `InsufficientFunds` with both figures.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage) -> Result<()> {
    /// storage.refund_payment(RefundPayment::new("p-1".parse()?)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `payments::*`.
    async fn refund_payment(&self, refund: RefundPayment) -> Result<Stored<Payment>>;

    /// Gives a payment by id.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage) -> Result<()> {
    /// let payment = storage.get_payment(&"p-1".parse()?).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `payments::*`.
    async fn get_payment(&self, payment: &PaymentId) -> Result<Option<Arc<Payment>>>;

    /// Lists payments, newest first by creation time and id.
    ///
    /// # Errors
    /// `InvalidInput` for a cursor of another list or filter.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage) -> Result<()> {
    /// let waiting = ListPayments { status: Some(PaymentStatus::Pending), ..Default::default() };
    /// let payments = storage.list_payments(waiting).await?.items;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `payments::*`.
    async fn list_payments(&self, list: ListPayments) -> Result<Page<Payment>>;
}
