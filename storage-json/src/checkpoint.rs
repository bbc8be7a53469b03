//! Checkpoints: the files are rewritten, only those that changed, and a new journal begins.
//!
//! Order: sync the ledger; stage every changed file and its copy; a manifest that names both the old and the new
//! checksums; the renames; the new journal; a manifest that names the new state alone. A crash between any two of
//! these leaves files that the manifest in place knows, and the journal that makes them complete.

use std::collections::BTreeMap;

use storage_core::Result;

use crate::engine::{Applier, Shared, unpoisoned};
use crate::files::{Dir, io_error};
use crate::journal::{self, Journal, Mark};
use crate::manifest::{FileSum, MANIFEST, Manifest};
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
    if grown < shared.options.checkpoint_bytes.max(stored / 2) {
        return;
    }
    if let Err(error) = checkpoint(shared, applier, &FileSet::default()) {
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
    for file in FileId::ALL.into_iter().filter(|file| applier.manifest.next.contains_key(file.name())) {
        also.add(file);
    }
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
        let pending = Manifest { next: sums.clone(), ..manifest.clone() };
        pending.replace(dir, durable)
    };
    prepare(&mut sums).map_err(|error| (error, Stage::Prepared))?;
    let finish = || -> Result<(Journal, Manifest)> {
        let sync = |dir: &Dir| if durable { dir.sync() } else { Ok(()) };
        dir.publish(MANIFEST)?;
        sync(dir)?;
        for name in sums.keys() {
            dir.publish(name)?;
            if FileId::ALL.iter().any(|file| file.name() == name && file.is_original()) {
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
            next: BTreeMap::new(),
            ..manifest.clone()
        };
        done.replace(dir, durable)?;
        dir.publish(MANIFEST)?;
        sync(dir)?;
        Ok((journal, done))
    };
    finish().map_err(|error| (error, Stage::Named))
}

/// Moves files that were edited while the store was open out of the way, so that the rename does not destroy them.
fn set_aside_edits(shared: &Shared, manifest: &Manifest) -> Result<Vec<FileId>> {
    let mut edited = Vec::new();
    for file in FileId::ALL.into_iter().filter(|file| file.is_original()) {
        let sums = [manifest.files.get(file.name()), manifest.next.get(file.name())];
        let mut sums = sums.into_iter().flatten().peekable();
        if sums.peek().is_none() {
            continue;
        }
        let mut same = false;
        for sum in sums {
            same = same || unchanged(shared, file, sum)?;
        }
        if same {
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

/// Renames a file that was edited; answers its new name.
pub(crate) fn set_aside(dir: &Dir, name: &str) -> Result<Option<String>> {
    if !dir.check_regular(name)? {
        return Ok(None);
    }
    let taken = dir.names()?;
    // One more than there are names: one of them is free.
    let free = (0..=taken.len()).map(|n| format!("{name}.edited-{}", n + 1)).find(|aside| !taken.contains(aside));
    let Some(aside) = free else { return Ok(None) };
    dir.rename(name, &aside)?;
    Ok(Some(aside))
}
