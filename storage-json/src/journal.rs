//! The journal: one line for each operation, appended into space that is allocated and zeroed beforehand, so that a
//! sync writes data and no metadata. Beside it `journal.head`, which tells the other processes how far the journal is
//! durable.
//!
//! A line holds absolute values, so that reading it twice changes nothing: its sequence number, that of the first line
//! of the batch it was synced with, the journal's generation, the changes, and the ledger lines with their offset.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use storage_core::{Error, Place, Result};

use crate::disk::{Dir, Identity, io_error, read_at, write_all_at};
use crate::ledger::Glance;
use crate::line;
use crate::state::{Change, LineMark, Position};
use crate::tx::Decided;

/// The space that a new journal starts with; it doubles from there.
const FIRST_SPACE: u64 = 64 * 1024;
/// The most space that is added at a time.
const MOST_SPACE: u64 = 8 * 1024 * 1024;

/// How every line begins.
const LINE_START: &[u8] = b"{\"seq\":";

/// The file name of a journal generation.
pub(crate) fn name(generation: u64) -> String {
    format!("journal-{generation:08}.jsonl")
}

/// The generation that a file name stands for.
pub(crate) fn generation_of(name: &str) -> Option<u64> {
    name.strip_prefix("journal-")?.strip_suffix(".jsonl")?.parse().ok()
}

/// What stands behind the lines that a handle knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    /// Room, or the end of the file.
    Nothing,
    Something,
    /// Not even those lines.
    Cut,
}

/// An open journal file.
#[derive(Debug)]
pub(crate) struct Journal {
    file: Arc<File>,
    path: PathBuf,
    pub(crate) generation: u64,
    allocated: u64,
}

/// One line read back.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) changes: Vec<Change>,
    pub(crate) ledger: u64,
    /// The ledger lines' texts, newlines included.
    pub(crate) lines: Vec<u8>,
    pub(crate) marks: Vec<LineMark>,
    pub(crate) end: Position,
}

/// What was read from a journal.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) records: Vec<Record>,
    /// Where the good lines end.
    pub(crate) end: Position,
    /// Up to where bytes of a batch that was never promised stand behind them.
    pub(crate) garbage: u64,
}

#[derive(Deserialize)]
struct RecordText<'a> {
    set: Vec<Change>,
    at: u64,
    #[serde(borrow)]
    lines: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct RecordGlance {
    seq: u64,
    first: u64,
    #[serde(rename = "gen")]
    generation: u64,
}

/// Appends the text of one operation's line.
pub(crate) fn write_record(buffer: &mut Vec<u8>, position: Position, first: u64, decided: &Decided) -> Result<()> {
    let start = buffer.len();
    let Position { generation, seq, ledger, .. } = position;
    buffer.extend_from_slice(LINE_START);
    line::number(buffer, seq);
    buffer.extend_from_slice(b",\"first\":");
    line::number(buffer, first);
    buffer.extend_from_slice(b",\"gen\":");
    line::number(buffer, generation);
    buffer.extend_from_slice(b",\"set\":");
    let opening = buffer.len();
    // Each after a comma, of which the first becomes the bracket.
    for account in decided.accounts() {
        buffer.extend_from_slice(b",{\"account\":");
        line::json(buffer, account)?;
        buffer.push(b'}');
    }
    for change in &decided.changes {
        buffer.push(b',');
        line::json(buffer, change)?;
    }
    match buffer.get_mut(opening) {
        Some(comma) => *comma = b'[',
        None => buffer.push(b'['),
    }
    buffer.extend_from_slice(b"],\"at\":");
    line::number(buffer, ledger);
    buffer.extend_from_slice(b",\"lines\":[");
    for (n, text) in decided.lines.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if n > 0 {
            buffer.push(b',');
        }
        buffer.extend_from_slice(text.strip_suffix(b"\n").unwrap_or(text));
    }
    buffer.push(b']');
    line::seal(buffer, start);
    Ok(())
}

impl Journal {
    /// Creates an empty journal and syncs it; its name is durable after the directory's sync.
    /// It has room for `room` bytes at least.
    pub(crate) fn create(dir: &Dir, generation: u64, room: u64) -> Result<Self> {
        let name = name(generation);
        // What may stand there was begun by a checkpoint that never finished.
        dir.remove(&name)?;
        let mut journal =
            Self { file: Arc::new(dir.open_file(&name)?), path: dir.join(&name), generation, allocated: 0 };
        // A piece at a time: a sync of all of it would keep the disk from others for long.
        while journal.allocated < room.max(FIRST_SPACE) {
            let upto = room.max(FIRST_SPACE).min(journal.allocated + MOST_SPACE);
            journal.allocate(upto).map_err(|error| io_error(error, "cannot extend", &journal.path))?;
            journal.sync()?;
        }
        Ok(journal)
    }

