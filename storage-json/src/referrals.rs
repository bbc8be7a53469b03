//! Referrals.

use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{GetReferrals, Newest, Page, Referral, Referrals, Result, SetReferrer, Stored, Timestamp, UserId};

use crate::engine::JsonStorage;
use crate::state::State;

/// Whom a referrer brought, by time and user id.
pub(crate) fn brought_by(state: &State, referrer: UserId) -> impl Iterator<Item = (Timestamp, UserId)> {
    let all = state.referred.range(first_of(referrer, Timestamp::MIN)..);
    all.take_while(move |(by, ..)| *by == referrer).map(|(_, since, user)| (*since, *user))
}

/// The lowest place of a referrer's entries from a time on.
fn first_of(referrer: UserId, since: Timestamp) -> (UserId, Timestamp, UserId) {
    (referrer, since, UserId::new(i64::MIN).unwrap_or(referrer))
}

impl JsonStorage {
    async fn page_of_referrals(&self, list: GetReferrals) -> Result<Page<Referral>> {
        let filter = list.filter();
        let GetReferrals { referrer, page } = list;
        let after = page.position(filter)?.map(|Newest { at, id }| (referrer, at, id));
        let lower = after.map_or(Bound::Included(first_of(referrer, Timestamp::MIN)), Bound::Excluded);
        let rows = self
            .read("get_referrals", |state| {
                let mine = state.referred.range((lower, Bound::Unbounded)).take_while(|(by, ..)| *by == referrer);
                let referrals = mine.filter_map(|(_, _, user)| Referral::of(&state.account(*user)?.record));
                referrals.take(page.size.get() + 1).map(Arc::new).collect()
            })
            .await?;
        Ok(Page::from_surplus(rows, page.size, filter, |referral| Newest::new(referral.since, referral.user)))
    }
}

#[async_trait]
impl Referrals for JsonStorage {
    async fn set_referrer(&self, set: SetReferrer) -> Result<Stored<Referral>> {
        set.check().map_err(|error| self.refuse("set_referrer", error))?;
        // The usual call is a repetition, by a user who follows the same link again: a look answers it.
        if set.key.is_none() {
            let look = |state: &State| state.account(set.user).and_then(|account| Referral::of(&account.record));
            if let Some(standing) = self.read("set_referrer", look).await? {
                let judged = standing.judge_set(set.referrer);
                judged.map_err(|error| error.not_applied().in_operation("set_referrer"))?;
                return Ok(Stored { record: Arc::new(standing), replayed: true });
            }
        }
        self.apply(set).await
    }

    async fn get_referrer(&self, user: UserId) -> Result<Option<UserId>> {
        self.read("get_referrer", |state| state.account(user).and_then(|account| account.record.referrer)).await
    }

    async fn get_referrals(&self, list: GetReferrals) -> Result<Page<Referral>> {
        self.opened("get_referrals")?;
        self.page_of_referrals(list).await.map_err(|error| error.in_operation("get_referrals"))
    }
}
