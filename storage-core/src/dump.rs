//! The dump: one versioned JSON line for each record, between a header and a footer that proves it whole.
//!
//! Lines come in the order account, generation, hold, job, key, ledger, payment; within a kind by user
//! (numerically), then by key (bytewise; ledger rows by `seq`). The header holds format and policy and neither
//! backend nor time, so that equal stores give equal bytes. The footer holds the counts, the sums and the SHA-256
//! of every byte before it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Amount, CivilDate, Error, ErrorMessage, FileId, Fingerprint, Generation, GenerationId, HistoryRetention, Hold, Job,
    JobId, JobStatus, Language, LedgerRow, ModelId, ModelName, Money, Note, OperationKey, Params, Payment, PaymentId,
    PaymentMethod, PaymentOrigin, PaymentStatus, Place, Policy, ProviderKey, Quota, Result, ResultUrls, TaskId,
    TimeZone, Timestamp, Total, UsedKey, UserId,
};

/// The version of the dump format that this crate writes and reads.
pub const DUMP_FORMAT: u32 = 1;
/// The longest line that a dump may hold: params of 64 KiB that are escaped byte by byte, 64 URLs, notes.
pub const MAX_DUMP_LINE: usize = 2 * 1024 * 1024;

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Everything scalar that a store knows of one user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountRecord {
    /// Who.
    pub user: UserId,
    /// When the store first heard of the user.
    pub created_at: Timestamp,
    /// When a field of the user last changed.
    pub updated_at: Timestamp,
    /// What can be spent.
    pub balance: Money,
    /// What is held.
    #[serde(default, skip_serializing_if = "is_default")]
    pub held: Money,
    /// The language chosen.
    #[serde(default, skip_serializing_if = "is_default")]
    pub language: Option<Language>,
    /// Whether the gift was claimed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gift_claimed: bool,
    /// The day that `quota_used` counts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub quota_date: Option<CivilDate>,
    /// Taken from that day's quota.
    #[serde(default, skip_serializing_if = "is_default")]
    pub quota_used: u32,
    /// The bank of free generations.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bank: u64,
    /// The admin limit that was set.
    #[serde(default, skip_serializing_if = "is_default")]
    pub admin_limit: Option<Money>,
    /// The total price of the generations ever recorded.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spent: Total,
    /// Who brought the user.
    #[serde(default, skip_serializing_if = "is_default")]
    pub referrer: Option<UserId>,
    /// When that was stored.
    #[serde(default, skip_serializing_if = "is_default")]
    pub referred_at: Option<Timestamp>,
    /// The bonus that the referrer was granted for it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub referral_bonus: u32,
}

impl AccountRecord {
    /// A user of whom nothing is known but the moment of creation.
    pub fn new(user: UserId, now: Timestamp) -> Self {
        Self {
            user,
            created_at: now,
            updated_at: now,
            balance: Money::ZERO,
            held: Money::ZERO,
            language: None,
            gift_claimed: false,
            quota_date: None,
            quota_used: 0,
            bank: 0,
            admin_limit: None,
            spent: Total::ZERO,
            referrer: None,
            referred_at: None,
            referral_bonus: 0,
        }
    }
    /// The free generations.
    pub fn quota(&self) -> Quota {
        Quota { date: self.quota_date, used: self.quota_used, bank: self.bank }
    }
    /// Replaces the free generations.
    pub fn set_quota(&mut self, quota: Quota) {
        (self.quota_date, self.quota_used, self.bank) = (quota.date, quota.used, quota.bank);
    }
}

/// One entry of a user's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerationRecord {
    /// Whose.
    pub user: UserId,
    /// See [`Generation::id`].
    pub id: GenerationId,
    /// See [`Generation::model_id`].
    pub model_id: ModelId,
    /// See [`Generation::model_name`].
    pub model_name: ModelName,
    /// See [`Generation::params`].
    pub params: Params,
    /// See [`Generation::result_urls`].
    pub result_urls: ResultUrls,
    /// See [`Generation::price`].
    pub price: Money,
    /// See [`Generation::at`].
    pub at: Timestamp,
}

