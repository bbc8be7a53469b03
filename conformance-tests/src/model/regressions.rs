//! Histories that once showed a difference. A failing run prints one as code: paste it here, and every backend plays it
//! from then on.

use storage_core::{JobStatus, PaymentStatus};

use super::op::{History, Op, Step};

/// The histories, each with what it showed.
pub(crate) fn histories() -> Vec<(&'static str, History)> {
    vec![
        (
            "one of everything that moves money",
            History {
                handles: 1,
                zone: 0,
                steps: vec![
                    Step { on: 0, op: Op::Credit { user: 0, micros: 5_000_000, memo: true, key: Some(0) } },
                    Step {
                        on: 0,
                        op: Op::Reserve {
                            user: 0,
                            hold: 0,
                            micros: 2_500_000,
                            expires: Some(60),
                            memo: true,
                            key: None,
                        },
                    },
                    Step { on: 0, op: Op::Wait { seconds: 60 } },
                    Step { on: 0, op: Op::Sweep { limit: 1 } },
                    Step {
                        on: 0,
                        op: Op::AddPayment {
                            user: 0,
                            micros: 1,
                            payment: None,
                            provider: Some(0),
                            notes: None,
                            key: None,
                        },
                    },
                    Step {
                        on: 0,
                        op: Op::Mark {
                            payment: 5,
                            status: PaymentStatus::Approved,
                            admin: Some(1),
                            notes: None,
                            key: None,
                        },
                    },
                    Step { on: 0, op: Op::Refund { payment: 5, admin: None, notes: Some(1), key: None } },
                    Step { on: 0, op: Op::AddJob { user: 1, job: None, task: None, text: 0, micros: 1, key: None } },
                    Step {
                        on: 0,
                        op: Op::UpdateJob {
                            job: 5,
                            status: JobStatus::Running,
                            urls: None,
                            error: None,
                            task: Some(2),
                            key: None,
                        },
                    },
                ],
            },
        ),
        (
            "an imported balance uses its minted key up, and knows when the other system first heard of the user",
            History {
                handles: 1,
                zone: 0,
                steps: vec![
                    Step { on: 0, op: Op::GetUser { user: 0 } },
                    Step { on: 0, op: Op::ImportBalance { user: 0, micros: 1_000_000, since: Some(-60) } },
                    Step { on: 0, op: Op::ImportBalance { user: 1, micros: 0, since: Some(60) } },
                ],
            },
        ),
    ]
}
