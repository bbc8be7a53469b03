//! Judging the records of a dump by each other: each of them may be right, and the store that they make would still be
//! one that no operation leaves behind.
//!
//! Everything is judged while the dump is read, once, in the order of its kinds. Memory: 48 bytes for each account, 4 for
//! each used key of an operation, and 20 to 40 for each id, external task id, provider key and credited payment; names are
//! kept as digests. A million users with ten operations, a job and an approved payment each, both with an external name, cost
//! 190 MB at the most, and a tenth of the time of reading.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::{BuildHasher as _, Hash};

use super::{DumpRecord, KeySpace};
use crate::{HoldStatus, LedgerRow, Money, OperationKind, PaymentOrigin, PaymentStatus, Total, UserId, judge_chains};

/// What is wrong between records.
#[derive(Debug)]
pub(super) struct Objection {
    /// The line that it was found in.
    pub(super) line: u64,
    pub(super) problem: Problem,
}

/// What is wrong, as far as it can be said without reading a line again.
#[derive(Debug)]
pub(super) enum Problem {
    Said(String),
    /// The record has the same as that of an earlier line, whose name has to be read there.
    Same {
        text: String,
        other: u64,
    },
    /// What is said of the record of the line itself, whose name has to be read there.
    Of(&'static str),
}

type Judged = Result<(), Objection>;

fn said(line: u64, problem: String) -> Judged {
    Err(Objection { line, problem: Problem::Said(problem) })
}

/// What a record is called.
pub(super) fn name_of(record: &DumpRecord) -> String {
    let user = record.user();
    match record {
        DumpRecord::Account(_) => format!("the account of user {user}"),
        DumpRecord::Generation(generation) => format!("generation {} of user {user}", generation.id),
        DumpRecord::Hold(hold) => format!("hold {} of user {user}", hold.name),
        DumpRecord::Job(job) => format!("job {} of user {user}", job.id),
        DumpRecord::Key(used) => format!("key {} of user {user}", used.key),
        DumpRecord::Ledger(row) => {
            let about = row.reference.as_ref().map_or_else(String::new, |reference| format!(" ({reference})"));
            format!("ledger row {} of user {user}{about}", row.seq)
        }
        DumpRecord::Payment(payment) => format!("payment {} of user {user}", payment.id),
    }
}

/// What is kept of an account.
#[derive(Debug)]
struct Book {
    user: UserId,
    balance: Money,
    held: Money,
    /// How long the user's ledger is, as far as it was read.
    rows: u64,
    /// 0 for none.
    referrer: i64,
    /// How many keys of operations the user used up.
    keys: u32,
}

/// Which kind of records is being read; they come in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    #[default]
    Accounts,
    Generations,
    Holds,
    Jobs,
    Keys,
    Ledger,
    Payments,
    Over,
}

impl Stage {
    fn of(record: &DumpRecord) -> Self {
        match record {
            DumpRecord::Account(_) => Self::Accounts,
            DumpRecord::Generation(_) => Self::Generations,
            DumpRecord::Hold(_) => Self::Holds,
            DumpRecord::Job(_) => Self::Jobs,
            DumpRecord::Key(_) => Self::Keys,
            DumpRecord::Ledger(_) => Self::Ledger,
            DumpRecord::Payment(_) => Self::Payments,
        }
    }
    fn next(self) -> Self {
        match self {
            Self::Accounts => Self::Generations,
            Self::Generations => Self::Holds,
            Self::Holds => Self::Jobs,
            Self::Jobs => Self::Keys,
            Self::Keys => Self::Ledger,
            Self::Ledger => Self::Payments,
            Self::Payments | Self::Over => Self::Over,
        }
    }
}

/// Names by their digests, with the lines that they came in. The digests are keyed anew for each reading, so that nobody can
/// make two that fall together.
type Names = HashMap<u64, u64>;

/// What the ledger says of one payment.
#[derive(Debug)]
struct Booked {
    micros: i64,
    line: u64,
}

/// What was read of the user whose records are being read.
#[derive(Debug, Default)]
struct Reading {
    /// The sum of the open holds, and the line and name of the last of them.
    open: i128,
    last_hold: Option<(u64, String)>,
    /// What the ledger comes to, and the line of its last row.
    balance: i128,
    held: i128,
    last_row: u64,
}

