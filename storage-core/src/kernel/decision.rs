//! What a decision comes to: an answer, and what becomes of the store.

use std::sync::Arc;

use super::{Account, Atom, Halt, View};
use crate::dump::KeyRecord;
use crate::{
    Acknowledged, Answer, Error, Generation, GenerationReceipt, GiftClaim, Hold, ImportOutcome, Job, LedgerRow,
    Payment, QuotaReceipt, Receipt, Referral, Stored, UsedKey, User, UserId,
};

/// An answer, and what becomes of the store.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What the caller is told.
    pub reply: Reply,
    /// What is to be written, all of it or nothing.
    pub changes: Changes,
}

/// What an atom changes. A store takes it apart in full, so that a later field fails to compile there.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// The accounts that change or are new, as they become.
    pub accounts: [Option<Account>; 2],
    /// New ledger rows, of the user whose key is used up.
    pub rows: Vec<LedgerRow>,
    /// The key that is used up.
    pub key: Option<KeyRecord>,
    /// The record that is new or replaced.
    pub record: Option<Record>,
    /// How much of a history stays.
    pub trim: Option<Trim>,
}

/// A record that belongs to a user.
#[derive(Clone, Debug)]
pub enum Record {
    /// A hold.
    Hold(Arc<Hold>),
    /// A job. Its external task id may be another one than before.
    Job(Arc<Job>),
    /// A payment.
    Payment(Arc<Payment>),
    /// A new entry of the user's history.
    Generation(UserId, Generation),
}

/// How much of the history stays to which the entry in [`Changes::record`] is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trim {
    /// The newest so many of those before it; then it is added, however old it is.
    Before(usize),
    /// The newest so many once it was added.
    After(usize),
}

impl Changes {
    /// Whether nothing is to be written.
    pub fn is_empty(&self) -> bool {
        let Self { accounts, rows, key, record, trim: _ } = self;
        accounts.iter().all(Option::is_none) && rows.is_empty() && key.is_none() && record.is_none()
    }
    /// One account.
    pub(super) fn of(account: Account) -> Self {
        Self { accounts: [Some(account), None], ..Self::default() }
    }
    /// The user, where there was none.
    pub(super) fn with_user(atom: &Atom, user: UserId, view: &dyn View) -> Result<Self, Halt> {
        let is_there = view.account(user)?.is_some();
        Ok(if is_there { Self::default() } else { Self::of(Account::new(user, atom.stamp().now)) })
    }
    /// Uses the atom's key up.
    #[must_use]
    pub(super) fn settled(self, atom: &Atom, user: UserId, answer: Answer) -> Self {
        // The first answer is kept as it was, not as the replay that this call may have got.
        let answer = match answer {
            Answer::Money(receipt) => Answer::Money(Receipt { replayed: false, ..receipt }),
            other => other,
        };
        let used = UsedKey { arguments: atom.arguments(), operation: atom.stamp().operation, answer };
        let key = Some(KeyRecord { user, space: atom.space(), key: atom.key().clone(), used });
        Self { key, ..self }
    }
    /// [`Changes::settled`] for a call that changed nothing: only where the caller may repeat it.
    #[must_use]
    pub(super) fn settled_unchanged(self, atom: &Atom, user: UserId, answer: Answer) -> Self {
        if atom.is_repeatable() { self.settled(atom, user, answer) } else { self }
    }
    /// The decision that has these changes.
    pub(super) fn answering(self, reply: impl Into<Reply>) -> Decision {
        Decision { reply: reply.into(), changes: self }
    }
}

macro_rules! replies {
    ($($(#[$doc:meta])* $name:ident($answer:ty))+) => {
        /// What a call answers.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Reply {
            $($(#[$doc])* $name($answer),)+
        }

        $(
            impl From<$answer> for Reply {
                fn from(answer: $answer) -> Self {
                    Self::$name(answer)
                }
            }

            impl TryFrom<Reply> for $answer {
                type Error = Error;
                fn try_from(reply: Reply) -> Result<Self, Error> {
                    match reply {
                        Reply::$name(answer) => Ok(answer),
                        _ => Err(Error::internal("an operation was answered with what another one answers")),
                    }
                }
            }
        )+
    };
}

replies! {
    /// The user as it stands.
    User(Arc<User>)
    /// That it was done.
    Acknowledged(Acknowledged)
    /// A change of money.
    Money(Receipt)
    /// Whether the gift was claimed for the first time.
    Gift(GiftClaim)
    /// A change of the quota.
    Quota(QuotaReceipt)
    /// An entry of the history.
    Generation(GenerationReceipt)
    /// A job as it stands.
    Job(Stored<Job>)
    /// A payment as it stands.
    Payment(Stored<Payment>)
    /// A referral as it stands.
    Referral(Stored<Referral>)
    /// The hold that a step of a sweep gave back, if it did.
    Swept(Option<Arc<Hold>>)
    /// What became of an imported record.
    Imported(ImportOutcome)
}
