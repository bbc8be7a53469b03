//! Files changed by hand: honoured, set aside or refused.

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
