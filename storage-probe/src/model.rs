//! What a lane's state must be: the contract once more, written as plainly as possible and shared with no backend.

use std::collections::BTreeMap;

use crate::lane::{Lane, MAIN, SWEPT, moment};
use crate::op::{Misuse, Op, Outcome};

/// Free generations a day.
const DAILY: u32 = 5;
/// The admin limit of a user for whom none was set.
const DEFAULT_LIMIT: i64 = 100_000_000;
/// History entries kept of a user.
const KEPT_HISTORY: usize = 100;
/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;
/// What memos and notes say.
pub(crate) const REASON: &str = "проба \"with\" \\ marks\nand lines 🦊";

/// A ledger row.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) operation: u64,
    pub(crate) kind: &'static str,
    pub(crate) change: i64,
    pub(crate) held_change: i64,
    pub(crate) after: i64,
    pub(crate) held_after: i64,
    pub(crate) reference: Option<String>,
    pub(crate) memo: bool,
}

/// Where a free generation was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Day(i64),
    Bank,
}

/// Who brought a user.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Brought {
    pub(crate) by: u32,
    pub(crate) operation: u64,
    pub(crate) bonus: u32,
}

/// A user.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) created: u64,
    pub(crate) updated: u64,
    pub(crate) balance: i64,
    pub(crate) held: i64,
    pub(crate) language: &'static str,
    pub(crate) gift: bool,
    pub(crate) brought: Option<Brought>,
    pub(crate) quota_day: i64,
    pub(crate) used: u32,
    pub(crate) bank: u64,
    pub(crate) limit: i64,
    pub(crate) spent: i64,
    pub(crate) rows: Vec<Row>,
    pub(crate) history: Vec<(u64, i64)>,
}

impl Account {
    /// Taken from the quota of the day of a moment.
    pub(crate) fn used_at(&self, moment: i64) -> u32 {
        if self.quota_day == moment / DAY { self.used } else { 0 }
    }
    /// Left of that day's quota and the bank.
    pub(crate) fn remaining_at(&self, moment: i64) -> u64 {
        u64::from(DAILY - self.used_at(moment)) + self.bank
    }
}

/// A hold.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pub(crate) role: u32,
    pub(crate) amount: i64,
    pub(crate) expires: Option<i64>,
    pub(crate) status: &'static str,
    pub(crate) committed: i64,
    pub(crate) updated: u64,
    pub(crate) opened_balance: i64,
    pub(crate) ended_balance: Option<i64>,
}

/// A job.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) by_task: bool,
    pub(crate) price: i64,
    pub(crate) status: &'static str,
    pub(crate) task: Option<u64>,
    pub(crate) urls: Option<u64>,
    pub(crate) error: Option<u64>,
    pub(crate) updated: u64,
}

/// A payment.
#[derive(Clone, Debug)]
pub(crate) struct Payment {
    pub(crate) amount: i64,
    pub(crate) full: bool,
    pub(crate) status: &'static str,
    pub(crate) decided_by_admin: bool,
    pub(crate) noted: Option<u64>,
    pub(crate) updated: u64,
}

/// A lane's state.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) lane: Lane,
    pub(crate) accounts: BTreeMap<u32, Account>,
    pub(crate) holds: BTreeMap<u64, Hold>,
    pub(crate) jobs: BTreeMap<u64, Job>,
    pub(crate) payments: BTreeMap<u64, Payment>,
    /// Takes that can be given back, by operation, and where they came from.
    pub(crate) takes: BTreeMap<u64, Source>,
    /// Credits of the main user, by operation.
    pub(crate) credits: Vec<u64>,
}

