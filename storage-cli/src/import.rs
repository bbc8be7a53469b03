//! `storage import`: a directory that the earlier system left.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Serialize;
use storage_core::{Error, ErrorKind, HistoryRetention, ImportOutcome, ImportRecord, Storage, Total, UserId};
use storage_json::Found;
use storage_json::legacy::{
    self, FileNote, LeftAlone, Legacy, LegacyRecord, ReadOptions, Refusal, UncertainPayment, Unsettled,
};

use crate::args::ImportArgs;
use crate::confirm::Plan;
use crate::context::{Context, Planned};
use crate::exit::{Exit, Failure, Outcome, quoted};
use crate::interrupt;
use crate::output::{Table, facts, or_dash};
use crate::progress::Progress;
use crate::status::Totals;

/// Records that go into the store together, as one change.
const BATCH: usize = 1000;

pub(crate) async fn import(context: &Context, arguments: ImportArgs) -> Outcome {
    let ImportArgs { dir, strict, time_zone, map } = arguments;
    let mapped = map.len();
    let map: BTreeMap<_, _> = map.into_iter().collect();
    if map.len() < mapped {
        return Err(Failure::Usage("error: --map names one file for each role".to_owned()));
    }
    not_its_own_source(context, &dir)?;
    not_a_store(&dir)?;
    // Everything is read before anything is opened: a file that cannot be parsed refuses the whole import.
    let now = context.config.environment.clock.now();
    let Legacy { records, report: read } = {
        let progress = Progress::new("reading");
        let options = ReadOptions { time_zone, map, ..ReadOptions::new(now) };
        legacy::read(&dir, &options, &mut |at| {
            progress.say(at.file);
            progress.set(at.done, at.total);
        })
        .map_err(|error| {
            if let Some(unreadable) = unreadable(&dir, &error) {
                return unreadable;
            }
            let hint = match error.kind() {
                ErrorKind::Corrupt(_) => "repair the file or take it out of the directory; nothing was imported",
                _ => "storage import with a directory that holds the files of the earlier system",
            };
            Failure::from(error).with_hint(hint)
        })?
    };
    let report = Report {
        source: dir.display().to_string(),
        refused: read.refused,
        rounded: read.rounded,
        notes: read.notes,
        left_alone: read.left_alone,
        uncertain_payments: read.uncertain_payments,
        uncertain_sum: read.uncertain_sum,
        unsettled: read.unsettled,
        unsettled_sum: read.unsettled_sum,
        ..Report::default()
    };
    import_records(context, records, report, "generations_history.json", strict, Some(&dir)).await
}

/// Brings in records that were read, and answers the report. `history` is where the history entries stood; a `plan_of`
/// is named in the plan that is shown first, and without one somebody has agreed already.
pub(crate) async fn import_records(
    context: &Context,
    records: Vec<LegacyRecord>,
    mut report: Report,
    history: &'static str,
    strict: bool,
    plan_of: Option<&Path>,
) -> Outcome {
    report.dry_run = context.dry_run;
    let (store, before) = context.planning(async |storage| Ok(Totals::of(storage).await?)).await?;
    report.before = before.unwrap_or_default();
    report.not_kept = NotKept::of(&records, history, context.config.environment.policy.history);
    report.notes.extend(report.not_kept.notes());
    if context.dry_run {
        report.brought = Brought::by(&records);
    } else {
        if let Some(dir) = plan_of {
            plan(&store, dir, &records, &report).ask(context)?;
        }
        let mut begun = false;
        context
            .with_new_store(async |storage| {
                begun = true;
                put_in(storage, records, &mut report).await?;
                report.after = Some(Totals::of(storage).await?);
                Ok(())
            })
            .await
            .map_err(|failure| if begun { to_be_continued(failure) } else { failure })?;
    }
    let refused = !report.refused.is_empty();
    let printed = context.out.answer(&report, || report.to_text(context));
    printed.map_err(|failure| if report.dry_run { failure } else { failure.after_change("storage status") })?;
    Ok(if strict && refused { Exit::Differences } else { Exit::Done })
}

