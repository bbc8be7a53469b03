//! `storage copy`, `storage compare` and `storage lift`.
#![cfg(feature = "postgres")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails must stop, and it writes what it tests with")]

mod common;

use common::pg::{migrated, value};
use common::{Place, Ran};
use pg_test_server::Server;
use serde_json::json;

/// A store with a few users, made through the command.
fn filled() -> Place {
    let place = Place::new();
    place.run(&["user", "credit", "1001", "5.000001", "--key", "k-1", "--yes"]).exits(0);
    place.run(&["user", "debit", "1001", "0.5", "--reason", "a test", "--yes"]).exits(0);
    place.run(&["user", "credit", "-100200", "7", "--yes"]).exits(0);
    place.run(&["user", "set-language", "1002", "en", "--yes"]).exits(0);
    place
}

/// Runs the command with the URL of a database in its environment, where nobody sees it.
fn run(place: &Place, url: &str, arguments: &[&str]) -> Ran {
    place.run_with(arguments, &[("DATABASE_URL", url), ("STORAGE_MODE", "json")])
}

const THERE: [&str; 6] = ["copy", "--from", "json:data", "--to", "DATABASE_URL", "--yes"];

#[test]
fn everything_is_copied_and_proved_and_the_source_takes_no_changes() {
    let server = Server::shared().unwrap();
    let (database, place) = (migrated(server), filled());
    let url = database.url();
    let plan = run(&place, &url, &["copy", "--from", "json:data", "--to", "DATABASE_URL", "--dry-run", "--json"]);
    let plan = plan.exits(0).json();
    assert_eq!((&plan["plan"]["users"], &plan["plan"]["balances"]), (&json!("3"), &json!("11.500001")));
    // Nothing was marked by that, and nobody can be asked.
    run(&place, &url, &THERE[..5]).exits(7);
    run(&place, &url, &["user", "credit", "1001", "1", "--yes"]).exits(0);
    let receipt = run(&place, &url, &[&THERE[..], &["--json", "--receipt", "receipt.json"]].concat()).exits(0).json();
    assert_eq!(receipt["verified"], true);
    assert_eq!((&receipt["balances"], &receipt["counts"]["account"]), (&json!("12.500001"), &json!(3)));
    assert_eq!((&receipt["different_records"], &receipt["source_marked"]), (&json!(0), &json!(true)));
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(place.path("receipt.json")).unwrap()).unwrap();
    assert_eq!(kept, receipt);
    assert!(!receipt.to_string().contains(server.password()), "{receipt}");

    // Once more is the same, and changes nothing.
    let again = run(&place, &url, &[&THERE[..], &["--json"]].concat()).exits(0).json();
    assert_eq!(again, receipt);
    run(&place, &url, &["compare", "json:data", "DATABASE_URL"]).exits(0);

    // The source takes no changes, in whatever mode it is opened; reads go on.
    let refused = run(&place, &url, &["user", "credit", "1001", "1", "--yes", "--json"]).exits(7).json();
    assert_eq!(refused["error"]["kind"], "Moved");
    let refused = place.run(&["user", "credit", "1001", "1", "--yes"]).exits(7);
    assert!(refused.stderr.contains("were moved to postgresql://"), "{refused:#?}");
    let shown = run(&place, &url, &["user", "show", "1001", "--json"]).exits(0).json();
    assert_eq!(shown["balance"], "5.500001");
    // The target does, under the same keys.
    let target = [("DATABASE_URL", url.as_str())];
    let there = place.run_with(&["user", "credit", "1001", "5.000001", "--key", "k-1", "--yes", "--json"], &target);
    assert_eq!(there.exits(0).json()["replayed"], true);
    place.run_with(&["audit"], &target).exits(0);
}

