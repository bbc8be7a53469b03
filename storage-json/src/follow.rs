//! How a handle learns what other processes wrote: from the files when it comes or is too far behind, from the journal
//! otherwise, and under the writer lock to the very end.
//!
//! Nobody is stopped by a handle that reads files. It opens all that belong to one manifest, makes sure that the manifest is still
//! that one, and reads them at leisure: a checkpoint that replaces them meanwhile takes their names and not their bytes.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use storage_core::{Error, ErrorKind, Place, Result};

use crate::ahead::{Ahead, Begun};
use crate::checkpoint::Written;
use crate::disk::{Dir, io_error, write_all_at};
use crate::engine::{Applier, Dead, Shared, unpoisoned};
use crate::index::{KeyIndex, Segment};
use crate::journal::{Head, Journal, Mark, Record};
use crate::ledger::Ledger;
use crate::locks::{LockFile, Pause, Try, WRITER};
use crate::manifest::{MANIFEST, Manifest};
use crate::open::{Edits, index_ledger, lost_journal, read_complete, read_files};
use crate::options::{Access, JsonOptions};
use crate::shapes;
use crate::state::{Position, State};

/// How often files are read again without a lock before the writers are stopped for it: whoever loses a race against two
/// checkpoints each time reads slower than the store is written.
const TRIES: usize = 4;

/// How many records of another process are taken over under one hold of the state's lock.
const PIECE: usize = 256;

/// What belongs to one manifest, held open.
struct Parts {
    manifest: Manifest,
    files: HashMap<String, File>,
    journals: Vec<Journal>,
    index: Vec<Option<File>>,
}

/// What reading the files answers.
pub(crate) struct Read {
    pub(crate) state: State,
    pub(crate) journal: Journal,
    pub(crate) manifest: Manifest,
    /// What was begun while they were read.
    pub(crate) ahead: Option<Ahead>,
}

/// Opens what belongs to the present manifest; `None` while a checkpoint puts files in place.
fn gather(dir: &Dir) -> Result<Option<Parts>> {
    let missing = || Error::corrupt(Place::new(MANIFEST), "the manifest went missing while the store is open");
    let manifest = Manifest::read(dir)?.ok_or_else(missing)?;
    if manifest.next.is_some() {
        return Ok(None);
    }
    let opened = open_parts(dir, &manifest);
    // What was missing or another's may have been replaced meanwhile.
    match Manifest::read(dir)? {
        Some(present) if present == manifest => {
            opened.map(|(files, journals, index)| Some(Parts { manifest, files, journals, index }))
        }
        _ => Ok(None),
    }
}

type Opened = (HashMap<String, File>, Vec<Journal>, Vec<Option<File>>);

fn open_parts(dir: &Dir, manifest: &Manifest) -> Result<Opened> {
    let mut files = HashMap::new();
    for name in manifest.files.keys() {
        if let Some(file) = dir.open_to_read(name)? {
            files.insert(name.clone(), file);
        }
    }
    let generations = manifest.generation..=manifest.current().generation;
    let journals = generations
        .map(|generation| Journal::open(dir, generation)?.ok_or_else(|| lost_journal(generation)))
        .collect::<Result<_>>()?;
    let index = manifest.index().iter().map(|file| dir.open_to_read(&file.name)).collect::<Result<_>>()?;
    Ok((files, journals, index))
}

/// Reads the state of the last checkpoint; the journal is followed afterwards. Takes no lock, but where a process died while it
/// put files in place.
pub(crate) fn join(
    dir: &Dir,
    options: &JsonOptions,
    head: &Head,
    ledger: &Ledger,
    writer: &mut LockFile,
) -> Result<Read> {
    let mut pause = Pause::within(options.lock_wait);
    loop {
        if let Some(parts) = gather(dir)? {
            let ahead = Ahead::of(dir, parts.manifest.current().generation)?;
            if let Some(read) = read(dir, options, ledger, parts)? {
                return Ok(Read { ahead, ..read });
            }
        } else if head.read()?.is_some_and(|mark| mark.dead) {
            // What a process could not make durable is finished by whoever has the store alone.
            return Err(Error::new(ErrorKind::ReadOnly).message(format!(
                "a sync failed in a process that has {} open; close every such process and open it again",
                dir.path().display()
            )));
        } else if writer.try_exclusive()? == Try::Got {
            let finished = finish_left(dir, head);
            writer.release();
            finished?;
            continue;
        }
        if !pause.wait() {
            return Err(writer.locked());
        }
    }
}

