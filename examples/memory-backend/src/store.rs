//! The store as a whole.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use storage_core::dump::{DumpSource, DumpStream, GenerationRecord, JobRecord, KeyRecord, PaymentRecord};
use storage_core::kernel::Call;
use storage_core::{
    BackendInfo, Destination, DumpRecord, DumpSummary, DumpWriter, Error, ImportOutcome, ImportRecord, Result, Store,
};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::MemoryStorage;
use crate::state::State;

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

    async fn restore(&self, from: &mut dyn DumpSource) -> Result<DumpSummary> {
        self.read("restore", |_| Ok(()))?;
        let (mut dump, mut records) = (DumpStream::new(from), Vec::new());
        while let Some(record) = dump.next().await.map_err(|error| error.in_operation("restore"))? {
            records.push(record);
        }
        let (header, summary) = dump.finish().map_err(|error| error.in_operation("restore"))?;
        self.change("restore", |state| {
            header.check_policy(self.policy())?;
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

    async fn moved_to(&self) -> Result<Option<Destination>> {
        self.read("moved_to", |state| Ok(state.moved.clone()))
    }

    async fn mark_moved(&self, to: Destination) -> Result<()> {
        self.remark("mark_moved", None, Some(to))
    }

    async fn lift_moved(&self, to: Destination) -> Result<()> {
        self.remark("lift_moved", Some(&to), None)
    }

    async fn import_records(&self, records: Vec<ImportRecord>) -> Result<Vec<ImportOutcome>> {
        self.judge("import_records", Ok(()))?;
        // One atom for each record.
        records.into_iter().map(|record| self.apply(Call::Import(record))).collect()
    }
}
