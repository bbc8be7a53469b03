//! A request that never comes back.

use tokio::sync::oneshot;

/// Before or after a request did what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The request is lost.
    Before,
    /// The answer is lost.
    After,
}

/// Which of the following requests never comes back.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// So many pass before it.
    pub passing: u64,
    /// What of it is lost.
    pub when: When,
}

/// A cut that waits for its request.
#[derive(Debug)]
pub(crate) struct Armed {
    cut: Cut,
    reached: Option<oneshot::Sender<()>>,
}

impl Armed {
    pub(crate) fn new(cut: Cut) -> (Self, oneshot::Receiver<()>) {
        let (reached, receiver) = oneshot::channel();
        (Self { cut, reached: Some(reached) }, receiver)
    }
    /// Counts a request. When it is the one: which part of it is lost. Every one after it is lost whole.
    pub(crate) fn count(&mut self) -> Option<When> {
        if self.reached.is_none() {
            return Some(When::Before);
        }
        if let Some(left) = self.cut.passing.checked_sub(1) {
            self.cut.passing = left;
            return None;
        }
        Some(self.cut.when)
    }
    /// Says that the request came.
    pub(crate) fn reach(&mut self) {
        if let Some(reached) = self.reached.take() {
            // Whoever armed it may have gone.
            let _ = reached.send(());
        }
    }
}
