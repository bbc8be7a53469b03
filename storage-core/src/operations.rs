//! The ledger: one row for each change of a user's money, and the audit that adds them up.

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    Actor, Error, Fingerprint, Money, Note, OperationId, OperationKey, Page, PageRequest, Reference, Result,
    SignedMoney, Timestamp, Total, UserId,
};

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

/// Whom an audit looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditScope {
    /// Every user.
    Everyone,
    /// One user.
    User(UserId),
}

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    /// Users looked at.
    pub users: u64,
    /// Ledger rows added up.
    pub rows: u64,
    /// The sum of all balances.
    pub balances: Total,
    /// The sum of all held money.
    pub held: Total,
    /// What does not add up, by ascending user.
    pub findings: Vec<AuditFinding>,
}

impl AuditReport {
    /// Whether everything adds up.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// One thing that does not add up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditFinding {
    /// Whose.
    pub user: UserId,
    /// What.
    pub problem: String,
}

/// Adds up one user's ledger, oldest row first. Both backends audit with it.
#[derive(Debug)]
pub struct AuditTrail {
    user: UserId,
    rows: u64,
    balance: i128,
    held: i128,
    credited: std::collections::BTreeMap<String, u32>,
    problems: Vec<String>,
}

/// What the store says of a user, for an audit to compare with the ledger.
#[derive(Clone, Debug, Default)]
pub struct AuditedState {
    /// The balance that reads answer.
    pub balance: Money,
    /// The held money that the store keeps.
    pub held: Money,
    /// The sum of the user's open holds.
    pub open_holds: Total,
    /// Ids of the payments approved here, refunded ones included; imported ones are not among them.
    pub credited_payments: Vec<String>,
}

impl AuditTrail {
    /// Starts with no rows.
    pub fn new(user: UserId) -> Self {
        Self { user, rows: 0, balance: 0, held: 0, credited: std::collections::BTreeMap::new(), problems: Vec::new() }
    }
    /// Adds the next row.
    pub fn push(&mut self, row: &LedgerRow) {
        self.rows += 1;
        if row.seq != self.rows {
            self.problems.push(format!("ledger row {} stands where row {} should", row.seq, self.rows));
        }
        self.balance += i128::from(row.balance_change.micros());
        self.held += i128::from(row.held_change.micros());
        let after = (i128::from(row.balance_after.micros()), i128::from(row.held_after.micros()));
        if after != (self.balance, self.held) {
            self.problems.push(format!(
                "ledger row {} says {} and {} held after it, the rows before it and its change make {} and {}",
                row.seq,
                row.balance_after,
                row.held_after,
                Total::from_micros(self.balance),
                Total::from_micros(self.held),
            ));
            (self.balance, self.held) = after;
        }
        if row.kind == OperationKind::Payment {
            let payment = row.reference.as_ref().map_or_else(String::new, ToString::to_string);
            *self.credited.entry(payment).or_default() += 1;
        }
    }
    /// Compares the sums with what the store says, and adds the outcome to the report.
    pub fn finish(mut self, state: &AuditedState, report: &mut AuditReport) {
        let mut differ = |what: &str, stored: Money, ledger: i128| {
            if i128::from(stored.micros()) != ledger {
                self.problems.push(format!("{what} is {stored}, the ledger adds up to {}", Total::from_micros(ledger)));
            }
        };
        differ("the balance", state.balance, self.balance);
        differ("held money", state.held, self.held);
        if Total::from(state.held) != state.open_holds {
            self.problems.push(format!("held money is {}, the open holds add up to {}", state.held, state.open_holds));
        }
        for payment in &state.credited_payments {
            match self.credited.remove(payment).unwrap_or(0) {
                1 => {}
                0 => self.problems.push(format!("payment {payment} is approved and was never credited")),
                times => self.problems.push(format!("payment {payment} was credited {times} times")),
            }
        }
        for payment in self.credited.keys() {
            self.problems.push(format!("payment {payment} was credited and is not approved"));
        }
        report.users += 1;
        report.rows += self.rows;
        report.balances = report.balances.plus(state.balance);
        report.held = report.held.plus(state.held);
        let user = self.user;
        report.findings.extend(self.problems.into_iter().map(|problem| AuditFinding { user, problem }));
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
