//! Loading a dump into an empty store: the records are taken as they come, and nothing is shown before the last one and
//! the footer were read.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use storage_core::dump::{DumpSource, DumpStream, KeyRecord};
use storage_core::{DumpRecord, DumpSummary, Error, ErrorKind, Job, LedgerRow, Payment, Place, Result};

use crate::disk::{Dir, io_error, read_at, write_all_at};
use crate::engine::{Applier, JsonStorage, Shared, unpoisoned};
use crate::follow::catch_up;
use crate::ledger::{LEDGER, Line, Row};
use crate::state::{FileSet, LineMark, State};
use crate::writer::locked;

/// How long the last step may take, which writes every file.
const PATIENCE: Duration = Duration::from_hours(1);
/// How much is written or copied at a time.
const PIECE: usize = 1024 * 1024;

/// A store that is being put together. Its ledger waits in a file without a name.
struct Loading {
    state: State,
    ledger: File,
    bytes: Vec<u8>,
    written: u64,
    /// In the dump's order; those of a user are made lines together with the user's rows.
    keys: std::iter::Peekable<std::vec::IntoIter<KeyRecord>>,
    read_keys: Vec<KeyRecord>,
    /// The rows of the user that is being read.
    rows: Vec<LedgerRow>,
    path: String,
}

impl Loading {
    fn begin(dir: &Dir) -> Result<Self> {
        Ok(Self {
            state: State::default(),
            ledger: dir.scratch()?,
            bytes: Vec::new(),
            written: 0,
            keys: Vec::new().into_iter().peekable(),
            read_keys: Vec::new(),
            rows: Vec::new(),
            path: dir.path().display().to_string(),
        })
    }

    fn put(&mut self, record: DumpRecord) -> Result<()> {
        match record {
            DumpRecord::Account(record) => self.state.put_account(record),
            DumpRecord::Generation(record) => {
                let (user, generation) = record.into_generation();
                self.state.put_generation(user, Arc::new(generation));
            }
            DumpRecord::Hold(hold) => self.state.put_hold(Arc::new(hold)),
            DumpRecord::Job(job) => self.state.put_job(Arc::new(Job::from(job))),
            DumpRecord::Payment(payment) => {
                self.all_keys_came();
                self.end_user()?;
                self.state.put_payment(Arc::new(Payment::from(payment)));
            }
            DumpRecord::Key(key) => self.read_keys.push(key),
            DumpRecord::Ledger(row) => {
                self.all_keys_came();
                if self.rows.last().is_some_and(|last| last.user != row.user) {
                    self.end_user()?;
                }
                self.rows.push(row);
            }
        }
        Ok(())
    }

    fn all_keys_came(&mut self) {
        if !self.read_keys.is_empty() {
            self.keys = std::mem::take(&mut self.read_keys).into_iter().peekable();
        }
    }

    /// Makes lines of everything up to the user whose rows were read.
    fn end_user(&mut self) -> Result<()> {
        let Some(user) = self.rows.last().map(|row| row.user) else { return Ok(()) };
        let mut lines = Vec::new();
        while let Some(key) = self.keys.next_if(|key| key.user <= user) {
            if key.user == user {
                lines.push(line_of(key));
            } else {
                self.line(line_of(key))?;
            }
        }
        for row in std::mem::take(&mut self.rows) {
            // In order of the keys; of a user with a long ledger each is found by halving.
            let found = lines.binary_search_by(|line| (line.space.as_str(), &line.key).cmp(&(OPERATION, &row.key)));
            let Ok(at) = found else {
                let place = Place::new("dump").key(format!("{user}/{}", row.key));
                return Err(Error::corrupt(place, "a ledger row's key has no receipt"));
            };
            lines[at].rows.push(kept(row));
        }
        // A user's rows in their order; whatever has none, before them.
        lines.sort_by_key(|line| line.rows.first().map(|row| row.seq));
        lines.into_iter().try_for_each(|line| self.line(line))
    }

