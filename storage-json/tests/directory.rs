//! The data directory, contract section 5: what stands on disk, and what is made of it after a crash, a hand edit or
//! damage. A crash is a copy of the directory taken while the store is open.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, with its line")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage_core::{
    AddBalance, AddGenerationToHistory, AddPayment, AdminLimit, AdminLimits as _, AuditScope, Balances as _,
    Environment, Error, ErrorKind, History as _, ListOperations, ListPayments, ManualClock, MarkPaymentStatus, Money,
    OperationKind, Operations as _, PageRequest, Params, PaymentOrigin, PaymentStatus, Payments as _, ResultUrls,
    SetAdminLimit, SetUserLanguage, Store as _, UserId, Users as _,
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

#[tokio::test]
async fn a_clean_close_leaves_the_nine_files_complete_and_the_journal_empty() {
    let (_temp, dir) = closed_store().await;
    for name in NINE {
        let text = fs::read_to_string(dir.join(name)).unwrap();
        serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text).unwrap();
    }
    let balances = fs::read_to_string(dir.join("user_balances.json")).unwrap();
    assert_eq!(balances, "{\n  \"1\": 10.00,\n  \"2\": 20.00,\n  \"3\": 30.00\n}\n");
    assert!(fs::read(journal_of(&dir)).unwrap().iter().all(|byte| *byte == 0));
}

#[cfg(unix)]
#[tokio::test]
async fn files_are_private_and_an_existing_mode_stays() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_temp, dir) = closed_store().await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for path in bytes_of(&dir).keys() {
        assert_eq!(mode(path), 0o600, "{}", path.display());
    }
    let balances = dir.join("user_balances.json");
    fs::set_permissions(&balances, fs::Permissions::from_mode(0o640)).unwrap();
    let storage = open(&dir).await.unwrap();
    credit(&storage, 1, "5").await;
    storage.close().await.unwrap();
    assert_eq!(mode(&balances), 0o640);
    assert!(fs::read_to_string(&balances).unwrap().contains("\"1\": 15.00"));
}

