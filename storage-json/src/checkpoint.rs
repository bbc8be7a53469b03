//! Checkpoints: the files are rewritten, only those that changed, and a new journal begins.
//!
//! Order: sync the ledger; stage every changed file and its copy; a manifest that names both the old and the new
//! checksums; the renames; the new journal; a manifest that names the new state alone. From the first manifest on there
//! is no way back: whoever finds it finishes the renames. So the files are always of one moment, and need nothing of a
//! journal whose last batch may not have reached the disk.
//!
//! Here is what a checkpoint of a store that stands still does: at opening, at closing, after a restore. One of a store
//! that goes on writing is made of the same parts in [`crate::background`].

use std::sync::Arc;

use storage_core::{Error, ErrorKind, Place, Result, Timestamp};

use crate::before::Records;
use crate::disk::{Dir, Staged, io_error, lacks_descriptors, staged};
use crate::engine::{Applier, Shared, unpoisoned};
use crate::index::{self, Frozen, Segment};
use crate::journal::Journal;
use crate::ledger::Ledger;
use crate::manifest::{FileSum, LedgerSum, MANIFEST, Manifest, Next, Start};
use crate::shapes;
use crate::state::{FileId, FileSet, State};

/// What the last manifest of a checkpoint is staged as, while the first one is in use.
pub(crate) const FINAL: &str = "manifest.final.json";
/// Where a second copy of each file stands, for the case that the first one is edited while changes wait in the journal.
pub(crate) const COPIES: &str = ".checkpoint";

/// What a checkpoint starts from.
pub(crate) struct Base<'a> {
    pub(crate) dir: &'a Dir,
    pub(crate) ledger: &'a Ledger,
    pub(crate) manifest: &'a Manifest,
    pub(crate) now: Timestamp,
}

/// What a checkpoint left.
pub(crate) struct Written {
    pub(crate) journal: Journal,
    pub(crate) manifest: Manifest,
    pub(crate) segments: Vec<Arc<Segment>>,
}

/// What a checkpoint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What changed since the last one; nothing, where nothing did.
    Changed,
    /// A new journal in any case.
    Whole,
}

/// Writes the changed files and begins a new journal. The caller holds the writer lock and the applier, has caught up,
/// and lets nobody else stage files.
pub(crate) fn checkpoint(shared: &Shared, applier: &mut Applier, extent: Extent) -> Result<()> {
    if let Some(refusal) = shared.read_only() {
        return Err(refusal);
    }
    let also = set_aside_edits(shared, &applier.manifest)?;
    let frozen = {
        let mut state = unpoisoned(shared.state.write());
        if extent == Extent::Changed
            && state.position.offset == 0
            && applier.manifest.writing.is_none()
            && state.dirty.before(None).is_empty()
            && also.is_empty()
        {
            return Ok(());
        }
        // A checkpoint of the background that came this far comes to nothing now.
        state.moments.checkpoint = None;
        state.keys.freeze()
    };
    let written = write_live(shared, &applier.manifest, &shared.state(), &frozen, &also);
    match written {
        Ok(written) => crate::follow::enter_generation(shared, applier, written),
        Err(error) => {
            unpoisoned(shared.state.write()).keys.thaw();
            Err(error)
        }
    }
}

/// Writes a checkpoint of a store that is in use. A full disk leaves everything as it was, or a checkpoint that the next
/// batch finishes; any other failure ends all writing, because what the disk has is uncertain then.
pub(crate) fn write_live(
    shared: &Shared,
    manifest: &Manifest,
    state: &State,
    frozen: &Frozen,
    also: &FileSet,
) -> Result<Written> {
    sync_ledger(shared).inspect_err(|error| shared.die_at(error, state.position))?;
    let now = shared.options.environment.clock.now();
    let base = Base { dir: &shared.dir, ledger: &shared.ledger, manifest, now };
    write(&base, state, frozen, also).map_err(|(error, stage)| {
        if stage == Stage::Named && !may_be_repeated(&error) {
            shared.die_at(&error, state.position);
        }
        error
    })
}

/// A checkpoint drops journals that hold the ledger's lines too.
pub(crate) fn sync_ledger(shared: &Shared) -> Result<()> {
    let synced = shared.ledger.file.sync_data();
    synced.map_err(|error| io_error(error, "cannot sync", &shared.dir.join(crate::ledger::LEDGER)))
}

