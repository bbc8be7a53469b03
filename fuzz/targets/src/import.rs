//! A directory of the earlier system, read and imported as `storage import` does it.
//!
//! The first byte of an input: bit 0 reads times without a zone as times of Moscow. The rest is the directory: a line
//! `=== NAME` begins a file, which lasts until the next such line.

use std::collections::BTreeSet;
use std::path::Path;

use storage_core::{
    AuditScope, ErrorKind, ImportOutcome, ImportRecord, Jobs as _, Operations as _, Payments as _, Store as _, Total,
};
use storage_json::JsonStorage;
use storage_json::legacy::{Legacy, ReadOptions, Report, read};

use crate::check::{self, told};
use crate::tree::{self, Tree};
use crate::{Finding, Outcome, shown};

const MOSCOW: u8 = 1;
const BEGIN: &str = "=== ";
/// As many files as the earlier system had, and some that nobody knows.
const MOST_FILES: usize = 20;

/// The names that are read.
pub(crate) const NAMES: [&str; 14] = [
    "user_balances.json",
    "user_balances_bot_77.json",
    "user_languages.json",
    "gift_claimed.json",
    "daily_free_generations.json",
    "referral_free_bank.json",
    "admin_limits.json",
    "generations_history.json",
    "history_events.json",
    "referrals.json",
    "referral_events.json",
    "payments.json",
    "generation_jobs.json",
    "jobs.json",
];

/// The files that an input describes. Anything that is no name stands for one of those that are read.
fn unpacked(input: &[u8]) -> Tree {
    let mut tree = Tree::new();
    let mut name = NAMES[0].to_owned();
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        if let Some(given) = line.strip_prefix(BEGIN.as_bytes()) {
            let given = given.strip_suffix(b"\n").unwrap_or(given);
            let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-".contains(byte);
            let fits =
                given.first().is_some_and(plain) && given.len() < 64 && given.iter().all(|b| plain(b) || *b == b'.');
            let number = given.first().copied().map_or(0, usize::from) % NAMES.len();
            name = if fits { String::from_utf8_lossy(given).into_owned() } else { NAMES[number].to_owned() };
            if tree.len() < MOST_FILES {
                // A second part of one name goes on where the first ended.
                tree.entry(name.clone()).or_default();
            }
        } else if let Some(file) = tree.get_mut(&name) {
            file.extend_from_slice(line);
        }
    }
    tree
}

/// The input that describes some files.
pub(crate) fn packed(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![0];
    for (name, bytes) in files {
        out.extend_from_slice(format!("{BEGIN}{name}\n").as_bytes());
        out.extend_from_slice(bytes);
        if !bytes.ends_with(b"\n") {
            out.push(b'\n');
        }
    }
    out
}

pub(crate) async fn run(dir: &Path, input: &[u8]) -> Outcome {
    let Some((flags, rest)) = input.split_first() else { return Ok(()) };
    let source = dir.with_file_name("source");
    let files = unpacked(rest);
    tree::put(&files, &source)?;
    let mut options = ReadOptions::new("2026-01-15T10:00:00Z".parse().map_err(shown)?);
    if flags & MOSCOW != 0 {
        options.time_zone = "Europe/Moscow".parse().map_err(shown)?;
    }
    let once = read(&source, &options, &mut |_| {});
    let again = read(&source, &options, &mut |_| {});
    if let Some(changed) = tree::difference(&files, &tree::everything(&source)?) {
        return Err(format!("reading changed {changed}"));
    }
    let legacy = match (once, again) {
        (Ok(once), Ok(again)) if once.records == again.records && once.report == again.report => once,
        (Err(once), Err(again)) if once.report().to_string() == again.report().to_string() => {
            return match once.kind() {
                ErrorKind::Corrupt(_) | ErrorKind::InvalidInput { .. } => Ok(()),
                _ => Err(told("refused, but with the wrong kind", &once)),
            };
        }
        _ => return Err("the same directory read twice is not the same".to_owned()),
    };
    figures(&legacy)?;
    tree::put(&Tree::new(), dir)?;
    imported(dir, legacy).await
}

