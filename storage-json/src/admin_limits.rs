//! Admin limits.

use async_trait::async_trait;
use storage_core::{
    Acknowledged, AdminLimit, AdminLimits, Answer, HeapSize as _, Result, SetAdminLimit, Total, UserId,
};

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
        self.write("set_admin_limit", set.key.clone(), set.heap_size(), move |tx| {
            let fingerprint = set.fingerprint();
            let SetAdminLimit { user, limit, key } = set;
            if tx.replayed(user, key.as_ref(), fingerprint)?.is_some() {
                return Ok(Acknowledged { replayed: true });
            }
            let mut account = tx.account_or_new(user);
            if account.record.admin_limit == Some(limit) {
                tx.settle_unchanged(user, key, fingerprint, Answer::Record)?;
            } else {
                account.record.admin_limit = Some(limit);
                tx.settle_operation(account, key, fingerprint, Answer::Record, Vec::new())?;
            }
            Ok(Acknowledged { replayed: false })
        })
        .await
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