#[tokio::test]
async fn a_copy_taken_while_open_recovers_with_everything_acknowledged() {
    let (temp, dir) = closed_store().await;
    let storage = open(&dir).await.unwrap();
    credit(&storage, 1, "5").await;
    credit(&storage, 4, "7").await;
    let crashed = temp.path().join("crashed");
    copy(&dir, &crashed);
    let recovered = open(&crashed).await.unwrap();
    assert_eq!(recovered.get_balance(user(1)).await.unwrap(), money("15"));
    assert_eq!(recovered.get_balance(user(4)).await.unwrap(), money("7"));
    assert_audit_clean(&recovered).await;
    // Recovery itself left a fresh checkpoint: a second crash finds it in the files.
    let text = fs::read_to_string(crashed.join("user_balances.json")).unwrap();
    assert!(text.contains("\"4\": 7.00"));
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

#[tokio::test]
async fn a_torn_last_line_is_dropped_and_all_before_it_kept() {
    let (temp, dir) = closed_store().await;
    let (crashed, journal, second, end) = crashed_store(&temp, &dir).await;
    let mut bytes = fs::read(&journal).unwrap();
    let line = bytes[second..end].to_vec();
    for torn in [1, line.len() / 2, line.len() - 1] {
        bytes[end..end + torn].copy_from_slice(&line[..torn]);
        put(&journal, &bytes);
        let again = temp.path().join(format!("torn-{torn}"));
        copy(&crashed, &again);
        let storage = open(&again).await.unwrap();
        assert_eq!(storage.get_balance(user(1)).await.unwrap(), money("21"));
        assert_audit_clean(&storage).await;
    }
}

#[tokio::test]
async fn a_torn_line_that_was_never_promised_is_dropped() {
    let (temp, dir) = closed_store().await;
    let (crashed, journal, second, end) = crashed_store(&temp, &dir).await;
    // A power cut may take the head with it; the line is then the very last and torn.
    put(&crashed.join("journal.head"), b"");
    let mut bytes = fs::read(&journal).unwrap();
    bytes[second + 20..end].fill(0);
    put(&journal, &bytes);
    let storage = open(&crashed).await.unwrap();
    assert_eq!(storage.get_balance(user(1)).await.unwrap(), money("15"));
}

#[tokio::test]
async fn a_bad_line_before_a_good_one_is_corrupt_and_nothing_is_cut() {
    let (temp, dir) = closed_store().await;
    let (crashed, journal, _, _) = crashed_store(&temp, &dir).await;
    for with_head in [true, false] {
        if !with_head {
            put(&crashed.join("journal.head"), b"");
        }
        let mut bytes = fs::read(&journal).unwrap();
        bytes[30] ^= 1;
        put(&journal, &bytes);
        let before = bytes_of(&crashed);
        let error = open(&crashed).await.unwrap_err();
        let ErrorKind::Corrupt(place) = error.kind() else { panic!("{error}") };
        assert_eq!(place.offset, Some(0));
        assert!(place.source.starts_with("journal-"), "{place}");
        assert_eq!(bytes_of(&crashed), before);
        bytes[30] ^= 1;
        put(&journal, &bytes);
    }
}

#[tokio::test]
async fn a_promised_line_that_is_gone_is_corrupt() {
    let (temp, dir) = closed_store().await;
    let (crashed, journal, second, end) = crashed_store(&temp, &dir).await;
    let mut bytes = fs::read(&journal).unwrap();
    bytes[second..end].fill(0);
    put(&journal, &bytes);
    let error = open(&crashed).await.unwrap_err();
    let ErrorKind::Corrupt(place) = error.kind() else { panic!("{error}") };
    assert_eq!(place.offset, Some(second as u64));
}

#[tokio::test]
async fn a_balance_changed_by_hand_becomes_an_external_edit() {
    let (_temp, dir) = closed_store().await;
    edit(&dir.join("user_balances.json"), |text| text.replace("20.00", "25.5").replace("\"3\"", "\"33\""));
    let storage = open(&dir).await.unwrap();
    for (id, balance) in [(1, "10"), (2, "25.50"), (3, "0"), (33, "30")] {
        assert_eq!(storage.get_balance(user(id)).await.unwrap(), money(balance), "user {id}");
    }
    let rows = storage.list_operations(ListOperations::of(user(2))).await.unwrap().items;
    assert_eq!(rows[0].kind, OperationKind::ExternalEdit);
    assert_eq!(rows[0].balance_change.to_string(), "+5.50");
    assert_audit_clean(&storage).await;
    assert!(storage.backend().warnings.iter().any(|warning| warning.contains("user_balances.json")));
    storage.close().await.unwrap();
    let storage = open(&dir).await.unwrap();
    assert_eq!(storage.list_operations(ListOperations::of(user(2))).await.unwrap().items.len(), 2);
}

#[tokio::test]
async fn a_payment_approved_by_hand_never_credits() {
    let (_temp, dir) = closed_store().await;
    edit(&dir.join("payments.json"), |text| text.replace("pending", "approved"));
    let storage = open(&dir).await.unwrap();
    let payment = storage.get_payment(&"p-1".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((payment.status, payment.origin), (PaymentStatus::Approved, PaymentOrigin::Imported));
    let again = MarkPaymentStatus::new(payment.id.clone(), PaymentStatus::Approved);
    assert!(storage.mark_payment_status(again).await.unwrap().replayed);
    assert_eq!(storage.get_balance(user(2)).await.unwrap(), money("20"));
    assert_audit_clean(&storage).await;
}

#[tokio::test]
async fn a_bom_is_tolerated() {
    let (_temp, dir) = closed_store().await;
    edit(&dir.join("user_languages.json"), |text| format!("\u{feff}{}", text.replace("en", "uk")));
    let storage = open(&dir).await.unwrap();
    assert_eq!(storage.get_user_language(user(1)).await.unwrap().as_str(), "uk");
}

#[tokio::test]
async fn an_edit_with_changes_in_the_journal_is_set_aside() {
    let (temp, dir) = closed_store().await;
    let (crashed, ..) = crashed_store(&temp, &dir).await;
    for name in ["user_balances.json", "payments.json"] {
        edit(&crashed.join(name), |text| text.replace("\"2\"", "\"22\"").replace("100.00", "900"));
    }
    let edited = fs::read(crashed.join("payments.json")).unwrap();
    let storage = open(&crashed).await.unwrap();
    assert_eq!(storage.get_balance(user(1)).await.unwrap(), money("21"));
    assert_eq!(storage.get_balance(user(2)).await.unwrap(), money("20"));
    let payment = storage.get_payment(&"p-1".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(payment.amount.money(), money("100"));
    assert_eq!(fs::read(crashed.join("payments.json.edited-1")).unwrap(), edited);
    assert!(storage.backend().warnings.iter().any(|warning| warning.contains("payments.json.edited-1")));
    assert_audit_clean(&storage).await;
}

#[tokio::test]
async fn an_edit_while_the_store_is_open_is_set_aside() {
    let (_temp, dir) = closed_store().await;
    let storage = open(&dir).await.unwrap();
    credit(&storage, 1, "5").await;
    edit(&dir.join("user_languages.json"), |text| text.replace("en", "de"));
    edit(&dir.join("user_balances.json"), |text| text.replace("20.00", "999"));
    storage.close().await.unwrap();
    assert!(fs::read_to_string(dir.join("user_balances.json.edited-1")).unwrap().contains("999"));
    assert!(fs::read_to_string(dir.join("user_languages.json.edited-1")).unwrap().contains("de"));
    let storage = open(&dir).await.unwrap();
    assert_eq!(storage.get_balance(user(2)).await.unwrap(), money("20"));
    assert_eq!(storage.get_user_language(user(1)).await.unwrap().as_str(), "en");
    assert_eq!(storage.get_balance(user(1)).await.unwrap(), money("15"));
}

#[tokio::test]
async fn our_own_files_changed_or_a_listed_one_missing_is_corrupt() {
    for (name, damage) in [
        ("users.json", true),
        ("balance_reserves.json", true),
        ("ledger.jsonl", true),
        ("manifest.json", true),
        ("users.json", false),
        ("payments.json", false),
        ("ledger.jsonl", false),
    ] {
        let (_temp, dir) = closed_store().await;
        if damage {
            edit(&dir.join(name), |text| {
                if name == "manifest.json" {
                    text.replacen("\"seq\": ", "\"seq\": 1", 1)
                } else {
                    let end = text.rfind('}').unwrap();
                    format!("{}7{}", &text[..end], &text[end..])
                }
            });
        } else {
            away::remove(&dir.join(name));
        }
        let before = bytes_of(&dir);
        let error = open(&dir).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Corrupt(place) if place.source.contains(name)), "{name}: {error}");
        let mut after = bytes_of(&dir);
        // An empty ledger is made anew before its length is judged.
        after.retain(|path, bytes| before.contains_key(path) || !bytes.is_empty());
        assert_eq!(after, before, "{name}");
    }
}

#[tokio::test]
async fn a_lost_manifest_is_no_empty_store() {
    let (_temp, dir) = closed_store().await;
    away::remove(&dir.join("manifest.json"));
    let error = open(&dir).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::SchemaMismatch { .. }), "{error}");
    assert!(error.to_string().contains("storage import"), "{error}");
}

