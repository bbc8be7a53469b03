//! The store as a whole.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::queue::Work;
use super::{Serial, Unit, decided, still_here};
use crate::dump::{DumpSource, DumpStream};
use crate::kernel::{Atom, Call, Halt};
use crate::{
    BackendInfo, Destination, DumpRecord, DumpSummary, DumpWriter, Error, ImportOutcome, ImportRecord, Result, Store,
};

/// So many bytes of a dump are written at a time.
const PIECE: usize = 64 * 1024;
/// So many records of a dump wait for the thread at most.
const AHEAD: usize = 256;
/// So many records are imported by one transaction at most.
const AT_ONCE: usize = 256;

fn io_failed(error: std::io::Error) -> Error {
    Error::internal("the dump's stream failed").caused_by(error)
}

/// Puts a dump's records into an empty store. `End` comes once the dump was proved whole; without it nothing stands.
fn lay(unit: &mut dyn Unit, pieces: &mut mpsc::Receiver<Piece>) -> Result<(), Halt> {
    if !unit.is_empty()? {
        return Err(Error::conflict("store", "contents", "it is not empty").into());
    }
    still_here(unit)?;
    loop {
        match pieces.blocking_recv() {
            Some(Piece::Record(record)) => unit.lay(*record).map_err(Halt::Failed)?,
            Some(Piece::End) => return Ok(()),
            None => return Err(Halt::Failed(Error::internal("a restore was given up"))),
        }
    }
}

enum Piece {
    Record(Box<DumpRecord>),
    End,
}

impl Serial {
    /// Puts another mark in the place of `expected`; where something else stands, it is told.
    async fn remark(
        &self,
        operation: &'static str,
        expected: Option<Destination>,
        wanted: Option<Destination>,
    ) -> Result<()> {
        self.judge(operation, Ok(()))?;
        let remark = Work::change(move |unit| {
            let present = unit.moved_to()?;
            if present == wanted {
                return Ok(());
            }
            if present != expected {
                let present = present.map(|mark| mark.to_string()).unwrap_or_default();
                let reason = "the store is marked as moved there; that mark is lifted by this name";
                return Err(Error::conflict("mark", present, reason).into());
            }
            unit.set_moved(wanted.as_ref()).map_err(Halt::Failed)
        });
        self.queue.call(remark, None).await.map_err(|error| error.in_operation(operation))
    }

    /// Imports some records by one transaction, each as an atom of its own.
    async fn import_some(&self, records: impl Iterator<Item = ImportRecord>) -> Result<Vec<ImportOutcome>> {
        let atoms: Vec<_> = records.map(|record| Atom::new(Call::Import(record), &self.environment)).collect();
        let environment = Arc::clone(&self.environment);
        let import = Work::change(move |unit| {
            let mut outcomes = Vec::with_capacity(atoms.len());
            for atom in &atoms {
                let reply = match atom {
                    Ok(atom) => decided(atom, unit, &environment.policy),
                    Err(error) => Err(Halt::Refused(error.clone())),
                };
                outcomes.push(match reply {
                    Ok(reply) => reply.try_into()?,
                    // Those before it have been put.
                    Err(halt) if !outcomes.is_empty() => return Err(Halt::Failed(halt.into_error())),
                    Err(halt) => return Err(halt),
                });
            }
            Ok(outcomes)
        });
        self.queue.call(import, None).await
    }
}

#[async_trait]
impl Store for Serial {
    async fn ping(&self) -> Result<()> {
        self.look("ping", |unit, _| unit.moved_to().map(drop)).await
    }

    fn backend(&self) -> BackendInfo {
        self.info.clone()
    }

    async fn close(&self) -> Result<()> {
        self.queue.close().await;
        Ok(())
    }

    async fn dump(&self, out: &mut (dyn AsyncWrite + Send + Unpin)) -> Result<DumpSummary> {
        // Without a bound: a reader that is slow keeps memory, and no other call waits for it.
        let (pieces, mut written) = mpsc::unbounded_channel();
        let walk = self.look_long("dump", move |unit, policy| {
            let mut writer = DumpWriter::new(policy)?;
            unit.walk(None, &mut |record| {
                writer.record(&record)?;
                if writer.waiting() < PIECE {
                    return Ok(());
                }
                pieces.send(writer.take()).map_err(|_| Error::internal("nobody reads the dump any more"))
            })?;
            let (bytes, summary) = writer.finish()?;
            pieces.send(bytes).map_err(|_| Error::internal("nobody reads the dump any more"))?;
            Ok(summary)
        });
        // It takes the receiver along: where it fails, the walk hears of it.
        let write = async move {
            while let Some(piece) = written.recv().await {
                out.write_all(&piece).await.map_err(io_failed)?;
            }
            out.flush().await.map_err(io_failed)
        };
        let (walked, written) = tokio::join!(walk, write);
        written.map_err(|error| error.in_operation("dump"))?;
        walked
    }

    async fn restore(&self, from: &mut dyn DumpSource) -> Result<DumpSummary> {
        self.judge("restore", Ok(()))?;
        let (pieces, mut received) = mpsc::channel(AHEAD);
        let lay = self.queue.call_alone(Work::change(move |unit| lay(unit, &mut received)));
        let read = async {
            let pieces = pieces;
            let mut dump = DumpStream::new(from);
            while let Some(record) = dump.next().await? {
                // Where the thread has given up, the dump is read on: what is wrong with it is said first.
                let _ = pieces.send(Piece::Record(Box::new(record))).await;
            }
            let (header, summary) = dump.finish()?;
            header.check_policy(&self.environment.policy)?;
            let _ = pieces.send(Piece::End).await;
            Ok(summary)
        };
        let (laid, read) = tokio::join!(lay, read);
        read.and_then(|summary| laid.map(|()| summary)).map_err(|error: Error| error.in_operation("restore"))
    }

    async fn moved_to(&self) -> Result<Option<Destination>> {
        self.look("moved_to", |unit, _| unit.moved_to()).await
    }

    async fn mark_moved(&self, to: Destination) -> Result<()> {
        self.remark("mark_moved", None, Some(to)).await
    }

    async fn lift_moved(&self, to: Destination) -> Result<()> {
        self.remark("lift_moved", Some(to), None).await
    }

    async fn import_records(&self, records: Vec<ImportRecord>) -> Result<Vec<ImportOutcome>> {
        self.judge("import_records", Ok(()))?;
        let (mut outcomes, mut records) = (Vec::with_capacity(records.len()), records.into_iter().peekable());
        while records.peek().is_some() {
            let some = self.import_some(records.by_ref().take(AT_ONCE)).await;
            outcomes.extend(some.map_err(|error| error.in_operation("import_records"))?);
        }
        Ok(outcomes)
    }
}
