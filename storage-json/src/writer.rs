//! The one writer of a handle: takes all operations that wait, decides them in order, appends their lines with one write
//! and one sync, and only then publishes and answers.
//!
//! Locks, always in this order: the `writer` file lock, the applier, the state. The file lock and the applier are held
//! for the whole batch, the state while deciding (shared) and publishing (exclusive), never across the sync of a batch. A
//! checkpoint keeps the state shared while it writes: reads go on, and only this thread would want it exclusive.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use storage_core::{Error, ErrorKind, Place, Result};

use crate::checkpoint::Written;
use crate::engine::{Applier, Shared, unpoisoned};
use crate::files::{io_error, write_all_at};
use crate::journal::{Journal, Mark, Record, write_record};
use crate::locks::LockFile;
use crate::manifest::{MANIFEST, Manifest};
use crate::options::Access;
use crate::queue::{Queued, Work};
use crate::state::{Change, LineMark, Position, State};
use crate::tx::{Overlay, Tx};

/// Runs until the last handle is gone.
pub(crate) fn run(shared: &Arc<Shared>, mut lock: LockFile) {
    let (mut work, mut batch) = (Vec::new(), Vec::new());
    let _end = End(shared);
    loop {
        shared.queue.take(&mut work);
        for work in work.drain(..) {
            match work {
                Work::Op(op) => batch.push(op),
                Work::Control(step) => {
                    run_batch(shared, &mut lock, &mut batch);
                    // It may take long, and it may be what somebody waits for who is answered already.
                    shared.queue.wake_rest();
                    step(shared, &mut lock);
                }
                Work::Stop => {
                    run_batch(shared, &mut lock, &mut batch);
                    shared.queue.wake_rest();
                    return;
                }
            }
        }
        run_batch(shared, &mut lock, &mut batch);
    }
}

/// Whatever ends the writer, nobody waits for it any more.
struct End<'s>(&'s Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.checkpoint.cancelled.store(true, Ordering::Release);
        self.0.queue.end();
    }
}

/// Runs what stands in the batch, and empties it.
fn run_batch(shared: &Arc<Shared>, lock: &mut LockFile, batch: &mut Vec<Queued>) {
    if batch.is_empty() {
        return;
    }
    // From here on this thread may block.
    shared.queue.wake_rest();
    let outcome = locked(shared, lock, |shared| {
        // Only now, with the lock in hand: a caller whose patience ended while another process kept it was told that
        // nothing was applied.
        batch.retain(|op| op.take());
        let mut applier = shared.applier();
        catch_up(shared, &mut applier)?;
        let stored = commit(shared, &mut applier, batch);
        if stored.is_ok() {
            crate::background::when_due(shared, &mut applier);
        }
        stored
    });
    shared.queue.answer(batch.drain(..), outcome.as_ref().copied());
}

/// Runs a step under the writer lock.
pub(crate) fn locked<T>(
    shared: &Arc<Shared>,
    lock: &mut LockFile,
    step: impl FnOnce(&Arc<Shared>) -> Result<T>,
) -> Result<T> {
    // Whoever has the store for itself needs no lock for each batch.
    if shared.options.access == Access::Exclusive {
        return step(shared);
    }
    lock.exclusive()?;
    let outcome = step(shared);
    lock.release();
    outcome
}

/// What a batch will leave behind once it is durable.
#[derive(Default)]
struct Batch {
    overlay: Overlay,
    journal: Vec<u8>,
    ledger: Vec<u8>,
    /// Less the accounts, which come first.
    changes: Vec<Change>,
    marks: Vec<LineMark>,
}

/// Decides the operations, makes them durable and publishes them.
fn commit(shared: &Shared, applier: &mut Applier, ops: &[Queued]) -> Result<()> {
    let mut batch = Batch::default();
    let (start, end) = {
        let state = shared.state();
        let start = state.position;
        let mut end = start;
        for op in ops {
            let tx =
                Tx::new(&state, &batch.overlay, &shared.ledger, &shared.options.environment, op.stamp(), end.ledger);
            let Some(decided) = op.decide(tx) else { continue };
            write_record(&mut batch.journal, end, start.seq, &decided)?;
            end = Position {
                seq: end.seq + 1,
                offset: start.offset + batch.journal.len() as u64,
                ledger: end.ledger + decided.lines.len() as u64,
                ..end
            };
            batch.ledger.extend_from_slice(&decided.lines);
            batch.changes.extend(decided.changes);
            batch.marks.extend(decided.marks);
            batch.overlay.absorb(decided.own);
        }
        (start, end)
    };
    if end == start {
        return Ok(());
    }
    if let Some(refusal) = shared.read_only() {
        return Err(refusal);
    }
    if let Some(to) = &applier.manifest.moved_to {
        return Err(Error::new(ErrorKind::Moved { to: to.clone() }));
    }
    store(shared, &mut applier.journal, start, &batch)?;
    publish(shared, start, end, batch)
}

