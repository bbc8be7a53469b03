//! Users: who there is, which language they speak, whether they had their gift.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;

use crate::{
    AccountRecord, Acknowledged, Fingerprint, Language, Money, OperationKey, Page, PageRequest, Policy, Result,
    Timestamp, UserId,
};

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct User {
    /// Who it is.
    pub id: UserId,
    /// What can be spent now; held money is not in it.
    pub balance: Money,
    /// The language chosen, else the policy's default.
    pub language: Language,
    /// Whether the welcome gift was claimed.
    pub gift_claimed: bool,
    /// Who brought this user.
    pub referrer: Option<UserId>,
    /// When the store first heard of the user.
    pub created_at: Timestamp,
    /// When a field above last changed; moves exactly then.
    pub updated_at: Timestamp,
}

impl User {
    /// The user of an account, as a policy shows them.
    pub fn of(account: &AccountRecord, policy: &Policy) -> Self {
        Self {
            id: account.user,
            balance: account.balance,
            language: account.language.clone().unwrap_or_else(|| policy.default_language.clone()),
            gift_claimed: account.gift_claimed,
            referrer: account.referrer,
            created_at: account.created_at,
            updated_at: account.updated_at,
        }
    }
}

/// Arguments of [`Users::set_user_language`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetUserLanguage {
    /// Whose language.
    pub user: UserId,
    /// The language.
    pub language: Language,
    /// Makes the call repeatable.
    pub key: Option<OperationKey>,
}

impl SetUserLanguage {
    /// Without a key.
    pub fn new(user: UserId, language: Language) -> Self {
        Self { user, language, key: None }
    }
    /// What a replay must repeat.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of("set_user_language", &[self.language.as_str()])
    }
}

/// Arguments of [`Users::set_gift_claimed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetGiftClaimed {
    /// Who claims.
    pub user: UserId,
    /// Makes the call repeatable: the replay of the first claim answers `first` again.
    pub key: Option<OperationKey>,
}

impl SetGiftClaimed {
    /// Without a key.
    pub fn new(user: UserId) -> Self {
        Self { user, key: None }
    }
    /// What a replay must repeat.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of("set_gift_claimed", &[])
    }
}

/// What a gift claim answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct GiftClaim {
    /// Whether this claim was the first.
    pub first: bool,
    /// Whether this call only repeated one that had succeeded.
    pub replayed: bool,
}

/// Users: who there is, which language they speak, whether they had their gift.
#[async_trait]
pub trait Users {
    /// Gives the user, creating it when missing.
    ///
    /// # Contract
    /// - A new user has balance 0, the default language, no gift, no referrer; `created_at` is the clock's time.
    /// - Of concurrent first calls one creates; all answer the same user.
    /// - This is a write. [`Users::find_user`] is the read.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage) -> Result<()> {
    /// let user = storage.get_user(UserId::new(1001)?).await?;
    /// assert!(user.updated_at >= user.created_at);
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `users::*`.
    async fn get_user(&self, user: UserId) -> Result<Arc<User>>;

    /// Gives the user if there is one, and creates nothing.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage) -> Result<()> {
    /// if let Some(user) = storage.find_user(UserId::new(1001)?).await? {
    ///     println!("since {}", user.created_at);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `users::*`.
    async fn find_user(&self, user: UserId) -> Result<Option<Arc<User>>>;

    /// Lists all users by ascending id.
    ///
    /// # Contract
    /// - Every user that existed at the first page comes exactly once.
    ///
    /// # Errors
    /// `InvalidInput` for a cursor of another list.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage) -> Result<()> {
    /// let mut page = PageRequest::first(PageSize::MAX);
    /// loop {
    ///     let users = storage.list_users(page).await?;
    ///     for user in &users.items {
    ///         println!("{} {}", user.id, user.balance);
    ///     }
    ///     let Some(next) = users.next else { break };
    ///     page = PageRequest::after(PageSize::MAX, next);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `users::*`.
    async fn list_users(&self, page: PageRequest) -> Result<Page<User>>;

    /// The user's language, the default when none was chosen or the user is unknown.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage) -> Result<()> {
    /// let language = storage.get_user_language(UserId::new(1001)?).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `users::*`.
    async fn get_user_language(&self, user: UserId) -> Result<Language>;

    /// Chooses the user's language.
    ///
    /// # Contract
    /// - Creates the user when missing.
    /// - Setting the present language again changes nothing, not even `updated_at`.
    ///
    /// # Errors
    /// `Conflict` when the key was used for something else.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage) -> Result<()> {
    /// storage.set_user_language(SetUserLanguage::new(UserId::new(1001)?, "pt-br".parse()?)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `users::*`.
    async fn set_user_language(&self, set: SetUserLanguage) -> Result<Acknowledged>;

    /// Whether the user claimed the welcome gift; `false` for an unknown user.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage) -> Result<()> {
    /// let had_it = storage.has_claimed_gift(UserId::new(1001)?).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `users::*`.
    async fn has_claimed_gift(&self, user: UserId) -> Result<bool>;

    /// Claims the welcome gift.
    ///
    /// # Contract
    /// - Of any number of claims, concurrent ones included, exactly one answers `first`.
    /// - A replay by key answers what the first call answered.
    ///
    /// # Errors
    /// `Conflict` when the key was used for something else.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage) -> Result<()> {
    /// if storage.set_gift_claimed(SetGiftClaimed::new(UserId::new(1001)?)).await?.first {
    ///     println!("welcome!");
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `users::*`.
    async fn set_gift_claimed(&self, claim: SetGiftClaimed) -> Result<GiftClaim>;
}
