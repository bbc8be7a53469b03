//! Checkpoints: the files are rewritten, only those that changed, and a new journal begins.
//!
//! Order: sync the ledger; stage every changed file and its copy; a manifest that names both the old and the new
//! checksums; the renames; the new journal; a manifest that names the new state alone. From the first manifest on there
//! is no way back: whoever finds it finishes the renames. So the files are always of one moment, and need nothing of a
//! journal whose last batch may not have reached the disk.

use std::collections::BTreeMap;

use storage_core::{Error, ErrorKind, Place, Result};

use crate::engine::{Applier, Shared, unpoisoned};
use crate::files::{Dir, io_error, staged};
use crate::journal::Journal;
use crate::manifest::{FileSum, MANIFEST, Manifest, Next};
use crate::shapes;
use crate::state::{FileId, FileSet, State};

/// What the last manifest of a checkpoint is staged as, while the first one is in use.
pub(crate) const FINAL: &str = "manifest.final.json";
/// Where a second copy of each file stands, for the case that the first one is edited while changes wait in the journal.
pub(crate) const COPIES: &str = ".checkpoint";

/// Makes a checkpoint when the journal has grown enough. A checkpoint that cannot be made is reported and tried again
/// later: the journal holds everything.
pub(crate) fn when_due(shared: &Shared, applier: &mut Applier) {
    let grown = shared.state().position.offset;
    let stored: u64 = applier.manifest.files.values().map(|sum| sum.bytes).sum();
    let due = shared.options.checkpoint_bytes.max(stored / 2);
    if grown < due.max(applier.retry_at) {
        return;
    }
    if let Err(error) = checkpoint(shared, applier, &FileSet::default()) {
        // A disk without room must not cost every batch a try.
        applier.retry_at = grown + due / 4;
        shared.warn(format!("a checkpoint could not be made: {}", error.report()));
    }
}

/// What a checkpoint starts from.
pub(crate) struct Before<'a> {
    pub(crate) dir: &'a Dir,
    pub(crate) manifest: &'a Manifest,
    pub(crate) now: storage_core::Timestamp,
}

/// Writes the changed files and begins a new journal. The caller holds the writer lock and the applier, and has caught up.
pub(crate) fn checkpoint(shared: &Shared, applier: &mut Applier, also: &FileSet) -> Result<()> {
    if let Some(refusal) = shared.read_only() {
        return Err(refusal);
    }
    let mut also = also.clone();
    for file in set_aside_edits(shared, &applier.manifest)? {
        also.add(file);
    }
    let state = shared.state();
    if state.position.offset == 0 && state.dirty.is_empty() && also.is_empty() {
        return Ok(());
    }
    let written = write_live(shared, &applier.manifest, &state, &also);
    drop(state);
    let (journal, manifest) = written?;
    crate::writer::enter_generation(shared, applier, journal, manifest)
}

/// Writes a checkpoint of a store that is in use. A full disk leaves everything as it was, or a checkpoint that the next
/// batch finishes; any other failure ends all writing, because what the disk has is uncertain then.
pub(crate) fn write_live(
    shared: &Shared,
    manifest: &Manifest,
    state: &State,
    also: &FileSet,
) -> Result<(Journal, Manifest)> {
    if let Err(error) = shared.ledger.file.sync_data() {
        let error = io_error(error, "cannot sync", &shared.dir.join(crate::ledger::LEDGER));
        shared.die_at(&error, state.position);
        return Err(error);
    }
    let before = Before { dir: &shared.dir, manifest, now: shared.options.environment.clock.now() };
    write(&before, state, also).map_err(|(error, stage)| {
        if stage == Stage::Named && *error.kind() != ErrorKind::StorageFull {
            shared.die_at(&error, state.position);
        }
        error
    })
}

/// How far a checkpoint came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing in use was touched.
    Prepared,
    /// The manifest that there is no way back from has its name.
    Named,
}

/// The part of a checkpoint that is the same for a running store and for one that is being opened. Its files are synced
/// even where single changes are not: a checkpoint drops the journal.
pub(crate) fn write(
    before: &Before<'_>,
    state: &State,
    also: &FileSet,
) -> Result<(Journal, Manifest), (storage_core::Error, Stage)> {
    let Before { dir, manifest, now } = *before;
    let pending = prepare(dir, manifest, now, state, also).map_err(|error| (error, Stage::Prepared))?;
    let named = dir.publish(MANIFEST).and_then(|()| dir.sync());
    named.and_then(|()| finish(dir, &pending)).map_err(|error| (error, Stage::Named))
}

