//! Holds: money set aside until it is spent or given back.

mod hold;
mod sweep;

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    Amount, Fingerprint, HoldName, Memo, OperationKey, Page, PageRequest, PageSize, Receipt, Result, Timestamp, UserId,
};

pub use hold::{Hold, HoldPlace, HoldStatus};
pub use sweep::Sweep;

/// Arguments of [`Reserves::reserve_balance`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReserveBalance {
    /// Whose money.
    pub user: UserId,
    /// The hold's name, usually the job's id.
    pub name: HoldName,
    /// How much to set aside.
    pub amount: Amount,
    /// From when on [`Reserves::release_expired_reserves`] may give it back.
    pub expires_at: Option<Timestamp>,
    /// What the ledger notes beside it; its reference is always the hold's name.
    pub memo: Memo,
    /// Makes the call repeatable.
    pub key: Option<OperationKey>,
}

impl ReserveBalance {
    /// Without expiry, memo and key.
    pub fn new(user: UserId, name: HoldName, amount: Amount) -> Self {
        Self { user, name, amount, expires_at: None, memo: Memo::default(), key: None }
    }
    /// With the key that makes the call repeatable.
    #[must_use]
    pub fn with_key(mut self, key: OperationKey) -> Self {
        self.key = Some(key);
        self
    }
    /// With an expiry.
    #[must_use]
    pub fn expiring_at(mut self, at: Timestamp) -> Self {
        self.expires_at = Some(at);
        self
    }
    /// What a replay must repeat.
    pub fn fingerprint(&self) -> Fingerprint {
        let [reference, reason, actor] = self.memo.parts();
        let expiry = self.expires_at.map_or_else(String::new, |at| at.to_string());
        let (name, amount) = (self.name.as_str(), self.amount.to_string());
        Fingerprint::of("reserve_balance", &[name, &amount, &expiry, &reference, &reason, &actor])
    }
}

/// Arguments of [`Reserves::commit_reserve`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitReserve {
    /// Whose hold.
    pub user: UserId,
    /// Which hold.
    pub name: HoldName,
    /// How much to spend; `None` is all of it. The rest goes back in the same atom.
    pub amount: Option<Amount>,
    /// Makes the call repeatable.
    pub key: Option<OperationKey>,
}

impl CommitReserve {
    /// The whole hold, without a key.
    pub fn new(user: UserId, name: HoldName) -> Self {
        Self { user, name, amount: None, key: None }
    }
    /// What a replay must repeat.
    pub fn fingerprint(&self) -> Fingerprint {
        let amount = self.amount.map_or_else(String::new, |amount| amount.to_string());
        Fingerprint::of("commit_reserve", &[self.name.as_str(), &amount])
    }
}

/// Arguments of [`Reserves::release_reserve`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseReserve {
    /// Whose hold.
    pub user: UserId,
    /// Which hold.
    pub name: HoldName,
    /// Makes the call repeatable.
    pub key: Option<OperationKey>,
}

impl ReleaseReserve {
    /// Without a key.
    pub fn new(user: UserId, name: HoldName) -> Self {
        Self { user, name, key: None }
    }
    /// What a replay must repeat.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of("release_reserve", &[self.name.as_str()])
    }
}

/// Arguments of [`Reserves::list_reserves`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListReserves {
    /// Only this user's.
    pub user: Option<UserId>,
    /// Only those that stand so.
    pub status: Option<HoldStatus>,
    /// Only those made before this time.
    pub older_than: Option<Timestamp>,
    /// Which page.
    pub page: PageRequest,
}

impl ListReserves {
    /// Which list a cursor belongs to.
    pub fn filter(&self) -> Fingerprint {
        let user = self.user.map_or_else(String::new, |user| user.to_string());
        let older = self.older_than.map_or_else(String::new, |at| at.to_string());
        Fingerprint::of("list_reserves", &[&user, self.status.map_or("", HoldStatus::as_str), &older])
    }
    /// Whether a hold matches.
    pub fn matches(&self, hold: &Hold) -> bool {
        self.user.is_none_or(|user| user == hold.user)
            && self.status.is_none_or(|status| status == hold.status)
            && self.older_than.is_none_or(|older| hold.created_at < older)
    }
}