/// Judges records in a dump's order.
#[derive(Debug, Default)]
pub(super) struct Judge {
    digests: RandomState,
    /// Ascending. The account of number n stands in line n + 2: the header is the first one.
    books: Vec<Book>,
    stage: Stage,
    /// The user whose records are read.
    at: usize,
    reading: Reading,
    ids: Names,
    outer: Names,
    /// Digests of the used keys with their operations, user by user.
    keys: Vec<u32>,
    /// Where those of the user begin.
    keys_at: usize,
    credits: HashMap<u64, Booked>,
    refunds: HashMap<u64, Booked>,
}

impl Judge {
    /// How many rows a user's ledger has, as far as it was read.
    pub(super) fn ledger_rows(&self, user: UserId) -> u64 {
        self.find(user).map_or(0, |at| self.books[at].rows)
    }
    fn find(&self, user: UserId) -> Option<usize> {
        self.books.binary_search_by_key(&user, |book| book.user).ok()
    }
    /// The place of the record's user: a few steps on from the last one's, or anywhere when a kind begins.
    fn place(&self, user: UserId) -> Option<usize> {
        let known = |at: &usize| self.books.get(*at).is_some_and(|book| book.user == user);
        (self.at..self.at + 4).find(known).or_else(|| self.find(user))
    }
    fn line_of_account(at: usize) -> u64 {
        at as u64 + 2
    }
    fn digest(&self, name: impl Hash) -> u64 {
        self.digests.hash_one(name)
    }

    /// Judges the record of a line.
    pub(super) fn record(&mut self, line: u64, record: &DumpRecord) -> Judged {
        if let DumpRecord::Account(account) = record {
            self.books.push(Book {
                user: account.user,
                balance: account.balance,
                held: account.held,
                rows: 0,
                referrer: account.referrer.map_or(0, UserId::get),
                keys: 0,
            });
            return Ok(());
        }
        let Some(at) = self.place(record.user()) else {
            return said(line, format!("{} belongs to nobody: there is no account of the user", name_of(record)));
        };
        self.come_to(Stage::of(record))?;
        self.pass_to(at)?;
        match record {
            DumpRecord::Account(_) | DumpRecord::Generation(_) => Ok(()),
            DumpRecord::Hold(hold) => {
                if hold.status == HoldStatus::Open {
                    self.reading.open += i128::from(hold.amount.money().micros());
                    self.reading.last_hold = Some((line, hold.name.to_string()));
                }
                Ok(())
            }
            DumpRecord::Job(job) => {
                let id = self.digest(job.id.as_str());
                is_alone(&mut self.ids, id, line, || format!("{} has the same id", name_of(record)))?;
                let Some(task) = &job.external_task_id else { return Ok(()) };
                let digest = self.digest(task.as_str());
                is_alone(&mut self.outer, digest, line, || {
                    format!("{} has the same external task id {task}", name_of(record))
                })
            }
            DumpRecord::Key(used) => {
                if used.space == KeySpace::Operation {
                    let digest = self.digest((used.key.as_str(), used.used.operation.as_u128()));
                    self.keys.push(short(digest));
                    self.books[at].keys += 1;
                }
                Ok(())
            }
            DumpRecord::Ledger(row) => self.row(line, at, row, record),
            DumpRecord::Payment(_) => self.payment(line, record),
        }
    }
    /// Judges what can be judged only when every record was read.
    pub(super) fn finish(&mut self) -> Judged {
        self.come_to(Stage::Over)
    }

    /// Ends the kinds before this one.
    fn come_to(&mut self, stage: Stage) -> Judged {
        while self.stage < stage {
            match self.stage {
                Stage::Accounts => self.judge_referrers()?,
                Stage::Jobs => (self.ids, self.outer) = (Names::new(), Names::new()),
                Stage::Payments => self.judge_leftover()?,
                Stage::Generations | Stage::Holds | Stage::Keys | Stage::Ledger | Stage::Over => {}
            }
            self.pass_to(self.books.len())?;
            self.at = 0;
            self.stage = self.stage.next();
            if self.stage == Stage::Payments {
                self.keys = Vec::new();
            }
            self.begin_user();
        }
        Ok(())
    }
    /// Goes on to this user; those who are left behind have no more records of the kind.
    fn pass_to(&mut self, at: usize) -> Judged {
        while self.at < at {
            match self.stage {
                Stage::Holds => self.end_holds()?,
                Stage::Ledger => self.end_ledger()?,
                _ => self.at = at - 1,
            }
            self.at += 1;
            self.begin_user();
        }
        Ok(())
    }
    fn begin_user(&mut self) {
        self.reading = Reading::default();
        if self.stage == Stage::Ledger {
            // Sorted, so that a row finds its key by halving.
            let keys = self.keys_of_user();
            if let Some(keys) = self.keys.get_mut(keys) {
                keys.sort_unstable();
            }
        }
    }
    fn keys_of_user(&self) -> std::ops::Range<usize> {
        self.keys_at..self.keys_at + self.books.get(self.at).map_or(0, |book| book.keys as usize)
    }

