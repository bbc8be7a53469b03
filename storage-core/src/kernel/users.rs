//! Users: made on first sight, their language, their gift.

use std::sync::Arc;

use super::keys::{account_or_new, first};
use super::{Account, Atom, Changes, Decision, Halt, View};
use crate::{Acknowledged, Answer, GiftClaim, Policy, SetGiftClaimed, SetUserLanguage, User, UserId};

pub(super) fn get(atom: &Atom, user: UserId, view: &dyn View, policy: &Policy) -> Result<Decision, Halt> {
    let shown = |account: &Account| Arc::new(User::of(&account.record, policy));
    if let Some(account) = view.account(user)? {
        return Ok(Changes::default().answering(shown(&account)));
    }
    let account = Account::new(user, atom.stamp().now);
    let user = shown(&account);
    Ok(Changes::of(account).answering(user))
}

pub(super) fn set_language(atom: &Atom, set: &SetUserLanguage, view: &dyn View) -> Result<Decision, Halt> {
    let SetUserLanguage { user, language, key: _ } = set;
    if let Some(first) = first(atom, *user, view)? {
        return Ok(Changes::default().answering(Acknowledged { replayed: first.replayed }));
    }
    let mut account = account_or_new(atom, *user, view)?;
    let changes = if account.record.language.as_ref() == Some(language) {
        Changes::default().settled_unchanged(atom, *user, Answer::Record)
    } else {
        account.record.language = Some(language.clone());
        account.record.updated_at = atom.stamp().now;
        Changes::of(account).settled(atom, *user, Answer::Record)
    };
    Ok(changes.answering(Acknowledged { replayed: false }))
}

pub(super) fn claim_gift(atom: &Atom, claim: &SetGiftClaimed, view: &dyn View) -> Result<Decision, Halt> {
    let SetGiftClaimed { user, key: _ } = claim;
    if let Some(first) = first(atom, *user, view)? {
        let was_first = first.used.answer == Answer::Gift(true);
        return Ok(Changes::default().answering(GiftClaim { first: was_first, replayed: first.replayed }));
    }
    let mut account = account_or_new(atom, *user, view)?;
    if account.record.gift_claimed {
        let changes = Changes::default().settled_unchanged(atom, *user, Answer::Gift(false));
        return Ok(changes.answering(GiftClaim { first: false, replayed: false }));
    }
    account.record.gift_claimed = true;
    account.record.updated_at = atom.stamp().now;
    let changes = Changes::of(account).settled(atom, *user, Answer::Gift(true));
    Ok(changes.answering(GiftClaim { first: true, replayed: false }))
}
