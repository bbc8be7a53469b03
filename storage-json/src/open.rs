//! Opening a directory: alone, which means recovery and honouring hand edits; or beside others, which means following
//! their journal.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use storage_core::{Error, Place, Result, UserId};

use crate::background::Background;
use crate::checkpoint::COPIES;
use crate::disk::{Dir, quoted};
use crate::engine::{Applier, Queue, Shared};
use crate::follow::{self, Read};
use crate::index::{KeyIndex, Segment};
use crate::journal::{self, Head, Journal, Mark, Tail};
use crate::ledger::{Glance, GlanceRow, LEDGER, Ledger};
use crate::locks::{LockFile, WRITER};
use crate::manifest::{FileSum, MANIFEST, Manifest};
use crate::options::{JsonOptions, Locking};
use crate::presence::{Company, Presence};
use crate::recover;
use crate::shapes::Loaded;
use crate::state::{FileId, Position, State};
use crate::watch::Watch;

/// Opens a store. Answers what its handle shares, and the writer thread's lock file.
pub(crate) fn open(options: JsonOptions) -> Result<(Shared, LockFile)> {
    // What is refused is refused before a directory or a file is made.
    if let Some(dir) = Dir::open(&options.dir)? {
        refuse_strangers(&dir)?;
    }
    let dir = Dir::create(&options.dir)?;
    let mut writer = LockFile::open(&dir, WRITER, options.locking)?;
    let (mut presence, company) = Presence::enter(&dir, &options, &writer)?;
    // Another process may have made the store while this one waited.
    refuse_strangers(&dir)?;
    Watch::refuse_other_names(&dir, dir.names()?.into_iter().filter(|name| journal::generation_of(name).is_some()))?;
    let mut warnings = options.warnings.clone();
    if options.locking == Locking::Without {
        warnings.push("locks are not used: a second process would destroy this one's work".to_owned());
    }
    if options.durability != crate::options::Durability::Full {
        warnings.push("relaxed durability: a power cut may lose the last seconds".to_owned());
    }
    let head = Head::open(&dir)?;
    let ledger = Ledger::open(&dir)?;
    let common = presence.common(&dir, &writer)?;
    let watch = Watch::new(&dir, common, &head, &ledger)?;
    presence.check_ledger(&ledger)?;
    let Read { state, journal, manifest, ahead } = match company {
        Company::Alone => {
            // Nobody has the store open, but somebody may keep its writers out: a backup, for example.
            writer.exclusive_within(options.lock_wait)?;
            writer.sign(|| options.environment.clock.now());
            let recovered = recover::recover(&dir, &options, &head, &ledger, &mut warnings)?;
            presence.settle(&common, options.environment.clock.now())?;
            writer.release();
            let (state, journal, manifest) = recovered;
            Read { state, journal, manifest, ahead: None }
        }
        Company::Beside => follow::join(&dir, &options, &head, &ledger, &mut writer)?,
    };
    warnings.extend(
        manifest.moved_to.as_ref().map(|to| format!("the contents were moved to {to}: changes are refused here")),
    );
    let shared = Arc::new(Shared {
        state: RwLock::new(state),
        applier: Mutex::new(Applier { ahead, ..Applier::new(journal, manifest) }),
        rejoining: Mutex::new(0),
        head,
        ledger,
        watch,
        told: Mutex::new(None),
        queue: Queue::default(),
        dead: OnceLock::new(),
        lost: OnceLock::new(),
        closed: AtomicBool::new(false),
        closing: tokio::sync::Mutex::new(None),
        checkpoint: Background::default(),
        warnings: Mutex::new(warnings),
        seen: Mutex::new(HashMap::new()),
        syncs: AtomicU64::new(0),
        sync_micros: AtomicU64::new(0),
        dumps: AtomicU64::new(0),
        retired: Mutex::default(),
        presence: Mutex::new(Some(presence)),
        dir,
        options,
    });
    shared.prove_place()?;
    if company == Company::Beside {
        follow::follow(&shared)?;
    }
    let shared = Arc::into_inner(shared).ok_or_else(|| Error::internal("an opening store is shared already"))?;
    Ok((shared, writer))
}

/// Refuses a directory that holds records but no manifest: it is not ours.
fn refuse_strangers(dir: &Dir) -> Result<()> {
    let names = dir.names()?;
    if names.iter().any(|name| name == MANIFEST) {
        // The ledger is made before the manifest, and never removed.
        return if names.iter().any(|name| name == LEDGER) {
            Ok(())
        } else {
            Err(Error::corrupt(
                Place::new(LEDGER),
                "the ledger is missing; put it back from a backup; nothing was changed",
            ))
        };
    }
    let known = |name: &&String| FileId::ALL.iter().any(|file| file.name() == name.as_str());
    if let Some(name) = names.iter().find(known) {
        let here = dir.path().display();
        return Err(Error::schema(
            format!(
                "{name} in {here}, but no {MANIFEST}: data of the earlier system, or of a store whose manifest was lost"
            ),
            "an empty directory, or one that this program made",
            format!("storage import {here} --data-dir ANOTHER_DIRECTORY"),
        ));
    }
    let ledger_has_lines = dir.stat(LEDGER)?.is_some_and(|(_, length)| length > 0);
    // A journal alone is what a first opening left that was interrupted; it was never written to.
    if ledger_has_lines {
        return Err(Error::corrupt(Place::new(MANIFEST), "the manifest is missing although a ledger is there"));
    }
    Ok(())
}

