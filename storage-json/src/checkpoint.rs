//! Checkpoints: the files are rewritten, only those that changed, and a new journal begins.
//!
//! Order: sync the ledger; stage every changed file and its copy; a manifest that names both the old and the new
//! checksums; the renames; the new journal; a manifest that names the new state alone. From the first manifest on there
//! is no way back: whoever finds it finishes the renames. So the files are always of one moment, and need nothing of a
//! journal whose last batch may not have reached the disk.

use std::collections::BTreeMap;

use storage_core::Result;

use crate::engine::{Applier, Shared, unpoisoned};
use crate::files::{Dir, io_error, staged};
use crate::journal::{self, Journal, Mark};
use crate::manifest::{FileSum, MANIFEST, Manifest, Next};
use crate::options::Access;
use crate::shapes;
use crate::state::{FileId, FileSet, Position, State};

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
    pub(crate) durable: bool,
    pub(crate) now: storage_core::Timestamp,
}

/// Writes the changed files and begins a new journal. The caller holds the writer lock and the applier.
pub(crate) fn checkpoint(shared: &Shared, applier: &mut Applier, also: &FileSet) -> Result<()> {
    if let Some(refusal) = shared.read_only() {
        return Err(refusal);
    }
    // A process that died in the middle of a checkpoint left a manifest that names two states of each file.
    if let Some(manifest) = Manifest::read(&shared.dir)?.filter(|found| found.generation == applier.manifest.generation)
    {
        applier.manifest = manifest;
    }
    let mut also = also.clone();
    renew_pending(&shared.dir, &applier.manifest, shared.durable(), &mut also)?;
    for file in set_aside_edits(shared, &applier.manifest)? {
        also.add(file);
    }
    let state = shared.state();
    if state.position.offset == 0 && state.dirty.is_empty() && also.is_empty() {
        return Ok(());
    }
    if shared.durable()
        && let Err(error) = shared.ledger.file.sync_data()
    {
        let error = io_error(error, "cannot sync", &shared.dir.join(crate::ledger::LEDGER));
        drop(state);
        shared.die(&error);
        return Err(error);
    }
    let before = Before {
        dir: &shared.dir,
        manifest: &applier.manifest,
        durable: shared.durable(),
        now: shared.options.environment.clock.now(),
    };
    let written = write(&before, &state, &also);
    let position = state.position;
    drop(state);
    let (journal, manifest) = match written {
        Ok(written) => written,
        Err((error, Stage::Prepared)) => return Err(error),
        Err((error, Stage::Named)) => {
            // Which manifest the disk has is uncertain now; a fresh start settles it.
            shared.die(&error);
            return Err(error);
        }
    };
    let old = applier.manifest.generation;
    let generation = manifest.generation;
    crate::writer::begin_generation(shared, applier, journal, manifest);
    if shared.options.access == Access::Shared {
        let position = Position { generation, offset: 0, ..position };
        if let Err(error) = shared.head.write(Mark { position, dead: false }) {
            shared.die(&error);
            return Err(error);
        }
    }
    // Nothing is in it that the files do not hold. When this fails, the next opening removes it.
    let _ = shared.dir.remove(&journal::name(old));
    Ok(())
}

/// How far a checkpoint came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing in use was touched.
    Prepared,
    /// A manifest was renamed.
    Named,
}

/// The part of a checkpoint that is the same for a running store and for one that is being opened.
pub(crate) fn write(
    before: &Before<'_>,
    state: &State,
    also: &FileSet,
) -> Result<(Journal, Manifest), (storage_core::Error, Stage)> {
    let Before { dir, manifest, durable, now } = *before;
    let copies = Dir::new(dir.join(COPIES));
    let sync = |dir: &Dir| if durable { dir.sync() } else { Ok(()) };
    let mut sums = BTreeMap::new();
    let prepare = |sums: &mut BTreeMap<String, FileSum>| -> Result<()> {
        copies.create()?;
        for file in FileId::ALL {
            let name = file.name();
            if manifest.files.contains_key(name) && !state.dirty.has(file) && !also.has(file) {
                continue;
            }
            let bytes = shapes::write(file, state)?;
            dir.stage(name, &bytes, durable)?;
            if file.is_original() {
                copies.stage(name, &bytes, durable)?;
            }
            sums.insert(name.to_owned(), FileSum::of(&bytes));
        }
        // The staged names are durable before the manifest speaks of them.
        sync(&copies)?;
        sync(dir)?;
        let next = Next { seq: state.position.seq, ledger_bytes: state.position.ledger, files: sums.clone() };
        Manifest { next: Some(next), ..manifest.clone() }.replace(dir, durable)
    };
    prepare(&mut sums).map_err(|error| (error, Stage::Prepared))?;
    let finish = || -> Result<(Journal, Manifest)> {
        dir.publish(MANIFEST)?;
        sync(dir)?;
        for name in sums.keys() {
            dir.publish(name)?;
            if is_copied(name) {
                copies.publish(name)?;
            }
        }
        sync(&copies)?;
        let generation = manifest.generation + 1;
        let journal = Journal::create(dir, generation, durable)?;
        sync(dir)?;
        let mut files = manifest.files.clone();
        files.extend(sums.clone());
        let done = Manifest {
            generation,
            seq: state.position.seq,
            ledger_bytes: state.position.ledger,
            checkpoint_at: now,
            files,
            next: None,
            ..manifest.clone()
        };
        done.replace(dir, durable)?;
        dir.publish(MANIFEST)?;
        sync(dir)?;
        Ok((journal, done))
    };
    finish().map_err(|error| (error, Stage::Named))
}

fn is_copied(name: &str) -> bool {
    FileId::ALL.iter().any(|file| file.name() == name && file.is_original())
}

/// Finishes the renames of a checkpoint whose process died, so that its staged files are needed no more, and notes them
/// for the next one.
pub(crate) fn renew_pending(dir: &Dir, manifest: &Manifest, durable: bool, also: &mut FileSet) -> Result<()> {
    let Some(next) = &manifest.next else { return Ok(()) };
    let copies = Dir::new(dir.join(COPIES));
    for (name, sum) in &next.files {
        let is_next =
            |dir: &Dir, name: &str| dir.read(name).map(|bytes| bytes.is_some_and(|bytes| FileSum::of(&bytes) == *sum));
        let homes = [Some(dir), Some(&copies).filter(|_| is_copied(name))];
        for home in homes.into_iter().flatten() {
            if !is_next(home, name)? && is_next(home, &staged(name))? {
                home.publish(name)?;
            }
        }
    }
    if durable {
        copies.sync()?;
        dir.sync()?;
    }
    FileId::ALL.into_iter().filter(|file| next.files.contains_key(file.name())).for_each(|file| also.add(file));
    Ok(())
}

/// Moves files that were edited while the store was open out of the way, so that the rename does not destroy them.
fn set_aside_edits(shared: &Shared, manifest: &Manifest) -> Result<Vec<FileId>> {
    let mut edited = Vec::new();
    for file in FileId::ALL.into_iter().filter(|file| file.is_original()) {
        let Some(sum) = manifest.sum(file.name()) else { continue };
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
            dir.stage(&aside, &bytes, true)?;
            dir.publish(&aside)?;
            return Ok(Some(aside));
        }
        if dir.read(&aside)?.as_ref() == Some(&bytes) {
            return Ok(Some(aside));
        }
    }
    Ok(None)
}
