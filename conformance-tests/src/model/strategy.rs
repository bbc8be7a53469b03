//! Random histories: which operations, how often, with which arguments.

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;
use storage_core::{HoldStatus, JobStatus, Money, PaymentStatus};

use super::op::{History, KEYS, NAMES, Op, Step, USERS};
use super::play::ZONES;

/// An operation with a strategy for each of its arguments.
macro_rules! op {
    ($name:ident { $($field:ident: $strategy:expr),+ }) => {
        ($($strategy,)+).prop_map(|($($field,)+)| Op::$name { $($field),+ }).boxed()
    };
}

fn user() -> impl Strategy<Value = u8> {
    0..USERS
}

fn name() -> impl Strategy<Value = u8> {
    0..NAMES
}

/// Every other call has a key, so that most of the few keys are used more than once.
fn key() -> impl Strategy<Value = Option<u8>> {
    weighted(0.4, 0..KEYS)
}

fn maybe<T: Strategy<Value = u8>>(value: T) -> impl Strategy<Value = Option<u8>> {
    weighted(0.6, value)
}

/// Mostly amounts that can be had; seldom one that cannot be built, or the largest of all.
fn amount() -> impl Strategy<Value = i64> {
    let max = Money::MAX.micros();
    prop_oneof![
        12 => select(vec![1_000_000, 2_500_000, 5_000_000, 1]),
        1 => select(vec![0, -1, max, max - 1, max + 1]),
    ]
}

/// Seconds from the beginning of the history, around where its clock is.
fn seconds() -> impl Strategy<Value = i64> {
    select(vec![0, 1, 60, 3_600, 86_400, 200_000])
}

/// Small pages, so that lists have several; seldom a size that cannot be asked for.
fn size() -> impl Strategy<Value = u32> {
    prop_oneof![12 => 1..4_u32, 1 => select(vec![0, 1_000, 1_001])]
}

/// Small steps, steps over midnight, and now and then a step back.
fn wait() -> impl Strategy<Value = i64> {
    select(vec![1, 60, 3_600, 18_000, 43_200, 86_400, 90_000, -1, -86_400])
}

fn job_status() -> impl Strategy<Value = JobStatus> {
    select(JobStatus::ALL.to_vec())
}

fn payment_status() -> impl Strategy<Value = PaymentStatus> {
    use PaymentStatus::{Approved, Cancelled, Pending, Refunded, Rejected};
    select(vec![Approved, Approved, Refunded, Rejected, Cancelled, Pending])
}

fn money() -> Vec<(u32, BoxedStrategy<Op>)> {
    vec![
        (10, op!(Credit { user: user(), micros: amount(), memo: any::<bool>(), key: key() })),
        (6, op!(Debit { user: user(), micros: amount(), memo: any::<bool>(), key: key() })),
        (3, op!(SetBalance { user: user(), micros: amount(), memo: any::<bool>(), key: key() })),
        (2, op!(GetBalance { user: user() })),
        (
            9,
            op!(Reserve {
                user: user(),
                hold: name(),
                micros: amount(),
                expires: weighted(0.5, seconds()),
                memo: any::<bool>(),
                key: key()
            }),
        ),
        (6, op!(Commit { user: user(), hold: name(), micros: weighted(0.4, amount()), key: key() })),
        (6, op!(Release { user: user(), hold: name(), key: key() })),
        (1, op!(FindHold { user: user(), hold: name() })),
        (
            2,
            op!(ListHolds {
                user: maybe(user()),
                status: weighted(0.5, select(vec![HoldStatus::Open, HoldStatus::Committed, HoldStatus::Released])),
                older: weighted(0.4, seconds()),
                size: size()
            }),
        ),
        (4, op!(Sweep { limit: size() })),
        (2, op!(Ledger { user: user(), size: size() })),
        (2, op!(Audit { user: maybe(user()) })),
    ]
}

