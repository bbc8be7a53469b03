//! Writing a dump.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::record::Order;
use super::{DUMP_FORMAT, DumpHeader, DumpRecord, DumpSummary, Footer, hex};
use crate::{Error, Policy, Result};

/// Writes a dump into a buffer that the backend passes on piece by piece.
///
/// Refuses records that come out of order, so that two backends cannot differ unnoticed.
#[derive(Debug)]
pub struct DumpWriter {
    buffer: Vec<u8>,
    digest: Sha256,
    summary: DumpSummary,
    order: Order,
}

impl DumpWriter {
    /// Begins with the header.
    pub fn new(policy: &Policy) -> Result<Self> {
        let mut writer = Self {
            buffer: Vec::new(),
            digest: Sha256::new(),
            summary: DumpSummary::default(),
            order: Order::default(),
        };
        writer.line(&DumpHeader {
            storage_dump: DUMP_FORMAT,
            time_zone: policy.time_zone.clone(),
            history: policy.history,
        })?;
        Ok(writer)
    }
    fn line(&mut self, value: &impl Serialize) -> Result<()> {
        serde_json::to_writer(&mut self.buffer, value)
            .map_err(|error| Error::internal("a record of the dump could not be serialised").caused_by(error))?;
        self.buffer.push(b'\n');
        Ok(())
    }
    /// Adds a record.
    pub fn record(&mut self, record: &DumpRecord) -> Result<()> {
        if !self.order.follows(record) {
            return Err(Error::internal(format!("the dump's order is broken at {:?}", record.place())));
        }
        self.summary.add(record);
        self.line(record)
    }
    /// Takes the bytes written since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        self.digest.update(&self.buffer);
        std::mem::take(&mut self.buffer)
    }
    /// How many bytes wait to be taken.
    pub fn waiting(&self) -> usize {
        self.buffer.len()
    }
    /// Adds the footer; answers the last bytes and the summary.
    pub fn finish(mut self) -> Result<(Vec<u8>, DumpSummary)> {
        let mut bytes = self.take();
        self.summary.sha256 = hex(&self.digest.finalize_reset());
        let footer = Footer { end: self.summary.clone() };
        self.line(&footer)?;
        bytes.append(&mut self.buffer);
        Ok((bytes, self.summary))
    }
}
