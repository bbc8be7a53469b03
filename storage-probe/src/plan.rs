//! Which operations a lane does, in which order: decided by the seed and the model alone, never by a store.
//!
//! Every operation that the plan lets succeed succeeds whenever it is tried in its turn, and every one that it lets
//! be refused is refused at any later time too. So a run that begins again from the start finds each earlier
//! operation either replayed by its key or refused once more.

use std::collections::BTreeSet;

use clap::ValueEnum;
use storage_core::{Applied, Error};

use crate::lane::{FIRST_FRESH, FRESH, Lane, MAIN, NOBODY, SWEPT, day, moment, user_of_day};
use crate::model::Model;
use crate::op::{Misuse, Op, Outcome};
use crate::random::Random;

/// What one operation of a lane is, and what it must come to.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// The operation.
    pub(crate) op: Op,
    /// What it comes to.
    pub(crate) outcome: Outcome,
}

impl Step {
    /// Whether it must be refused, and with this error. Behind an attempt without an answer a refusal is certain only when
    /// the store says so.
    pub(crate) fn lets(&self, error: &Error) -> bool {
        matches!(self.outcome, Outcome::Refused(kind) if error.kind().name() == kind) && error.applied() == Applied::No
    }
}

/// In which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Order {
    /// Shuffled by the seed, block by block
    #[default]
    Mixed,
    /// First each kind once, the same for every seed: 34 operations; shuffled from there on
    Each,
}

/// How many operations the order `each` begins with.
#[cfg(test)]
const KINDS: u64 = 34;

#[derive(Clone, Copy, Debug)]
enum Card {
    Credit,
    Debit,
    SetBalance,
    Reserve,
    Commit,
    CommitPart,
    Release,
    Swept,
    Sweep,
    Take,
    Return,
    Bonus,
    Gift,
    Language,
    Limit,
    AddJob,
    UpdateJob,
    History,
    AddPayment,
    Approve,
    Reject,
    Refund,
    Refer,
    GetUser,
    Misuse,
}

/// Each block of so many operations does everything at least once.
const DECK: [Card; 32] = [
    Card::Credit,
    Card::Credit,
    Card::Debit,
    Card::SetBalance,
    Card::Reserve,
    Card::Reserve,
    Card::Reserve,
    Card::Commit,
    Card::CommitPart,
    Card::Release,
    Card::Swept,
    Card::Swept,
    Card::Sweep,
    Card::Take,
    Card::Take,
    Card::Return,
    Card::Bonus,
    Card::Gift,
    Card::Language,
    Card::Limit,
    Card::AddJob,
    Card::UpdateJob,
    Card::UpdateJob,
    Card::History,
    Card::AddPayment,
    Card::AddPayment,
    Card::Approve,
    Card::Reject,
    Card::Refund,
    Card::Refer,
    Card::GetUser,
    Card::Misuse,
];

/// A credit of up to 50.
const CREDIT: i64 = 50_000_000;
/// Any other amount, up to 12.
const PART: i64 = 12_000_000;
/// More than anybody has.
pub(crate) const TOO_MUCH: i64 = 900_000_000_000_000_000;
/// An expiry that no run reaches: 2099-01-01.
const FAR: i64 = 4_070_908_800_000_000;

