//! `storage import`, on what `scripts/legacy/make_legacy.py` writes and on damaged directories.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that fails must stop, and it writes what it tests with"
)]

mod common;

use std::path::Path;
use std::process::Command;

use common::{Place, files};
use serde_json::{Value, json};
use storage_core::Total;

/// Writes a directory of the earlier system; answers what the script says it wrote.
fn legacy(dir: &Path, shape: &str, users: u32, seed: u32) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/legacy/make_legacy.py");
    let output = Command::new("python3")
        .arg(script)
        .arg(dir)
        .args(["--users", &users.to_string(), "--seed", &seed.to_string(), "--shape", shape])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn total(value: &Value) -> Total {
    value.as_str().unwrap().parse().unwrap()
}

/// How many records of a file were refused.
fn refused(report: &Value, file: &str) -> u64 {
    report["refused"].as_array().unwrap().iter().filter(|refusal| refusal["file"] == file).count() as u64
}

#[test]
fn all_shapes_come_in_whole() {
    for (shape, seed) in [("unified", 1), ("bot", 2), ("mixed", 3), ("mixed", 4)] {
        let place = Place::new();
        let source = place.path("legacy");
        let written = legacy(&source, shape, 300, seed);
        let before = files(&source);
        let dir = source.to_str().unwrap();

        let planned = place.run(&["import", dir, "--dry-run", "--json"]).exits(0).json();
        assert!(!place.data().exists());
        assert_eq!((&planned["dry_run"], &planned["added"]), (&json!(true), &json!(0)));

        let report = place.run(&["import", dir, "--yes", "--json"]).exits(0).json();
        for field in ["users", "balance_sum", "payments", "jobs", "history_records", "rounded", "refused"] {
            assert_eq!(planned[field], report[field], "{shape} {seed}: {field} of the dry run");
        }
        assert_eq!(total(&report["balance_sum"]), total(&written["sum_of_valid_balances"]), "{shape} {seed}");
        for (field, file, count) in [
            ("payments", "payments.json", "payments"),
            ("jobs", "generation_jobs.json", "jobs"),
            ("history_records", "generations_history.json", "history_records"),
        ] {
            let expected = written[count].as_u64().unwrap() - refused(&report, file);
            assert_eq!(report[field], expected, "{shape} {seed}: {field}");
        }
        if shape == "mixed" {
            assert!(report["rounded"].as_u64().unwrap() > 0);
            for file in ["user_balances.json", "referrals.json", "generation_jobs.json"] {
                assert!(refused(&report, file) > 0, "{file}");
            }
        } else {
            assert_eq!(report["refused"], json!([]), "{shape} {seed}");
            assert_eq!(report["users"], written["balances"], "{shape} {seed}");
        }
        assert_eq!(report["kept"], json!([]), "{shape} {seed}");
        assert_eq!(report["before"], json!({ "users": 0, "balance_sum": "0.00" }));
        assert_eq!(report["after"], json!({ "users": report["users"], "balance_sum": report["balance_sum"] }));
        let audit = place.run(&["audit", "--json"]).exits(0).json();
        assert_eq!((&audit["users"], &audit["balances"]), (&report["users"], &report["balance_sum"]));

        let dump = place.run(&["dump"]).exits(0).stdout;
        let again = place.run(&["import", dir, "--yes", "--json"]).exits(0).json();
        for field in ["users", "balance_sum", "payments", "jobs", "history_records", "rounded", "refused", "kept"] {
            assert_eq!(again[field], report[field], "{shape} {seed}: {field} of the second import");
        }
        assert_eq!((&again["added"], &again["before"]), (&json!(0), &report["after"]), "{shape} {seed}");
        assert_eq!(place.run(&["dump"]).stdout, dump, "{shape} {seed}");
        assert_eq!(files(&source), before, "the source is only read");
    }
}

#[test]
fn the_report_names_what_was_refused() {
    let place = Place::new();
    let source = place.path("legacy");
    legacy(&source, "mixed", 60, 5);
    let dir = source.to_str().unwrap();
    let ran = place.run(&["import", dir, "--yes", "--strict"]).exits(4);
    for part in ["Refused", "NaN", "user_balances.json", "teleported", "before", "after", "blocked_users.json"] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    assert!(!ran.stdout.contains('\u{1b}') && !ran.stderr.contains('\u{1b}'), "{ran:#?}");
    let planned = place.run(&["import", dir, "--strict", "--dry-run"]).exits(4);
    assert!(planned.stdout.contains("dry run: nothing was changed"));
}

#[test]
fn what_the_store_knows_is_kept() {
    let place = Place::new();
    let source = place.path("legacy");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("user_balances.json"), r#"{"1001": 12.5, "1002": 1}"#).unwrap();
    place.run(&["user", "credit", "1001", "5", "--yes"]).exits(0);
    let report = place.run(&["import", "legacy", "--yes", "--json"]).exits(0).json();
    assert_eq!(report["kept"][0]["key"], "1001", "{report:#}");
    assert_eq!((&report["added"], &report["after"]["balance_sum"]), (&json!(1), &json!("6.00")));
    let ran = place.run(&["import", "legacy", "--yes"]).exits(0);
    assert!(ran.stdout.contains("Kept as the store has it"), "{ran:#?}");
}