impl GenerationRecord {
    /// A user's history entry as a record.
    pub fn new(user: UserId, generation: &Generation) -> Self {
        let Generation { id, model_id, model_name, params, result_urls, price, at } = generation.clone();
        Self { user, id, model_id, model_name, params, result_urls, price, at }
    }
    /// The history entry, and whose it is.
    pub fn into_generation(self) -> (UserId, Generation) {
        let Self { user, id, model_id, model_name, params, result_urls, price, at } = self;
        (user, Generation { id, model_id, model_name, params, result_urls, price, at })
    }
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobRecord {
    /// See [`Job::user`].
    pub user: UserId,
    /// See [`Job::id`].
    pub id: JobId,
    /// See [`Job::model_id`].
    pub model_id: ModelId,
    /// See [`Job::model_name`].
    pub model_name: ModelName,
    /// See [`Job::params`].
    pub params: Params,
    /// See [`Job::price`].
    pub price: Money,
    /// See [`Job::status`].
    pub status: JobStatus,
    /// See [`Job::external_task_id`].
    pub external_task_id: Option<TaskId>,
    /// See [`Job::result_urls`].
    pub result_urls: ResultUrls,
    /// See [`Job::error_message`].
    pub error_message: Option<ErrorMessage>,
    /// See [`Job::created_at`].
    pub created_at: Timestamp,
    /// See [`Job::updated_at`].
    pub updated_at: Timestamp,
    /// See [`Job::created_with`].
    pub created_with: Fingerprint,
}

impl From<Job> for JobRecord {
    fn from(job: Job) -> Self {
        let Job {
            id,
            user,
            model_id,
            model_name,
            params,
            price,
            status,
            external_task_id,
            result_urls,
            error_message,
            created_at,
            updated_at,
            created_with,
        } = job;
        Self {
            user,
            id,
            model_id,
            model_name,
            params,
            price,
            status,
            external_task_id,
            result_urls,
            error_message,
            created_at,
            updated_at,
            created_with,
        }
    }
}

impl From<JobRecord> for Job {
    fn from(record: JobRecord) -> Self {
        let JobRecord {
            user,
            id,
            model_id,
            model_name,
            params,
            price,
            status,
            external_task_id,
            result_urls,
            error_message,
            created_at,
            updated_at,
            created_with,
        } = record;
        Self {
            id,
            user,
            model_id,
            model_name,
            params,
            price,
            status,
            external_task_id,
            result_urls,
            error_message,
            created_at,
            updated_at,
            created_with,
        }
    }
}

/// A payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentRecord {
    /// See [`Payment::user`].
    pub user: UserId,
    /// See [`Payment::id`].
    pub id: PaymentId,
    /// See [`Payment::amount`].
    pub amount: Amount,
    /// See [`Payment::method`].
    pub method: PaymentMethod,
    /// See [`Payment::screenshot_file_id`].
    pub screenshot_file_id: Option<FileId>,
    /// See [`Payment::provider_key`].
    pub provider_key: Option<ProviderKey>,
    /// See [`Payment::status`].
    pub status: PaymentStatus,
    /// See [`Payment::admin`].
    pub admin: Option<UserId>,
    /// See [`Payment::notes`].
    pub notes: Option<Note>,
    /// See [`Payment::origin`].
    pub origin: PaymentOrigin,
    /// See [`Payment::created_at`].
    pub created_at: Timestamp,
    /// See [`Payment::updated_at`].
    pub updated_at: Timestamp,
}

impl From<Payment> for PaymentRecord {
    fn from(payment: Payment) -> Self {
        let Payment {
            id,
            user,
            amount,
            method,
            screenshot_file_id,
            provider_key,
            status,
            admin,
            notes,
            origin,
            created_at,
            updated_at,
        } = payment;
        Self {
            user,
            id,
            amount,
            method,
            screenshot_file_id,
            provider_key,
            status,
            admin,
            notes,
            origin,
            created_at,
            updated_at,
        }
    }
}

impl From<PaymentRecord> for Payment {
    fn from(record: PaymentRecord) -> Self {
        let PaymentRecord {
            user,
            id,
            amount,
            method,
            screenshot_file_id,
            provider_key,
            status,
            admin,
            notes,
            origin,
            created_at,
            updated_at,
        } = record;
        Self {
            id,
            user,
            amount,
            method,
            screenshot_file_id,
            provider_key,
            status,
            admin,
            notes,
            origin,
            created_at,
            updated_at,
        }
    }
}

/// Which names a used key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeySpace {
    /// The id of a generation, kept after its entry was trimmed.
    Generation,
    /// An operation's key.
    Operation,
    /// The key of a take that was given back.
    Return,
}

impl KeySpace {
    /// The space's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Generation => "generation",
            Self::Operation => "operation",
            Self::Return => "return",
        }
    }
}

/// A key that was used up, with what its operation answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// Whose.
    pub user: UserId,
    /// Which names it belongs to.
    pub space: KeySpace,
    /// The key.
    pub key: OperationKey,
    /// What used it.
    pub used: UsedKey,
}

/// One record of a dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
// Not `kind`: a ledger row has a field of that name.
#[serde(tag = "record", rename_all = "snake_case")]
pub enum DumpRecord {
    /// A user.
    Account(AccountRecord),
    /// A history entry.
    Generation(GenerationRecord),
    /// A hold.
    Hold(Hold),
    /// A job.
    Job(JobRecord),
    /// A used key.
    Key(KeyRecord),
    /// A ledger row.
    Ledger(LedgerRow),
    /// A payment.
    Payment(PaymentRecord),
}

impl DumpRecord {
    /// The kind's word: what the footer counts by.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Account(_) => "account",
            Self::Generation(_) => "generation",
            Self::Hold(_) => "hold",
            Self::Job(_) => "job",
            Self::Key(_) => "key",
            Self::Ledger(_) => "ledger",
            Self::Payment(_) => "payment",
        }
    }
    /// Where the record belongs in the order: kind, user, key.
    pub fn place(&self) -> (&'static str, UserId, String) {
        let (user, key) = match self {
            Self::Account(account) => (account.user, String::new()),
            Self::Generation(generation) => (generation.user, generation.id.to_string()),
            Self::Hold(hold) => (hold.user, hold.name.to_string()),
            Self::Job(job) => (job.user, job.id.to_string()),
            Self::Key(used) => (used.user, format!("{}/{}", used.space.as_str(), used.key)),
            Self::Ledger(row) => (row.user, format!("{:020}", row.seq)),
            Self::Payment(payment) => (payment.user, payment.id.to_string()),
        };
        (self.kind(), user, key)
    }
}

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
        Self { line: 0, header: None, digest: Sha256::new(), summary: DumpSummary::default(), last: None, ended: false }
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
    /// `Corrupt` naming line and column; `SchemaMismatch` for a newer format.
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