    pub(crate) fn open(dir: &Dir, generation: u64) -> Result<Option<Self>> {
        let name = name(generation);
        let Some(file) = dir.open_existing(&name)? else { return Ok(None) };
        let path = dir.join(&name);
        let allocated = file.metadata().map_err(|error| io_error(error, "cannot look at", &path))?.len();
        Ok(Some(Self { file: Arc::new(file), path, generation, allocated }))
    }

    /// Opens it to be read alone.
    pub(crate) fn look(dir: &Dir, generation: u64) -> Result<Option<Self>> {
        let name = name(generation);
        let Some(file) = dir.open_to_read(&name)? else { return Ok(None) };
        Ok(Some(Self { file: Arc::new(file), path: dir.join(&name), generation, allocated: 0 }))
    }

    pub(crate) fn identity(&self) -> Result<Identity> {
        Identity::of(&self.file).map_err(|error| io_error(error, "cannot look at", &self.path))
    }
    fn allocate(&mut self, upto: u64) -> io::Result<()> {
        let zeros = vec![0; 64 * 1024];
        while self.allocated < upto {
            write_all_at(&self.file, &zeros, self.allocated).map_err(|(error, _)| error)?;
            self.allocated += zeros.len() as u64;
        }
        Ok(())
    }

    /// Makes sure that `bytes` more fit behind `offset`. Nothing is written over.
    pub(crate) fn reserve(&mut self, offset: u64, bytes: usize) -> Result<()> {
        let end = offset + bytes as u64;
        // Another process may have made room meanwhile, and used it. To the byte: what an interrupted extension left at the
        // end is room too, and zeros over it would be zeros over lines that were promised.
        if end >= self.allocated {
            let length = self.file.metadata().map_err(|error| io_error(error, "cannot look at", &self.path))?.len();
            self.allocated = self.allocated.max(length).max(offset);
        }
        if end < self.allocated {
            return Ok(());
        }
        let more = self.allocated.clamp(FIRST_SPACE, MOST_SPACE);
        let wanted = end + 1 + more;
        match self.allocate(wanted) {
            // Less room than wished for, but enough for this batch.
            Err(_) if end < self.allocated => Ok(()),
            outcome => outcome.map_err(|error| io_error(error, "cannot extend", &self.path)),
        }
    }

