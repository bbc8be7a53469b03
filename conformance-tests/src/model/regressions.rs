//! Histories that once showed a difference. A failing run prints one as code: paste it here as a function, and every
//! backend plays it from then on.

use storage_core::{JobStatus, PaymentStatus};

use super::op::{History, Op, Step};

/// The histories, each with what it showed.
pub(crate) fn histories() -> Vec<(&'static str, History)> {
    vec![
        ("everything that moves money, and records with minted ids", one_of_each()),
        ("an imported balance uses its minted key up, and keeps the other system's time", imported_balances()),
        ("a provider key and an id of two payments: the provider's word comes first", id_and_provider_key()),
        ("a clock that goes back and forward, with takes and generations on both days", clock_goes_back()),
    ]
}

#[rustfmt::skip]
fn one_of_each() -> History {
    History {
        handles: 1,
        zone: 0,
        steps: vec![
            Step { on: 0, op: Op::Credit { user: 0, micros: 5_000_000, memo: true, key: Some(0) } },
            Step { on: 0, op: Op::Reserve { user: 0, hold: 0, micros: 2_500_000, expires: Some(60), memo: true, key: None } },
            Step { on: 0, op: Op::Wait { seconds: 60 } },
            Step { on: 0, op: Op::Sweep { limit: 1 } },
            Step { on: 0, op: Op::AddPayment { user: 0, micros: 1, payment: None, provider: Some(0), notes: None, key: None } },
            Step { on: 0, op: Op::Mark { payment: 5, status: PaymentStatus::Approved, admin: Some(1), notes: None, key: None } },
            Step { on: 0, op: Op::Refund { payment: 5, admin: None, notes: Some(1), key: None } },
            Step { on: 0, op: Op::AddJob { user: 1, job: None, task: None, text: 0, micros: 1, key: None } },
            Step { on: 0, op: Op::UpdateJob { job: 5, status: JobStatus::Running, urls: None, error: None, task: Some(2), key: None } },
        ],
    }
}

#[rustfmt::skip]
fn imported_balances() -> History {
    History {
        handles: 1,
        zone: 0,
        steps: vec![
            Step { on: 0, op: Op::GetUser { user: 0 } },
            Step { on: 0, op: Op::ImportBalance { user: 0, micros: 1_000_000, since: Some(-60) } },
            Step { on: 0, op: Op::ImportBalance { user: 1, micros: 0, since: Some(60) } },
        ],
    }
}

#[rustfmt::skip]
fn id_and_provider_key() -> History {
    History {
        handles: 1,
        zone: 0,
        steps: vec![
            Step { on: 0, op: Op::AddPayment { user: 0, micros: 1_000_000, payment: None, provider: Some(1), notes: None, key: None } },
            Step { on: 0, op: Op::AddPayment { user: 0, micros: 1_000_000, payment: Some(0), provider: None, notes: None, key: None } },
            Step { on: 0, op: Op::AddPayment { user: 0, micros: 1_000_000, payment: Some(0), provider: Some(1), notes: None, key: None } },
        ],
    }
}

#[rustfmt::skip]
fn clock_goes_back() -> History {
    let take = |key| Step { on: 0, op: Op::Take { user: 0, key: Some(key) } };
    let record = |id| Step { on: 0, op: Op::Record { user: 0, id: Some(id), text: 0, micros: 1 } };
    let wait = |seconds| Step { on: 0, op: Op::Wait { seconds } };
    History {
        handles: 1,
        zone: 0,
        steps: vec![
            record(0), take(0), wait(1), record(1), wait(1), record(2), wait(-86_400),
            take(1), record(3), take(2), Step { on: 0, op: Op::History { user: 0, size: 3 } },
            Step { on: 0, op: Op::GiveBack { user: 0, take: 1 } }, wait(86_400),
            Step { on: 0, op: Op::Remaining { user: 0 } }, take(2), take(3), record(4), wait(86_400), take(3),
            Step { on: 0, op: Op::History { user: 0, size: 3 } },
        ],
    }
}