#[test]
fn a_file_that_cannot_be_parsed_refuses_everything() {
    for (name, text) in [
        ("payments.json", &b"{\"p-1\": {\"amount\": 1"[..]),
        ("user_balances.json", b"{} {}"),
        ("user_languages.json", b"{\"1\": \"\xff\"}"),
        ("generation_jobs.json", b"[]"),
        ("referrals.json", b"{\"1\": 2, \"1\": 3}"),
    ] {
        let place = Place::new();
        let source = place.path("legacy");
        legacy(&source, "unified", 20, 1);
        std::fs::write(source.join(name), text).unwrap();
        let ran = place.run(&["import", "legacy", "--yes"]).exits(1);
        assert!(ran.stderr.contains(name) && ran.stderr.contains("try: "), "{ran:#?}");
        let error = place.run(&["import", "legacy", "--yes", "--json"]).exits(1).json();
        assert_eq!(error["error"]["kind"], "Corrupt", "{name}");
        assert!(!place.data().exists());
    }
}

#[test]
fn an_import_is_confirmed_and_never_reads_its_own_store() {
    let place = Place::new();
    let source = place.path("legacy");
    legacy(&source, "unified", 20, 1);
    let ran = place.run(&["import", "legacy"]).exits(7);
    assert!(ran.stderr.contains("legacy will be imported") && ran.stderr.contains("--yes"), "{ran:#?}");
    for (dir, data) in [
        ("legacy", "legacy"),
        ("legacy", "./x/../legacy"),
        ("legacy", "legacy/data"),
        (".", "data"),
        ("legacy/.", "legacy/new/deep"),
    ] {
        std::fs::create_dir_all(place.path("x")).unwrap();
        let ran = place.run(&["import", dir, "--data-dir", data, "--yes"]).exits(7);
        assert!(ran.stderr.contains("its own source"), "{ran:#?}");
    }
    place.run(&["import", "missing", "--yes"]).exits(2);
    place.run(&["import", "legacy", "--time-zone", "Mars/Olympus"]).exits(2);
    assert!(!place.data().exists());
}

#[test]
fn times_without_a_zone_are_read_in_the_given_one() {
    let place = Place::new();
    std::fs::create_dir(place.path("legacy")).unwrap();
    let payment = json!({ "p-1": {
        "payment_id": "p-1", "user_id": 1001, "amount": 100.0, "payment_method": "sbp", "screenshot_file_id": null,
        "status": "rejected", "created_at": "2025-12-22T10:00:00", "updated_at": "2025-12-22T10:05:00",
        "admin_id": 1, "notes": "no"
    }});
    std::fs::write(place.path("legacy").join("payments.json"), payment.to_string()).unwrap();
    place.run(&["import", "legacy", "--time-zone", "Europe/Kyiv", "--yes"]).exits(0);
    let payment = place.run(&["payments", "show", "p-1", "--json"]).exits(0).json();
    assert_eq!(payment["created_at"], "2025-12-22T08:00:00.000000Z");
    assert_eq!((&payment["origin"], &payment["status"]), (&json!("imported"), &json!("rejected")));
    assert_eq!(place.run(&["user", "show", "1001", "--json"]).json()["balance"], "0.00");
}

#[test]
fn a_store_is_not_imported() {
    let place = Place::new();
    place.run(&["user", "credit", "1001", "5", "--yes"]).exits(0);
    let ran = place.run(&["import", "data", "--data-dir", "new", "--yes"]).exits(7);
    assert!(ran.stderr.contains("try: storage dump FILE --data-dir data, then storage restore FILE"), "{ran:#?}");
    assert!(!place.path("new").exists());
}

#[test]
fn history_that_is_not_kept_is_told() {
    let place = Place::new();
    let source = place.path("legacy");
    let written = legacy(&source, "unified", 60, 1);
    assert!(written["history_records"].as_u64().unwrap() > 0, "{written:#}");
    let few = [("STORAGE_HISTORY", "1")];
    let planned = place.run_with(&["import", "legacy", "--dry-run"], &few).exits(0);
    let ran = place.run_with(&["import", "legacy", "--yes"], &few).exits(0);
    for text in [&planned.stdout, &ran.stdout, &ran.stderr] {
        assert!(text.contains("are not kept: STORAGE_HISTORY=1; STORAGE_HISTORY=everything keeps them"), "{text}");
    }
    let all =
        place.run_with(&["import", "legacy", "--dry-run", "--data-dir", "new"], &[("STORAGE_HISTORY", "everything")]);
    assert!(!all.exits(0).stdout.contains("not kept"));
}

