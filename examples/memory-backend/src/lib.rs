//! A backend that keeps everything in memory: the example of a third-party backend, readable in one sitting.
//!
//! A [`MemoryPlace`] holds the contents, a [`MemoryStorage`] is one handle on it. A write copies the contents,
//! changes the copy and puts it in place only when the whole operation succeeded; so each operation is one atom,
//! and a read is a look at a snapshot that nobody changes. Slow for many users, and obviously right.
//!
//! Nothing outlives the process: this backend keeps every rule of the contract but durability.

mod admin_limits;
mod balances;
mod free_generations;
mod history;
mod jobs;
mod operations;
mod payments;
mod referrals;
mod reserves;
mod state;
mod store;
mod users;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use storage_core::kernel::{Atom, Call, Halt, Reply, decide};
use storage_core::{Destination, Environment, Error, ErrorKind, Policy, Result};

use crate::state::State;

/// Where a store lives. Handles that share a place share the store.
#[derive(Debug, Default)]
pub struct MemoryPlace(Mutex<Arc<State>>);

impl MemoryPlace {
    fn lock(&self) -> MutexGuard<'_, Arc<State>> {
        // A writer that panicked never put its copy in place, so what the lock guards is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One handle on a store in memory.
#[derive(Debug)]
pub struct MemoryStorage {
    place: Arc<MemoryPlace>,
    environment: Environment,
    closed: AtomicBool,
}

impl MemoryStorage {
    /// Opens a store, founding it when the place is new.
    ///
    /// # Errors
    /// `SchemaMismatch` when the store was founded with another time zone or history retention.
    pub fn open(place: Arc<MemoryPlace>, environment: Environment) -> Result<Self> {
        let wanted = (environment.policy.time_zone.clone(), environment.policy.history);
        let mut state = place.lock();
        match &state.founded {
            None => Arc::make_mut(&mut state).founded = Some(wanted),
            Some(found) if *found == wanted => {}
            Some(found) => {
                return Err(Error::schema(
                    format!("a store of zone {} that keeps {:?}", found.0, found.1),
                    format!("zone {} and {:?}", wanted.0, wanted.1),
                    "dump it, and restore into a new place",
                ));
            }
        }
        drop(state);
        Ok(Self { place, environment, closed: AtomicBool::new(false) })
    }

    fn policy(&self) -> &Policy {
        &self.environment.policy
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::SeqCst) { Err(Error::closed()) } else { Ok(()) }
    }

    /// What is wrong with the arguments is said before anything is looked at, but of a store that is open.
    fn judge(&self, operation: &'static str, arguments: Result<()>) -> Result<()> {
        self.check_open().and(arguments).map_err(|error| error.in_operation(operation))
    }

    /// Looks at a snapshot.
    fn read<T>(&self, operation: &'static str, look: impl FnOnce(&State) -> Result<T>) -> Result<T> {
        let snapshot = Arc::clone(&self.place.lock());
        self.check_open().and_then(|()| look(&snapshot)).map_err(|error| error.in_operation(operation))
    }

    /// Lets the kernel decide a call, and writes down what it changes.
    fn apply<T: TryFrom<Reply, Error = Error>>(&self, call: impl Into<Call>) -> Result<T> {
        let call = call.into();
        self.change(call.operation(), |state| {
            let atom = Atom::new(call, &self.environment)?;
            let decision = decide(&atom, state, self.policy()).map_err(Halt::into_error)?;
            state.put(decision.changes);
            decision.reply.try_into()
        })
    }

    /// Changes a copy, and puts it in place when the whole change succeeded.
    fn change<T>(&self, operation: &'static str, change: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut place = self.place.lock();
        self.check_open().map_err(|error| error.in_operation(operation))?;
        let mut copy = State::clone(&place);
        let answer = change(&mut copy).map_err(|error| error.in_operation(operation))?;
        if let Some(to) = place.moved.as_ref().filter(|_| copy != **place) {
            return Err(Error::new(ErrorKind::Moved { to: to.to_string() }).in_operation(operation));
        }
        *place = Arc::new(copy);
        Ok(answer)
    }

    /// Puts another mark in the place of `expected`; where something else stands, it is told.
    fn remark(
        &self,
        operation: &'static str,
        expected: Option<&Destination>,
        wanted: Option<Destination>,
    ) -> Result<()> {
        let mut contents = self.place.lock();
        self.check_open().map_err(|error| error.in_operation(operation))?;
        if contents.moved == wanted {
            return Ok(());
        }
        if contents.moved.as_ref() != expected {
            let present = contents.moved.iter().map(ToString::to_string).collect::<String>();
            let reason = "the store is marked as moved there; that mark is lifted by this name";
            return Err(Error::conflict("mark", present, reason).in_operation(operation));
        }
        Arc::make_mut(&mut contents).moved = wanted;
        Ok(())
    }
}
