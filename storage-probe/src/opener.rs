//! How the probe comes by the store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use storage_core::{Environment, ManualClock, Policy, Result, SharedStorage, SystemIds, Timestamp};

/// Opens the store under test: the one thing that the probe does not know.
///
/// It is opened anew by each command, and by `verify` twice. What a new place needs before it can be used is the opener's to
/// do: `run` may be the first to come.
#[async_trait]
pub trait Opener: Sync {
    /// Opens the store with this clock, these ids and this policy. `store` is the argument of the command line.
    ///
    /// `deadline` is `--deadline`: how long an operation, and opening, may wait for another process that has a lock. Answer
    /// `Busy` or `Locked` then. `scripts/fault/hold_enum.py` gives it; nothing stands for the store's own limit.
    async fn open(&self, store: &str, environment: Environment, deadline: Option<Duration>) -> Result<SharedStorage>;

    /// Whether the store is a server, which may be away for a moment: an operation without a certain answer is then repeated
    /// for the seconds of `--patience`.
    ///
    /// Files, which are the standard, do not come back by waiting: a run on them ends at the first refusal, or tries again as
    /// often as `--insist` says.
    fn is_server(&self, _store: &str) -> bool {
        false
    }
}

/// Opens a store with a clock that the probe moves.
///
/// The ids are random ones: a program that begins again must not mint those that it minted before.
pub(crate) async fn open(
    opener: &dyn Opener,
    store: &str,
    deadline: Option<Duration>,
) -> Result<(SharedStorage, Arc<ManualClock>)> {
    let clock = Arc::new(ManualClock::at(Timestamp::MIN));
    let environment =
        Environment { clock: Arc::clone(&clock) as _, ids: Arc::new(SystemIds), policy: Policy::default() };
    Ok((opener.open(store, environment, deadline).await?, clock))
}
