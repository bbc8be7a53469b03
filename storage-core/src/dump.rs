//! The dump: one versioned JSON line for each record, between a header and a footer that proves it whole.
//!
//! Lines come in the order account, generation, hold, job, key, ledger, payment; within a kind by user
//! (numerically), then by key (bytewise; ledger rows by `seq`). The header holds format and policy and neither
//! backend nor time, so that equal stores give equal bytes. The footer holds the counts, the sums and the SHA-256
//! of every byte before it.

mod judge;
mod reader;
mod record;
mod records;
mod source;
mod writer;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::{HistoryRetention, TimeZone, Total};

pub use reader::DumpReader;
pub use record::DumpRecord;
pub use records::{AccountRecord, GenerationRecord, JobRecord, KeyRecord, KeySpace, PaymentRecord};
pub use source::{DumpSource, DumpStream, ProvedDump};
pub use writer::DumpWriter;

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
        match self.counts.get_mut(record.kind()) {
            Some(count) => *count += 1,
            None => drop(self.counts.insert(record.kind().to_owned(), 1)),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Policy, Result, Timestamp, UserId};

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
