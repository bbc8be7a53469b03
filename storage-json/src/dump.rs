//! Dumping the store as it was at one moment, piece by piece, while writing goes on.
//!
//! Memory: 16 bytes for each line of the ledger and 8 for each job and payment, which are what the dump's order needs; and
//! what changes meanwhile, as it was before.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;
use storage_core::dump::{GenerationRecord, JobRecord, KeyRecord, PaymentRecord};
use storage_core::{
    DumpRecord, DumpSummary, DumpWriter, Error, ErrorKind, Generation, Job, Payment, Policy, Result, UserId,
};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::before::{Looked, Records as _, Walk};
use crate::engine::JsonStorage;
use crate::ledger::{Ledger, Line, Window};

/// How many bytes are handed on at once.
const PIECE: usize = 256 * 1024;

/// Writes records and hands them on.
struct Sink {
    writer: DumpWriter,
    pieces: mpsc::Sender<Vec<u8>>,
}

/// What the sink answers when nobody takes the pieces any more.
fn given_up() -> Error {
    Error::new(ErrorKind::Unavailable).message("the dump was given up")
}

impl Sink {
    fn put(&mut self, record: &DumpRecord) -> Result<()> {
        self.writer.record(record)?;
        if self.writer.waiting() < PIECE {
            return Ok(());
        }
        self.pieces.blocking_send(self.writer.take()).map_err(|_| given_up())
    }
    fn finish(self) -> Result<DumpSummary> {
        let (bytes, summary) = self.writer.finish()?;
        self.pieces.blocking_send(bytes).map_err(|_| given_up())?;
        Ok(summary)
    }
}

fn write_all(moment: &Looked, policy: &Policy, pieces: mpsc::Sender<Vec<u8>>) -> Result<DumpSummary> {
    let mut sink = Sink { writer: DumpWriter::new(policy)?, pieces };
    let walk = moment.walk();
    walk.accounts(&mut |account| sink.put(&DumpRecord::Account(account.record.clone())))?;
    generations(&walk, &mut sink)?;
    walk.holds(&mut |hold| sink.put(&DumpRecord::Hold(hold.clone())))?;
    let mut jobs: Vec<Arc<Job>> = Vec::new();
    walk.shared_jobs(&mut |job| {
        jobs.push(Arc::clone(job));
        Ok(())
    })?;
    jobs.sort_unstable_by(|a, b| (a.user, &a.id).cmp(&(b.user, &b.id)));
    for job in jobs {
        sink.put(&DumpRecord::Job(JobRecord::from((*job).clone())))?;
    }
    let lines = Lines::of(&moment.shared.ledger, moment.ledger_end)?;
    lines.keys(&mut sink)?;
    lines.rows(&mut sink)?;
    drop(lines);
    let mut payments: Vec<Arc<Payment>> = Vec::new();
    walk.shared_payments(&mut |payment| {
        payments.push(Arc::clone(payment));
        Ok(())
    })?;
    payments.sort_unstable_by(|a, b| (a.user, &a.id).cmp(&(b.user, &b.id)));
    for payment in payments {
        sink.put(&DumpRecord::Payment(PaymentRecord::from((*payment).clone())))?;
    }
    sink.finish()
}

/// A user's entries stand together, by time; a dump has them by id.
fn generations(walk: &Walk<'_>, sink: &mut Sink) -> Result<()> {
    fn flush(of: UserId, entries: &mut Vec<Generation>, sink: &mut Sink) -> Result<()> {
        entries.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        entries.drain(..).try_for_each(|entry| sink.put(&DumpRecord::Generation(GenerationRecord::new(of, &entry))))
    }
    let (mut of, mut entries) = (None, Vec::new());
    walk.history(&mut |user, generation| {
        if let Some(before) = of.filter(|of| *of != user) {
            flush(before, &mut entries, sink)?;
        }
        of = Some(user);
        entries.push(generation.clone());
        Ok(())
    })?;
    of.map_or(Ok(()), |user| flush(user, &mut entries, sink))
}

/// What is needed of a line to know where it belongs.
#[derive(Deserialize)]
struct Owner {
    user: UserId,
    #[serde(default)]
    rows: Option<IgnoredAny>,
}

/// Where the lines of each user stand, in the order in which they were written, which is that of the rows.
struct Lines<'l> {
    ledger: &'l Ledger,
    /// User, and the offset shifted up by one; the lowest bit tells whether the line has rows.
    places: Vec<(UserId, u64)>,
}

impl<'l> Lines<'l> {
    fn of(ledger: &'l Ledger, end: u64) -> Result<Self> {
        let mut places = Vec::new();
        ledger.scan(0, end, |offset, text| {
            let Owner { user, rows } = ledger.parse(text, offset)?;
            places.push((user, offset << 1 | u64::from(rows.is_some())));
            Ok(())
        })?;
        places.sort_unstable();
        Ok(Self { ledger, places })
    }
    fn keys(&self, sink: &mut Sink) -> Result<()> {
        let mut window = Window::default();
        for of_user in self.places.chunk_by(|(one, _), (other, _)| one == other) {
            let lines: Result<Vec<Line>> =
                of_user.iter().map(|(_, place)| self.ledger.line_in(&mut window, place >> 1)).collect();
            let mut lines = lines?;
            lines.sort_unstable_by(|a, b| (a.space.as_str(), &a.key).cmp(&(b.space.as_str(), &b.key)));
            for line in lines {
                let used = line.used();
                sink.put(&DumpRecord::Key(KeyRecord { user: line.user, space: line.space, key: line.key, used }))?;
            }
        }
        Ok(())
    }
    fn rows(&self, sink: &mut Sink) -> Result<()> {
        let mut window = Window::default();
        for (_, place) in self.places.iter().filter(|(_, place)| place & 1 == 1) {
            let line = self.ledger.line_in(&mut window, place >> 1)?;
            line.ledger_rows().try_for_each(|row| sink.put(&DumpRecord::Ledger(row)))?;
        }
        Ok(())
    }
}

fn failed(error: std::io::Error) -> Error {
    let full = error.kind() == std::io::ErrorKind::StorageFull;
    Error::new(if full { ErrorKind::StorageFull } else { ErrorKind::Unavailable })
        .message("the dump cannot be written")
        .caused_by(error)
}

impl JsonStorage {
    pub(crate) async fn dump_into(&self, out: &mut (dyn AsyncWrite + Send + Unpin)) -> Result<DumpSummary> {
        // Catches up first; what comes between this and the moment is newer still.
        self.read("dump", |_| ()).await?;
        let (pieces, mut written) = mpsc::channel(4);
        let (shared, policy) = (Arc::clone(&self.shared), self.env().policy.clone());
        let walked = tokio::task::spawn_blocking(move || write_all(&Looked::begin(shared), &policy, pieces));
        while let Some(piece) = written.recv().await {
            out.write_all(&piece).await.map_err(failed)?;
        }
        let summary = walked.await.map_err(|error| Error::internal("the dump was interrupted").caused_by(error))??;
        out.flush().await.map_err(failed)?;
        Ok(summary)
    }
}
