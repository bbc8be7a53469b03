//! Admin limits.

use async_trait::async_trait;
use storage_core::{Acknowledged, AdminLimit, AdminLimits, Result, SetAdminLimit, Total, UserId};

use crate::engine::JsonStorage;

#[async_trait]
impl AdminLimits for JsonStorage {
    async fn get_admin_limit(&self, user: UserId) -> Result<AdminLimit> {
        let policy = &self.env().policy;
        let limit = self
            .read("get_admin_limit", |state| state.account(user).and_then(|account| account.record.admin_limit))
            .await?;
        Ok(if policy.main_admin == Some(user) {
            AdminLimit::Unlimited
        } else {
            AdminLimit::Limited(limit.unwrap_or(policy.default_admin_limit))
        })
    }

    async fn set_admin_limit(&self, set: SetAdminLimit) -> Result<Acknowledged> {
        self.apply(set).await
    }

    async fn get_admin_spent(&self, user: UserId) -> Result<Total> {
        self.read("get_admin_spent", |state| state.account(user).map_or(Total::ZERO, |account| account.record.spent))
            .await
    }

    async fn get_admin_remaining(&self, user: UserId) -> Result<AdminLimit> {
        // One look at the state for both figures, so that they belong together.
        let policy = &self.env().policy;
        let record =
            self.read("get_admin_remaining", |state| state.account(user).map(|account| account.record.clone())).await?;
        if policy.main_admin == Some(user) {
            return Ok(AdminLimit::Unlimited);
        }
        let (limit, spent) = record.map_or((None, Total::ZERO), |record| (record.admin_limit, record.spent));
        Ok(AdminLimit::Limited(spent.left_of(limit.unwrap_or(policy.default_admin_limit))))
    }
}
