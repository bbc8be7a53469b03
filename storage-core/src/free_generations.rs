//! Free generations: a daily quota, and a bank that bonuses fill.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{CivilDate, Error, ErrorKind, Fingerprint, OperationId, OperationKey, Result, UserId};

/// The most free generations that a bank holds.
pub const MAX_BANK: u64 = 1_000_000_000_000;

/// Where a free generation came from or went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuotaSource {
    /// The quota of this day.
    Day(CivilDate),
    /// The bank, which does not reset at midnight.
    Bank,
}

/// What a change of the quota answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaReceipt {
    /// The operation that made the change.
    pub operation: OperationId,
    /// Where the generation came from or went to.
    pub source: QuotaSource,
    /// What was left of that day's quota plus the bank right after this very operation. "That day" is the day of the
    /// operation, also where it gives back what was taken the day before.
    pub remaining_after: u64,
    /// Whether this call only repeated one that had succeeded.
    pub replayed: bool,
}

/// A user's free generations. The arithmetic that both backends use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// The day that `used` counts, none when nothing was ever taken from a day.
    pub date: Option<CivilDate>,
    /// Taken from that day's quota.
    pub used: u32,
    /// The bank.
    pub bank: u64,
}

impl Quota {
    /// The day whose quota counts at `today`: today, or a later day that was counted already. A clock that goes back
    /// and forward again gives no day's quota twice.
    fn day_at(&self, today: CivilDate) -> CivilDate {
        self.date.map_or(today, |counted| counted.max(today))
    }
    /// Taken from the quota that counts at `today`.
    pub fn used_on(&self, today: CivilDate) -> u32 {
        if self.date == Some(self.day_at(today)) { self.used } else { 0 }
    }
    /// Left of the quota that counts at `today`, plus the bank.
    pub fn remaining_on(&self, today: CivilDate, daily: u32) -> u64 {
        u64::from(daily.saturating_sub(self.used_on(today))) + self.bank
    }
    /// Takes one: quota first, then the bank, else `QuotaExhausted`.
    pub fn take(&self, today: CivilDate, daily: u32) -> Result<(Self, QuotaSource)> {
        let used = self.used_on(today);
        if used < daily {
            let day = self.day_at(today);
            return Ok((Self { date: Some(day), used: used + 1, bank: self.bank }, QuotaSource::Day(day)));
        }
        match self.bank.checked_sub(1) {
            Some(bank) => Ok((Self { bank, ..*self }, QuotaSource::Bank)),
            None => Err(Error::new(ErrorKind::QuotaExhausted { used, limit: daily })),
        }
    }
    /// Gives one back to where it came from. A day that is over has nothing left to give back to; a full bank has no
    /// room, which is `InvalidInput`.
    pub fn give_back(&self, source: QuotaSource) -> Result<Self> {
        match source {
            QuotaSource::Day(date) if self.date == Some(date) => {
                Ok(Self { used: self.used.saturating_sub(1), ..*self })
            }
            QuotaSource::Day(_) => Ok(*self),
            QuotaSource::Bank => self.with_more_in_the_bank(1),
        }
    }
    /// Adds to the bank.
    pub fn add_bonus(&self, count: BonusCount) -> Result<Self> {
        self.with_more_in_the_bank(count.get().into())
    }
    fn with_more_in_the_bank(&self, count: u64) -> Result<Self> {
        let more = Self { bank: self.bank.saturating_add(count), ..*self };
        more.check().map(|()| more)
    }
    /// `InvalidInput` for a bank over [`MAX_BANK`].
    pub fn check(&self) -> Result<()> {
        if self.bank <= MAX_BANK {
            Ok(())
        } else {
            Err(Error::invalid("bank", "must hold at most 1000000000000 free generations"))
        }
    }
}

/// How many free generations a bonus brings: 1 to 1,000,000; default 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BonusCount(u32);

impl BonusCount {
    /// `InvalidInput` outside 1 to 1,000,000.
    pub fn new(count: u32) -> Result<Self> {
        if (1..=1_000_000).contains(&count) {
            Ok(Self(count))
        } else {
            Err(Error::invalid("bonus", "must be 1 to 1000000"))
        }
    }
    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Default for BonusCount {
    fn default() -> Self {
        Self(5)
    }
}

/// Arguments of [`FreeGenerations::increment_free_generations`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncrementFreeGenerations {
    /// Who takes one.
    pub user: UserId,
    /// Makes the call repeatable, and the take returnable.
    pub key: Option<OperationKey>,
}

impl IncrementFreeGenerations {
    /// Without a key.
    pub fn new(user: UserId) -> Self {
        Self { user, key: None }
    }
    /// What a replay must repeat.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of("increment_free_generations", &[])
    }
}

/// Arguments of [`FreeGenerations::return_free_generation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnFreeGeneration {
    /// Who gives one back.
    pub user: UserId,
    /// The key of the take. It also makes this call repeatable.
    pub take: OperationKey,
}

impl ReturnFreeGeneration {
    /// What a replay must repeat: nothing but the key.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of("return_free_generation", &[])
    }
}

/// Arguments of [`FreeGenerations::add_referral_bonus`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddReferralBonus {
    /// Whose bank.
    pub referrer: UserId,
    /// How many.
    pub count: BonusCount,
    /// Makes the call repeatable.
    pub key: Option<OperationKey>,
}

impl AddReferralBonus {
    /// The default bonus, without a key.
    pub fn new(referrer: UserId) -> Self {
        Self { referrer, count: BonusCount::default(), key: None }
    }
    /// What a replay must repeat.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of("add_referral_bonus", &[&self.count.get().to_string()])
    }
}

