//! Recovery: what an opener does who has the store alone. Finishes what a killed process left, honours hand edits, and
//! leaves a fresh checkpoint wherever something was only read back and not known to be on the disk.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use storage_core::dump::KeyRecord;
use storage_core::kernel::{self, Changes};
use storage_core::{
    AccountRecord, Answer, Error, Fingerprint, KeySpace, LedgerRow, Money, OperationKey, OperationKind, Payment,
    PaymentOrigin, PaymentStatus, Place, Receipt, Result, SignedMoney, Stamp, Timestamp, UsedKey, UserId,
};

use crate::checkpoint::{self, Base, FINAL, Written};
use crate::disk::{Dir, SCRATCH, io_error, staged, write_all_at};
use crate::follow::apply_records;
use crate::journal::{self, Head, Journal, Mark, Tail};
use crate::ledger::{GlanceRow, LEDGER, Ledger};
use crate::manifest::{MANIFEST, Manifest};
use crate::open::{Edits, index_ledger, lost_journal, read_complete, read_files, read_index};
use crate::options::{JsonOptions, PolicyMismatch};
use crate::shapes::{self, Loaded};
use crate::state::{FileId, FileSet, Position, State};
use crate::tx::{Overlay, Tx};

/// What was found on disk, before anything is judged.
struct Left {
    manifest: Manifest,
    /// Journals that an unfinished checkpoint left, all of whose changes are there.
    complete: Vec<Tail>,
    journal: Option<Journal>,
    tail: Tail,
    /// The last process did not close the store.
    unclean: bool,
}

/// What the ledger says of balances and credits, for hand edits to be compared with.
#[derive(Default)]
struct LedgerSays {
    balances: HashMap<UserId, Money>,
    /// Payments that were credited here: to whom, how much, and whether that was taken back.
    credited: BTreeMap<String, Credit>,
}

/// What the ledger says of one payment.
struct Credit {
    user: UserId,
    micros: i64,
    refunded: bool,
}

impl LedgerSays {
    fn note(&mut self, user: UserId, row: &GlanceRow) {
        self.balances.insert(user, row.balance_after);
        let Some(payment) = &row.reference else { return };
        match row.kind {
            OperationKind::Payment => {
                let credit = Credit { user, micros: row.balance_change.micros(), refunded: false };
                self.credited.insert(payment.to_string(), credit);
            }
            OperationKind::Refund => {
                if let Some(credit) = self.credited.get_mut(payment.as_str()) {
                    credit.refunded = true;
                }
            }
            _ => {}
        }
    }
    fn balance(&self, user: UserId) -> Money {
        self.balances.get(&user).copied().unwrap_or_default()
    }
}

fn look(dir: &Dir, options: &JsonOptions, head: &Head) -> Result<Left> {
    let policy = &options.environment.policy;
    let found = Manifest::read(dir)?;
    let is_new = found.is_none();
    let mut manifest = found.unwrap_or_else(|| Manifest::new(policy, options.environment.clock.now()));
    if options.on_policy_mismatch == PolicyMismatch::Refuse {
        manifest.check_policy(policy)?;
    }
    let pending = manifest.next.is_some();
    if pending {
        manifest = checkpoint::finish(dir, &manifest)?.1;
    }
    let mark = head.read()?.filter(|_| !is_new);
    let dead = mark.is_some_and(|mark| mark.dead);
    let mark = mark.filter(|mark| mark.durable);
    let current = manifest.current().generation;
    if mark.is_some_and(|mark| mark.position.generation > current) {
        return Err(Error::corrupt(Place::new(MANIFEST), "the manifest is older than a checkpoint that was promised"));
    }
    let journals = (manifest.generation..current)
        .map(|generation| Journal::open(dir, generation)?.ok_or_else(|| lost_journal(generation)))
        .collect::<Result<Vec<_>>>()?;
    let (complete, start) = read_complete(journals.iter(), &manifest, mark)?;
    let mark = mark.filter(|mark| mark.position.generation == current);
    let journal = Journal::open(dir, current)?;
    if journal.is_none() && !is_new {
        return Err(lost_journal(current));
    }
    let promised = mark.map_or(0, |mark| mark.position.offset);
    let tail = match &journal {
        Some(journal) => journal.read(start, None, promised)?,
        None => Tail { records: Vec::new(), end: start, garbage: 0 },
    };
    let unclean = is_new || dead || manifest.writing.is_some() || tail.garbage > 0 || !tail.records.is_empty();
    Ok(Left { manifest, complete, journal, tail, unclean })
}

