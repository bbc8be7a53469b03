//! The ledger and its receipts: `ledger.jsonl`, append-only, one line for each operation that used a key up.
//!
//! A line holds the receipt and the ledger rows of one operation, and where the user's previous line with rows stands,
//! so that a statement is read backwards without an index. Memory holds 16 bytes for each line (24 to 39 with the
//! table's slack): a hash of user, space and key, and the line's offset. A hit is always confirmed by the line itself.
//!
//! Lines are written before the journal record that makes them valid, and synced at the checkpoint that drops that
//! record. Offsets are absolute and stand in the record, so that writing a line again changes nothing.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use storage_core::{
    Actor, Answer, Error, Fingerprint, KeySpace, LedgerRow, Money, Note, OperationId, OperationKey, OperationKind,
    Place, Reference, Result, SignedMoney, Timestamp, UsedKey, UserId,
};

use crate::files::{Dir, io_error, read_at};
use crate::line;

pub(crate) const LEDGER: &str = "ledger.jsonl";

/// The longest line: a memo of two notes of 8 KiB, escaped byte by byte, for each of two rows.
const MAX_LINE: usize = 512 * 1024;

/// A ledger row, less what it shares with its line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) seq: u64,
    pub(crate) kind: OperationKind,
    pub(crate) balance_change: SignedMoney,
    pub(crate) held_change: SignedMoney,
    pub(crate) balance_after: Money,
    pub(crate) held_after: Money,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reference: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<Note>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) actor: Option<Actor>,
    pub(crate) at: Timestamp,
}

/// One operation: its key, its receipt, its rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) user: UserId,
    pub(crate) space: KeySpace,
    pub(crate) key: OperationKey,
    pub(crate) operation: OperationId,
    pub(crate) arguments: Fingerprint,
    pub(crate) answer: Answer,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) rows: Vec<Row>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) prev: Option<u64>,
}

impl Line {
    pub(crate) fn used(&self) -> UsedKey {
        UsedKey { arguments: self.arguments, operation: self.operation, answer: self.answer.clone() }
    }
    pub(crate) fn is(&self, user: UserId, space: KeySpace, key: &OperationKey) -> bool {
        self.user == user && self.space == space && self.key == *key
    }
    /// The rows as the contract shows them, oldest first.
    pub(crate) fn ledger_rows(&self) -> impl DoubleEndedIterator<Item = LedgerRow> + '_ {
        self.rows.iter().cloned().map(|row| {
            let Row { seq, kind, balance_change, held_change, balance_after, held_after, reference, reason, actor, at } =
                row;
            LedgerRow {
                user: self.user,
                seq,
                operation: self.operation,
                kind,
                balance_change,
                held_change,
                balance_after,
                held_after,
                key: self.key.clone(),
                reference,
                reason,
                actor,
                at,
            }
        })
    }
    /// Appends the line's text, checksum and newline included.
    pub(crate) fn write(&self, buffer: &mut Vec<u8>) -> Result<()> {
        let start = buffer.len();
        line::json(buffer, self)?;
        buffer.pop();
        line::seal(buffer, start);
        Ok(())
    }
}

/// A hasher for what is a hash already.
#[derive(Default)]
pub(crate) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Where each used key's line stands.
#[derive(Debug, Default)]
pub(crate) struct KeyIndex {
    offsets: HashMap<u64, u64, BuildHasherDefault<AsIs>>,
}

fn hash(user: UserId, space: KeySpace, key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (user.get(), space as u8, key).hash(&mut hasher);
    hasher.finish()
}

impl KeyIndex {
    /// Notes a line. The same line again changes nothing; a stranger with the same hash moves to the next slot.
    pub(crate) fn insert(&mut self, user: UserId, space: KeySpace, key: &str, offset: u64) {
        let mut slot = hash(user, space, key);
        while let Some(present) = self.offsets.get(&slot) {
            if *present == offset {
                return;
            }
            slot = slot.wrapping_add(1);
        }
        self.offsets.insert(slot, offset);
    }
    /// Finds a key's line, reading the file only on a hit.
    pub(crate) fn find(
        &self,
        ledger: &Ledger,
        user: UserId,
        space: KeySpace,
        key: &OperationKey,
    ) -> Result<Option<Line>> {
        let mut slot = hash(user, space, key.as_str());
        while let Some(offset) = self.offsets.get(&slot) {
            let line = ledger.line_at(*offset)?;
            if line.is(user, space, key) {
                return Ok(Some(line));
            }
            slot = slot.wrapping_add(1);
        }
        Ok(None)
    }
}

