//! Free generations.

use async_trait::async_trait;
use storage_core::{
    AddReferralBonus, Answer, Error, Fingerprint, FreeGenerations, IncrementFreeGenerations, KeySpace, OperationKey,
    QuotaReceipt, QuotaSource, Result, ReturnFreeGeneration, UsedKey, UserId, check_key,
};

use crate::MemoryStorage;
use crate::state::State;

/// What giving the take with this key back answered, marked as a replay.
fn given_back(state: &State, user: UserId, take: &OperationKey) -> Option<QuotaReceipt> {
    match state.keys.get(&(user, KeySpace::Return, take.clone()))?.answer {
        Answer::Quota(first) => Some(QuotaReceipt { replayed: true, ..first }),
        _ => None,
    }
}

/// The first receipt of a quota operation, marked as a replay.
fn replay(
    state: &State,
    user: UserId,
    key: Option<&OperationKey>,
    arguments: Fingerprint,
) -> Result<Option<QuotaReceipt>> {
    Ok(match state.replay(user, key, arguments)?.map(|used| used.answer) {
        Some(Answer::Quota(first)) => Some(QuotaReceipt { replayed: true, ..first }),
        _ => None,
    })
}

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
        self.write("increment_free_generations", |state, stamp| {
            let arguments = take.fingerprint();
            let IncrementFreeGenerations { user, key } = take;
            if let (Some(first), Some(key)) = (replay(state, user, key.as_ref(), arguments)?, &key) {
                return match given_back(state, user, key) {
                    Some(_) => Err(Error::transition("operation key", key, "returned", "taken")),
                    None => Ok(first),
                };
            }
            let (today, daily) = (self.policy().today(stamp.now), self.policy().daily_free_generations);
            let account = state.account(user, stamp.now);
            let (quota, source) = account.quota().take(today, daily)?;
            account.set_quota(quota);
            let remaining_after = quota.remaining_on(today, daily);
            let receipt = QuotaReceipt { operation: stamp.operation, source, remaining_after, replayed: false };
            state.settle(user, key, arguments, Answer::Quota(receipt), stamp);
            Ok(receipt)
        })
    }

    async fn return_free_generation(&self, give_back: ReturnFreeGeneration) -> Result<QuotaReceipt> {
        self.write("return_free_generation", |state, stamp| {
            let ReturnFreeGeneration { user, take } = give_back;
            let taking = IncrementFreeGenerations::new(user).fingerprint();
            let used = state.keys.get(&(user, KeySpace::Operation, take.clone())).cloned();
            let Some(Answer::Quota(taken)) = check_key(user, &take, taking, used)?.map(|used| used.answer) else {
                return Err(Error::not_found("operation key", &take));
            };
            if let Some(first) = given_back(state, user, &take) {
                return Ok(first);
            }
            let (today, daily) = (self.policy().today(stamp.now), self.policy().daily_free_generations);
            let account = state.account(user, stamp.now);
            let quota = account.quota().give_back(taken.source)?;
            account.set_quota(quota);
            let receipt = QuotaReceipt {
                operation: stamp.operation,
                source: taken.source,
                remaining_after: quota.remaining_on(today, daily),
                replayed: false,
            };
            let arguments = Fingerprint::of("return_free_generation", &[]);
            let used = UsedKey { arguments, operation: stamp.operation, answer: Answer::Quota(receipt) };
            state.keys.insert((user, KeySpace::Return, take), used);
            Ok(receipt)
        })
    }

    async fn add_referral_bonus(&self, bonus: AddReferralBonus) -> Result<QuotaReceipt> {
        self.write("add_referral_bonus", |state, stamp| {
            let arguments = bonus.fingerprint();
            let AddReferralBonus { referrer, count, key } = bonus;
            if let Some(first) = replay(state, referrer, key.as_ref(), arguments)? {
                return Ok(first);
            }
            let (today, daily) = (self.policy().today(stamp.now), self.policy().daily_free_generations);
            let account = state.account(referrer, stamp.now);
            let quota = account.quota().add_bonus(count)?;
            account.set_quota(quota);
            let receipt = QuotaReceipt {
                operation: stamp.operation,
                source: QuotaSource::Bank,
                remaining_after: quota.remaining_on(today, daily),
                replayed: false,
            };
            state.settle(referrer, key, arguments, Answer::Quota(receipt), stamp);
            Ok(receipt)
        })
    }
}
