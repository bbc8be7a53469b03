//! Work that may take long: nobody waits without a limit for it to go on, and it ends when nobody waits for it any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use storage_core::{Error, ErrorKind, Result};

use crate::engine::JsonStorage;

/// How often within the deadline somebody looks whether the work goes on.
const LOOKS: u32 = 4;

/// How far some work has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    steps: AtomicU64,
    given_up: AtomicBool,
}

impl Progress {
    /// Says that the work goes on; an error when nobody waits for it any more.
    pub(crate) fn step(&self) -> Result<()> {
        self.steps.fetch_add(1, Ordering::Relaxed);
        if self.given_up.load(Ordering::Relaxed) { Err(late(Duration::ZERO)) } else { Ok(()) }
    }
}

/// Somebody who waits for work; it is told when they are gone.
struct Waiting(Arc<Progress>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.given_up.store(true, Ordering::Relaxed);
    }
}

fn late(waited: Duration) -> Error {
    Error::new(ErrorKind::Busy { waited }).message("the disk did not go on with it; see what else it does, and repeat")
}

impl JsonStorage {
    /// Runs work where it may block, for as long as it goes on: between two of its steps at most the deadline passes, and a
    /// quarter of it until that is noticed.
    pub(crate) async fn while_it_goes_on<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Progress) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let deadline = self.shared.options.deadline;
        let waiting = Waiting(Arc::default());
        let progress = Arc::clone(&waiting.0);
        let mut working = std::pin::pin!(self.blocking(move || {
            // It may have waited for its thread until now.
            progress.step()?;
            work(&progress)
        }));
        let (mut seen, mut looks) = (0, 0);
        loop {
            if let Ok(outcome) = tokio::time::timeout(deadline / LOOKS, &mut working).await {
                return outcome;
            }
            let steps = waiting.0.steps.load(Ordering::Relaxed);
            looks = if steps == seen { looks + 1 } else { 0 };
            seen = steps;
            if looks == LOOKS {
                return Err(late(deadline));
            }
        }
    }

    /// [`JsonStorage::while_it_goes_on`], at most for the deadline.
    pub(crate) async fn in_time<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Progress) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let deadline = self.shared.options.deadline;
        let outcome = tokio::time::timeout(deadline, self.while_it_goes_on(work)).await;
        outcome.unwrap_or_else(|_| Err(late(deadline)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::JsonOptions;
    use std::sync::mpsc;
    use std::time::Instant;
    use storage_core::{Applied, AuditScope, ListOperations, Operations as _, UserId};

    const DEADLINE: Duration = Duration::from_millis(100);

    async fn store(temp: &tempfile::TempDir) -> JsonStorage {
        let options = JsonOptions { deadline: DEADLINE, ..JsonOptions::new(temp.path().join("data")) };
        JsonStorage::open(options).await.unwrap()
    }

    #[tokio::test]
    async fn what_goes_on_is_waited_for_and_what_stands_still_is_not() {
        let temp = tempfile::tempdir().unwrap();
        let storage = store(&temp).await;
        let going_on = |progress: &Progress| {
            let begun = Instant::now();
            while begun.elapsed() < 4 * DEADLINE {
                progress.step()?;
            }
            Ok(7)
        };
        assert_eq!(storage.while_it_goes_on(going_on).await.unwrap(), 7);
        let error = storage.in_time(going_on).await.unwrap_err();
        assert_eq!((error.kind(), error.applied()), (&ErrorKind::Busy { waited: DEADLINE }, Applied::No));
        // It stands still until nobody waits for it any more, and then it is told.
        let (go_on, stands_still) = mpsc::channel::<()>();
        let (told, was_told) = mpsc::channel();
        let work = move |progress: &Progress| {
            let _ = stands_still.recv();
            let _ = told.send(progress.step());
            Ok(())
        };
        let error = storage.while_it_goes_on(work).await.unwrap_err();
        assert_eq!((error.kind(), error.applied()), (&ErrorKind::Busy { waited: DEADLINE }, Applied::No));
        drop(go_on);
        was_told.recv().unwrap().unwrap_err();
    }

    /// Every thread that may block is taken, as behind a disk that does not answer.
    #[test]
    fn the_ledger_and_the_audit_are_not_waited_for_without_a_limit() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_all().build().unwrap();
        let temp = tempfile::tempdir().unwrap();
        runtime.block_on(async {
            let storage = store(&temp).await;
            let (go_on, stands_still) = mpsc::channel::<()>();
            let taken = tokio::task::spawn_blocking(move || stands_still.recv());
            let user = UserId::new(1).unwrap();
            let busy = ErrorKind::Busy { waited: DEADLINE };
            let error = storage.list_operations(ListOperations::of(user)).await.unwrap_err();
            assert_eq!((error.kind(), error.operation()), (&busy, Some("list_operations")));
            for scope in [AuditScope::User(user), AuditScope::Everyone] {
                let error = storage.audit(scope).await.unwrap_err();
                assert_eq!((error.kind(), error.operation()), (&busy, Some("audit")));
            }
            drop(go_on);
            taken.await.unwrap().unwrap_err();
            assert!(storage.list_operations(ListOperations::of(user)).await.unwrap().items.is_empty());
            assert!(storage.audit(AuditScope::Everyone).await.unwrap().is_clean());
        });
    }
}