#[test]
#[cfg(feature = "postgres")]
fn both_backends_take_in_the_same() {
    let server = pg_test_server::Server::shared().unwrap();
    for (shape, seed) in [("unified", 5), ("bot", 6), ("mixed", 7), ("mixed", 8)] {
        let (database, place) = (common::pg::migrated(server), Place::new());
        legacy(&place.path("legacy"), shape, 150, seed);
        let url = database.url();
        let there = [("DATABASE_URL", url.as_str()), ("STORAGE_MODE", "postgres")];
        let import = ["import", "legacy", "--yes", "--json"];
        let here = [("STORAGE_MODE", "json")];
        let both = || {
            let ours = place.run_with(&import, &here).exits(0).json();
            (ours, place.run_with(&import, &there).exits(0).json())
        };
        let (ours, theirs) = both();
        assert_eq!(ours, theirs, "{shape} {seed}");
        let (ours, theirs) = both();
        assert_eq!(ours, theirs, "{shape} {seed}, once more");
        assert_eq!(theirs["added"], 0, "{shape} {seed}");
        place.run_with(&["audit"], &there).exits(0);
    }
}

#[test]
fn a_file_of_another_name_is_taken_for_what_it_is_said_to_be() {
    let place = Place::new();
    let source = place.path("legacy");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("money-2025.json"), r#"{"1001": 12.5}"#).unwrap();
    std::fs::write(place.path("elsewhere.json"), r#"{"1001": "en"}"#).unwrap();
    let plain = place.run(&["import", "legacy", "--dry-run", "--json"]).exits(0).json();
    assert_eq!((&plain["users"], &plain["left_alone"][0]["file"]), (&json!(0), &json!("money-2025.json")));
    let elsewhere = format!("user_languages={}", place.path("elsewhere.json").display());
    let mapped = ["import", "legacy", "--map", "user_balances=money-2025.json", "--map", &elsewhere, "--yes", "--json"];
    let report = place.run(&mapped).exits(0).json();
    assert_eq!((&report["balance_sum"], &report["added"]), (&json!("12.50"), &json!(2)));
    assert_eq!(report["left_alone"], json!([]));
    assert_eq!(place.run(&["user", "show", "1001", "--json"]).exits(0).json()["language"], "en");

    // Nobody could tell which of the two counts; and a missing file is no empty one.
    std::fs::write(source.join("user_balances.json"), "{}").unwrap();
    let both = place.run(&["import", "legacy", "--map", "user_balances=money-2025.json", "--yes"]).exits(2);
    assert!(both.stderr.contains("user_balances.json is there too"), "{both:#?}");
    let missing = place.run(&["import", "legacy", "--map", "payments=gone.json", "--yes"]);
    assert!(missing.code != 0 && missing.stderr.contains("gone.json"), "{missing:#?}");
    for wrong in ["balances=x.json", "user_balances=", "user_balances"] {
        let ran = place.run(&["import", "legacy", "--map", wrong, "--yes"]).exits(2);
        assert!(ran.stderr.contains("generation_jobs"), "{ran:#?}");
    }
    place.run(&["import", "legacy", "--map", "jobs=a.json", "--map", "jobs=b.json", "--yes"]).exits(2);
}

#[test]
fn what_has_no_counterpart_is_listed_with_its_sum() {
    let place = Place::new();
    let source = place.path("legacy");
    std::fs::create_dir(&source).unwrap();
    for (name, text) in [
        ("user_balances.json", r#"{"1001": 1}"#),
        (
            "balance_reserves.json",
            r#"{"a":{"user_id":1001,"task_id":"t1","amount":7.5,"status":"reserved"},
                "b":{"user_id":1001,"amount":1,"status":"committed"},
                "c":{"user_id":1002,"amount":2.25,"status":"reserved"},
                "d":{"user_id":1002,"amount":-1,"status":"reserved"}}"#,
        ),
        ("user_bonuses.json", r#"{"1001":{"bonus_balance":3,"bonus_points":10}}"#),
        (
            "promocodes.json",
            r#"{"promocodes":[{"code":"X1","value":50,"active":true},{"code":"X2","value":5,"active":false}]}"#,
        ),
        ("blocked_users.json", r#"{"1009":true,"1010":false}"#),
    ] {
        std::fs::write(source.join(name), text).unwrap();
    }
    let report = place.run(&["import", "legacy", "--yes", "--json"]).exits(0).json();
    assert_eq!((&report["unsettled_sum"], report["unsettled"].as_array().unwrap().len()), (&json!("12.75"), 6));
    assert_eq!(refused(&report, "balance_reserves.json"), 1);
    // Nothing of it became money.
    assert_eq!((&report["balance_sum"], &report["users"]), (&json!("1.00"), &json!(1)));
    let text = place.run(&["import", "legacy", "--dry-run"]).exits(0).stdout;
    assert!(text.contains("For you to settle: 6 records without a counterpart here, 12.75"), "{text}");
}