/// The open ledger file.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    pub(crate) file: Arc<File>,
    path: PathBuf,
}

/// What opening a store needs of a line.
#[derive(Deserialize)]
pub(crate) struct Glance<'a> {
    pub(crate) user: UserId,
    pub(crate) space: KeySpace,
    #[serde(borrow)]
    pub(crate) key: std::borrow::Cow<'a, str>,
    #[serde(default)]
    pub(crate) rows: Vec<GlanceRow>,
    #[serde(default)]
    pub(crate) prev: Option<u64>,
}

/// What opening a store needs of a row.
#[derive(Deserialize)]
pub(crate) struct GlanceRow {
    pub(crate) seq: u64,
    pub(crate) kind: OperationKind,
    pub(crate) balance_change: SignedMoney,
    pub(crate) balance_after: Money,
    #[serde(default)]
    pub(crate) reference: Option<Reference>,
}

impl Ledger {
    pub(crate) fn open(dir: &Dir) -> Result<Self> {
        Ok(Self { file: Arc::new(dir.open(LEDGER)?), path: dir.join(LEDGER) })
    }

    fn damaged(&self, offset: u64, problem: &'static str) -> Error {
        Error::corrupt(Place::new(self.path.display().to_string()).offset(offset), problem)
    }

    pub(crate) fn length(&self) -> Result<u64> {
        self.file.metadata().map(|meta| meta.len()).map_err(|error| io_error(error, "cannot look at", &self.path))
    }

    /// Reads the line at an offset.
    pub(crate) fn line_at(&self, offset: u64) -> Result<Line> {
        let mut buffer = vec![0; 1024];
        loop {
            let count =
                read_at(&self.file, &mut buffer, offset).map_err(|error| io_error(error, "cannot read", &self.path))?;
            if let Some(end) = buffer[..count].iter().position(|byte| *byte == b'\n') {
                return self.parse(&buffer[..=end], offset);
            }
            if count < buffer.len() || buffer.len() >= MAX_LINE {
                return Err(self.damaged(offset, "no ledger line stands here"));
            }
            buffer.resize((buffer.len() * 8).min(MAX_LINE), 0);
        }
    }

    pub(crate) fn parse<'a, T: Deserialize<'a>>(&self, text: &'a [u8], offset: u64) -> Result<T> {
        if !line::is_whole(text) {
            return Err(self.damaged(offset, "the line's checksum does not fit"));
        }
        serde_json::from_slice(text)
            .map_err(|error| self.damaged(offset, "the line is not what a ledger holds").caused_by(error))
    }

    /// Hands every line up to `end` to `each`, in order, with its offset.
    pub(crate) fn scan(&self, end: u64, mut each: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        let mut buffer = vec![0; 1024 * 1024];
        let (mut start, mut kept) = (0_u64, 0_usize);
        while start < end {
            if kept == buffer.len() {
                return Err(self.damaged(start, "no ledger line stands here"));
            }
            let wanted = usize::try_from(end - start).unwrap_or(usize::MAX).min(buffer.len());
            let count = read_at(&self.file, &mut buffer[kept..wanted], start + kept as u64)
                .map_err(|error| io_error(error, "cannot read", &self.path))?;
            if count == 0 {
                return Err(self.damaged(start, "the ledger ends before the length that the manifest names"));
            }
            let filled = kept + count;
            let mut at = 0;
            while let Some(length) = buffer[at..filled].iter().position(|byte| *byte == b'\n') {
                each(start + at as u64, &buffer[at..=at + length])?;
                at += length + 1;
            }
            buffer.copy_within(at..filled, 0);
            kept = filled - at;
            start += at as u64;
            if at == 0 && kept < buffer.len() && start + kept as u64 == end {
                return Err(self.damaged(start, "the last ledger line does not end"));
            }
        }
        Ok(())
    }
}
