//! Opening a directory: alone, which means recovery and honouring hand edits; or beside others, which means following
//! their journal.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use storage_core::{Error, ErrorKind, Place, Result, UserId};

use crate::background::Background;
use crate::checkpoint::COPIES;
use crate::engine::{Applier, Queue, Shared, unpoisoned};
use crate::files::Dir;
use crate::index::{KeyIndex, Segment};
use crate::journal::{self, Head, Journal, Mark, Tail};
use crate::ledger::{Glance, GlanceRow, LEDGER, Ledger};
use crate::locks::{Holder, LockFile, PRESENCE, Try, WRITER};
use crate::manifest::{FileSum, MANIFEST, Manifest};
use crate::options::{Access, JsonOptions, Locking};
use crate::recover;
use crate::shapes::{self, Loaded};
use crate::state::{FileId, Position, State};
use crate::writer::apply_records;

/// Opens a store. Answers what its handle shares, and the writer thread's lock file.
pub(crate) fn open(options: JsonOptions) -> Result<(Shared, LockFile)> {
    let dir = Dir::new(options.dir.clone());
    refuse_strangers(&dir)?;
    dir.create()?;
    let mut writer = LockFile::open(&dir, WRITER, options.locking)?;
    writer.exclusive_within(options.lock_wait, || Holder::read(&dir))?;
    // Another process may have made the store while this one waited.
    refuse_strangers(&dir)?;
    let mut presence = LockFile::open(&dir, PRESENCE, options.locking)?;
    let alone = presence.try_exclusive()? == Try::Got;
    let mut warnings = options.warnings.clone();
    if !alone && (options.access == Access::Exclusive || presence.try_shared()? == Try::Held) {
        let Holder { pid, since } = Holder::read(&dir);
        return Err(Error::new(ErrorKind::Locked { pid, since }).message("end that process first"));
    }
    if options.locking == Locking::Without {
        warnings.push("locks are not used: a second process would destroy this one's work".to_owned());
    }
    if options.durability != crate::options::Durability::Full {
        warnings.push("relaxed durability: a power cut may lose the last seconds".to_owned());
    }
    let head = Head::open(&dir)?;
    let ledger = Ledger::open(&dir)?;
    let (state, journal, manifest) = if alone {
        recover::recover(&dir, &options, &head, &ledger, &mut warnings)?
    } else {
        join(&dir, &options, &head, &ledger)?
    };
    warnings.extend(
        manifest.moved_to.as_ref().map(|to| format!("the contents were moved to {to}: changes are refused here")),
    );
    Holder::sign(&dir, options.environment.clock.now());
    let shared = Shared {
        state: RwLock::new(state),
        applier: Mutex::new(Applier { journal, manifest, manifest_stamp: None, retry_at: 0 }),
        head,
        ledger,
        queue: Queue::default(),
        dead: OnceLock::new(),
        closed: AtomicBool::new(false),
        closing: tokio::sync::Mutex::new(None),
        checkpoint: Background::default(),
        warnings: Mutex::new(warnings),
        seen: Mutex::new(HashMap::new()),
        syncs: AtomicU64::new(0),
        sync_micros: AtomicU64::new(0),
        dumps: AtomicU64::new(0),
        retired: Mutex::default(),
        presence: Mutex::new(None),
        dir,
        options,
    };
    if alone && shared.options.access == Access::Shared && presence.try_shared()? == Try::Held {
        return Err(Error::internal("the presence lock was lost while the writer lock was held"));
    }
    *unpoisoned(shared.presence.lock()) = Some(presence);
    let shared = Arc::new(shared);
    if !alone {
        crate::writer::catch_up(&shared, &mut shared.applier())?;
    }
    writer.release();
    let shared = Arc::into_inner(shared).ok_or_else(|| Error::internal("an opening store is shared already"))?;
    Ok((shared, writer))
}