    /// Writes at an offset. The error says whether any byte may have gone in.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), (Error, bool)> {
        write_all_at(&self.file, bytes, offset)
            .map_err(|(error, done)| (io_error(error, "cannot write", &self.path), done > 0))
    }

    /// Writes zeros over what must not be read back.
    pub(crate) fn wipe(&self, from: u64, upto: u64) -> Result<()> {
        let zeros = vec![0; usize::try_from(upto.saturating_sub(from)).unwrap_or(0)];
        self.write(from, &zeros).map_err(|(error, _)| error)
    }

    /// Makes what was written durable. An error here is final: the pages are gone, a second try would lie.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|error| io_error(error, "cannot sync", &self.path))
    }

    /// What stands behind an offset up to which lines were read. Read, and not asked of the file system: since Linux 6.13 a file whose
    /// times somebody asked for gets a new one with its next write, and that is a block more to sync.
    pub(crate) fn behind(&self, offset: u64) -> Result<Behind> {
        let mut bytes = [0; 2];
        // The last byte that was read, and the one behind it.
        let known = usize::from(offset > 0);
        let from = offset - known as u64;
        let count = read_at(&self.file, &mut bytes[..=known], from)
            .map_err(|error| io_error(error, "cannot read", &self.path))?;
        Ok(match bytes.get(known..count) {
            None => Behind::Cut,
            Some([0] | []) => Behind::Nothing,
            Some(_) => Behind::Something,
        })
    }

    fn corrupt(&self, offset: u64, problem: &'static str) -> Error {
        let file = self.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Error::corrupt(Place::new(file).offset(offset), problem)
    }

    fn bytes(&self, from: u64, upto: Option<u64>) -> Result<Vec<u8>> {
        let failed = |error| io_error(error, "cannot read", &self.path);
        let length = self.file.metadata().map_err(failed)?.len();
        let upto = upto.unwrap_or(length).min(length);
        let mut bytes = vec![0; usize::try_from(upto.saturating_sub(from)).unwrap_or(0)];
        let count = read_at(&self.file, &mut bytes, from).map_err(failed)?;
        bytes.truncate(count);
        Ok(bytes)
    }

    fn record(&self, text: &[u8], position: Position) -> Result<Record> {
        let damaged = || self.corrupt(position.offset, "the line is not what a journal holds");
        let RecordText { set, at, lines: texts } =
            serde_json::from_slice(text).map_err(|error| damaged().caused_by(error))?;
        // Elsewhere the lines would be written over others, or leave a hole before them.
        if at != position.ledger {
            return Err(self.corrupt(position.offset, "the line does not go on where the ledger ends"));
        }
        let (mut lines, mut marks) = (Vec::new(), Vec::new());
        for raw in texts {
            let offset = at + lines.len() as u64;
            lines.extend_from_slice(raw.get().as_bytes());
            lines.push(b'\n');
            let glance: Glance<'_> = serde_json::from_str(raw.get()).map_err(|error| damaged().caused_by(error))?;
            let last_row = glance.rows.last().map(|row| row.seq);
            let key = glance.key.into_owned();
            marks.push(LineMark { user: glance.user, space: glance.space, key, offset, last_row });
        }
        let ledger = at + lines.len() as u64;
        let end = Position { offset: position.offset + text.len() as u64, seq: position.seq + 1, ledger, ..position };
        Ok(Record { changes: set, ledger: at, lines, marks, end })
    }

    /// Reads the lines from a position to the end, or to `upto`. Another process' batch that never became durable
    /// ends in what is neither a line nor empty; such a rest is told from damage by three marks: it does not lie
    /// before `promised`, no good line of a later batch follows it, and it is the last thing in the file.
    ///
    /// # Errors
    /// `Corrupt` naming the file and the byte; nothing is cut.
    pub(crate) fn read(&self, from: Position, upto: Option<u64>, promised: u64) -> Result<Tail> {
        let bytes = self.bytes(from.offset, upto)?;
        let (mut at, mut end, mut records) = (0, from, Vec::new());
        while let Some(length) = bytes[at..].iter().position(|byte| *byte == b'\n') {
            let text = &bytes[at..=at + length];
            let fits = line::is_whole(text)
                && serde_json::from_slice::<RecordGlance>(text).is_ok_and(|glance| {
                    glance.generation == self.generation && glance.seq == end.seq && glance.first <= end.seq
                });
            if !fits {
                break;
            }
            let record = self.record(text, end)?;
            end = record.end;
            records.push(record);
            at += length + 1;
        }
        let rest = &bytes[at..];
        let garbage = end.offset + rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        if end.offset < promised {
            return Err(self.corrupt(end.offset, "a change that was promised to be durable is damaged or missing here"));
        }
        if garbage > end.offset {
            self.judge_rest(rest, end)?;
        }
        Ok(Tail { records, end, garbage })
    }

    /// Refuses a rest in which a good line of a later batch follows the bad bytes.
    fn judge_rest(&self, rest: &[u8], end: Position) -> Result<()> {
        // Wherever a line may begin, not only behind a newline: the damage may have hit that very newline.
        for start in (0..rest.len()).filter(|start| rest[*start..].starts_with(LINE_START)) {
            let length = rest[start..].iter().position(|byte| *byte == b'\n').map_or(rest.len() - start, |at| at + 1);
            let text = &rest[start..start + length];
            if !line::is_whole(text) {
                continue;
            }
            let later = serde_json::from_slice::<RecordGlance>(text)
                .is_ok_and(|glance| glance.generation == self.generation && glance.first > end.seq);
            if later {
                return Err(self.corrupt(end.offset, "a damaged line is followed by a good one; nothing was cut"));
            }
        }
        Ok(())
    }
}

/// How far the journal is durable, shared by all processes that have the store open.
///
/// Two slots are written in turn, each with a checksum: whoever dies while writing one leaves the other. The file is
/// never synced, and nothing that it says is needed after a power cut.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) file: File,
    path: PathBuf,
}

pub(crate) const HEAD: &str = "journal.head";
const SLOT: usize = 64;

/// What the head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) position: Position,
    /// A sync failed in this generation: nobody writes until a fresh checkpoint.
    pub(crate) dead: bool,
    /// The disk has confirmed everything before the position. Not so under relaxed durability, where a power cut may
    /// take back what the head says.
    pub(crate) durable: bool,
}

impl Head {
    pub(crate) fn open(dir: &Dir) -> Result<Self> {
        Ok(Self { file: dir.open_file(HEAD)?, path: dir.join(HEAD) })
    }

    /// Opens it to be read alone; `None` when there is none.
    pub(crate) fn look(dir: &Dir) -> Result<Option<Self>> {
        Ok(dir.open_to_read(HEAD)?.map(|file| Self { file, path: dir.join(HEAD) }))
    }