/// Finishes a checkpoint whose process died. The caller holds the writer lock.
fn finish_left(dir: &Dir, head: &Head) -> Result<()> {
    let Some(manifest) = Manifest::read(dir)?.filter(|manifest| manifest.next.is_some()) else { return Ok(()) };
    let finished = crate::checkpoint::finish(dir, &manifest).map(|_| ());
    finished.inspect_err(|error| {
        // A failed sync: those who have the store open are not to build on what it left.
        if !crate::checkpoint::may_be_repeated(error) {
            let position = manifest.current().position();
            let mark = head.read().ok().flatten().unwrap_or(Mark { position, dead: true, durable: false });
            let _ = head.write(Mark { dead: true, ..mark });
        }
    })
}

/// Reads what was opened; `None` when a file's copy was needed and a checkpoint has gone by since.
fn read(dir: &Dir, options: &JsonOptions, ledger: &Ledger, parts: Parts) -> Result<Option<Read>> {
    let Parts { manifest, mut files, journals, index } = parts;
    manifest.check_policy(&options.environment.policy)?;
    let loaded = read_files(dir, &manifest, Edits::Ignored, |name| {
        files.get_mut(name).map(|file| dir.read_whole(file, name)).transpose()
    });
    let loaded = match loaded {
        Ok(loaded) if loaded.edited.is_empty() => loaded,
        // Their copies were looked up by name.
        other if Manifest::read(dir)?.as_ref() == Some(&manifest) => other?,
        _ => return Ok(None),
    };
    let mut state = shapes::load(&loaded, options.environment.clock.now())?;
    drop(loaded);
    // Whoever opened the store first looked at every byte of the ledger.
    let mut segments = Some(Vec::new());
    for (file, listed) in index.into_iter().zip(manifest.index()) {
        let bytes = file.map(|mut file| dir.read_whole(&mut file, &listed.name)).transpose()?;
        match (bytes.and_then(|bytes| Segment::parse(&bytes, listed)), &mut segments) {
            (Some(segment), Some(segments)) => segments.push(segment),
            _ => segments = None,
        }
    }
    match segments.filter(|_| manifest.ledger.is_some()) {
        Some(segments) => state.keys = KeyIndex::of(segments),
        None => index_ledger(ledger, &manifest, &mut state, &mut |_, _| {})?,
    }
    let mut journals = journals;
    let journal = journals.pop().ok_or_else(|| Error::internal("a manifest names no journal"))?;
    let (complete, start) = read_complete(journals.iter(), &manifest, None)?;
    for tail in complete {
        apply_records(&mut state, tail.records);
    }
    state.position = start;
    Ok(Some(Read { state, journal, manifest, ahead: None }))
}

/// Reads the files again, for a handle that is too far behind. The caller holds neither the writer lock nor the applier.
fn rejoin(shared: &Shared) -> Result<()> {
    let mut times = unpoisoned(shared.rejoining.lock());
    // Who waited here may find it done.
    if follow_journal(shared, &mut shared.applier())? {
        return Ok(());
    }
    *times += 1;
    let mut writer = shared.open_lock(WRITER)?;
    let read = join(&shared.dir, &shared.options, &shared.head, &shared.ledger, &mut writer)?;
    install(shared, &mut shared.applier(), read);
    Ok(())
}

/// Puts what was read from the files in place, unless this handle knows more by now.
fn install(shared: &Shared, applier: &mut Applier, Read { state, journal, manifest, ahead }: Read) {
    if !shared.state().position.covers(&state.position) {
        shared.replace_state(state);
        *applier = Applier { ahead, ..Applier::new(journal, manifest) };
    }
}

/// Catches up with what other processes made durable, without a lock.
pub(crate) fn follow(shared: &Arc<Shared>) -> Result<()> {
    for _ in 0..TRIES {
        if follow_journal(shared, &mut shared.applier())? {
            return Ok(());
        }
        rejoin(shared)?;
    }
    // The writers are faster than this handle reads. The applier is not held while waiting for the lock, because the writer
    // thread takes them the other way round.
    let mut lock = shared.open_lock(WRITER)?;
    lock.exclusive_within(shared.options.deadline)?;
    catch_up(shared, &mut shared.applier())
}

/// Before the writer lock is taken: what takes long is read while others may still write.
pub(crate) fn approach(shared: &Shared) -> Result<()> {
    let Some(mark) = shared.head.read()? else { return Ok(()) };
    if mark.position.generation > shared.state().position.generation + 1 {
        rejoin(shared)?;
    }
    Ok(())
}

/// Follows the journal up to the head; `false` when the journal that this handle reads is gone.
pub(crate) fn follow_journal(shared: &Shared, applier: &mut Applier) -> Result<bool> {
    walk(shared, applier)?;
    let follows = follow_to_head(shared, applier)?;
    // At the head, or too far behind for what is held open.
    applier.ahead = None;
    Ok(follows)
}

/// Goes through the journals that were held open while the files were read, one generation after the other.
fn walk(shared: &Shared, applier: &mut Applier) -> Result<()> {
    while let Some(Begun { journal, manifest }) = applier.ahead.as_ref().and_then(Ahead::take) {
        // Another one began, so that this one has its end, all of it durable.
        apply_from(shared, &applier.journal, None)?;
        if !begins_here(shared, &manifest) {
            break;
        }
        begin_generation(shared, applier, journal, manifest);
    }
    Ok(())
}