/// Whether a step that failed may simply be done again: without room or file descriptors nothing was done. Anything else leaves
/// uncertain what the disk has.
pub(crate) fn may_be_repeated(error: &Error) -> bool {
    *error.kind() == ErrorKind::StorageFull || lacks_descriptors(error)
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
    base: &Base<'_>,
    state: &State,
    frozen: &Frozen,
    also: &FileSet,
) -> Result<Written, (Error, Stage)> {
    let mut files = state.dirty.before(None);
    files.join(also);
    let generation = base.manifest.current().generation + 1;
    let start = Start { generation, ..Start::of(state.position) };
    let prepared = Journal::create(base.dir, generation, 0).and_then(|_| prepare(base, start, &files, state, frozen));
    let (pending, segments) = prepared.map_err(|error| (error, Stage::Prepared))?;
    let named = base.dir.publish(MANIFEST).and_then(|()| base.dir.sync());
    let finished = named.and_then(|()| finish(base.dir, &pending)).map_err(|error| (error, Stage::Named))?;
    let (journal, manifest) = finished;
    drop_old(base.dir, base.manifest, &manifest);
    Ok(Written { journal, manifest, segments })
}

/// Writes everything that needs room, under names that nobody reads yet.
pub(crate) fn prepare(
    base: &Base<'_>,
    start: Start,
    files: &FileSet,
    records: &impl Records,
    frozen: &Frozen,
) -> Result<(Manifest, Vec<Arc<Segment>>)> {
    let Base { dir, ledger, manifest, now } = *base;
    let copies = dir.create_sub(COPIES)?;
    let mut files = files.clone();
    for file in FileId::ALL.into_iter().filter(|file| !manifest.files.contains_key(file.name())) {
        files.add(file);
    }
    let sums = shapes::write(&files, records, |file| {
        let dirs = std::iter::once(dir).chain(file.is_original().then_some(&copies));
        Staged::begin(file.name(), dirs)
    })?;
    let segments = frozen.write(dir, start.generation, manifest.index())?;
    let crc32 = sum_ledger(ledger, manifest, start.ledger_bytes)?;
    let ledger = LedgerSum { crc32, index: index::files(&segments) };
    let next = Next { start, at: now, files: sums, ledger };
    let pending = Manifest { next: Some(next), ..manifest.clone() };
    if let Some(finished) = pending.finished() {
        dir.stage(FINAL, &finished.to_bytes()?)?;
    }
    dir.stage(MANIFEST, &pending.to_bytes()?)?;
    // The staged names are durable before the manifest speaks of them.
    copies.sync()?;
    dir.sync()?;
    Ok((pending, segments))
}

/// The checksum of the ledger's first bytes: that of the last checkpoint, continued. What is new must be whole: the journal that
/// has it as well goes with the checkpoint.
fn sum_ledger(ledger: &Ledger, manifest: &Manifest, upto: u64) -> Result<String> {
    let known = manifest.ledger.as_ref().and_then(|ledger| u32::from_str_radix(&ledger.crc32, 16).ok());
    let (from, known) = known.map_or((0, 0), |crc| (manifest.ledger_bytes, crc));
    Ok(format!("{:08x}", ledger.checksum_of_lines(from, upto, known)?))
}

/// Removes what a finished checkpoint left behind it. When this fails, the next opening does it.
pub(crate) fn drop_old(dir: &Dir, old: &Manifest, new: &Manifest) {
    for generation in old.generation..new.generation {
        let _ = dir.remove(&crate::journal::name(generation));
    }
    for file in old.index().iter().filter(|file| !new.index().contains(file)) {
        let _ = dir.remove(&file.name);
    }
}

