//! What a sweep of expired holds answers, and how far it goes.

use std::sync::Arc;

use super::Hold;
use crate::{Error, ErrorKind, PageSize, Result};

/// A sweep under way, for backends: one hold that cannot be released keeps no other from it.
///
/// ```
/// # use storage_core::*;
/// # fn example(due: impl Iterator<Item = HoldName>, release: impl Fn(HoldName) -> Result<Option<std::sync::Arc<Hold>>>) -> Result<()> {
/// let mut sweep = Sweep::new(PageSize::DEFAULT);
/// for name in due {
///     if !sweep.took(release(name)) {
///         break;
///     }
/// }
/// let released = sweep.answer()?;
/// # drop(released); Ok(()) }
/// ```
#[derive(Debug)]
pub struct Sweep {
    limit: usize,
    released: Vec<Arc<Hold>>,
    failed: Option<Error>,
}

impl Sweep {
    /// One that is to release so many at most.
    pub fn new(limit: PageSize) -> Self {
        Self { limit: limit.get(), released: Vec::new(), failed: None }
    }

    /// How many more it may release.
    pub fn lacks(&self) -> usize {
        self.limit - self.released.len().min(self.limit)
    }

    /// Takes what became of one hold; `None`: somebody else ended it. Says whether there is to be another one: not when the limit
    /// is reached, and not after an error that the next hold would meet as well.
    pub fn took(&mut self, outcome: Result<Option<Arc<Hold>>>) -> bool {
        match outcome {
            Ok(hold) => self.released.extend(hold),
            Err(error) => {
                let goes_on = concerns_one(error.kind());
                self.failed.get_or_insert(error);
                if !goes_on {
                    return false;
                }
            }
        }
        self.lacks() > 0
    }

    /// What was released. The first error only when that is nothing: holds that were passed over are found by the next sweep.
    pub fn answer(self) -> Result<Vec<Arc<Hold>>> {
        match self.failed {
            Some(error) if self.released.is_empty() => Err(error),
            _ => Ok(self.released),
        }
    }
}

/// Whether an error is about the one record at hand, or its user, and not about the store.
fn concerns_one(kind: &ErrorKind) -> bool {
    match kind {
        ErrorKind::NotFound(_)
        | ErrorKind::Conflict { .. }
        | ErrorKind::InvalidInput { .. }
        | ErrorKind::InsufficientFunds { .. }
        | ErrorKind::QuotaExhausted { .. }
        | ErrorKind::InvalidTransition { .. }
        | ErrorKind::Corrupt(_)
        | ErrorKind::Internal => true,
        ErrorKind::Locked { .. }
        | ErrorKind::Busy { .. }
        | ErrorKind::Unavailable
        | ErrorKind::StorageFull
        | ErrorKind::ReadOnly
        | ErrorKind::SchemaMismatch { .. }
        | ErrorKind::Moved { .. }
        | ErrorKind::BackendDisabled { .. }
        | ErrorKind::Closed => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HoldStatus, Money, OperationId, Place, Receipt, UserId};

    fn hold(name: &str) -> Result<Arc<Hold>> {
        let at = "2026-01-15T12:00:00Z".parse()?;
        let opened = Receipt { operation: OperationId::from_u128(1), balance_after: Money::ZERO, replayed: false };
        Ok(Arc::new(Hold {
            user: UserId::new(1)?,
            name: name.parse()?,
            amount: "1".parse()?,
            status: HoldStatus::Released,
            committed: Money::ZERO,
            expires_at: Some(at),
            created_at: at,
            updated_at: at,
            opened,
            ended: Some(opened),
        }))
    }

    fn damaged() -> Error {
        Error::corrupt(Place::new("a hold"), "it is larger than what is held")
    }

    #[test]
    fn one_bad_hold_keeps_no_other_from_being_released() -> Result<()> {
        let mut sweep = Sweep::new(PageSize::new(2)?);
        assert!(sweep.took(Err(damaged())));
        assert!(sweep.took(Ok(None)), "somebody else ended it");
        assert!(sweep.took(Ok(Some(hold("one")?))));
        assert_eq!(sweep.lacks(), 1);
        assert!(sweep.took(Err(damaged())));
        assert!(!sweep.took(Ok(Some(hold("two")?))), "no more than the limit");
        assert_eq!(sweep.answer()?, [hold("one")?, hold("two")?]);
        Ok(())
    }

    #[test]
    fn what_was_released_is_answered_before_any_error() -> Result<()> {
        let gone = || Error::new(ErrorKind::Unavailable);
        let mut sweep = Sweep::new(PageSize::DEFAULT);
        assert!(sweep.took(Ok(Some(hold("one")?))));
        assert!(!sweep.took(Err(gone())), "the next would meet it too");
        assert_eq!(sweep.answer()?, [hold("one")?]);
        let mut sweep = Sweep::new(PageSize::DEFAULT);
        assert!(sweep.took(Err(damaged())));
        assert!(!sweep.took(Err(gone())));
        assert!(sweep.answer().is_err_and(|error| matches!(error.kind(), ErrorKind::Corrupt(_))), "the first one");
        Ok(())
    }
}
