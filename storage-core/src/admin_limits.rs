//! Admin limits: how much an admin may spend on generations.

use std::fmt;

use async_trait::async_trait;
use serde::Serialize;

use crate::{Acknowledged, Error, Fingerprint, Money, OperationKey, Result, Total, UserId};

/// 999,999,999,999,999,999,999,999,999,999.999999: the most that a user may have spent on generations in all. Whoever
/// stores it needs 36 digits.
pub const MAX_SPENT: Total = Total::from_micros(999_999_999_999_999_999_999_999_999_999_999_999);

/// What a user spent in all: `InvalidInput` below zero or above [`MAX_SPENT`].
pub fn check_spent(spent: Total) -> Result<()> {
    if spent < Total::ZERO {
        return Err(Error::invalid("spent", "must not be negative"));
    }
    if spent > MAX_SPENT {
        return Err(Error::invalid("spent", "must be at most 999999999999999999999999999999.999999"));
    }
    Ok(())
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_spent_from_both_sides() {
        assert_eq!(MAX_SPENT.to_string(), "999999999999999999999999999999.999999");
        assert!(check_spent(Total::ZERO).is_ok());
        assert!(check_spent(MAX_SPENT).is_ok());
        assert!(check_spent(Total::from_micros(-1)).is_err());
        assert!(check_spent(MAX_SPENT.plus(Money::STEP)).is_err());
    }
}
