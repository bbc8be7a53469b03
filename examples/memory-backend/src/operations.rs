//! The ledger and the audit.

use async_trait::async_trait;
use storage_core::{
    AuditReport, AuditScope, AuditTrail, AuditedState, HoldStatus, LedgerRow, ListOperations, Money, Operations, Page,
    PaymentOrigin, PaymentStatus, Result, UserId,
};

use crate::MemoryStorage;
use crate::state::{Order, State, page};

fn audit_user(state: &State, user: UserId, report: &mut AuditReport) {
    let mut trail = AuditTrail::new(user);
    for row in state.ledger.get(&user).into_iter().flatten() {
        trail.push(row);
    }
    let credited = |status| matches!(status, PaymentStatus::Approved | PaymentStatus::Refunded);
    let audited = AuditedState {
        balance: state.balance(user),
        held: state.accounts.get(&user).map_or(Money::ZERO, |account| account.held),
        open_holds: (state.holds.values())
            .filter(|hold| hold.user == user && hold.status == HoldStatus::Open)
            .map(|hold| hold.amount.money())
            .sum(),
        credited_payments: (state.payments.values())
            .filter(|p| p.user == user && p.origin == PaymentOrigin::Here && credited(p.status))
            .map(|payment| payment.id.to_string())
            .collect(),
    };
    trail.finish(&audited, report);
}

#[async_trait]
impl Operations for MemoryStorage {
    async fn list_operations(&self, list: ListOperations) -> Result<Page<LedgerRow>> {
        self.read("list_operations", |state| {
            let rows = state.ledger.get(&list.user).into_iter().flatten();
            page(rows, &list.page, list.filter(), Order::Descending, |row| row.seq)
        })
    }

    async fn audit(&self, scope: AuditScope) -> Result<AuditReport> {
        self.read("audit", |state| {
            let mut report = AuditReport::default();
            match scope {
                AuditScope::Everyone => {
                    state.accounts.keys().for_each(|user| audit_user(state, *user, &mut report));
                }
                AuditScope::User(user) => audit_user(state, user, &mut report),
            }
            Ok(report)
        })
    }
}