impl Model {
    /// Before the first operation.
    pub(crate) fn new(lane: Lane) -> Self {
        Self {
            lane,
            accounts: BTreeMap::new(),
            holds: BTreeMap::new(),
            jobs: BTreeMap::new(),
            payments: BTreeMap::new(),
            takes: BTreeMap::new(),
            credits: Vec::new(),
        }
    }
    /// The user in a role, new when never named before.
    fn account(&mut self, role: u32, operation: u64) -> &mut Account {
        self.accounts.entry(role).or_insert_with(|| Account {
            created: operation,
            updated: operation,
            balance: 0,
            held: 0,
            language: "ru",
            gift: false,
            brought: None,
            quota_day: i64::MIN,
            used: 0,
            bank: 0,
            limit: DEFAULT_LIMIT,
            spent: 0,
            rows: Vec::new(),
            history: Vec::new(),
        })
    }
    /// What the user in a role can spend.
    pub(crate) fn balance(&self, role: u32) -> i64 {
        self.accounts.get(&role).map_or(0, |account| account.balance)
    }
    /// Changes money and notes it in the ledger; answers the balance.
    fn money(
        &mut self,
        role: u32,
        operation: u64,
        row: (&'static str, i64, i64),
        about: (Option<String>, bool),
    ) -> i64 {
        let (kind, change, held_change) = row;
        let (reference, memo) = about;
        let account = self.account(role, operation);
        account.balance += change;
        account.held += held_change;
        if change != 0 {
            account.updated = operation;
        }
        let (after, held_after) = (account.balance, account.held);
        account.rows.push(Row { operation, kind, change, held_change, after, held_after, reference, memo });
        after
    }
    fn memo_reference(&self, memo: bool, operation: u64) -> (Option<String>, bool) {
        (memo.then(|| self.lane.name("memo", operation)), memo)
    }

    /// Does an operation, or refuses it and changes nothing.
    pub(crate) fn apply(&mut self, operation: u64, op: &Op) -> Outcome {
        let figure = match *op {
            Op::GetUser { role } => {
                self.account(role, operation);
                None
            }
            Op::Credit { role, amount, memo } => {
                let about = self.memo_reference(memo, operation);
                let after = self.money(role, operation, ("credit", amount, 0), about);
                if role == MAIN {
                    self.credits.push(operation);
                }
                (role == MAIN).then_some(i128::from(after))
            }
            Op::Debit { amount, memo } => {
                if amount > self.balance(MAIN) {
                    return Outcome::Refused("InsufficientFunds");
                }
                let about = self.memo_reference(memo, operation);
                Some(i128::from(self.money(MAIN, operation, ("debit", -amount, 0), about)))
            }
            Op::SetBalance { balance } => {
                let change = balance - self.account(MAIN, operation).balance;
                if change != 0 {
                    let about = self.memo_reference(true, operation);
                    self.money(MAIN, operation, ("adjustment", change, 0), about);
                }
                Some(i128::from(balance))
            }
            Op::Reserve { .. } | Op::Commit { .. } | Op::Release { .. } | Op::Sweep => return self.hold(operation, op),
            Op::Take { .. } | Op::Return { .. } | Op::Bonus { .. } => return self.quota(operation, op),
            Op::Gift { role } => {
                let account = self.account(role, operation);
                let first = !account.gift;
                if first {
                    account.gift = true;
                    account.updated = operation;
                }
                Some(i128::from(first))
            }
            Op::Language { role, tag } => {
                let account = self.account(role, operation);
                account.language = tag;
                account.updated = operation;
                None
            }
            Op::Limit { role, limit } => {
                self.account(role, operation).limit = limit;
                None
            }
            Op::History { price } => {
                let account = self.account(MAIN, operation);
                account.spent += price;
                account.history.push((operation, price));
                if account.history.len() > KEPT_HISTORY {
                    account.history.remove(0);
                }
                None
            }
            Op::AddJob { .. } | Op::UpdateJob { .. } => return self.job(operation, op),
            Op::AddPayment { .. } | Op::Mark { .. } | Op::Refund { .. } => return self.payment(operation, op),
            Op::Refer { role, referrer, bonus } => {
                let bonus = bonus.unwrap_or(0);
                self.account(referrer, operation).bank += u64::from(bonus);
                let account = self.account(role, operation);
                account.brought = Some(Brought { by: referrer, operation, bonus });
                account.updated = operation;
                None
            }
            Op::Misuse(ref misuse) => return Outcome::Refused(kind_of(misuse)),
        };
        Outcome::Done(figure)
    }

    fn hold(&mut self, operation: u64, op: &Op) -> Outcome {
        match *op {
            Op::Reserve { role, amount, expires } => {
                if amount > self.balance(role) {
                    return Outcome::Refused("InsufficientFunds");
                }
                let about = (Some(self.lane.name("hold", operation)), role == MAIN);
                let after = self.money(role, operation, ("hold", -amount, amount), about);
                let hold = Hold {
                    role,
                    amount,
                    expires,
                    status: "open",
                    committed: 0,
                    updated: operation,
                    opened_balance: after,
                    ended_balance: None,
                };
                self.holds.insert(operation, hold);
                Outcome::Done((role == MAIN).then_some(i128::from(after)))
            }
            Op::Commit { hold, amount } => {
                let all = self.holds.get(&hold).map_or(0, |hold| hold.amount);
                let spent = amount.unwrap_or(all);
                let after = self.end(operation, hold, "committed", spent);
                Outcome::Done(Some(i128::from(after)))
            }
            Op::Release { hold } => Outcome::Done(Some(i128::from(self.end(operation, hold, "released", 0)))),
            _ => {
                for hold in self.expired(moment(operation)) {
                    self.end(operation, hold, "released", 0);
                }
                Outcome::Done(None)
            }
        }
    }
    /// The open holds that a sweep at this moment gives back.
    fn expired(&self, now: i64) -> Vec<u64> {
        let expired = |hold: &Hold| hold.status == "open" && hold.expires.is_some_and(|at| at <= now);
        self.holds.iter().filter(|(_, hold)| expired(hold)).map(|(id, _)| *id).collect()
    }
    /// Ends a hold: spends a part of it and gives the rest back.
    pub(crate) fn end(&mut self, operation: u64, id: u64, status: &'static str, spent: i64) -> i64 {
        let Some(hold) = self.holds.get_mut(&id) else { return 0 };
        hold.status = status;
        hold.committed = spent;
        hold.updated = operation;
        let (role, rest) = (hold.role, hold.amount - spent);
        let name = self.lane.name("hold", id);
        if spent > 0 {
            self.money(role, operation, ("commit", 0, -spent), (Some(name.clone()), false));
        }
        if rest > 0 {
            self.money(role, operation, ("release", rest, -rest), (Some(name), false));
        }
        let after = self.balance(role);
        if let Some(hold) = self.holds.get_mut(&id) {
            hold.ended_balance = Some(after);
        }
        after
    }

    fn quota(&mut self, operation: u64, op: &Op) -> Outcome {
        let (now, today) = (moment(operation), moment(operation) / DAY);
        match *op {
            Op::Take { role } => {
                let account = self.account(role, operation);
                let used = account.used_at(now);
                let source = if used < DAILY {
                    (account.quota_day, account.used) = (today, used + 1);
                    Source::Day(today)
                } else if account.bank > 0 {
                    account.bank -= 1;
                    Source::Bank
                } else {
                    return Outcome::Refused("QuotaExhausted");
                };
                let remaining = account.remaining_at(now);
                if role == MAIN {
                    self.takes.insert(operation, source);
                }
                Outcome::Done(Some(i128::from(remaining)))
            }
            Op::Return { take } => {
                let source = self.takes.remove(&take);
                let account = self.account(MAIN, operation);
                match source {
                    Some(Source::Bank) => account.bank += 1,
                    Some(Source::Day(day)) if day == account.quota_day => account.used -= 1,
                    _ => {}
                }
                Outcome::Done(None)
            }
            Op::Bonus { count } => {
                let account = self.account(MAIN, operation);
                account.bank += u64::from(count);
                Outcome::Done(Some(i128::from(account.remaining_at(now))))
            }
            _ => Outcome::Done(None),
        }
    }

    fn job(&mut self, operation: u64, op: &Op) -> Outcome {
        match *op {
            Op::AddJob { by_task, price } => {
                self.account(MAIN, operation);
                let task = by_task.then_some(operation);
                let job = Job { by_task, price, status: "pending", task, urls: None, error: None, updated: operation };
                self.jobs.insert(operation, job);
            }
            Op::UpdateJob { job, by_task: _, status, task } => {
                if let Some(job) = self.jobs.get_mut(&job) {
                    job.status = status;
                    job.updated = operation;
                    if task {
                        job.task = Some(operation);
                    }
                    match status {
                        "completed" => (job.urls, job.error) = (Some(operation), None),
                        "failed" => job.error = Some(operation),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        Outcome::Done(None)
    }

    fn payment(&mut self, operation: u64, op: &Op) -> Outcome {
        let (id, status, noted) = match *op {
            Op::AddPayment { amount, full } => {
                self.account(MAIN, operation);
                let noted = full.then_some(operation);
                let payment =
                    Payment { amount, full, status: "pending", decided_by_admin: false, noted, updated: operation };
                self.payments.insert(operation, payment);
                return Outcome::Done(None);
            }
            Op::Mark { payment, status, noted } => (payment, status, noted),
            Op::Refund { payment } => (payment, "refunded", true),
            _ => return Outcome::Done(None),
        };
        let Some(amount) = self.payments.get(&id).map(|payment| payment.amount) else {
            return Outcome::Refused("NotFound");
        };
        if status == "refunded" && amount > self.balance(MAIN) {
            return Outcome::Refused("InsufficientFunds");
        }
        let about = (Some(self.lane.name("payment", id)), false);
        match status {
            "approved" => self.money(MAIN, operation, ("payment", amount, 0), about),
            "refunded" => self.money(MAIN, operation, ("refund", -amount, 0), about),
            _ => 0,
        };
        if let Some(payment) = self.payments.get_mut(&id) {
            payment.status = status;
            payment.updated = operation;
            if noted {
                payment.decided_by_admin = true;
                payment.noted = Some(operation);
            }
        }
        Outcome::Done(None)
    }

    /// Whom a user brought, in order of arrival.
    pub(crate) fn brought_by(&self, referrer: u32) -> Vec<(u32, Brought)> {
        let mut brought: Vec<(u32, Brought)> = self
            .accounts
            .iter()
            .filter_map(|(role, account)| account.brought.map(|brought| (*role, brought)))
            .filter(|(_, brought)| brought.by == referrer)
            .collect();
        brought.sort_by_key(|(role, brought)| (brought.operation, *role));
        brought
    }
    /// What of the user with the expiring holds was credited and never held: it is there whoever sweeps.
    pub(crate) fn never_held(&self) -> i64 {
        let rows = self.accounts.get(&SWEPT).map_or(&[][..], |account| &account.rows);
        let credited: i64 = rows.iter().filter(|row| row.kind == "credit").map(|row| row.change).sum();
        credited - self.holds.values().filter(|hold| hold.role == SWEPT).map(|hold| hold.amount).sum::<i64>()
    }
}

fn kind_of(misuse: &Misuse) -> &'static str {
    match misuse {
        Misuse::DebitTooMuch { .. } | Misuse::ReserveTooMuch { .. } => "InsufficientFunds",
        Misuse::ReusedKey { .. } | Misuse::ReferAgain { .. } => "Conflict",
        Misuse::ReferSelf => "InvalidInput",
        Misuse::EndAgain { .. } | Misuse::ReopenJob { .. } | Misuse::ApproveRejected { .. } => "InvalidTransition",
        Misuse::NotThere { .. } => "NotFound",
    }
}
