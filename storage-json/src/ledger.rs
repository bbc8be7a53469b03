//! The ledger and its receipts: `ledger.jsonl`, append-only, one line for each operation that used a key up.
//!
//! A line holds the receipt and the ledger rows of one operation, and where the user's previous line with rows stands,
//! so that a statement is read backwards without an index. Memory holds 16 bytes for each line of the last checkpoint
//! (24 to 39 for a newer one): a hash of user, space and key, and the line's offset.
//!
//! Lines are written before the journal record that makes them valid, and synced at the checkpoint that drops that
//! record. Offsets are absolute and stand in the record, so that writing a line again changes nothing.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use storage_core::{
    Actor, Answer, Error, Fingerprint, KeySpace, LedgerRow, Money, Note, OperationId, OperationKey, OperationKind,
    Place, Reference, Result, SignedMoney, Timestamp, UsedKey, UserId,
};

use crate::disk::{Dir, io_error, read_at};
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

impl From<LedgerRow> for Row {
    fn from(row: LedgerRow) -> Self {
        let LedgerRow {
            user: _, seq, operation: _, kind, balance_change, held_change, balance_after, held_after, ..
        } = row;
        let LedgerRow { key: _, reference, reason, actor, at, .. } = row;
        Self { seq, kind, balance_change, held_change, balance_after, held_after, reference, reason, actor, at }
    }
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

/// The open ledger file.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    pub(crate) file: Arc<File>,
    path: PathBuf,
}

/// A piece of the ledger in memory.
#[derive(Debug, Default)]
pub(crate) struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    const NEAR: usize = 4 * 1024;
    const FAR: usize = 256 * 1024;

    /// Where the first line begins that is not whole here.
    fn end(&self) -> u64 {
        let whole = self.bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.start + whole as u64
    }
    fn line(&self, offset: u64) -> Option<&[u8]> {
        let rest = self.bytes.get(usize::try_from(offset.checked_sub(self.start)?).ok()?..)?;
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        rest.get(..=end)
    }
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
        Ok(Self { file: Arc::new(dir.open_file(LEDGER)?), path: dir.join(LEDGER) })
    }

    /// Opens it to be read alone.
    pub(crate) fn look(dir: &Dir) -> Result<Self> {
        let missing = || Error::corrupt(Place::new(LEDGER), "the ledger is missing");
        Ok(Self { file: Arc::new(dir.open_to_read(LEDGER)?.ok_or_else(missing)?), path: dir.join(LEDGER) })
    }

    fn damaged(&self, offset: u64, problem: &'static str) -> Error {
        Error::corrupt(Place::new(self.path.display().to_string()).offset(offset), problem)
    }

    pub(crate) fn length(&self) -> Result<u64> {
        self.file.metadata().map(|meta| meta.len()).map_err(|error| io_error(error, "cannot look at", &self.path))
    }

    /// Continues a checksum over the bytes between two offsets.
    pub(crate) fn checksum(&self, from: u64, upto: u64, before: u32) -> Result<u32> {
        let mut sum = crc32fast::Hasher::new_with_initial(before);
        let mut buffer = vec![0; 256 * 1024];
        let mut at = from;
        while at < upto {
            let wanted = usize::try_from(upto - at).unwrap_or(usize::MAX).min(buffer.len());
            let count = read_at(&self.file, &mut buffer[..wanted], at)
                .map_err(|error| io_error(error, "cannot read", &self.path))?;
            if count == 0 {
                return Err(self.damaged(at, "the ledger ends before the length that the manifest names"));
            }
            sum.update(&buffer[..count]);
            at += count as u64;
        }
        Ok(sum.finalize())
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

    /// Reads the line at an offset, from what was read before where that has it: lines that were written one behind the other
    /// cost one call together.
    pub(crate) fn line_in(&self, window: &mut Window, offset: u64) -> Result<Line> {
        if let Some(text) = window.line(offset) {
            return self.parse(text, offset);
        }
        // What goes on where the window ended will probably go on.
        let ahead = if offset == window.end() { Window::FAR } else { Window::NEAR };
        window.bytes.resize(ahead, 0);
        let count = read_at(&self.file, &mut window.bytes, offset)
            .map_err(|error| io_error(error, "cannot read", &self.path))?;
        window.bytes.truncate(count);
        window.start = offset;
        match window.line(offset) {
            Some(text) => self.parse(text, offset),
            None => {
                *window = Window::default();
                self.line_at(offset)
            }
        }
    }

    pub(crate) fn parse<'a, T: Deserialize<'a>>(&self, text: &'a [u8], offset: u64) -> Result<T> {
        if !line::is_whole(text) {
            return Err(self.damaged(offset, "the line's checksum does not fit"));
        }
        serde_json::from_slice(text)
            .map_err(|error| self.damaged(offset, "the line is not what a ledger holds").caused_by(error))
    }

    /// [`Ledger::checksum`], of lines of which each is whole.
    pub(crate) fn checksum_of_lines(&self, from: u64, upto: u64, before: u32) -> Result<u32> {
        let mut sum = crc32fast::Hasher::new_with_initial(before);
        self.scan(from, upto, |offset, text| {
            if !line::is_whole(text) {
                return Err(self.damaged(offset, "the line's checksum does not fit"));
            }
            sum.update(text);
            Ok(())
        })?;
        Ok(sum.finalize())
    }

    /// Hands every line between two offsets to `each`, in order, with its offset.
    pub(crate) fn scan(&self, from: u64, end: u64, mut each: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        let mut buffer = vec![0; 1024 * 1024];
        let (mut start, mut kept) = (from, 0_usize);
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
