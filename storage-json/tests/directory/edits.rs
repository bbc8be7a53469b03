//! Files changed by hand: honoured, set aside or refused. The table in `docs/json-directory.md` names these tests.

use serde_json::{Value, json};
use storage_core::{
    AddGenerationJob, AddReferralBonus, BonusCount, FreeGenerations as _, Generation, GetReferrals,
    GetUserGenerationsHistory, ImportRecord, IncrementFreeGenerations, JobStatus, Jobs as _, OperationKey, Payment,
    Referrals as _, RefundPayment, ReserveBalance, Reserves as _, SetGiftClaimed, SetReferrer, UpdateJobStatus,
};

use super::*;

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
    assert_eq!((payment.status, payment.origin), (PaymentStatus::Approved, PaymentOrigin::ByHand));
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
async fn a_value_over_its_limit_is_refused_with_its_place() {
    for (file, text, limit) in [
        ("daily_free_generations.json", r#"{"1": {"date": "2026-01-15", "count": 0, "bonus": 1000000000001}}"#, "bank"),
        ("admin_limits.json", r#"{"1": {"limit": 80, "spent": -1}}"#, "spent"),
        ("admin_limits.json", r#"{"1": {"limit": 80, "spent": 1000000000000000000000000000000}}"#, "spent"),
    ] {
        let (_temp, dir) = closed_store().await;
        put(&dir.join(file), text.as_bytes());
        let error = open(&dir).await.unwrap_err();
        let ErrorKind::Corrupt(place) = error.kind() else { panic!("{text}: {error}") };
        assert_eq!((place.source.as_str(), place.key.as_deref()), (file, Some("1")), "{text}");
        assert!(place.line.is_some() && error.to_string().contains(limit), "{error}");
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

#[tokio::test]
async fn a_credited_payment_cannot_be_undone_by_hand() {
    for (from, to) in [
        ("\"approved\"", "\"pending\""),
        ("\"amount\": 100.00", "\"amount\": 900"),
        ("\"user_id\": 2", "\"user_id\": 3"),
        ("\"approved\"", "\"refunded\""),
        ("\"notes\": null", "\"notes\": null, \"origin\": \"imported\""),
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

/// A closed store with records of every kind. Users 1 to 3 have 10, 20 and 30.
///
/// Payments of user 2: `p-1` (of 100, by key `pay`, charge `c-1`), `p-2` and `p-3` pending, approved and refunded; `p-4`
/// rejected; `i-1` imported as approved. Jobs of user 1: `j-1` pending, by key `order`, with task `t-1`; `j-2` completed.
/// User 2 was brought by 1, for a bonus of 5, by key `refer`; 3 by 2. Generations `g-1` and `g-2` of user 1.
async fn full_store() -> (TempDir, PathBuf) {
    let (temp, dir) = closed_store().await;
    let storage = open(&dir).await.unwrap();
    let method = || "card".parse().unwrap();
    // Of `closed_store`, and without a key.
    let mut payment = AddPayment::new(user(2), "100".parse().unwrap(), method());
    payment.key = Some(key("again"));
    payment.payment = Some("p-1".parse().unwrap());
    storage.add_payment(payment).await.unwrap();
    storage.add_payment(by_key()).await.unwrap();
    for (id, statuses) in [
        ("p-2", &[PaymentStatus::Approved][..]),
        ("p-3", &[PaymentStatus::Approved, PaymentStatus::Refunded]),
        ("p-4", &[PaymentStatus::Rejected]),
    ] {
        let mut payment = AddPayment::new(user(2), "100".parse().unwrap(), method());
        payment.payment = Some(id.parse().unwrap());
        storage.add_payment(payment).await.unwrap();
        for status in statuses {
            storage.mark_payment_status(MarkPaymentStatus::new(id.parse().unwrap(), *status)).await.unwrap();
        }
    }
    let old = Payment::create(
        AddPayment::new(user(2), "7".parse().unwrap(), method()),
        "i-1".parse().unwrap(),
        "2025-12-01T08:00:00Z".parse().unwrap(),
    );
    let old = Payment { status: PaymentStatus::Approved, ..old };
    storage.import_records(vec![ImportRecord::Payment(old)]).await.unwrap();
    storage.add_generation_job(order()).await.unwrap();
    storage
        .add_generation_job(AddGenerationJob { job: Some(id("j-2")), external_task_id: None, key: None, ..order() })
        .await
        .unwrap();
    let completed = UpdateJobStatus::new("j-2".parse().unwrap(), JobStatus::Completed);
    storage.update_job_status(completed).await.unwrap();
    storage.set_referrer(brought()).await.unwrap();
    storage.set_referrer(SetReferrer::new(user(3), user(2))).await.unwrap();
    for id in ["g-1", "g-2"] {
        storage.add_generation_to_history(generation(id, "7")).await.unwrap();
    }
    storage.set_gift_claimed(SetGiftClaimed { user: user(1), key: Some(key("gift")) }).await.unwrap();
    storage.increment_free_generations(IncrementFreeGenerations::new(user(1))).await.unwrap();
    storage.set_admin_limit(SetAdminLimit::new(user(1), money("50"))).await.unwrap();
    storage.reserve_balance(ReserveBalance::new(user(1), "h-1".parse().unwrap(), "4".parse().unwrap())).await.unwrap();
    storage.close().await.unwrap();
    (temp, dir)
}

fn key(text: &str) -> OperationKey {
    text.parse().unwrap()
}

fn id<T: std::str::FromStr<Err = Error>>(text: &str) -> T {
    text.parse().unwrap()
}

/// The payment of a webhook: its id is minted.
fn by_key() -> AddPayment {
    AddPayment {
        provider_key: Some(id("c-1")),
        key: Some(key("pay")),
        ..AddPayment::new(user(2), "100".parse().unwrap(), "card".parse().unwrap())
    }
}

fn order() -> AddGenerationJob {
    AddGenerationJob {
        user: user(1),
        job: Some(id("j-1")),
        external_task_id: Some(id("t-1")),
        model_id: "m".parse().unwrap(),
        model_name: "M".parse().unwrap(),
        params: Params::from_json("{}").unwrap(),
        price: money("7"),
        key: Some(key("order")),
    }
}

fn brought() -> SetReferrer {
    SetReferrer { bonus: Some(BonusCount::default()), key: Some(key("refer")), ..SetReferrer::new(user(2), user(1)) }
}

fn generation(id: &str, price: &str) -> AddGenerationToHistory {
    AddGenerationToHistory {
        user: user(1),
        id: Some(id.parse().unwrap()),
        model_id: "m".parse().unwrap(),
        model_name: "M".parse().unwrap(),
        params: Params::from_json("{}").unwrap(),
        result_urls: ResultUrls::default(),
        price: money(price),
    }
}

/// A person with an editor, who keeps the file's form.
fn change(dir: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    edit(&dir.join(file), |text| {
        let mut value = serde_json::from_str(&text).unwrap();
        change(&mut value);
        serde_json::to_string_pretty(&value).unwrap()
    });
}

/// Opens after an edit, and proves that what came of it is whole: the audit is clean, the next opening finds nothing to take
/// over, and another store takes the dump.
async fn taken_over(dir: &Path) -> JsonStorage {
    let storage = open(dir).await.unwrap();
    assert!(storage.backend().warnings.iter().any(|warning| warning.contains("changed by hand")));
    whole(&storage).await;
    storage.close().await.unwrap();
    let again = open(dir).await.unwrap();
    assert_eq!(again.backend().warnings, Vec::<String>::new());
    again
}

async fn whole(storage: &JsonStorage) {
    assert_audit_clean(storage).await;
    let mut dump = Vec::new();
    storage.dump(&mut dump).await.unwrap();
    let temp = tempfile::tempdir().unwrap();
    let other = open(&temp.path().join("data")).await.unwrap();
    other.restore(&mut std::io::Cursor::new(dump.as_slice())).await.unwrap();
    let mut again = Vec::new();
    other.dump(&mut again).await.unwrap();
    assert!(again == dump, "the dump of the edited store restores to another one");
}

/// Proves that an edit is refused, with file, key and words of what to do, and that no byte was changed.
async fn refused(dir: &Path, file: &str, key: &str, words: &[&str]) {
    let before = bytes_of(dir);
    let error = open(dir).await.unwrap_err();
    let ErrorKind::Corrupt(place) = error.kind() else { unreachable!("{key}: {error}") };
    assert_eq!((place.source.as_str(), place.key.as_deref()), (file, Some(key)), "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{word:?} is missing: {error}");
    }
    assert_eq!(bytes_of(dir), before, "{key}");
}

fn assert_conflict<T: std::fmt::Debug>(answer: Result<T, Error>, word: &str) {
    let error = answer.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Conflict { .. }) && error.to_string().contains(word), "{error:?}");
}

async fn status_of(storage: &JsonStorage, id: &str) -> (PaymentStatus, PaymentOrigin) {
    let payment = storage.get_payment(&id.parse().unwrap()).await.unwrap().unwrap();
    (payment.status, payment.origin)
}

async fn history(storage: &JsonStorage, id: i64) -> Vec<String> {
    let page = storage.get_user_generations_history(GetUserGenerationsHistory::of(user(id))).await.unwrap();
    page.items.iter().map(|generation: &Arc<Generation>| generation.id.to_string()).collect()
}

#[tokio::test]
async fn balances_added_and_removed_by_hand_are_external_edits() {
    let (_temp, dir) = full_store().await;
    change(&dir, "user_balances.json", |file| {
        file["9"] = json!(5);
        file.as_object_mut().unwrap().remove("3");
    });
    let storage = taken_over(&dir).await;
    for (id, balance, edit) in [(9, "5", "+5.00"), (3, "0", "-30.00")] {
        assert_eq!(storage.get_balance(user(id)).await.unwrap(), money(balance), "user {id}");
        let rows = storage.list_operations(ListOperations::of(user(id))).await.unwrap().items;
        assert_eq!((rows[0].kind, rows[0].balance_change.to_string().as_str()), (OperationKind::ExternalEdit, edit));
    }
}

#[tokio::test]
async fn a_balance_that_leaves_no_room_for_what_is_held_is_refused() {
    let (_temp, dir) = full_store().await;
    edit(&dir.join("user_balances.json"), |text| text.replace("\"1\": 6.00", "\"1\": 999999999999"));
    refused(&dir, "user_balances.json", "1", &["breaks a rule", "set one"]).await;
}

#[tokio::test]
async fn a_language_set_or_removed_by_hand_counts() {
    let (_temp, dir) = full_store().await;
    change(&dir, "user_languages.json", |file| *file = json!({ "2": "uk", "8": "de" }));
    let storage = taken_over(&dir).await;
    for (id, language) in [(1, "ru"), (2, "uk"), (8, "de")] {
        assert_eq!(storage.get_user_language(user(id)).await.unwrap().as_str(), language, "user {id}");
    }
}

#[tokio::test]
async fn a_gift_taken_off_by_hand_can_be_claimed_once_more() {
    let (_temp, dir) = full_store().await;
    change(&dir, "gift_claimed.json", |file| *file = json!({ "1": false, "2": true }));
    let storage = taken_over(&dir).await;
    assert!(!storage.set_gift_claimed(SetGiftClaimed::new(user(2))).await.unwrap().first);
    // The key of the first claim answers what it did; another one claims.
    let first = storage.set_gift_claimed(SetGiftClaimed { user: user(1), key: Some(key("gift")) }).await.unwrap();
    assert_eq!((first.first, first.replayed), (true, true));
    assert!(storage.set_gift_claimed(SetGiftClaimed::new(user(1))).await.unwrap().first);
    assert!(!storage.set_gift_claimed(SetGiftClaimed::new(user(1))).await.unwrap().first);
}

#[tokio::test]
async fn free_generations_changed_by_hand_count() {
    let (_temp, dir) = full_store().await;
    change(&dir, "daily_free_generations.json", |file| {
        // All of today, none of a day, all of the first day of all, and a bank that was removed.
        *file = json!({
            "1": { "date": "2026-01-15", "count": 5, "bonus": 0 },
            "2": { "date": null, "count": 0, "bonus": 7 },
            "3": { "date": "1970-01-01", "count": 5, "bonus": 1 },
        });
    });
    let storage = taken_over(&dir).await;
    for (id, taken, left) in [(1, 5, 0), (2, 0, 12), (3, 0, 6)] {
        assert_eq!(storage.get_user_free_generations_today(user(id)).await.unwrap(), taken, "user {id}");
        assert_eq!(storage.get_user_free_generations_remaining(user(id)).await.unwrap(), left, "user {id}");
    }
    storage.close().await.unwrap();
    change(&dir, "daily_free_generations.json", |file| *file = json!({}));
    let storage = taken_over(&dir).await;
    assert_eq!(storage.get_user_free_generations_remaining(user(1)).await.unwrap(), 5);
    storage.add_referral_bonus(AddReferralBonus::new(user(1))).await.unwrap();
}

#[tokio::test]
async fn a_day_taken_back_by_hand_frees_a_user_whom_a_wrong_clock_locked_out() {
    let (_temp, dir) = full_store().await;
    change(&dir, "daily_free_generations.json", |file| {
        file["1"] = json!({ "date": "2099-01-01", "count": 5, "bonus": 0 });
    });
    let storage = taken_over(&dir).await;
    assert_eq!(storage.get_user_free_generations_remaining(user(1)).await.unwrap(), 0);
    storage.close().await.unwrap();
    change(&dir, "daily_free_generations.json", |file| file["1"]["date"] = Value::Null);
    let storage = taken_over(&dir).await;
    assert_eq!(storage.get_user_free_generations_remaining(user(1)).await.unwrap(), 5);
}

#[tokio::test]
async fn a_limit_set_or_removed_by_hand_counts_and_what_was_spent_stays() {
    let (_temp, dir) = full_store().await;
    change(&dir, "admin_limits.json", |file| *file = json!({ "2": { "limit": 30, "spent": 12.5 } }));
    let storage = taken_over(&dir).await;
    assert_eq!(storage.get_admin_limit(user(1)).await.unwrap(), AdminLimit::Limited(money("100")));
    assert_eq!(storage.get_admin_spent(user(1)).await.unwrap().to_string(), "14.00");
    assert_eq!(storage.get_admin_remaining(user(2)).await.unwrap(), AdminLimit::Limited(money("17.50")));
}

#[tokio::test]
async fn a_generation_added_by_hand_is_recorded_once() {
    let (_temp, dir) = full_store().await;
    change(&dir, "generations_history.json", |file| {
        let mut entry = file["1"][0].clone();
        entry["id"] = json!("by-hand");
        file["1"].as_array_mut().unwrap().push(entry.clone());
        file["4"] = json!([entry]);
    });
    let storage = taken_over(&dir).await;
    assert_eq!((history(&storage, 1).await.len(), history(&storage, 4).await), (3, vec!["by-hand".to_owned()]));
    assert!(storage.add_generation_to_history(generation("by-hand", "7")).await.unwrap().replayed);
    assert_conflict(storage.add_generation_to_history(generation("by-hand", "8")).await, "by-hand");
    // What was spent says what was charged, which no edit of the history changes.
    assert_eq!(storage.get_admin_spent(user(1)).await.unwrap().to_string(), "14.00");
    whole(&storage).await;
}

#[tokio::test]
async fn a_generation_removed_or_renamed_by_hand_keeps_its_id_used_up() {
    let (_temp, dir) = full_store().await;
    change(&dir, "generations_history.json", |file| {
        file["1"].as_array_mut().unwrap().retain(|entry| entry["id"] != "g-1");
        file["1"][0]["id"] = json!("g-9");
    });
    let storage = taken_over(&dir).await;
    assert_eq!(history(&storage, 1).await, ["g-9"]);
    for id in ["g-1", "g-2", "g-9"] {
        assert!(storage.add_generation_to_history(generation(id, "7")).await.unwrap().replayed, "{id}");
    }
    assert_eq!(history(&storage, 1).await, ["g-9"]);
}

#[tokio::test]
async fn a_generation_that_stands_twice_is_refused() {
    let (_temp, dir) = full_store().await;
    change(&dir, "generations_history.json", |file| {
        let mut entry = file["1"][0].clone();
        entry["timestamp"] = json!("2026-01-01T00:00:00");
        file["1"].as_array_mut().unwrap().push(entry);
    });
    refused(&dir, "generations_history.json", "1", &["twice", "one may stay"]).await;
}

#[tokio::test]
async fn every_status_set_by_hand_has_a_meaning() {
    use PaymentStatus::{Approved, Cancelled, Pending, Refunded, Rejected};
    let (temp, full) = full_store().await;
    for from in PaymentStatus::ALL {
        for to in PaymentStatus::ALL {
            let dir = temp.path().join(format!("{from}-{to}"));
            copy(&full, &dir);
            for (status, origin) in [(from, PaymentOrigin::ByHand), (to, PaymentOrigin::ByHand)] {
                if status == from && from == Pending {
                    continue;
                }
                change(&dir, "payments.json", |file| file["p-1"]["status"] = json!(status));
                let storage = open(&dir).await.unwrap();
                assert_audit_clean(&storage).await;
                let expected = if matches!(status, Approved | Refunded) { origin } else { PaymentOrigin::Here };
                assert_eq!(status_of(&storage, "p-1").await, (status, expected), "{from} to {to}");
                assert_eq!(storage.get_balance(user(2)).await.unwrap(), money("120"), "{from} to {to}");
                storage.close().await.unwrap();
            }
            let storage = open(&dir).await.unwrap();
            let approve = MarkPaymentStatus::new("p-1".parse().unwrap(), Approved);
            let refund = RefundPayment::new("p-1".parse().unwrap());
            let (approved, refunded) =
                (storage.mark_payment_status(approve).await, storage.refund_payment(refund).await);
            // Only what waits is approved, with its credit, and only that is refunded.
            match to {
                Pending => assert!(!approved.unwrap().replayed && !refunded.unwrap().replayed),
                Approved => assert!(approved.unwrap().replayed && refunded.is_err()),
                Refunded => assert!(approved.is_err() && refunded.unwrap().replayed),
                Rejected | Cancelled => assert!(approved.is_err() && refunded.is_err()),
            }
            assert_eq!(storage.get_balance(user(2)).await.unwrap(), money("120"), "{from} to {to}");
            whole(&storage).await;
        }
    }
}

#[tokio::test]
async fn a_refund_of_a_payment_approved_by_hand_takes_no_money_and_says_so() {
    let (_temp, dir) = full_store().await;
    change(&dir, "payments.json", |file| file["p-1"]["status"] = json!("approved"));
    let storage = taken_over(&dir).await;
    for _ in 0..2 {
        let error = storage.refund_payment(RefundPayment::new("p-1".parse().unwrap())).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::InvalidTransition { .. }), "{error:?}");
        assert!(error.to_string().contains("approved by hand and never credited"), "{error}");
    }
    assert_eq!(storage.get_balance(user(2)).await.unwrap(), money("120"));
    assert_eq!(status_of(&storage, "p-1").await, (PaymentStatus::Approved, PaymentOrigin::ByHand));
    whole(&storage).await;
    // By hand it may be called refunded too: no money moves.
    storage.close().await.unwrap();
    change(&dir, "payments.json", |file| file["p-1"]["status"] = json!("refunded"));
    let storage = taken_over(&dir).await;
    assert_eq!(storage.get_balance(user(2)).await.unwrap(), money("120"));
}

#[tokio::test]
async fn a_payment_approved_by_hand_and_put_back_is_credited_when_it_is_approved() {
    for back in ["pending", "rejected", "cancelled"] {
        let (_temp, dir) = full_store().await;
        for status in ["approved", back] {
            change(&dir, "payments.json", |file| file["p-1"]["status"] = json!(status));
            taken_over(&dir).await.close().await.unwrap();
        }
        if back != "pending" {
            change(&dir, "payments.json", |file| file["p-1"]["status"] = json!("pending"));
        }
        let storage = open(&dir).await.unwrap();
        assert_eq!(status_of(&storage, "p-1").await, (PaymentStatus::Pending, PaymentOrigin::Here), "{back}");
        let approve = MarkPaymentStatus::new("p-1".parse().unwrap(), PaymentStatus::Approved);
        storage.mark_payment_status(approve).await.unwrap();
        assert_eq!(storage.get_balance(user(2)).await.unwrap(), money("220"), "{back}");
        whole(&storage).await;
        storage.refund_payment(RefundPayment::new("p-1".parse().unwrap())).await.unwrap();
        assert_eq!(storage.get_balance(user(2)).await.unwrap(), money("120"), "{back}");
        whole(&storage).await;
    }
}

#[tokio::test]
async fn an_imported_payment_is_not_made_pending_by_hand() {
    let (_temp, dir) = full_store().await;
    change(&dir, "payments.json", |file| file["i-1"]["status"] = json!("pending"));
    refused(&dir, "payments.json", "i-1", &["another system", "undo the edit", "origin"]).await;
    // Whoever says that its money is not in the balance has it credited here.
    change(&dir, "payments.json", |file| drop(file["i-1"].as_object_mut().unwrap().remove("origin")));
    let storage = taken_over(&dir).await;
    let approve = MarkPaymentStatus::new("i-1".parse().unwrap(), PaymentStatus::Approved);
    storage.mark_payment_status(approve).await.unwrap();
    assert_eq!(storage.get_balance(user(2)).await.unwrap(), money("127"));
    whole(&storage).await;
}

#[tokio::test]
async fn a_refunded_payment_cannot_be_undone_by_hand() {
    for status in ["pending", "approved", "rejected", "cancelled"] {
        let (_temp, dir) = full_store().await;
        change(&dir, "payments.json", |file| file["p-3"]["status"] = json!(status));
        refused(&dir, "payments.json", "p-3", &["credited", "refunded", "undo the edit"]).await;
    }
}

#[tokio::test]
async fn a_credited_payment_cannot_be_removed_by_hand() {
    for id in ["p-2", "p-3"] {
        let (_temp, dir) = full_store().await;
        change(&dir, "payments.json", |file| drop(file.as_object_mut().unwrap().remove(id)));
        refused(&dir, "payments.json", id, &["credited", "undo the edit"]).await;
    }
}

#[tokio::test]
async fn a_pending_payment_changed_by_hand_is_decided_as_it_stands() {
    let (_temp, dir) = full_store().await;
    change(&dir, "payments.json", |file| {
        let fields = file["p-1"].as_object_mut().unwrap();
        fields.insert("amount".to_owned(), json!(12.5));
        fields.insert("user_id".to_owned(), json!(77));
        fields.insert("notes".to_owned(), json!("by hand"));
        fields.insert("provider_key".to_owned(), json!("c-7"));
    });
    let storage = taken_over(&dir).await;
    let approve = MarkPaymentStatus::new("p-1".parse().unwrap(), PaymentStatus::Approved);
    storage.mark_payment_status(approve).await.unwrap();
    assert_eq!(storage.get_balance(user(77)).await.unwrap(), money("12.50"));
    assert_eq!(storage.get_balance(user(2)).await.unwrap(), money("120"));
    // The call that made it is not answered with another user's payment.
    let mut again = AddPayment::new(user(2), "100".parse().unwrap(), "card".parse().unwrap());
    (again.payment, again.key) = (Some(id("p-1")), Some(key("again")));
    assert_conflict(storage.add_payment(again).await, "another user");
    whole(&storage).await;
}

#[tokio::test]
async fn a_payment_added_by_hand_is_one_like_others() {
    let (_temp, dir) = full_store().await;
    change(&dir, "payments.json", |file| {
        for (id, status) in [("h-1", "pending"), ("h-2", "approved")] {
            let mut payment = file["p-1"].clone();
            payment["payment_id"] = json!(id);
            payment["user_id"] = json!(88);
            payment["status"] = json!(status);
            file[id] = payment;
        }
    });
    let storage = taken_over(&dir).await;
    for id in ["h-1", "h-2"] {
        let approve = MarkPaymentStatus::new(id.parse().unwrap(), PaymentStatus::Approved);
        assert_eq!(storage.mark_payment_status(approve).await.unwrap().replayed, id == "h-2");
    }
    assert_eq!(storage.get_balance(user(88)).await.unwrap(), money("100"), "credited once, for the one that waited");
    whole(&storage).await;
}

#[tokio::test]
async fn the_key_of_a_payment_removed_by_hand_is_a_conflict() {
    let (_temp, dir) = full_store().await;
    change(&dir, "payments.json", |file| {
        file.as_object_mut().unwrap().retain(|id, payment| id != "p-1" && payment["provider_key"] != "c-1");
    });
    let storage = taken_over(&dir).await;
    let mut again = AddPayment::new(user(2), "100".parse().unwrap(), "card".parse().unwrap());
    (again.payment, again.key) = (Some(id("p-1")), Some(key("again")));
    // One by its id, one by its charge, whose id was minted.
    for add in [again.clone(), by_key()] {
        assert_conflict(storage.add_payment(add).await, "removed by hand");
    }
    // Another key makes a new payment, and then the old key is answered with that one.
    for mut add in [again, by_key()] {
        let old = add.clone();
        add.key = None;
        let made = storage.add_payment(add).await.unwrap();
        assert!(!made.replayed);
        assert_eq!(storage.add_payment(old).await.unwrap().record, made.record);
    }
    let gone =
        storage.mark_payment_status(MarkPaymentStatus::new("p-0".parse().unwrap(), PaymentStatus::Approved)).await;
    assert!(matches!(gone.unwrap_err().kind(), ErrorKind::NotFound(_)));
    whole(&storage).await;
}

#[tokio::test]
async fn two_payments_with_one_provider_key_are_refused() {
    let (_temp, dir) = full_store().await;
    change(&dir, "payments.json", |file| file["p-4"]["provider_key"] = json!("c-1"));
    let error = open(&dir).await.unwrap_err();
    let ErrorKind::Corrupt(place) = error.kind() else { panic!("{error}") };
    assert_eq!(place.source, "payments.json");
    assert!(
        error.to_string().contains("same provider key c-1") && error.to_string().contains("one may have it"),
        "{error}"
    );
}

#[tokio::test]
async fn a_referrer_set_or_changed_by_hand_counts() {
    let (_temp, dir) = full_store().await;
    change(&dir, "referrals.json", |file| {
        file["3"] = json!(1);
        file["9"] = json!(8);
    });
    let storage = taken_over(&dir).await;
    for (id, referrer) in [(2, 1), (3, 1), (9, 8)] {
        assert_eq!(storage.get_referrer(user(id)).await.unwrap(), Some(user(referrer)), "user {id}");
    }
    let brought: Vec<i64> = storage
        .get_referrals(GetReferrals::of(user(1)))
        .await
        .unwrap()
        .items
        .iter()
        .map(|referral| referral.user.get())
        .collect();
    assert_eq!(brought, [2, 3]);
    let bonus = SetReferrer { bonus: Some(BonusCount::default()), ..SetReferrer::new(user(9), user(8)) };
    assert!(storage.set_referrer(bonus).await.unwrap().replayed, "no bonus for one that stands");
    assert_conflict(storage.set_referrer(SetReferrer::new(user(9), user(1))).await, "8");
}

#[tokio::test]
async fn a_referral_removed_by_hand_grants_no_second_bonus() {
    for referrer in [1, 3] {
        let (_temp, dir) = full_store().await;
        change(&dir, "referrals.json", |file| {
            let entries = file.as_object_mut().unwrap();
            entries.remove("2");
            entries.remove("3");
        });
        let storage = taken_over(&dir).await;
        let left = storage.get_user_free_generations_remaining(user(1)).await.unwrap();
        assert_eq!((storage.get_referrer(user(2)).await.unwrap(), left), (None, 9));
        // The key of the call that set it says that it is gone.
        assert_conflict(storage.set_referrer(brought()).await, "removed by hand");
        // Again, by whomever: stored, and not granted.
        let bonus = Some(BonusCount::new(9).unwrap());
        let set = SetReferrer { bonus, ..SetReferrer::new(user(2), user(referrer)) };
        let stored = storage.set_referrer(set).await.unwrap();
        assert_eq!((stored.replayed, stored.record.referrer, stored.record.bonus), (false, user(referrer), 5));
        for (id, left) in [(1, 9), (3, 5)] {
            assert_eq!(storage.get_user_free_generations_remaining(user(id)).await.unwrap(), left, "user {id}");
        }
        // For the other one no bonus was granted yet.
        let set = SetReferrer { bonus, ..SetReferrer::new(user(3), user(1)) };
        if referrer == 1 {
            assert_eq!(storage.set_referrer(set).await.unwrap().record.bonus, 9);
            assert_eq!(storage.get_user_free_generations_remaining(user(1)).await.unwrap(), 18);
        }
        whole(&storage).await;
        // The old key is answered with what stands there now, or says that it is another one.
        match referrer {
            1 => assert!(storage.set_referrer(brought()).await.unwrap().replayed),
            _ => assert_conflict(storage.set_referrer(brought()).await, "user 3 brought them"),
        }
    }
}

#[tokio::test]
async fn a_bonus_is_remembered_through_every_removal_and_every_opening() {
    let (_temp, dir) = full_store().await;
    for _ in 0..3 {
        change(&dir, "referrals.json", |file| drop(file.as_object_mut().unwrap().remove("2")));
        let storage = taken_over(&dir).await;
        let set = SetReferrer { key: None, ..brought() };
        assert_eq!(storage.set_referrer(set).await.unwrap().record.bonus, 5);
        assert_eq!(storage.get_user_free_generations_remaining(user(1)).await.unwrap(), 9);
        storage.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_circle_of_referrers_by_hand_is_refused() {
    for length in [2, 3, 1000, 1500] {
        let (_temp, dir) = full_store().await;
        change(&dir, "referrals.json", |file| {
            for number in 0..length {
                file[(100 + number).to_string()] = json!(100 + (number + 1) % length);
            }
        });
        let error = open(&dir).await.unwrap_err();
        let ErrorKind::Corrupt(place) = error.kind() else { panic!("{error}") };
        assert!(place.source == "referrals.json" && place.key.is_some() && place.line.is_some(), "{error}");
        assert!(error.to_string().contains("circle") && error.to_string().contains("remove the entry"), "{error}");
    }
    let (_temp, dir) = full_store().await;
    change(&dir, "referrals.json", |file| file["9"] = json!(9));
    refused(&dir, "referrals.json", "9", &["their own referrer"]).await;
}

#[tokio::test]
async fn a_chain_of_referrers_by_hand_is_as_long_as_it_may_be() {
    for (edges, fits) in [(1000, true), (1001, false)] {
        let (_temp, dir) = full_store().await;
        change(&dir, "referrals.json", |file| {
            for number in 0..edges {
                file[(100 + number).to_string()] = json!(101 + number);
            }
        });
        if fits {
            taken_over(&dir).await;
        } else {
            refused(&dir, "referrals.json", "100", &["more than 1000", "remove the entry"]).await;
        }
    }
}

#[tokio::test]
async fn lists_of_referrals_changed_by_hand_are_written_anew_from_the_entries() {
    let (_temp, dir) = full_store().await;
    change(&dir, "referrals.json", |file| file["referrals"] = json!({ "3": [1, 2] }));
    let storage = taken_over(&dir).await;
    assert_eq!(storage.get_referrer(user(2)).await.unwrap(), Some(user(1)));
    storage.close().await.unwrap();
    let file: Value = serde_json::from_slice(&fs::read(dir.join("referrals.json")).unwrap()).unwrap();
    assert_eq!(file["referrals"], json!({ "1": [2], "2": [3] }));
}

#[tokio::test]
async fn every_status_of_a_job_set_by_hand_is_where_it_stands() {
    for (job, from) in [("j-1", JobStatus::Pending), ("j-2", JobStatus::Completed)] {
        for to in JobStatus::ALL {
            let (_temp, dir) = full_store().await;
            change(&dir, "generation_jobs.json", |file| {
                file[job]["status"] = json!(to);
                file[job]["price"] = json!(9);
                file[job]["error_message"] = json!("by hand");
            });
            let storage = taken_over(&dir).await;
            let stands = storage.get_job(&job.parse().unwrap()).await.unwrap().unwrap();
            assert_eq!((stands.status, stands.price), (to, money("9")), "{from} to {to}");
            // The call that made it is still known, and answers the job as it stands.
            let again = AddGenerationJob { key: None, ..order() };
            if job == "j-1" {
                for add in [again, order()] {
                    assert_eq!(storage.add_generation_job(add).await.unwrap().record, stands);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_job_added_by_hand_is_one_like_others() {
    let (_temp, dir) = full_store().await;
    change(&dir, "generation_jobs.json", |file| {
        let mut job = file["j-2"].clone();
        job["job_id"] = json!("j-9");
        job["user_id"] = json!(66);
        job["status"] = json!("running");
        job.as_object_mut().unwrap().remove("created_with");
        job.as_object_mut().unwrap().remove("external_task_id");
        job["task_id"] = json!("t-9");
        file["j-9"] = job;
    });
    let storage = taken_over(&dir).await;
    let found = storage.find_job_by_task_id(&"t-9".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((found.id.as_str(), found.user), ("j-9", user(66)));
    let update = UpdateJobStatus::new("j-9".parse().unwrap(), JobStatus::Completed);
    assert!(!storage.update_job_status(update).await.unwrap().replayed);
}

#[tokio::test]
async fn the_key_of_a_job_removed_by_hand_is_a_conflict() {
    let (_temp, dir) = full_store().await;
    change(&dir, "generation_jobs.json", |file| drop(file.as_object_mut().unwrap().remove("j-1")));
    let storage = taken_over(&dir).await;
    assert_conflict(storage.add_generation_job(order()).await, "removed by hand");
    // Another user may have its id and its task now: the old key is not answered with a stranger's job.
    let other = AddGenerationJob { user: user(3), key: None, ..order() };
    assert!(!storage.add_generation_job(other).await.unwrap().replayed);
    assert_conflict(storage.add_generation_job(order()).await, "j-1");
    whole(&storage).await;
}

#[tokio::test]
async fn a_job_given_to_another_user_by_hand_is_not_shown_to_the_first() {
    let (_temp, dir) = full_store().await;
    change(&dir, "generation_jobs.json", |file| file["j-1"]["user_id"] = json!(3));
    let storage = taken_over(&dir).await;
    for key in [order().key, None] {
        assert_conflict(storage.add_generation_job(AddGenerationJob { key, ..order() }).await, "j-1");
    }
}

#[tokio::test]
async fn jobs_with_one_task_and_a_task_that_is_changed_once_are_refused() {
    for (fields, words) in [
        (&["task_id", "external_task_id"][..], "same external task id t-1"),
        (&["external_task_id"], "change both"),
        (&["task_id"], "change both"),
    ] {
        let (_temp, dir) = full_store().await;
        change(&dir, "generation_jobs.json", |file| {
            for field in fields {
                file["j-2"][*field] = json!("t-1");
            }
        });
        let before = bytes_of(&dir);
        let error = open(&dir).await.unwrap_err();
        let ErrorKind::Corrupt(place) = error.kind() else { panic!("{error}") };
        assert_eq!(place.source, "generation_jobs.json");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(bytes_of(&dir), before);
    }
}

/// The page names a test for each row, and each is one of these.
#[test]
fn the_page_names_tests_that_there_are() {
    let page = include_str!("../../../docs/json-directory.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with('|') && line.contains("`edits::")).collect();
    assert!(rows.len() >= 20, "{} rows", rows.len());
    let tests = include_str!("edits.rs");
    for row in rows {
        let names: Vec<&str> = row.split("`edits::").skip(1).filter_map(|rest| rest.split('`').next()).collect();
        for name in names {
            assert!(tests.contains(&format!("fn {name}()")), "{name} is no test");
        }
    }
}
