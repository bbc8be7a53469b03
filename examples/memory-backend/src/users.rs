//! Users.

use std::sync::Arc;

use async_trait::async_trait;
use storage_core::kernel::Call;
use storage_core::{
    Acknowledged, Fingerprint, GiftClaim, Language, Page, PageRequest, Result, SetGiftClaimed, SetUserLanguage, User,
    UserId, Users,
};

use crate::MemoryStorage;
use crate::state::{Order, page};

impl MemoryStorage {
    fn known(&self, operation: &'static str, user: UserId) -> Result<Option<Arc<User>>> {
        let policy = self.policy();
        self.read(operation, |state| Ok(state.accounts.get(&user).map(|account| Arc::new(User::of(account, policy)))))
    }
}

#[async_trait]
impl Users for MemoryStorage {
    async fn get_user(&self, user: UserId) -> Result<Arc<User>> {
        match self.known("get_user", user)? {
            Some(found) => Ok(found),
            None => self.apply(Call::GetUser(user)),
        }
    }

    async fn find_user(&self, user: UserId) -> Result<Option<Arc<User>>> {
        self.known("find_user", user)
    }

    async fn list_users(&self, request: PageRequest) -> Result<Page<User>> {
        self.read("list_users", |state| {
            let users: Vec<_> =
                state.accounts.values().map(|account| Arc::new(User::of(account, self.policy()))).collect();
            let filter = Fingerprint::of("list_users", &[]);
            page(users.iter(), &request, filter, Order::Ascending, |user| user.id)
        })
    }

    async fn get_user_language(&self, user: UserId) -> Result<Language> {
        self.read("get_user_language", |state| {
            let chosen = state.accounts.get(&user).and_then(|account| account.language.clone());
            Ok(chosen.unwrap_or_else(|| self.policy().default_language.clone()))
        })
    }

    async fn set_user_language(&self, set: SetUserLanguage) -> Result<Acknowledged> {
        self.apply(set)
    }

    async fn has_claimed_gift(&self, user: UserId) -> Result<bool> {
        self.read("has_claimed_gift", |state| Ok(state.accounts.get(&user).is_some_and(|account| account.gift_claimed)))
    }

    async fn set_gift_claimed(&self, claim: SetGiftClaimed) -> Result<GiftClaim> {
        self.apply(claim)
    }
}
