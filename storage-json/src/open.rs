//! Opening a directory: alone, which means recovery and honouring hand edits; or beside others, which means following
//! their journal.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use storage_core::{Answer, Error, Fingerprint, Memo, OperationKind, Payment, Place, Result, Stamp, UserId};

use crate::checkpoint::{self, Before, COPIES};
use crate::engine::{Applier, Queue, Shared, unpoisoned};
use crate::files::{Dir, io_error, staged, write_all_at};
use crate::journal::{self, Head, Journal, Mark};
use crate::ledger::{Glance, GlanceRow, LEDGER, Ledger};
use crate::locks::{Holder, LockFile, PRESENCE, Try, WRITER};
use crate::manifest::{FileSum, MANIFEST, Manifest};
use crate::options::{Access, JsonOptions, Locking, PolicyMismatch};
use crate::shapes::{self, Loaded};
use crate::state::{FileId, FileSet, Position, State};
use crate::tx::{Overlay, Posting, Tx};
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
    let mut warnings = Vec::new();
    if !alone {
        if options.access == Access::Exclusive || presence.try_shared()? == Try::Held {
            let Holder { pid, since } = Holder::read(&dir);
            return Err(Error::new(storage_core::ErrorKind::Locked { pid, since }).message("end that process first"));
        }
    }
    if options.locking == Locking::Without {
        warnings.push("locks are not used: a second process would destroy this one's work".to_owned());
    }
    if options.durability != crate::options::Durability::Full {
        warnings.push("relaxed durability: a power cut may lose the last seconds".to_owned());
    }
    let head = Head::open(&dir)?;
    let ledger = Ledger::open(&dir)?;
    let (state, journal, manifest) =
        if alone { recover(&dir, &options, &head, &ledger, &mut warnings)? } else { join(&dir, &options, &ledger)? };
    presence.sign(&dir, options.environment.clock.now());
    let shared = Shared {
        state: RwLock::new(state),
        applier: Mutex::new(Applier { journal, manifest }),
        head,
        ledger,
        queue: Queue::default(),
        dead: OnceLock::new(),
        closed: AtomicBool::new(false),
        warnings: Mutex::new(warnings),
        seen: Mutex::new(HashMap::new()),
        presence: Mutex::new(None),
        dir,
        options,
    };
    let shared = Arc::new(shared);
    if !alone {
        crate::writer::catch_up(&shared, &mut shared.applier(), true)?;
    }
    if alone && shared.options.access == Access::Shared && presence.try_shared()? == Try::Held {
        return Err(Error::internal("the presence lock was lost while the writer lock was held"));
    }
    *unpoisoned(shared.presence.lock()) = Some(presence);
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
    if names.iter().any(|name| journal::generation_of(name).is_some()) {
        return Err(Error::corrupt(Place::new(MANIFEST), "the manifest is missing although a journal is there"));
    }
    Ok(())
}

/// Opens beside other processes: the state of the last checkpoint; the journal is followed afterwards.
fn join(dir: &Dir, options: &JsonOptions, ledger: &Ledger) -> Result<(State, Journal, Manifest)> {
    let manifest = Manifest::read(dir)?
        .ok_or_else(|| Error::corrupt(Place::new(MANIFEST), "the manifest went missing while the store is open"))?;
    manifest.check_policy(&options.environment.policy)?;
    let loaded = read_files(dir, &manifest, Edits::Ignored)?;
    let mut state = shapes::load(&loaded, options.environment.clock.now())?;
    index_ledger(ledger, &manifest, &mut state, None)?;
    let journal = Journal::open(dir, manifest.generation)?.ok_or_else(|| lost_journal(&manifest))?;
    Ok((state, journal, manifest))
}

/// Reads everything again, for a handle that is too far behind. The caller holds the writer lock and the applier.
pub(crate) fn reload(shared: &Shared, applier: &mut Applier) -> Result<()> {
    let (mut state, journal, manifest) = join(&shared.dir, &shared.options, &shared.ledger)?;
    let upto = shared
        .head
        .read()?
        .filter(|mark| mark.position.generation == manifest.generation)
        .map_or(0, |mark| mark.position.offset);
    let tail = journal.read(state.position, Some(upto), upto)?;
    apply_records(&mut state, tail.records);
    *unpoisoned(shared.state.write()) = state;
    (applier.journal, applier.manifest) = (journal, manifest);
    Ok(())
}

fn lost_journal(manifest: &Manifest) -> Error {
    Error::corrupt(Place::new(journal::name(manifest.generation)), "the journal that the manifest names is missing")
}

/// What to do with files that are not as the manifest has them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edits {
    /// The store was closed: take them over.
    Honoured,
    /// Changes wait in the journal, or the store is open: use the copies.
    Ignored,
}