#[tokio::test]
async fn a_directory_of_the_earlier_system_is_not_ours() {
    let temp = tempfile::tempdir().unwrap();
    put(&temp.path().join("user_balances.json"), b"{\"1\": 5}");
    let before = bytes_of(temp.path());
    let error = open(temp.path()).await.unwrap_err();
    let ErrorKind::SchemaMismatch { run, .. } = error.kind() else { panic!("{error}") };
    assert!(run.starts_with("storage import"), "{run}");
    assert_eq!(bytes_of(temp.path()), before);
}

#[tokio::test]
async fn a_bad_hand_edit_is_refused_with_its_place_and_no_byte_changes() {
    let digits = "9".repeat(400);
    let deep = format!("{{\"1\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("truncated", b"{\n  \"1\": 10.00,\n  \"2\": 2".to_vec(), "line 3"),
        ("two documents", b"{\"1\": 1}\n{\"1\": 1}".to_vec(), "line 2, column 1"),
        ("invalid UTF-8", b"{\n\"1\xff\": 1}".to_vec(), "line 2, column 3"),
        ("empty", b"".to_vec(), "line 1"),
        ("a list", b"[1, 2]".to_vec(), "line 1, column 1"),
        ("a key twice", b"{\n  \"1\": 1,\n  \"1\": 2}".to_vec(), "line 3, column 3"),
        ("deep nesting", deep.into_bytes(), "line 1"),
        ("400 digits", format!("{{\"1\": {digits}}}").into_bytes(), "line 1, column 7"),
        ("NaN", b"{\"1\": NaN}".to_vec(), "line 1, column 7"),
        ("negative", b"{\"1\": -5}".to_vec(), "key \"1\""),
        ("seven decimals", b"{\"1\": 0.0000001}".to_vec(), "line 1, column 7"),
        ("text for a number", b"{\"1\": \"5\"}".to_vec(), "line 1, column 7"),
        ("user 0", b"{\"0\": 5}".to_vec(), "line 1, column 2"),
        ("a name for a user", b"{\"bob\": 5}".to_vec(), "key \"bob\""),
    ];
    for (what, bytes, place) in cases {
        let (_temp, dir) = closed_store().await;
        put(&dir.join("user_balances.json"), &bytes);
        let before = bytes_of(&dir);
        let error = open(&dir).await.unwrap_err();
        let text = error.report().to_string();
        assert!(matches!(error.kind(), ErrorKind::Corrupt(_)), "{what}: {text}");
        assert!(text.contains("user_balances.json") && text.contains(place), "{what}: {text}");
        assert_eq!(bytes_of(&dir), before, "{what}");
    }
}

