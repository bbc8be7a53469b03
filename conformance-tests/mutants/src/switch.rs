//! Which defect is on, and what defects remember.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

static CURRENT: AtomicUsize = AtomicUsize::new(0);
static SEEN: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

/// The number of the defect that is on, 0 for none.
pub(crate) fn current() -> usize {
    CURRENT.load(Ordering::SeqCst)
}

/// Turns a defect on, and forgets what others remembered.
pub(crate) fn turn_to(number: usize) {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner).clear();
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
