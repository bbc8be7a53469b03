//! Free generations, admin limits, gifts and languages.

use storage_core::{
    AddReferralBonus, AdminLimit, ErrorKind, GiftClaim, IncrementFreeGenerations, Money, QuotaReceipt, QuotaSource,
    ReturnFreeGeneration, SetAdminLimit, SetGiftClaimed, SetUserLanguage, Total, UserId,
};

use super::super::ask::{Answer, ok};
use super::super::build::Call;
use super::{First, Judged, Moment, Oracle, conflict, money, no_way, not_found, source};

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// What a change that answers nothing answers.
fn done(replayed: bool) -> Answer {
    ok(storage_core::Acknowledged { replayed })
}

impl Oracle {
    /// The number of the user's day: the civil one, in a zone that is always as far ahead, unless the clock has fallen
    /// behind the last day that was counted.
    fn today(&self, user: UserId, at: &Moment) -> i64 {
        let civil = (at.now.micros() + self.ahead * 1_000_000).div_euclid(DAY);
        match self.accounts.get(&user).and_then(|account| account.day) {
            Some(last) if civil < last => last,
            _ => civil,
        }
    }

    pub(super) fn taken(&self, user: UserId, at: &Moment) -> u32 {
        let today = Some(self.today(user, at));
        self.accounts.get(&user).filter(|account| account.day == today).map_or(0, |account| account.used)
    }

    pub(super) fn remaining(&self, user: UserId, at: &Moment) -> u64 {
        let left = self.policy.daily_free_generations.saturating_sub(self.taken(user, at));
        u64::from(left) + self.accounts.get(&user).map_or(0, |account| account.bank)
    }

    fn quota_receipt(&self, user: UserId, source: QuotaSource, at: &Moment) -> QuotaReceipt {
        QuotaReceipt { operation: at.id(), source, remaining_after: self.remaining(user, at), replayed: false }
    }

    pub(super) fn take(&mut self, take: &IncrementFreeGenerations, at: &Moment) -> Judged<QuotaReceipt> {
        let IncrementFreeGenerations { user, key } = take;
        if let (Some(First::Quota(first)), Some(key)) = (self.replay(*user, key.as_ref(), "take")?, key) {
            if self.returned.contains_key(&(*user, key.to_string())) {
                return no_way("operation key", key, "returned", "taken");
            }
            return Ok(QuotaReceipt { replayed: true, ..first });
        }
        let (used, limit, today) = (self.taken(*user, at), self.policy.daily_free_generations, self.today(*user, at));
        let account = self.account(*user, at);
        let from = if used < limit {
            (account.day, account.used) = (Some(today), used + 1);
            Some(today)
        } else if account.bank > 0 {
            account.bank -= 1;
            None
        } else {
            return Err(ErrorKind::QuotaExhausted { used, limit });
        };
        let receipt = self.quota_receipt(*user, source(from), at);
        self.settle(*user, key.as_ref(), true, ("take".to_owned(), First::Quota(receipt)), at.id());
        Ok(receipt)
    }

    pub(super) fn give_back(&mut self, give_back: &ReturnFreeGeneration, at: &Moment) -> Judged<QuotaReceipt> {
        let ReturnFreeGeneration { user, take } = give_back;
        let place = (*user, take.to_string());
        let taken = match self.keys.get(&place) {
            None => return not_found("operation key", take),
            Some(used) if used.call != "take" => return conflict("operation key", take),
            Some(used) => used.first.clone(),
        };
        if let Some(first) = self.returned.get(&place) {
            return Ok(QuotaReceipt { replayed: true, ..*first });
        }
        let First::Quota(taken) = taken else { return not_found("operation key", take) };
        let account = self.account(*user, at);
        match taken.source {
            QuotaSource::Bank => account.bank += 1,
            // A day that is over has nothing left to give back to.
            QuotaSource::Day(date) if account.day == Some(i64::from(date.days())) => {
                account.used = account.used.saturating_sub(1);
            }
            QuotaSource::Day(_) => {}
        }
        let receipt = self.quota_receipt(*user, taken.source, at);
        self.returned.insert(place, receipt);
        Ok(receipt)
    }