#[tokio::test]
async fn unknown_fields_and_unknown_words_are_refused_because_they_would_be_lost() {
    for (from, to) in [
        ("\"status\": \"pending\"", "\"status\": \"teleported\""),
        ("\"notes\": null", "\"notes\": null, \"mood\": 1"),
        ("\"amount\": 100.00", "\"amount\": 0"),
        ("\"payment_id\": \"p-1\"", "\"payment_id\": \"p-2\""),
    ] {
        let (_temp, dir) = closed_store().await;
        edit(&dir.join("payments.json"), |text| {
            assert!(text.contains(from));
            text.replace(from, to)
        });
        let error = open(&dir).await.unwrap_err();
        let ErrorKind::Corrupt(place) = error.kind() else { panic!("{to}: {error}") };
        assert_eq!((place.source.as_str(), place.key.as_deref()), ("payments.json", Some("p-1")), "{to}");
        assert!(place.line.is_some() && place.column.is_some(), "{to}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn symlinks_and_directories_in_place_of_files_are_refused() {
    for name in ["user_balances.json", "users.json", "manifest.json", "ledger.jsonl", "journal.head", "writer.lock"] {
        let (temp, dir) = closed_store().await;
        let (file, elsewhere) = (dir.join(name), temp.path().join("elsewhere"));
        fs::copy(&file, &elsewhere).unwrap();
        away::remove(&file);
        std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
        let error = open(&dir).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Corrupt(_)), "{name}: {error}");
        assert!(error.to_string().contains("symbolic link"), "{name}: {error}");

        let (_temp, dir) = closed_store().await;
        away::remove(&dir.join(name));
        fs::create_dir(dir.join(name)).unwrap();
        let error = open(&dir).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Corrupt(_)), "{name}: {error}");
        assert!(error.to_string().contains("directory"), "{name}: {error}");
    }
}