/// Writes a batch and makes it durable. On an error nothing of it will ever be read back, unless the error says that
/// this is unknown.
fn store(shared: &Shared, journal: &mut Journal, start: Position, batch: &Batch) -> Result<()> {
    journal.reserve(start.offset, batch.journal.len())?;
    // First the ledger: bytes behind its end mean nothing until a journal line speaks of them.
    write_all_at(&shared.ledger.file, &batch.ledger, start.ledger)
        .map_err(|(error, _)| io_error(error, "cannot write", &shared.dir.join(crate::ledger::LEDGER)))?;
    if let Err((error, partly)) = journal.write(start.offset, &batch.journal) {
        if partly {
            // Whole lines of a batch that is refused must not be found by a recovery.
            let upto = start.offset + batch.journal.len() as u64;
            if journal.wipe(start.offset, upto).and_then(|()| journal.sync()).is_err() {
                shared.die(&error);
                return Err(error.unknown(None));
            }
        }
        return Err(error);
    }
    if !shared.durable() {
        return Ok(());
    }
    let began = Instant::now();
    let synced = journal.sync();
    shared.syncs.fetch_add(1, Ordering::Relaxed);
    let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    shared.sync_micros.fetch_add(micros, Ordering::Relaxed);
    synced.map_err(|error| {
        shared.die(&error);
        shared.read_only().unwrap_or(error).unknown(None)
    })
}

/// Shows a durable batch: to other processes through the head, to this one through the state.
fn publish(shared: &Shared, start: Position, end: Position, batch: Batch) -> Result<()> {
    let mut state = unpoisoned(shared.state.write());
    if let Err(error) = shared.head.write(shared.mark(end)) {
        // The batch is durable but the others cannot learn of it: they must not build beside it.
        drop(state);
        shared.die(&error);
        return Err(error.unknown(None));
    }
    debug_assert_eq!(state.position, start, "only this thread moves the state during a batch");
    for account in batch.overlay.into_accounts() {
        state.put_account(account);
    }
    for change in batch.changes {
        state.apply(change);
    }
    for mark in &batch.marks {
        state.mark_line(mark);
    }
    state.position = end;
    Ok(())
}

/// Catches a reader up with what other processes made durable.
pub(crate) fn follow(shared: &Arc<Shared>) -> Result<()> {
    let caught_up = {
        let mut applier = shared.applier();
        follow_journal(shared, &mut applier)?
    };
    if caught_up {
        return Ok(());
    }
    // Too far behind: the files must be read again, which only works while nobody writes. The applier is not held
    // while waiting for the lock, because the writer thread takes them the other way round.
    let mut lock = LockFile::open(&shared.dir, crate::locks::WRITER, shared.options.locking)?;
    lock.exclusive_within(shared.options.deadline, || crate::locks::Holder::read(&shared.dir))?;
    let mut applier = shared.applier();
    catch_up(shared, &mut applier)
}

/// Follows the journal up to the head; `false` when the journal that this handle reads is gone.
fn follow_journal(shared: &Shared, applier: &mut Applier) -> Result<bool> {
    let Some(mark) = shared.head.read()? else { return Ok(false) };
    if mark.dead {
        let _ = shared.dead.set(crate::engine::Dead("another process reported it".to_owned()));
    }
    let position = shared.state().position;
    if position.covers(&mark.position) {
        return Ok(true);
    }
    if mark.position.generation == position.generation {
        apply_from(shared, &applier.journal, Some(mark.position.offset))?;
        return Ok(true);
    }
    if mark.position.generation != position.generation + 1 {
        return Ok(false);
    }
    // A checkpoint went by. The open file still holds the old journal's end, all of it durable, although its name is
    // gone by now.
    apply_from(shared, &applier.journal, None)?;
    let Some(manifest) = Manifest::read(&shared.dir)? else { return Ok(false) };
    // A gap in the numbers is a restore: what it brought stands in no journal.
    let (start, position) = (manifest.current(), shared.state().position);
    if start.generation != mark.position.generation
        || (start.seq, start.ledger_bytes) != (position.seq, position.ledger)
    {
        return Ok(false);
    }
    let Some(journal) = Journal::open(&shared.dir, start.generation)? else { return Ok(false) };
    begin_generation(shared, applier, journal, manifest);
    apply_from(shared, &applier.journal, Some(mark.position.offset))?;
    Ok(true)
}

/// Moves on to the journal that a checkpoint began.
pub(crate) fn begin_generation(shared: &Shared, applier: &mut Applier, journal: Journal, manifest: Manifest) {
    let mut state = unpoisoned(shared.state.write());
    state.position = Position { generation: manifest.current().generation, offset: 0, ..state.position };
    state.dirty.forget_before(manifest.generation);
    *applier = Applier { journal, manifest, manifest_stamp: None, retry_at: 0 };
}