/// Writes everything that needs room, under names that nobody reads yet.
fn prepare(
    dir: &Dir,
    manifest: &Manifest,
    now: storage_core::Timestamp,
    state: &State,
    also: &FileSet,
) -> Result<Manifest> {
    let copies = Dir::new(dir.join(COPIES));
    copies.create_private()?;
    let mut files = BTreeMap::new();
    for file in FileId::ALL {
        let name = file.name();
        if manifest.files.contains_key(name) && !state.dirty.has(file) && !also.has(file) {
            continue;
        }
        let bytes = shapes::write(file, state)?;
        dir.stage(name, &bytes)?;
        if file.is_original() {
            copies.stage(name, &bytes)?;
        }
        files.insert(name.to_owned(), FileSum::of(&bytes));
    }
    Journal::create(dir, manifest.generation + 1)?;
    let next = Next { seq: state.position.seq, ledger_bytes: state.position.ledger, at: now, files };
    let pending = Manifest { next: Some(next), ..manifest.clone() };
    if let Some(finished) = pending.finished() {
        dir.stage(FINAL, &finished.to_bytes()?)?;
    }
    dir.stage(MANIFEST, &pending.to_bytes()?)?;
    // The staged names are durable before the manifest speaks of them.
    copies.sync()?;
    dir.sync()?;
    Ok(pending)
}

/// Finishes a checkpoint whose manifest is in place, its own or that of a process that died: the renames, the new
/// journal, the manifest of the new state alone. May be interrupted and repeated at every point.
pub(crate) fn finish(dir: &Dir, pending: &Manifest) -> Result<(Journal, Manifest)> {
    let (Some(next), Some(finished)) = (&pending.next, pending.finished()) else {
        return Err(Error::internal("a checkpoint is finished that was not begun"));
    };
    let copies = Dir::new(dir.join(COPIES));
    let sum_of = |dir: &Dir, name: &str| Ok(dir.read(name)?.map(|bytes| FileSum::of(&bytes)));
    for (name, sum) in &next.files {
        let present = sum_of(dir, name)?;
        if present.as_ref() != Some(sum) {
            if sum_of(dir, &staged(name))?.as_ref() == Some(sum) {
                // Neither the old file nor the new one: somebody edited it after the checkpoint began.
                if present.is_some() && present.as_ref() != pending.files.get(name) {
                    set_aside(dir, name)?;
                }
                dir.publish(name)?;
            } else if present.is_none() {
                return Err(Error::corrupt(Place::new(name.clone()), "a file that the manifest lists is missing"));
            }
        }
        if is_copied(name) && sum_of(&copies, &staged(name))?.as_ref() == Some(sum) {
            copies.publish(name)?;
        }
    }
    copies.sync()?;
    let journal = match Journal::open(dir, finished.generation)? {
        Some(journal) => journal,
        None => Journal::create(dir, finished.generation)?,
    };
    dir.sync()?;
    let bytes = finished.to_bytes()?;
    if dir.read(&staged(FINAL))?.as_ref() != Some(&bytes) {
        dir.stage(FINAL, &bytes)?;
    }
    dir.rename(&staged(FINAL), MANIFEST)?;
    dir.sync()?;
    Ok((journal, finished))
}

fn is_copied(name: &str) -> bool {
    FileId::ALL.iter().any(|file| file.name() == name && file.is_original())
}

/// Moves files that were edited while the store was open out of the way, so that the rename does not destroy them.
fn set_aside_edits(shared: &Shared, manifest: &Manifest) -> Result<Vec<FileId>> {
    let mut edited = Vec::new();
    for file in FileId::ALL.into_iter().filter(|file| file.is_original()) {
        let Some(sum) = manifest.files.get(file.name()) else { continue };
        if unchanged(shared, file, sum)? {
            continue;
        }
        edited.push(file);
        if let Some(aside) = set_aside(&shared.dir, file.name())? {
            shared.warn(format!(
                "{} was changed by hand while the store was open; the edit was set aside as {aside}",
                file.name()
            ));
        }
    }
    Ok(edited)
}

fn unchanged(shared: &Shared, file: FileId, sum: &FileSum) -> Result<bool> {
    let Some((modified, length)) = shared.dir.stat(file.name())? else { return Ok(false) };
    let seen = (modified, length);
    if length == sum.bytes && unpoisoned(shared.seen.lock()).get(&file) == Some(&(seen, sum.clone())) {
        return Ok(true);
    }
    let same = shared.dir.read(file.name())?.is_some_and(|bytes| FileSum::of(&bytes) == *sum);
    if same {
        unpoisoned(shared.seen.lock()).insert(file, (seen, sum.clone()));
    }
    Ok(same)
}

/// Keeps what was edited under another name, and answers that name. The file itself stays until it is replaced, so that
/// no crash finds it missing; a repeated recovery finds what it kept before.
pub(crate) fn set_aside(dir: &Dir, name: &str) -> Result<Option<String>> {
    let Some(bytes) = dir.read(name)? else { return Ok(None) };
    let taken = dir.names()?;
    // One more than there are names: one of them is free.
    for n in 0..=taken.len() {
        let aside = format!("{name}.edited-{}", n + 1);
        if !taken.contains(&aside) {
            dir.stage(&aside, &bytes)?;
            dir.publish(&aside)?;
            dir.sync()?;
            return Ok(Some(aside));
        }
        if dir.read(&aside)?.as_ref() == Some(&bytes) {
            return Ok(Some(aside));
        }
    }
    Ok(None)
}
