//! The ledger and the audit.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::Serial;
use super::page::page;
use crate::{
    AuditReport, AuditScope, AuditTrail, AuditedState, DumpRecord, HoldStatus, LedgerRow, ListOperations, Operations,
    Page, PaymentOrigin, PaymentStatus, Result, UserId,
};

/// What an audit has seen of each user.
#[derive(Default)]
struct Audit(BTreeMap<UserId, (Option<AuditTrail>, AuditedState)>);

impl Audit {
    fn see(&mut self, record: &DumpRecord) {
        let user = record.user();
        let (trail, state) = self.0.entry(user).or_default();
        match record {
            DumpRecord::Account(account) => (state.balance, state.held) = (account.balance, account.held),
            DumpRecord::Hold(hold) if hold.status == HoldStatus::Open => {
                state.open_holds = state.open_holds.plus(hold.amount.money());
            }
            DumpRecord::Ledger(row) => trail.get_or_insert_with(|| AuditTrail::new(user)).push(row),
            DumpRecord::Payment(payment) if payment.origin == PaymentOrigin::Here => {
                if matches!(payment.status, PaymentStatus::Approved | PaymentStatus::Refunded) {
                    state.credited_payments.push(payment.id.to_string());
                }
            }
            _ => {}
        }
    }

    fn report(self) -> AuditReport {
        let mut report = AuditReport::default();
        for (user, (trail, state)) in self.0 {
            trail.unwrap_or_else(|| AuditTrail::new(user)).finish(&state, &mut report);
        }
        report
    }
}

#[async_trait]
impl Operations for Serial {
    async fn list_operations(&self, list: ListOperations) -> Result<Page<LedgerRow>> {
        self.look("list_operations", move |unit, _| {
            let rows = |after: Option<&u64>, most| unit.ledger(list.user, after.copied(), most);
            page(&list.page, list.filter(), rows, |row| row.seq)
        })
        .await
    }

    async fn audit(&self, scope: AuditScope) -> Result<AuditReport> {
        let whose = match scope {
            AuditScope::Everyone => None,
            AuditScope::User(user) => Some(user),
        };
        self.look_long("audit", move |unit, _| {
            let mut audit = Audit(whose.map(|user| (user, Default::default())).into_iter().collect());
            unit.walk(whose, &mut |record| {
                audit.see(&record);
                Ok(())
            })?;
            Ok(audit.report())
        })
        .await
    }
}
