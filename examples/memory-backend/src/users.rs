//! Users.

use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{
    AccountRecord, Acknowledged, Answer, Fingerprint, GiftClaim, Language, Page, PageRequest, Policy, Result,
    SetGiftClaimed, SetUserLanguage, User, UserId, Users,
};

use crate::MemoryStorage;
use crate::state::{Order, State, page};

fn user_of(account: &AccountRecord, policy: &Policy) -> Arc<User> {
    Arc::new(User {
        id: account.user,
        balance: account.balance,
        language: account.language.clone().unwrap_or_else(|| policy.default_language.clone()),
        gift_claimed: account.gift_claimed,
        referrer: account.referrer,
        created_at: account.created_at,
        updated_at: account.updated_at,
    })
}

#[async_trait]
impl Users for MemoryStorage {
    async fn get_user(&self, user: UserId) -> Result<Arc<User>> {
        let known = |state: &State| Ok(state.accounts.get(&user).map(|account| user_of(account, self.policy())));
        match self.read("get_user", known)? {
            Some(found) => Ok(found),
            None => self.write("get_user", |state, stamp| Ok(user_of(state.account(user, stamp.now), self.policy()))),
        }
    }

    async fn find_user(&self, user: UserId) -> Result<Option<Arc<User>>> {
        self.read("find_user", |state| Ok(state.accounts.get(&user).map(|account| user_of(account, self.policy()))))
    }

    async fn list_users(&self, request: PageRequest) -> Result<Page<User>> {
        self.read("list_users", |state| {
            let users: Vec<_> = state.accounts.values().map(|account| user_of(account, self.policy())).collect();
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
        self.write("set_user_language", |state, stamp| {
            let arguments = set.fingerprint();
            let SetUserLanguage { user, language, key } = set;
            if state.replay(user, key.as_ref(), arguments)?.is_some() {
                return Ok(Acknowledged { replayed: true });
            }
            let account = state.account(user, stamp.now);
            if account.language.as_ref() == Some(&language) {
                state.settle_unchanged(user, key, arguments, Answer::Record, stamp);
            } else {
                account.language = Some(language);
                account.updated_at = stamp.now;
                state.settle(user, key, arguments, Answer::Record, stamp);
            }
            Ok(Acknowledged { replayed: false })
        })
    }

    async fn has_claimed_gift(&self, user: UserId) -> Result<bool> {
        self.read("has_claimed_gift", |state| Ok(state.accounts.get(&user).is_some_and(|account| account.gift_claimed)))
    }

    async fn set_gift_claimed(&self, claim: SetGiftClaimed) -> Result<GiftClaim> {
        self.write("set_gift_claimed", |state, stamp| {
            let arguments = claim.fingerprint();
            let SetGiftClaimed { user, key } = claim;
            if let Some(used) = state.replay(user, key.as_ref(), arguments)? {
                return Ok(GiftClaim { first: used.answer == Answer::Gift(true), replayed: true });
            }
            let account = state.account(user, stamp.now);
            let first = !account.gift_claimed;
            if first {
                account.gift_claimed = true;
                account.updated_at = stamp.now;
                state.settle(user, key, arguments, Answer::Gift(true), stamp);
            } else {
                state.settle_unchanged(user, key, arguments, Answer::Gift(false), stamp);
            }
            Ok(GiftClaim { first, replayed: false })
        })
    }
}
