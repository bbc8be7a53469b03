//! Users.

use std::sync::Arc;

use async_trait::async_trait;

use super::Serial;
use super::page::page;
use crate::kernel::Call;
use crate::{
    AccountRecord, Acknowledged, Fingerprint, GiftClaim, Language, Page, PageRequest, Result, SetGiftClaimed,
    SetUserLanguage, User, UserId, Users,
};

impl Serial {
    async fn known(&self, operation: &'static str, user: UserId) -> Result<Option<Arc<User>>> {
        self.look(operation, move |unit, policy| {
            Ok(unit.known(user)?.map(|account| Arc::new(User::of(&account, policy))))
        })
        .await
    }
}

#[async_trait]
impl Users for Serial {
    async fn get_user(&self, user: UserId) -> Result<Arc<User>> {
        match self.known("get_user", user).await? {
            Some(found) => Ok(found),
            None => self.apply(Call::GetUser(user)).await,
        }
    }

    async fn find_user(&self, user: UserId) -> Result<Option<Arc<User>>> {
        self.known("find_user", user).await
    }

    async fn list_users(&self, request: PageRequest) -> Result<Page<User>> {
        let filter = Fingerprint::of("list_users", &[]);
        self.look("list_users", move |unit, policy| {
            let rows = |after: Option<&UserId>, most| {
                let users = unit.users(after.copied(), most)?;
                Ok(users.iter().map(|account| Arc::new(User::of(account, policy))).collect())
            };
            page(&request, filter, rows, |user| user.id)
        })
        .await
    }

    async fn get_user_language(&self, user: UserId) -> Result<Language> {
        self.look("get_user_language", move |unit, policy| {
            let chosen = unit.known(user)?.and_then(|account| account.language);
            Ok(chosen.unwrap_or_else(|| policy.default_language.clone()))
        })
        .await
    }

    async fn set_user_language(&self, set: SetUserLanguage) -> Result<Acknowledged> {
        self.apply(set).await
    }

    async fn has_claimed_gift(&self, user: UserId) -> Result<bool> {
        let claimed = |account: AccountRecord| account.gift_claimed;
        self.look("has_claimed_gift", move |unit, _| Ok(unit.known(user)?.is_some_and(claimed))).await
    }

    async fn set_gift_claimed(&self, claim: SetGiftClaimed) -> Result<GiftClaim> {
        self.apply(claim).await
    }
}
