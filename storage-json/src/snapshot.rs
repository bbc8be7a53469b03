//! Dumping from one consistent state, and building a state from a dump.

use std::collections::BTreeMap;
use std::sync::Arc;

use storage_core::dump::{GenerationRecord, JobRecord, KeyRecord, PaymentRecord};
use storage_core::{
    AccountRecord, DumpRecord, Error, Generation, Hold, Job, KeySpace, LedgerRow, OperationKey, Payment, Place, Result,
    UserId,
};

use crate::engine::{Applier, Shared, unpoisoned};
use crate::files::{io_error, write_all_at};
use crate::ledger::{Glance, LEDGER, Ledger, Line, Row};
use crate::state::{FileSet, LineMark, State};

/// Everything a dump needs, as it was at one moment. Records are shared, not copied.
pub(crate) struct Snapshot {
    accounts: Vec<AccountRecord>,
    generations: Vec<(UserId, Arc<Generation>)>,
    holds: Vec<Arc<Hold>>,
    jobs: Vec<Arc<Job>>,
    payments: Vec<Arc<Payment>>,
    ledger_end: u64,
}

/// The records of a dump, in its order.
pub(crate) type Records = Box<dyn Iterator<Item = Result<DumpRecord>> + Send>;

impl Snapshot {
    pub(crate) fn take(state: &State) -> Self {
        Self {
            accounts: state.accounts.values().map(|account| account.record.clone()).collect(),
            generations: state.history.all().map(|(user, generation)| (user, Arc::clone(generation))).collect(),
            holds: state.holds.values().cloned().collect(),
            jobs: state.jobs.values().cloned().collect(),
            payments: state.payments.values().cloned().collect(),
            ledger_end: state.position.ledger,
        }
    }

    /// Orders the records. The ledger's lines are found by one scan and read one by one.
    pub(crate) fn into_records(self, ledger: Ledger) -> Result<Records> {
        let Self { accounts, mut generations, mut holds, mut jobs, mut payments, ledger_end } = self;
        generations.sort_by(|(one, a), (other, b)| (one, &a.id).cmp(&(other, &b.id)));
        holds.sort_by(|a, b| (a.user, &a.name).cmp(&(b.user, &b.name)));
        jobs.sort_by(|a, b| (a.user, &a.id).cmp(&(b.user, &b.id)));
        payments.sort_by(|a, b| (a.user, &a.id).cmp(&(b.user, &b.id)));
        let (mut keys, mut rows) = (Vec::new(), Vec::new());
        ledger.scan(ledger_end, |offset, text| {
            let glance: Glance<'_> = ledger.parse(text, offset)?;
            keys.push((glance.user, glance.space.as_str(), glance.key.into_owned(), offset));
            rows.extend(glance.rows.first().map(|row| (glance.user, row.seq, offset)));
            Ok(())
        })?;
        keys.sort_unstable();
        rows.sort_unstable();
        let other = ledger.clone();
        let keys = keys.into_iter().map(move |(.., offset)| {
            let line = ledger.line_at(offset)?;
            let used = line.used();
            Ok(DumpRecord::Key(KeyRecord { user: line.user, space: line.space, key: line.key, used }))
        });
        let rows = rows.into_iter().flat_map(move |(.., offset)| match other.line_at(offset) {
            Ok(line) => line.ledger_rows().map(|row| Ok(DumpRecord::Ledger(row))).collect(),
            Err(error) => vec![Err(error)],
        });
        let records = accounts.into_iter().map(DumpRecord::Account);
        let records = records.chain(
            generations
                .into_iter()
                .map(|(user, generation)| DumpRecord::Generation(GenerationRecord::new(user, &generation))),
        );
        let records = records.chain(holds.into_iter().map(|hold| DumpRecord::Hold((*hold).clone())));
        let records = records.chain(jobs.into_iter().map(|job| DumpRecord::Job(JobRecord::from((*job).clone()))));
        let payments =
            payments.into_iter().map(|payment| Ok(DumpRecord::Payment(PaymentRecord::from((*payment).clone()))));
        Ok(Box::new(records.map(Ok).chain(keys).chain(rows).chain(payments)))
    }
}