/// Whether the journal with which a manifest begins goes on where this handle is. A gap in the numbers is a restore: what it brought
/// stands in no journal.
fn begins_here(shared: &Shared, manifest: &Manifest) -> bool {
    let (start, position) = (manifest.current(), shared.state().position);
    (start.generation, start.seq, start.ledger_bytes) == (position.generation + 1, position.seq, position.ledger)
}

fn follow_to_head(shared: &Shared, applier: &mut Applier) -> Result<bool> {
    let Some(mark) = shared.head.read()? else { return Ok(false) };
    if mark.dead {
        let _ = shared.dead.set(Dead("another process reported it".to_owned()));
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
    let generation = manifest.current().generation;
    if generation != mark.position.generation || !begins_here(shared, &manifest) {
        return Ok(false);
    }
    let Some(journal) = Journal::open(&shared.dir, generation)? else { return Ok(false) };
    begin_generation(shared, applier, journal, manifest);
    apply_from(shared, &applier.journal, Some(mark.position.offset))?;
    Ok(true)
}

/// Moves on to the journal that a checkpoint began.
pub(crate) fn begin_generation(shared: &Shared, applier: &mut Applier, journal: Journal, manifest: Manifest) {
    let mut state = unpoisoned(shared.state.write());
    state.position = Position { generation: manifest.current().generation, offset: 0, ..state.position };
    state.dirty.forget_before(manifest.generation);
    *applier = Applier { ahead: applier.ahead.take(), ..Applier::new(journal, manifest) };
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
        let _ = shared.dead.set(Dead("another process reported it".to_owned()));
        return shared.read_only().map_or(Ok(()), Err);
    }
    let found = match Manifest::read(&shared.dir) {
        // Generations only grow: what is from before was put there by somebody.
        Ok(Some(manifest)) if manifest.age() < applier.manifest.age() => {
            Err(Error::corrupt(Place::new(MANIFEST), "an older manifest was put in place of the store's"))
        }
        Ok(Some(manifest)) => Ok(manifest),
        Ok(None) => Err(Error::corrupt(Place::new(MANIFEST), "the manifest went missing while the store is open")),
        Err(error) => Err(error),
    };
    let mut manifest = match found {
        Ok(manifest) => manifest,
        Err(error) => crate::mend::manifest(shared, applier, error)?,
    };
    let mut stamp = shared.dir.stamp(MANIFEST)?;
    if manifest.next.is_some() {
        let finished = crate::checkpoint::finish(&shared.dir, &manifest);
        manifest = finished
            .inspect_err(|error| {
                if !crate::checkpoint::may_be_repeated(error) {
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
        reload(shared, applier)?;
    }
    unpoisoned(shared.state.write()).dirty.forget_before(manifest.generation);
    applier.manifest = manifest;
    applier.manifest_stamp = Some(stamp);
    Ok(())
}

/// Reads everything again while nobody writes. The caller holds the writer lock and the applier.
fn reload(shared: &Shared, applier: &mut Applier) -> Result<()> {
    // A checkpoint that a dead process left was finished before.
    let Some(parts) = gather(&shared.dir)? else {
        return Err(Error::internal("a checkpoint goes on while the writer lock is held"));
    };
    let read = read(&shared.dir, &shared.options, &shared.ledger, parts)?;
    let Read { state, journal, manifest, .. } =
        read.ok_or_else(|| Error::internal("a checkpoint went by while the writer lock was held"))?;
    shared.replace_state(state);
    *applier = Applier::new(journal, manifest);
    // Without a head mark the journal alone says what there is, and the caller reads it to its end.
    follow_journal(shared, applier).map(|_| ())
}

fn apply_from(shared: &Shared, journal: &Journal, upto: Option<u64>) -> Result<()> {
    let from = shared.state().position;
    let tail = journal.read(from, upto, upto.unwrap_or(0))?;
    // Each record leaves a state that was promised once, so readers may come between. Whoever looked away for long has very
    // many to take over.
    let mut records = tail.records.into_iter().peekable();
    while records.peek().is_some() {
        let mut state = unpoisoned(shared.state.write());
        apply_records(&mut state, records.by_ref().take(PIECE));
    }
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
    let changed = shared.prove_place()?;
    look_at_manifest(shared, applier)?;
    // Who is alone follows nobody, and may still have left a batch unannounced itself.
    if shared.options.access == Access::Shared && !follow_journal(shared, applier)? {
        reload(shared, applier)?;
    }
    let is_end = crate::mend::files(shared, applier, changed)?;
    if shared.dead.get().is_some() || is_end {
        return Ok(());
    }
    let position = shared.state().position;
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