/// Each kind of operation once, and what it needs: short enough to be broken at every single message.
fn each(operation: u64) -> Option<Op> {
    let op = match operation {
        0 => Op::GetUser { role: FIRST_FRESH },
        1 => Op::Credit { role: MAIN, amount: CREDIT, memo: true },
        2 => Op::Debit { amount: 7_250_001, memo: true },
        3 => Op::SetBalance { balance: 30_000_000 },
        4 => Op::Reserve { role: MAIN, amount: 5_000_000, expires: None },
        5 => Op::Commit { hold: 4, amount: None },
        6 => Op::Reserve { role: MAIN, amount: 6_000_000, expires: Some(FAR) },
        7 => Op::Commit { hold: 6, amount: Some(2_500_000) },
        8 => Op::Reserve { role: MAIN, amount: 3_000_001, expires: None },
        9 => Op::Release { hold: 8 },
        10 => Op::Credit { role: SWEPT, amount: CREDIT, memo: false },
        11 => Op::Reserve { role: SWEPT, amount: 4_000_000, expires: Some(moment(12)) },
        12 => Op::Sweep,
        13 | 15 => Op::Take { role: MAIN },
        14 => Op::Return { take: 13 },
        16 => Op::Bonus { count: 3 },
        17 => Op::Gift { role: MAIN },
        18 => Op::Language { role: MAIN, tag: "en" },
        19 => Op::Limit { role: MAIN, limit: 90_000_000 },
        20 => Op::AddPayment { amount: 10_000_000, full: true },
        21 => Op::Mark { payment: 20, status: "approved", noted: true },
        22 => Op::Refund { payment: 20 },
        23 => Op::AddPayment { amount: 11_000_000, full: false },
        24 => Op::Mark { payment: 23, status: "rejected", noted: true },
        25 => Op::AddJob { by_task: false, price: 1_500_000 },
        26 => Op::UpdateJob { job: 25, by_task: false, status: "running", task: true },
        27 => Op::UpdateJob { job: 25, by_task: false, status: "completed", task: false },
        28 => Op::AddJob { by_task: true, price: 2_500_000 },
        29 => Op::UpdateJob { job: 28, by_task: true, status: "failed", task: false },
        30 => Op::History { price: 1_500_000 },
        31 => Op::Refer { role: FIRST_FRESH + 1, referrer: MAIN, bonus: Some(3) },
        32 => Op::Misuse(Misuse::DebitTooMuch { role: MAIN }),
        33 => Op::Misuse(Misuse::ReusedKey { credit: 1, amount: TOO_MUCH }),
        _ => return None,
    };
    Some(op)
}

/// Hands out a lane's operations one after the other.
#[derive(Debug)]
pub(crate) struct Plan {
    lane: Lane,
    order: Order,
    model: Model,
    next: u64,
    deck: Vec<Card>,
    fresh: u32,
    returned: BTreeSet<u64>,
}

impl Plan {
    /// From the first operation on.
    pub(crate) fn new(lane: Lane, order: Order) -> Self {
        // Those whom `each` names are not handed out again.
        let fresh = if order == Order::Each { 2 } else { 0 };
        let (deck, returned) = (Vec::new(), BTreeSet::new());
        Self { lane, order, model: Model::new(lane), next: 0, deck, fresh, returned }
    }
    /// Whose they are.
    pub(crate) fn lane(&self) -> Lane {
        self.lane
    }
    /// The state after the operations handed out so far.
    pub(crate) fn model(&self) -> &Model {
        &self.model
    }
    /// The next operation.
    pub(crate) fn step(&mut self) -> Step {
        let operation = self.next;
        self.next += 1;
        let mut random = Random::of(&[u64::from(self.lane.seed), u64::from(self.lane.task), operation]);
        let listed = if self.order == Order::Each { each(operation) } else { None };
        let op = listed.unwrap_or_else(|| self.choose(operation, &mut random));
        if let Op::Return { take } = op {
            self.returned.insert(take);
        }
        let outcome = self.model.apply(operation, &op);
        Step { op, outcome }
    }
    /// The first operations.
    pub(crate) fn steps(lane: Lane, order: Order, count: u64) -> (Vec<Step>, BTreeSet<u64>) {
        let mut plan = Self::new(lane, order);
        let steps = (0..count).map(|_| plan.step()).collect();
        (steps, plan.returned)
    }

