//! The records of a dump.

use serde::{Deserialize, Serialize};

use crate::{
    Amount, BonusCount, CivilDate, Error, ErrorMessage, FileId, Fingerprint, Generation, GenerationId, Job, JobId,
    JobStatus, Language, ModelId, ModelName, Money, Note, OperationKey, Params, Payment, PaymentId, PaymentMethod,
    PaymentOrigin, PaymentStatus, ProviderKey, Quota, Result, ResultUrls, TaskId, Timestamp, Total, UsedKey, UserId,
    check_spent,
};

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Everything scalar that a store knows of one user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountRecord {
    /// Who.
    pub user: UserId,
    /// When the store first heard of the user.
    pub created_at: Timestamp,
    /// When a field of the user last changed.
    pub updated_at: Timestamp,
    /// What can be spent.
    pub balance: Money,
    /// What is held.
    #[serde(default, skip_serializing_if = "is_default")]
    pub held: Money,
    /// The language chosen.
    #[serde(default, skip_serializing_if = "is_default")]
    pub language: Option<Language>,
    /// Whether the gift was claimed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gift_claimed: bool,
    /// The day that `quota_used` counts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub quota_date: Option<CivilDate>,
    /// Taken from that day's quota.
    #[serde(default, skip_serializing_if = "is_default")]
    pub quota_used: u32,
    /// The bank of free generations.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bank: u64,
    /// The admin limit that was set.
    #[serde(default, skip_serializing_if = "is_default")]
    pub admin_limit: Option<Money>,
    /// The total price of the generations ever recorded.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spent: Total,
    /// Who brought the user.
    #[serde(default, skip_serializing_if = "is_default")]
    pub referrer: Option<UserId>,
    /// When that was stored.
    #[serde(default, skip_serializing_if = "is_default")]
    pub referred_at: Option<Timestamp>,
    /// The bonus that was granted for bringing the user. It stays when the referrer was removed by hand: no other one is
    /// granted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub referral_bonus: u32,
}

impl AccountRecord {
    /// A user of whom nothing is known but the moment of creation.
    pub fn new(user: UserId, now: Timestamp) -> Self {
        Self {
            user,
            created_at: now,
            updated_at: now,
            balance: Money::ZERO,
            held: Money::ZERO,
            language: None,
            gift_claimed: false,
            quota_date: None,
            quota_used: 0,
            bank: 0,
            admin_limit: None,
            spent: Total::ZERO,
            referrer: None,
            referred_at: None,
            referral_bonus: 0,
        }
    }
    /// Adds the price of a generation to what the user spent. `InvalidInput` above [`MAX_SPENT`](crate::MAX_SPENT).
    pub fn spend(&mut self, price: Money) -> Result<()> {
        let spent = self.spent.plus(price);
        check_spent(spent)?;
        self.spent = spent;
        Ok(())
    }
    /// Stores who brought the user. Answers the bonus that the referrer is to be granted: the wanted one, unless one was granted
    /// for this user before.
    pub fn refer(
        &mut self,
        referrer: UserId,
        since: Timestamp,
        wanted: Option<BonusCount>,
        now: Timestamp,
    ) -> Option<BonusCount> {
        let granted = wanted.filter(|_| self.referral_bonus == 0);
        self.referrer = Some(referrer);
        self.referred_at = Some(since);
        self.referral_bonus = granted.map_or(self.referral_bonus, BonusCount::get);
        self.updated_at = now;
        granted
    }
    /// Proves what no type proves. `InvalidInput` naming the field and its limit.
    pub fn check(&self) -> Result<()> {
        self.balance.checked_add(self.held)?;
        self.quota().check()?;
        check_spent(self.spent)?;
        if self.referral_bonus > 0 {
            BonusCount::new(self.referral_bonus)?;
        }
        if self.referrer == Some(self.user) {
            return Err(Error::invalid("referrer", "must not be the user"));
        }
        if self.referrer.is_some() != self.referred_at.is_some() {
            return Err(Error::invalid("referred_at", "must be there exactly where a referrer is"));
        }
        Ok(())
    }
    /// The free generations.
    pub fn quota(&self) -> Quota {
        Quota { date: self.quota_date, used: self.quota_used, bank: self.bank }
    }
    /// Replaces the free generations.
    pub fn set_quota(&mut self, quota: Quota) {
        (self.quota_date, self.quota_used, self.bank) = (quota.date, quota.used, quota.bank);
    }
}

/// One entry of a user's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerationRecord {
    /// Whose.
    pub user: UserId,
    /// See [`Generation::id`].
    pub id: GenerationId,
    /// See [`Generation::model_id`].
    pub model_id: ModelId,
    /// See [`Generation::model_name`].
    pub model_name: ModelName,
    /// See [`Generation::params`].
    pub params: Params,
    /// See [`Generation::result_urls`].
    pub result_urls: ResultUrls,
    /// See [`Generation::price`].
    pub price: Money,
    /// See [`Generation::at`].
    pub at: Timestamp,
}