    /// Adds a line to the ledger.
    fn line(&mut self, mut line: Line) -> Result<()> {
        let offset = self.written + self.bytes.len() as u64;
        line.prev = self.state.account(line.user).and_then(|account| account.last).filter(|_| !line.rows.is_empty());
        line.write(&mut self.bytes)?;
        let (key, last_row) = (line.key.to_string(), line.rows.last().map(|row| row.seq));
        self.state.mark_line(&LineMark { user: line.user, space: line.space, key, offset, last_row });
        if self.bytes.len() >= PIECE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        write_all_at(&self.ledger, &self.bytes, self.written)
            .map_err(|(error, _)| io_error(error, "cannot write into", self.path.as_ref()))?;
        self.written += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<(State, File, u64)> {
        self.all_keys_came();
        self.end_user()?;
        while let Some(key) = self.keys.next() {
            self.line(line_of(key))?;
        }
        self.flush()?;
        Ok((self.state, self.ledger, self.written))
    }
}

const OPERATION: &str = "operation";

fn line_of(key: KeyRecord) -> Line {
    let KeyRecord { user, space, key, used } = key;
    let (operation, arguments, answer) = (used.operation, used.arguments, used.answer);
    Line { user, space, key, operation, arguments, answer, rows: Vec::new(), prev: None }
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

/// Proves that nothing is in the store.
fn check_empty(shared: &Shared) -> Result<()> {
    let state = shared.state();
    if state.accounts.is_empty() && state.position.ledger == 0 {
        return Ok(());
    }
    let reason = format!("it holds {} users; restore into an empty directory", state.accounts.len());
    Err(Error::conflict("store", shared.dir.path().display(), reason))
}

/// Puts a loaded state in place. Either the checkpoint that ends this is there, or nothing is.
fn put_in_place(shared: &Shared, applier: &mut Applier, mut state: State, ledger: &File, length: u64) -> Result<()> {
    if let Some(refusal) = shared.read_only() {
        return Err(refusal);
    }
    if let Some(to) = &applier.manifest.moved_to {
        return Err(Error::new(ErrorKind::Moved { to: to.clone() }));
    }
    check_empty(shared)?;
    let path = shared.dir.join(LEDGER);
    let (mut buffer, mut at) = (vec![0; PIECE], 0);
    while at < length {
        let count = read_at(ledger, &mut buffer, at).map_err(|error| io_error(error, "cannot read", &path))?;
        write_all_at(&shared.ledger.file, &buffer[..count], at)
            .map_err(|(error, _)| io_error(error, "cannot write", &path))?;
        at += count as u64;
    }
    state.position = shared.state().position;
    // None of this is in a journal: a handle that follows must see a gap, and read the files.
    state.position.seq += 1;
    state.position.ledger = length;
    // Until the checkpoint is in place the manifest says that the ledger is empty, so a crash leaves an empty store; and
    // nobody reads a record before it is durable.
    let frozen = state.keys.freeze();
    let _staging = unpoisoned(shared.checkpoint.staging.lock());
    let written = crate::checkpoint::write_live(shared, &applier.manifest, &state, &frozen, &FileSet::all())
        .map_err(|error| error.unknown(None))?;
    shared.replace_state(state);
    crate::follow::enter_generation(shared, applier, written).map_err(|error| error.unknown(None))
}

impl JsonStorage {
    pub(crate) async fn restore_from(&self, from: &mut dyn DumpSource) -> Result<DumpSummary> {
        self.shared.check_open()?;
        let mut dump = DumpStream::new(from);
        let mut loading = Loading::begin(&self.shared.dir)?;
        let mut checked = false;
        while let Some(record) = dump.next().await? {
            if !std::mem::replace(&mut checked, true) {
                // Before the work, as far as it is known by then; what decides comes at the end.
                dump.check_policy(&self.env().policy)?;
                self.read("restore", |_| ()).await?;
                check_empty(&self.shared)?;
            }
            loading.put(record)?;
        }
        dump.check_policy(&self.env().policy)?;
        let (_, summary) = dump.finish()?;
        let (state, ledger, length) = loading.finish()?;
        let step = self.control(move |shared, lock| {
            locked(shared, lock, |shared| {
                let mut applier = shared.applier();
                catch_up(shared, &mut applier)?;
                put_in_place(shared, &mut applier, state, &ledger, length)
            })
        });
        tokio::time::timeout(PATIENCE, step)
            .await
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Busy { waited: PATIENCE }).unknown(None)))?;
        Ok(summary)
    }
}
