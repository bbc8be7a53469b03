//! A whole [`Storage`](crate::Storage) over a synchronous store on one thread.
//!
//! A store that has everything at hand (an embedded database, a file, memory) writes an [`Engine`] and a [`Unit`]: how a
//! transaction runs, how a record is found, listed and put. [`Serial`] does the rest: it queues calls, lets the
//! [kernel](crate::kernel) decide them one after the other, gives those that wait together one transaction (group commit), keeps
//! the deadline, closes, pages, sweeps, imports, audits, dumps, restores and keeps the mark of a store that was moved.
//!
//! `examples/memory-backend` and `examples/sqlite-backend` are two such stores. A store behind a network, whose transactions wait,
//! does not fit: it drives the kernel itself, as `storage-pg` does.

// Mutants are planted in a copy of this folder, so it uses nothing of the crate but what is public.

mod admin_limits;
mod balances;
mod free_generations;
mod history;
mod jobs;
mod operations;
mod page;
mod payments;
mod queue;
mod referrals;
mod reserves;
mod store;
mod unit;
mod users;

use std::sync::Arc;
use std::time::Duration;

use self::queue::{Queue, Work};
pub use self::unit::{Due, Engine, Founding, Unit};
use crate::kernel::{Atom, Call, Changes, Halt, Reply, decide};
use crate::{BackendInfo, Environment, Error, ErrorKind, Policy, Result};

/// One handle on a store. It needs a runtime of tokio with its timers.
///
/// Calls wait while a dump, a restore or an audit runs, as long as their deadline lets them. What a dump's reader has not taken yet is
/// kept in memory. Dropping the handle ends its thread some time later; [`Store::close`](crate::Store::close) waits for that.
#[derive(Debug)]
pub struct Serial {
    queue: Queue,
    environment: Arc<Environment>,
    info: BackendInfo,
}

/// How long a call waits for its answer, unless [`Serial::open`] is told otherwise.
pub const DEADLINE: Duration = Duration::from_secs(15);

impl Serial {
    /// Opens the store, and founds it where it is new. The engine moves to a thread of its own, which ends when the handle is
    /// closed or dropped. A call that has no answer after `deadline` answers `Busy`.
    ///
    /// # Errors
    /// `SchemaMismatch` when the store was founded with another time zone or history retention; what the engine says; `Internal`
    /// when there is no thread to be had.
    pub async fn open(
        engine: impl Engine,
        environment: Environment,
        info: BackendInfo,
        deadline: Duration,
    ) -> Result<Self> {
        let founding = Founding::of(&environment.policy);
        let store = Self { queue: Queue::start(engine, deadline)?, environment: Arc::new(environment), info };
        let found = Work::change(move |unit| match unit.founding()? {
            None => unit.found(&founding).map_err(Halt::Failed),
            Some(found) => Ok(found.check(&founding)?),
        });
        store.queue.call(found, None).await.map_err(|error| error.in_operation("open"))?;
        Ok(store)
    }

    /// What is wrong with the arguments is said before anything is looked at, but of a store that is open.
    fn judge(&self, operation: &'static str, arguments: Result<()>) -> Result<()> {
        self.queue.check_open().and(arguments).map_err(|error| error.in_operation(operation))
    }

    /// Looks at one moment.
    async fn look<T: Send + 'static>(
        &self,
        operation: &'static str,
        look: impl FnMut(&dyn Unit, &Policy) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.judge(operation, Ok(()))?;
        self.queue.call(self.looking(look), None).await.map_err(|error| error.in_operation(operation))
    }

    /// [`Serial::look`] for as long as it takes, with nothing else beside it.
    async fn look_long<T: Send + 'static>(
        &self,
        operation: &'static str,
        look: impl FnMut(&dyn Unit, &Policy) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.judge(operation, Ok(()))?;
        self.queue.call_alone(self.looking(look)).await.map_err(|error| error.in_operation(operation))
    }

    fn looking<T>(&self, mut look: impl FnMut(&dyn Unit, &Policy) -> Result<T> + Send + 'static) -> Work<T> {
        let environment = Arc::clone(&self.environment);
        Work::look(move |unit| look(unit, &environment.policy))
    }

    /// Lets the kernel decide a call, and writes down what it changes.
    async fn apply<T: TryFrom<Reply, Error = Error>>(&self, call: impl Into<Call>) -> Result<T> {
        let call = call.into();
        let operation = call.operation();
        self.judge(operation, Ok(()))?;
        let reply = async { T::try_from(self.attempt(Atom::new(call, &self.environment)?).await?) };
        reply.await.map_err(|error| error.in_operation(operation))
    }

    /// Decides an atom in a transaction.
    async fn attempt(&self, atom: Atom) -> Result<Reply> {
        let (key, environment) = (atom.asked_by(), Arc::clone(&self.environment));
        let work = Work::change(move |unit| decided(&atom, unit, &environment.policy));
        self.queue.call(work, Some(key)).await
    }
}

/// Decides an atom and puts what it changes.
///
/// # Errors
/// `Refused` when nothing was put; `Failed` when a part may have been, so that nothing of the transaction may stand.
fn decided(atom: &Atom, unit: &mut dyn Unit, policy: &Policy) -> Result<Reply, Halt> {
    let decision = decide(atom, unit, policy).map_err(|halt| Halt::Refused(halt.into_error()))?;
    put(unit, decision.changes)?;
    Ok(decision.reply)
}

/// Puts changes. A store that was moved refuses them, and answers what changes nothing.
fn put(unit: &mut dyn Unit, changes: Changes) -> Result<(), Halt> {
    if changes.is_empty() {
        return Ok(());
    }
    still_here(unit)?;
    unit.put(changes).map_err(Halt::Failed)
}

/// Refuses a change of a store whose contents were moved. Every other refusal of the contract comes before it.
fn still_here(unit: &dyn Unit) -> Result<()> {
    match unit.moved_to()? {
        Some(to) => Err(Error::new(ErrorKind::Moved { to: to.to_string() })),
        None => Ok(()),
    }
}
