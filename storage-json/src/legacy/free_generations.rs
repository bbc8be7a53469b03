//! Free generations: the daily quota, the bonuses and the bank, which several files hold together.

use storage_core::{CivilDate, ImportRecord, MAX_BANK, Result, UserId};

use super::fields::{Attempt, Read, broken, is_nothing, object, present, ruled, text, user_from, whole};
use super::gather::Gather;
use super::source_files::LegacyFile;
use crate::json_text::{Node, NodeValue};

/// What one record gives to a user's free generations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct GivenQuota {
    pub(super) date: Option<CivilDate>,
    pub(super) used: u32,
    pub(super) bank: u64,
    /// Whether `used` counts on from other records of the day, instead of being its count.
    pub(super) one_of_many: bool,
}

/// Reads `daily_free_generations.json`: `{date, count, bonus}`, or a bare number, which is the bonus.
pub(super) fn read_daily(gather: &mut Gather<'_>, file: &LegacyFile) -> Result<()> {
    gather.each_record(file, &mut |gather, attempt, node| {
        let user = user_from("user id", attempt.key)?;
        let given = match &node.value {
            NodeValue::Number(_) | NodeValue::String(_) => {
                attempt.note("a bare number: it is the bonus");
                GivenQuota { bank: whole("bonus", node)?, ..GivenQuota::default() }
            }
            _ => daily(node)?,
        };
        gather.add_quota(attempt, user, given)
    })
}

fn daily(node: &Node<'_>) -> Read<GivenQuota> {
    object(node)?;
    let date = text(node, "date")?.map(|date| ruled("date", date.parse())).transpose()?;
    let used = present(node, "count").map_or(Ok(0), |count| whole("count", count))?;
    let bank = present(node, "bonus").map_or(Ok(0), |bonus| whole("bonus", bonus))?;
    match u32::try_from(used) {
        // Without a day there is nothing that the count could count against.
        Ok(used) => Ok(GivenQuota { date, used: if date.is_some() { used } else { 0 }, bank, one_of_many: false }),
        Err(_) => broken("count", "must be at most 4294967295"),
    }
}

/// Reads `referral_free_bank.json`: what it holds comes on top of the bonuses.
pub(super) fn read_bank(gather: &mut Gather<'_>, file: &LegacyFile) -> Result<()> {
    gather.each_record(file, &mut |gather, attempt, node| {
        let user = user_from("user id", attempt.key)?;
        if is_nothing(node) {
            return Ok(None);
        }
        gather.add_quota(attempt, user, GivenQuota { bank: whole("bank", node)?, ..GivenQuota::default() })
    })
}

impl Gather<'_> {
    /// Adds to what is known of a user's free generations: banks add up, the latest day counts.
    pub(super) fn add_quota(
        &mut self,
        attempt: &Attempt<'_>,
        user: UserId,
        given: GivenQuota,
    ) -> Read<Option<ImportRecord>> {
        let known = self.quotas.get(&user).map(|(known, _)| *known).unwrap_or_default();
        let bank = known.bank.saturating_add(given.bank);
        if bank > MAX_BANK {
            return broken("bonus", format_args!("the bank must hold at most {MAX_BANK}"));
        }
        let (day, taken) = match known.date.cmp(&given.date) {
            std::cmp::Ordering::Less => (given.date, given.used),
            std::cmp::Ordering::Equal if given.one_of_many => (known.date, known.used.saturating_add(given.used)),
            std::cmp::Ordering::Equal => (known.date, known.used.max(given.used)),
            std::cmp::Ordering::Greater => (known.date, known.used),
        };
        let sum = GivenQuota { date: day, used: taken, bank, one_of_many: false };
        let spot = || (attempt.file.name.clone(), attempt.key.into());
        self.quotas.entry(user).or_insert_with(|| (sum, spot())).0 = sum;
        Ok(None)
    }
    /// Turns the gathered free generations into records.
    pub(super) fn settle_quotas(&mut self) {
        for (user, (GivenQuota { date, used, bank, one_of_many: _ }, spot)) in std::mem::take(&mut self.quotas) {
            self.accept(spot, ImportRecord::Quota { user, date, used, bank });
        }
    }
}
