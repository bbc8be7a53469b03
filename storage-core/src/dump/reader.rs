//! Reading a dump, line by line, and proving it whole.

use sha2::{Digest, Sha256};

use super::judge::{Judge, Objection, Problem, name_of};
use super::record::Order;
use super::{DUMP_FORMAT, DumpHeader, DumpRecord, DumpSummary, Footer, MAX_DUMP_LINE, hex};
use crate::{Error, Place, Result, UserId};

/// Reads a dump line by line, proves it whole, and judges its records by each other.
///
/// Memory: about 50 bytes for each user, 4 for each used key, and 30 for each id that is unique in a store.
#[derive(Debug, Default)]
pub struct DumpReader {
    line: u64,
    header: Option<DumpHeader>,
    digest: Sha256,
    summary: DumpSummary,
    order: Order,
    /// None when the dump was judged before.
    judge: Option<Judge>,
    /// What the judge said of the last line, for whoever can read other lines again.
    objection: Option<Objection>,
    ended: bool,
}

impl DumpReader {
    /// Expects the header first.
    pub fn new() -> Self {
        Self { judge: Some(Judge::default()), ..Self::default() }
    }
    /// For a dump that was judged before.
    pub(super) fn again() -> Self {
        Self::default()
    }
    /// What the judge said of the last line.
    pub(super) fn take_objection(&mut self) -> Option<Objection> {
        self.objection.take()
    }
    /// The header, once its line was read.
    pub fn header(&self) -> Option<&DumpHeader> {
        self.header.as_ref()
    }
    /// What the lines read so far add up to.
    pub fn summary(&self) -> &DumpSummary {
        &self.summary
    }
    /// How many rows a user's ledger has, as far as it was read.
    pub fn ledger_rows(&self, user: UserId) -> u64 {
        self.judge.as_ref().map_or(0, |judge| judge.ledger_rows(user))
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
    /// `Corrupt` naming line and column, also for a value over its limit and for records that contradict each other: an id
    /// that stands twice, a record of a user who has no account, referrers in a circle, sums that do not fit.
    /// `SchemaMismatch` for a newer format.
    pub fn line(&mut self, line: &[u8]) -> Result<Option<DumpRecord>> {
        self.line += 1;
        if line.len() > MAX_DUMP_LINE {
            return Err(self.damaged(1, "the line is longer than a dump's may be"));
        }
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
            let judged = self.judge.as_mut().map_or(Ok(()), Judge::finish);
            self.objected(judged)?;
            self.ended = true;
            return Ok(None);
        }
        let record: DumpRecord = self.parse(text)?;
        if !self.order.follows(&record) {
            return Err(self.damaged(1, format!("the record {:?} is out of order", record.place())));
        }
        record.check().map_err(|error| self.damaged(1, "the record breaks a rule").caused_by(error))?;
        let judged = self.judge.as_mut().map_or(Ok(()), |judge| judge.record(self.line, &record));
        self.objected(judged)?;
        self.summary.add(&record);
        self.digest.update(line);
        Ok(Some(record))
    }
    /// The error of an objection, with the number of another line where its record has to be read again to be named.
    fn objected(&mut self, judged: std::result::Result<(), Objection>) -> Result<()> {
        let Err(objection) = judged else { return Ok(()) };
        let problem = match &objection.problem {
            Problem::Said(text) => text.clone(),
            Problem::Same { text, other } => format!("{text} as the record in line {other}"),
            Problem::Of(text) => format!("the record {text}"),
        };
        let error = contradicts(objection.line, problem);
        self.objection = Some(objection);
        Err(error)
    }
    /// Proves that the footer came.
    pub fn finish(self) -> Result<(DumpHeader, DumpSummary)> {
        self.ended()?;
        match self.header {
            Some(header) => Ok((header, self.summary)),
            None => Err(Error::internal("a dump ended before it began")),
        }
    }
    /// Proves that the footer came.
    pub(super) fn ended(&self) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        Err(Error::corrupt(Place::new("dump").at(self.line + 1, 1), "the footer is missing: the dump was cut"))
    }
}

/// The error of records that contradict each other.
fn contradicts(line: u64, problem: String) -> Error {
    Error::corrupt(Place::new("dump").at(line, 1), problem)
}

impl Objection {
    /// The line whose record has to be read again for the objection to name it.
    pub(super) fn unnamed(&self) -> Option<u64> {
        match self.problem {
            Problem::Said(_) => None,
            Problem::Same { other, .. } => Some(other),
            Problem::Of(_) => Some(self.line),
        }
    }
    /// The error, with the name of the record in the line that was read again.
    pub(super) fn naming(self, record: &DumpRecord) -> Error {
        let name = name_of(record);
        let problem = match self.problem {
            Problem::Said(text) => text,
            Problem::Same { text, other } => format!("{text} as {name} in line {other}"),
            Problem::Of(text) => format!("{name} {text}"),
        };
        contradicts(self.line, problem)
    }
}