#[tokio::test]
async fn an_exclusive_handle_keeps_others_out_and_is_named() {
    let (_temp, dir) = closed_store().await;
    let alone = JsonStorage::open(JsonOptions { access: Access::Exclusive, ..options(&dir) }).await.unwrap();
    credit(&alone, 1, "5").await;
    let error = open(&dir).await.unwrap_err();
    let ErrorKind::Locked { pid, since } = error.kind() else { panic!("{error}") };
    assert_eq!(*pid, Some(std::process::id()));
    assert_eq!(since.map(|since| since.to_string()).as_deref(), Some("2026-01-15T10:00:00.000000Z"));
    alone.close().await.unwrap();
    let shared = open(&dir).await.unwrap();
    assert_eq!(shared.get_balance(user(1)).await.unwrap(), money("15"));
    let error = JsonStorage::open(JsonOptions { access: Access::Exclusive, ..options(&dir) }).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Locked { .. }), "{error}");
}

#[tokio::test]
async fn handles_follow_each_other_through_checkpoints() {
    let (_temp, dir) = closed_store().await;
    let small = JsonOptions { checkpoint_bytes: 2_000, ..options(&dir) };
    let writer = JsonStorage::open(small.clone()).await.unwrap();
    let reader = JsonStorage::open(small).await.unwrap();
    let mut expected = 10;
    for round in 0..200 {
        credit(&writer, 1, "1").await;
        expected += 1;
        // Sometimes every change is followed, sometimes several checkpoints go by unseen.
        if round % 37 == 0 || round > 150 {
            assert_eq!(reader.get_balance(user(1)).await.unwrap(), money(&expected.to_string()), "round {round}");
        }
        if round % 41 == 0 {
            credit(&reader, 1, "1").await;
            expected += 1;
        }
    }
    assert_eq!(writer.get_balance(user(1)).await.unwrap(), money(&expected.to_string()));
    assert_audit_clean(&reader).await;
    writer.close().await.unwrap();
    credit(&reader, 1, "1").await;
    reader.close().await.unwrap();
    assert_audit_clean(&open(&dir).await.unwrap()).await;
}

#[tokio::test]
async fn a_restore_is_seen_by_a_handle_that_was_open_before() {
    let (temp, dir) = closed_store().await;
    let mut dump = Vec::new();
    open(&dir).await.unwrap().dump(&mut dump).await.unwrap();
    let empty = temp.path().join("empty");
    let (one, other) = (open(&empty).await.unwrap(), open(&empty).await.unwrap());
    assert_eq!(other.get_balance(user(1)).await.unwrap(), Money::ZERO);
    one.restore(&mut dump.as_slice()).await.unwrap();
    assert_eq!(other.get_balance(user(1)).await.unwrap(), money("10"));
    credit(&other, 1, "1").await;
    assert_eq!(one.get_balance(user(1)).await.unwrap(), money("11"));
    assert_audit_clean(&one).await;
}

#[tokio::test]
async fn a_checkpoint_whose_process_died_before_announcing_it_is_noticed_before_the_next_change() {
    let (temp, dir) = closed_store().await;
    let other = open(&dir).await.unwrap();
    credit(&other, 1, "1").await;
    let head = fs::read(dir.join("journal.head")).unwrap();
    let dying = JsonStorage::open(JsonOptions { checkpoint_bytes: 1, ..options(&dir) }).await.unwrap();
    credit(&dying, 2, "7").await;
    drop(dying);
    // As if it had died between the last manifest and the head: the others believe that the old journal is in use.
    put(&dir.join("journal.head"), &head);
    credit(&other, 1, "100").await;
    let crashed = temp.path().join("crashed");
    copy(&dir, &crashed);
    for storage in [other, open(&crashed).await.unwrap()] {
        assert_eq!(storage.get_balance(user(1)).await.unwrap(), money("111"));
        assert_eq!(storage.get_balance(user(2)).await.unwrap(), money("27"));
        assert_audit_clean(&storage).await;
    }
}

#[tokio::test]
async fn a_damaged_head_is_made_anew_from_the_journal() {
    let (_temp, dir) = closed_store().await;
    let storage = open(&dir).await.unwrap();
    credit(&storage, 1, "1").await;
    put(&dir.join("journal.head"), b"");
    assert_eq!(storage.get_balance(user(1)).await.unwrap(), money("11"));
    credit(&storage, 1, "1").await;
    assert_eq!(storage.get_balance(user(1)).await.unwrap(), money("12"));
    assert_audit_clean(&storage).await;
}