/// Finishes a checkpoint whose manifest is in place, its own or that of a process that died: the renames, the new
/// journal, the manifest of the new state alone. May be interrupted and repeated at every point.
pub(crate) fn finish(dir: &Dir, pending: &Manifest) -> Result<(Journal, Manifest)> {
    let copies = dir.create_sub(COPIES)?;
    let sum_of = |dir: &Dir, name: &str| Ok(dir.read(name)?.map(|bytes| FileSum::of(&bytes)));
    // Whoever put the manifest there may have died before its name was durable.
    dir.sync()?;
    finish_by(dir, pending, |name, sum| {
        let present = sum_of(dir, name)?;
        if present.as_ref() != Some(sum) {
            if sum_of(dir, &staged(name))?.as_ref() == Some(sum) {
                // Neither the old file nor the new one: somebody edited it after the checkpoint began.
                if present.is_some() && present.as_ref() != pending.files.get(name) {
                    set_aside(dir, name)?;
                }
                dir.publish(name)?;
            } else if present.is_none() {
                return Err(Error::corrupt(Place::new(name.to_owned()), "a file that the manifest lists is missing"));
            }
        }
        if is_copied(name) && sum_of(&copies, &staged(name))?.as_ref() == Some(sum) {
            copies.publish(name)?;
        }
        Ok(())
    })
}

/// [`finish`] for whoever staged the files a moment ago and need not read them again.
pub(crate) fn finish_own(shared: &Shared, pending: &Manifest) -> Result<(Journal, Manifest)> {
    let dir = &shared.dir;
    let copies = dir.create_sub(COPIES)?;
    finish_by(dir, pending, |name, sum| {
        let Some(file) = FileId::ALL.into_iter().find(|file| file.name() == name) else {
            return Err(Error::internal("a checkpoint names a file that is none of ours"));
        };
        let was_edited = match pending.files.get(name) {
            Some(old) => file.is_original() && !unchanged(shared, file, old)?,
            None => dir.stat(name)?.is_some(),
        };
        if was_edited && let Some(aside) = set_aside(dir, name)? {
            warn_of_edit(shared, name, &aside);
        }
        dir.publish(name)?;
        if is_copied(name) {
            copies.publish(name)?;
        }
        if let Some(seen) = dir.stat(name)? {
            unpoisoned(shared.seen.lock()).insert(file, (seen, sum.clone()));
        }
        Ok(())
    })
}

fn finish_by(
    dir: &Dir,
    pending: &Manifest,
    mut put: impl FnMut(&str, &FileSum) -> Result<()>,
) -> Result<(Journal, Manifest)> {
    let (Some(next), Some(finished)) = (&pending.next, pending.finished()) else {
        return Err(Error::internal("a checkpoint is finished that was not begun"));
    };
    for (name, sum) in &next.files {
        put(name, sum)?;
    }
    dir.create_sub(COPIES)?.sync()?;
    let journal = match Journal::open(dir, finished.generation)? {
        Some(journal) => journal,
        // Changes may have gone on in it.
        None if pending.writing == Some(next.start) => return Err(crate::open::lost_journal(finished.generation)),
        None => Journal::create(dir, finished.generation, 0)?,
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
/// Answers which ones: they are to be written again.
pub(crate) fn set_aside_edits(shared: &Shared, manifest: &Manifest) -> Result<FileSet> {
    let mut edited = FileSet::default();
    for file in FileId::ALL {
        let Some(sum) = manifest.files.get(file.name()) else { continue };
        // A checkpoint writes the store's own files anew at nearly every time: it is enough that they are there, as long as they were.
        let same = if file.is_original() {
            unchanged(shared, file, sum)?
        } else {
            shared.dir.stat(file.name())?.is_some_and(|(_, length)| length == sum.bytes)
        };
        if same {
            continue;
        }
        edited.add(file);
        if let Some(aside) = set_aside(&shared.dir, file.name())? {
            warn_of_edit(shared, file.name(), &aside);
        }
    }
    Ok(edited)
}

fn warn_of_edit(shared: &Shared, name: &str, aside: &str) {
    shared.warn(format!("{name} was changed by hand while the store was open; the edit was set aside as {aside}"));
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

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn only_what_failed_before_it_began_is_repeated() {
        let repeated = |code: Errno| may_be_repeated(&io_error(code.into(), "cannot open", "file".as_ref()));
        assert!(repeated(Errno::MFILE) && repeated(Errno::NFILE) && repeated(Errno::NOSPC));
        assert!(!repeated(Errno::IO) && !repeated(Errno::NOMEM) && !repeated(Errno::ACCESS));
    }
}