/// Holds: money set aside until it is spent or given back.
#[async_trait]
pub trait Reserves {
    /// Sets money aside from the user's balance until it is spent or given back.
    ///
    /// # Contract
    /// - All or nothing: the balance drops and the hold appears together.
    /// - The same key with equal arguments answers the first receipt, marked `replayed`; so does the same name
    ///   with equal amount and expiry while the hold is open.
    /// - The balance never goes below zero, whatever runs beside it.
    ///
    /// # Errors
    /// `InsufficientFunds` with both figures; `InvalidTransition` for a used name with other arguments or after
    /// its end; `Conflict` when the key was used for something else.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage, user: UserId) -> Result<()> {
    /// let hold = ReserveBalance::new(user, "job-7".parse()?, "7.50".parse()?);
    /// let receipt = storage.reserve_balance(hold).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `reserves::*`.
    async fn reserve_balance(&self, reserve: ReserveBalance) -> Result<Receipt>;

    /// Spends a hold, or part of it; the rest goes back in the same atom.
    ///
    /// # Contract
    /// - A repeat is a replay of the first receipt.
    /// - An expired hold that was not swept can still be committed.
    ///
    /// # Errors
    /// `NotFound`; `InvalidTransition` after a release, or after a commit of another amount; `InsufficientFunds`
    /// for more than is held; `Conflict` when the key was used for something else.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage, user: UserId) -> Result<()> {
    /// storage.commit_reserve(CommitReserve::new(user, "job-7".parse()?)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `reserves::*`.
    async fn commit_reserve(&self, commit: CommitReserve) -> Result<Receipt>;

    /// Gives a hold back.
    ///
    /// # Contract
    /// - However many releases run at once, the money comes back once; the others are replays.
    ///
    /// # Errors
    /// `NotFound`; `InvalidTransition` after a commit; `Conflict` when the key was used for something else.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage, user: UserId) -> Result<()> {
    /// storage.release_reserve(ReleaseReserve::new(user, "job-7".parse()?)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `reserves::*`.
    async fn release_reserve(&self, release: ReleaseReserve) -> Result<Receipt>;

    /// Gives a user's hold by name.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage, user: UserId) -> Result<()> {
    /// let hold = storage.find_reserve(user, &"job-7".parse()?).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `reserves::*`.
    async fn find_reserve(&self, user: UserId, name: &HoldName) -> Result<Option<Arc<Hold>>>;

    /// Lists holds, newest first by creation time and name (of two alike, the higher user id first).
    ///
    /// # Errors
    /// `InvalidInput` for a cursor of another list or filter.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage, user: UserId) -> Result<()> {
    /// let open = ListReserves { user: Some(user), status: Some(HoldStatus::Open), ..Default::default() };
    /// let holds = storage.list_reserves(open).await?.items;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `reserves::*`.
    async fn list_reserves(&self, list: ListReserves) -> Result<Page<Hold>>;

    /// Gives back open holds whose expiry is at or before now, the longest expired first, at most `limit`. Those that
    /// expired together go by user, then by name.
    ///
    /// # Contract
    /// - Each hold is released in an atom of its own, and once, however many sweepers run.
    /// - Answers the holds that this call released, also when a later one could not be. One whose record is damaged, or whose user
    ///   somebody keeps locked, keeps no other from being released; the next sweep finds it again.
    ///
    /// # Errors
    /// Only when nothing was released: the first error that a hold met. So an empty answer says that nothing is due any more, and
    /// any other leaves that open.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage) -> Result<()> {
    /// let released = storage.release_expired_reserves(PageSize::DEFAULT).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `reserves::*`.
    async fn release_expired_reserves(&self, limit: PageSize) -> Result<Vec<Arc<Hold>>>;
}
