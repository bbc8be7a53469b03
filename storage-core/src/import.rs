//! Records that another system left, brought in one by one.

use serde::Serialize;

use crate::{
    AccountRecord, CivilDate, Generation, Job, Language, Money, Payment, Result, Timestamp, Total, UserId, check_spent,
};

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

    /// Applies a record that concerns only the account's own fields. `None` for every other record.
    ///
    /// Balances are not among them: they need a ledger row.
    ///
    /// # Errors
    /// `InvalidInput`, and an account as it was, for a value over its limit: a bank over [`MAX_BANK`](crate::MAX_BANK),
    /// a negative sum spent or one over [`MAX_SPENT`](crate::MAX_SPENT). The record's outcome is then `Refused`.
    pub fn apply_to_account(&self, account: &mut AccountRecord, now: Timestamp) -> Result<Option<ImportOutcome>> {
        let outcome = match self {
            Self::Language { language, .. } => match &account.language {
                None => {
                    account.language = Some(language.clone());
                    account.updated_at = now;
                    ImportOutcome::Added
                }
                Some(present) => kept_or_same(present == language, present),
            },
            Self::Gift { .. } if account.gift_claimed => ImportOutcome::Same,
            Self::Gift { .. } => {
                account.gift_claimed = true;
                account.updated_at = now;
                ImportOutcome::Added
            }
            Self::Quota { date, used, bank, .. } => {
                let (known, given) = (account.quota(), crate::Quota { date: *date, used: *used, bank: *bank });
                given.check()?;
                if known == given {
                    ImportOutcome::Same
                } else if known == crate::Quota::default() {
                    account.set_quota(given);
                    ImportOutcome::Added
                } else {
                    ImportOutcome::Kept(format!("{} taken, {} in the bank", known.used, known.bank))
                }
            }
            Self::AdminLimit { limit, .. } => match account.admin_limit {
                None => {
                    account.admin_limit = Some(*limit);
                    ImportOutcome::Added
                }
                Some(present) => kept_or_same(present == *limit, &present),
            },
            Self::Spent { spent, .. } => {
                check_spent(*spent)?;
                if account.spent == Total::ZERO && *spent != Total::ZERO {
                    account.spent = *spent;
                    ImportOutcome::Added
                } else {
                    kept_or_same(account.spent == *spent, &account.spent)
                }
            }
            _ => return Ok(None),
        };
        Ok(Some(outcome))
    }
}

fn kept_or_same(same: bool, present: &dyn std::fmt::Display) -> ImportOutcome {
    if same { ImportOutcome::Same } else { ImportOutcome::Kept(format!("the store has {present}")) }
}
