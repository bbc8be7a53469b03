//! A checkpoint that stops nobody: changes go on in the next journal while the files are written.
//!
//! 1. A manifest that names a second journal, where writing goes on from now. From then on the store is the files, the
//!    first journal and the second one.
//! 2. The files as they were at that moment are staged, by a thread of its own, from [`crate::before`].
//! 3. The two manifests and the renames of [`crate::checkpoint`], between two batches. Now the store is the new files and
//!    the second journal.
//!
//! What changes the manifest runs on the writer thread under the writer lock, so that it never meets a batch. Whoever
//! dies on the way leaves a store of either form; another attempt begins a third journal, and takes the place of both.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use storage_core::{Error, ErrorKind, Result};

use crate::before::{Before, Moment, Walk};
use crate::checkpoint::{self, Base};
use crate::engine::{Applier, Shared, unpoisoned};
use crate::follow::catch_up;
use crate::index::{Frozen, Segment};
use crate::journal::Journal;
use crate::locks::{CHECKPOINT, LockFile, Try};
use crate::manifest::{MANIFEST, Manifest, Start};
use crate::options::Access;
use crate::queue::Work;
use crate::state::{FileId, FileSet};
use crate::watch::Trouble;
use crate::writer::locked;

/// What a handle knows of its checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Background {
    /// A thread is at it.
    pub(crate) running: AtomicBool,
    /// The store is being closed: the thread ends where it is.
    pub(crate) cancelled: AtomicBool,
    /// Held while files are staged and the ledger is synced. Never while waiting for the writer thread, which may wait for it.
    pub(crate) staging: Mutex<()>,
}

impl Background {
    fn go_on(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Acquire) { Err(Error::closed()) } else { Ok(()) }
    }
}

/// Begins a checkpoint when the journal has grown enough. One that cannot be made is reported and tried again later: the
/// journals hold everything.
pub(crate) fn when_due(shared: &Arc<Shared>, applier: &mut Applier) {
    let grown = shared.state().position.offset;
    let stored: u64 = applier.manifest.files.values().map(|sum| sum.bytes).sum();
    let due = shared.options.checkpoint_bytes.max(stored / 2);
    let wanted = grown >= due || applier.is_due;
    if !wanted || grown < applier.retry_at || shared.checkpoint.running.swap(true, Ordering::AcqRel) {
        return;
    }
    // A disk without room must not cost every batch a try.
    applier.retry_at = grown + due / 4;
    let own = Arc::clone(shared);
    let spawned = std::thread::Builder::new().name("storage-checkpoint".to_owned()).spawn(move || {
        let outcome = run(&own, grown);
        if let Err(error) = outcome
            && own.checkpoint.go_on().is_ok()
        {
            own.warn(format!("a checkpoint could not be made: {:#}", error.report()));
        }
        own.checkpoint.running.store(false, Ordering::Release);
    });
    if spawned.is_err() {
        shared.checkpoint.running.store(false, Ordering::Release);
    }
}

/// A checkpoint that was begun.
struct Begun {
    /// The manifest that names the second journal.
    manifest: Manifest,
    start: Start,
    files: FileSet,
    frozen: Arc<Frozen>,
}

