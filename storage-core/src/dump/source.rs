//! A dump that can be read twice: once to prove it whole, before anything is written, and once for its records.

use std::io::SeekFrom;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncSeek, AsyncSeekExt as _};

use super::{DumpHeader, DumpReader, DumpRecord, DumpSummary, MAX_DUMP_LINE};
use crate::{Error, ErrorKind, Place, Policy, Result, UserId};

/// What a dump is read from. It begins where it stands when it is handed over; whoever has a pipe spools it first.
///
/// Implemented for everything that can be read in lines and sought in: a buffered file, a cursor over bytes.
pub trait DumpSource: AsyncBufRead + AsyncSeek + Send + Unpin {}

impl<T: AsyncBufRead + AsyncSeek + Send + Unpin + ?Sized> DumpSource for T {}

fn unreadable(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable).message("the dump cannot be read").caused_by(error)
}

/// Lines of a source, one at a time.
#[derive(Debug, Default)]
struct Lines {
    line: Vec<u8>,
    /// How many bytes were read so far.
    read: u64,
}

impl Lines {
    /// The next line with its newline; none at the end.
    async fn next(&mut self, source: &mut dyn DumpSource) -> Result<Option<&[u8]>> {
        self.line.clear();
        // One byte more tells a line that is too long from one that is not.
        let mut limited = source.take(MAX_DUMP_LINE as u64 + 1);
        let count = limited.read_until(b'\n', &mut self.line).await.map_err(unreadable)?;
        self.read += count as u64;
        Ok((count > 0).then_some(&self.line))
    }
}

/// A dump's records, one after the other, as they are read for the first time: only the end proves it whole.
pub struct DumpStream<'s> {
    source: &'s mut dyn DumpSource,
    reader: DumpReader,
    lines: Lines,
}

impl std::fmt::Debug for DumpStream<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DumpStream").field("header", &self.reader.header()).finish_non_exhaustive()
    }
}

impl<'s> DumpStream<'s> {
    /// Begins where the source stands.
    pub fn new(source: &'s mut dyn DumpSource) -> Self {
        Self::read_by(source, DumpReader::new())
    }
    fn read_by(source: &'s mut dyn DumpSource, reader: DumpReader) -> Self {
        Self { source, reader, lines: Lines::default() }
    }
    /// The next record; `None` behind the last one, and then the footer was read and fits.
    ///
    /// # Errors
    /// Those of [`DumpReader::line`]; `Unavailable` when the source cannot be read.
    pub async fn next(&mut self) -> Result<Option<DumpRecord>> {
        while let Some(line) = self.lines.next(self.source).await? {
            match self.reader.line(line) {
                Ok(Some(record)) => return Ok(Some(record)),
                Ok(None) => {}
                Err(error) => return Err(self.named(error).await),
            }
        }
        self.reader.ended().map(|()| None)
    }
    /// Where two records contradict each other, the error with the names of both: the earlier one is read again.
    async fn named(&mut self, error: Error) -> Error {
        let Some(objection) = self.reader.take_objection() else { return error };
        let Some(wanted) = objection.unnamed() else { return error };
        match self.record_of(wanted).await {
            Some(record) => objection.naming(&record),
            None => error,
        }
    }
    /// The record of a line that was read before. Nothing is read behind it any more.
    async fn record_of(&mut self, wanted: u64) -> Option<DumpRecord> {
        let back = i64::try_from(self.lines.read).ok()?;
        self.source.seek(SeekFrom::Current(-back)).await.ok()?;
        let mut lines = Lines::default();
        for _ in 1..wanted {
            lines.next(self.source).await.ok()??;
        }
        serde_json::from_slice(lines.next(self.source).await.ok()??).ok()
    }
    /// How long the last line was, in bytes.
    pub fn line_bytes(&self) -> usize {
        self.lines.line.len()
    }
    /// The header, once something was read.
    pub fn header(&self) -> Option<&DumpHeader> {
        self.reader.header()
    }
    /// Proves that a store of this policy can hold what the dump holds, once something was read.
    ///
    /// # Errors
    /// Those of [`DumpHeader::check_policy`].
    pub fn check_policy(&self, policy: &Policy) -> Result<()> {
        self.header().map_or(Ok(()), |header| header.check_policy(policy))
    }
    /// What was read, when the footer came.
    ///
    /// # Errors
    /// `Corrupt` when it did not.
    pub fn finish(self) -> Result<(DumpHeader, DumpSummary)> {
        self.reader.finish()
    }
}

/// A dump that was read to its end and is whole; its records come by [`ProvedDump::next`].
#[derive(Debug)]
pub struct ProvedDump<'s> {
    proved: DumpReader,
    again: DumpStream<'s>,
}

impl<'s> ProvedDump<'s> {
    /// Reads a dump to its end and proves it whole; then stands at its beginning.
    ///
    /// # Errors
    /// Those of [`DumpStream::next`].
    pub async fn prove(source: &'s mut dyn DumpSource) -> Result<Self> {
        let begin = source.stream_position().await.map_err(unreadable)?;
        let mut stream = DumpStream::new(source);
        while stream.next().await?.is_some() {}
        let DumpStream { source, reader: proved, .. } = stream;
        source.seek(SeekFrom::Start(begin)).await.map_err(unreadable)?;
        Ok(Self { proved, again: DumpStream::read_by(source, DumpReader::again()) })
    }
    /// Its header.
    pub fn header(&self) -> Option<&DumpHeader> {
        self.proved.header()
    }
    /// Its footer.
    pub fn summary(&self) -> &DumpSummary {
        self.proved.summary()
    }
    /// Proves that a store of this policy can hold what the dump holds.
    ///
    /// # Errors
    /// Those of [`DumpHeader::check_policy`].
    pub fn check_policy(&self, policy: &Policy) -> Result<()> {
        self.header().map_or(Ok(()), |header| header.check_policy(policy))
    }
    /// How long the line of the last record was, in bytes.
    pub fn line_bytes(&self) -> usize {
        self.again.line_bytes()
    }
    /// How many rows a user's ledger has, known before the first of them comes.
    pub fn ledger_rows(&self, user: UserId) -> u64 {
        self.proved.ledger_rows(user)
    }
    /// The next record; `None` behind the last one, and then what was read twice was the same both times.
    ///
    /// # Errors
    /// `Corrupt` when the source is not what it was when it was proved.
    pub async fn next(&mut self) -> Result<Option<DumpRecord>> {
        let record = self.again.next().await?;
        if record.is_some() || self.again.reader.summary() == self.proved.summary() {
            Ok(record)
        } else {
            Err(Error::corrupt(Place::new("dump"), "the dump changed while it was being restored"))
        }
    }
}

impl DumpHeader {
    /// Proves that a store of this policy can hold what the dump holds.
    ///
    /// # Errors
    /// `SchemaMismatch`: zone and retention are fixed when a store is made.
    pub fn check_policy(&self, policy: &Policy) -> Result<()> {
        if self.time_zone == policy.time_zone && self.history == policy.history {
            return Ok(());
        }
        Err(Error::schema(
            format!("a dump with time zone {} and history {}", self.time_zone, self.history),
            format!("time zone {} and history {}", policy.time_zone, policy.history),
            "storage restore with the dump's policy (STORAGE_TIME_ZONE, STORAGE_HISTORY)",
        ))
    }
}