/// Reads the files that the manifest lists.
fn read_files(dir: &Dir, manifest: &Manifest, edits: Edits) -> Result<Loaded> {
    let copies = Dir::new(dir.join(COPIES));
    let mut loaded = Loaded::default();
    for file in FileId::ALL {
        let name = file.name();
        let (listed, next) = (manifest.files.get(name), manifest.next.get(name));
        let known = |bytes: &Vec<u8>| {
            let sum = FileSum::of(bytes);
            Some(&sum) == listed || Some(&sum) == next
        };
        let bytes = match dir.read(name)? {
            Some(bytes) => bytes,
            // The very first checkpoint was interrupted before this file had its name.
            None if listed.is_none() => continue,
            None => return Err(Error::corrupt(Place::new(name), "a file that the manifest lists is missing")),
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
fn index_ledger(
    ledger: &Ledger,
    manifest: &Manifest,
    state: &mut State,
    mut each: Option<&mut dyn FnMut(UserId, &GlanceRow)>,
) -> Result<()> {
    let end = manifest.ledger_bytes;
    let damaged = |offset, problem| Error::corrupt(Place::new(LEDGER).offset(offset), problem);
    if ledger.length()? < end {
        return Err(damaged(ledger.length()?, "the ledger ends before the length that the manifest names"));
    }
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
        if let Some(each) = &mut each {
            glance.rows.iter().for_each(|row| each(glance.user, row));
        }
        Ok(())
    })?;
    state.position = Position { generation: manifest.generation, offset: 0, seq: manifest.seq, ledger: end };
    Ok(())
}

/// Opens a store that nobody else has open: finishes what a killed process left, honours hand edits.
fn recover(
    dir: &Dir,
    options: &JsonOptions,
    head: &Head,
    ledger: &Ledger,
    warnings: &mut Vec<String>,
) -> Result<(State, Journal, Manifest)> {
    let (environment, durable) = (&options.environment, options.durability == crate::options::Durability::Full);
    let now = environment.clock.now();
    let fresh = Manifest::new(&environment.policy, now);
    let found = Manifest::read(dir)?;
    let is_new = found.is_none();
    let mut manifest = found.unwrap_or(fresh);
    let adopt = options.on_policy_mismatch == PolicyMismatch::Adopt;
    if !adopt {
        manifest.check_policy(&environment.policy)?;
    }
    let mark = head.read()?.filter(|_| !is_new);
    if durable && mark.is_some_and(|mark| mark.position.generation > manifest.generation) {
        return Err(Error::corrupt(Place::new(MANIFEST), "the manifest is older than a checkpoint that was promised"));
    }
    let mark = mark.filter(|mark| mark.position.generation == manifest.generation);

    let old = Journal::open(dir, manifest.generation)?;
    if old.is_none() && manifest.generation > 0 {
        return Err(lost_journal(&manifest));
    }
    let start =
        Position { generation: manifest.generation, offset: 0, seq: manifest.seq, ledger: manifest.ledger_bytes };
    let tail =
        old.as_ref().map(|old| old.read(start, None, mark.map_or(0, |mark| mark.position.offset))).transpose()?;
    let unclean = is_new
        || !manifest.next.is_empty()
        || mark.is_some_and(|mark| mark.dead)
        || tail.as_ref().is_some_and(|tail| tail.garbage > 0 || !tail.records.is_empty());

    let edits = if unclean { Edits::Ignored } else { Edits::Honoured };
    let loaded = read_files(dir, &manifest, edits)?;
    let mut state = shapes::load(&loaded, now)?;
    let mut ends = HashMap::new();
    let mut credited = std::collections::HashSet::new();
    index_ledger(
        ledger,
        &manifest,
        &mut state,
        Some(&mut |user, row: &GlanceRow| {
            ends.insert(user, (row.balance_after, row.held_after));
            if row.kind == OperationKind::Payment
                && let Some(payment) = &row.reference
            {
                credited.insert(payment.to_string());
            }
        }),
    )?;
    // Whatever came after this point is written again with the journal, or was never promised.
    let mut also = FileSet::default();
    if let Some(tail) = tail {
        for record in &tail.records {
            write_all_at(&ledger.file, &record.lines, record.ledger)
                .map_err(|(error, _)| io_error(error, "cannot write", &dir.join(LEDGER)))?;
        }
        apply_records(&mut state, tail.records);
    }
    if edits == Edits::Honoured && !loaded.edited.is_empty() {
        settle_payments(&mut state, &credited);
        post_external_edits(&mut state, ledger, options, &ends)?;
        warnings.push(format!("changed by hand and taken over: {}", names(&loaded.edited)));
    }
    if ledger.length()? > state.position.ledger {
        ledger
            .file
            .set_len(state.position.ledger)
            .map_err(|error| io_error(error, "cannot shorten", &dir.join(LEDGER)))?;
    }
    let changed_policy = manifest.check_policy(&environment.policy).is_err();
    if changed_policy {
        manifest.time_zone = environment.policy.time_zone.clone();
        manifest.history = environment.policy.history;
    }
    let (state, journal, manifest) = if unclean || !loaded.edited.is_empty() || changed_policy {
        for file in &loaded.edited {
            also.add(*file);
            if edits == Edits::Ignored
                && let Some(aside) = checkpoint::set_aside(dir, file.name())?
            {
                warnings.push(format!(
                    "{} was changed by hand while changes waited in the journal; the edit was set aside as {aside}",
                    file.name()
                ));
            }
        }
        for name in manifest.next.keys() {
            FileId::ALL.into_iter().filter(|file| file.name() == name).for_each(|file| also.add(file));
        }
        if durable {
            ledger.file.sync_all().map_err(|error| io_error(error, "cannot sync", &dir.join(LEDGER)))?;
        }
        let before = Before { dir, manifest: &manifest, durable, now };
        let (journal, written) = checkpoint::write(&before, &state, &also).map_err(|(error, _)| error)?;
        state.position = Position { generation: written.generation, offset: 0, ..state.position };
        state.dirty.clear();
        (state, journal, written)
    } else {
        // The last process may have died between a rename and the sync of its directory.
        if durable {
            dir.sync()?;
        }
        let journal = old.ok_or_else(|| lost_journal(&manifest))?;
        (state, journal, manifest)
    };
    head.reset(Mark { position: state.position, dead: false })?;
    sweep(dir, manifest.generation)?;
    Ok((state, journal, manifest))
}

fn names(files: &[FileId]) -> String {
    files.iter().map(|file| file.name()).collect::<Vec<_>>().join(", ")
}

/// Payments decided by hand are marked: they never credit here.
fn settle_payments(state: &mut State, credited: &std::collections::HashSet<String>) {
    let by_hand: Vec<Payment> = state
        .payments
        .values()
        .filter_map(|payment| {
            let mut judged = (**payment).clone();
            let was_credited = credited.contains(judged.id.as_str());
            crate::payments::settle_origin(&mut judged, was_credited);
            (judged != **payment).then_some(judged)
        })
        .collect();
    for payment in by_hand {
        state.put_payment(Arc::new(payment));
    }
}

/// Writes an `external_edit` row for each user whose balance is not what the ledger says.
fn post_external_edits(
    state: &mut State,
    ledger: &Ledger,
    options: &JsonOptions,
    ends: &HashMap<UserId, (storage_core::Money, storage_core::Money)>,
) -> Result<()> {
    let differing: Vec<UserId> = state
        .accounts
        .values()
        .filter(|account| {
            let ledger_says = ends.get(&account.record.user).map(|(balance, _)| *balance).unwrap_or_default();
            account.record.balance != ledger_says
        })
        .map(|account| account.record.user)
        .collect();
    for user in differing {
        let stamp: Stamp = options.environment.stamp();
        let batch = Overlay::default();
        let mut tx = Tx::new(state, &batch, ledger, &options.environment, stamp, state.position.ledger);
        let mut account = tx.account_or_new(user);
        let edited = account.record.balance;
        account.record.balance = ends.get(&user).map(|(balance, _)| *balance).unwrap_or_default();
        let held = account.record.held;
        let posting = Posting { kind: OperationKind::ExternalEdit, balance: edited, held, memo: Memo::default() };
        let row = tx.post(&mut account, posting).map_err(|error| {
            let place = Place::new(FileId::Balances.name()).key(user.to_string());
            Error::corrupt(place, format!("the balance set by hand breaks a rule: {error}"))
        })?;
        let answer = Answer::Money(tx.receipt(edited));
        tx.settle_operation(account, None, Fingerprint::of("external_edit", &[]), answer, vec![row])?;
        let decided = tx.finish();
        write_all_at(&ledger.file, &decided.lines, state.position.ledger)
            .map_err(|(error, _)| io_error(error, "cannot write", &options.dir.join(LEDGER)))?;
        state.position.ledger += decided.lines.len() as u64;
        for change in decided.changes {
            state.apply(change);
        }
        for mark in &decided.marks {
            state.mark_line(mark);
        }
    }
    Ok(())
}

/// Removes what interrupted checkpoints left: staged files, and journals that the files contain already.
fn sweep(dir: &Dir, generation: u64) -> Result<()> {
    for name in dir.names()? {
        let ours = FileId::ALL.iter().any(|file| staged(file.name()) == name) || name == staged(MANIFEST);
        let old_journal = journal::generation_of(&name).is_some_and(|old| old != generation);
        if ours || old_journal {
            dir.remove(&name)?;
        }
    }
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
