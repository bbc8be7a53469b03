//! Admin limits.

use async_trait::async_trait;

use super::{Serial, Unit};
use crate::{Acknowledged, AdminLimit, AdminLimits, Money, Policy, Result, SetAdminLimit, Total, UserId};

fn limit(unit: &dyn Unit, policy: &Policy, user: UserId) -> Result<AdminLimit> {
    if policy.main_admin == Some(user) {
        return Ok(AdminLimit::Unlimited);
    }
    let set: Option<Money> = unit.known(user)?.and_then(|account| account.admin_limit);
    Ok(AdminLimit::Limited(set.unwrap_or(policy.default_admin_limit)))
}

fn spent(unit: &dyn Unit, user: UserId) -> Result<Total> {
    Ok(unit.known(user)?.map_or(Total::ZERO, |account| account.spent))
}

#[async_trait]
impl AdminLimits for Serial {
    async fn get_admin_limit(&self, user: UserId) -> Result<AdminLimit> {
        self.look("get_admin_limit", move |unit, policy| limit(unit, policy, user)).await
    }

    async fn set_admin_limit(&self, set: SetAdminLimit) -> Result<Acknowledged> {
        self.apply(set).await
    }

    async fn get_admin_spent(&self, user: UserId) -> Result<Total> {
        self.look("get_admin_spent", move |unit, _| spent(unit, user)).await
    }

    async fn get_admin_remaining(&self, user: UserId) -> Result<AdminLimit> {
        self.look("get_admin_remaining", move |unit, policy| {
            Ok(match limit(unit, policy, user)? {
                AdminLimit::Unlimited => AdminLimit::Unlimited,
                AdminLimit::Limited(limit) => AdminLimit::Limited(spent(unit, user)?.left_of(limit)),
            })
        })
        .await
    }
}
