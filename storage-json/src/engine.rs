//! The handle: reads see the published state, writes go through the queue to the writer thread.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LockResult, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use storage_core::kernel::{Atom, Call, Halt, Reply, decide};
use storage_core::{Environment, Error, ErrorKind, HeapSize as _, Result};
use tokio::sync::oneshot;

use crate::ahead::Ahead;
use crate::background::Background;
use crate::disk::Dir;
use crate::journal::{Head, Journal, Mark};
use crate::ledger::Ledger;
use crate::locks::{LockFile, WRITER};
use crate::manifest::{FileSum, Manifest};
use crate::options::{Access, JsonOptions};
use crate::presence::Presence;
pub(crate) use crate::queue::Queue;
use crate::queue::{Room, Work};
use crate::state::{FileId, Position, State};
use crate::watch::{Changed, Trouble, Watch};

/// A poisoned lock only says that a thread panicked; what it guards is replaced whole, never left half-done.
pub(crate) fn unpoisoned<T>(locked: LockResult<T>) -> T {
    locked.unwrap_or_else(PoisonError::into_inner)
}

/// What the journal is written with; held for a whole batch.
#[derive(Debug)]
pub(crate) struct Applier {
    pub(crate) journal: Journal,
    pub(crate) manifest: Manifest,
    /// The manifest file that was last looked at; another one there means that somebody made a checkpoint.
    pub(crate) manifest_stamp: Option<(u64, u64, u64)>,
    /// How large the journal must be before a checkpoint that failed is tried again.
    pub(crate) retry_at: u64,
    /// A checkpoint is wanted, however large the journal is.
    pub(crate) is_due: bool,
    /// What others begin meanwhile, while this handle reads the files and catches up.
    pub(crate) ahead: Option<Ahead>,
}

impl Applier {
    /// At the beginning of a journal, or where the files say.
    pub(crate) fn new(journal: Journal, manifest: Manifest) -> Self {
        Self { journal, manifest, manifest_stamp: None, retry_at: 0, is_due: false, ahead: None }
    }
}

/// Why a store takes no writes any more.
#[derive(Clone, Debug)]
pub(crate) struct Dead(pub(crate) String);

/// A file's time and length when it was found to be as the manifest has it.
pub(crate) type Seen = ((u64, u64), FileSum);

/// Everything that a handle, its clones' futures and the writer thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dir: Dir,
    pub(crate) options: JsonOptions,
    pub(crate) state: RwLock<State>,
    pub(crate) applier: Mutex<Applier>,
    /// Held while the files are read anew, which takes as much memory as the state: by one thread of this handle at a time. How
    /// often that was done.
    pub(crate) rejoining: Mutex<u64>,
    pub(crate) head: Head,
    pub(crate) ledger: Ledger,
    pub(crate) queue: Queue,
    pub(crate) dead: OnceLock<Dead>,
    /// Why this handle ended: what it had open is not the store any more. Nothing is touched after this.
    pub(crate) lost: OnceLock<Error>,
    pub(crate) watch: Watch,
    /// Who kept the writer lock when somebody last gave up waiting for it.
    pub(crate) told: Mutex<Option<(Instant, String)>>,
    pub(crate) closed: AtomicBool,
    /// How the first close ended; whoever closes again waits for it and answers the same.
    pub(crate) closing: tokio::sync::Mutex<Option<Result<()>>>,
    pub(crate) checkpoint: Background,
    pub(crate) warnings: Mutex<Vec<String>>,
    /// Files that were found as the manifest has them, by their time and length then.
    pub(crate) seen: Mutex<HashMap<FileId, Seen>>,
    /// Syncs of the journal by this handle, and the microseconds they took.
    pub(crate) syncs: AtomicU64,
    pub(crate) sync_micros: AtomicU64,
    /// How many dumps were begun: each has a number.
    pub(crate) dumps: AtomicU64,
    /// States that were replaced while dumps still looked at them, by the dumps' numbers.
    pub(crate) retired: Mutex<BTreeMap<u64, Arc<State>>>,
    /// Held for as long as the store is open. `None` after closing.
    pub(crate) presence: Mutex<Option<Presence>>,
}

