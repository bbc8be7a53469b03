//! Flags, environment variables, exit codes of what is wrong with them, and secrets that stay secret.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that fails must stop, and it writes what it tests with"
)]

mod common;

use common::Place;
use serde_json::json;

/// Nothing listens there.
const URL: &str = "postgresql://bot:MARKED-secret@127.0.0.1:1/bot?application_name=MARKED-too";

#[test]
fn usage_errors_exit_with_2() {
    let place = Place::new();
    for arguments in [&[][..], &["nonsense"], &["user"], &["user", "credit", "x", "5"], &["status", "--mode", "sqlite"]]
    {
        let ran = place.run(arguments).exits(2);
        assert_eq!(ran.stdout, "");
        assert!(!ran.stderr.is_empty());
        let error = place.run(&[arguments, &["--json"]].concat()).exits(2).json();
        assert!(["Usage", "InvalidInput"].contains(&error["error"]["kind"].as_str().unwrap()), "{error}");
    }
    place.run_with(&["status"], &[("STORAGE_MODE", "sqlite")]).exits(2);
    place.run_with(&["status"], &[("STORAGE_DRY_RUN", "perhaps")]).exits(2);
    place.run_with(&["status"], &[("STORAGE_TIME_ZONE", "Mars/Olympus")]).exits(2);
    place.run_with(&["nonsense"], &[("STORAGE_JSON", "1")]).exits(2).json();
}

#[test]
fn help_and_version_are_shown() {
    let place = Place::new();
    let ran = place.run_with(&["--help"], &[("DATABASE_URL", URL)]).exits(0);
    assert!(ran.stdout.contains("Exit codes") && ran.stdout.contains("DATABASE_URL"), "{ran:#?}");
    assert!(!ran.stdout.contains("MARKED"));
    assert!(place.run(&["--version"]).exits(0).stdout.starts_with("storage "));
    for command in
        ["status", "verify", "migrate", "import", "dump", "restore", "user", "payments", "jobs", "history", "audit"]
    {
        let ran = place.run(&[command, "--help"]).exits(0);
        for flag in ["--mode", "--database-url", "--data-dir", "--json", "--yes", "--dry-run"] {
            assert!(ran.stdout.contains(flag), "{command}: {flag}");
        }
    }
}

#[test]
fn empty_variables_are_unset_and_words_have_any_case() {
    let place = Place::new();
    let empty = ["STORAGE_MODE", "DATABASE_URL", "STORAGE_JSON", "STORAGE_YES", "STORAGE_DRY_RUN", "STORAGE_TIME_ZONE"];
    place.run_with(&["status"], &empty.map(|name| (name, ""))).exits(0);
    place.run_with(&["status"], &[("STORAGE_MODE", "Json"), ("DATABASE_URL", URL)]).exits(0);
    let status = place.run_with(&["status", "--json"], &[("DATA_DIR", "")]).exits(0).json();
    assert_eq!(status["backend"]["location"], "./data");
    let status = place.run_with(&["status", "--json", "--data-dir", "elsewhere"], &[]).exits(0).json();
    assert_eq!(status["backend"]["location"], "elsewhere");
}

#[test]
fn a_configured_database_is_never_replaced_by_files() {
    let place = Place::new();
    for (arguments, variables) in [
        (&["status", "--database-url", URL][..], &[][..]),
        (&["status"], &[("DATABASE_URL", URL)]),
        (&["user", "list", "--mode", "postgres"], &[("DATABASE_URL", URL)]),
        (&["verify"], &[("DATABASE_URL", URL)]),
        (&["migrate"], &[("DATABASE_URL", URL)]),
        (&["migrate"], &[("MIGRATION_DATABASE_URL", URL)]),
    ] {
        let ran = place.run_with(arguments, variables).exits(6);
        assert!(ran.stderr.contains("127.0.0.1:1"), "{ran:?}");
        let error = place.run_with(&[arguments, &["--json"]].concat(), variables).exits(6).json();
        let kind = if cfg!(feature = "postgres") { "Unavailable" } else { "BackendDisabled" };
        assert_eq!(error["error"]["kind"], kind);
    }
    place.run(&["status", "--mode", "postgres"]).exits(2);
    assert!(!place.data().exists());
}

#[test]
fn secrets_are_never_printed() {
    let place = Place::new();
    let broken = "postgresql://bot:MARKED/secret@h/d";
    for (arguments, variables) in [
        (&["status", "--database-url", URL][..], &[][..]),
        (&["status", "--database-url", broken], &[]),
        (&["status"], &[("DATABASE_URL", broken)]),
        (&["status"], &[("STORAGE_MODE", URL)]),
        (&["status"], &[("STORAGE_YES", URL)]),
        (&["status", "--mode", URL], &[]),
        (&["status", URL], &[]),
        (&["status", &format!("--json={URL}")], &[]),
        (&["status", &format!("--databaseurl={URL}")], &[]),
        (&["migrate"], &[("MIGRATION_DATABASE_URL", broken)]),
        (&["migrate", "--wait", URL], &[]),
        (&["user", "show", URL], &[]),
        (&["user", "list", "--limit", URL], &[]),
        (&["restore", URL, "--mode", "json"], &[]),
        (&["dump", URL, "--mode", "json"], &[]),
    ] {
        for json in [&[][..], &["--json"]] {
            let ran = place.run_with(&[arguments, json].concat(), variables);
            assert_ne!(ran.code, 0, "{arguments:?}");
            assert!(!format!("{ran:?}").contains("MARKED"), "{arguments:?}: {ran:#?}");
        }
    }
}

#[test]
fn a_directory_that_is_not_a_store_is_left_alone() {
    let place = Place::new();
    std::fs::create_dir(place.data()).unwrap();
    let balances = place.data().join("user_balances.json");
    std::fs::write(&balances, r#"{"1001": 12.5}"#).unwrap();
    let ran = place.run(&["status"]).exits(3);
    assert!(ran.stderr.contains("try: storage import"), "{ran:#?}");
    let error = place.run(&["user", "list", "--json"]).exits(3).json();
    assert_eq!(error["error"]["kind"], json!("SchemaMismatch"));
    assert_eq!(std::fs::read_to_string(&balances).unwrap(), r#"{"1001": 12.5}"#);
}

#[test]
fn another_policy_is_a_mismatch_with_the_way_out() {
    let place = Place::new();
    place.run(&["policy", "--time-zone", "UTC", "--history", "5", "--yes"]).exits(1);
    place.run(&["user", "credit", "1", "5", "--yes"]).exits(0);
    let kyiv = [("STORAGE_TIME_ZONE", "Europe/Kyiv")];
    let ran = place.run_with(&["status"], &kyiv).exits(3);
    assert!(ran.stderr.contains("storage policy --time-zone"), "{ran:#?}");
    // One at least is named; the plan shows both.
    place.run(&["policy", "--yes"]).exits(2);
    let change = ["policy", "--time-zone", "Europe/Kyiv", "--history", "100"];
    place.run(&change).exits(7);
    place.run(&[&change[..], &["--dry-run"]].concat()).exits(0);
    place.run(&["status"]).exits(0);
    let changed = place.run(&[&change[..], &["--yes", "--json"]].concat()).exits(0).json();
    assert_eq!(changed, json!({ "time_zone": "Europe/Kyiv", "history": "100" }));
    place.run_with(&["status"], &kyiv).exits(0);
    place.run(&["status"]).exits(3);
}
