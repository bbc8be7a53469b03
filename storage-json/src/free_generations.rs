//! Free generations.

use async_trait::async_trait;
use storage_core::{
    AddReferralBonus, Answer, Error, Fingerprint, FreeGenerations, HeapSize as _, IncrementFreeGenerations, KeySpace,
    QuotaReceipt, QuotaSource, Result, ReturnFreeGeneration, UserId, check_key,
};

use crate::engine::JsonStorage;
use crate::state::Account;
use crate::tx::Tx;

/// The receipt of this operation, from the account as it is after it.
fn receipt(tx: &Tx<'_>, account: &Account, source: QuotaSource) -> QuotaReceipt {
    let policy = &tx.env.policy;
    QuotaReceipt {
        operation: tx.stamp.operation,
        source,
        remaining_after: account.record.quota().remaining_on(policy.today(tx.now()), policy.daily_free_generations),
        replayed: false,
    }
}

fn replay_of(answer: &Answer) -> Result<QuotaReceipt> {
    match answer {
        Answer::Quota(receipt) => Ok(QuotaReceipt { replayed: true, ..*receipt }),
        _ => Err(Error::internal("a quota operation's key answers something else")),
    }
}

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
        self.write("increment_free_generations", take.key.clone(), take.heap_size(), move |tx| {
            let fingerprint = take.fingerprint();
            let IncrementFreeGenerations { user, key } = take;
            if let Some(used) = tx.replayed(user, key.as_ref(), fingerprint)? {
                if let Some(key) = &key
                    && tx.used_key(user, KeySpace::Return, key)?.is_some()
                {
                    return Err(Error::transition("operation key", key, "returned", "taken"));
                }
                return replay_of(&used.answer);
            }
            let mut account = tx.account_or_new(user);
            let policy = &tx.env.policy;
            let (quota, source) = account.record.quota().take(policy.today(tx.now()), policy.daily_free_generations)?;
            account.record.set_quota(quota);
            let receipt = receipt(tx, &account, source);
            tx.settle_operation(account, key, fingerprint, Answer::Quota(receipt), Vec::new())?;
            Ok(receipt)
        })
        .await
    }

    async fn return_free_generation(&self, give_back: ReturnFreeGeneration) -> Result<QuotaReceipt> {
        let heap = give_back.heap_size();
        let ReturnFreeGeneration { user, take } = give_back;
        self.write("return_free_generation", Some(take.clone()), heap, move |tx| {
            if let Some(used) = tx.used_key(user, KeySpace::Return, &take)? {
                return replay_of(&used.answer);
            }
            let taken = IncrementFreeGenerations { user, key: Some(take.clone()) }.fingerprint();
            let used = check_key(user, &take, taken, tx.used_key(user, KeySpace::Operation, &take)?)?;
            let Some(Answer::Quota(taken)) = used.map(|used| used.answer) else {
                return Err(Error::not_found("operation key", &take));
            };
            let mut account = tx.account_or_new(user);
            account.record.set_quota(account.record.quota().give_back(taken.source)?);
            let receipt = receipt(tx, &account, taken.source);
            let fingerprint = Fingerprint::of("return_free_generation", &[]);
            tx.settle(account, (KeySpace::Return, take), fingerprint, Answer::Quota(receipt), Vec::new())?;
            Ok(receipt)
        })
        .await
    }

    async fn add_referral_bonus(&self, bonus: AddReferralBonus) -> Result<QuotaReceipt> {
        self.write("add_referral_bonus", bonus.key.clone(), bonus.heap_size(), move |tx| {
            let fingerprint = bonus.fingerprint();
            let AddReferralBonus { referrer, count, key } = bonus;
            if let Some(used) = tx.replayed(referrer, key.as_ref(), fingerprint)? {
                return replay_of(&used.answer);
            }
            let mut account = tx.account_or_new(referrer);
            account.record.set_quota(account.record.quota().add_bonus(count)?);
            let receipt = receipt(tx, &account, QuotaSource::Bank);
            tx.settle_operation(account, key, fingerprint, Answer::Quota(receipt), Vec::new())?;
            Ok(receipt)
        })
        .await
    }
}