/// Opens a store that nobody else has open.
pub(crate) fn recover(
    dir: &Dir,
    options: &JsonOptions,
    head: &Head,
    ledger: &Ledger,
    warnings: &mut Vec<String>,
) -> Result<(State, Journal, Manifest)> {
    let Left { mut manifest, complete, journal, tail, unclean } = look(dir, options, head)?;
    let now = options.environment.clock.now();
    let edits = if unclean { Edits::Ignored } else { Edits::Honoured };
    let loaded = read_files(dir, &manifest, edits, |name| dir.read(name))?;
    let mut says = LedgerSays::default();
    let mut state = if edits == Edits::Honoured && !loaded.edited.is_empty() {
        // Hand edits are compared with what the ledger says of each user.
        let mut state = shapes::load(&loaded, now)?;
        index_ledger(ledger, &manifest, &mut state, &mut |user, row| says.note(user, row))?;
        state
    } else {
        load(dir, &loaded, ledger, &manifest, now)?
    };
    // Everything was read and is whole; from here on the disk is written to.
    let end = tail.end;
    for tail in complete.into_iter().chain([tail]) {
        for record in &tail.records {
            append(dir, ledger, &record.lines, record.ledger)?;
        }
        apply_records(&mut state, tail.records);
    }
    state.position = end;
    if edits == Edits::Honoured && !loaded.edited.is_empty() {
        settle_payments(&mut state, &says, loaded.edited.contains(&FileId::Payments))?;
        let mut lines = Lines { ledger, options, start: state.position.ledger, bytes: Vec::new() };
        if loaded.edited.contains(&FileId::History) {
            use_up_generations(&mut state, &mut lines)?;
        }
        post_external_edits(&mut state, &mut lines, &says)?;
        // Now that all is known to keep the rules: an edit that is refused changes no byte.
        append(dir, ledger, &lines.bytes, lines.start)?;
        warnings.push(format!("changed by hand and taken over: {}", names(&loaded.edited)));
    }
    if ledger.length()? > state.position.ledger {
        // Lines of a batch that was never promised.
        let cut = ledger.file.set_len(state.position.ledger);
        cut.map_err(|error| io_error(error, "cannot shorten", &dir.join(LEDGER)))?;
    }
    let policy = &options.environment.policy;
    let adopted = manifest.check_policy(policy).is_err();
    if adopted {
        (manifest.time_zone, manifest.history) = (policy.time_zone.clone(), policy.history);
    }
    let (journal, manifest) = if unclean || adopted || !loaded.edited.is_empty() {
        let also = files_to_renew(dir, &loaded, edits, warnings)?;
        ledger.file.sync_all().map_err(|error| io_error(error, "cannot sync", &dir.join(LEDGER)))?;
        let base = Base { dir, ledger, manifest: &manifest, now };
        let frozen = state.keys.freeze();
        let written = checkpoint::write(&base, &state, &frozen, &also).map_err(|(error, _)| error)?;
        let Written { journal, manifest, segments } = written;
        state.keys.settle(segments);
        (journal, manifest)
    } else {
        // The last process may have died between a rename and the sync of its directory.
        dir.sync()?;
        (journal.ok_or_else(|| lost_journal(manifest.generation))?, manifest)
    };
    state.position = Position { generation: manifest.generation, offset: 0, ..state.position };
    state.dirty.clear();
    head.reset(Mark { position: state.position, dead: false, durable: true })?;
    sweep(dir, &manifest)?;
    Ok((state, journal, manifest))
}