/// Free generations: a daily quota, and a bank that bonuses fill.
#[async_trait]
pub trait FreeGenerations {
    /// How many the user took from today's quota (never from the bank).
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage, user: UserId) -> Result<()> {
    /// let taken = storage.get_user_free_generations_today(user).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `free_generations::*`.
    async fn get_user_free_generations_today(&self, user: UserId) -> Result<u32>;

    /// What is left of today's quota plus the bank.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage, user: UserId) -> Result<()> {
    /// let left = storage.get_user_free_generations_remaining(user).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `free_generations::*`.
    async fn get_user_free_generations_remaining(&self, user: UserId) -> Result<u64>;

    /// Takes one free generation: from today's quota first, then from the bank.
    ///
    /// # Contract
    /// - "Today" is the civil date of the store's clock in the policy's time zone, and never before the last day on
    ///   which the user took one of the quota: a clock that goes back gives no quota twice.
    /// - With 5 left, 50 concurrent takes succeed 5 times.
    ///
    /// # Errors
    /// `QuotaExhausted`; `InvalidTransition` for the key of a take that was given back; `Conflict` when the key
    /// was used for something else.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage, user: UserId) -> Result<()> {
    /// let take = IncrementFreeGenerations { user, key: Some("job-7".parse()?) };
    /// let receipt = storage.increment_free_generations(take).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `free_generations::*`.
    async fn increment_free_generations(&self, take: IncrementFreeGenerations) -> Result<QuotaReceipt>;

    /// Gives a keyed take back, to the day or bank it came from.
    ///
    /// # Contract
    /// - Once: a repeat is a replay. The take's key is used up for good.
    /// - A take of a day that is over changes nothing today.
    /// - What came from the bank is never lost: when bonuses filled the bank meanwhile the call is refused, the take
    ///   stands, and the same call succeeds as soon as there is room.
    ///
    /// # Errors
    /// `InvalidInput` of the bank when it holds [`MAX_BANK`] already; `NotFound` for a key that was
    /// never used; `Conflict` for the key of another kind of operation.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage, user: UserId) -> Result<()> {
    /// storage.return_free_generation(ReturnFreeGeneration { user, take: "job-7".parse()? }).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `free_generations::*`.
    async fn return_free_generation(&self, give_back: ReturnFreeGeneration) -> Result<QuotaReceipt>;

    /// Adds free generations to the bank, which does not reset at midnight.
    ///
    /// # Errors
    /// `InvalidInput` above [`MAX_BANK`]; `Conflict` when the key was used for something else.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage, user: UserId) -> Result<()> {
    /// storage.add_referral_bonus(AddReferralBonus::new(user)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `free_generations::*`.
    async fn add_referral_bonus(&self, bonus: AddReferralBonus) -> Result<QuotaReceipt>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quota_first_then_bank_then_exhausted() {
        let day = CivilDate::from_days(20_000);
        let mut quota = Quota { date: None, used: 0, bank: 1 };
        for expected in [QuotaSource::Day(day), QuotaSource::Day(day), QuotaSource::Bank] {
            let (next, source) = quota.take(day, 2).unwrap();
            assert_eq!(source, expected);
            quota = next;
        }
        assert_eq!(quota.take(day, 2).unwrap_err().kind(), &ErrorKind::QuotaExhausted { used: 2, limit: 2 });
        let tomorrow = CivilDate::from_days(20_001);
        assert_eq!(quota.remaining_on(tomorrow, 2), 2);
        assert_eq!(quota.give_back(QuotaSource::Bank).unwrap().remaining_on(day, 2), 1);
        assert_eq!(quota.give_back(QuotaSource::Day(tomorrow)).unwrap(), quota);
    }

    #[test]
    fn an_earlier_day_counts_on_the_latest_one() {
        let days = [-1, 0, 1].map(CivilDate::from_days);
        for (at, today) in days.into_iter().enumerate() {
            let quota = Quota { date: Some(today), used: 1, bank: 0 };
            for earlier in &days[..=at] {
                assert_eq!((quota.used_on(*earlier), quota.remaining_on(*earlier, 2)), (1, 1), "{earlier} on {today}");
                let taken = (Quota { used: 2, ..quota }, QuotaSource::Day(today));
                assert_eq!(quota.take(*earlier, 2).unwrap(), taken, "{earlier} on {today}");
            }
            for later in &days[at + 1..] {
                assert_eq!((quota.used_on(*later), quota.remaining_on(*later, 2)), (0, 2), "{later} on {today}");
                assert_eq!(quota.take(*later, 2).unwrap().1, QuotaSource::Day(*later));
            }
        }
    }

    #[test]
    fn a_bank_from_both_sides() {
        let quota = |bank| Quota { bank, ..Quota::default() };
        assert!(quota(MAX_BANK).check().is_ok());
        assert!(quota(MAX_BANK + 1).check().is_err());
        assert_eq!(quota(MAX_BANK - 1).give_back(QuotaSource::Bank).unwrap(), quota(MAX_BANK));
        assert!(quota(MAX_BANK).give_back(QuotaSource::Bank).is_err());
        assert!(quota(u64::MAX).give_back(QuotaSource::Bank).is_err());
        assert!(quota(MAX_BANK).add_bonus(BonusCount::default()).is_err());
    }

    #[test]
    fn bonuses_from_both_sides() {
        assert!(BonusCount::new(0).is_err());
        assert!(BonusCount::new(1).is_ok());
        assert!(BonusCount::new(1_000_000).is_ok());
        assert!(BonusCount::new(1_000_001).is_err());
    }
}