async fn put_in(storage: &dyn Storage, records: Vec<LegacyRecord>, report: &mut Report) -> Result<(), Failure> {
    let progress = Progress::new("importing");
    let (mut done, total) = (0, records.len() as u64);
    let mut records = records.into_iter();
    loop {
        if interrupt::asked() {
            return Err(interrupt::stopped(done.min(total), total));
        }
        let (mut spots, mut batch) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
        for LegacyRecord { file, key, record } in records.by_ref().take(BATCH) {
            spots.push((file, key, Figure::of(&record)));
            batch.push(record);
        }
        if batch.is_empty() {
            return Ok(());
        }
        let outcomes = storage.import_records(batch).await?;
        for ((file, key, figure), outcome) in spots.into_iter().zip(outcomes) {
            let spot = |reason| Refusal { file: file.to_string(), key: key.to_string(), reason };
            match outcome {
                ImportOutcome::Added => report.added += 1,
                ImportOutcome::Same => report.same += 1,
                ImportOutcome::Kept(reason) => report.kept.push(spot(reason)),
                ImportOutcome::Refused(reason) => {
                    report.refused.push(spot(reason));
                    continue;
                }
            }
            report.brought.add(&figure);
        }
        done += BATCH as u64;
        progress.set(done.min(total), total);
    }
}

fn plan(store: &Planned, dir: &Path, records: &[LegacyRecord], report: &Report) -> Plan {
    let brought = Brought::by(records);
    let mut plan = Plan::new(store, format!("{} will be imported", dir.display()));
    for (name, value) in brought.figures() {
        plan.add(name, value);
    }
    plan.add("rounded", report.rounded.to_string());
    plan.add("refused", report.refused.len().to_string());
    if let Some(not_kept) = report.not_kept.summary() {
        plan.add("history not kept", not_kept);
    }
    plan.add("users before", report.before.users.to_string());
    plan.add("balances before", report.before.balance_sum.to_string());
    plan
}

/// What one record brings.
enum Figure {
    Balance(UserId, storage_core::Money),
    Payment(UserId),
    Job(UserId),
    Generation(UserId),
    Referral(UserId, UserId),
    Other(UserId),
}

impl Figure {
    fn of(record: &ImportRecord) -> Self {
        match record {
            ImportRecord::Balance { user, balance, .. } => Self::Balance(*user, *balance),
            ImportRecord::Payment(payment) => Self::Payment(payment.user),
            ImportRecord::Job(job) => Self::Job(job.user),
            ImportRecord::Generation { user, .. } => Self::Generation(*user),
            ImportRecord::Referral { user, referrer, .. } => Self::Referral(*user, *referrer),
            other => Self::Other(other.user()),
        }
    }
}

/// What the good records of a directory add up to. The same at every import of the directory.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Brought {
    #[serde(serialize_with = "count")]
    users: HashSet<UserId>,
    balance_sum: Total,
    payments: u64,
    jobs: u64,
    history_records: u64,
}

fn count<S: serde::Serializer>(users: &HashSet<UserId>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(users.len() as u64)
}

