//! Users.

use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{
    AccountRecord, Acknowledged, Answer, Fingerprint, GiftClaim, HeapSize as _, Language, Page, PageRequest, Policy,
    Result, SetGiftClaimed, SetUserLanguage, User, UserId, Users,
};

use crate::engine::JsonStorage;

fn shown(record: &AccountRecord, policy: &Policy) -> Arc<User> {
    Arc::new(User {
        id: record.user,
        balance: record.balance,
        language: record.language.clone().unwrap_or_else(|| policy.default_language.clone()),
        gift_claimed: record.gift_claimed,
        referrer: record.referrer,
        created_at: record.created_at,
        updated_at: record.updated_at,
    })
}

impl JsonStorage {
    async fn known_user(&self, operation: &'static str, user: UserId) -> Result<Option<Arc<User>>> {
        let policy = &self.env().policy;
        self.read(operation, |state| state.account(user).map(|account| shown(&account.record, policy))).await
    }

    async fn page_of_users(&self, page: PageRequest) -> Result<Page<User>> {
        let filter = Fingerprint::of("list_users", &[]);
        let after = page.position::<UserId>(filter)?.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self
            .read("list_users", |state| {
                let accounts = state.accounts.range((after, Bound::Unbounded)).take(page.size.get() + 1);
                accounts.map(|(_, account)| shown(&account.record, &self.env().policy)).collect()
            })
            .await?;
        Ok(Page::from_surplus(rows, page.size, filter, |user| user.id))
    }
}

#[async_trait]
impl Users for JsonStorage {
    async fn get_user(&self, user: UserId) -> Result<Arc<User>> {
        // Almost every call finds the user there; only the first one is a write.
        if let Some(found) = self.known_user("get_user", user).await? {
            return Ok(found);
        }
        let policy = self.env().policy.clone();
        self.write("get_user", None, 0, move |tx| {
            tx.ensure_account(user);
            Ok(shown(&tx.account_or_new(user).record, &policy))
        })
        .await
    }

    async fn find_user(&self, user: UserId) -> Result<Option<Arc<User>>> {
        self.known_user("find_user", user).await
    }

    async fn list_users(&self, page: PageRequest) -> Result<Page<User>> {
        self.opened("list_users")?;
        self.page_of_users(page).await.map_err(|error| error.in_operation("list_users"))
    }

    async fn get_user_language(&self, user: UserId) -> Result<Language> {
        let chosen = self
            .read("get_user_language", |state| state.account(user).and_then(|account| account.record.language.clone()))
            .await?;
        Ok(chosen.unwrap_or_else(|| self.env().policy.default_language.clone()))
    }

    async fn set_user_language(&self, set: SetUserLanguage) -> Result<Acknowledged> {
        self.write("set_user_language", set.key.clone(), set.heap_size(), move |tx| {
            let fingerprint = set.fingerprint();
            let SetUserLanguage { user, language, key } = set;
            if tx.replayed(user, key.as_ref(), fingerprint)?.is_some() {
                return Ok(Acknowledged { replayed: true });
            }
            let mut account = tx.account_or_new(user);
            if account.record.language.as_ref() == Some(&language) {
                tx.settle_unchanged(user, key, fingerprint, Answer::Record)?;
            } else {
                account.record.language = Some(language);
                account.record.updated_at = tx.now();
                tx.settle_operation(account, key, fingerprint, Answer::Record, Vec::new())?;
            }
            Ok(Acknowledged { replayed: false })
        })
        .await
    }

    async fn has_claimed_gift(&self, user: UserId) -> Result<bool> {
        self.read("has_claimed_gift", |state| state.account(user).is_some_and(|account| account.record.gift_claimed))
            .await
    }

    async fn set_gift_claimed(&self, claim: SetGiftClaimed) -> Result<GiftClaim> {
        self.write("set_gift_claimed", claim.key.clone(), claim.heap_size(), move |tx| {
            let fingerprint = claim.fingerprint();
            let SetGiftClaimed { user, key } = claim;
            if let Some(used) = tx.replayed(user, key.as_ref(), fingerprint)? {
                return Ok(GiftClaim { first: used.answer == Answer::Gift(true), replayed: true });
            }
            let mut account = tx.account_or_new(user);
            if account.record.gift_claimed {
                tx.settle_unchanged(user, key, fingerprint, Answer::Gift(false))?;
                return Ok(GiftClaim { first: false, replayed: false });
            }
            account.record.gift_claimed = true;
            account.record.updated_at = tx.now();
            tx.settle_operation(account, key, fingerprint, Answer::Gift(true), Vec::new())?;
            Ok(GiftClaim { first: true, replayed: false })
        })
        .await
    }
}
