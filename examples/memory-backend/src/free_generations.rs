//! Free generations.

use async_trait::async_trait;
use storage_core::{
    AddReferralBonus, FreeGenerations, IncrementFreeGenerations, QuotaReceipt, Result, ReturnFreeGeneration, UserId,
};

use crate::MemoryStorage;

#[async_trait]
impl FreeGenerations for MemoryStorage {
    async fn get_user_free_generations_today(&self, user: UserId) -> Result<u32> {
        let today = self.policy().today(self.environment.clock.now());
        self.read("get_user_free_generations_today", |state| {
            Ok(state.accounts.get(&user).map_or(0, |account| account.quota().used_on(today)))
        })
    }

    async fn get_user_free_generations_remaining(&self, user: UserId) -> Result<u64> {
        let (today, daily) = (self.policy().today(self.environment.clock.now()), self.policy().daily_free_generations);
        self.read("get_user_free_generations_remaining", |state| {
            let quota = state.accounts.get(&user).map(storage_core::AccountRecord::quota).unwrap_or_default();
            Ok(quota.remaining_on(today, daily))
        })
    }

    async fn increment_free_generations(&self, take: IncrementFreeGenerations) -> Result<QuotaReceipt> {
        self.apply(take)
    }

    async fn return_free_generation(&self, give_back: ReturnFreeGeneration) -> Result<QuotaReceipt> {
        self.apply(give_back)
    }

    async fn add_referral_bonus(&self, bonus: AddReferralBonus) -> Result<QuotaReceipt> {
        self.apply(bonus)
    }
}
