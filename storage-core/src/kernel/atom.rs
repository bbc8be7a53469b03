//! A call on its way: with its moment, its id, its key and its fingerprint.

use super::Call;
use crate::{Environment, Fingerprint, KeySpace, OperationKey, Result, Stamp, UserId};

/// A call that has its moment and its id. It is decided as a whole, and applied once or not at all.
#[derive(Clone, Debug)]
pub struct Atom {
    call: Call,
    stamp: Stamp,
    space: KeySpace,
    key: OperationKey,
    /// Whether the key is the caller's, not the operation's own id.
    is_given: bool,
    arguments: Fingerprint,
    /// Whether an earlier attempt of this very atom may have been applied.
    is_again: bool,
}

/// What must be locked before anything is looked at. No later need takes a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lock {
    /// This user, who may not be there yet.
    User(UserId),
}

/// What a decision may look at: one for each method of [`View`](super::View).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// The user's account.
    Account(UserId),
    /// What the user used the key for.
    Key(UserId, KeySpace, OperationKey),
}

impl Atom {
    /// Checks the arguments, then takes the call's one moment and id. A store says `Closed` before it.
    ///
    /// # Errors
    /// `InvalidInput` where the arguments contradict each other; then no id is drawn.
    pub fn new(call: Call, environment: &Environment) -> Result<Self> {
        let (arguments, (space, given)) = (call.fingerprint(), call.given_key());
        let stamp = environment.stamp();
        let is_given = given.is_some();
        let key = given.unwrap_or_else(|| stamp.operation.to_key());
        Ok(Self { call, stamp, space, key, is_given, arguments, is_again: false })
    }
    /// The same atom once more, after an attempt that may have been applied although no answer came. Its key is looked up even
    /// where the caller gave none, and what that attempt did is answered as the first time, not as a replay.
    #[must_use]
    pub fn again(&self) -> Self {
        Self { is_again: true, ..self.clone() }
    }
    /// What is called.
    pub fn call(&self) -> &Call {
        &self.call
    }
    /// When it began, and its id.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }
    /// The key that success uses up: the caller's, else the operation's id.
    pub fn key(&self) -> &OperationKey {
        &self.key
    }
    /// Whose keys and which space it lies in.
    pub fn space(&self) -> KeySpace {
        self.space
    }
    /// What a repeat must be equal in.
    pub fn arguments(&self) -> Fingerprint {
        self.arguments
    }
    /// Whether an earlier attempt of it may stand.
    pub fn is_again(&self) -> bool {
        self.is_again
    }
    /// Whether the key may have been used before. A minted one only by an earlier attempt.
    pub fn may_be_known(&self) -> bool {
        self.is_given || self.is_again
    }
    /// Whether a call that changes nothing uses its key up all the same: the caller may repeat it.
    pub fn is_repeatable(&self) -> bool {
        self.is_given
    }

    /// What is to be locked first.
    pub fn lock(&self) -> Lock {
        Lock::User(self.user())
    }

    /// Everything that [`decide`](super::decide) may look at, known from the arguments alone.
    pub fn needs(&self) -> Vec<Need> {
        let user = self.user();
        let mut needs = vec![Need::Account(user)];
        if self.may_be_known() {
            needs.push(Need::Key(user, self.space, self.key.clone()));
        }
        match &self.call {
            // Whether the take was given back.
            Call::IncrementFreeGenerations(take) => {
                needs.extend(take.key.iter().map(|key| Need::Key(user, KeySpace::Return, key.clone())));
            }
            // The take.
            Call::ReturnFreeGeneration(back) => {
                needs.push(Need::Key(user, KeySpace::Operation, back.take.clone()));
            }
            Call::GetUser(_)
            | Call::SetUserLanguage(_)
            | Call::SetGiftClaimed(_)
            | Call::SetAdminLimit(_)
            | Call::AddReferralBonus(_)
            | Call::AddGenerationToHistory(_) => {}
        }
        needs
    }

    fn user(&self) -> UserId {
        match &self.call {
            Call::GetUser(user) => *user,
            Call::SetUserLanguage(set) => set.user,
            Call::SetGiftClaimed(claim) => claim.user,
            Call::SetAdminLimit(set) => set.user,
            Call::IncrementFreeGenerations(take) => take.user,
            Call::ReturnFreeGeneration(back) => back.user,
            Call::AddReferralBonus(bonus) => bonus.referrer,
            Call::AddGenerationToHistory(add) => add.user,
        }
    }
}
