//! Referrals, and what another system left.

use storage_core::{ImportRecord, Memo, OperationKind, Referral, SetReferrer, UserId};

use super::super::ask::{Answer, stored};
use super::money::About;
use super::{First, Judged, Moment, Oracle, conflict, invalid};

impl Oracle {
    /// Who brought a user, when, and for which bonus.
    pub(super) fn referral(&self, user: UserId) -> Option<Referral> {
        let (referrer, since, bonus) = self.accounts.get(&user)?.referrer?;
        Some(Referral { user, referrer, since, bonus })
    }

    fn shown_referral(&self, user: UserId, replayed: bool) -> Answer {
        self.referral(user).map(|referral| stored(referral, replayed)).unwrap_or_default()
    }

    /// Whether the referrer was brought by the user, directly or through others. There are too few users for a chain
    /// that is too long.
    fn closes_a_circle(&self, user: UserId, referrer: UserId) -> bool {
        let mut above = Some(referrer);
        while let Some(next) = above {
            if next == user {
                return true;
            }
            above = self.referrer(next);
        }
        false
    }

    pub(super) fn refer(&mut self, set: &SetReferrer, at: &Moment) -> Judged<Answer> {
        let SetReferrer { user, referrer, bonus, key } = set;
        if user == referrer {
            return invalid("referrer");
        }
        let call = format!("{:?}", SetReferrer { key: None, ..set.clone() });
        if self.replay(*user, key.as_ref(), &call)?.is_some() {
            return Ok(self.shown_referral(*user, true));
        }
        match self.referrer(*user) {
            Some(present) if present != *referrer => return conflict("referrer of user", user),
            Some(_) => {
                self.settle(*user, key.as_ref(), false, (call, First::Nothing), at.id());
                return Ok(self.shown_referral(*user, true));
            }
            None => {}
        }
        if self.closes_a_circle(*user, *referrer) {
            return invalid("referrer");
        }
        self.link(*user, *referrer, bonus.map_or(0, storage_core::BonusCount::get), at);
        if let Some(bonus) = bonus {
            self.add_to_bank(*referrer, bonus.get(), at)?;
        }
        self.settle(*user, key.as_ref(), true, (call, First::Nothing), at.id());
        Ok(self.shown_referral(*user, false))
    }

    fn link(&mut self, user: UserId, referrer: UserId, bonus: u32, at: &Moment) {
        self.account(referrer, at);
        let account = self.account(user, at);
        account.referrer = Some((referrer, at.now, bonus));
        account.updated_at = at.now;
    }

    /// What becomes of a record of another system: what is known here is kept.
    pub(super) fn import(&mut self, record: &ImportRecord, at: &Moment) -> &'static str {
        let is_new = !self.accounts.contains_key(&record.user());
        let outcome = match record {
            ImportRecord::Balance { user, balance, created_at } => {
                let account = self.account(*user, at);
                if !account.rows.is_empty() {
                    return same_or_kept(account.balance == balance.micros());
                }
                account.created_at = created_at.map_or(account.created_at, |since| account.created_at.min(since));
                let about = About { kind: OperationKind::Opening, key: None, memo: Memo::default() };
                let Ok(receipt) = self.post(*user, (balance.micros(), 0), about, (at, 0)) else { return "refused" };
                self.settle(*user, None, true, (format!("opening of {balance}"), First::Money(receipt)), at.id());
                return "added";
            }
            ImportRecord::Language { user, language } => {
                let account = self.account(*user, at);
                match &account.language {
                    Some(present) => same_or_kept(present == language),
                    None => {
                        account.language = Some(language.clone());
                        account.updated_at = at.now;
                        "added"
                    }
                }
            }
            ImportRecord::Quota { user, date, used, bank } => {
                let account = self.account(*user, at);
                let given = (date.map(|date| i64::from(date.days())), *used, *bank);
                let known = (account.day, account.used, account.bank);
                if known == given {
                    "same"
                } else if known == (None, 0, 0) {
                    (account.day, account.used, account.bank) = given;
                    "added"
                } else {
                    "kept"
                }
            }
            ImportRecord::Referral { user, referrer, .. } => {
                return match self.referrer(*user) {
                    Some(present) => same_or_kept(present == *referrer),
                    None if user == referrer || self.closes_a_circle(*user, *referrer) => "refused",
                    None => {
                        self.link(*user, *referrer, 0, at);
                        "added"
                    }
                };
            }
            _ => "refused",
        };
        // A record of nothing but defaults still says that there is such a user.
        if is_new { "added" } else { outcome }
    }
}

fn same_or_kept(same: bool) -> &'static str {
    if same { "same" } else { "kept" }
}
