//! Collects good records, refusals and notes while the files are read.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use storage_core::{ImportRecord, ModelId, ModelName, Money, Total, UserId};

use super::fields::{Attempt, Read, Reason, ruled};
use super::free_generations::GivenQuota;
use super::referrals::Edges;
use super::report::{FileNote, FileSeen, Legacy, LegacyRecord, Progress, ReadOptions, Refusal, Report};
use super::source_files::LegacyFile;
use crate::json_text::Node;

/// How many notes of the same words name their record before the rest is only counted.
const SPOKEN_NOTES: u64 = 20;
/// How many bytes pass between two calls of the progress function.
const STEP: u64 = 1 << 20;
/// How many different names of models are kept to be shared.
const SHARED_NAMES: usize = 10_000;

/// A record's place: file and key.
pub(super) type Spot = (Arc<str>, Arc<str>);

/// Turns an entry into a record, nothing, or a refusal.
type ReadRecord<'r> = dyn FnMut(&mut Gather<'_>, &mut Attempt<'_>, &Node<'_>) -> Read<Option<ImportRecord>> + 'r;

/// What was spent, and where it says so.
#[derive(Clone, Copy)]
pub(super) enum Spent {
    Stored(Total),
    Summed(Total),
}

pub(super) struct Gather<'p> {
    pub(super) options: &'p ReadOptions,
    pub(super) report: Report,
    /// Good records in their final order, but for the history.
    pub(super) records: Vec<LegacyRecord>,
    pub(super) history: Vec<LegacyRecord>,
    pub(super) balances: HashMap<UserId, (Money, Arc<str>)>,
    pub(super) quotas: BTreeMap<UserId, (GivenQuota, Spot)>,
    pub(super) spent: BTreeMap<UserId, (Spent, Spot)>,
    pub(super) edges: Edges,
    pub(super) job_ids: HashMap<Arc<str>, Arc<str>>,
    pub(super) task_ids: HashMap<Arc<str>, Arc<str>>,
    files: HashMap<Arc<str>, usize>,
    models: HashMap<String, (ModelId, ModelName)>,
    repeated_notes: BTreeMap<(Arc<str>, Cow<'static, str>), u64>,
    progress: &'p mut dyn FnMut(Progress<'_>),
    done: u64,
    total: u64,
}

