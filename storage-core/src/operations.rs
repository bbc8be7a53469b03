//! The ledger: one row for each change of a user's money, and the audit that adds them up.

mod audit;

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    Actor, Error, Fingerprint, Money, Note, OperationId, OperationKey, Page, PageRequest, Reference, Result,
    SignedMoney, Timestamp, UserId,
};

pub use audit::{AuditFinding, AuditReport, AuditScope, AuditTrail, AuditedState};

/// What kind of change a ledger row records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// `add_balance`.
    Credit,
    /// `subtract_balance`.
    Debit,
    /// `set_balance`.
    Adjustment,
    /// A payment's approval.
    Payment,
    /// A payment's refund.
    Refund,
    /// Money moved into a hold.
    Hold,
    /// A hold spent.
    Commit,
    /// A hold, or the rest of one, given back.
    Release,
    /// The balance that an import found.
    Opening,
    /// A balance changed in the data files by hand.
    ExternalEdit,
}

impl OperationKind {
    /// The kind's word: `"credit"`, `"external_edit"`, ...
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Credit => "credit",
            Self::Debit => "debit",
            Self::Adjustment => "adjustment",
            Self::Payment => "payment",
            Self::Refund => "refund",
            Self::Hold => "hold",
            Self::Commit => "commit",
            Self::Release => "release",
            Self::Opening => "opening",
            Self::ExternalEdit => "external_edit",
        }
    }
}

impl fmt::Display for OperationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for OperationKind {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        [
            Self::Credit,
            Self::Debit,
            Self::Adjustment,
            Self::Payment,
            Self::Refund,
            Self::Hold,
            Self::Commit,
            Self::Release,
            Self::Opening,
            Self::ExternalEdit,
        ]
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| Error::invalid("operation kind", "must be one of the ledger's words"))
    }
}

/// One change of a user's money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerRow {
    /// Whose money.
    pub user: UserId,
    /// The row's place: 1, 2, 3, ... without gaps for each user.
    pub seq: u64,
    /// The operation that made the change.
    pub operation: OperationId,
    /// What kind of change.
    pub kind: OperationKind,
    /// How the balance changed.
    pub balance_change: SignedMoney,
    /// How the held money changed.
    pub held_change: SignedMoney,
    /// The balance after it.
    pub balance_after: Money,
    /// The held money after it.
    pub held_after: Money,
    /// The operation's key, minted when the caller gave none.
    pub key: OperationKey,
    /// What it refers to: a payment, a hold, or what the memo said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// Why it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Note>,
    /// Who ordered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Actor>,
    /// When.
    pub at: Timestamp,
}

/// Arguments of [`Operations::list_operations`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListOperations {
    /// Whose ledger.
    pub user: UserId,
    /// Which page.
    pub page: PageRequest,
}

impl ListOperations {
    /// The first page, of the default size.
    pub fn of(user: UserId) -> Self {
        Self { user, page: PageRequest::default() }
    }
    /// Which list a cursor belongs to.
    pub fn filter(&self) -> Fingerprint {
        Fingerprint::of("list_operations", &[&self.user.to_string()])
    }
}

/// The ledger.
#[async_trait]
pub trait Operations {
    /// Lists a user's ledger rows, newest first (descending `seq`).
    ///
    /// # Contract
    /// - One row for each change of the user's money; a row never changes.
    ///
    /// # Errors
    /// `InvalidInput` for a cursor of another user's list.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage) -> Result<()> {
    /// for row in storage.list_operations(ListOperations::of(UserId::new(1001)?)).await?.items {
    ///     println!("{} {:>12} {}", row.at, row.balance_change, row.balance_after);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `operations::*`.
    async fn list_operations(&self, list: ListOperations) -> Result<Page<LedgerRow>>;

    /// Adds up the ledger and compares it with what the store answers.
    ///
    /// # Contract
    /// - Balance and held money equal the sums of the ledger; each row's "after" equals the one before plus its
    ///   change; open holds add up; every payment approved here was credited exactly once.
    /// - Names each user for whom that fails. An unknown user is clean: no rows, no money.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage) -> Result<()> {
    /// let report = storage.audit(AuditScope::Everyone).await?;
    /// assert!(report.is_clean(), "{:?}", report.findings);
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `operations::*`.
    async fn audit(&self, scope: AuditScope) -> Result<AuditReport>;
}