/// Builds the state from the files and the ledger's index, while another thread looks at every byte of the ledger. Its
/// lines are read only where there is no index, or something is wrong: then for the place of the damage.
fn load(dir: &Dir, loaded: &Loaded, ledger: &Ledger, manifest: &Manifest, now: Timestamp) -> Result<State> {
    let upto = manifest.ledger_bytes;
    let (mut state, keys, sum) = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let Some(keys) = read_index(dir, manifest)? else { return Ok((None, String::new())) };
            Ok((Some(keys), format!("{:08x}", ledger.checksum(0, upto, 0)?)))
        });
        let state = shapes::load(loaded, now);
        let looked = other.join().unwrap_or_else(|_| Err(Error::internal("the look at the ledger was interrupted")));
        let (state, (keys, sum)) = (state?, looked?);
        Result::Ok((state, keys, sum))
    })?;
    match keys {
        Some(keys) if manifest.ledger.as_ref().is_some_and(|ledger| ledger.crc32 == sum) => state.keys = keys,
        keys => {
            index_ledger(ledger, manifest, &mut state, &mut |_, _| {})?;
            if keys.is_some() {
                return Err(Error::corrupt(Place::new(LEDGER), "this is not the ledger that the manifest names"));
            }
        }
    }
    Ok(state)
}

fn append(dir: &Dir, ledger: &Ledger, lines: &[u8], offset: u64) -> Result<()> {
    write_all_at(&ledger.file, lines, offset).map_err(|(error, _)| io_error(error, "cannot write", &dir.join(LEDGER)))
}

/// The files that a fresh checkpoint writes besides those that the journal changed; edits that cannot be honoured are
/// set aside first.
fn files_to_renew(dir: &Dir, loaded: &Loaded, edits: Edits, warnings: &mut Vec<String>) -> Result<FileSet> {
    // A hand edit may name users and records that other files have to know of.
    if edits == Edits::Honoured && !loaded.edited.is_empty() {
        return Ok(FileSet::all());
    }
    let mut also = FileSet::default();
    for file in &loaded.edited {
        also.add(*file);
        if let Some(aside) = checkpoint::set_aside(dir, file.name())? {
            let name = file.name();
            warnings.push(format!(
                "{name} was changed by hand while changes waited in the journal; the edit was set aside as {aside}"
            ));
        }
    }
    Ok(also)
}

fn names(files: &[FileId]) -> String {
    files.iter().map(|file| file.name()).collect::<Vec<_>>().join(", ")
}

/// Judges hand edits of payments by the ledger. One that was approved by hand is marked: it never credits here, and no refund
/// takes money for it. One whose money the ledger has booked may not be undone, changed or removed by hand: it could be
/// booked again.
fn settle_payments(state: &mut State, says: &LedgerSays, edited: bool) -> Result<()> {
    let refuse = |id: &str, problem: String| {
        Err(Error::corrupt(Place::new(FileId::Payments.name()).key(id.to_owned()), problem))
    };
    for (id, credit) in &says.credited {
        let wanted = if credit.refunded { PaymentStatus::Refunded } else { PaymentStatus::Approved };
        let payment = state.payments.get(id.as_str());
        let fits = payment.is_some_and(|payment| {
            payment.status == wanted
                && payment.user == credit.user
                && payment.amount.money().micros() == credit.micros
                && payment.origin == PaymentOrigin::Here
        });
        if !fits {
            return refuse(
                id,
                format!(
                    "the ledger has credited this payment to user {}, and it is {wanted}; undo the edit, and use storage payments refund",
                    credit.user
                ),
            );
        }
    }
    let mut settled: Vec<Payment> = Vec::new();
    for payment in state.payments.values().filter(|payment| !says.credited.contains_key(payment.id.as_str())) {
        let decided = matches!(payment.status, PaymentStatus::Approved | PaymentStatus::Refunded);
        let origin = match payment.origin {
            PaymentOrigin::Here if decided => PaymentOrigin::ByHand,
            // The way back: whatever is approved from now on is credited.
            PaymentOrigin::ByHand if !decided => PaymentOrigin::Here,
            PaymentOrigin::Imported if edited && payment.status == PaymentStatus::Pending => {
                return refuse(
                    payment.id.as_str(),
                    "this payment's money came along with the balance from another system; pending, it could be credited \
                     again; undo the edit, or remove the field origin too to have it credited here"
                        .to_owned(),
                );
            }
            origin => origin,
        };
        if origin != payment.origin {
            settled.push(Payment { origin, ..(**payment).clone() });
        }
    }
    for payment in settled {
        state.put_payment(Arc::new(payment));
    }
    Ok(())
}

/// The ledger lines that taking an edit over needs.
struct Lines<'r> {
    ledger: &'r Ledger,
    options: &'r JsonOptions,
    /// Where they will stand.
    start: u64,
    bytes: Vec<u8>,
}

