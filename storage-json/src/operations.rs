//! The ledger and its audit.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{
    AuditReport, AuditScope, AuditTrail, AuditedState, Error, HoldStatus, LedgerRow, ListOperations, Operations, Page,
    PaymentOrigin, PaymentStatus, Result, UserId,
};

use crate::engine::JsonStorage;
use crate::ledger::{Ledger, Line};
use crate::state::State;

/// A row's position: its number, and where the line begins that holds it, so that a deep page starts where it is.
#[derive(Clone, Copy, Debug)]
struct RowPlace {
    seq: u64,
    offset: u64,
}

impl fmt::Display for RowPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.seq, self.offset)
    }
}

impl FromStr for RowPlace {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let number = |text: &str| text.parse().map_err(|_| Error::invalid("position", "must be two numbers"));
        let (seq, offset) = text.split_once('@').unwrap_or((text, ""));
        Ok(Self { seq: number(seq)?, offset: number(offset)? })
    }
}

/// What the state says of a user, for the audit.
fn audited(state: &State, user: UserId) -> Option<(AuditedState, Option<u64>)> {
    let account = state.account(user)?;
    let holds =
        state.holds_by_user.newest_of(user, None).filter_map(|(_, name, ())| state.holds.get(&(user, name.clone())));
    let open_holds = holds.filter(|hold| hold.status == HoldStatus::Open).map(|hold| hold.amount.money()).sum();
    let payments = state.payments_by_user.newest_of(user, None).filter_map(|(_, id, ())| state.payments.get(id));
    let credited = payments.filter(|payment| {
        payment.origin == PaymentOrigin::Here
            && matches!(payment.status, PaymentStatus::Approved | PaymentStatus::Refunded)
    });
    let credited_payments = credited.map(|payment| payment.id.to_string()).collect();
    let state =
        AuditedState { balance: account.record.balance, held: account.record.held, open_holds, credited_payments };
    Some((state, account.last))
}

/// Reads a user's ledger lines from the newest back.
pub(crate) fn lines_back(ledger: &Ledger, mut last: Option<u64>) -> impl Iterator<Item = Result<(u64, Line)>> + '_ {
    std::iter::from_fn(move || {
        let offset = last?;
        Some(ledger.line_at(offset).map(|line| {
            last = line.prev;
            (offset, line)
        }))
    })
    .fuse()
}

fn audit_user(
    ledger: &Ledger,
    user: UserId,
    state: &AuditedState,
    last: Option<u64>,
    report: &mut AuditReport,
) -> Result<()> {
    let lines = lines_back(ledger, last).collect::<Result<Vec<_>>>()?;
    let mut trail = AuditTrail::new(user);
    for (_, line) in lines.iter().rev() {
        line.ledger_rows().for_each(|row| trail.push(&row));
    }
    trail.finish(state, report);
    Ok(())
}

impl JsonStorage {
    async fn page_of_operations(&self, list: ListOperations) -> Result<Page<LedgerRow>> {
        let filter = list.filter();
        let ListOperations { user, page } = list;
        let after = page.position::<RowPlace>(filter)?;
        let last = self.read("list_operations", |state| state.account(user).and_then(|account| account.last)).await?;
        let ledger = self.ledger();
        self.blocking(move || {
            let start = after.map_or(last, |after| Some(after.offset));
            let below = after.map_or(u64::MAX, |after| after.seq);
            let mut rows: Vec<(u64, Arc<LedgerRow>)> = Vec::new();
            for line in lines_back(&ledger, start) {
                let (offset, line) = match line {
                    Ok(line) if line.1.user == user => line,
                    // Only a cursor can lead where no line of this user stands.
                    Ok(_) => return Err(Error::invalid("cursor", "must come from a page of the same list")),
                    Err(_) if rows.is_empty() && after.is_some() => {
                        return Err(Error::invalid("cursor", "must come from a page of the same list"));
                    }
                    Err(error) => return Err(error),
                };
                rows.extend(line.ledger_rows().rev().filter(|row| row.seq < below).map(|row| (offset, Arc::new(row))));
                if rows.len() > page.size.get() {
                    break;
                }
            }
            let offsets: Vec<u64> = rows.iter().map(|(offset, _)| *offset).collect();
            let at = offsets.get(page.size.get() - 1).copied().unwrap_or_default();
            let rows = rows.into_iter().map(|(_, row)| row).collect();
            Ok(Page::from_surplus(rows, page.size, filter, |row| RowPlace { seq: row.seq, offset: at }))
        })
        .await
    }
}

#[async_trait]
impl Operations for JsonStorage {
    async fn list_operations(&self, list: ListOperations) -> Result<Page<LedgerRow>> {
        self.opened("list_operations")?;
        self.page_of_operations(list).await.map_err(|error| error.in_operation("list_operations"))
    }

    async fn audit(&self, scope: AuditScope) -> Result<AuditReport> {
        let everyone: Vec<(UserId, AuditedState, Option<u64>)> = self
            .read("audit", |state| {
                let one = |user| audited(state, user).map(|(audited, last)| (user, audited, last));
                match scope {
                    AuditScope::User(user) => {
                        one(user).or_else(|| Some((user, AuditedState::default(), None))).into_iter().collect()
                    }
                    AuditScope::Everyone => state.accounts.keys().filter_map(|user| one(*user)).collect(),
                }
            })
            .await?;
        let ledger = self.ledger();
        self.blocking(move || {
            let mut report = AuditReport::default();
            for (user, state, last) in everyone {
                audit_user(&ledger, user, &state, last, &mut report)?;
            }
            Ok(report)
        })
        .await
        .map_err(|error| error.in_operation("audit"))
    }
}
