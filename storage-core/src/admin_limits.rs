//! Admin limits: how much an admin may spend on generations.

use std::fmt;

use async_trait::async_trait;
use serde::Serialize;

use crate::{Acknowledged, Fingerprint, Money, OperationKey, Result, Total, UserId};

/// A limit, or what is left of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminLimit {
    /// The main admin's.
    Unlimited,
    /// Up to this much.
    Limited(Money),
}

impl fmt::Display for AdminLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlimited => f.pad("unlimited"),
            Self::Limited(money) => money.fmt(f),
        }
    }
}

/// Arguments of [`AdminLimits::set_admin_limit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAdminLimit {
    /// Whose limit.
    pub user: UserId,
    /// The limit.
    pub limit: Money,
    /// Makes the call repeatable.
    pub key: Option<OperationKey>,
}

impl SetAdminLimit {
    /// Without a key.
    pub fn new(user: UserId, limit: Money) -> Self {
        Self { user, limit, key: None }
    }
    /// What a replay must repeat.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of("set_admin_limit", &[&self.limit.to_string()])
    }
}

/// Admin limits: how much an admin may spend on generations.
#[async_trait]
pub trait AdminLimits {
    /// The limit that was set, else the policy's default; unlimited for the main admin.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage, admin: UserId) -> Result<()> {
    /// println!("limit: {}", storage.get_admin_limit(admin).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `admin_limits::*`.
    async fn get_admin_limit(&self, user: UserId) -> Result<AdminLimit>;

    /// Sets the limit, creating the user when missing. The main admin stays unlimited.
    ///
    /// # Errors
    /// `Conflict` when the key was used for something else.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage, admin: UserId) -> Result<()> {
    /// storage.set_admin_limit(SetAdminLimit::new(admin, "250".parse()?)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `admin_limits::*`.
    async fn set_admin_limit(&self, set: SetAdminLimit) -> Result<Acknowledged>;

    /// The total price of the generations ever recorded for the user, however much history is kept.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage, admin: UserId) -> Result<()> {
    /// println!("spent: {}", storage.get_admin_spent(admin).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `admin_limits::*`.
    async fn get_admin_spent(&self, user: UserId) -> Result<Total>;

    /// The limit less what was spent, never below zero; unlimited for the main admin.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage, admin: UserId) -> Result<()> {
    /// println!("left: {}", storage.get_admin_remaining(admin).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `admin_limits::*`.
    async fn get_admin_remaining(&self, user: UserId) -> Result<AdminLimit>;
}
