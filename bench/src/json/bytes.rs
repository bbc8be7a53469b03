//! What the peers store in the places of times and records.

use storage_core::{Clock as _, SystemClock};

use super::op::job;

/// Microseconds since 1970.
pub(super) fn now() -> i64 {
    SystemClock.now().micros()
}

/// The bytes of a ledger row beside its key.
pub(super) fn ledger_row(change: i64, after: i64, key: &str) -> Vec<u8> {
    let mut row = Vec::with_capacity(24 + key.len());
    for number in [change, after, now()] {
        row.extend_from_slice(&number.to_le_bytes());
    }
    row.extend_from_slice(key.as_bytes());
    row
}

/// The bytes of a user beside the balance: two times, gift and language.
pub(super) fn settings() -> Vec<u8> {
    let mut settings = [now().to_le_bytes(), now().to_le_bytes()].concat();
    settings.extend_from_slice(b"\x01en");
    settings
}

/// The bytes of a job: its state first, then what never changes.
pub(super) fn job_bytes(user: i64, at: i64) -> Vec<u8> {
    let mut bytes = vec![0];
    for number in [at, at, user, job::PRICE_MICROS] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    for text in [job::MODEL_ID, job::MODEL_NAME, job::PARAMS] {
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
    }
    bytes
}

/// The bytes of a payment: its state first.
pub(super) fn payment_bytes(user: i64, amount: i64) -> Vec<u8> {
    let mut bytes = vec![0];
    for number in [user, amount, now()] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes
}
