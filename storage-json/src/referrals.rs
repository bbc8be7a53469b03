//! Referrals.

use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{
    AccountRecord, Answer, GetReferrals, HeapSize as _, Newest, Page, Referral, Referrals, Result, SetReferrer, Stored,
    Timestamp, UserId, judge_chain, made_by_key,
};

use crate::engine::JsonStorage;
use crate::state::State;
use crate::tx::Tx;

/// Whom a referrer brought, by time and user id.
pub(crate) fn brought_by(state: &State, referrer: UserId) -> impl Iterator<Item = (Timestamp, UserId)> {
    let all = state.referred.range(first_of(referrer, Timestamp::MIN)..);
    all.take_while(move |(by, ..)| *by == referrer).map(|(_, since, user)| (*since, *user))
}

/// The lowest place of a referrer's entries from a time on.
fn first_of(referrer: UserId, since: Timestamp) -> (UserId, Timestamp, UserId) {
    (referrer, since, UserId::new(i64::MIN).unwrap_or(referrer))
}

fn shown(record: &AccountRecord) -> Option<Referral> {
    let (referrer, since) = record.referrer.zip(record.referred_at)?;
    Some(Referral { user: record.user, referrer, since, bonus: record.referral_bonus })
}

/// Judges a new edge against everything decided so far.
pub(crate) fn judge(tx: &Tx<'_>, user: UserId, referrer: UserId) -> Result<()> {
    let referrer_of = |of: UserId| tx.account(of).and_then(|account| account.record.referrer);
    judge_chain(user, referrer, referrer_of, |of| tx.height(of))
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
                let referrals = mine.filter_map(|(_, _, user)| shown(&state.account(*user)?.record));
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
            let look = |state: &State| state.account(set.user).and_then(|account| shown(&account.record));
            if let Some(standing) = self.read("set_referrer", look).await? {
                let judged = standing.judge_set(set.referrer);
                judged.map_err(|error| error.not_applied().in_operation("set_referrer"))?;
                return Ok(Stored { record: Arc::new(standing), replayed: true });
            }
        }
        self.write("set_referrer", set.key.clone(), set.heap_size(), move |tx| {
            let fingerprint = set.fingerprint();
            let SetReferrer { user, referrer, bonus, key } = set;
            let standing = tx.account(user).and_then(|account| shown(&account.record));
            if tx.replayed(user, key.as_ref(), fingerprint)?.is_some() {
                let record = made_by_key(key.as_ref(), "referral", standing)?;
                // A hand edit may have named another one since.
                record.judge_set(referrer)?;
                return Ok(Stored { record: Arc::new(record), replayed: true });
            }
            if let Some(record) = standing {
                record.judge_set(referrer)?;
                tx.settle_unchanged(user, key, fingerprint, Answer::Record)?;
                return Ok(Stored { record: Arc::new(record), replayed: true });
            }
            judge(tx, user, referrer)?;
            let mut account = tx.account_or_new(user);
            let mut above = tx.account_or_new(referrer);
            if let Some(count) = account.record.refer(referrer, tx.now(), bonus, tx.now()) {
                above.record.set_quota(above.record.quota().add_bonus(count)?);
            }
            tx.put_account(above);
            let record = Referral { user, referrer, since: tx.now(), bonus: account.record.referral_bonus };
            tx.settle_operation(account, key, fingerprint, Answer::Record, Vec::new())?;
            tx.raise_above(user);
            Ok(Stored { record: Arc::new(record), replayed: false })
        })
        .await
    }

    async fn get_referrer(&self, user: UserId) -> Result<Option<UserId>> {
        self.read("get_referrer", |state| state.account(user).and_then(|account| account.record.referrer)).await
    }

    async fn get_referrals(&self, list: GetReferrals) -> Result<Page<Referral>> {
        self.opened("get_referrals")?;
        self.page_of_referrals(list).await.map_err(|error| error.in_operation("get_referrals"))
    }
}
