//! Admin limits.

use super::keys::{account_or_new, first};
use super::{Atom, Changes, Decision, Halt, View};
use crate::{Acknowledged, Answer, SetAdminLimit};

pub(super) fn set(atom: &Atom, set: &SetAdminLimit, view: &dyn View) -> Result<Decision, Halt> {
    let SetAdminLimit { user, limit, key: _ } = set;
    if let Some(first) = first(atom, *user, view)? {
        return Ok(Changes::default().answering(Acknowledged { replayed: first.replayed }));
    }
    let mut account = account_or_new(atom, *user, view)?;
    let changes = if account.record.admin_limit == Some(*limit) {
        Changes::default().settled_unchanged(atom, *user, Answer::Record)
    } else {
        account.record.admin_limit = Some(*limit);
        Changes::of(account).settled(atom, *user, Answer::Record)
    };
    Ok(changes.answering(Acknowledged { replayed: false }))
}