fn run(shared: &Arc<Shared>, room: u64) -> Result<()> {
    // Files are staged under fixed names: by one process at a time. Whoever dies gives the lock up.
    let mut lock = None;
    if shared.options.access == Access::Shared {
        let lock = lock.insert(shared.open_lock(CHECKPOINT)?);
        if lock.try_exclusive()? == Try::Held {
            warn_of_standstill(shared, lock, room);
            return Ok(());
        }
        lock.sign(|| shared.options.environment.clock.now());
    }
    let (before, journal, also) = {
        let _staging = unpoisoned(shared.checkpoint.staging.lock());
        shared.checkpoint.go_on()?;
        // As it stands now that no other process can begin a checkpoint: one may have come and gone while this one waited,
        // and the next journal after the last one known here may be in use.
        let Some(before) = Manifest::read(&shared.dir)?.filter(|manifest| manifest.next.is_none()) else {
            return Ok(());
        };
        let also = checkpoint::set_aside_edits(shared, &before)?;
        // With the room that the last one needed: then no batch has to make any. Its name is durable before anything
        // is written to it.
        let journal = Journal::create(&shared.dir, before.current().generation + 1, room)?;
        shared.dir.sync()?;
        (before, journal, also)
    };
    let Some(begun) = on_writer(shared, move |shared, lock| begin(shared, lock, &before, journal, &also))? else {
        return Ok(());
    };
    let finished = ledger_synced(shared).and_then(|()| stage(shared, &begun)).and_then(|(pending, segments)| {
        on_writer(shared, move |shared, lock| finish(shared, lock, &begun, &pending, segments))
    });
    if !matches!(finished, Ok(true)) {
        let mut state = unpoisoned(shared.state.write());
        state.moments.checkpoint = None;
        state.keys.thaw();
    }
    finished.map(|_| ())
}

/// Names a process that keeps others from making checkpoints while the journal grows to many times what it should be.
fn warn_of_standstill(shared: &Shared, lock: &LockFile, grown: u64) {
    let stored: u64 = shared.applier().manifest.files.values().map(|sum| sum.bytes).sum();
    if grown >= 2 * shared.options.checkpoint_bytes.max(stored / 2) {
        shared.warn(format!(
            "the journal grows and no checkpoint can be made: {} is held by {}",
            shared.dir.join(CHECKPOINT).display(),
            lock.holder()
        ));
    }
}

/// Runs a step between two batches and waits for it.
fn on_writer<T: Send + 'static>(
    shared: &Arc<Shared>,
    step: impl FnOnce(&Arc<Shared>, &mut LockFile) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (reply, answer) = mpsc::sync_channel(1);
    shared.queue.push(Work::Control(Box::new(move |shared, lock| {
        let _ = reply.send(step(shared, lock));
    })));
    answer.recv().map_err(|_| Error::closed())?
}

/// Lets writing go on in a new journal, and keeps the state of this moment. `None` when somebody else made a checkpoint
/// meanwhile, or there is nothing to write.
fn begin(
    shared: &Arc<Shared>,
    lock: &mut LockFile,
    before: &Manifest,
    journal: Journal,
    also: &FileSet,
) -> Result<Option<Begun>> {
    shared.checkpoint.go_on()?;
    locked(shared, lock, |shared| {
        let mut applier = shared.applier();
        catch_up(shared, &mut applier)?;
        if let Some(refusal) = shared.read_only() {
            return Err(refusal);
        }
        let (position, mut files) = {
            let state = shared.state();
            (state.position, state.dirty.before(None))
        };
        files.join(also);
        let nothing_new = position.offset == 0 && files.is_empty();
        if applier.manifest != *before || before.moved_to.is_some() || nothing_new {
            return Ok(None);
        }
        // What follows in the next journal must not outlive what stands in this one; another process may write to it with
        // relaxed durability.
        applier.journal.sync().inspect_err(|error| shared.die_at(error, position))?;
        let start = Start { generation: journal.generation, ..Start::of(position) };
        let manifest = Manifest { writing: Some(start), ..before.clone() };
        shared.dir.stage(MANIFEST, &manifest.to_bytes()?)?;
        if let Err(error) = shared.dir.publish(MANIFEST) {
            if !checkpoint::may_be_repeated(&error) {
                shared.die_at(&error, position);
            }
            return Err(error);
        }
        // Visible and perhaps not durable: nobody may write to a journal that a power cut could make nameless.
        shared.dir.sync().inspect_err(|error| shared.die_at(error, position))?;
        *applier = Applier::new(journal, manifest.clone());
        let mut state = unpoisoned(shared.state.write());
        state.position = start.position();
        state.moments.checkpoint = Some(Before::default());
        let frozen = state.keys.freeze();
        shared.head.write(shared.mark(state.position)).inspect_err(|error| shared.die_at(error, state.position))?;
        Ok(Some(Begun { manifest, start, files, frozen }))
    })
}

