//! Free generations.

use async_trait::async_trait;

use super::Serial;
use crate::{
    AccountRecord, AddReferralBonus, FreeGenerations, IncrementFreeGenerations, QuotaReceipt, Result,
    ReturnFreeGeneration, UserId,
};

#[async_trait]
impl FreeGenerations for Serial {
    async fn get_user_free_generations_today(&self, user: UserId) -> Result<u32> {
        let now = self.environment.clock.now();
        self.look("get_user_free_generations_today", move |unit, policy| {
            let today = policy.today(now);
            Ok(unit.known(user)?.map_or(0, |account| account.quota().used_on(today)))
        })
        .await
    }

    async fn get_user_free_generations_remaining(&self, user: UserId) -> Result<u64> {
        let now = self.environment.clock.now();
        self.look("get_user_free_generations_remaining", move |unit, policy| {
            let (today, daily) = (policy.today(now), policy.daily_free_generations);
            let quota = unit.known(user)?.as_ref().map(AccountRecord::quota).unwrap_or_default();
            Ok(quota.remaining_on(today, daily))
        })
        .await
    }

    async fn increment_free_generations(&self, take: IncrementFreeGenerations) -> Result<QuotaReceipt> {
        self.apply(take).await
    }

    async fn return_free_generation(&self, give_back: ReturnFreeGeneration) -> Result<QuotaReceipt> {
        self.apply(give_back).await
    }

    async fn add_referral_bonus(&self, bonus: AddReferralBonus) -> Result<QuotaReceipt> {
        self.apply(bonus).await
    }
}