impl Shared {
    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        unpoisoned(self.state.read())
    }
    pub(crate) fn applier(&self) -> MutexGuard<'_, Applier> {
        unpoisoned(self.applier.lock())
    }
    pub(crate) fn warn(&self, warning: String) {
        let mut warnings = unpoisoned(self.warnings.lock());
        if warnings.len() < 32 && !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    /// Puts another state in place of this one, for a handle that read everything anew. Dumps go on with the old one.
    pub(crate) fn replace_state(&self, mut fresh: State) {
        fresh.keep_heights();
        // Held around the exchange: whoever finds a moment in neither place waits here, and then finds it.
        let mut retired = unpoisoned(self.retired.lock());
        let old = std::mem::replace(&mut *unpoisoned(self.state.write()), fresh);
        if !old.moments.dumps.is_empty() {
            let old = Arc::new(old);
            retired.extend(old.moments.dumps.keys().map(|number| (*number, Arc::clone(&old))));
        }
    }
    /// Turns the store read-only, for this process at once and for the others through the head. The caller holds the writer
    /// lock.
    pub(crate) fn die(&self, why: &Error) {
        let position = self.state().position;
        self.die_at(why, position);
    }
    /// [`Shared::die`], for a caller who holds the state.
    pub(crate) fn die_at(&self, why: &Error, position: Position) {
        if self.promise_no_more(why) {
            self.tell_others(position);
        }
    }
    /// Turns the store read-only for this process; `false` when it was.
    pub(crate) fn promise_no_more(&self, why: &Error) -> bool {
        self.dead.set(Dead(format!("{:#}", why.report()))).is_ok()
    }
    /// Turns the store read-only for the others. The caller holds the writer lock.
    pub(crate) fn tell_others(&self, position: Position) {
        // When even this fails, the others find out by their own sync.
        let _ = self.head.write(Mark { dead: true, ..self.mark(position) });
    }
    /// A head mark of this handle.
    pub(crate) fn mark(&self, position: Position) -> Mark {
        Mark { position, dead: false, durable: self.durable() }
    }
    /// Refuses whatever would touch the files after closing gave the presence up.
    pub(crate) fn check_present(&self) -> Result<()> {
        if unpoisoned(self.presence.lock()).is_some() { Ok(()) } else { Err(Error::closed()) }
    }
    pub(crate) fn read_only(&self) -> Option<Error> {
        self.dead.get().map(|Dead(why)| {
            Error::new(ErrorKind::ReadOnly).message(format!(
                "a sync failed, so nothing more is promised here; close every process that has {} open and open it again ({why})",
                self.dir.path().display()
            ))
        })
    }
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::closed()) } else { self.check_kept() }
    }
    /// Refuses everything once what was open is not the store any more.
    pub(crate) fn check_kept(&self) -> Result<()> {
        self.lost.get().map_or(Ok(()), |error| Err(error.clone()))
    }
    /// Ends the handle where a look found that it can never go on.
    pub(crate) fn judged<T>(&self, looked: Result<T, Trouble>) -> Result<T> {
        looked.map_err(|trouble| match trouble {
            Trouble::Passing(error) => error,
            Trouble::Final(error) => {
                // A checkpoint that goes on would put its files where another store may put its own by now.
                self.checkpoint.cancelled.store(true, Ordering::Release);
                self.lost.get_or_init(|| error).clone()
            }
        })
    }
    /// Proves that the directory and the files by which processes know each other are those that were opened; answers as
    /// [`Watch::locks`](crate::watch::Watch::locks).
    pub(crate) fn prove_place(&self) -> Result<Option<Changed>> {
        self.check_kept()?;
        if let Some(warning) = self.judged(self.watch.place())? {
            self.warn(warning);
        }
        self.judged(self.watch.locks())
    }
    /// Opens another handle of a lock file, which must be the one that all processes have in common.
    pub(crate) fn open_lock(&self, name: &'static str) -> Result<LockFile> {
        self.prove_place()?;
        let lock = LockFile::open_existing(&self.dir, name, self.options.locking)?;
        let lock = lock.ok_or_else(|| self.judged(self.watch.locks()).err().unwrap_or_else(Error::closed))?;
        self.judged(self.watch.check(name, lock.identity()?))?;
        Ok(lock)
    }
    /// Why the writer did not come to a call, for its error.
    pub(crate) fn who_keeps_the_writer(&self) -> String {
        // Thousands of calls may give up in the same moment.
        let mut told = unpoisoned(self.told.lock());
        match &*told {
            Some((at, text)) if at.elapsed() < Duration::from_secs(1) => text.clone(),
            _ => told.insert((Instant::now(), self.look_who_keeps_the_writer())).1.clone(),
        }
    }
    fn look_who_keeps_the_writer(&self) -> String {
        match self.open_lock(WRITER).map(|lock| lock.holder()) {
            Ok(holder) if holder.pid == Some(std::process::id()) => {
                "this process is at a batch before it; look at the disk, or repeat it later".to_owned()
            }
            Ok(holder) => format!("{} is held by {holder}", self.dir.join(WRITER).display()),
            Err(error) => format!("it cannot be told why: {error}"),
        }
    }
    pub(crate) fn durable(&self) -> bool {
        self.options.durability == crate::options::Durability::Full
    }
}

