//! What a decision looks at, and why it stops.

use std::sync::Arc;

use super::Need;
use crate::{
    AccountRecord, Error, Hold, HoldName, Job, JobId, KeySpace, OperationKey, Payment, PaymentId, ProviderKey, Result,
    TaskId, Timestamp, UsedKey, UserId,
};

/// A user as a decision sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// What the store knows of the user.
    pub record: AccountRecord,
    /// Rows in the user's ledger: the next one has this number plus one.
    pub rows: u64,
}

impl Account {
    /// Of a user who is not there yet.
    pub fn new(user: UserId, now: Timestamp) -> Self {
        Self { record: AccountRecord::new(user, now), rows: 0 }
    }
}

/// What a store holds, as an atom finds it: its own batch's earlier changes included. One method for each [`Need`].
pub trait View {
    /// The user's account; `None` for a user who is not there.
    ///
    /// # Errors
    /// `Halt::Failed` when the store cannot tell, `Halt::Missing` when it was not loaded; so with every method.
    fn account(&self, user: UserId) -> Result<Option<Account>, Halt>;
    /// What the user used the key for.
    ///
    /// # Errors
    /// See [`View::account`].
    fn key(&self, user: UserId, space: KeySpace, key: &OperationKey) -> Result<Option<UsedKey>, Halt>;
    /// The user's hold of this name.
    ///
    /// # Errors
    /// See [`View::account`].
    fn hold(&self, user: UserId, name: &HoldName) -> Result<Option<Arc<Hold>>, Halt>;
    /// The job.
    ///
    /// # Errors
    /// See [`View::account`].
    fn job(&self, job: &JobId) -> Result<Option<Arc<Job>>, Halt>;
    /// The job that has this external task id.
    ///
    /// # Errors
    /// See [`View::account`].
    fn job_of(&self, task: &TaskId) -> Result<Option<Arc<Job>>, Halt>;
    /// The payment.
    ///
    /// # Errors
    /// See [`View::account`].
    fn payment(&self, payment: &PaymentId) -> Result<Option<Arc<Payment>>, Halt>;
    /// The payment that has this provider key.
    ///
    /// # Errors
    /// See [`View::account`].
    fn payment_of(&self, provider: &ProviderKey) -> Result<Option<Arc<Payment>>, Halt>;
    /// Those above a user: who brought them, who brought that one, and so on. [`MAX_REFERRAL_CHAIN`](crate::MAX_REFERRAL_CHAIN) of
    /// them are enough.
    ///
    /// # Errors
    /// See [`View::account`].
    fn chain(&self, user: UserId) -> Result<Vec<UserId>, Halt>;
    /// The length of the longest chain below a user, in referrals; 0 when the user brought nobody. Above
    /// [`MAX_REFERRAL_CHAIN`](crate::MAX_REFERRAL_CHAIN) any larger number will do.
    ///
    /// # Errors
    /// See [`View::account`].
    fn height(&self, user: UserId) -> Result<usize, Halt>;
}

/// Why there is no decision.
#[derive(Debug)]
pub enum Halt {
    /// The contract refuses the call: nothing changes.
    Refused(Error),
    /// The store could not tell.
    Failed(Error),
    /// This is to be loaded first; then the same atom is decided again.
    Missing(Need),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl Halt {
    /// The error for the caller, of a store that has everything at hand.
    pub fn into_error(self) -> Error {
        match self {
            Self::Refused(error) | Self::Failed(error) => error,
            Self::Missing(need) => Error::internal(format!("a decision needs what the store did not load: {need:?}")),
        }
    }
}
