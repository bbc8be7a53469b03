//! Holds: money set aside until it is spent or given back.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    Amount, Error, Fingerprint, HoldName, Memo, Money, OperationKey, Page, PageRequest, PageSize, Receipt, Result,
    Timestamp, UserId,
};

/// Where a hold stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldStatus {
    /// The money is set aside.
    Open,
    /// It was spent, wholly or in part.
    Committed,
    /// It was given back.
    Released,
}

impl HoldStatus {
    /// The state's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Committed => "committed",
            Self::Released => "released",
        }
    }
}

impl fmt::Display for HoldStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for HoldStatus {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        [Self::Open, Self::Committed, Self::Released]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| Error::invalid("hold status", "must be open, committed or released"))
    }
}

/// Money set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Whose money.
    pub user: UserId,
    /// The hold's name, unique for the user.
    pub name: HoldName,
    /// How much was set aside.
    pub amount: Amount,
    /// Where it stands.
    pub status: HoldStatus,
    /// How much of it was spent.
    pub committed: Money,
    /// From when on a sweep may release it.
    pub expires_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// What making it answered.
    pub opened: Receipt,
    /// What ending it answered.
    pub ended: Option<Receipt>,
}

impl Hold {
    /// Judges a new hold under a name that is in use: a replay of the first receipt, or `InvalidTransition`.
    pub fn judge_reserve(&self, again: &ReserveBalance) -> Result<Receipt> {
        if self.status == HoldStatus::Open && self.amount == again.amount && self.expires_at == again.expires_at {
            return Ok(Receipt { replayed: true, ..self.opened });
        }
        Err(self.no_way_to(HoldStatus::Open))
    }
    /// Judges a commit: what to spend, or the replay of an earlier commit.
    pub fn judge_commit(&self, amount: Option<Amount>) -> Result<HoldStep> {
        let amount = amount.unwrap_or(self.amount);
        match (self.status, self.ended) {
            (HoldStatus::Open, _) if amount > self.amount => {
                Err(Error::insufficient_funds(self.amount.money(), amount.money()))
            }
            (HoldStatus::Open, _) => Ok(HoldStep::Apply(amount.money())),
            (HoldStatus::Committed, Some(ended)) if self.committed == amount.money() => {
                Ok(HoldStep::Replay(Receipt { replayed: true, ..ended }))
            }
            _ => Err(self.no_way_to(HoldStatus::Committed)),
        }
    }
    /// Judges a release: what to give back, or the replay of an earlier release.
    pub fn judge_release(&self) -> Result<HoldStep> {
        match (self.status, self.ended) {
            (HoldStatus::Open, _) => Ok(HoldStep::Apply(self.amount.money())),
            (HoldStatus::Released, Some(ended)) => Ok(HoldStep::Replay(Receipt { replayed: true, ..ended })),
            _ => Err(self.no_way_to(HoldStatus::Released)),
        }
    }
    fn no_way_to(&self, to: HoldStatus) -> Error {
        Error::transition("hold", &self.name, self.status.as_str(), to.as_str())
    }
}

/// What ending a hold comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldStep {
    /// Spend or give back this much.
    Apply(Money),
    /// It was done before.
    Replay(Receipt),
}

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

    /// Gives back open holds whose expiry is at or before now, the longest expired first, at most `limit`.
    ///
    /// # Contract
    /// - Each hold is released in an atom of its own, and once, however many sweepers run.
    /// - Answers the holds that this call released.
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