/// Stops the writer thread when the last handle goes.
#[derive(Debug)]
struct StopOnDrop(Arc<Shared>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.queue.push(Work::Stop);
    }
}

/// A store in a directory of JSON files.
///
/// ```
/// # async fn example() -> storage_core::Result<()> {
/// use storage_core::{AddBalance, Balances, Store, UserId};
/// use storage_json::{JsonOptions, JsonStorage};
///
/// let storage = JsonStorage::open(JsonOptions::new("./data")).await?;
/// storage.add_balance(AddBalance::new(UserId::new(1001)?, "10".parse()?)).await?;
/// storage.close().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct JsonStorage {
    pub(crate) shared: Arc<Shared>,
    _stop: StopOnDrop,
}

/// How a handle's journal does, for whoever watches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vitals {
    /// The journal since the last checkpoint, in bytes.
    pub journal_bytes: u64,
    /// How often this handle synced it.
    pub syncs: u64,
    /// How long that took together, in microseconds.
    pub sync_micros: u64,
    /// Calls of this handle that were neither answered nor given up: they wait for the writer, or are with it.
    pub waiting_calls: u64,
    /// What they keep in memory, in bytes, arguments included.
    pub waiting_bytes: u64,
}

impl JsonStorage {
    /// How the journal does. Looks at memory alone.
    pub fn vitals(&self) -> Vitals {
        let journal_bytes = self.shared.state().position.offset;
        let syncs = self.shared.syncs.load(Ordering::Relaxed);
        let sync_micros = self.shared.sync_micros.load(Ordering::Relaxed);
        let (waiting_calls, waiting_bytes) = self.shared.queue.held();
        Vitals { journal_bytes, syncs, sync_micros, waiting_calls, waiting_bytes }
    }

    /// Opens the store in a directory, creating an empty one when nothing is there, and recovering one that a killed
    /// process left.
    ///
    /// # Errors
    /// `Locked` naming the process that keeps it; `SchemaMismatch` for another format or policy, or for records that
    /// are not ours; `Corrupt` with file, line, column and key; `ReadOnly`, `StorageFull`, `Unavailable` as the disk
    /// has it. Nothing on disk is changed by an open that fails for what it read.
    pub async fn open(options: JsonOptions) -> Result<Self> {
        let opened = tokio::task::spawn_blocking(move || crate::open::open(options)).await;
        let (shared, writer) = opened
            .map_err(|error| Error::internal("opening was interrupted").caused_by(error))?
            .map_err(|error| error.in_operation("open"))?;
        let shared = Arc::new(shared);
        let thread = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("storage-json".to_owned())
            .spawn(move || crate::writer::run(&thread, writer))
            .map_err(|error| {
                Error::new(ErrorKind::Unavailable).message("cannot start the writer thread").caused_by(error)
            })?;
        Ok(Self { _stop: StopOnDrop(Arc::clone(&shared)), shared })
    }

    pub(crate) fn env(&self) -> &Environment {
        &self.shared.options.environment
    }
    pub(crate) fn ledger(&self) -> Ledger {
        self.shared.ledger.clone()
    }

    /// An error that is found before the store is asked: after `Closed`, which always comes first.
    pub(crate) fn refuse(&self, operation: &'static str, error: Error) -> Error {
        self.shared.check_open().err().unwrap_or(error).in_operation(operation)
    }