impl<'p> Gather<'p> {
    pub(super) fn new(options: &'p ReadOptions, progress: &'p mut dyn FnMut(Progress<'_>)) -> Self {
        Self {
            options,
            report: Report::default(),
            records: Vec::new(),
            history: Vec::new(),
            balances: HashMap::new(),
            quotas: BTreeMap::new(),
            spent: BTreeMap::new(),
            edges: Edges::default(),
            job_ids: HashMap::new(),
            task_ids: HashMap::new(),
            files: HashMap::new(),
            models: HashMap::new(),
            repeated_notes: BTreeMap::new(),
            progress,
            done: 0,
            total: 0,
        }
    }
    /// How many bytes there are to read.
    pub(super) fn expect(&mut self, total: u64) {
        self.total = total;
    }
    /// A file's turn has come.
    pub(super) fn begin(&mut self, file: &LegacyFile) {
        let seen = FileSeen { file: file.name.to_string(), bytes: file.size, records: 0, refused: 0 };
        self.files.insert(file.name.clone(), self.report.files.len());
        self.report.files.push(seen);
        (self.progress)(Progress { file: &file.name, done: self.done, total: self.total });
    }
    /// A file is read.
    pub(super) fn end(&mut self, file: &LegacyFile) {
        self.done = self.done.saturating_add(file.size);
        (self.progress)(Progress { file: &file.name, done: self.done, total: self.total });
    }
    /// Hands out a file's entries and says how far it has come.
    pub(super) fn entries(
        &mut self,
        file: &LegacyFile,
        each: &mut dyn FnMut(&mut Self, &str, &Node<'_>),
    ) -> storage_core::Result<()> {
        let mut said = 0;
        file.entries(&mut |key, offset, node| {
            let offset = u64::try_from(offset).unwrap_or(u64::MAX);
            if offset.saturating_sub(said) >= STEP {
                said = offset;
                let done = self.done.saturating_add(offset.min(file.size));
                (self.progress)(Progress { file: &file.name, done, total: self.total });
            }
            each(self, key, node);
        })
    }
    /// Hands out a file's entries as records: each becomes one, nothing, or a refusal.
    pub(super) fn each_record(&mut self, file: &LegacyFile, read: &mut ReadRecord<'_>) -> storage_core::Result<()> {
        self.entries(file, &mut |gather, key, node| {
            gather.attempt(file, key, |gather, attempt| read(gather, attempt, node));
        })
    }
    /// Reads one record and settles what becomes of it.
    pub(super) fn attempt(
        &mut self,
        file: &LegacyFile,
        key: &str,
        read: impl FnOnce(&mut Self, &mut Attempt<'_>) -> Read<Option<ImportRecord>>,
    ) {
        let options = self.options;
        let mut attempt = Attempt::new(file, key, &options.time_zone);
        match read(self, &mut attempt) {
            Ok(record) => {
                let Attempt { roundings, notes, .. } = attempt;
                self.report.roundings.extend(roundings);
                for note in notes {
                    self.note(&file.name, key, note);
                }
                if let Some(record) = record {
                    self.accept((file.name.clone(), key.into()), record);
                }
            }
            Err(reason) => self.refuse(&file.name, key, reason),
        }
    }
    /// Takes a good record in.
    pub(super) fn accept(&mut self, (file, key): Spot, record: ImportRecord) {
        if let (Some(seen), false) = (self.seen(&file), matches!(record, ImportRecord::Spent { .. })) {
            seen.records += 1;
        }
        match &record {
            ImportRecord::Balance { user, balance, .. } => {
                self.report.balance_sum = self.report.balance_sum.plus(*balance);
                self.balances.insert(*user, (*balance, file.clone()));
            }
            ImportRecord::Payment(_) => self.report.payments += 1,
            ImportRecord::Job(_) => self.report.jobs += 1,
            ImportRecord::Generation { .. } => self.report.history_records += 1,
            _ => {}
        }
        let history = matches!(record, ImportRecord::Generation { .. });
        let records = if history { &mut self.history } else { &mut self.records };
        records.push(LegacyRecord { file, key, record });
    }
    /// Leaves a record out, by name.
    pub(super) fn refuse(&mut self, file: &Arc<str>, key: &str, Reason(reason): Reason) {
        if let Some(seen) = self.seen(file) {
            seen.refused += 1;
        }
        self.report.refused.push(Refusal { file: file.to_string(), key: key.to_owned(), reason });
    }
    fn seen(&mut self, file: &Arc<str>) -> Option<&mut FileSeen> {
        self.files.get(file).and_then(|position| self.report.files.get_mut(*position))
    }
    /// Says something about a record.
    pub(super) fn note(&mut self, file: &Arc<str>, key: &str, note: impl Into<Cow<'static, str>>) {
        let note = note.into();
        let spoken = self.repeated_notes.entry((file.clone(), note.clone())).or_default();
        *spoken += 1;
        if *spoken <= SPOKEN_NOTES {
            let note = note.into_owned();
            self.report.notes.push(FileNote { file: file.to_string(), key: Some(key.to_owned()), note });
        }
    }
    /// Says something about a file.
    pub(super) fn file_note(&mut self, file: &Arc<str>, note: impl Into<String>) {
        self.report.notes.push(FileNote { file: file.to_string(), key: None, note: note.into() });
    }

    /// A record's model and its name; what is missing is put in and noted.
    pub(super) fn model(
        &mut self,
        attempt: &mut Attempt<'_>,
        id: Option<&str>,
        name: Option<&str>,
    ) -> Read<(ModelId, ModelName)> {
        if id.is_none() {
            attempt.note("no model_id: \"unknown\" was put in");
        }
        if name.is_none() {
            attempt.note("no model_name: the model_id was put in");
        }
        let id = id.unwrap_or("unknown");
        let name = name.unwrap_or(id);
        if let Some((known_id, known_name)) = self.models.get(id)
            && known_name.as_str() == name
        {
            return Ok((known_id.clone(), known_name.clone()));
        }
        let model = (ruled("model_id", ModelId::new(id))?, ruled("model_name", ModelName::new(name))?);
        if self.models.len() < SHARED_NAMES {
            self.models.insert(id.to_owned(), model.clone());
        }
        Ok(model)
    }

    /// Puts everything together.
    pub(super) fn finish(mut self) -> Legacy {
        for ((file, note), times) in std::mem::take(&mut self.repeated_notes) {
            if times > SPOKEN_NOTES {
                self.file_note(&file, format!("{note} (and for {} more records)", times - SPOKEN_NOTES));
            }
        }
        let Self { mut report, mut records, mut history, .. } = self;
        records.append(&mut history);
        report.rounded = u64::try_from(report.roundings.len()).unwrap_or(u64::MAX);
        let mut users = HashSet::with_capacity(records.len() / 2);
        for LegacyRecord { file, key, record } in &records {
            let referrer = match record {
                ImportRecord::Referral { referrer, .. } => Some(*referrer),
                _ => None,
            };
            for user in std::iter::once(record.user()).chain(referrer) {
                if users.insert(user) && user.get() == storage_core::legacy::TEST_USER {
                    let note = "the earlier system's test user; imported like any other".to_owned();
                    report.notes.push(FileNote { file: file.to_string(), key: Some(key.to_string()), note });
                }
            }
        }
        report.users = u64::try_from(users.len()).unwrap_or(u64::MAX);
        Legacy { records, report }
    }
}