/// Refuses a directory that holds records but no manifest: it is not ours.
fn refuse_strangers(dir: &Dir) -> Result<()> {
    let names = dir.names()?;
    if names.iter().any(|name| name == MANIFEST) {
        return Ok(());
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

/// Opens beside other processes: the state of the last checkpoint; the journal is followed afterwards.
fn join(dir: &Dir, options: &JsonOptions, head: &Head, ledger: &Ledger) -> Result<(State, Journal, Manifest)> {
    let mut manifest = Manifest::read(dir)?
        .ok_or_else(|| Error::corrupt(Place::new(MANIFEST), "the manifest went missing while the store is open"))?;
    if manifest.next.is_some() {
        // What a process could not make durable is finished by whoever has the store alone.
        if head.read()?.is_some_and(|mark| mark.dead) {
            return Err(Error::new(ErrorKind::ReadOnly).message(format!(
                "a sync failed in a process that has {} open; close every such process and open it again",
                dir.path().display()
            )));
        }
        manifest = crate::checkpoint::finish(dir, &manifest)?.1;
    }
    manifest.check_policy(&options.environment.policy)?;
    let loaded = read_files(dir, &manifest, Edits::Ignored)?;
    let mut state = shapes::load(&loaded, options.environment.clock.now())?;
    // Whoever opened the store first looked at every byte of the ledger.
    if let Some(keys) = read_index(dir, &manifest)? {
        state.keys = keys;
    } else {
        index_ledger(ledger, &manifest, &mut state, &mut |_, _| {})?;
    }
    let (complete, start) = read_complete(dir, &manifest, None)?;
    for tail in complete {
        apply_records(&mut state, tail.records);
    }
    let journal = Journal::open(dir, start.generation)?.ok_or_else(|| lost_journal(start.generation))?;
    let promised = head.read()?.filter(|mark| mark.position.generation == start.generation);
    let upto = promised.map_or(0, |mark| mark.position.offset);
    let tail = journal.read(start, Some(upto), upto)?;
    apply_records(&mut state, tail.records);
    state.position = tail.end;
    Ok((state, journal, manifest))
}

/// Reads the journals that a checkpoint which was never finished left complete. Answers them, and where the one begins
/// that is being written.
pub(crate) fn read_complete(dir: &Dir, manifest: &Manifest, mark: Option<Mark>) -> Result<(Vec<Tail>, Position)> {
    let (mut tails, mut position) = (Vec::new(), manifest.start().position());
    let current = manifest.current();
    while position.generation < current.generation {
        let journal = Journal::open(dir, position.generation)?.ok_or_else(|| lost_journal(position.generation))?;
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

/// Reads everything again, for a handle that is too far behind. The caller holds the writer lock and the applier.
pub(crate) fn reload(shared: &Shared, applier: &mut Applier) -> Result<()> {
    let (state, journal, manifest) = join(&shared.dir, &shared.options, &shared.head, &shared.ledger)?;
    shared.replace_state(state);
    *applier = Applier { journal, manifest, manifest_stamp: None, retry_at: 0 };
    Ok(())
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
pub(crate) fn read_files(dir: &Dir, manifest: &Manifest, edits: Edits) -> Result<Loaded> {
    let copies = Dir::new(dir.join(COPIES));
    let mut loaded = Loaded::default();
    for file in FileId::ALL {
        let name = file.name();
        let Some(sum) = manifest.files.get(name) else { continue };
        let known = |bytes: &Vec<u8>| FileSum::of(bytes) == *sum;
        let Some(bytes) = dir.read(name)? else {
            return Err(Error::corrupt(Place::new(name), "a file that the manifest lists is missing"));
        };
        if known(&bytes) {
            loaded.files.insert(file, bytes);
            continue;
        }
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
        match copies.read(name)?.filter(known) {
            Some(copy) => loaded.files.insert(file, copy),
            None => {
                let problem =
                    "the file was changed by hand while changes wait in the journal, and its copy is damaged too";
                return Err(Error::corrupt(Place::new(name), problem));
            }
        };
    }
    Ok(loaded)
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
    ledger.scan(end, |offset, text| {
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
    let names = Dir::new(dir.to_owned()).names()?;
    let has = |name: &str| names.iter().any(|found| found == name);
    Ok(if has(MANIFEST) {
        Found::Store
    } else if FileId::ALL.iter().any(|file| has(file.name())) {
        Found::Legacy
    } else {
        Found::Nothing
    })
}