    /// Runs what reads the disk where it may block.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| Error::internal("a task was interrupted").caused_by(error))?
    }

    /// Looks at the published state, after catching up with what other processes had made durable when the call began.
    pub(crate) async fn read<T>(&self, operation: &'static str, look: impl FnOnce(&State) -> T) -> Result<T> {
        self.read_inner(look).await.map_err(|error| error.in_operation(operation))
    }

    async fn read_inner<T>(&self, look: impl FnOnce(&State) -> T) -> Result<T> {
        self.shared.check_open()?;
        if self.shared.options.access == Access::Exclusive {
            return Ok(look(&self.shared.state()));
        }
        let wanted = self.shared.head.read()?.map(|mark| mark.position);
        {
            // The writer moves head and state under the state's lock, so a head read before is covered here unless
            // another process wrote it.
            let state = self.shared.state();
            if wanted.is_some_and(|wanted| state.position.covers(&wanted)) {
                return Ok(look(&state));
            }
        }
        let deadline = self.shared.options.deadline;
        let shared = Arc::clone(&self.shared);
        tokio::time::timeout(deadline, self.blocking(move || crate::follow::follow(&shared))).await.map_err(
            |_| Error::new(ErrorKind::Busy { waited: deadline }).message("another process keeps the files"),
        )??;
        let state = self.shared.state();
        if wanted.is_none_or(|wanted| state.position.covers(&wanted)) {
            return Ok(look(&state));
        }
        Err(Error::new(ErrorKind::Unavailable)
            .message("journal.head is ahead of the journal; close every process and open the store again"))
    }

    /// For operations that look at their arguments before the store: `Closed` comes first.
    pub(crate) fn opened(&self, operation: &'static str) -> Result<()> {
        self.shared.check_open().map_err(|error| error.in_operation(operation))
    }

    /// Lets the kernel decide a call on the writer thread, and waits for its answer, at most for the deadline.
    pub(crate) async fn apply<T: TryFrom<Reply, Error = Error>>(&self, call: impl Into<Call>) -> Result<T> {
        let call = call.into();
        let operation = call.operation();
        let reply = self.apply_inner(call).await.and_then(T::try_from);
        reply.map_err(|error| error.in_operation(operation))
    }

    async fn apply_inner(&self, call: Call) -> Result<Reply> {
        self.shared.check_open()?;
        let heap = call.heap_size();
        let atom = Atom::new(call, self.env())?;
        let (deadline, room, key) = (self.shared.options.deadline, Room::of(&self.shared.options), atom.asked_by());
        let mut answer = self.shared.queue.call(room, key, heap, move |tx| {
            let decision = decide(&atom, tx, &tx.env.policy).map_err(Halt::into_error)?;
            tx.put(decision.changes)?;
            Ok(decision.reply)
        })?;
        match tokio::time::timeout(deadline, &mut answer).await {
            Ok(answer) => answer,
            Err(_) => {
                answer.give_up(Error::new(ErrorKind::Busy { waited: deadline }), || self.shared.who_keeps_the_writer())
            }
        }
    }

    /// Runs a step on the writer thread, between two batches, however much is queued. Dropped before it began, it never
    /// runs.
    pub(crate) async fn control<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Arc<Shared>, &mut LockFile) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let _waiting = self.shared.queue.step(None, replying(reply, step))?;
        answer.await.map_err(|_| Error::closed())?
    }

    /// [`JsonStorage::control`] where there is room, and at most for `limit`.
    pub(crate) async fn control_within<T: Send + 'static>(
        &self,
        limit: Duration,
        step: impl FnOnce(&Arc<Shared>, &mut LockFile) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let room = Room::of(&self.shared.options);
        let waiting = self.shared.queue.step(Some(room), replying(reply, step))?;
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer.map_err(|_| Error::closed())?,
            Err(_) => {
                Err(waiting
                    .give_up(Error::new(ErrorKind::Busy { waited: limit }), || self.shared.who_keeps_the_writer()))
            }
        }
    }
}

/// A step that sends what it came to.
fn replying<T: Send + 'static>(
    reply: oneshot::Sender<Result<T>>,
    step: impl FnOnce(&Arc<Shared>, &mut LockFile) -> Result<T> + Send + 'static,
) -> impl FnOnce(&Arc<Shared>, &mut LockFile) + Send + 'static {
    move |shared, lock| {
        // Whoever asked may be gone.
        let _ = reply.send(step(shared, lock));
    }
}