/// Loads a dump's records into an empty store. Either the checkpoint that ends it is in place, or nothing is.
pub(crate) fn restore(shared: &Shared, applier: &mut Applier, records: Vec<DumpRecord>) -> Result<()> {
    if let Some(refusal) = shared.read_only() {
        return Err(refusal);
    }
    let before = {
        let state = shared.state();
        if !state.accounts.is_empty() || state.position.ledger > 0 {
            let reason = format!("it holds {} users; restore into an empty directory", state.accounts.len());
            return Err(Error::conflict("store", shared.dir.path().display(), reason));
        }
        state.position
    };
    let (mut state, lines) = build(records)?;
    let mut bytes = Vec::new();
    for mut line in lines {
        let offset = bytes.len() as u64;
        line.prev = state.account(line.user).and_then(|account| account.last).filter(|_| !line.rows.is_empty());
        line.write(&mut bytes)?;
        let (key, last_row) = (line.key.to_string(), line.rows.last().map(|row| row.seq));
        state.mark_line(&LineMark { user: line.user, space: line.space, key, offset, last_row });
    }
    write_all_at(&shared.ledger.file, &bytes, 0)
        .map_err(|(error, _)| io_error(error, "cannot write", &shared.dir.join(LEDGER)))?;
    state.position = before;
    // None of this is in a journal: a handle that follows must see a gap, and read the files.
    state.position.seq += 1;
    state.position.ledger = bytes.len() as u64;
    // Until the checkpoint is in place the manifest says that the ledger is empty, so a crash leaves an empty store; and
    // nobody reads a record before it is durable.
    let frozen = state.keys.freeze();
    let _staging = unpoisoned(shared.checkpoint.staging.lock());
    let written = crate::checkpoint::write_live(shared, &applier.manifest, &state, &frozen, &FileSet::all())
        .map_err(|error| error.unknown(None))?;
    *unpoisoned(shared.state.write()) = state;
    crate::writer::enter_generation(shared, applier, written).map_err(|error| error.unknown(None))
}

/// Builds maps and ledger lines; the lines come by user, those with rows in the order of their rows.
fn build(records: Vec<DumpRecord>) -> Result<(State, Vec<Line>)> {
    let mut state = State::default();
    let mut rows: BTreeMap<(UserId, OperationKey), Vec<LedgerRow>> = BTreeMap::new();
    let mut keys = Vec::new();
    for record in records {
        match record {
            DumpRecord::Account(record) => state.put_account(record),
            DumpRecord::Generation(record) => {
                let (user, generation) = record.into_generation();
                state.put_generation(user, Arc::new(generation));
            }
            DumpRecord::Hold(hold) => state.put_hold(Arc::new(hold)),
            DumpRecord::Job(job) => state.put_job(Arc::new(Job::from(job))),
            DumpRecord::Payment(payment) => state.put_payment(Arc::new(Payment::from(payment))),
            DumpRecord::Key(key) => keys.push(key),
            DumpRecord::Ledger(row) => rows.entry((row.user, row.key.clone())).or_default().push(row),
        }
    }
    let mut lines = Vec::with_capacity(keys.len());
    for KeyRecord { user, space, key, used } in keys {
        let mine = if space == KeySpace::Operation { rows.remove(&(user, key.clone())) } else { None };
        let rows = mine.unwrap_or_default().into_iter().map(kept).collect();
        let (operation, arguments, answer) = (used.operation, used.arguments, used.answer);
        lines.push(Line { user, space, key, operation, arguments, answer, rows, prev: None });
    }
    if let Some(((user, key), _)) = rows.into_iter().next() {
        let place = Place::new("dump").key(format!("{user}/{key}"));
        return Err(Error::corrupt(place, "a ledger row's key has no receipt"));
    }
    // A user's rows in their order; whatever has none, before them.
    lines.sort_by_key(|line: &Line| (line.user, line.rows.first().map(|row| row.seq)));
    Ok((state, lines))
}

fn kept(row: LedgerRow) -> Row {
    let LedgerRow {
        user: _,
        seq,
        operation: _,
        kind,
        balance_change,
        held_change,
        balance_after,
        held_after,
        key: _,
        reference,
        reason,
        actor,
        at,
    } = row;
    Row { seq, kind, balance_change, held_change, balance_after, held_after, reference, reason, actor, at }
}
