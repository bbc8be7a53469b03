//! Free generations.

use async_trait::async_trait;
use storage_core::{
    AddReferralBonus, FreeGenerations, IncrementFreeGenerations, QuotaReceipt, Result, ReturnFreeGeneration, UserId,
};

use crate::engine::JsonStorage;

#[async_trait]
impl FreeGenerations for JsonStorage {
    async fn get_user_free_generations_today(&self, user: UserId) -> Result<u32> {
        let today = self.env().policy.today(self.env().clock.now());
        self.read("get_user_free_generations_today", |state| {
            state.account(user).map_or(0, |account| account.record.quota().used_on(today))
        })
        .await
    }

    async fn get_user_free_generations_remaining(&self, user: UserId) -> Result<u64> {
        let policy = &self.env().policy;
        let (today, daily) = (policy.today(self.env().clock.now()), policy.daily_free_generations);
        let quota = self
            .read("get_user_free_generations_remaining", |state| {
                state.account(user).map(|account| account.record.quota())
            })
            .await?;
        Ok(quota.unwrap_or_default().remaining_on(today, daily))
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