    fn choose(&mut self, operation: u64, random: &mut Random) -> Op {
        let (day, place) = day(operation);
        // Two takes more than a day has. Nobody else touches the day's user, so that the refusals stay refusals.
        if day % 4 == 1 && place < 7 {
            return Op::Take { role: user_of_day(day) };
        }
        if self.deck.is_empty() {
            self.deck = DECK.to_vec();
            random.shuffle(&mut self.deck);
        }
        match self.deck.pop().unwrap_or(Card::Credit) {
            Card::Credit => Self::credit(random),
            Card::Debit => match self.part(random) {
                Some(amount) => Op::Debit { amount, memo: random.once_in(2) },
                None => Self::credit(random),
            },
            Card::SetBalance if random.once_in(3) => Op::SetBalance { balance: self.model.balance(MAIN) },
            Card::SetBalance => Op::SetBalance { balance: random.amount(CREDIT) },
            Card::Reserve => self.reserve(random),
            Card::Commit => match self.open_hold(random) {
                Some((hold, amount)) => Op::Commit { hold, amount: random.once_in(3).then_some(amount) },
                None => self.reserve(random),
            },
            Card::CommitPart => match self.open_hold(random) {
                Some((hold, amount)) if amount > 1 => Op::Commit { hold, amount: Some(random.amount(amount - 1)) },
                _ => self.reserve(random),
            },
            Card::Release => match self.open_hold(random) {
                Some((hold, _)) => Op::Release { hold },
                None => self.reserve(random),
            },
            Card::Swept => self.swept(operation, random),
            Card::Sweep => Op::Sweep,
            Card::Take => self.take(operation, random),
            Card::Return => self.give_back(operation, random),
            Card::Bonus => Op::Bonus { count: u32::try_from(random.below(5)).unwrap_or(0) + 1 },
            Card::Gift => Op::Gift { role: self.anyone(random) },
            Card::Language => self.language(random),
            Card::Limit => Op::Limit { role: self.anyone(random), limit: random.amount(CREDIT) },
            Card::AddJob => Op::AddJob { by_task: random.once_in(3), price: random.amount(PART) },
            Card::UpdateJob => self.update_job(random),
            Card::History => Op::History { price: random.amount(PART) },
            Card::AddPayment => Self::add_payment(random),
            Card::Approve => self.approve(random),
            Card::Reject => match self.payment_in("pending", random) {
                Some(payment) => {
                    let status = random.pick(&["rejected", "rejected", "cancelled"]).unwrap_or("rejected");
                    Op::Mark { payment, status, noted: random.once_in(2) }
                }
                None => Self::add_payment(random),
            },
            Card::Refund => self.refund(random),
            Card::Refer => self.refer(random),
            Card::GetUser => Op::GetUser { role: self.fresh() },
            Card::Misuse => Op::Misuse(self.misuse(random)),
        }
    }

