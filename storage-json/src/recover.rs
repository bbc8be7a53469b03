//! Recovery: what an opener does who has the store alone. Finishes what a killed process left, honours hand edits, and
//! leaves a fresh checkpoint wherever something was only read back and not known to be on the disk.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use storage_core::{
    Answer, Error, Fingerprint, Memo, Money, OperationKind, Payment, PaymentStatus, Place, Result, Stamp, UserId,
};

use crate::checkpoint::{self, Before, FINAL};
use crate::files::{Dir, io_error, staged, write_all_at};
use crate::journal::{self, Head, Journal, Mark, Tail};
use crate::ledger::{GlanceRow, LEDGER, Ledger};
use crate::manifest::{MANIFEST, Manifest};
use crate::open::{Edits, index_ledger, journal_start, lost_journal, read_files};
use crate::options::{JsonOptions, PolicyMismatch};
use crate::shapes::{self, Loaded};
use crate::state::{FileId, FileSet, Position, State};
use crate::tx::{Overlay, Posting, Tx};
use crate::writer::apply_records;

/// What was found on disk, before anything is judged.
struct Left {
    manifest: Manifest,
    journal: Option<Journal>,
    tail: Option<Tail>,
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
    if mark.is_some_and(|mark| mark.position.generation > manifest.generation) {
        return Err(Error::corrupt(Place::new(MANIFEST), "the manifest is older than a checkpoint that was promised"));
    }
    let mark = mark.filter(|mark| mark.position.generation == manifest.generation);
    let journal = Journal::open(dir, manifest.generation)?;
    if journal.is_none() && !is_new {
        return Err(lost_journal(&manifest));
    }
    let start = journal_start(&manifest);
    let promised = mark.map_or(0, |mark| mark.position.offset);
    let tail = journal.as_ref().map(|journal| journal.read(start, None, promised)).transpose()?;
    let unclean = is_new || dead || tail.as_ref().is_some_and(|tail| tail.garbage > 0 || !tail.records.is_empty());
    Ok(Left { manifest, journal, tail, unclean })
}

/// Opens a store that nobody else has open.
pub(crate) fn recover(
    dir: &Dir,
    options: &JsonOptions,
    head: &Head,
    ledger: &Ledger,
    warnings: &mut Vec<String>,
) -> Result<(State, Journal, Manifest)> {
    let Left { mut manifest, journal, tail, unclean } = look(dir, options, head)?;
    let now = options.environment.clock.now();
    let edits = if unclean { Edits::Ignored } else { Edits::Honoured };
    let loaded = read_files(dir, &manifest, edits)?;
    let mut state = shapes::load(&loaded, now)?;
    let mut says = LedgerSays::default();
    index_ledger(ledger, &manifest, &mut state, &mut |user, row| says.note(user, row))?;
    // Everything was read and is whole; from here on the disk is written to.
    let tail = tail.unwrap_or_else(|| Tail { records: Vec::new(), end: journal_start(&manifest), garbage: 0 });
    for record in &tail.records {
        append(dir, ledger, &record.lines, record.ledger)?;
    }
    apply_records(&mut state, tail.records);
    state.position = tail.end;
    if edits == Edits::Honoured && !loaded.edited.is_empty() {
        settle_payments(&mut state, &says)?;
        post_external_edits(&mut state, ledger, options, &says)?;
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
        let before = Before { dir, manifest: &manifest, now };
        checkpoint::write(&before, &state, &also).map_err(|(error, _)| error)?
    } else {
        // The last process may have died between a rename and the sync of its directory.
        dir.sync()?;
        (journal.ok_or_else(|| lost_journal(&manifest))?, manifest)
    };
    state.position = Position { generation: manifest.generation, offset: 0, ..state.position };
    state.dirty.clear();
    head.reset(Mark { position: state.position, dead: false, durable: true })?;
    sweep(dir, manifest.generation)?;
    Ok((state, journal, manifest))
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

/// Judges hand edits of payments by the ledger. One that was approved by hand is marked: it never credits here. One whose
/// money the ledger has booked may not be undone, changed or removed by hand: it could be booked again.
fn settle_payments(state: &mut State, says: &LedgerSays) -> Result<()> {
    for (id, credit) in &says.credited {
        let wanted = if credit.refunded { PaymentStatus::Refunded } else { PaymentStatus::Approved };
        let payment = state.payments.get(id.as_str());
        let fits = payment.is_some_and(|payment| {
            payment.status == wanted && payment.user == credit.user && payment.amount.money().micros() == credit.micros
        });
        if !fits {
            return Err(Error::corrupt(
                Place::new(FileId::Payments.name()).key(id.clone()),
                format!(
                    "the ledger has credited this payment to user {}, and it is {wanted}; undo the edit, and use storage payments refund",
                    credit.user
                ),
            ));
        }
    }
    let by_hand: Vec<Payment> = state
        .payments
        .values()
        .filter_map(|payment| {
            let mut judged = (**payment).clone();
            let was_credited = says.credited.contains_key(judged.id.as_str());
            crate::payments::settle_origin(&mut judged, was_credited);
            (judged != **payment).then_some(judged)
        })
        .collect();
    for payment in by_hand {
        state.put_payment(Arc::new(payment));
    }
    Ok(())
}

/// Writes an `external_edit` row for each user whose balance is not what the ledger says.
fn post_external_edits(state: &mut State, ledger: &Ledger, options: &JsonOptions, says: &LedgerSays) -> Result<()> {
    let differing: Vec<UserId> = state
        .accounts
        .values()
        .filter(|account| account.record.balance != says.balance(account.record.user))
        .map(|account| account.record.user)
        .collect();
    // Written when all of them are known to keep the rules: an edit that is refused changes no byte.
    let (mut lines, start) = (Vec::new(), state.position.ledger);
    for user in differing {
        let stamp: Stamp = options.environment.stamp();
        let batch = Overlay::default();
        let mut tx = Tx::new(state, &batch, ledger, &options.environment, stamp, state.position.ledger);
        let mut account = tx.account_or_new(user);
        let edited = account.record.balance;
        account.record.balance = says.balance(user);
        let held = account.record.held;
        let posting = Posting { kind: OperationKind::ExternalEdit, balance: edited, held, memo: Memo::default() };
        let row = tx.post(&mut account, posting).map_err(|error| {
            let place = Place::new(FileId::Balances.name()).key(user.to_string());
            Error::corrupt(place, format!("the balance set by hand breaks a rule: {error}"))
        })?;
        let answer = Answer::Money(tx.receipt(edited));
        tx.settle_operation(account, None, Fingerprint::of("external_edit", &[]), answer, vec![row])?;
        let decided = tx.finish();
        state.position.ledger += decided.lines.len() as u64;
        lines.extend_from_slice(&decided.lines);
        for change in decided.changes {
            state.apply(change);
        }
        for mark in &decided.marks {
            state.mark_line(mark);
        }
    }
    append(&Dir::new(options.dir.clone()), ledger, &lines, start)
}

/// Removes what interrupted checkpoints left: staged files, and journals that the files contain already.
fn sweep(dir: &Dir, generation: u64) -> Result<()> {
    for name in dir.names()? {
        let ours = FileId::ALL.iter().any(|file| staged(file.name()) == name)
            || name == staged(MANIFEST)
            || name == staged(FINAL);
        let old_journal = journal::generation_of(&name).is_some_and(|old| old != generation);
        if ours || old_journal {
            dir.remove(&name)?;
        }
    }
    Ok(())
}
