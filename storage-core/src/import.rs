//! Records that another system left, brought in one by one.

use serde::Serialize;

use crate::{CivilDate, Fingerprint, Generation, Job, Language, Money, Payment, Timestamp, Total, UserId};

/// One record that another system left. Backends put it in when they know nothing of it yet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImportRecord {
    /// A balance. Put in, with an `opening` ledger row, for a user without ledger rows.
    Balance {
        /// Whose.
        user: UserId,
        /// How much.
        balance: Money,
        /// When the other system first heard of the user, if it said so.
        created_at: Option<Timestamp>,
    },
    /// A language. Put in for a user who chose none.
    Language {
        /// Whose.
        user: UserId,
        /// Which.
        language: Language,
    },
    /// A claimed gift.
    Gift {
        /// Whose.
        user: UserId,
    },
    /// Free generations. Put in for a user of whom no quota and no bank is known.
    Quota {
        /// Whose.
        user: UserId,
        /// The day that `used` counts.
        date: Option<CivilDate>,
        /// Taken from that day's quota.
        used: u32,
        /// The bank.
        bank: u64,
    },
    /// An admin limit. Put in where none was set.
    AdminLimit {
        /// Whose.
        user: UserId,
        /// The limit.
        limit: Money,
    },
    /// What was spent on generations. Put in where nothing was spent yet.
    Spent {
        /// By whom.
        user: UserId,
        /// How much.
        spent: Total,
    },
    /// A history entry. Put in when its id is new; it never changes what was spent.
    Generation {
        /// Whose.
        user: UserId,
        /// The entry.
        generation: Generation,
    },
    /// A job. Put in when its id and external task id are new.
    Job(Job),
    /// A payment. Put in when its id and provider key are new; it never credits.
    Payment(Payment),
    /// Who brought a user. Put in when the user has no referrer and no circle closes.
    Referral {
        /// Who was brought.
        user: UserId,
        /// By whom.
        referrer: UserId,
        /// When, if the other system said so.
        since: Option<Timestamp>,
    },
}

/// What became of one imported record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportOutcome {
    /// It is in the store now.
    Added,
    /// The store knew it already and kept what it has, which is the same.
    Same,
    /// The store has something else there, and kept it.
    Kept(String),
    /// It breaks a rule; the reason.
    Refused(String),
}

impl ImportRecord {
    /// What the key of the record remembers: a balance's that it was imported, a generation's what a call that records it again
    /// repeats. The others leave no key.
    pub fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Balance { balance, .. } => Fingerprint::of("opening", &[&balance.to_string()]),
            Self::Generation { user, generation } => generation.recorded(*user).fingerprint(),
            _ => Fingerprint::of("import_records", &[]),
        }
    }

    /// The user whom the record concerns.
    pub fn user(&self) -> UserId {
        match self {
            Self::Balance { user, .. }
            | Self::Language { user, .. }
            | Self::Gift { user }
            | Self::Quota { user, .. }
            | Self::AdminLimit { user, .. }
            | Self::Spent { user, .. }
            | Self::Generation { user, .. }
            | Self::Referral { user, .. } => *user,
            Self::Job(job) => job.user,
            Self::Payment(payment) => payment.user,
        }
    }
}