    /// Every referrer has an account, no circle closes, no chain is too long.
    fn judge_referrers(&self) -> Judged {
        let objection =
            |at: usize, problem: String| Objection { line: Self::line_of_account(at), problem: Problem::Said(problem) };
        let referrer_of = |at: usize| {
            let Book { user, referrer, .. } = self.books[at];
            let Ok(referrer) = UserId::new(referrer) else { return Ok(None) };
            let found = self.find(referrer).map(Some);
            found.ok_or_else(|| objection(at, format!("the referrer {referrer} of user {user} has no account")))
        };
        judge_chains(self.books.len(), referrer_of, |at, what| {
            let Book { user, referrer, .. } = self.books[at];
            objection(at, format!("user {user}, whom user {referrer} brought, {what}"))
        })
    }

    fn end_holds(&self) -> Judged {
        let (Book { user, held, .. }, Reading { open, last_hold, .. }) = (&self.books[self.at], &self.reading);
        if i128::from(held.micros()) == *open {
            return Ok(());
        }
        let (account, open) = (Self::line_of_account(self.at), Total::from_micros(*open));
        match last_hold {
            None => {
                said(account, format!("the account of user {user} says {held} held, and the user has no open hold"))
            }
            Some((line, name)) => said(
                *line,
                format!(
                    "the open holds of user {user} up to {name} come to {open}, the account in line {account} says {held} held"
                ),
            ),
        }
    }

    /// One more row: numbered without a gap, adding up, with a key that its own operation used up.
    fn row(&mut self, line: u64, at: usize, row: &LedgerRow, record: &DumpRecord) -> Judged {
        let name = || name_of(record);
        let rows = self.books[at].rows;
        if row.seq != rows + 1 {
            return said(line, format!("{} stands where row {} should", name(), rows + 1));
        }
        let before = Total::from_micros(self.reading.balance);
        let held_before = Total::from_micros(self.reading.held);
        let balance = self.reading.balance + i128::from(row.balance_change.micros());
        let held = self.reading.held + i128::from(row.held_change.micros());
        let after = (i128::from(row.balance_after.micros()), i128::from(row.held_after.micros()));
        if after != (balance, held) {
            let (changes, afters) = ((row.balance_change, row.held_change), (row.balance_after, row.held_after));
            return said(
                line,
                format!(
                    "{} changes {before} and {held_before} held, which row {rows} left, by {} and {}, and says {} and {} \
                     after it",
                    name(),
                    changes.0,
                    changes.1,
                    afters.0,
                    afters.1,
                ),
            );
        }
        let key = short(self.digest((row.key.as_str(), row.operation.as_u128())));
        if self.keys[self.keys_of_user()].binary_search(&key).is_err() {
            return said(
                line,
                format!("{} has the key {}, and its operation {} used up no such key", name(), row.key, row.operation),
            );
        }
        (self.reading.balance, self.reading.held, self.reading.last_row) = (balance, held, line);
        self.books[at].rows = row.seq;
        let reference = row.reference.as_ref().map_or("", |reference| reference.as_str());
        let digest = self.digest((row.user, reference));
        let micros = row.balance_change.micros();
        match row.kind {
            OperationKind::Payment => book(&mut self.credits, digest, Booked { micros, line }, || {
                format!("{} credits the same payment", name())
            }),
            OperationKind::Refund => book(&mut self.refunds, digest, Booked { micros, line }, || {
                format!("{} takes the same payment back", name())
            }),
            _ => Ok(()),
        }
    }
    fn end_ledger(&mut self) -> Judged {
        let account = Self::line_of_account(self.at);
        let (Book { user, balance, held, rows, .. }, reading) = (&self.books[self.at], &self.reading);
        if (i128::from(balance.micros()), i128::from(held.micros())) != (reading.balance, reading.held) {
            let (left, left_held) = (Total::from_micros(reading.balance), Total::from_micros(reading.held));
            return match rows {
                0 => said(
                    account,
                    format!(
                        "the account of user {user} says {balance} and {held} held, and the user has no ledger row"
                    ),
                ),
                _ => said(
                    reading.last_row,
                    format!(
                        "ledger row {rows} of user {user}, the last, leaves {left} and {left_held} held, the account in line \
                         {account} says {balance} and {held}"
                    ),
                ),
            };
        }
        self.keys_at = self.keys_of_user().end;
        Ok(())
    }

