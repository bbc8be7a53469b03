//! Referrals.

use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{GetReferrals, Newest, Page, Referral, Referrals, Result, SetReferrer, Stored, UserId};

use crate::MemoryStorage;
use crate::state::{Order, State, page};

fn standing(state: &State, user: UserId) -> Option<Arc<Referral>> {
    state.accounts.get(&user).and_then(Referral::of).map(Arc::new)
}

#[async_trait]
impl Referrals for MemoryStorage {
    async fn set_referrer(&self, set: SetReferrer) -> Result<Stored<Referral>> {
        self.judge("set_referrer", set.check())?;
        // The usual call is a repetition, by a user who follows the same link again: a look answers it.
        if set.key.is_none()
            && let Some(record) = self.read("set_referrer", |state| Ok(standing(state, set.user)))?
        {
            self.judge("set_referrer", record.judge_set(set.referrer))?;
            return Ok(Stored { record, replayed: true });
        }
        self.apply(set)
    }

    async fn get_referrer(&self, user: UserId) -> Result<Option<UserId>> {
        self.read("get_referrer", |state| Ok(state.accounts.get(&user).and_then(|account| account.referrer)))
    }

    async fn get_referrals(&self, list: GetReferrals) -> Result<Page<Referral>> {
        self.read("get_referrals", |state| {
            let brought: Vec<_> = (state.accounts.values())
                .filter(|account| account.referrer == Some(list.referrer))
                .filter_map(|account| Referral::of(account).map(Arc::new))
                .collect();
            let position = |referral: &Referral| Newest::new(referral.since, referral.user);
            page(brought.iter(), &list.page, list.filter(), Order::Ascending, position)
        })
    }
}
