//! Balances: plain maps, and the document of the fork that kept more beside them.

use storage_core::{CivilDate, ImportRecord, Result};

use super::fields::{Attempt, Read, broken, object, owner, present, user_from, whole};
use super::free_generations::GivenQuota;
use super::gather::Gather;
use super::referrals::Said;
use super::source_files::LegacyFile;
use crate::json_text::{Node, NodeValue};

/// Reads a file of balances, whichever shape it has.
pub(super) fn read(gather: &mut Gather<'_>, file: &LegacyFile) -> Result<()> {
    let (mut users, mut metadata, mut not_users) = (false, false, None);
    file.entries(&mut |key, _, node| {
        metadata |= key == "metadata";
        if key == "users" {
            users = true;
            not_users = (!matches!(node.value, NodeValue::Object(_))).then(|| (node.offset, node.kind()));
        }
    })?;
    if users && metadata {
        if let Some((offset, kind)) = not_users {
            return Err(file.corrupt(offset, "users", format!("an object is expected, not {kind}")));
        }
        return gather.entries(file, &mut |gather, key, node| part(gather, file, key, node));
    }
    gather.each_record(file, &mut balance)
}

/// One user's balance: a number, or an object that holds it.
fn balance(gather: &mut Gather<'_>, attempt: &mut Attempt<'_>, node: &Node<'_>) -> Read<Option<ImportRecord>> {
    let user = user_from("user id", attempt.key)?;
    let (given, created_at) = match &node.value {
        NodeValue::Object(_) => (present(node, "balance"), attempt.time(node, "created_at")?),
        NodeValue::Null => (None, None),
        _ => (Some(node), None),
    };
    let Some(given) = given else { return broken("balance", "is missing") };
    let balance = attempt.money("balance", given)?;
    if let Some((known, file)) = gather.balances.get(&user) {
        if *known != balance {
            return broken("balance", format_args!("{file} gives {known} to the same user"));
        }
        attempt.note(format!("{file} holds the same balance already"));
        return Ok(None);
    }
    Ok(Some(ImportRecord::Balance { user, balance, created_at }))
}

/// One part of the fork's document.
fn part(gather: &mut Gather<'_>, file: &LegacyFile, name: &str, node: &Node<'_>) {
    let NodeValue::Object(fields) = &node.value else {
        if name == "free_usage" && matches!(node.value, NodeValue::Array(_)) {
            return free_usage(gather, file, node);
        }
        return gather.attempt(file, name, |_, _| object(node).map(|()| None));
    };
    match name {
        "users" => {
            for (key, node) in fields {
                gather.attempt(file, key, |gather, attempt| balance(gather, attempt, node));
            }
        }
        "referrals" => {
            for (key, node) in fields {
                gather.attempt(file, &format!("referrals/{key}"), |gather, attempt| {
                    let user = user_from("user id", key)?;
                    gather.edges.say(attempt, user, node, Ok(None), Said::InDocument)
                });
            }
        }
        "referral_bonuses" => {
            for (key, node) in fields {
                gather.attempt(file, &format!("referral_bonuses/{key}"), |gather, attempt| {
                    let user = user_from("user id", key)?;
                    let bank = whole("bonus", node)?;
                    gather.add_quota(attempt, user, GivenQuota { bank, ..GivenQuota::default() })
                });
            }
        }
        "metadata" => {
            if let Some(NodeValue::Object(updates)) = node.field("processed_updates").map(|node| &node.value)
                && !updates.is_empty()
            {
                gather.file_note(&file.name, "metadata/processed_updates has no counterpart here and was left alone");
            }
        }
        "free_usage" if fields.is_empty() => {}
        _ => gather.file_note(&file.name, format!("nobody knows the part {name:?}: it was left alone")),
    }
}

/// The free generations that were taken: those of a user's last day count against its quota.
fn free_usage(gather: &mut Gather<'_>, file: &LegacyFile, node: &Node<'_>) {
    let NodeValue::Array(items) = &node.value else { return };
    for (position, item) in items.iter().enumerate() {
        gather.attempt(file, &format!("free_usage/{}", position + 1), |gather, attempt| {
            let user = owner(item)?;
            let moment = attempt.moment(item, &["created_at"], &[])?;
            let date: CivilDate = attempt.zone.date_of(moment);
            gather.add_quota(attempt, user, GivenQuota { date: Some(date), used: 1, bank: 0, one_of_many: true })
        });
    }
}
