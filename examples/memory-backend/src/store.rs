//! The store as a whole.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use storage_core::dump::{GenerationRecord, JobRecord, KeyRecord, MAX_DUMP_LINE, PaymentRecord};
use storage_core::{
    BackendInfo, DumpReader, DumpRecord, DumpSummary, DumpWriter, Error, ImportOutcome, ImportRecord, Place, Result,
    Store,
};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::state::State;
use crate::{MemoryStorage, imports};

/// Every record, in the dump's order.
fn records(state: &State) -> Vec<DumpRecord> {
    let mut records: Vec<DumpRecord> = Vec::new();
    records.extend(state.accounts.values().cloned().map(DumpRecord::Account));
    for (user, entries) in &state.history {
        records.extend(entries.iter().map(|entry| DumpRecord::Generation(GenerationRecord::new(*user, entry))));
    }
    records.extend(state.holds.values().map(|hold| DumpRecord::Hold(Arc::unwrap_or_clone(Arc::clone(hold)))));
    records.extend(state.jobs.values().map(|job| DumpRecord::Job(JobRecord::from(job.as_ref().clone()))));
    for ((user, space, key), known) in &state.keys {
        let record = KeyRecord { user: *user, space: *space, key: key.clone(), used: known.clone() };
        records.push(DumpRecord::Key(record));
    }
    records.extend(state.ledger.values().flatten().map(|row| DumpRecord::Ledger(row.as_ref().clone())));
    let payments = state.payments.values().map(|payment| PaymentRecord::from(payment.as_ref().clone()));
    records.extend(payments.map(DumpRecord::Payment));
    records.sort_by_cached_key(DumpRecord::place);
    records
}

fn put(state: &mut State, record: DumpRecord) {
    match record {
        DumpRecord::Account(account) => drop(state.accounts.insert(account.user, account)),
        DumpRecord::Generation(record) => {
            let (user, generation) = record.into_generation();
            let entries = state.history.entry(user).or_default();
            entries.push(Arc::new(generation));
            entries.sort_by(|one, other| (other.at, &other.id).cmp(&(one.at, &one.id)));
        }
        DumpRecord::Hold(hold) => drop(state.holds.insert((hold.user, hold.name.clone()), Arc::new(hold))),
        DumpRecord::Job(job) => drop(state.jobs.insert(job.id.clone(), Arc::new(job.into()))),
        DumpRecord::Key(KeyRecord { user, space, key, used }) => drop(state.keys.insert((user, space, key), used)),
        DumpRecord::Ledger(row) => state.ledger.entry(row.user).or_default().push(Arc::new(row)),
        DumpRecord::Payment(payment) => drop(state.payments.insert(payment.id.clone(), Arc::new(payment.into()))),
    }
}

fn io_failed(error: std::io::Error) -> Error {
    Error::internal("the dump's stream failed").caused_by(error)
}

/// Reads a whole dump; the footer is checked before anything is used.
async fn read_dump(from: &mut (dyn AsyncBufRead + Send + Unpin)) -> Result<(Vec<DumpRecord>, DumpReader)> {
    let (mut reader, mut records, mut line, mut lines) = (DumpReader::new(), Vec::new(), Vec::new(), 0);
    loop {
        line.clear();
        lines += 1;
        let mut limited = (&mut *from).take(MAX_DUMP_LINE as u64 + 1);
        if limited.read_until(b'\n', &mut line).await.map_err(io_failed)? == 0 {
            return Ok((records, reader));
        }
        if line.len() > MAX_DUMP_LINE {
            return Err(Error::corrupt(Place::new("dump").at(lines, 1), "the line is longer than a dump's may be"));
        }
        records.extend(reader.line(&line)?);
    }
}

#[async_trait]
impl Store for MemoryStorage {
    async fn ping(&self) -> Result<()> {
        self.read("ping", |_| Ok(()))
    }

    fn backend(&self) -> BackendInfo {
        BackendInfo {
            name: "memory".to_owned(),
            reason: "opened directly".to_owned(),
            location: "this process".to_owned(),
            warnings: vec!["nothing outlives the process".to_owned()],
        }
    }

    async fn close(&self) -> Result<()> {
        // Under the lock, so that what began before is finished first.
        let place = self.place.lock();
        self.closed.store(true, Ordering::SeqCst);
        drop(place);
        Ok(())
    }

    async fn dump(&self, out: &mut (dyn AsyncWrite + Send + Unpin)) -> Result<DumpSummary> {
        let records = self.read("dump", |state| Ok(records(state)))?;
        let mut writer = DumpWriter::new(self.policy())?;
        for record in &records {
            writer.record(record)?;
            if writer.waiting() > 64 * 1024 {
                out.write_all(&writer.take()).await.map_err(io_failed)?;
            }
        }
        let (bytes, summary) = writer.finish()?;
        out.write_all(&bytes).await.map_err(io_failed)?;
        out.flush().await.map_err(io_failed)?;
        Ok(summary)
    }

    async fn restore(&self, from: &mut (dyn AsyncBufRead + Send + Unpin)) -> Result<DumpSummary> {
        self.read("restore", |_| Ok(()))?;
        let (records, reader) = read_dump(from).await.map_err(|error| error.in_operation("restore"))?;
        let (header, summary) = reader.finish().map_err(|error| error.in_operation("restore"))?;
        self.write("restore", |state, _| {
            let policy = self.policy();
            if (&header.time_zone, header.history) != (&policy.time_zone, policy.history) {
                return Err(Error::schema(
                    format!("a dump of zone {} that keeps {:?}", header.time_zone, header.history),
                    format!("zone {} and {:?}", policy.time_zone, policy.history),
                    "open the store with the dump's policy",
                ));
            }
            let empty = state.accounts.is_empty() && state.jobs.is_empty() && state.payments.is_empty();
            if !empty {
                return Err(Error::conflict("store", "memory", "it is not empty"));
            }
            for record in records {
                put(state, record);
            }
            Ok(summary)
        })
    }

    async fn import_records(&self, records: Vec<ImportRecord>) -> Result<Vec<ImportOutcome>> {
        self.write("import_records", |state, stamp| {
            records.into_iter().map(|record| imports::put_in(state, record, self.policy(), stamp)).collect()
        })
    }
}
