//! Where time and ids come from: the one home of the machine's clock and randomness.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::{OperationId, Policy, Timestamp};

/// Tells a store what time it is. Backends never read the machine's clock themselves.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// Mints the ids of operations, jobs, payments and generations that a caller left to the store.
pub trait IdSource: Send + Sync + fmt::Debug + 'static {
    /// An id that was never handed out before.
    fn next_id(&self) -> OperationId;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one home of the wall clock")]
    fn now(&self) -> Timestamp {
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::MIN.plus_micros(i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX))
    }
}

/// Random ids: `UUIDv7`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemIds;

impl IdSource for SystemIds {
    #[expect(clippy::disallowed_methods, reason = "the one home of random ids")]
    fn next_id(&self) -> OperationId {
        OperationId::from_u128(uuid::Uuid::now_v7().as_u128())
    }
}

/// A clock that moves only when told to, for tests.
///
/// ```
/// use storage_core::{Clock, ManualClock};
///
/// let clock = ManualClock::at("2026-01-15T23:59:59Z".parse()?);
/// clock.advance_secs(1);
/// assert_eq!(clock.now().to_string(), "2026-01-16T00:00:00.000000Z");
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn at(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.micros()))
    }
    /// Moves the clock by whole seconds; negative moves it back.
    pub fn advance_secs(&self, seconds: i64) {
        self.advance_micros(seconds.saturating_mul(1_000_000));
    }
    /// Moves the clock by microseconds; negative moves it back.
    pub fn advance_micros(&self, micros: i64) {
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
    /// Sets the clock.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.micros(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::MIN.plus_micros(self.0.load(Ordering::SeqCst))
    }
}

/// Ids that count up from a start, for tests: well-formed `UUIDv7`s without time or randomness in them.
#[derive(Debug)]
pub struct SequentialIds {
    lane: u64,
    next: AtomicU64,
}

impl SequentialIds {
    /// Counts from 1. Sources of different lanes never mint the same id.
    pub fn lane(lane: u32) -> Self {
        Self { lane: u64::from(lane), next: AtomicU64::new(1) }
    }
}

impl IdSource for SequentialIds {
    fn next_id(&self) -> OperationId {
        let count = u128::from(self.next.fetch_add(1, Ordering::SeqCst));
        // Version 7 in bits 76..80, variant 0b10 in bits 62..64; the lane fills the time field.
        OperationId::from_u128((u128::from(self.lane) << 80) | (0x7 << 76) | (0b10 << 62) | count)
    }
}

/// What a store is opened with besides its place: the clock, the ids, the policy.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Mints ids.
    pub ids: Arc<dyn IdSource>,
    /// The rules of the shop.
    pub policy: Policy,
}

impl Default for Environment {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), ids: Arc::new(SystemIds), policy: Policy::default() }
    }
}

/// One operation's moment and id, taken once when it begins.
///
/// Every write takes exactly one, whatever becomes of it, so that two backends driven by the same clock and
/// ids hand out the same ones.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// When the operation began.
    pub now: Timestamp,
    /// Its id, and its key when the caller gave none.
    pub operation: OperationId,
}

impl Environment {
    /// The moment and id of an operation that begins now.
    pub fn stamp(&self) -> Stamp {
        Stamp { now: self.clock.now(), operation: self.ids.next_id() }
    }
}
