//! Lists in their order, the audit, and what a dump counts.

use std::collections::BTreeMap;

use storage_core::{
    AuditReport, AuditScope, Hold, Job, LedgerRow, ListJobs, ListPayments, ListReserves, Payment, Referral, Total,
    User, UserId,
};

use super::super::ask::{Answer, audited, ok};
use super::super::build::Call;
use super::Oracle;

impl Oracle {
    pub(super) fn list(&self, call: &Call) -> Answer {
        match call {
            Call::ListUsers(_) => {
                let users: Vec<User> = self.accounts.keys().filter_map(|user| self.shown(*user)).collect();
                ok(users)
            }
            Call::ListHolds(list) => {
                let mut holds: Vec<&Hold> = self.holds.values().filter(|hold| hold_matches(list, hold)).collect();
                holds.sort_by_key(|hold| (hold.created_at, hold.name.as_str(), hold.user));
                holds.reverse();
                ok(holds)
            }
            Call::Ledger(list) => {
                let rows: Vec<&LedgerRow> =
                    (self.accounts.get(&list.user).into_iter()).flat_map(|account| account.rows.iter().rev()).collect();
                ok(rows)
            }
            Call::Audit(scope) => self.audit(*scope),
            Call::ListJobs(list) => {
                let mut jobs: Vec<&Job> = self.jobs.values().filter(|job| job_matches(list, job)).collect();
                jobs.sort_by_key(|job| (job.created_at, job.id.as_str()));
                jobs.reverse();
                ok(jobs)
            }
            Call::History(list) => ok(self.accounts.get(&list.user).map_or(&[][..], |account| &account.history)),
            Call::ListPayments(list) => {
                let mut payments: Vec<&Payment> =
                    self.payments.values().filter(|payment| payment_matches(list, payment)).collect();
                payments.sort_by_key(|payment| (payment.created_at, payment.id.as_str()));
                payments.reverse();
                ok(payments)
            }
            Call::Referrals(list) => {
                let brought = self.accounts.keys().filter_map(|user| self.referral(*user));
                let mut brought: Vec<Referral> = brought.filter(|brought| brought.referrer == list.referrer).collect();
                brought.sort_by_key(|brought| (brought.since, brought.user));
                ok(brought)
            }
            _ => self.dumped(),
        }
    }

    fn audit(&self, scope: AuditScope) -> Answer {
        let users: Vec<UserId> = match scope {
            AuditScope::Everyone => self.accounts.keys().copied().collect(),
            AuditScope::User(user) => vec![user],
        };
        let accounts = || users.iter().filter_map(|user| self.accounts.get(user));
        audited(&AuditReport {
            users: users.len() as u64,
            rows: accounts().map(|account| account.rows.len() as u64).sum(),
            balances: Total::from_micros(accounts().map(|account| i128::from(account.balance)).sum()),
            held: Total::from_micros(accounts().map(|account| i128::from(account.held)).sum()),
            findings: Vec::new(),
        })
    }

    fn dumped(&self) -> Answer {
        let rows = self.accounts.values().map(|account| account.rows.len());
        let entries = self.accounts.values().map(|account| account.history.len());
        let counts = [
            ("account", self.accounts.len()),
            ("generation", entries.sum()),
            ("hold", self.holds.len()),
            ("job", self.jobs.len()),
            ("key", self.keys.len() + self.returned.len() + self.generations.len()),
            ("ledger", rows.sum()),
            ("payment", self.payments.len()),
        ];
        let counts: BTreeMap<&str, usize> = counts.into_iter().filter(|(_, count)| *count > 0).collect();
        let total = |of: fn(&super::Account) -> i64| {
            Total::from_micros(self.accounts.values().map(|account| i128::from(of(account))).sum())
        };
        let (balances, held) = (total(|account| account.balance), total(|account| account.held));
        ok((counts, balances, held, balances))
    }
}

fn hold_matches(list: &ListReserves, hold: &Hold) -> bool {
    list.user.is_none_or(|user| user == hold.user)
        && list.status.is_none_or(|status| status == hold.status)
        && list.older_than.is_none_or(|older| hold.created_at < older)
}

fn job_matches(list: &ListJobs, job: &Job) -> bool {
    list.user.is_none_or(|user| user == job.user) && (list.statuses.is_empty() || list.statuses.contains(&job.status))
}

fn payment_matches(list: &ListPayments, payment: &Payment) -> bool {
    list.user.is_none_or(|user| user == payment.user) && list.status.is_none_or(|status| status == payment.status)
}
