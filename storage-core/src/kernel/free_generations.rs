//! Free generations: taken from the day or the bank, given back, added.

use super::keys::{First, account_or_new, first, used_otherwise};
use super::{Account, Atom, Changes, Decision, Halt, View};
use crate::{
    AddReferralBonus, Answer, Error, IncrementFreeGenerations, KeySpace, Policy, Quota, QuotaReceipt, QuotaSource,
    ReturnFreeGeneration,
};

pub(super) fn take(
    atom: &Atom,
    take: &IncrementFreeGenerations,
    view: &dyn View,
    policy: &Policy,
) -> Result<Decision, Halt> {
    let IncrementFreeGenerations { user, key } = take;
    if let Some(first) = first(atom, *user, view)? {
        if let Some(key) = key
            && view.key(*user, KeySpace::Return, key)?.is_some()
        {
            return Err(Error::transition("operation key", key, "returned", "taken").into());
        }
        return replay(&first);
    }
    let account = account_or_new(atom, *user, view)?;
    let (quota, source) = account.record.quota().take(policy.today(atom.stamp().now), policy.daily_free_generations)?;
    Ok(changed(atom, account, quota, source, policy))
}

pub(super) fn give_back(
    atom: &Atom,
    back: &ReturnFreeGeneration,
    view: &dyn View,
    policy: &Policy,
) -> Result<Decision, Halt> {
    let ReturnFreeGeneration { user, take } = back;
    if let Some(first) = first(atom, *user, view)? {
        return replay(&first);
    }
    let not_found = || Error::not_found("operation key", take);
    let taken = view.key(*user, KeySpace::Operation, take)?.ok_or_else(not_found)?;
    if taken.arguments != IncrementFreeGenerations::new(*user).fingerprint() {
        return Err(used_otherwise(*user, KeySpace::Operation, take).into());
    }
    let Answer::Quota(taken) = taken.answer else { return Err(not_found().into()) };
    let account = account_or_new(atom, *user, view)?;
    let quota = account.record.quota().give_back(taken.source)?;
    Ok(changed(atom, account, quota, taken.source, policy))
}

pub(super) fn add_bonus(
    atom: &Atom,
    bonus: &AddReferralBonus,
    view: &dyn View,
    policy: &Policy,
) -> Result<Decision, Halt> {
    let AddReferralBonus { referrer, count, key: _ } = bonus;
    if let Some(first) = first(atom, *referrer, view)? {
        return replay(&first);
    }
    let account = account_or_new(atom, *referrer, view)?;
    let quota = account.record.quota().add_bonus(*count)?;
    Ok(changed(atom, account, quota, QuotaSource::Bank, policy))
}

/// The account gets this quota, and the key remembers the receipt.
fn changed(atom: &Atom, mut account: Account, quota: Quota, source: QuotaSource, policy: &Policy) -> Decision {
    account.record.set_quota(quota);
    let remaining_after = quota.remaining_on(policy.today(atom.stamp().now), policy.daily_free_generations);
    let receipt = QuotaReceipt { operation: atom.stamp().operation, source, remaining_after, replayed: false };
    let user = account.record.user;
    Changes::of(account).settled(atom, user, Answer::Quota(receipt)).answering(receipt)
}

fn replay(first: &First) -> Result<Decision, Halt> {
    match first.used.answer {
        Answer::Quota(receipt) => {
            Ok(Changes::default().answering(QuotaReceipt { replayed: first.replayed, ..receipt }))
        }
        _ => Err(Halt::Failed(Error::internal("the key of a quota operation answers something else"))),
    }
}
