//! Which defect is on, and what defects remember.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

static CURRENT: AtomicUsize = AtomicUsize::new(0);
static SEEN: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());
static KEPT: Mutex<BTreeMap<usize, Arc<dyn Any + Send + Sync>>> = Mutex::new(BTreeMap::new());

/// The number of the defect that is on, 0 for none.
pub(crate) fn current() -> usize {
    CURRENT.load(Ordering::SeqCst)
}

/// Turns a defect on, and forgets what others remembered.
pub(crate) fn turn_to(number: usize) {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner).clear();
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).clear();
    CURRENT.store(number, Ordering::SeqCst);
}

/// How often this was noted before; notes it.
pub(crate) fn note(what: String) -> usize {
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    let times = seen.entry(what).or_default();
    *times += 1;
    *times - 1
}

/// The figure that was given the first time.
pub(crate) fn remember(what: String, figure: usize) -> usize {
    *SEEN.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_insert(figure)
}

/// Keeps what somebody saw, and gives what they had kept before.
pub(crate) fn keep<T: Any + Send + Sync>(whose: usize, seen: Arc<T>) -> Option<Arc<T>> {
    let before = KEPT.lock().unwrap_or_else(PoisonError::into_inner).insert(whose, seen);
    before.and_then(|before| before.downcast().ok())
}

/// What somebody kept.
pub(crate) fn kept<T: Any + Send + Sync>(whose: usize) -> Option<Arc<T>> {
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner).get(&whose).cloned();
    kept.and_then(|kept| kept.downcast().ok())
}
