//! The dump: one versioned JSON line for each record, between a header and a footer that proves it whole.
//!
//! Lines come in the order account, generation, hold, job, key, ledger, payment; within a kind by user
//! (numerically), then by key (bytewise; ledger rows by `seq`). The header holds format and policy and neither
//! backend nor time, so that equal stores give equal bytes. The footer holds the counts, the sums and the SHA-256
//! of every byte before it.

mod records;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, HistoryRetention, Place, Policy, Result, TimeZone, Total, UserId};

pub use records::{AccountRecord, DumpRecord, GenerationRecord, JobRecord, KeyRecord, KeySpace, PaymentRecord};

/// The version of the dump format that this crate writes and reads.
pub const DUMP_FORMAT: u32 = 1;
/// The longest line that a dump may hold: params of 64 KiB that are escaped byte by byte, 64 URLs, notes.
pub const MAX_DUMP_LINE: usize = 2 * 1024 * 1024;

/// The first line of a dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DumpHeader {
    /// [`DUMP_FORMAT`].
    pub storage_dump: u32,
    /// In which zone a day begins.
    pub time_zone: TimeZone,
    /// How much history is kept.
    pub history: HistoryRetention,
}

/// The last line of a dump, and what `dump` and `restore` answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DumpSummary {
    /// Records by kind.
    pub counts: BTreeMap<String, u64>,
    /// The sum of all balances.
    pub balances: Total,
    /// The sum of all held money.
    pub held: Total,
    /// The sum of all signed balance changes in the ledger.
    pub ledger: Total,
    /// SHA-256 of every byte before the footer, in hexadecimal.
    pub sha256: String,
}

