//! Files that are left alone, empty, wrapped, damaged or unreadable.

use super::*;

#[test]
fn files_without_a_counterpart_are_named_and_left_alone() {
    let dir = Dir::of(&[("user_balances.json", r#"{"1001": 1}"#)]);
    for name in [
        "hourly_free_usage.json",
        "free_deductions.json",
        "balance_deductions.json",
        "processed_transactions.json",
        "delivery_records.json",
        "broadcasts.json",
        "currency_rate.json",
        "user_registry.json",
        "telegram_idempotency.json",
        "ui_actions.json",
        "observability_correlations.json",
        "kie_watchdog.json",
        "user_profiles.json",
        "strange.json",
    ] {
        dir.put(name, b"this is not even JSON");
    }
    for name in ["payments.json.tmp", ".payments.json.lock", "payments.json.corrupted.17", "payments.json.backup"] {
        dir.put(name, b"{");
    }
    std::fs::create_dir(dir.path("pending_git_pushes")).unwrap();
    std::fs::create_dir(dir.path("bot-7")).unwrap();
    let report = dir.read().unwrap().report;
    assert_eq!((report.left_alone.len(), report.ignored.len()), (16, 4));
    let reason = |name: &str| &*report.left_alone.iter().find(|left| left.file == name).unwrap().reason;
    assert_eq!(reason("strange.json"), "nobody knows this file");
    assert_eq!(reason("bot-7"), "a directory: import it by itself");
    assert_eq!(reason("broadcasts.json"), "broadcasts have no counterpart here");
    assert_eq!(report.files.len(), 1);
}

#[test]
fn nothing_a_bom_and_text_within_text() {
    for nothing in ["", " \n", "{}", "\"\"", "\"{}\"", "\u{feff}", "\u{feff}{}"] {
        let legacy = one("payments.json", nothing);
        assert_eq!((legacy.records.len(), refused(&legacy).len()), (0, 0), "{nothing:?}");
    }
    let twice = serde_json::to_string(&serde_json::to_string(r#"{"1001": true}"#).unwrap()).unwrap();
    for text in ["\u{feff}{\"1001\":\r\ntrue}", r#""{\"1001\": true}""#, &twice, "\"\\ufeff{\\\"1001\\\": true}\""] {
        assert_eq!(only(&one("gift_claimed.json", text)), &ImportRecord::Gift { user: user(1001) }, "{text}");
    }
    let legacy = one("user_balances.json", r#"{"999999999": 5}"#);
    assert_eq!(notes(&legacy), ["999999999: the earlier system's test user; imported like any other"]);
    assert_eq!(legacy.report.users, 1);
}

#[test]
fn notes_of_the_same_words_are_counted_after_twenty() {
    let payments: Vec<_> =
        (0..50).map(|n| format!(r#""{n}":{{"user_id":1,"amount":1,"status":"completed","timestamp":1}}"#)).collect();
    let notes = notes(&one("payments.json", &format!("{{{}}}", payments.join(","))));
    assert_eq!(notes.len(), 21);
    assert_eq!(notes[20], "-: no payment_method: \"unknown\" was put in (and for 30 more records)");
}

#[test]
fn a_file_that_cannot_be_parsed_refuses_everything() {
    let deep = format!("{{\"1\": {}}}", "[".repeat(100_000));
    for (text, line, column, key) in [
        (&b"{\"1\": 5, \"2\""[..], 1, 13, Some("2")),
        (b"{\n \"1\": {\"user_id\": 1,", 2, 21, Some("1")),
        (b"{\"1\": 5} {\"1\": 6}", 1, 10, None),
        (b"{\"1\": \"\xff\"}", 1, 8, None),
        (b"\xff\xfe{\0}\0", 1, 1, None),
        (b"[1, 2]", 1, 1, None),
        (b"null", 1, 1, None),
        (b"\0\0\0\0", 1, 1, None),
        (b"{\"1\": 5,\n\"1\": 6}", 2, 1, Some("1")),
        (b"{\"1\": {\"a\": 1, \"a\": 2}}", 1, 16, Some("1")),
        (deep.as_bytes(), 1, 134, Some("1")),
        (b"{\"1\": 5,}", 1, 9, Some("1")),
    ] {
        for name in [
            "user_balances.json",
            "user_balances_bot_7.json",
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
        ] {
            let dir = Dir::of(&[]);
            dir.put(name, text);
            let error = dir.read().unwrap_err();
            let ErrorKind::Corrupt(place) = error.kind() else { panic!("{error}") };
            let found = (&*place.source, place.line, place.column, place.key.as_deref());
            assert_eq!(found, (name, Some(line), Some(column), key), "{error}");
        }
    }
    let error = Dir::of(&[("gift_claimed.json", r#""{\"1\": tru}""#)]).read().unwrap_err();
    let ErrorKind::Corrupt(place) = error.kind() else { panic!("{error}") };
    assert_eq!((&*place.source, place.column), ("gift_claimed.json (the text within)", Some(7)));
    let error = Dir::of(&[("user_balances.json", r#"{"metadata": {}, "users": []}"#)]).read().unwrap_err();
    assert!(error.to_string().contains("line 1, column 27, key \"users\""), "{error}");
}

#[test]
fn what_is_no_readable_file_refuses_everything() {
    let dir = Dir::of(&[("user_languages.json", "{}")]);
    std::fs::create_dir(dir.path("payments.json")).unwrap();
    let error = dir.read().unwrap_err();
    assert_eq!(error.to_string(), "damaged data in payments.json: a directory stands in its place");

    #[cfg(unix)]
    for target in ["payments.json", "missing.json"] {
        let dir = Dir::of(&[]);
        std::os::unix::fs::symlink(dir.path(target), dir.path("payments.json")).unwrap();
        let error = dir.read().unwrap_err();
        assert_eq!(error.to_string(), "payments.json: cannot be read; nothing was imported");
        assert!(error.report().to_string().contains("because: "), "{}", error.report());
    }
    let missing = read(&dir.path("no-such-directory"), &ReadOptions::new(at(NOW)), &mut |_| {}).unwrap_err();
    assert_eq!(missing.to_string(), "data directory: must be a directory that can be read");
}

#[test]
fn progress_reaches_the_end() {
    let dir = Dir::of(&[("user_balances.json", "{\"1\": 5}"), ("payments.json", "{}"), ("x.json", "12345")]);
    let mut seen = Vec::new();
    let options = ReadOptions::new(at(NOW));
    read(dir.0.path(), &options, &mut |p| seen.push((p.file.to_owned(), p.done, p.total))).unwrap();
    let expected = [("user_balances.json", 0), ("user_balances.json", 8), ("payments.json", 8), ("payments.json", 10)];
    assert_eq!(seen, expected.map(|(file, done)| (file.to_owned(), done, 10)));
}

#[test]
fn the_report_is_json() {
    let legacy = one("user_balances.json", r#"{"1": 0.30000000000000004, "2": -1}"#);
    let report = serde_json::to_value(&legacy.report).unwrap();
    assert_eq!(report["balance_sum"], "0.30");
    assert_eq!(
        report["refused"],
        serde_json::json!([{"file": "user_balances.json", "key": "2", "reason": "balance: must not be negative"}])
    );
    assert_eq!(report["roundings"][0]["to"], "0.30");
}
