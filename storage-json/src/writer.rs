//! The one writer of a handle: takes all operations that wait, decides them in order, appends their lines with one write
//! and one sync, and only then publishes and answers.
//!
//! Locks, always in this order: the `writer` file lock, the applier, the state. The file lock and the applier are held
//! for the whole batch, the state while deciding (shared) and publishing (exclusive), never across the sync of a batch. A
//! checkpoint keeps the state shared while it writes: reads go on, and only this thread would want it exclusive.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use storage_core::{Error, ErrorKind, Result};

use crate::disk::{io_error, write_all_at};
use crate::engine::{Applier, Shared, unpoisoned};
use crate::follow::{approach, catch_up};
use crate::journal::{Journal, write_record};
use crate::locks::LockFile;
use crate::options::Access;
use crate::queue::{Queued, Work};
use crate::state::{Change, LineMark, Position};
use crate::tx::{Overlay, Tx};

/// How often a handle without work looks whether its directory is still its own.
const IDLE: Duration = Duration::from_secs(1);

/// Runs until the last handle is gone.
pub(crate) fn run(shared: &Arc<Shared>, mut lock: LockFile) {
    let (mut work, mut batch) = (Vec::new(), Vec::new());
    let _end = End(shared);
    loop {
        shared.queue.take(&mut work, IDLE);
        if work.is_empty() {
            // Readers ask the disk for nothing but the head: somebody has to notice for them.
            let _ = shared.prove_place();
        }
        for work in work.drain(..) {
            match work {
                Work::Op(op) => batch.push(op),
                Work::Step(step) => {
                    before_step(shared, &mut lock, &mut batch);
                    step.run(shared, &mut lock);
                }
                Work::Control(step) => {
                    before_step(shared, &mut lock, &mut batch);
                    step(shared, &mut lock);
                }
                Work::Stop => {
                    before_step(shared, &mut lock, &mut batch);
                    return;
                }
            }
        }
        run_batch(shared, &mut lock, &mut batch);
    }
}

/// Does everything that was queued before a step, which may take long.
fn before_step(shared: &Arc<Shared>, lock: &mut LockFile, batch: &mut Vec<Queued>) {
    run_batch(shared, lock, batch);
    // What comes may be what somebody waits for who is answered already.
    shared.queue.wake_rest();
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
    shared.check_kept()?;
    if !lock.was_held_lately() {
        approach(shared)?;
    }
    lock.exclusive()?;
    lock.sign(|| shared.options.environment.clock.now());
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
    // Where nothing may be changed, whatever changes nothing is answered as ever.
    let moved = |to: &String| Error::new(ErrorKind::Moved { to: to.clone() });
    let refusal = shared.read_only().or_else(|| applier.manifest.moved_to.as_ref().map(moved));
    let mut batch = Batch::default();
    let (start, end) = {
        let state = shared.state();
        let start = state.position;
        let mut end = start;
        for op in ops {
            let tx = Tx::new(&state, &batch.overlay, &shared.ledger, &shared.options.environment, end.ledger);
            let Some(decided) = op.decide(tx) else { continue };
            if let Some(refusal) = &refusal {
                op.refuse(refusal.clone());
                continue;
            }
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
    store(shared, &mut applier.journal, start, &batch)?;
    // A process that found other lock files may have read the journal before this batch stood there.
    shared.judged(shared.watch.locks()).map_err(|error| error.unknown(None))?;
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
