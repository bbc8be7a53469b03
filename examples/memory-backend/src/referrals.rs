//! Referrals.

use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{
    AccountRecord, Answer, BonusCount, Error, GetReferrals, Newest, Page, Referral, Referrals, Result, SetReferrer,
    Stored, Timestamp, UserId, height_below, judge_chain, made_by_key,
};

use crate::MemoryStorage;
use crate::state::{Order, State, page};

fn referral_of(account: &AccountRecord) -> Option<Arc<Referral>> {
    Some(Arc::new(Referral {
        user: account.user,
        referrer: account.referrer?,
        since: account.referred_at.unwrap_or(account.created_at),
        bonus: account.referral_bonus,
    }))
}

/// `InvalidInput` for oneself, a circle, or a chain that is too long.
pub(crate) fn check_chain(state: &State, user: UserId, referrer: UserId) -> Result<()> {
    let referrer_of = |user| state.accounts.get(&user).and_then(|account| account.referrer);
    let brought_by = |of| state.accounts.values().filter(|a| a.referrer == Some(of)).map(|a| a.user).collect();
    let height_of = |of| height_below(of, brought_by);
    judge_chain(user, referrer, referrer_of, height_of)
}

/// Stores the edge, and creates both users when missing. Answers the bonus that is to be granted.
pub(crate) fn link(
    state: &mut State,
    user: UserId,
    referrer: UserId,
    bonus: Option<BonusCount>,
    (since, now): (Timestamp, Timestamp),
) -> Option<BonusCount> {
    state.account(referrer, now);
    state.account(user, now).refer(referrer, since, bonus, now)
}

/// The referral that stands, when it is the one that is asked for.
fn standing(state: &State, set: &SetReferrer) -> Result<Option<Arc<Referral>>> {
    let Some(present) = state.accounts.get(&set.user).and_then(referral_of) else { return Ok(None) };
    if present.referrer != set.referrer {
        let reason = format!("user {} brought them first", present.referrer);
        return Err(Error::conflict("referrer of user", set.user, reason));
    }
    Ok(Some(present))
}

#[async_trait]
impl Referrals for MemoryStorage {
    async fn set_referrer(&self, set: SetReferrer) -> Result<Stored<Referral>> {
        self.judge("set_referrer", set.check())?;
        // The usual call is a repetition, by a user who follows the same link again: a look answers it.
        if set.key.is_none()
            && let Some(record) = self.read("set_referrer", |state| standing(state, &set))?
        {
            return Ok(Stored { record, replayed: true });
        }
        self.write("set_referrer", |state, stamp| {
            let arguments = set.fingerprint();
            let replayed_key = state.replay(set.user, set.key.as_ref(), arguments)?.is_some();
            let standing = standing(state, &set)?;
            let SetReferrer { user, referrer, bonus, key } = set;
            let replayed = match standing {
                Some(_) => true,
                // A restored store may lack what was removed by hand where it came from.
                None if replayed_key => made_by_key(key.as_ref(), "referral", None)?,
                None => {
                    check_chain(state, user, referrer)?;
                    if let Some(bonus) = link(state, user, referrer, bonus, (stamp.now, stamp.now)) {
                        let account = state.account(referrer, stamp.now);
                        account.set_quota(account.quota().add_bonus(bonus)?);
                    }
                    false
                }
            };
            match (replayed_key, replayed) {
                (true, _) => {}
                (false, true) => state.settle_unchanged(user, key, arguments, Answer::Record, stamp),
                (false, false) => state.settle(user, key, arguments, Answer::Record, stamp),
            }
            let record = state.accounts.get(&user).and_then(referral_of);
            let record = record.ok_or_else(|| Error::internal("a referral that was just stored is missing"))?;
            Ok(Stored { record, replayed })
        })
    }

    async fn get_referrer(&self, user: UserId) -> Result<Option<UserId>> {
        self.read("get_referrer", |state| Ok(state.accounts.get(&user).and_then(|account| account.referrer)))
    }

    async fn get_referrals(&self, list: GetReferrals) -> Result<Page<Referral>> {
        self.read("get_referrals", |state| {
            let brought: Vec<_> = (state.accounts.values())
                .filter(|account| account.referrer == Some(list.referrer))
                .filter_map(referral_of)
                .collect();
            let position = |referral: &Referral| Newest::new(referral.since, referral.user);
            page(brought.iter(), &list.page, list.filter(), Order::Ascending, position)
        })
    }
}
