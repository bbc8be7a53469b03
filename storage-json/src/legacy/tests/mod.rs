//! The examples, shapes, words and rules of `docs/legacy.md`, the bad input, and generated directories.

mod accounts;
mod examples;
mod files;
mod generated;
mod history;
mod jobs;
mod payments;
mod referrals;

use std::path::PathBuf;

use storage_core::{
    ErrorKind, ImportRecord, JobStatus, Money, PaymentOrigin, PaymentStatus, Result, TimeZone, Timestamp, Total, UserId,
};

use super::*;

/// The moment that stands for "now" in these tests.
const NOW: &str = "2026-02-01T00:00:00Z";

struct Dir(tempfile::TempDir);

#[expect(clippy::disallowed_methods, reason = "these tests write the directories that are read")]
impl Dir {
    fn of(files: &[(&str, &str)]) -> Self {
        let dir = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            dir.put(name, text.as_bytes());
        }
        dir
    }
    fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn read(&self) -> Result<Legacy> {
        read(self.0.path(), &ReadOptions::new(NOW.parse().unwrap()), &mut |_| {})
    }
}

fn legacy(files: &[(&str, &str)]) -> Legacy {
    Dir::of(files).read().unwrap()
}
fn one(name: &str, text: &str) -> Legacy {
    legacy(&[(name, text)])
}
fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}
fn money(text: &str) -> Money {
    text.parse().unwrap()
}
fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}
fn refused(legacy: &Legacy) -> Vec<(&str, &str, &str)> {
    legacy.report.refused.iter().map(|r| (&*r.file, &*r.key, &*r.reason)).collect()
}
fn reasons(name: &str, text: &str) -> Vec<String> {
    one(name, text).report.refused.into_iter().map(|r| format!("{}: {}", r.key, r.reason)).collect()
}
fn notes(legacy: &Legacy) -> Vec<String> {
    legacy.report.notes.iter().map(|n| format!("{}: {}", n.key.as_deref().unwrap_or("-"), n.note)).collect()
}
fn records(legacy: &Legacy) -> Vec<&ImportRecord> {
    legacy.records.iter().map(|r| &r.record).collect()
}
fn only(legacy: &Legacy) -> &ImportRecord {
    assert_eq!(refused(legacy), []);
    assert_eq!(legacy.records.len(), 1, "{:?}", legacy.records);
    &legacy.records[0].record
}
fn only_payment(text: &str) -> (Legacy, storage_core::Payment) {
    let legacy = one("payments.json", text);
    let ImportRecord::Payment(payment) = only(&legacy).clone() else { panic!("{text}") };
    (legacy, payment)
}
fn only_job(name: &str, text: &str) -> (Legacy, storage_core::Job) {
    let legacy = one(name, text);
    let ImportRecord::Job(job) = only(&legacy).clone() else { panic!("{text}") };
    (legacy, job)
}
fn edges(legacy: &Legacy) -> Vec<(i64, i64)> {
    records(legacy)
        .into_iter()
        .map(|record| match record {
            ImportRecord::Referral { user, referrer, .. } => (user.get(), referrer.get()),
            other => panic!("{other:?}"),
        })
        .collect()
}
fn generations(legacy: &Legacy) -> Vec<&storage_core::Generation> {
    records(legacy)
        .into_iter()
        .filter_map(|record| match record {
            ImportRecord::Generation { generation, .. } => Some(generation),
            _ => None,
        })
        .collect()
}
