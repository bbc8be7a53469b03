//! The data directory, contract section 5: what stands on disk, and what is made of it after a crash, a hand edit or
//! damage. A crash is a copy of the directory taken while the store is open.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, with its line")]

#[cfg(unix)]
mod borders;
mod checkpoints;
mod crashes;
mod edits;
mod handles;
mod large;
mod layout;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage_core::{
    AddBalance, AddGenerationToHistory, AddPayment, AdminLimit, AdminLimits as _, Applied, AuditScope, Balances as _,
    Environment, Error, ErrorKind, History as _, ListOperations, ListPayments, ManualClock, MarkPaymentStatus, Money,
    OperationKind, Operations as _, PageRequest, Params, PaymentOrigin, PaymentStatus, Payments as _, ResultUrls,
    SetAdminLimit, SetUserLanguage, Store as _, Timestamp, UserId, Users as _, Verdict,
};
use storage_json::{Access, JsonOptions, JsonStorage};
use tempfile::TempDir;

const NINE: [&str; 9] = [
    "user_balances.json",
    "user_languages.json",
    "gift_claimed.json",
    "daily_free_generations.json",
    "admin_limits.json",
    "generations_history.json",
    "payments.json",
    "referrals.json",
    "generation_jobs.json",
];

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn money(text: &str) -> Money {
    text.parse().unwrap()
}

fn options(dir: &Path) -> JsonOptions {
    let clock = ManualClock::at("2026-01-15T10:00:00Z".parse().unwrap());
    let environment = Environment { clock: Arc::new(clock), ..Environment::default() };
    JsonOptions { environment, lock_wait: std::time::Duration::from_millis(50), ..JsonOptions::new(dir) }
}

async fn open(dir: &Path) -> Result<JsonStorage, Error> {
    JsonStorage::open(options(dir)).await
}

async fn credit(storage: &JsonStorage, id: i64, amount: &str) {
    storage.add_balance(AddBalance::new(user(id), amount.parse().unwrap())).await.unwrap();
}

/// A closed store: users 1 to 3 with 10, 20 and 30, one language, one pending payment.
async fn closed_store() -> (TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("data");
    let storage = open(&dir).await.unwrap();
    for id in 1..=3 {
        credit(&storage, id, &format!("{id}0")).await;
    }
    storage.set_user_language(SetUserLanguage::new(user(1), "en".parse().unwrap())).await.unwrap();
    let mut payment = AddPayment::new(user(2), "100".parse().unwrap(), "card".parse().unwrap());
    payment.payment = Some("p-1".parse().unwrap());
    storage.add_payment(payment).await.unwrap();
    storage.close().await.unwrap();
    (temp, dir)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Every file of a directory but the locks, whose content is only for people.
fn bytes_of(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let name = entry.file_name();
        if entry.file_type().unwrap().is_dir() {
            files.extend(bytes_of(&entry.path()));
        } else if Path::new(&name).extension().is_none_or(|extension| extension != "lock") {
            files.insert(entry.path(), fs::read(entry.path()).unwrap_or_default());
        }
    }
    files
}

#[expect(clippy::disallowed_methods, reason = "the test plays the person with an editor")]
fn edit(file: &Path, change: impl FnOnce(String) -> String) {
    fs::write(file, change(fs::read_to_string(file).unwrap())).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "the test plays the damage")]
fn put(file: &Path, bytes: &[u8]) {
    fs::write(file, bytes).unwrap();
}

fn journal_of(dir: &Path) -> PathBuf {
    let is_journal = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("journal-");
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).find(is_journal).unwrap()
}

async fn assert_audit_clean(storage: &JsonStorage) {
    let report = storage.audit(AuditScope::Everyone).await.unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
}

/// A copy of an open store with two changes in its journal, and where the second one begins and ends.
async fn crashed_store(temp: &TempDir, dir: &Path) -> (PathBuf, PathBuf, usize, usize) {
    let storage = open(dir).await.unwrap();
    credit(&storage, 1, "5").await;
    credit(&storage, 1, "6").await;
    let crashed = temp.path().join("crashed");
    copy(dir, &crashed);
    let journal = journal_of(&crashed);
    let bytes = fs::read(&journal).unwrap();
    let ends: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == b'\n').collect();
    assert_eq!(ends.len(), 2);
    (crashed, journal, ends[0] + 1, ends[1] + 1)
}

/// Calls that the lints keep for the room `disk`.
mod away {
    use std::path::Path;

    #[expect(clippy::disallowed_methods, reason = "the test plays the person who removes a file")]
    pub(super) fn remove(path: &Path) {
        std::fs::remove_file(path).unwrap();
    }
    #[expect(clippy::disallowed_methods, reason = "the test plays the person who renames")]
    pub(super) fn rename(from: &Path, to: &Path) {
        std::fs::rename(from, to).unwrap();
    }
    pub(super) fn remove_dir(path: &Path) {
        std::fs::remove_dir_all(path).unwrap();
    }
    pub(super) fn hard_link(file: &Path, name: &Path) {
        std::fs::hard_link(file, name).unwrap();
    }
}
