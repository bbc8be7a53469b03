//! Reading a dump, line by line, and proving it whole.

use sha2::{Digest, Sha256};

use super::record::Order;
use super::{DUMP_FORMAT, DumpHeader, DumpRecord, DumpSummary, Footer, MAX_DUMP_LINE, hex};
use crate::{Error, Place, Result, UserId};

/// Reads a dump line by line and proves it whole. Memory: 16 bytes for each user.
#[derive(Debug, Default)]
pub struct DumpReader {
    line: u64,
    header: Option<DumpHeader>,
    digest: Sha256,
    summary: DumpSummary,
    order: Order,
    /// Whose account came, ascending, and how long the ledger is by now: accounts come first, and every other record belongs
    /// to one of them.
    users: Vec<(UserId, u64)>,
    /// Where the last record's user stands among them: within a kind, users ascend.
    at: usize,
    ended: bool,
}

impl DumpReader {
    /// Expects the header first.
    pub fn new() -> Self {
        Self::default()
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
        self.users.binary_search_by_key(&user, |(user, _)| *user).map_or(0, |at| self.users[at].1)
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
            self.ended = true;
            return Ok(None);
        }
        let record: DumpRecord = self.parse(text)?;
        if !self.order.follows(&record) {
            return Err(self.damaged(1, format!("the record {:?} is out of order", record.place())));
        }
        record.check().map_err(|error| self.damaged(1, "the record breaks a rule").caused_by(error))?;
        self.belongs(&record)?;
        self.summary.add(&record);
        self.digest.update(line);
        Ok(Some(record))
    }
    /// Proves that there is an account that the record belongs to.
    fn belongs(&mut self, record: &DumpRecord) -> Result<()> {
        let user = record.user();
        if let DumpRecord::Account(_) = record {
            self.users.push((user, 0));
            return Ok(());
        }
        // A few steps on from the last one, or anywhere when a kind begins.
        let known = |at: usize| self.users.get(at).is_some_and(|(known, _)| *known == user);
        let found = match (self.at..self.at + 4).find(|at| known(*at)) {
            Some(at) => Ok(at),
            None => self.users.binary_search_by_key(&user, |(known, _)| *known),
        };
        let Ok(at) = found else {
            return Err(self.damaged(1, format!("the {} of user {user}, of whom there is no account", record.kind())));
        };
        self.at = at;
        if let DumpRecord::Ledger(row) = record {
            self.users[at].1 = row.seq;
        }
        Ok(())
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
