//! Admin limits, and what was spent: stored, else the sum of the imported prices.

use storage_core::{ImportRecord, Money, Result, Total, UserId};

use super::fields::{Attempt, object, user_from};
use super::gather::{Gather, Spent};
use super::source_files::LegacyFile;

/// Reads `admin_limits.json`.
pub(super) fn read(gather: &mut Gather<'_>, file: &LegacyFile) -> Result<()> {
    gather.each_record(file, &mut |gather, attempt, node| {
        let user = user_from("user id", attempt.key)?;
        object(node)?;
        let limit = attempt.optional_money(node, "limit")?;
        if let Some(spent) = attempt.optional_money(node, "spent")? {
            let spot = (attempt.file.name.clone(), attempt.key.into());
            gather.spent.insert(user, (Spent::Stored(spent.into()), spot));
        }
        Ok(limit.map(|limit| ImportRecord::AdminLimit { user, limit }))
    })
}

impl Gather<'_> {
    /// Adds an imported price to what its user spent.
    pub(super) fn add_spent(&mut self, attempt: &Attempt<'_>, user: UserId, price: Money) {
        let spot = || (attempt.file.name.clone(), attempt.key.into());
        let (spent, _) = self.spent.entry(user).or_insert_with(|| (Spent::Summed(Total::ZERO), spot()));
        if let Spent::Summed(sum) = spent {
            *sum = sum.plus(price);
        }
    }
    /// Turns what was spent into records. Having spent nothing needs none.
    pub(super) fn settle_spent(&mut self) {
        for (user, (spent, spot)) in std::mem::take(&mut self.spent) {
            let (Spent::Stored(spent) | Spent::Summed(spent)) = spent;
            if spent != Total::ZERO {
                self.accept(spot, ImportRecord::Spent { user, spent });
            }
        }
    }
}
