//! A payment, and the status machine that it goes through.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::AddPayment;
use crate::{Amount, Error, FileId, Note, PaymentId, PaymentMethod, ProviderKey, Result, Timestamp, UserId};

/// Where a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    /// Waits for a decision.
    Pending,
    /// Approved, and credited in the same atom.
    Approved,
    /// Turned down.
    Rejected,
    /// Called off.
    Cancelled,
    /// Approved once, and taken back.
    Refunded,
}

impl PaymentStatus {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Approved, Self::Rejected, Self::Cancelled, Self::Refunded];

    /// The state's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
            Self::Refunded => "refunded",
        }
    }
    /// Whether `to` may follow; staying is not a step.
    pub fn may_become(self, to: Self) -> bool {
        match self {
            Self::Pending => matches!(to, Self::Approved | Self::Rejected | Self::Cancelled),
            Self::Approved => to == Self::Refunded,
            Self::Rejected | Self::Cancelled | Self::Refunded => false,
        }
    }
}

impl fmt::Display for PaymentStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for PaymentStatus {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or_else(|| {
            Error::invalid("payment status", "must be pending, approved, rejected, cancelled or refunded")
        })
    }
}

/// Where a payment's approval was credited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentOrigin {
    /// Made in this store: an approval credits here, exactly once.
    Here,
    /// Brought along already decided: its money came with the balance, and it never credits here.
    Imported,
    /// Approved by a hand edit of the files: no money was booked here, so that none can be taken back.
    ByHand,
}

/// A payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Payment {
    /// Its id, unique in the store.
    pub id: PaymentId,
    /// Who pays.
    pub user: UserId,
    /// How much.
    pub amount: Amount,
    /// How.
    pub method: PaymentMethod,
    /// The screenshot that proves it.
    pub screenshot_file_id: Option<FileId>,
    /// What the provider calls it, unique in the store.
    pub provider_key: Option<ProviderKey>,
    /// Where it stands.
    pub status: PaymentStatus,
    /// Who decided.
    pub admin: Option<UserId>,
    /// What was noted.
    pub notes: Option<Note>,
    /// Where its approval was credited.
    pub origin: PaymentOrigin,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl Payment {
    /// A new payment, `Pending`.
    pub fn create(add: AddPayment, id: PaymentId, now: Timestamp) -> Self {
        let AddPayment { user, amount, method, payment: _, provider_key, screenshot_file_id, notes, key: _ } = add;
        Self {
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
            created_at: now,
            updated_at: now,
        }
    }
    /// The payment as an import puts it in: only what still waits for a decision may ever credit here.
    #[must_use]
    pub fn imported(mut self) -> Self {
        self.origin = match (self.status, self.origin) {
            (PaymentStatus::Pending, _) => PaymentOrigin::Here,
            (_, PaymentOrigin::ByHand) => PaymentOrigin::ByHand,
            (_, PaymentOrigin::Here | PaymentOrigin::Imported) => PaymentOrigin::Imported,
        };
        self
    }
    /// Whether it may take this step; staying is none. `InvalidTransition` in the words of the contract.
    pub fn may_become(&self, to: PaymentStatus) -> Result<()> {
        let no_way = || Error::transition("payment", &self.id, self.status.as_str(), to.as_str());
        if !self.status.may_become(to) {
            return Err(no_way());
        }
        if to == PaymentStatus::Refunded && self.origin == PaymentOrigin::ByHand {
            let nothing = "it was approved by hand and never credited here, so that there is nothing to take back";
            return Err(no_way().message(nothing));
        }
        Ok(())
    }
}
