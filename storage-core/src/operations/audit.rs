//! The audit: adds the ledger up and compares it with what the store says.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{LedgerRow, OperationKind};
use crate::{Money, Total, UserId};

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
    credited: BTreeMap<String, u32>,
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
        Self { user, rows: 0, balance: 0, held: 0, credited: BTreeMap::new(), problems: Vec::new() }
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
