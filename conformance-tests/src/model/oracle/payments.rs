//! Payments.

use storage_core::{
    AddPayment, MarkPaymentStatus, Memo, OperationKind, Payment, PaymentOrigin, PaymentStatus, Reference,
};

use super::super::ask::{Answer, stored};
use super::money::About;
use super::{First, Judged, Moment, Oracle, conflict, invalid, no_way};

fn word(status: PaymentStatus) -> &'static str {
    match status {
        PaymentStatus::Pending => "pending",
        PaymentStatus::Approved => "approved",
        PaymentStatus::Rejected => "rejected",
        PaymentStatus::Cancelled => "cancelled",
        PaymentStatus::Refunded => "refunded",
    }
}

/// Whether a payment may go from one state to another.
fn may_go(from: PaymentStatus, to: PaymentStatus) -> bool {
    use PaymentStatus::{Approved, Cancelled, Pending, Refunded, Rejected};
    matches!((from, to), (Pending, Approved | Rejected | Cancelled) | (Approved, Refunded))
}

impl Oracle {
    fn payment(&self, id: &str, replayed: bool) -> Answer {
        self.payments.get(id).map(|payment| stored(payment, replayed)).unwrap_or_default()
    }

    pub(super) fn add_payment(&mut self, add: &AddPayment, at: &Moment) -> Judged<Answer> {
        let AddPayment { user, amount, method, payment, provider_key, screenshot_file_id, notes, key } = add.clone();
        let call = format!("{:?}", AddPayment { key: None, ..add.clone() });
        if let Some(First::Record(id)) = self.replay(user, key.as_ref(), &call)? {
            return Ok(self.payment(&id, true));
        }
        let by_id = payment.as_ref().and_then(|id| self.payments.get(id.as_str()));
        let of_provider = |known: &&Payment| provider_key.is_some() && known.provider_key == provider_key;
        let by_provider = self.payments.values().find(of_provider);
        for known in [by_provider, by_id].into_iter().flatten() {
            let other = known.user != user
                || known.amount != amount
                || provider_key.is_some() && provider_key != known.provider_key
                || payment.as_ref().is_some_and(|id| *id != known.id);
            if other {
                return conflict("payment", &known.id);
            }
        }
        if let Some(known) = by_provider.or(by_id).map(|known| known.id.to_string()) {
            self.settle(user, key.as_ref(), false, (call, First::Record(known.clone())), at.id());
            return Ok(self.payment(&known, true));
        }
        let Ok(id) = payment.map_or_else(|| at.id().to_string().parse(), Ok) else { return invalid("payment id") };
        self.account(user, at);
        let place = id.to_string();
        let payment = Payment {
            id,
            user,
            amount,
            method,
            screenshot_file_id,
            provider_key,
            status: PaymentStatus::Pending,
            admin: None,
            notes,
            origin: PaymentOrigin::Here,
            created_at: at.now,
            updated_at: at.now,
        };
        self.payments.insert(place.clone(), payment);
        self.settle(user, key.as_ref(), true, (call, First::Record(place.clone())), at.id());
        Ok(self.payment(&place, false))
    }

    /// A decision; `Refunded` is the refund.
    pub(super) fn mark(&mut self, mark: &MarkPaymentStatus, at: &Moment) -> Judged<Answer> {
        let MarkPaymentStatus { payment: id, status, admin, notes, key } = mark;
        let Some(payment) = self.payments.get(id.as_str()).cloned() else {
            return Self::missing("payment", id.as_str());
        };
        let (user, micros) = (payment.user, payment.amount.money().micros());
        let call = format!("{:?}", MarkPaymentStatus { key: None, ..mark.clone() });
        if self.replay(user, key.as_ref(), &call)?.is_some() {
            return Ok(self.payment(id.as_str(), true));
        }
        if payment.status == *status {
            self.settle(user, key.as_ref(), false, (call, First::Nothing), at.id());
            return Ok(self.payment(id.as_str(), true));
        }
        if !may_go(payment.status, *status) {
            return no_way("payment", id, word(payment.status), word(*status));
        }
        let moved = match status {
            PaymentStatus::Approved => Some((OperationKind::Payment, micros)),
            PaymentStatus::Refunded => Some((OperationKind::Refund, -micros)),
            _ => None,
        };
        if let Some((kind, change)) = moved {
            if self.balance(user) + change < 0 {
                return self.too_little(user, payment.amount);
            }
            let memo = Memo { reference: Reference::new(id.as_str()).ok(), ..Memo::default() };
            self.post(user, (change, 0), About { kind, key: key.clone(), memo }, (at, 0))?;
        }
        if let Some(payment) = self.payments.get_mut(id.as_str()) {
            payment.status = *status;
            payment.updated_at = at.now;
            payment.admin = admin.or(payment.admin);
            if notes.is_some() {
                payment.notes.clone_from(notes);
            }
        }
        self.settle(user, key.as_ref(), true, (call, First::Nothing), at.id());
        Ok(self.payment(id.as_str(), false))
    }
}