impl DumpSummary {
    /// The number of records of a kind.
    pub fn count(&self, kind: &str) -> u64 {
        self.counts.get(kind).copied().unwrap_or(0)
    }
    fn add(&mut self, record: &DumpRecord) {
        *self.counts.entry(record.kind().to_owned()).or_default() += 1;
        match record {
            DumpRecord::Account(account) => {
                self.balances = self.balances.plus(account.balance);
                self.held = self.held.plus(account.held);
            }
            DumpRecord::Ledger(row) => {
                self.ledger = Total::from_micros(self.ledger.micros() + i128::from(row.balance_change.micros()));
            }
            _ => {}
        }
    }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Footer {
    end: DumpSummary,
}

/// Writes a dump into a buffer that the backend passes on piece by piece.
///
/// Refuses records that come out of order, so that two backends cannot differ unnoticed.
#[derive(Debug)]
pub struct DumpWriter {
    buffer: Vec<u8>,
    hashed: usize,
    digest: Sha256,
    summary: DumpSummary,
    last: Option<(&'static str, UserId, String)>,
}

impl DumpWriter {
    /// Begins with the header.
    pub fn new(policy: &Policy) -> Result<Self> {
        let mut writer =
            Self { buffer: Vec::new(), hashed: 0, digest: Sha256::new(), summary: DumpSummary::default(), last: None };
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
        let place = record.place();
        if self.last.as_ref().is_some_and(|last| *last >= place) {
            return Err(Error::internal(format!("the dump's order is broken at {place:?}")));
        }
        self.last = Some(place);
        self.summary.add(record);
        self.line(record)
    }
    /// Takes the bytes written since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        self.digest.update(&self.buffer[self.hashed..]);
        self.hashed = 0;
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

/// Reads a dump line by line and proves it whole.
#[derive(Debug)]
pub struct DumpReader {
    line: u64,
    header: Option<DumpHeader>,
    digest: Sha256,
    summary: DumpSummary,
    last: Option<(&'static str, UserId, String)>,
    /// Whose account came, ascending: accounts come first, and every other record belongs to one of them.
    users: Vec<UserId>,
    ended: bool,
}

impl Default for DumpReader {
    fn default() -> Self {
        Self::new()
    }
}

impl DumpReader {
    /// Expects the header first.
    pub fn new() -> Self {
        Self {
            line: 0,
            header: None,
            digest: Sha256::new(),
            summary: DumpSummary::default(),
            last: None,
            users: Vec::new(),
            ended: false,
        }
    }
    /// The header, once its line was read.
    pub fn header(&self) -> Option<&DumpHeader> {
        self.header.as_ref()
    }
    fn damaged(&self, column: usize, problem: impl Into<std::borrow::Cow<'static, str>>) -> Error {
        Error::corrupt(Place::new("dump").at(self.line, column as u64), problem)
    }
    fn parse<T: serde::de::DeserializeOwned>(&self, line: &[u8]) -> Result<T> {
        serde_json::from_slice(line)
            .map_err(|error| self.damaged(error.column(), "the line is not what a dump holds there").caused_by(error))
    }
    /// Reads the next line, its newline included. `None` for the header and the footer.
    ///
    /// # Errors
    /// `Corrupt` naming line and column, also for a value over its limit and for a record of a user who has no account;
    /// `SchemaMismatch` for a newer format.
    pub fn line(&mut self, line: &[u8]) -> Result<Option<DumpRecord>> {
        self.line += 1;
        let Some(text) = line.strip_suffix(b"\n") else {
            return Err(self.damaged(line.len() + 1, "the line does not end: the dump was cut"));
        };
        if self.ended {
            return Err(self.damaged(1, "something follows the footer"));
        }
        if self.header.is_none() {
            let header: DumpHeader = self.parse(text)?;
            if header.storage_dump != DUMP_FORMAT {
                return Err(Error::schema(
                    format!("a dump of format {}", header.storage_dump),
                    format!("format {DUMP_FORMAT}"),
                    "storage restore of a version that knows this format",
                ));
            }
            self.header = Some(header);
            self.digest.update(line);
            return Ok(None);
        }
        if text.starts_with(b"{\"end\"") {
            let footer: Footer = self.parse(text)?;
            self.summary.sha256 = hex(&self.digest.finalize_reset());
            if footer.end != self.summary {
                return Err(self.damaged(1, "counts, sums or hash of the footer differ from the lines before it"));
            }
            self.ended = true;
            return Ok(None);
        }
        let record: DumpRecord = self.parse(text)?;
        let place = record.place();
        if self.last.as_ref().is_some_and(|last| *last >= place) {
            return Err(self.damaged(1, format!("the record {place:?} is out of order")));
        }
        self.last = Some(place);
        record.check().map_err(|error| self.damaged(1, "the record breaks a rule").caused_by(error))?;
        if let DumpRecord::Account(account) = &record {
            self.users.push(account.user);
        } else if self.users.binary_search(&record.user()).is_err() {
            return Err(self
                .damaged(1, format!("the {} of user {}, of whom there is no account", record.kind(), record.user())));
        }
        self.summary.add(&record);
        self.digest.update(line);
        Ok(Some(record))
    }
    /// Proves that the footer came.
    pub fn finish(self) -> Result<(DumpHeader, DumpSummary)> {
        match (self.ended, self.header) {
            (true, Some(header)) => Ok((header, self.summary)),
            (_, _) => {
                Err(Error::corrupt(Place::new("dump").at(self.line + 1, 1), "the footer is missing: the dump was cut"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    fn dump_of(users: &[i64]) -> Vec<u8> {
        let mut writer = DumpWriter::new(&Policy::default()).unwrap();
        let mut bytes = Vec::new();
        for user in users {
            let account = AccountRecord::new(UserId::new(*user).unwrap(), Timestamp::MIN);
            writer.record(&DumpRecord::Account(account)).unwrap();
            bytes.append(&mut writer.take());
        }
        bytes.append(&mut writer.finish().unwrap().0);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<DumpSummary> {
        let mut reader = DumpReader::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            reader.line(line)?;
        }
        reader.finish().map(|(_, summary)| summary)
    }

    #[test]
    fn a_dump_reads_back() {
        assert_eq!(read(&dump_of(&[-5, 1, 2, 10])).unwrap().count("account"), 4);
        assert_eq!(read(&dump_of(&[])).unwrap().count("account"), 0);
    }

    #[test]
    fn every_kind_of_record_reads_back() {
        let text = r#"{"record":"ledger","user":1,"seq":1,"operation":"00000000-0000-7000-8000-000000000001","kind":"credit","balance_change":"+1.00","held_change":"+0.00","balance_after":"1.00","held_after":"0.00","key":"k","at":"2026-01-15T10:00:00.000000Z"}"#;
        let row: DumpRecord = serde_json::from_str(text).unwrap();
        assert_eq!(row.kind(), "ledger");
        assert_eq!(serde_json::to_string(&row).unwrap(), text);
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let dump = dump_of(&[1, 2]);
        for at in 0..dump.len() {
            let mut damaged = dump.clone();
            damaged[at] ^= 1;
            assert!(read(&damaged).is_err(), "byte {at}");
        }
        for cut in 0..dump.len() {
            assert!(read(&dump[..cut]).is_err(), "cut at {cut}");
        }
    }
}