    /// Reads the newer of the two slots; `None` when neither is whole.
    pub(crate) fn read(&self) -> Result<Option<Mark>> {
        let mut best = None;
        // A slot that is being written reads as torn for some nanoseconds; one whose writer died stays so.
        for _ in 0..3 {
            let mut slots = [0; 2 * SLOT];
            read_at(&self.file, &mut slots, 0).map_err(|error| io_error(error, "cannot read", &self.path))?;
            let (first, second) = slots.split_at(SLOT);
            let marks = [decode(first), decode(second)];
            best = marks
                .into_iter()
                .flatten()
                .max_by_key(|mark| (mark.position.generation, mark.position.offset, mark.position.seq, mark.dead));
            if marks.iter().all(Option::is_some) {
                break;
            }
            std::hint::spin_loop();
        }
        Ok(best)
    }

    /// Makes both slots say the same, for whoever has the store alone.
    pub(crate) fn reset(&self, mark: Mark) -> Result<()> {
        let slot = encode(mark);
        write_all_at(&self.file, &[slot, slot].concat(), 0)
            .map_err(|(error, _)| io_error(error, "cannot write", &self.path))
    }

    /// Writes the slot that does not hold the present mark. Dead stays dead, whoever writes: only whoever has the store alone
    /// again takes it back. The caller holds the writer lock, or two marks might take the same slot.
    pub(crate) fn write(&self, mark: Mark) -> Result<()> {
        let mut slots = [0; 2 * SLOT];
        read_at(&self.file, &mut slots, 0).map_err(|error| io_error(error, "cannot read", &self.path))?;
        let (first, second) = slots.split_at(SLOT);
        let key =
            |slot: &[u8]| decode(slot).map(|mark| (mark.position.generation, mark.position.offset, mark.position.seq));
        let dead = [first, second].into_iter().filter_map(decode).any(|present| present.dead);
        let slot = encode(Mark { dead: mark.dead || dead, ..mark });
        let older = if key(first) <= key(second) { 0 } else { SLOT };
        write_all_at(&self.file, &slot, older as u64).map_err(|(error, _)| io_error(error, "cannot write", &self.path))
    }
}

fn encode(mark: Mark) -> [u8; SLOT] {
    let Position { generation, offset, seq, ledger } = mark.position;
    let mut slot = [0; SLOT];
    for (n, number) in
        [generation, offset, seq, ledger, u64::from(mark.dead) | u64::from(mark.durable) << 1].into_iter().enumerate()
    {
        slot[8 * n..8 * n + 8].copy_from_slice(&number.to_le_bytes());
    }
    let crc = crc32fast::hash(&slot[..40]) ^ 0xa5a5_5a5a;
    slot[40..44].copy_from_slice(&crc.to_le_bytes());
    slot
}

fn decode(slot: &[u8]) -> Option<Mark> {
    let number = |n: usize| slot.get(8 * n..8 * n + 8)?.try_into().ok().map(u64::from_le_bytes);
    let crc = u32::from_le_bytes(slot.get(40..44)?.try_into().ok()?);
    if crc != crc32fast::hash(slot.get(..40)?) ^ 0xa5a5_5a5a {
        return None;
    }
    let position = Position { generation: number(0)?, offset: number(1)?, seq: number(2)?, ledger: number(3)? };
    let flags = number(4)?;
    Some(Mark { position, dead: flags & 1 == 1, durable: flags & 2 == 2 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_never_made_over_what_another_process_wrote() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::create(temp.path()).unwrap();
        let mut one = Journal::create(&dir, 1, 0).unwrap();
        let end = one.allocated;
        // An extension that a full disk cut short.
        write_all_at(&one.file, &[0; 4096], end).unwrap();
        let mut other = Journal::open(&dir, 1).unwrap().unwrap();
        let line = [b'x'; 200];
        other.reserve(end - 100, line.len()).unwrap();
        other.write(end - 100, &line).unwrap();
        one.reserve(end + 100, 50).unwrap();
        assert_eq!(one.bytes(end - 100, Some(end + 100)).unwrap(), line);
        assert!(one.allocated > end + 150);
    }

    #[test]
    fn dead_stays_dead_until_somebody_has_the_store_alone() {
        let temp = tempfile::tempdir().unwrap();
        let head = Head::open(&Dir::create(temp.path()).unwrap()).unwrap();
        let mark = |generation, offset, dead| Mark {
            position: Position { generation, offset, seq: offset, ledger: 0 },
            dead,
            durable: true,
        };
        head.write(mark(1, 10, false)).unwrap();
        head.write(mark(1, 10, true)).unwrap();
        for (generation, offset) in [(1, 20), (1, 30), (2, 0), (2, 10), (2, 20)] {
            head.write(mark(generation, offset, false)).unwrap();
            assert!(head.read().unwrap().unwrap().dead, "{generation} {offset}");
        }
        head.reset(mark(2, 20, false)).unwrap();
        assert!(!head.read().unwrap().unwrap().dead);
    }
}
