//! The store as a whole: ping, close, dump, restore, import.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use storage_core::dump::DumpSource;
use storage_core::kernel::Call;
use storage_core::{
    BackendInfo, Destination, DumpSummary, Error, ErrorKind, HeapSize as _, ImportOutcome, ImportRecord, Result, Store,
};
use tokio::io::AsyncWrite;
use tokio::sync::oneshot;

use crate::checkpoint::{Extent, checkpoint};
use crate::engine::{JsonStorage, Shared, unpoisoned};
use crate::follow::catch_up;
use crate::locks::LockFile;
use crate::moved;
use crate::options::JsonOptions;
use crate::presence::Company;
use crate::queue::Work;
use crate::writer::locked;

/// How many imported records are decided in one batch.
const IMPORT_BATCH: u64 = 256;

#[async_trait]
impl Store for JsonStorage {
    async fn ping(&self) -> Result<()> {
        // Through the queue and the locks, and onto the disk: what a write needs is there.
        self.shared.check_open().map_err(|error| error.in_operation("ping"))?;
        let probed = self.control_in_time(|shared, lock| {
            locked(shared, lock, |shared| {
                catch_up(shared, &mut shared.applier())?;
                shared.read_only().map_or(Ok(()), Err)?;
                shared.dir.probe()
            })
        });
        probed.await.map_err(|error| error.in_operation("ping"))
    }

    fn backend(&self) -> BackendInfo {
        let options = &self.shared.options;
        let mut warnings = unpoisoned(self.shared.warnings.lock()).clone();
        warnings.extend(self.shared.read_only().map(|error| error.to_string()));
        BackendInfo {
            name: "json".to_owned(),
            reason: options.reason.clone(),
            location: options.dir.display().to_string(),
            warnings,
        }
    }

    async fn close(&self) -> Result<()> {
        let mut closing = self.shared.closing.lock().await;
        if let Some(outcome) = &*closing {
            return outcome.clone();
        }
        self.shared.closed.store(true, Ordering::Release);
        let outcome = self.closed_in_time().await.map_err(|error| error.in_operation("close"));
        *closing = Some(outcome.clone());
        outcome
    }

    async fn dump(&self, out: &mut (dyn AsyncWrite + Send + Unpin)) -> Result<DumpSummary> {
        self.dump_into(out).await.map_err(|error| error.in_operation("dump"))
    }

    async fn restore(&self, from: &mut dyn DumpSource) -> Result<DumpSummary> {
        self.restore_from(from).await.map_err(|error| error.in_operation("restore"))
    }

    async fn moved_to(&self) -> Result<Option<Destination>> {
        self.mark().await.map_err(|error| error.in_operation("moved_to"))
    }

    async fn mark_moved(&self, to: Destination) -> Result<()> {
        self.remark(moved::Mark::Set(to)).await.map_err(|error| error.in_operation("mark_moved"))
    }

    async fn lift_moved(&self, to: Destination) -> Result<()> {
        self.remark(moved::Mark::Lift(to)).await.map_err(|error| error.in_operation("lift_moved"))
    }

    async fn import_records(&self, records: Vec<ImportRecord>) -> Result<Vec<ImportOutcome>> {
        self.shared.check_open().map_err(|error| error.in_operation("import_records"))?;
        let mut outcomes = Vec::with_capacity(records.len());
        let mut records = records.into_iter().peekable();
        while records.peek().is_some() {
            // Each record is an operation of its own, but many share a batch and its sync.
            let some = import_batch(&mut records, &self.shared.options);
            // A refusal of one record never stops the others.
            let puts = some.into_iter().map(|record| self.apply(Call::Import(record)));
            for outcome in join_all(puts.collect()).await {
                outcomes.push(outcome?);
            }
        }
        Ok(outcomes)
    }
}

/// The next records that go in together. An import alone never fills the queue.
fn import_batch(
    records: &mut std::iter::Peekable<impl Iterator<Item = ImportRecord>>,
    options: &JsonOptions,
) -> Vec<ImportRecord> {
    let most = (options.queue_calls / 2).clamp(1, IMPORT_BATCH);
    let (mut some, mut bytes) = (Vec::new(), 0);
    while (some.len() as u64) < most {
        let next = records.next_if(|record| {
            bytes += record.heap_size() as u64;
            some.is_empty() || bytes <= options.queue_bytes / 2
        });
        match next {
            Some(record) => some.push(record),
            None => break,
        }
    }
    some
}

/// Runs futures side by side and gives their answers in order.
pub(crate) async fn join_all<T: Send>(futures: Vec<impl Future<Output = Result<T>> + Send>) -> Vec<Result<T>> {
    use std::task::Poll;
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut answers: Vec<Option<Result<T>>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        let mut all = true;
        for (future, answer) in futures.iter_mut().zip(&mut answers) {
            if answer.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(ready) => *answer = Some(ready),
                    Poll::Pending => all = false,
                }
            }
        }
        if all { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    answers.into_iter().flatten().collect()
}

/// Finishes the handle; the last one leaves the files complete and the journal empty. Whoever is not the last stops no writer.
fn close(shared: &Arc<Shared>, lock: &mut LockFile) -> Result<()> {
    shared.checkpoint.cancelled.store(true, Ordering::Release);
    // A checkpoint that goes on stops at its next step, and none begins; after this it touches no file any more.
    drop(unpoisoned(shared.checkpoint.staging.lock()));
    // What is not the store any more is not this handle's to finish.
    let company = if shared.prove_place().is_ok() {
        match &mut *unpoisoned(shared.presence.lock()) {
            Some(presence) => presence.leave(shared.options.lock_wait),
            None => return Ok(()),
        }
    } else {
        Ok(Company::Beside)
    };
    // After a failed sync nothing is lost by leaving the recovery to the next opening.
    let outcome = match company {
        Ok(Company::Alone) if shared.read_only().is_none() => locked(shared, lock, |shared| {
            let mut applier = shared.applier();
            catch_up(shared, &mut applier)?;
            checkpoint(shared, &mut applier, Extent::Changed)
        }),
        other => other.map(|_| ()),
    };
    if let Some(mut presence) = unpoisoned(shared.presence.lock()).take() {
        presence.release();
    }
    outcome
}

impl JsonStorage {
    /// How long is waited for a step that may write whole files: for the deadline, or a minute where that is longer.
    fn patience(&self) -> Duration {
        self.shared.options.deadline.max(Duration::from_mins(1))
    }

    /// Runs a step on the writer thread, and stops waiting for it in time.
    pub(crate) async fn control_in_time<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Arc<Shared>, &mut LockFile) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.control_within(self.patience(), step).await
    }

    /// Closes on the writer thread. However long that takes nobody takes it back: what the files lack until then and the
    /// presence in the directory are given up when it comes to it.
    async fn closed_in_time(&self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.shared.queue.push(Work::Control(Box::new(move |shared, lock| {
            let _ = reply.send(close(shared, lock));
        })));
        let waited = self.patience();
        match tokio::time::timeout(waited, answer).await {
            Ok(answer) => answer.map_err(|_| Error::closed())?,
            Err(_) => Err(Error::new(ErrorKind::Busy { waited }).unknown(None)),
        }
    }
}