#[tokio::test]
async fn a_credited_payment_cannot_be_undone_by_hand() {
    for (from, to) in [
        ("\"approved\"", "\"pending\""),
        ("\"amount\": 100.00", "\"amount\": 900"),
        ("\"user_id\": 2", "\"user_id\": 3"),
        ("\"approved\"", "\"refunded\""),
        ("p-1", "p-9"),
    ] {
        let (_temp, dir) = closed_store().await;
        let storage = open(&dir).await.unwrap();
        let approve = MarkPaymentStatus::new("p-1".parse().unwrap(), PaymentStatus::Approved);
        storage.mark_payment_status(approve).await.unwrap();
        storage.close().await.unwrap();
        edit(&dir.join("payments.json"), |text| {
            assert!(text.contains(from));
            text.replace(from, to)
        });
        let before = bytes_of(&dir);
        let error = open(&dir).await.unwrap_err();
        let ErrorKind::Corrupt(place) = error.kind() else { panic!("{to}: {error}") };
        assert_eq!((place.source.as_str(), place.key.as_deref()), ("payments.json", Some("p-1")), "{to}");
        assert_eq!(bytes_of(&dir), before, "{to}");
    }
}

#[tokio::test]
async fn what_was_spent_survives_an_edit_of_the_limits() {
    let (_temp, dir) = closed_store().await;
    let storage = open(&dir).await.unwrap();
    let generation = AddGenerationToHistory {
        user: user(1),
        id: None,
        model_id: "m".parse().unwrap(),
        model_name: "M".parse().unwrap(),
        params: Params::from_json("{}").unwrap(),
        result_urls: ResultUrls::default(),
        price: money("7"),
    };
    storage.add_generation_to_history(generation).await.unwrap();
    storage.set_admin_limit(SetAdminLimit::new(user(1), money("50"))).await.unwrap();
    storage.close().await.unwrap();
    edit(&dir.join("admin_limits.json"), |_| "{\"1\": {\"limit\": 80}}".to_owned());
    let storage = open(&dir).await.unwrap();
    assert_eq!(storage.get_admin_limit(user(1)).await.unwrap(), AdminLimit::Limited(money("80")));
    assert_eq!(storage.get_admin_spent(user(1)).await.unwrap().to_string(), "7.00");
}

#[tokio::test]
async fn a_damaged_newline_does_not_hide_the_good_line_behind_it() {
    for access in [Access::Shared, Access::Exclusive] {
        let (temp, dir) = closed_store().await;
        let storage = JsonStorage::open(JsonOptions { access, ..options(&dir) }).await.unwrap();
        for _ in 0..3 {
            credit(&storage, 1, "1").await;
        }
        let crashed = temp.path().join("crashed");
        copy(&dir, &crashed);
        put(&crashed.join("journal.head"), b"");
        let journal = journal_of(&crashed);
        let mut bytes = fs::read(&journal).unwrap();
        let second = (0..bytes.len()).filter(|at| bytes[*at] == b'\n').nth(1).unwrap();
        bytes[second] ^= 1;
        put(&journal, &bytes);
        let error = open(&crashed).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Corrupt(_)), "{access:?}: {error}");
    }
}

#[tokio::test]
async fn lists_on_a_closed_handle_answer_closed_whatever_the_cursor() {
    let (_temp, dir) = closed_store().await;
    let storage = open(&dir).await.unwrap();
    storage.close().await.unwrap();
    storage.close().await.unwrap();
    let page = PageRequest { after: Some("0123456789abcdef00".parse().unwrap()), ..PageRequest::default() };
    let error =
        storage.list_payments(ListPayments { page: page.clone(), ..ListPayments::default() }).await.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (&ErrorKind::Closed, Some("list_payments")));
    let error = storage.list_operations(ListOperations { user: user(1), page }).await.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (&ErrorKind::Closed, Some("list_operations")));
}

/// The one call that the lints keep for `files.rs`.
mod away {
    use std::path::Path;

    #[expect(clippy::disallowed_methods, reason = "the test plays the person who removes a file")]
    pub(super) fn remove(path: &Path) {
        std::fs::remove_file(path).unwrap();
    }
}
