//! What a contestant is asked to do, and who asks for what.

use std::sync::atomic::{AtomicU64, Ordering};

use clap::ValueEnum;

use crate::draw::Draw;

/// What every credit and debit moves: 0.01, in millionths.
pub(super) const MICROS: i64 = 10_000;
/// What every user has at the beginning, in whole units: more than any run takes away.
pub(super) const UNITS: u64 = 1_000_000;

/// One operation. A job and a payment have their names from outside, as jobs and payments do.
#[derive(Debug)]
pub(super) enum Op {
    /// Reads a user's balance.
    Balance { user: i64 },
    /// Reads a user with language and gift.
    User { user: i64 },
    /// Adds to a balance.
    Credit { user: i64 },
    /// Takes from a balance what is there, and keeps a ledger row.
    Debit { user: i64, key: String },
    /// Stores a job.
    AddJob { user: i64, job: String },
    /// A pending job is running from now on.
    Run { job: String },
    /// Approves a pending payment: its state, the user's balance, a ledger row.
    Approve { user: i64, payment: String },
}

/// Looks at what was read, so that the compiler does not leave the reading out.
pub(super) fn seen<T>(read: T) {
    std::hint::black_box(read);
}

/// What tasks do all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Work {
    Balance,
    Credit,
    Debit,
    /// 60 % balance, 10 % user, 10 % debit, 10 % add a job, 5 % job status, 5 % approve a payment.
    Mix,
}

/// Payments that wait for an approval; each contestant has its own.
#[derive(Debug, Default)]
pub(super) struct Pending {
    approved: AtomicU64,
    added: AtomicU64,
}

impl Pending {
    /// The numbers of the payments to add, so that so many wait. Whoever asks adds them.
    pub(super) fn top_up(&self, wanted: u64) -> std::ops::Range<u64> {
        let added = self.added.load(Ordering::Acquire);
        // A slice that ran out of payments counted on.
        let approved = self.approved.load(Ordering::Acquire).min(added);
        self.approved.store(approved, Ordering::Release);
        let upto = added.max(approved + wanted);
        self.added.store(upto, Ordering::Release);
        added..upto
    }
    fn next(&self) -> Option<u64> {
        let next = self.approved.fetch_add(1, Ordering::AcqRel);
        (next < self.added.load(Ordering::Acquire)).then_some(next)
    }
}

/// A payment's id, and who pays.
pub(super) fn payment(number: u64, users: u32) -> (String, i64) {
    (format!("payment-{number}"), i64::try_from(number % u64::from(users.max(1))).unwrap_or(0) + 1)
}

/// One task's operations.
#[derive(Debug)]
pub(super) struct Source {
    work: Work,
    users: u32,
    draw: Draw,
    /// Jobs that this task added and that are pending: no other task moves them.
    jobs: Vec<String>,
}

impl Source {
    pub(super) fn new(work: Work, users: u32) -> Self {
        Self { work, users, draw: Draw::new(), jobs: Vec::new() }
    }

    /// The next operation; none when no payment waits any more, because whatever else was done would not be the mix.
    pub(super) fn next(&mut self, pending: &Pending) -> Option<Op> {
        let user = self.draw.user(self.users);
        Some(match self.work {
            Work::Balance => Op::Balance { user },
            Work::Credit => Op::Credit { user },
            Work::Debit => self.debit(user),
            Work::Mix => match self.draw.below(100) {
                0..60 => Op::Balance { user },
                60..70 => Op::User { user },
                70..80 => self.debit(user),
                80..85 => match self.jobs.pop() {
                    Some(job) => Op::Run { job },
                    None => self.add_job(user),
                },
                85..95 => self.add_job(user),
                _ => {
                    let number = pending.next()?;
                    let (payment, user) = payment(number, self.users);
                    Op::Approve { user, payment }
                }
            },
        })
    }

    fn debit(&mut self, user: i64) -> Op {
        Op::Debit { user, key: format!("{:016x}{:016x}", self.draw.number(), self.draw.number()) }
    }
    fn add_job(&mut self, user: i64) -> Op {
        let job = format!("job-{:016x}", self.draw.number());
        Op::AddJob { user, job }
    }
    /// To be told of every job that was stored.
    pub(super) fn added(&mut self, job: String) {
        self.jobs.push(job);
    }
}

/// What a job holds beside its id, the same for every contestant.
pub(super) mod job {
    pub(in crate::json) const MODEL_ID: &str = "model-7";
    pub(in crate::json) const MODEL_NAME: &str = "Model Seven";
    pub(in crate::json) const PARAMS: &str = r#"{"prompt":"a cat on a roof at night","steps":30,"seed":12345}"#;
    pub(in crate::json) const PRICE_MICROS: i64 = 500_000;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payments_are_approved_once_and_run_out() {
        let pending = Pending::default();
        assert_eq!(pending.top_up(2), 0..2);
        assert_eq!([pending.next(), pending.next(), pending.next()], [Some(0), Some(1), None]);
        assert_eq!(pending.top_up(3), 2..5);
        assert_eq!(pending.next(), Some(2));
    }

    #[test]
    fn a_job_runs_after_it_was_added() {
        let (mut source, pending) = (Source::new(Work::Mix, 10), Pending::default());
        pending.top_up(1000);
        let mut known = std::collections::HashSet::new();
        for _ in 0..5000 {
            match source.next(&pending).unwrap() {
                Op::AddJob { job, .. } => {
                    known.insert(job.clone());
                    source.added(job);
                }
                Op::Run { job } => assert!(known.remove(&job)),
                _ => {}
            }
        }
    }
}
