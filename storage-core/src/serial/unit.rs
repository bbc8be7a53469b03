//! What a store writes of its own.

use std::sync::Arc;

use crate::kernel::{Changes, Halt, View};
use crate::{
    AccountRecord, Destination, DumpRecord, Error, Generation, GenerationId, HistoryRetention, Hold, HoldName,
    HoldPlace, Job, JobId, LedgerRow, ListJobs, ListPayments, ListReserves, Newest, Payment, PaymentId, Policy, Result,
    TimeZone, Timestamp, UserId,
};

/// A store that runs one transaction at a time, on whatever thread it is moved to.
pub trait Engine: Send + 'static {
    /// Runs `work` in one transaction that is durable before `Ok`. When `work` fails, or anything else does, nothing of it stands.
    /// `work` is run once.
    ///
    /// Other handles and processes wait meanwhile, or are waited for: what `work` sees nobody changes until it is committed. A store
    /// waits less long for its own locks than the deadline given to [`Serial::open`](super::Serial::open), so that the call still
    /// hears `Busy`.
    ///
    /// `work` runs many calls, and what fails in one of them does not fail `work`. A database that ends a transaction by itself after a
    /// failure, as SQLite does on a full disk, is asked before each write and before the commit whether it still is in one.
    ///
    /// # Errors
    /// That of `work`, unchanged. The store's own: [`Error::unknown`] where the transaction may stand all the same.
    fn together(&mut self, work: &mut dyn FnMut(&mut dyn Unit) -> Result<()>) -> Result<()>;

    /// Runs `work`, which only looks, on one moment of the store. What was acknowledged before, by any handle, is seen.
    ///
    /// # Errors
    /// Those of [`Engine::together`].
    fn look(&mut self, work: &mut dyn FnMut(&dyn Unit) -> Result<()>) -> Result<()>;
}

/// When a hold is due, and where it is.
pub type Due = (Timestamp, UserId, HoldName);

/// A store within a transaction. What was put is seen from then on.
///
/// A list has at most `most` rows, those behind `after`; `None` begins with the first. "Newest first" goes by time, newest first,
/// then by id, greatest bytes first. The filters have a method `matches`.
///
/// Every method fails with the store's own error.
pub trait Unit: View {
    /// Writes down what an atom changes.
    fn put(&mut self, changes: Changes) -> Result<()>;
    /// Puts one record of a dump where none like it is.
    fn lay(&mut self, record: DumpRecord) -> Result<()>;
    /// Whether there is no record of any kind.
    fn is_empty(&self) -> Result<bool>;
    /// Shows every record, or every record of one user, in the dump's order: that of [`DumpRecord::place`].
    fn walk(&self, whose: Option<UserId>, each: &mut dyn FnMut(DumpRecord) -> Result<()>) -> Result<()>;

    /// Users by ascending number.
    fn users(&self, after: Option<UserId>, most: usize) -> Result<Vec<AccountRecord>>;
    /// A user's ledger, the last row first.
    fn ledger(&self, user: UserId, after: Option<u64>, most: usize) -> Result<Vec<Arc<LedgerRow>>>;
    /// A user's history, newest first.
    fn history(&self, user: UserId, after: Option<&Newest<GenerationId>>, most: usize) -> Result<Vec<Arc<Generation>>>;
    /// Holds, newest first; of those alike in time and name the user with the greatest number first.
    fn holds(&self, list: &ListReserves, after: Option<&Newest<HoldPlace>>, most: usize) -> Result<Vec<Arc<Hold>>>;
    /// Where the open holds are that expire at `now` or before, ascending. A damaged record among them fails when it is looked at,
    /// so that it keeps no other one from being released.
    fn due(&self, now: Timestamp, after: Option<&Due>, most: usize) -> Result<Vec<Due>>;
    /// Jobs, newest first.
    fn jobs(&self, list: &ListJobs, after: Option<&Newest<JobId>>, most: usize) -> Result<Vec<Arc<Job>>>;
    /// Payments, newest first.
    fn payments(
        &self,
        list: &ListPayments,
        after: Option<&Newest<PaymentId>>,
        most: usize,
    ) -> Result<Vec<Arc<Payment>>>;
    /// Whom a user brought: by [`AccountRecord::referred_at`] and number, ascending.
    fn referrals(&self, referrer: UserId, after: Option<&Newest<UserId>>, most: usize) -> Result<Vec<AccountRecord>>;

    /// What the store was founded with; `None` when it is new.
    fn founding(&self) -> Result<Option<Founding>>;
    /// Founds the store.
    fn found(&mut self, founding: &Founding) -> Result<()>;
    /// Where the contents were moved to.
    fn moved_to(&self) -> Result<Option<Destination>>;
    /// Sets the mark of a store that was moved, or lifts it.
    fn set_moved(&mut self, to: Option<&Destination>) -> Result<()>;
}

impl dyn Unit + '_ {
    /// What the store knows of a user.
    pub(super) fn known(&self, user: UserId) -> Result<Option<AccountRecord>> {
        self.account(user).map(|account| account.map(|account| account.record)).map_err(Halt::into_error)
    }
}

/// What is fixed when a store is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founding {
    /// In which zone a day begins.
    pub time_zone: TimeZone,
    /// How much history is kept.
    pub history: HistoryRetention,
}

impl Founding {
    /// Of a policy.
    pub fn of(policy: &Policy) -> Self {
        Self { time_zone: policy.time_zone.clone(), history: policy.history }
    }
    /// Whether a store of this founding can be opened with what is `wanted`.
    ///
    /// # Errors
    /// `SchemaMismatch` when it cannot.
    pub fn check(&self, wanted: &Self) -> Result<()> {
        if self == wanted {
            return Ok(());
        }
        let say = |founding: &Self| format!("time zone {} and history {}", founding.time_zone, founding.history);
        Err(Error::schema(
            format!("a store with {}", say(self)),
            say(wanted),
            "storage dump, then storage restore into a new place with the wanted policy",
        ))
    }
}