fn users_and_quota() -> Vec<(u32, BoxedStrategy<Op>)> {
    vec![
        (2, op!(GetUser { user: user() })),
        (2, op!(FindUser { user: user() })),
        (1, op!(ListUsers { size: size() })),
        (1, op!(GetLanguage { user: user() })),
        (3, op!(SetLanguage { user: user(), language: 0..3_u8, key: key() })),
        (1, op!(HasGift { user: user() })),
        (3, op!(ClaimGift { user: user(), key: key() })),
        (1, op!(TakenToday { user: user() })),
        (2, op!(Remaining { user: user() })),
        (8, op!(Take { user: user(), key: weighted(0.7, 0..KEYS) })),
        (5, op!(GiveBack { user: user(), take: 0..KEYS })),
        (3, op!(Bonus { user: user(), count: select(vec![1, 5, 1_000_000, 0, 1_000_001]), key: key() })),
        (1, op!(GetLimit { user: user() })),
        (2, op!(SetLimit { user: user(), micros: amount(), key: key() })),
        (1, op!(Spent { user: user() })),
        (1, op!(LimitLeft { user: user() })),
        (3, op!(Refer { user: user(), referrer: user(), bonus: weighted(0.5, 0..4_u32), key: key() })),
        (1, op!(GetReferrer { user: user() })),
        (1, op!(Referrals { user: user(), size: size() })),
    ]
}

fn records() -> Vec<(u32, BoxedStrategy<Op>)> {
    vec![
        (
            7,
            op!(AddJob {
                user: user(),
                job: maybe(name()),
                task: weighted(0.4, name()),
                text: 0..3_u8,
                micros: amount(),
                key: key()
            }),
        ),
        (
            8,
            op!(UpdateJob {
                job: name(),
                status: job_status(),
                urls: weighted(0.3, 0..3_u8),
                error: weighted(0.3, 0..3_u8),
                task: weighted(0.3, name()),
                key: key()
            }),
        ),
        (1, op!(GetJob { job: name() })),
        (1, op!(FindTask { task: name() })),
        (2, op!(ListJobs { user: maybe(user()), statuses: 0..32_u8, size: size() })),
        (5, op!(Record { user: user(), id: maybe(name()), text: 0..3_u8, micros: amount() })),
        (1, op!(History { user: user(), size: size() })),
        (
            7,
            op!(AddPayment {
                user: user(),
                micros: amount(),
                payment: maybe(name()),
                provider: weighted(0.3, name()),
                notes: weighted(0.3, 0..3_u8),
                key: key()
            }),
        ),
        (
            9,
            op!(Mark {
                payment: name(),
                status: payment_status(),
                admin: weighted(0.4, user()),
                notes: weighted(0.3, 0..3_u8),
                key: key()
            }),
        ),
        (3, op!(Refund { payment: name(), admin: weighted(0.4, user()), notes: weighted(0.3, 0..3_u8), key: key() })),
        (1, op!(GetPayment { payment: name() })),
        (2, op!(ListPayments { user: maybe(user()), status: weighted(0.5, payment_status()), size: size() })),
        (1, op!(ImportBalance { user: user(), micros: amount(), since: weighted(0.5, select(vec![-60, 60])) })),
        (1, op!(ImportLanguage { user: user(), language: 0..3_u8 })),
        (1, op!(ImportQuota { user: user(), day: weighted(0.7, 20_467..20_470_i64), used: 0..3_u32, bank: 0..3_u64 })),
        (1, op!(ImportReferral { user: user(), referrer: user() })),
        (1, op!(ForeignCursor { user: user() })),
        (1, Just(Op::Ping).boxed()),
        (1, Just(Op::Dump).boxed()),
    ]
}

/// What the surroundings of one handle allow.
fn turns(several: bool) -> Vec<(u32, BoxedStrategy<Op>)> {
    let mut turns = vec![(6, op!(Wait { seconds: wait() }))];
    if several {
        turns.extend([
            (1, Just(Op::Close).boxed()),
            (2, Just(Op::Reopen).boxed()),
            (1, Just(Op::ReopenAll).boxed()),
            (1, Just(Op::Move).boxed()),
        ]);
    }
    turns
}

/// Histories of at most so many steps; with several handles, zones and reopening, or with one handle in UTC.
pub(crate) fn histories(length: usize, several: bool) -> impl Strategy<Value = History> {
    let all = [turns(several), money(), users_and_quota(), records()].concat();
    let handles = if several { 1..4_u8 } else { 1..2 };
    let zones = if several { 0..ZONES } else { 0..1 };
    let step = (0..3_u8, proptest::strategy::Union::new_weighted(all)).prop_map(|(on, op)| Step { on, op });
    (handles, zones, vec(step, 0..=length)).prop_map(|(handles, zone, steps)| History { handles, zone, steps })
}