/// Moves on to the journal of a checkpoint that this handle made or finished, and announces it. The caller holds the
/// writer lock, and the state is the checkpoint's.
pub(crate) fn enter_generation(
    shared: &Shared,
    applier: &mut Applier,
    Written { journal, manifest, segments }: Written,
) -> Result<()> {
    begin_generation(shared, applier, journal, manifest);
    unpoisoned(shared.state.write()).keys.settle(segments);
    let position = shared.state().position;
    if let Err(error) = shared.head.write(Mark { durable: true, ..shared.mark(position) }) {
        shared.die_at(&error, position);
        return Err(error);
    }
    Ok(())
}

/// Looks whether somebody made a checkpoint, finishes one that a dead process began, and announces one that a dead process
/// finished without a word. Nobody may append to a journal before this: it might be one that no recovery reads any more.
fn look_at_manifest(shared: &Shared, applier: &mut Applier) -> Result<()> {
    let stamp = shared.dir.stamp(MANIFEST)?;
    if applier.manifest_stamp == Some(stamp) {
        return Ok(());
    }
    // What a process could not make durable is nobody's to finish or to build on.
    if shared.head.read()?.is_some_and(|mark| mark.dead) {
        let _ = shared.dead.set(crate::engine::Dead("another process reported it".to_owned()));
        return shared.read_only().map_or(Ok(()), Err);
    }
    let lost = || Error::corrupt(Place::new(MANIFEST), "the manifest went missing while the store is open");
    let mut manifest = Manifest::read(&shared.dir)?.ok_or_else(lost)?;
    let mut stamp = stamp;
    if manifest.next.is_some() {
        let finished = crate::checkpoint::finish(&shared.dir, &manifest);
        manifest = finished
            .inspect_err(|error| {
                if *error.kind() != ErrorKind::StorageFull {
                    shared.die(error);
                }
            })?
            .1;
        stamp = shared.dir.stamp(MANIFEST)?;
    } else if manifest.writing.is_some() {
        // Its writer may have died before the name was durable, and with it the name of the journal.
        shared.dir.sync().inspect_err(|error| shared.die(error))?;
    }
    let start = manifest.current();
    let announced = shared.head.read()?.is_some_and(|mark| mark.position.generation >= start.generation);
    if !announced {
        shared.head.write(Mark { durable: true, ..shared.mark(start.position()) })?;
    }
    if start.generation != applier.manifest.current().generation
        && !(follow_journal(shared, applier)? && applier.manifest.current().generation == start.generation)
    {
        crate::open::reload(shared, applier)?;
    }
    unpoisoned(shared.state.write()).dirty.forget_before(manifest.generation);
    applier.manifest = manifest;
    applier.manifest_stamp = Some(stamp);
    Ok(())
}

fn apply_from(shared: &Shared, journal: &Journal, upto: Option<u64>) -> Result<()> {
    let from = shared.state().position;
    let tail = journal.read(from, upto, upto.unwrap_or(0))?;
    let mut state = unpoisoned(shared.state.write());
    apply_records(&mut state, tail.records);
    Ok(())
}

pub(crate) fn apply_records(state: &mut State, records: impl IntoIterator<Item = Record>) {
    for record in records {
        // What a record changes is told by its own journal: the files of a checkpoint contain all up to one journal's begin.
        state.position.generation = record.end.generation;
        for change in record.changes {
            state.apply(change);
        }
        for mark in &record.marks {
            state.mark_line(mark);
        }
        state.position = record.end;
    }
}

/// Brings this handle to the very end, under the writer lock: what a process wrote that died before it could sync is
/// synced, taken over and announced, and what it left unfinished is wiped.
pub(crate) fn catch_up(shared: &Arc<Shared>, applier: &mut Applier) -> Result<()> {
    shared.check_present()?;
    look_at_manifest(shared, applier)?;
    if shared.options.access == Access::Exclusive {
        return Ok(());
    }
    if !follow_journal(shared, applier)? {
        crate::open::reload(shared, applier)?;
    }
    let position = shared.state().position;
    if shared.dead.get().is_some() || !applier.journal.has_bytes_at(position.offset)? {
        return Ok(());
    }
    let tail = applier.journal.read(position, None, 0)?;
    if tail.garbage > tail.end.offset {
        applier.journal.wipe(tail.end.offset, tail.garbage)?;
    }
    for record in &tail.records {
        write_all_at(&shared.ledger.file, &record.lines, record.ledger)
            .map_err(|(error, _)| io_error(error, "cannot write", &shared.dir.join(crate::ledger::LEDGER)))?;
    }
    if shared.durable()
        && let Err(error) = applier.journal.sync()
    {
        shared.die(&error);
        return Err(error);
    }
    let mut state = unpoisoned(shared.state.write());
    shared.head.write(shared.mark(tail.end))?;
    apply_records(&mut state, tail.records);
    Ok(())
}
