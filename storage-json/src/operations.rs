//! The ledger and its audit.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{
    AuditReport, AuditScope, AuditTrail, AuditedState, Error, HoldStatus, LedgerRow, ListOperations, Money, Operations,
    Page, Payment, PaymentOrigin, PaymentStatus, Result, Total, UserId,
};

use crate::before::{Looked, Records as _, Walk};
use crate::engine::JsonStorage;
use crate::ledger::{Ledger, Line};
use crate::patience::Progress;

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

/// Whether the ledger must have credited a payment.
fn is_credited(payment: &Payment) -> bool {
    payment.origin == PaymentOrigin::Here && matches!(payment.status, PaymentStatus::Approved | PaymentStatus::Refunded)
}

/// What the store says of a user, for the audit, and where the user's ledger ends.
#[derive(Default)]
struct Said {
    state: AuditedState,
    last: Option<u64>,
}

/// What the store says of one user.
fn said_of(walk: &Walk<'_>, user: UserId, progress: &Progress) -> Result<Said> {
    let Some(account) = walk.account(user)? else { return Ok(Said::default()) };
    let mut said = Said { last: account.last, ..Said::default() };
    (said.state.balance, said.state.held) = (account.record.balance, account.record.held);
    walk.holds_of(user, &mut |hold| {
        if hold.status == HoldStatus::Open {
            said.state.open_holds = said.state.open_holds.plus(hold.amount.money());
        }
        progress.step()
    })?;
    walk.payments_of(user, &mut |payment| {
        if is_credited(payment) {
            said.state.credited_payments.push(payment.id.to_string());
        }
        progress.step()
    })?;
    Ok(said)
}

/// What the store says of everyone, at one moment.
#[derive(Default)]
struct SaidOfAll {
    /// By ascending user.
    accounts: Vec<(UserId, Money, Money, Option<u64>)>,
    open_holds: BTreeMap<UserId, Total>,
    /// By ascending user, of each the newest first.
    credited: Vec<Arc<Payment>>,
}

impl SaidOfAll {
    fn look(walk: &Walk<'_>, progress: &Progress) -> Result<Self> {
        let mut all = Self::default();
        walk.accounts(&mut |account| {
            let record = &account.record;
            all.accounts.push((record.user, record.balance, record.held, account.last));
            progress.step()
        })?;
        walk.holds(&mut |hold| {
            if hold.status == HoldStatus::Open {
                let open = all.open_holds.entry(hold.user).or_default();
                *open = open.plus(hold.amount.money());
            }
            progress.step()
        })?;
        walk.shared_payments(&mut |payment| {
            if is_credited(payment) {
                all.credited.push(Arc::clone(payment));
            }
            progress.step()
        })?;
        all.credited.sort_unstable_by(|one, other| {
            one.user.cmp(&other.user).then_with(|| (other.created_at, &other.id).cmp(&(one.created_at, &one.id)))
        });
        Ok(all)
    }

    /// One user after the other.
    fn each(mut self, mut each: impl FnMut(UserId, Said) -> Result<()>) -> Result<()> {
        let mut credited = self.credited.into_iter().peekable();
        for (user, balance, held, last) in self.accounts {
            let of_user = std::iter::from_fn(|| credited.next_if(|payment| payment.user == user));
            let credited_payments = of_user.map(|payment| payment.id.to_string()).collect();
            let open_holds = self.open_holds.remove(&user).unwrap_or_default();
            each(user, Said { state: AuditedState { balance, held, open_holds, credited_payments }, last })?;
        }
        Ok(())
    }
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
    Said { state, last }: &Said,
    progress: &Progress,
    report: &mut AuditReport,
) -> Result<()> {
    let lines = lines_back(ledger, *last).map(|line| progress.step().and(line)).collect::<Result<Vec<_>>>()?;
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
        self.in_time(move |progress| {
            let start = after.map_or(last, |after| Some(after.offset));
            let below = after.map_or(u64::MAX, |after| after.seq);
            let mut rows: Vec<(u64, Arc<LedgerRow>)> = Vec::new();
            for line in lines_back(&ledger, start) {
                progress.step()?;
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

    /// Looks at one moment piece by piece, while writing goes on. It takes as long as it goes on: the deadline is the longest
    /// time without a step.
    async fn audit(&self, scope: AuditScope) -> Result<AuditReport> {
        // Catches up first; what comes between this and the moment is newer still.
        self.read("audit", |_| ()).await?;
        let shared = Arc::clone(&self.shared);
        let audited = self.while_it_goes_on(move |progress| {
            let ledger = shared.ledger.clone();
            let moment = Looked::begin(shared);
            let mut report = AuditReport::default();
            match scope {
                AuditScope::User(user) => {
                    let said = said_of(&moment.walk(), user, progress)?;
                    drop(moment);
                    audit_user(&ledger, user, &said, progress, &mut report)?;
                }
                AuditScope::Everyone => {
                    let all = SaidOfAll::look(&moment.walk(), progress)?;
                    // Lines never change: from here on nothing has to be kept.
                    drop(moment);
                    all.each(|user, said| audit_user(&ledger, user, &said, progress, &mut report))?;
                }
            }
            Ok(report)
        });
        audited.await.map_err(|error| error.in_operation("audit"))
    }
}
