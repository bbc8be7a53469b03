//! How a repeated call is told from a new one.

use super::{Account, Atom, Halt, View};
use crate::{Error, KeySpace, OperationKey, UsedKey, UserId};

/// The first use of an atom's key.
#[derive(Debug)]
pub(super) struct First {
    pub(super) used: UsedKey,
    /// Whether this call only repeats it; `false` for an earlier attempt of this very call, whose answer was lost.
    pub(super) replayed: bool,
}

/// The first use of the atom's key, if it was used; `Conflict` when that was for something else.
pub(super) fn first(atom: &Atom, user: UserId, view: &dyn View) -> Result<Option<First>, Halt> {
    if !atom.may_be_known() {
        return Ok(None);
    }
    let Some(used) = view.key(user, atom.space(), atom.key())? else { return Ok(None) };
    if used.arguments != atom.arguments() {
        return Err(used_otherwise(user, atom.space(), atom.key()).into());
    }
    let is_this_one = atom.is_again() && used.operation == atom.stamp().operation;
    Ok(Some(First { used, replayed: !is_this_one }))
}

/// `Conflict` over a key that another call has used.
pub(super) fn used_otherwise(user: UserId, space: KeySpace, key: &OperationKey) -> Error {
    match space {
        KeySpace::Generation => Error::conflict("generation", key, "it was recorded with other arguments"),
        KeySpace::Operation | KeySpace::Return => {
            let reason = format!("user {user} used it for another operation or with other arguments");
            Error::conflict("operation key", key, reason)
        }
    }
}

/// The record that a used key made. The store removes no record: one that is not there was removed by hand, or the store was
/// restored from one where it had been.
pub(super) fn made_by_key<T>(atom: &Atom, kind: &'static str, record: Option<T>) -> Result<T, Error> {
    record.ok_or_else(|| {
        let reason = format!("the {kind} that it made was removed by hand since; another key makes a new one");
        Error::conflict("operation key", atom.key(), reason)
    })
}

/// The user's account, a new one where there is none.
pub(super) fn account_or_new(atom: &Atom, user: UserId, view: &dyn View) -> Result<Account, Halt> {
    Ok(view.account(user)?.unwrap_or_else(|| Account::new(user, atom.stamp().now)))
}