/// The report's figures are those of its records.
fn figures(Legacy { records, report }: &Legacy) -> Outcome {
    let Report { users, balance_sum, payments, jobs, history_records, rounded, roundings, files, .. } = report;
    let mut who = BTreeSet::new();
    let mut found = (Total::ZERO, 0, 0, 0);
    for record in records {
        who.insert(record.record.user());
        match &record.record {
            ImportRecord::Balance { balance, .. } => found.0 = found.0.plus(*balance),
            ImportRecord::Payment(_) => found.1 += 1,
            ImportRecord::Job(_) => found.2 += 1,
            ImportRecord::Generation { .. } => found.3 += 1,
            ImportRecord::Referral { referrer, .. } => {
                who.insert(*referrer);
            }
            _ => {}
        }
    }
    let told = (*balance_sum, *payments, *jobs, *history_records);
    if (who.len() as u64, found) != (*users, told) {
        return Err(format!("the report says {users} and {told:?}, its records {} and {found:?}", who.len()));
    }
    if *rounded != roundings.len() as u64 {
        return Err(format!("{rounded} amounts were rounded, {} are named", roundings.len()));
    }
    let counted: u64 = files.iter().map(|file| file.refused).sum();
    if counted != report.refused.len() as u64 {
        return Err(format!("the files count {counted} refusals, {} are named", report.refused.len()));
    }
    Ok(())
}

async fn imported(dir: &Path, legacy: Legacy) -> Outcome {
    let records: Vec<ImportRecord> = legacy.records.into_iter().map(|record| record.record).collect();
    let storage = JsonStorage::open(check::options(dir, 20)?).await.map_err(|error| told("a new store", &error))?;
    let failed = |error| told("an import failed", &error);
    let outcomes = storage.import_records(records.clone()).await.map_err(failed)?;
    let mut sum = Total::ZERO;
    for (record, outcome) in records.iter().zip(&outcomes) {
        match outcome {
            ImportOutcome::Added => {}
            // A directory may say a thing twice; what it says first is kept, and the operator is told.
            ImportOutcome::Same | ImportOutcome::Kept(_) | ImportOutcome::Refused(_) => continue,
        }
        let there = match record {
            ImportRecord::Balance { balance, .. } => {
                sum = sum.plus(*balance);
                true
            }
            ImportRecord::Payment(payment) => storage.get_payment(&payment.id).await.map_err(failed)?.is_some(),
            ImportRecord::Job(job) => storage.get_job(&job.id).await.map_err(failed)?.is_some(),
            _ => true,
        };
        if !there {
            return Err(format!("{record:?} was added and is not there"));
        }
    }
    if outcomes.len() != records.len() {
        return Err(format!("{} records have {} outcomes", records.len(), outcomes.len()));
    }
    let audit = storage.audit(AuditScope::Everyone).await.map_err(failed)?;
    if !audit.is_clean() || audit.balances != sum {
        return Err(format!("{sum} came in, {} is there; {:?}", audit.balances, audit.findings));
    }
    let first = check::dump(&storage).await.map_err(failed)?;
    let repeated = storage.import_records(records.clone()).await.map_err(failed)?;
    if let Some(at) = repeated.iter().position(|outcome| *outcome == ImportOutcome::Added) {
        return Err(format!("imported again, this was added again: {:?}", records[at]));
    }
    let second = check::dump(&storage).await.map_err(failed)?;
    storage.close().await.map_err(failed)?;
    drop(storage);
    let storage = JsonStorage::open(check::options(dir, 21)?).await.map_err(|error| told("opened again", &error))?;
    let third = check::dump(&storage).await.map_err(failed)?;
    storage.close().await.map_err(failed)?;
    for (what, dump) in [("importing again changed something", &second), ("opening again changed something", &third)] {
        if *dump != first {
            return Err(format!("{what}: {}", check::unlike(&first, dump)));
        }
    }
    Ok(())
}

/// Each file alone, with nothing in it and with what every reader should refuse.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds: Vec<(String, Vec<u8>)> = Vec::new();
    for name in NAMES {
        for (what, text) in [
            ("nothing", ""),
            ("empty", "{}"),
            ("list", "[1]"),
            ("wrapped", "\"{\\\"1\\\": 2}\""),
            ("nan", "{\"1\": NaN}"),
        ] {
            seeds.push((format!("{name}-{what}"), packed(&[(name.to_owned(), text.as_bytes().to_vec())])));
        }
    }
    seeds
}

/// The input that describes a directory.
pub(crate) fn directory(dir: &Path) -> Result<Vec<u8>, Finding> {
    Ok(packed(&tree::take(dir)?.into_iter().collect::<Vec<_>>()))
}