    fn credit(random: &mut Random) -> Op {
        Op::Credit { role: MAIN, amount: random.amount(CREDIT), memo: random.once_in(2) }
    }
    fn part(&self, random: &mut Random) -> Option<i64> {
        let balance = self.model.balance(MAIN);
        (balance > 0).then(|| random.amount(balance.min(PART)))
    }
    fn reserve(&self, random: &mut Random) -> Op {
        match self.part(random) {
            Some(amount) => Op::Reserve { role: MAIN, amount, expires: random.once_in(3).then_some(FAR) },
            None => Self::credit(random),
        }
    }
    fn open_hold(&self, random: &mut Random) -> Option<(u64, i64)> {
        let open: Vec<(u64, i64)> = self
            .model
            .holds
            .iter()
            .filter(|(_, hold)| hold.role == MAIN && hold.status == "open")
            .map(|(id, hold)| (*id, hold.amount))
            .collect();
        random.pick(&open)
    }
    fn swept(&self, operation: u64, random: &mut Random) -> Op {
        let free = self.model.never_held();
        if free == 0 {
            return Op::Credit { role: SWEPT, amount: random.amount(CREDIT), memo: false };
        }
        // Expires a few operations later, when a sweep may or may not come along.
        let later = u64::try_from(random.below(12)).unwrap_or(0);
        Op::Reserve { role: SWEPT, amount: random.amount(free), expires: Some(moment(operation + later)) }
    }
    fn take(&self, operation: u64, random: &mut Random) -> Op {
        let left = self.model.accounts.get(&MAIN).map_or(5, |account| account.remaining_at(moment(operation)));
        if left > 0 { Op::Take { role: MAIN } } else { Op::Bonus { count: 1 + u32::from(random.once_in(2)) } }
    }
    fn give_back(&self, operation: u64, random: &mut Random) -> Op {
        let takes: Vec<u64> = self.model.takes.keys().copied().collect();
        random.pick(&takes).map_or_else(|| self.take(operation, random), |take| Op::Return { take })
    }
    fn fresh(&mut self) -> u32 {
        let role = FIRST_FRESH + self.fresh % FRESH;
        self.fresh += 1;
        role
    }
    fn fresh_users(&self) -> Vec<u32> {
        self.model.accounts.range(FIRST_FRESH..FIRST_FRESH + FRESH).map(|(role, _)| *role).collect()
    }
    fn anyone(&self, random: &mut Random) -> u32 {
        if random.once_in(2) { MAIN } else { random.pick(&self.fresh_users()).unwrap_or(MAIN) }
    }
    fn language(&self, random: &mut Random) -> Op {
        let role = self.anyone(random);
        let spoken = self.model.accounts.get(&role).map_or("ru", |account| account.language);
        let others: Vec<&'static str> =
            ["en", "uk", "pt-br", "zh-Hant"].into_iter().filter(|tag| *tag != spoken).collect();
        Op::Language { role, tag: random.pick(&others).unwrap_or("en") }
    }
    fn update_job(&self, random: &mut Random) -> Op {
        let unfinished: Vec<(u64, bool, &'static str, bool)> = self
            .model
            .jobs
            .iter()
            .filter(|(_, job)| matches!(job.status, "pending" | "running"))
            .map(|(id, job)| (*id, job.by_task, job.status, job.task.is_none()))
            .collect();
        let Some((job, by_task, status, nameless)) = random.pick(&unfinished) else {
            return Op::AddJob { by_task: random.once_in(3), price: random.amount(PART) };
        };
        let next: &[&'static str] = match status {
            "pending" => &["running", "running", "running", "completed", "failed", "cancelled"],
            _ => &["completed", "completed", "failed", "cancelled"],
        };
        let status = random.pick(next).unwrap_or("cancelled");
        Op::UpdateJob { job, by_task, status, task: nameless && random.once_in(2) }
    }
    fn add_payment(random: &mut Random) -> Op {
        Op::AddPayment { amount: random.amount(CREDIT), full: random.once_in(2) }
    }
    fn payment_in(&self, status: &str, random: &mut Random) -> Option<u64> {
        let there: Vec<u64> =
            self.model.payments.iter().filter(|(_, payment)| payment.status == status).map(|(id, _)| *id).collect();
        random.pick(&there)
    }
    fn approve(&self, random: &mut Random) -> Op {
        match self.payment_in("pending", random) {
            Some(payment) => Op::Mark { payment, status: "approved", noted: random.once_in(2) },
            None => Self::add_payment(random),
        }
    }
    fn refund(&self, random: &mut Random) -> Op {
        let balance = self.model.balance(MAIN);
        let payment = self
            .payment_in("approved", random)
            .filter(|id| self.model.payments.get(id).is_some_and(|payment| payment.amount <= balance));
        payment.map_or_else(|| self.approve(random), |payment| Op::Refund { payment })
    }
    fn refer(&mut self, random: &mut Random) -> Op {
        let known = self.fresh_users();
        let alone: Vec<u32> = known
            .iter()
            .copied()
            .filter(|role| self.model.accounts.get(role).is_none_or(|account| account.brought.is_none()))
            .collect();
        let role = match random.pick(&alone) {
            Some(role) if random.once_in(2) => role,
            _ => self.fresh(),
        };
        if self.model.accounts.get(&role).is_some_and(|account| account.brought.is_some()) {
            return Op::Bonus { count: 1 };
        }
        // Referrers have lower numbers than those they bring, so that no circle closes.
        let older: Vec<u32> = known.into_iter().filter(|other| *other < role).collect();
        let referrer = if random.once_in(2) { MAIN } else { random.pick(&older).unwrap_or(MAIN) };
        let bonus = u32::try_from(random.below(4)).unwrap_or(0);
        Op::Refer { role, referrer, bonus: (bonus > 0).then_some(bonus) }
    }
    fn misuse(&self, random: &mut Random) -> Misuse {
        let role = if random.once_in(2) { MAIN } else { NOBODY };
        let ended = |status: &str, random: &mut Random| {
            let there: Vec<u64> = self
                .model
                .holds
                .iter()
                .filter(|(_, hold)| hold.role == MAIN && hold.status == status)
                .map(|(id, _)| *id)
                .collect();
            random.pick(&there)
        };
        let wanted = match random.below(11) {
            0 => None,
            1 => Some(Misuse::ReserveTooMuch { role }),
            2 => random.pick(&self.model.credits).map(|credit| Misuse::ReusedKey { credit, amount: TOO_MUCH }),
            3 => Some(Misuse::ReferSelf),
            4 => {
                let brought: Vec<(u32, u32)> = self
                    .model
                    .accounts
                    .iter()
                    .filter_map(|(role, account)| account.brought.map(|brought| (*role, brought.by)))
                    .collect();
                let other = |by| if by == MAIN { SWEPT } else { MAIN };
                random.pick(&brought).map(|(role, by)| Misuse::ReferAgain { role, referrer: other(by) })
            }
            5 => ended("released", random).map(|hold| Misuse::EndAgain { hold, commit: true }),
            6 => ended("committed", random).map(|hold| Misuse::EndAgain { hold, commit: false }),
            7 => {
                let final_jobs: Vec<(u64, bool)> = self
                    .model
                    .jobs
                    .iter()
                    .filter(|(_, job)| matches!(job.status, "completed" | "failed" | "cancelled"))
                    .map(|(id, job)| (*id, job.by_task))
                    .collect();
                random.pick(&final_jobs).map(|(job, by_task)| Misuse::ReopenJob { job, by_task })
            }
            8 => self.payment_in("rejected", random).map(|payment| Misuse::ApproveRejected { payment }),
            _ => Some(Misuse::NotThere { what: u8::try_from(random.below(4)).unwrap_or(0) }),
        };
        wanted.unwrap_or(Misuse::DebitTooMuch { role })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes() -> impl Iterator<Item = Lane> {
        (1..40).map(|seed| Lane { seed, task: seed % 3 })
    }

    #[test]
    fn the_same_lane_has_the_same_plan() {
        for lane in lanes() {
            let (first, again) = (Plan::steps(lane, Order::Mixed, 200).0, Plan::steps(lane, Order::Mixed, 200).0);
            assert!(first.iter().zip(&again).all(|(a, b)| a.op == b.op && a.outcome == b.outcome));
            let (shorter, _) = Plan::steps(lane, Order::Mixed, 50);
            assert!(shorter.iter().zip(&first).all(|(a, b)| a.op == b.op), "a longer run begins like a shorter one");
        }
    }

    #[test]
    fn two_hundred_operations_do_everything() {
        for lane in lanes() {
            let (steps, _) = Plan::steps(lane, Order::Mixed, 200);
            let words: BTreeSet<&str> = steps.iter().map(|step| step.op.word()).collect();
            assert!(words.len() >= 24, "{lane:?} lacks some of 25: {words:?}");
            let exhausted = |step: &&Step| step.outcome == Outcome::Refused("QuotaExhausted");
            assert!(steps.iter().filter(exhausted).count() >= 2, "{lane:?}");
        }
        let all: BTreeSet<&str> =
            lanes().flat_map(|lane| Plan::steps(lane, Order::Mixed, 200).0).map(|step| step.op.word()).collect();
        assert_eq!(all.len(), 25, "{all:?}");
    }

    #[test]
    fn each_kind_is_done_first() {
        let lane = Lane { seed: 1, task: 0 };
        let (steps, _) = Plan::steps(lane, Order::Each, KINDS + 100);
        let (first, rest) = steps.split_at(usize::try_from(KINDS).unwrap());
        let words: BTreeSet<&str> = first.iter().map(|step| step.op.word()).collect();
        assert_eq!(words.len(), 25, "{words:?}");
        for step in first {
            let refused = matches!(step.outcome, Outcome::Refused(_));
            assert_eq!(refused, matches!(step.op, Op::Misuse(_)), "{step:?}");
        }
        assert_eq!(each(KINDS), None);
        let (other, _) = Plan::steps(Lane { seed: 2, task: 3 }, Order::Each, KINDS);
        assert!(other.iter().zip(first).all(|(a, b)| a.op == b.op), "every seed and task alike");
        assert!(rest.iter().all(|step| !matches!(step.op, Op::GetUser { role } if role < FIRST_FRESH + 2)));
    }

    #[test]
    fn only_what_stays_refused_is_refused() {
        for lane in lanes() {
            for step in Plan::steps(lane, Order::Mixed, 400).0 {
                if let Outcome::Refused(_) = step.outcome {
                    assert!(matches!(step.op, Op::Misuse(_) | Op::Take { .. }), "{step:?}");
                    assert!(!matches!(step.op, Op::Take { role: MAIN }), "{step:?}");
                }
            }
        }
    }

    #[test]
    fn no_step_makes_money_negative_or_loses_any() {
        for lane in lanes() {
            let mut plan = Plan::new(lane, Order::Mixed);
            for _ in 0..400 {
                plan.step();
                for (role, account) in &plan.model.accounts {
                    let open = |hold: &&crate::model::Hold| hold.role == *role && hold.status == "open";
                    let held: i64 = plan.model.holds.values().filter(open).map(|hold| hold.amount).sum();
                    assert!(account.balance >= 0 && account.held == held);
                    assert_eq!(account.balance, account.rows.iter().map(|row| row.change).sum::<i64>());
                    assert_eq!(account.held, account.rows.iter().map(|row| row.held_change).sum::<i64>());
                }
            }
        }
    }
}