/// Reads the journals that a checkpoint which was never finished left complete. Answers them, and where the one begins
/// that is being written.
pub(crate) fn read_complete<'a>(
    journals: impl Iterator<Item = &'a Journal>,
    manifest: &Manifest,
    mark: Option<Mark>,
) -> Result<(Vec<Tail>, Position)> {
    let (mut tails, mut position) = (Vec::new(), manifest.start().position());
    let current = manifest.current();
    for journal in journals {
        let promised = mark.filter(|mark| mark.position.generation == position.generation);
        let tail = journal.read(position, None, promised.map_or(0, |mark| mark.position.offset))?;
        position = Position { generation: position.generation + 1, offset: 0, ..tail.end };
        tails.push(tail);
    }
    if position != current.position() {
        let last = journal::name(current.generation.saturating_sub(1));
        return Err(Error::corrupt(
            Place::new(last),
            "a change is damaged or missing here, before those of a later journal",
        ));
    }
    Ok((tails, position))
}

/// Reads the ledger's index; `None` when there is none, or it is damaged and the ledger must be read instead.
pub(crate) fn read_index(dir: &Dir, manifest: &Manifest) -> Result<Option<KeyIndex>> {
    let Some(ledger) = &manifest.ledger else { return Ok(None) };
    let segments = ledger.index.iter().map(|file| Segment::read(dir, file)).collect::<Result<Option<Vec<_>>>>()?;
    Ok(segments.map(KeyIndex::of))
}

pub(crate) fn lost_journal(generation: u64) -> Error {
    Error::corrupt(Place::new(journal::name(generation)), "the journal that the manifest names is missing")
}

/// What to do with files that are not as the manifest has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edits {
    /// The store was closed: take them over.
    Honoured,
    /// Changes wait in the journal, or the store is open: use the copies.
    Ignored,
}

/// Reads the files that the manifest lists.
pub(crate) fn read_files(
    dir: &Dir,
    manifest: &Manifest,
    edits: Edits,
    mut read: impl FnMut(&str) -> Result<Option<Vec<u8>>>,
) -> Result<Loaded> {
    let copies = dir.sub(COPIES)?;
    let mut loaded = Loaded::default();
    for file in FileId::ALL {
        let name = file.name();
        let Some(sum) = manifest.files.get(name) else { continue };
        let known = |bytes: &Vec<u8>| FileSum::of(bytes) == *sum;
        let bytes = match read(name)? {
            Some(bytes) if known(&bytes) => {
                loaded.files.insert(file, bytes);
                continue;
            }
            Some(bytes) => bytes,
            // A running store would have written it anew.
            None if edits == Edits::Ignored && file.is_original() => Vec::new(),
            None => return Err(missing_file(dir, file)),
        };
        if !file.is_original() {
            return Err(Error::corrupt(
                Place::new(name),
                "this file is the store's own and was changed by somebody else",
            ));
        }
        loaded.edited.push(file);
        if edits == Edits::Honoured {
            loaded.files.insert(file, bytes);
            continue;
        }
        let copy = copies.as_ref().map(|copies| copies.read(name)).transpose()?.flatten();
        match copy.filter(known) {
            Some(copy) => loaded.files.insert(file, copy),
            None => {
                let problem = "the file was changed or removed by hand while changes wait in the journal, and its copy in \
                               .checkpoint is missing or damaged too";
                return Err(Error::corrupt(Place::new(name), problem));
            }
        };
    }
    Ok(loaded)
}

fn missing_file(dir: &Dir, file: FileId) -> Error {
    let name = file.name();
    let remedy = if file.is_original() {
        format!("; put its copy there: cp {} {}", quoted(&dir.join(COPIES).join(name)), quoted(&dir.join(name)))
    } else {
        "; put it back from a backup".to_owned()
    };
    Error::corrupt(Place::new(name), format!("a file that the manifest lists is missing{remedy}"))
}

/// Notes every ledger line up to the manifest's length: where each key stands, and where each user's rows end.
pub(crate) fn index_ledger(
    ledger: &Ledger,
    manifest: &Manifest,
    state: &mut State,
    each: &mut dyn FnMut(UserId, &GlanceRow),
) -> Result<()> {
    let end = manifest.ledger_bytes;
    let damaged = |offset, problem| Error::corrupt(Place::new(LEDGER).offset(offset), problem);
    if ledger.length()? < end {
        return Err(damaged(ledger.length()?, "the ledger ends before the length that the manifest names"));
    }
    for account in state.accounts.values_mut() {
        (account.rows, account.last) = (0, None);
    }
    state.keys = KeyIndex::default();
    ledger.scan(0, end, |offset, text| {
        let glance: Glance<'_> = ledger.parse(text, offset)?;
        state.keys.insert(glance.user, glance.space, &glance.key, offset);
        if glance.rows.is_empty() {
            return Ok(());
        }
        let account = state
            .accounts
            .get_mut(&glance.user)
            .ok_or_else(|| damaged(offset, "the line's user is missing from users.json"))?;
        if glance.prev != account.last || glance.rows[0].seq != account.rows + 1 {
            return Err(damaged(offset, "a line before this one is missing"));
        }
        account.rows += glance.rows.len() as u64;
        account.last = Some(offset);
        for row in &glance.rows {
            each(glance.user, row);
        }
        Ok(())
    })?;
    Ok(())
}

/// What stands in a directory, without opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// No directory, or nothing of ours in it.
    Nothing,
    /// A store of this format.
    Store,
    /// Files of the earlier system.
    Legacy,
}

/// Looks into a directory without opening or changing anything.
///
/// # Errors
/// As the disk has it.
pub fn inspect(dir: &std::path::Path) -> Result<Found> {
    let Some(dir) = Dir::open(dir)? else { return Ok(Found::Nothing) };
    let names = dir.names()?;
    let has = |name: &str| names.iter().any(|found| found == name);
    Ok(if has(MANIFEST) {
        Found::Store
    } else if FileId::ALL.iter().any(|file| has(file.name())) {
        Found::Legacy
    } else {
        Found::Nothing
    })
}