    pub(super) fn bonus(&mut self, bonus: &AddReferralBonus, at: &Moment) -> Judged<QuotaReceipt> {
        let AddReferralBonus { referrer, count, key } = bonus;
        let call = format!("{:?}", AddReferralBonus { key: None, ..bonus.clone() });
        if let Some(First::Quota(first)) = self.replay(*referrer, key.as_ref(), &call)? {
            return Ok(QuotaReceipt { replayed: true, ..first });
        }
        self.add_to_bank(*referrer, count.get(), at)?;
        let receipt = self.quota_receipt(*referrer, QuotaSource::Bank, at);
        self.settle(*referrer, key.as_ref(), true, (call, First::Quota(receipt)), at.id());
        Ok(receipt)
    }

    pub(super) fn add_to_bank(&mut self, user: UserId, count: u32, at: &Moment) -> Judged<()> {
        let account = self.account(user, at);
        account.bank += u64::from(count);
        if account.bank > 1_000_000_000_000 { super::invalid("bank") } else { Ok(()) }
    }

    pub(super) fn limits(&mut self, call: &Call, at: &Moment) -> Judged<Answer> {
        Ok(match call {
            Call::GetLimit(user) => ok(self.limit(*user)),
            Call::SetLimit(set) => {
                let SetAdminLimit { user, limit, key } = set;
                let call = format!("{:?}", SetAdminLimit { key: None, ..set.clone() });
                if self.replay(*user, key.as_ref(), &call)?.is_some() {
                    return Ok(done(true));
                }
                let changed = self.account(*user, at).limit.replace(limit.micros()) != Some(limit.micros());
                self.settle(*user, key.as_ref(), changed, (call, First::Nothing), at.id());
                done(false)
            }
            Call::Spent(user) => ok(Total::from_micros(self.spent(*user))),
            Call::LimitLeft(user) => ok(match self.limit(*user) {
                AdminLimit::Limited(limit) => {
                    let left = i128::from(limit.micros()) - self.spent(*user);
                    AdminLimit::Limited(money(i64::try_from(left.max(0)).unwrap_or(i64::MAX)))
                }
                AdminLimit::Unlimited => AdminLimit::Unlimited,
            }),
            _ => Answer::new(),
        })
    }

    fn limit(&self, user: UserId) -> AdminLimit {
        if self.policy.main_admin == Some(user) {
            return AdminLimit::Unlimited;
        }
        let set: Option<Money> = self.accounts.get(&user).and_then(|account| account.limit).map(money);
        AdminLimit::Limited(set.unwrap_or(self.policy.default_admin_limit))
    }

    fn spent(&self, user: UserId) -> i128 {
        self.accounts.get(&user).map_or(0, |account| account.spent)
    }

    pub(super) fn set_language(&mut self, set: &SetUserLanguage, at: &Moment) -> Judged<Answer> {
        let SetUserLanguage { user, language, key } = set;
        let call = format!("{:?}", SetUserLanguage { key: None, ..set.clone() });
        if self.replay(*user, key.as_ref(), &call)?.is_some() {
            return Ok(done(true));
        }
        let account = self.account(*user, at);
        let changed = account.language.as_ref() != Some(language);
        if changed {
            account.language = Some(language.clone());
            account.updated_at = at.now;
        }
        self.settle(*user, key.as_ref(), changed, (call, First::Nothing), at.id());
        Ok(done(false))
    }

    pub(super) fn claim_gift(&mut self, claim: &SetGiftClaimed, at: &Moment) -> Judged<Answer> {
        let SetGiftClaimed { user, key } = claim;
        if let Some(First::Gift(first)) = self.replay(*user, key.as_ref(), "gift")? {
            return Ok(ok(GiftClaim { first, replayed: true }));
        }
        let account = self.account(*user, at);
        let first = !account.gift;
        if first {
            account.gift = true;
            account.updated_at = at.now;
        }
        self.settle(*user, key.as_ref(), first, ("gift".to_owned(), First::Gift(first)), at.id());
        Ok(ok(GiftClaim { first, replayed: false }))
    }
}
