//! What people had in the earlier system and what has no counterpart here: open holds, bonus balances, promotion codes,
//! blocks. None of it is brought in, because nobody can tell what it is worth by now; all of it is listed by name.

use storage_core::{Money, Result, UserId};

use super::fields::{Attempt, broken, is_nothing, object, owner, present, text, user_from};
use super::gather::Gather;
use super::report::Unsettled;
use super::source_files::LegacyFile;
use crate::json_text::NodeValue;

/// Reads `balance_reserves.json`: only those that are still open are anybody's business.
pub(super) fn read_holds(gather: &mut Gather<'_>, file: &LegacyFile) -> Result<()> {
    gather.each_record(file, &mut |gather, attempt, node| {
        object(node)?;
        match text(node, "status")? {
            Some("reserved") => {}
            Some("committed" | "released") => return Ok(None),
            Some(word) => return broken("status", format_args!("the word {word:?} is unknown")),
            None => return broken("status", "is missing"),
        }
        let user = owner(node)?;
        let Some(amount) = attempt.optional_money(node, "amount")? else { return broken("amount", "is missing") };
        let task = text(node, "task_id")?.map_or_else(String::new, |task| format!(" for the task {task}"));
        let what = format!("an open hold{task}: nobody knows whether the balance still contains it");
        gather.unsettled(attempt, Some(user), Some(amount), what);
        Ok(None)
    })
}

/// Reads `user_bonuses.json`: what is left of a bonus.
pub(super) fn read_bonuses(gather: &mut Gather<'_>, file: &LegacyFile) -> Result<()> {
    gather.each_record(file, &mut |gather, attempt, node| {
        object(node)?;
        let user = user_from("user id", attempt.key)?;
        let balance = attempt.optional_money(node, "bonus_balance")?.unwrap_or_default();
        let points = attempt.optional_money(node, "bonus_points")?.unwrap_or_default();
        if !balance.is_zero() {
            gather.unsettled(attempt, Some(user), Some(balance), "a bonus balance, beside the balance");
        }
        if !points.is_zero() {
            gather.unsettled(attempt, Some(user), None, format!("{points} bonus points"));
        }
        Ok(None)
    })
}

/// Reads `promocodes.json`: `{promocodes: [{code, value, expires, used_count, active}]}`.
pub(super) fn read_codes(gather: &mut Gather<'_>, file: &LegacyFile) -> Result<()> {
    gather.entries(file, &mut |gather, key, node| {
        let NodeValue::Array(codes) = &node.value else {
            return gather.file_note(&file.name, format!("nobody knows the part {key:?}: it was left alone"));
        };
        for (position, code) in codes.iter().enumerate() {
            gather.attempt(file, &format!("{key}/{}", position + 1), |gather, attempt| {
                object(code)?;
                let is_active =
                    !matches!(present(code, "active").map(|node| &node.value), Some(NodeValue::Bool(false)));
                let Some(name) = text(code, "code")? else { return broken("code", "is missing") };
                let Some(value) = attempt.optional_money(code, "value")? else { return broken("value", "is missing") };
                if is_active {
                    let until = text(code, "expires")?.map_or_else(String::new, |at| format!(" until {at}"));
                    gather.unsettled(attempt, None, None, format!("the promotion code {name} worth {value}{until}"));
                }
                Ok(None)
            });
        }
    })
}

/// Reads `blocked_users.json`: whoever stands there is blocked.
pub(super) fn read_blocked(gather: &mut Gather<'_>, file: &LegacyFile) -> Result<()> {
    gather.each_record(file, &mut |gather, attempt, node| {
        let user = user_from("user id", attempt.key)?;
        match node.value {
            NodeValue::Bool(false) => {}
            _ if is_nothing(node) => {}
            _ => gather.unsettled(attempt, Some(user), None, "was blocked, which nothing here knows of"),
        }
        Ok(None)
    })
}

impl Gather<'_> {
    fn unsettled(
        &mut self,
        attempt: &Attempt<'_>,
        user: Option<UserId>,
        amount: Option<Money>,
        what: impl Into<String>,
    ) {
        if let Some(amount) = amount {
            self.report.unsettled_sum = self.report.unsettled_sum.plus(amount);
        }
        let (file, key) = (attempt.file.name.to_string(), attempt.key.to_owned());
        self.report.unsettled.push(Unsettled { file, key, user, amount, what: what.into() });
    }
}
