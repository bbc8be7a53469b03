//! Admin limits.

use async_trait::async_trait;
use storage_core::{Acknowledged, AdminLimit, AdminLimits, Money, Result, SetAdminLimit, Total, UserId};

use crate::MemoryStorage;
use crate::state::State;

impl MemoryStorage {
    fn limit(&self, state: &State, user: UserId) -> AdminLimit {
        if self.policy().main_admin == Some(user) {
            return AdminLimit::Unlimited;
        }
        let set: Option<Money> = state.accounts.get(&user).and_then(|account| account.admin_limit);
        AdminLimit::Limited(set.unwrap_or(self.policy().default_admin_limit))
    }
}

fn spent(state: &State, user: UserId) -> Total {
    state.accounts.get(&user).map_or(Total::ZERO, |account| account.spent)
}

#[async_trait]
impl AdminLimits for MemoryStorage {
    async fn get_admin_limit(&self, user: UserId) -> Result<AdminLimit> {
        self.read("get_admin_limit", |state| Ok(self.limit(state, user)))
    }

    async fn set_admin_limit(&self, set: SetAdminLimit) -> Result<Acknowledged> {
        self.apply(set)
    }

    async fn get_admin_spent(&self, user: UserId) -> Result<Total> {
        self.read("get_admin_spent", |state| Ok(spent(state, user)))
    }

    async fn get_admin_remaining(&self, user: UserId) -> Result<AdminLimit> {
        self.read("get_admin_remaining", |state| {
            Ok(match self.limit(state, user) {
                AdminLimit::Unlimited => AdminLimit::Unlimited,
                AdminLimit::Limited(limit) => AdminLimit::Limited(spent(state, user).left_of(limit)),
            })
        })
    }
}