    /// One more payment: its names are its own, and the ledger booked what its state says.
    fn payment(&mut self, line: u64, record: &DumpRecord) -> Judged {
        let DumpRecord::Payment(payment) = record else { return Ok(()) };
        let name = || name_of(record);
        let id = self.digest(payment.id.as_str());
        is_alone(&mut self.ids, id, line, || format!("{} has the same id", name()))?;
        if let Some(provider) = &payment.provider_key {
            let digest = self.digest(provider.as_str());
            is_alone(&mut self.outer, digest, line, || format!("{} has the same provider key {provider}", name()))?;
        }
        let digest = self.digest((payment.user, payment.id.as_str()));
        let amount = payment.amount.money();
        let is_of_here = payment.origin == PaymentOrigin::Here;
        let is_approved = matches!(payment.status, PaymentStatus::Approved | PaymentStatus::Refunded);
        let problem = match (self.credits.remove(&digest), self.refunds.remove(&digest)) {
            (Some(credit), _) if !is_approved => {
                format!("is {}, and the ledger row in line {} credits it", payment.status, credit.line)
            }
            (Some(credit), _) if !is_of_here => {
                format!("was not approved here, and the ledger row in line {} credits it", credit.line)
            }
            (Some(credit), _) if credit.micros != amount.micros() => {
                format!("is of {amount}, and the ledger row in line {} credits another amount", credit.line)
            }
            (None, _) if is_of_here && is_approved => {
                format!("is {}, and no ledger row of its user credits it", payment.status)
            }
            (_, Some(refund)) if payment.status != PaymentStatus::Refunded => {
                format!("is {}, and the ledger row in line {} takes it back", payment.status, refund.line)
            }
            (_, Some(refund)) if refund.micros != -amount.micros() => {
                format!("is of {amount}, and the ledger row in line {} takes another amount back", refund.line)
            }
            (Some(_), None) if payment.status == PaymentStatus::Refunded => {
                "is refunded, and no ledger row of its user takes it back".to_owned()
            }
            _ => return Ok(()),
        };
        said(line, format!("{} {problem}", name()))
    }
    /// Every credit and every refund belongs to a payment.
    fn judge_leftover(&self) -> Judged {
        let left = self.credits.values().chain(self.refunds.values()).map(|booked| booked.line).min();
        match left {
            Some(line) => Err(Objection { line, problem: Problem::Of("books a payment that its user does not have") }),
            None => Ok(()),
        }
    }
}

fn short(digest: u64) -> u32 {
    (digest >> 32) as u32
}

/// Proves that nobody had the name before.
fn is_alone(names: &mut Names, digest: u64, line: u64, text: impl FnOnce() -> String) -> Judged {
    match names.entry(digest) {
        Entry::Vacant(entry) => {
            entry.insert(line);
            Ok(())
        }
        Entry::Occupied(entry) => Err(Objection { line, problem: Problem::Same { text: text(), other: *entry.get() } }),
    }
}

/// Notes what the ledger says of a payment, which it says once.
fn book(books: &mut HashMap<u64, Booked>, digest: u64, booked: Booked, text: impl FnOnce() -> String) -> Judged {
    match books.entry(digest) {
        Entry::Vacant(entry) => {
            entry.insert(booked);
            Ok(())
        }
        Entry::Occupied(entry) => {
            Err(Objection { line: booked.line, problem: Problem::Same { text: text(), other: entry.get().line } })
        }
    }
}
