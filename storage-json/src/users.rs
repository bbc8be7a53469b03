//! Users.

use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use storage_core::kernel::Call;
use storage_core::{
    Acknowledged, Fingerprint, GiftClaim, Language, Page, PageRequest, Result, SetGiftClaimed, SetUserLanguage, User,
    UserId, Users,
};

use crate::engine::JsonStorage;

impl JsonStorage {
    async fn known_user(&self, operation: &'static str, user: UserId) -> Result<Option<Arc<User>>> {
        let policy = &self.env().policy;
        self.read(operation, |state| state.account(user).map(|account| Arc::new(User::of(&account.record, policy))))
            .await
    }

    async fn page_of_users(&self, page: PageRequest) -> Result<Page<User>> {
        let filter = Fingerprint::of("list_users", &[]);
        let after = page.position::<UserId>(filter)?.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self
            .read("list_users", |state| {
                let accounts = state.accounts.range((after, Bound::Unbounded)).take(page.size.get() + 1);
                accounts.map(|(_, account)| Arc::new(User::of(&account.record, &self.env().policy))).collect()
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
        self.apply(Call::GetUser(user)).await
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
        self.apply(set).await
    }

    async fn has_claimed_gift(&self, user: UserId) -> Result<bool> {
        self.read("has_claimed_gift", |state| state.account(user).is_some_and(|account| account.record.gift_claimed))
            .await
    }

    async fn set_gift_claimed(&self, claim: SetGiftClaimed) -> Result<GiftClaim> {
        self.apply(claim).await
    }
}