impl Lines<'_> {
    /// Writes one operation down, and lets the state have it.
    fn put(&mut self, state: &mut State, changes: impl FnOnce(&State, Stamp) -> Result<Changes>) -> Result<()> {
        let environment = &self.options.environment;
        let changes = changes(state, environment.stamp())?;
        let batch = Overlay::default();
        let mut tx = Tx::new(state, &batch, self.ledger, environment, state.position.ledger);
        tx.put(changes)?;
        let decided = tx.finish();
        state.position.ledger += decided.lines.len() as u64;
        self.bytes.extend_from_slice(&decided.lines);
        for change in decided.changes {
            state.apply(change);
        }
        for mark in &decided.marks {
            state.mark_line(mark);
        }
        Ok(())
    }
}

/// Uses up the ids of generations that were added by hand: recorded again, they would stand twice.
fn use_up_generations(state: &mut State, lines: &mut Lines<'_>) -> Result<()> {
    let mut added = Vec::new();
    for (user, generation) in state.history.all() {
        let key = OperationKey::from(&generation.id);
        // Looked for before the first line is made, which cannot be read back before it is written.
        if state.keys.find(lines.ledger, user, KeySpace::Generation, &key)?.is_none() {
            added.push((user, key, generation.recorded(user).fingerprint()));
        }
    }
    for (user, key, arguments) in added {
        lines.put(state, |_, stamp| {
            let used = UsedKey { arguments, operation: stamp.operation, answer: Answer::Record };
            let key = Some(KeyRecord { user, space: KeySpace::Generation, key, used });
            Ok(Changes { key, ..Changes::default() })
        })?;
    }
    Ok(())
}

/// Writes an `external_edit` row for each user whose balance is not what the ledger says.
fn post_external_edits(state: &mut State, lines: &mut Lines<'_>, says: &LedgerSays) -> Result<()> {
    let differing: Vec<UserId> = state
        .accounts
        .values()
        .filter(|account| account.record.balance != says.balance(account.record.user))
        .map(|account| account.record.user)
        .collect();
    for user in differing {
        lines.put(state, |state, Stamp { now, operation }| {
            let known =
                state.account(user).ok_or_else(|| Error::internal("a user whose balance was edited is gone"))?;
            let (edited, held) = (known.record.balance, known.record.held);
            edited.checked_add(held).map_err(|error| {
                let place = Place::new(FileId::Balances.name()).key(user.to_string());
                let problem = format!("the balance set by hand breaks a rule: {error}; set one that keeps it");
                Error::corrupt(place, problem)
            })?;
            let row = LedgerRow {
                user,
                seq: known.rows + 1,
                operation,
                kind: OperationKind::ExternalEdit,
                balance_change: edited.change_since(says.balance(user)),
                held_change: SignedMoney::ZERO,
                balance_after: edited,
                held_after: held,
                key: operation.to_key(),
                reference: None,
                reason: None,
                actor: None,
                at: now,
            };
            let record = AccountRecord { updated_at: now, ..known.record.clone() };
            let answer = Answer::Money(Receipt { operation, balance_after: edited, replayed: false });
            let used = UsedKey { arguments: Fingerprint::of("external_edit", &[]), operation, answer };
            Ok(Changes {
                accounts: [Some(kernel::Account { record, rows: row.seq }), None],
                rows: vec![row],
                key: Some(KeyRecord { user, space: KeySpace::Operation, key: operation.to_key(), used }),
                ..Changes::default()
            })
        })?;
    }
    Ok(())
}

/// Removes what interrupted checkpoints left: staged files, and journals that the files contain already.
fn sweep(dir: &Dir, manifest: &Manifest) -> Result<()> {
    let listed = |name: &str| manifest.index().iter().any(|file| file.name == name);
    for name in dir.names()? {
        let ours = name.starts_with(SCRATCH)
            || FileId::ALL.iter().any(|file| staged(file.name()) == name)
            || name == staged(MANIFEST)
            || name == staged(FINAL);
        let old_journal = journal::generation_of(&name).is_some_and(|old| old != manifest.generation);
        let old_index = crate::index::is_segment(&name) && !listed(&name);
        if ours || old_journal || old_index {
            dir.remove(&name)?;
        }
    }
    Ok(())
}