impl Brought {
    fn by(records: &[LegacyRecord]) -> Self {
        records.iter().fold(Self::default(), |mut brought, record| {
            brought.add(&Figure::of(&record.record));
            brought
        })
    }
    fn add(&mut self, figure: &Figure) {
        let user = match *figure {
            Figure::Balance(user, balance) => {
                self.balance_sum = self.balance_sum.plus(balance);
                user
            }
            Figure::Payment(user) => {
                self.payments += 1;
                user
            }
            Figure::Job(user) => {
                self.jobs += 1;
                user
            }
            Figure::Generation(user) => {
                self.history_records += 1;
                user
            }
            Figure::Referral(user, referrer) => {
                self.users.insert(referrer);
                user
            }
            Figure::Other(user) => user,
        };
        self.users.insert(user);
    }
    fn figures(&self) -> [(&'static str, String); 5] {
        [
            ("users", self.users.len().to_string()),
            ("balances", self.balance_sum.to_string()),
            ("payments", self.payments.to_string()),
            ("jobs", self.jobs.to_string()),
            ("generations", self.history_records.to_string()),
        ]
    }
}

/// History entries that are older than those the store keeps of a user.
#[derive(Debug, Default)]
pub(crate) struct NotKept {
    file: &'static str,
    kept: u32,
    users: BTreeMap<UserId, u64>,
}

impl NotKept {
    fn of(records: &[LegacyRecord], file: &'static str, retention: HistoryRetention) -> Self {
        let HistoryRetention::Newest(kept) = retention else { return Self::default() };
        let kept = kept.get();
        let mut users: BTreeMap<UserId, u64> = BTreeMap::new();
        for record in records {
            if let ImportRecord::Generation { user, .. } = &record.record {
                *users.entry(*user).or_default() += 1;
            }
        }
        let older =
            |(user, count): (UserId, u64)| Some((user, count.checked_sub(kept.into())?)).filter(|(_, n)| *n > 0);
        Self { file, kept, users: users.into_iter().filter_map(older).collect() }
    }
    /// All of it in a sentence; none when everything is kept.
    fn summary(&self) -> Option<String> {
        let (entries, users) = (self.users.values().sum::<u64>(), self.users.len());
        let kept = self.kept;
        (users > 0).then(|| {
            format!(
                "{entries} older entries of {users} users are not kept: STORAGE_HISTORY={kept}; \
                 STORAGE_HISTORY=everything keeps them"
            )
        })
    }
    /// A note for each user, or one when there are many.
    fn notes(&self) -> Vec<FileNote> {
        const SHOWN: usize = 10;
        let note = |key, note| FileNote { file: self.file.to_owned(), key, note };
        if self.users.len() > SHOWN {
            return self.summary().into_iter().map(|summary| note(None, summary)).collect();
        }
        let kept = self.kept;
        let of_user = |(user, count): (&UserId, &u64)| {
            let text = format!(
                "{count} older entries of user {user} are not kept: STORAGE_HISTORY={kept}; \
                 STORAGE_HISTORY=everything keeps them"
            );
            note(Some(user.to_string()), text)
        };
        self.users.iter().map(of_user).collect()
    }
}

/// What an import answers.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) source: String,
    pub(crate) dry_run: bool,
    #[serde(flatten)]
    pub(crate) brought: Brought,
    pub(crate) rounded: u64,
    pub(crate) added: u64,
    pub(crate) same: u64,
    pub(crate) refused: Vec<Refusal>,
    pub(crate) kept: Vec<Refusal>,
    #[serde(skip)]
    pub(crate) not_kept: NotKept,
    pub(crate) notes: Vec<FileNote>,
    pub(crate) left_alone: Vec<LeftAlone>,
    pub(crate) uncertain_payments: Vec<UncertainPayment>,
    pub(crate) uncertain_sum: Total,
    pub(crate) unsettled: Vec<Unsettled>,
    pub(crate) unsettled_sum: Total,
    pub(crate) before: Totals,
    pub(crate) after: Option<Totals>,
}

impl Report {
    fn to_text(&self, context: &Context) -> String {
        let mut about = self.brought.figures().to_vec();
        about.push(("rounded", format!("{} to 6 decimals", self.rounded)));
        about.push(("refused", self.refused.len().to_string()));
        if !self.dry_run {
            about.push((
                "outcome",
                format!("{} added, {} there already, {} kept", self.added, self.same, self.kept.len()),
            ));
        }
        let mut parts = vec![format!("Import of {}\n{}", self.source, facts("  ", &about))];
        let mut totals = Table::new(&["store", "users>", "balances>"]);
        for (name, of) in [("before", Some(self.before)), ("after", self.after)] {
            if let Some(of) = of {
                totals.row([name.to_owned(), of.users.to_string(), of.balance_sum.to_string()]);
            }
        }
        parts.push(totals.to_text("  "));
        parts.extend(listed("Refused", &self.refused));
        parts.extend(listed("Kept as the store has it", &self.kept));
        if !self.uncertain_payments.is_empty() {
            let mut table = Table::new(&["payment", "user", "amount>"]);
            for payment in &self.uncertain_payments {
                table.row([payment.key.clone(), payment.user.to_string(), payment.amount.to_string()]);
            }
            let (count, sum) = (self.uncertain_payments.len(), self.uncertain_sum);
            let title = format!("Approved, and nobody knows whether credited: {count} payments, {sum}");
            parts.push(format!("{title}\n{}", shortened(&table)));
        }
        if !self.unsettled.is_empty() {
            let mut table = Table::new(&["file", "key", "user", "amount>", "what"]);
            for Unsettled { file, key, user, amount, what } in &self.unsettled {
                table.row([file.clone(), key.clone(), or_dash(user.as_ref()), or_dash(amount.as_ref()), what.clone()]);
            }
            let (count, sum) = (self.unsettled.len(), self.unsettled_sum);
            parts.push(format!(
                "For you to settle: {count} records without a counterpart here, {sum}\n{}",
                shortened(&table)
            ));
        }
        if !self.notes.is_empty() {
            parts.push(format!("Notes\n{}", shortened(&self.notes_by_words())));
        }
        if !self.left_alone.is_empty() {
            let mut table = Table::new(&["file", "why"]);
            for file in &self.left_alone {
                table.row([file.file.clone(), file.reason.clone()]);
            }
            parts.push(format!("Left alone\n{}", shortened(&table)));
        }
        parts.push(if self.dry_run {
            "dry run: nothing was changed".to_owned()
        } else {
            let dir = context.choice.data_dir().map(|dir| quoted(&dir.display().to_string()));
            let place = dir.map_or_else(String::new, |dir| format!(" --data-dir {dir}"));
            format!("imported; next: storage audit{place}")
        });
        parts.join("\n\n")
    }

