//! Referrals: who brought whom.

use std::sync::Arc;

use super::keys::{account_or_new, first, made_by_key};
use super::{Atom, Changes, Decision, Halt, View};
use crate::{Answer, Error, MAX_REFERRAL_CHAIN, Referral, Result, SetReferrer, Stored, UserId};

pub(super) fn set(atom: &Atom, set: &SetReferrer, view: &dyn View) -> Result<Decision, Halt> {
    let SetReferrer { user, referrer, bonus, key: _ } = set;
    let standing = view.account(*user)?.and_then(|account| Referral::of(&account.record));
    if let Some(first) = first(atom, *user, view)? {
        let record = made_by_key(atom, "referral", standing)?;
        // A hand edit may have named another one since.
        record.judge_set(*referrer)?;
        return Ok(Changes::default().answering(Stored { record: Arc::new(record), replayed: first.replayed }));
    }
    if let Some(record) = standing {
        record.judge_set(*referrer)?;
        let changes = Changes::default().settled_unchanged(atom, *user, Answer::Record);
        return Ok(changes.answering(Stored { record: Arc::new(record), replayed: true }));
    }
    may_bring(*user, *referrer, view)?;
    let now = atom.stamp().now;
    let (mut account, known) = (account_or_new(atom, *user, view)?, view.account(*referrer)?);
    let mut above = account_or_new(atom, *referrer, view)?;
    if let Some(count) = account.record.refer(*referrer, now, *bonus, now) {
        above.record.set_quota(above.record.quota().add_bonus(count)?);
    }
    let record =
        Arc::new(Referral { user: *user, referrer: *referrer, since: now, bonus: account.record.referral_bonus });
    let above = (known.as_ref() != Some(&above)).then_some(above);
    let changes = Changes { accounts: [Some(account), above], ..Changes::default() };
    Ok(changes.settled(atom, *user, Answer::Record).answering(Stored { record, replayed: false }))
}

/// `InvalidInput` for oneself, a circle, or a chain that is too long.
pub(super) fn may_bring(user: UserId, referrer: UserId, view: &dyn View) -> Result<(), Halt> {
    let refuse = |rule| Err(Error::invalid("referrer", rule).into());
    let too_long = "must not make a chain of more than 1000 referrers";
    if user == referrer {
        return refuse("must not be the user");
    }
    let mut edges = 1;
    for above in view.chain(referrer)? {
        if above == user {
            return refuse("must not close a circle");
        }
        edges += 1;
        if edges > MAX_REFERRAL_CHAIN {
            return refuse(too_long);
        }
    }
    if view.height(user)? > MAX_REFERRAL_CHAIN - edges {
        return refuse(too_long);
    }
    Ok(())
}