impl GenerationRecord {
    /// A user's history entry as a record.
    pub fn new(user: UserId, generation: &Generation) -> Self {
        let Generation { id, model_id, model_name, params, result_urls, price, at } = generation.clone();
        Self { user, id, model_id, model_name, params, result_urls, price, at }
    }
    /// The history entry, and whose it is.
    pub fn into_generation(self) -> (UserId, Generation) {
        let Self { user, id, model_id, model_name, params, result_urls, price, at } = self;
        (user, Generation { id, model_id, model_name, params, result_urls, price, at })
    }
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobRecord {
    /// See [`Job::user`].
    pub user: UserId,
    /// See [`Job::id`].
    pub id: JobId,
    /// See [`Job::model_id`].
    pub model_id: ModelId,
    /// See [`Job::model_name`].
    pub model_name: ModelName,
    /// See [`Job::params`].
    pub params: Params,
    /// See [`Job::price`].
    pub price: Money,
    /// See [`Job::status`].
    pub status: JobStatus,
    /// See [`Job::external_task_id`].
    pub external_task_id: Option<TaskId>,
    /// See [`Job::result_urls`].
    pub result_urls: ResultUrls,
    /// See [`Job::error_message`].
    pub error_message: Option<ErrorMessage>,
    /// See [`Job::created_at`].
    pub created_at: Timestamp,
    /// See [`Job::updated_at`].
    pub updated_at: Timestamp,
    /// See [`Job::created_with`].
    pub created_with: Fingerprint,
}

impl From<Job> for JobRecord {
    fn from(job: Job) -> Self {
        let Job {
            id,
            user,
            model_id,
            model_name,
            params,
            price,
            status,
            external_task_id,
            result_urls,
            error_message,
            created_at,
            updated_at,
            created_with,
        } = job;
        Self {
            user,
            id,
            model_id,
            model_name,
            params,
            price,
            status,
            external_task_id,
            result_urls,
            error_message,
            created_at,
            updated_at,
            created_with,
        }
    }
}

impl From<JobRecord> for Job {
    fn from(record: JobRecord) -> Self {
        let JobRecord {
            user,
            id,
            model_id,
            model_name,
            params,
            price,
            status,
            external_task_id,
            result_urls,
            error_message,
            created_at,
            updated_at,
            created_with,
        } = record;
        Self {
            id,
            user,
            model_id,
            model_name,
            params,
            price,
            status,
            external_task_id,
            result_urls,
            error_message,
            created_at,
            updated_at,
            created_with,
        }
    }
}

/// A payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentRecord {
    /// See [`Payment::user`].
    pub user: UserId,
    /// See [`Payment::id`].
    pub id: PaymentId,
    /// See [`Payment::amount`].
    pub amount: Amount,
    /// See [`Payment::method`].
    pub method: PaymentMethod,
    /// See [`Payment::screenshot_file_id`].
    pub screenshot_file_id: Option<FileId>,
    /// See [`Payment::provider_key`].
    pub provider_key: Option<ProviderKey>,
    /// See [`Payment::status`].
    pub status: PaymentStatus,
    /// See [`Payment::admin`].
    pub admin: Option<UserId>,
    /// See [`Payment::notes`].
    pub notes: Option<Note>,
    /// See [`Payment::origin`].
    pub origin: PaymentOrigin,
    /// See [`Payment::created_at`].
    pub created_at: Timestamp,
    /// See [`Payment::updated_at`].
    pub updated_at: Timestamp,
}

impl From<Payment> for PaymentRecord {
    fn from(payment: Payment) -> Self {
        let Payment {
            id,
            user,
            amount,
            method,
            screenshot_file_id,
            provider_key,
            status,
            admin,
            notes,
            origin,
            created_at,
            updated_at,
        } = payment;
        Self {
            user,
            id,
            amount,
            method,
            screenshot_file_id,
            provider_key,
            status,
            admin,
            notes,
            origin,
            created_at,
            updated_at,
        }
    }
}

impl From<PaymentRecord> for Payment {
    fn from(record: PaymentRecord) -> Self {
        let PaymentRecord {
            user,
            id,
            amount,
            method,
            screenshot_file_id,
            provider_key,
            status,
            admin,
            notes,
            origin,
            created_at,
            updated_at,
        } = record;
        Self {
            id,
            user,
            amount,
            method,
            screenshot_file_id,
            provider_key,
            status,
            admin,
            notes,
            origin,
            created_at,
            updated_at,
        }
    }
}

/// Which names a used key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeySpace {
    /// The id of a generation, kept after its entry was trimmed.
    Generation,
    /// An operation's key.
    Operation,
    /// The key of a take that was given back.
    Return,
}

impl KeySpace {
    /// The space's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Generation => "generation",
            Self::Operation => "operation",
            Self::Return => "return",
        }
    }
}

/// A key that was used up, with what its operation answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// Whose.
    pub user: UserId,
    /// Which names it belongs to.
    pub space: KeySpace,
    /// The key.
    pub key: OperationKey,
    /// What used it.
    pub used: UsedKey,
}