/// Makes the ledger durable. Where that fails nothing more is promised, which is told between two batches: a mark that was
/// written beside one could be written over.
fn ledger_synced(shared: &Arc<Shared>) -> Result<()> {
    let error = {
        // Whoever closes waits here, and then knows: a second sync of the same file would report success.
        let _staging = unpoisoned(shared.checkpoint.staging.lock());
        shared.checkpoint.go_on()?;
        let Err(error) = checkpoint::sync_ledger(shared) else { return Ok(()) };
        shared.promise_no_more(&error);
        error
    };
    on_writer(shared, |shared, lock| {
        locked(shared, lock, |shared| {
            let position = shared.state().position;
            shared.tell_others(position);
            Ok(())
        })
    })?;
    Err(error)
}

/// Writes the files as they were when the checkpoint began.
fn stage(shared: &Shared, begun: &Begun) -> Result<(Manifest, Vec<Arc<Segment>>)> {
    let _staging = unpoisoned(shared.checkpoint.staging.lock());
    shared.checkpoint.go_on()?;
    let now = shared.options.environment.clock.now();
    let base = Base { dir: &shared.dir, ledger: &shared.ledger, manifest: &begun.manifest, now };
    let prepared =
        checkpoint::prepare(&base, begun.start, &begun.files, &Walk(shared, Moment::Checkpoint), &begun.frozen)
            .map_err(|error| ends_on_damage(shared, error));
    if prepared.is_err() {
        // A full disk has better use for the room.
        let copies = shared.dir.sub(checkpoint::COPIES).ok().flatten();
        for file in FileId::ALL {
            let staged = crate::disk::staged(file.name());
            let _ = shared.dir.remove(&staged);
            let _ = copies.as_ref().map(|copies| copies.remove(&staged));
        }
        let _ = shared.dir.remove(&crate::index::name(begun.start.generation));
    }
    prepared
}

/// Ends the handle where the ledger is not as it was written: somebody changed it while the store is open.
fn ends_on_damage(shared: &Shared, error: Error) -> Error {
    let ledger = shared.dir.join(crate::ledger::LEDGER).display().to_string();
    if !matches!(error.kind(), ErrorKind::Corrupt(place) if place.source == ledger) {
        return error;
    }
    let found = error.message(format!(
        "{ledger} was changed while the store is open; this handle ended and changes nothing more: close every process and open the \
         store again, the journal holds what is damaged"
    ));
    shared.judged::<()>(Err(Trouble::Final(found.clone()))).err().unwrap_or(found)
}

/// Puts the staged files in place. `false` when somebody else made a checkpoint meanwhile.
fn finish(
    shared: &Arc<Shared>,
    lock: &mut LockFile,
    begun: &Begun,
    pending: &Manifest,
    segments: Vec<Arc<Segment>>,
) -> Result<bool> {
    shared.checkpoint.go_on()?;
    locked(shared, lock, |shared| {
        let mut applier = shared.applier();
        catch_up(shared, &mut applier)?;
        if let Some(refusal) = shared.read_only() {
            return Err(refusal);
        }
        if applier.manifest != begun.manifest {
            return Ok(false);
        }
        let synced = || shared.dir.sync().inspect_err(|error| shared.die(error));
        let named = shared.dir.publish(MANIFEST).and_then(|()| synced());
        let finished = named.and_then(|()| checkpoint::finish_own(shared, pending));
        let (_, manifest) = finished.inspect_err(|error| {
            // With a full disk the next batch finishes it; anything else leaves uncertain what the disk has.
            if !checkpoint::may_be_repeated(error) {
                shared.die(error);
            }
        })?;
        checkpoint::drop_old(&shared.dir, &begun.manifest, &manifest);
        {
            let mut state = unpoisoned(shared.state.write());
            state.moments.checkpoint = None;
            state.keys.settle(segments);
            state.dirty.forget_before(manifest.generation);
        }
        applier.manifest = manifest;
        applier.manifest_stamp = None;
        applier.is_due = false;
        Ok(true)
    })
}

#[cfg(test)]
mod tests;
