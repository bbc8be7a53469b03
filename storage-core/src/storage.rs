//! The store as a whole: opened, asked how it is, dumped, restored, closed.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use tokio::io::AsyncWrite;

use crate::dump::DumpSource;
use crate::{
    AdminLimits, Balances, Destination, DumpSummary, FreeGenerations, History, ImportOutcome, ImportRecord, Jobs,
    Operations, Payments, Referrals, Reserves, Result, Users,
};

/// Which backend answers, why, and where. Holds no secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackendInfo {
    /// `"json"`, `"postgres"`, or a third party's word.
    pub name: String,
    /// Why it was chosen.
    pub reason: String,
    /// Where the data is: a directory, or scheme, host, port and database.
    pub location: String,
    /// What an operator should know: a lock that is not kept, a setting that voids a promise.
    pub warnings: Vec<String>,
}

impl fmt::Display for BackendInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} ({})", self.name, self.location, self.reason)
    }
}

/// The store as a whole.
#[async_trait]
pub trait Store {
    /// Proves that the store answers: a real round trip, or a probe of the disk.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage) -> Result<()> {
    /// storage.ping().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `store::*`.
    async fn ping(&self) -> Result<()>;

    /// Which backend this is, why, and where.
    ///
    /// ```
    /// # use storage_core::*;
    /// # fn example(storage: &dyn Storage) {
    /// println!("{}", storage.backend());
    /// # }
    /// ```
    ///
    /// Scenarios: `store::*`.
    fn backend(&self) -> BackendInfo;

    /// Closes this handle: what was acknowledged is safe, every later call answers `Closed`. Other handles go on.
    ///
    /// # Contract
    /// - A second close is no error.
    /// - Operations that began before are finished first.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage) -> Result<()> {
    /// storage.close().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `store::*`.
    async fn close(&self) -> Result<()>;

    /// Writes every record as one JSON line, from one consistent snapshot. See [`crate::dump`] for the format.
    ///
    /// # Errors
    /// `Internal` with the cause when `out` fails.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage) -> Result<()> {
    /// let mut bytes = Vec::new();
    /// let summary = storage.dump(&mut bytes).await?;
    /// println!("{} users", summary.count("account"));
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `store::*`.
    async fn dump(&self, out: &mut (dyn AsyncWrite + Send + Unpin)) -> Result<DumpSummary>;

    /// Loads a dump into an empty store: ledger, keys and receipts included, whole or not at all.
    ///
    /// # Contract
    /// - Nothing is written before the dump was read to its end and its footer checked. A backend may read it twice.
    /// - Nothing of it is seen before all of it is.
    ///
    /// # Errors
    /// `Conflict` when the store is not empty; `Corrupt` naming the line; `SchemaMismatch` when the dump's policy
    /// is another one.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage, dump: Vec<u8>) -> Result<()> {
    /// storage.restore(&mut std::io::Cursor::new(dump)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `store::*`.
    async fn restore(&self, from: &mut dyn DumpSource) -> Result<DumpSummary>;

    /// Where the store's contents were moved to; `None` while they are here.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage) -> Result<()> {
    /// if let Some(to) = storage.moved_to().await? {
    ///     println!("look at {to}");
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `store::*`.
    async fn moved_to(&self) -> Result<Option<Destination>>;

    /// Marks the store as moved.
    ///
    /// # Contract
    /// - From the answer on whatever would change something is refused with `Moved`, by every handle and after reopening:
    ///   what was acknowledged before it is all that will ever be here.
    /// - Reads go on, and so do calls that change nothing: a repeat of what was applied before is answered as it was.
    /// - The same place again changes nothing.
    ///
    /// # Errors
    /// `Conflict` over a `mark` that names another place.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage) -> Result<()> {
    /// storage.mark_moved("postgresql://db.example.org/bot".parse()?).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `store::*`.
    async fn mark_moved(&self, to: Destination) -> Result<()>;

    /// Lifts the mark that names this place: changes are taken again. Without a mark there is nothing to do.
    ///
    /// # Errors
    /// `Conflict` over a `mark` that names another place.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage) -> Result<()> {
    /// storage.lift_moved("postgresql://db.example.org/bot".parse()?).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `store::*`.
    async fn lift_moved(&self, to: Destination) -> Result<()>;

    /// Puts in records that another system left; each one that the store knows already is kept as it is.
    ///
    /// # Contract
    /// - Answers one outcome for each record, in their order; one that is refused never stops the others.
    /// - The same records again change nothing.
    /// - `Added` is whatever this very call added, also when an answer was lost on the way and the store asked again.
    /// - One `opening` row for each imported balance; imported payments never credit.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage, user: UserId) -> Result<()> {
    /// let balance = ImportRecord::Balance { user, balance: "12.50".parse()?, created_at: None };
    /// let outcomes = storage.import_records(vec![balance]).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `store::*`.
    async fn import_records(&self, records: Vec<ImportRecord>) -> Result<Vec<ImportOutcome>>;
}

/// What every backend does. See the crate's documentation for the contract that all operations share.
///
/// Implemented for whatever implements the parts. Users hold an `Arc<dyn Storage>`; a function that needs only
/// payments asks for `&dyn Payments`.
pub trait Storage:
    Users
    + Balances
    + Reserves
    + Operations
    + FreeGenerations
    + AdminLimits
    + Jobs
    + History
    + Payments
    + Referrals
    + Store
    + Send
    + Sync
    + fmt::Debug
    + 'static
{
}

impl<T> Storage for T where
    T: Users
        + Balances
        + Reserves
        + Operations
        + FreeGenerations
        + AdminLimits
        + Jobs
        + History
        + Payments
        + Referrals
        + Store
        + Send
        + Sync
        + fmt::Debug
        + 'static
{
}

/// A store that many tasks share.
pub type SharedStorage = Arc<dyn Storage>;