    /// Notes with the same words about one file are one line.
    fn notes_by_words(&self) -> Table {
        let mut lines: Vec<(&FileNote, usize)> = Vec::new();
        for note in &self.notes {
            match lines.iter_mut().find(|(first, _)| (&first.file, &first.note) == (&note.file, &note.note)) {
                Some((_, times)) => *times += 1,
                None => lines.push((note, 1)),
            }
        }
        let mut table = Table::new(&["file", "key", "note"]);
        for (FileNote { file, key, note }, times) in lines {
            let key = key.clone().unwrap_or_default();
            let key = if times > 1 { format!("{key} and {} more", times - 1) } else { key };
            table.row([file.clone(), key, note.clone()]);
        }
        table
    }
}

/// All refusals are shown: each stands for something that is not in the store.
fn listed(title: &str, refusals: &[Refusal]) -> Option<String> {
    let mut table = Table::new(&["file", "key", "reason"]);
    for Refusal { file, key, reason } in refusals {
        table.row([file.clone(), key.clone(), reason.clone()]);
    }
    (!refusals.is_empty()).then(|| format!("{title}\n{}", table.to_text("  ")))
}

/// The first lines of a table that may be long.
fn shortened(table: &Table) -> String {
    const SHOWN: usize = 25;
    let text = table.to_text("  ");
    let lines: Vec<&str> = text.lines().collect();
    match lines.get(..=SHOWN) {
        Some(first) if lines.len() > SHOWN + 1 => {
            format!("{}\n  and {} more; --json lists them all", first.join("\n"), lines.len() - SHOWN - 1)
        }
        _ => text,
    }
}

/// Neither the store's own directory nor one around it or inside it is a source.
fn not_its_own_source(context: &Context, dir: &Path) -> Result<(), Failure> {
    let Some(data_dir) = context.choice.data_dir() else { return Ok(()) };
    let (source, target) = (resolved(dir), resolved(data_dir));
    if source.starts_with(&target) || target.starts_with(&source) {
        let message = format!(
            "{} is to be imported and the store is at {}: a store is never its own source, nor inside of it",
            dir.display(),
            data_dir.display()
        );
        return Err(Failure::refused(message, "storage import DIR --data-dir ELSEWHERE"));
    }
    Ok(())
}

/// A store of ours is copied by a dump, which takes everything.
fn not_a_store(dir: &Path) -> Result<(), Failure> {
    if !matches!(storage_json::inspect(dir), Ok(Found::Store)) {
        return Ok(());
    }
    let message = format!("{} holds a store of this program, not files of the earlier system", dir.display());
    let source = quoted(&dir.display().to_string());
    let hint = format!("storage dump FILE --data-dir {source}, then storage restore FILE --data-dir NEW");
    Err(Failure::refused(message, hint))
}

/// The failure of a source file that is there and cannot be read.
fn unreadable(dir: &Path, error: &Error) -> Option<Failure> {
    let ErrorKind::InvalidInput { field, .. } = error.kind() else { return None };
    let file = dir.join(&**field);
    let cause = File::open(&file).err().filter(|cause| cause.kind() != std::io::ErrorKind::NotFound)?;
    let hint = format!("make {} readable or take it out", quoted(&file.display().to_string()));
    let message = format!("{} cannot be read; nothing was imported", file.display());
    Some(Failure::io(message, cause).with_hint(hint))
}

/// Where waiting helps, an import that stopped half-way goes on.
fn to_be_continued(failure: Failure) -> Failure {
    match &failure {
        Failure::Store { error, .. }
            if matches!(error.kind(), ErrorKind::Busy { .. } | ErrorKind::Unavailable | ErrorKind::StorageFull) =>
        {
            failure.with_hint("the same command again: what is in the store already is kept")
        }
        _ => failure,
    }
}

/// The path without links, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let known = path.ancestors().find_map(|known| Some((known, known.canonicalize().ok()?)));
    match known {
        Some((known, real)) => path.strip_prefix(known).map_or(real.clone(), |rest| real.join(rest)),
        None => path,
    }
}