#[test]
fn back_again_it_is_the_same_to_the_byte() {
    let server = Server::shared().unwrap();
    let (database, place) = (migrated(server), filled());
    let url = database.url();
    let before = place.run(&["dump"]).exits(0).stdout;
    run(&place, &url, &THERE).exits(0);
    run(&place, &url, &["copy", "--from", "DATABASE_URL", "--to", "json:back", "--yes"]).exits(0);
    let back = run(&place, &url, &["dump", "--data-dir", "back"]).exits(0).stdout;
    assert_eq!(back, before);
    // The database is the source now: programs that have it open are refused too, and people with psql.
    let told = server.execute(database.name(), "UPDATE users SET balance = 0").unwrap_err();
    assert!(told.contains("SM001") || told.contains("were moved"), "{told}");
    let refused = place.run_with(&["user", "credit", "1001", "1", "--yes"], &[("DATABASE_URL", &url)]).exits(7);
    assert!(refused.stderr.contains("were moved to json:"), "{refused:#?}");
    // Lifted by its name alone.
    let postgres = [("DATABASE_URL", url.as_str()), ("STORAGE_MODE", "postgres")];
    place.run_with(&["lift", "elsewhere", "--yes"], &postgres).exits(7);
    let name = value(server, database.name(), "SELECT value FROM storage_meta WHERE name = 'moved_to'");
    place.run_with(&["lift", &name, "--dry-run"], &postgres).exits(0);
    place.run_with(&["lift", &name, "--yes"], &postgres).exits(0);
    place.run_with(&["user", "credit", "1001", "1", "--yes"], &postgres).exits(0);
    place.run_with(&["lift", &name, "--yes"], &postgres).exits(7);
}

#[test]
fn one_record_changed_on_either_side_is_named() {
    let server = Server::shared().unwrap();
    let (database, place) = (migrated(server), filled());
    let url = database.url();
    run(&place, &url, &THERE).exits(0);
    server.execute(database.name(), "UPDATE operations SET reason = 'another' WHERE reason = 'a test'").unwrap();
    let told = run(&place, &url, &["compare", "json:data", "DATABASE_URL", "--json"]).exits(4).json();
    let found = &told["differences"][0];
    assert_eq!((&found["record"], &found["user"], &found["key"]), (&json!("ledger"), &json!(1001), &json!("2")));
    assert!(found["what"].as_str().unwrap().contains("reason: \"a test\" / \"another\""), "{found}");
    // A copy that goes on proves anew, and says the same.
    let told = run(&place, &url, &THERE).exits(4);
    assert!(told.stdout.contains("different") && told.stdout.contains("a test"), "{told:#?}");
    server.execute(database.name(), "UPDATE operations SET reason = 'a test' WHERE reason = 'another'").unwrap();
    run(&place, &url, &THERE).exits(0);
    let name = value(server, database.name(), "SELECT current_database()");
    let mark = format!("postgresql://127.0.0.1:{}/{name}", server.port());
    run(&place, &url, &["lift", &mark, "--yes"]).exits(0);
    run(&place, &url, &["user", "credit", "1001", "1", "--yes"]).exits(0);
    let told = run(&place, &url, &["compare", "json:data", "DATABASE_URL", "--json"]).exits(4).json();
    let names: Vec<_> = told["differences"].as_array().unwrap().iter().map(|found| found["record"].clone()).collect();
    assert_eq!(names, ["account", "key", "ledger"]);
}

#[test]
fn a_copy_goes_into_an_empty_store_and_never_into_itself() {
    let server = Server::shared().unwrap();
    let (database, place) = (migrated(server), filled());
    let url = database.url();
    place.run_with(&["user", "credit", "1", "1", "--yes"], &[("DATABASE_URL", &url), ("DATA_DIR", "other")]).exits(0);
    let told = run(&place, &url, &THERE).exits(7);
    assert!(told.stderr.contains("storage merge --from json:data --to DATABASE_URL"), "{told:#?}");
    // A refused copy marks nothing.
    run(&place, &url, &["user", "credit", "1001", "1", "--yes"]).exits(0);
    run(&place, &url, &["copy", "--from", "json:data", "--to", "json:./data", "--yes"]).exits(7);
    run(&place, &url, &["copy", "--from", "json:missing", "--to", "json:new", "--yes"]).exits(1);
    assert!(!place.path("missing").exists() && !place.path("new").exists());
    run(&place, &url, &["copy", "--from", "data", "--to", "json:new", "--yes"]).exits(2);
    let told = place.run(&["copy", "--from", "json:data", "--to", "DATABASE_URL", "--yes"]).exits(2);
    assert!(told.stderr.contains("DATABASE_URL is not set"), "{told:#?}");
    // A source that goes on being used.
    run(&place, &url, &["copy", "--from", "json:data", "--to", "json:new", "--keep-source", "--yes"]).exits(0);
    run(&place, &url, &["user", "credit", "1001", "1", "--yes"]).exits(0);
    // A server that is not there.
    let away = "postgresql://bot:MARKED@127.0.0.1:1/away";
    let told = place.run_with(&THERE, &[("DATABASE_URL", away), ("STORAGE_MODE", "json")]).exits(6);
    assert!(!told.stderr.contains("MARKED"), "{told:#?}");
    run(&place, &url, &["user", "credit", "1001", "1", "--yes"]).exits(0);
}
