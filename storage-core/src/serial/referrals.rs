//! Referrals.

use std::sync::Arc;

use async_trait::async_trait;

use super::page::page;
use super::{Serial, Unit};
use crate::{GetReferrals, Newest, Page, Referral, Referrals, Result, SetReferrer, Stored, UserId};

fn standing(unit: &dyn Unit, user: UserId) -> Result<Option<Arc<Referral>>> {
    Ok(unit.known(user)?.as_ref().and_then(Referral::of).map(Arc::new))
}

#[async_trait]
impl Referrals for Serial {
    async fn set_referrer(&self, set: SetReferrer) -> Result<Stored<Referral>> {
        self.judge("set_referrer", set.check())?;
        // The usual call is a repetition, by a user who follows the same link again: a look answers it.
        let user = set.user;
        if set.key.is_none()
            && let Some(record) = self.look("set_referrer", move |unit, _| standing(unit, user)).await?
        {
            self.judge("set_referrer", record.judge_set(set.referrer))?;
            return Ok(Stored { record, replayed: true });
        }
        self.apply(set).await
    }

    async fn get_referrer(&self, user: UserId) -> Result<Option<UserId>> {
        self.look("get_referrer", move |unit, _| Ok(unit.known(user)?.and_then(|account| account.referrer))).await
    }

    async fn get_referrals(&self, list: GetReferrals) -> Result<Page<Referral>> {
        let position = |referral: &Referral| Newest::new(referral.since, referral.user);
        self.look("get_referrals", move |unit, _| {
            let rows = |after: Option<&_>, most| {
                let brought = unit.referrals(list.referrer, after, most)?;
                Ok(brought.iter().filter_map(Referral::of).map(Arc::new).collect())
            };
            page(&list.page, list.filter(), rows, position)
        })
        .await
    }
}
