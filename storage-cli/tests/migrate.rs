//! `storage migrate` and `storage verify` on a real server.
#![cfg(feature = "postgres")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails must stop")]

mod common;

use common::pg::{migrated, original, role, value};
use common::{Place, Ran, finish};
use pg_test_server::Server;
use serde_json::json;

fn run(place: &Place, url: &str, arguments: &[&str]) -> Ran {
    place.run_with(arguments, &[("DATABASE_URL", url)])
}

/// W49: of eight that start together all succeed, and each version is applied once.
#[test]
fn eight_that_start_together_all_succeed() {
    let server = Server::shared().unwrap();
    let place = Place::new();
    for round in 0..3 {
        let database = server.create_empty_database().unwrap();
        let started: Vec<_> = (0..8)
            .map(|_| {
                let mut command = place.command(&["migrate", "--yes", "--json"]);
                command.env("DATABASE_URL", database.url());
                std::thread::spawn(move || finish(command, &[]))
            })
            .collect();
        let answers: Vec<_> = started.into_iter().map(|ran| ran.join().unwrap().exits(0).json()).collect();
        let mut applied: Vec<_> =
            answers.iter().flat_map(|answer| answer["applied"].as_array().cloned().unwrap_or_default()).collect();
        applied.sort_by_key(serde_json::Value::as_i64);
        let versions: Vec<_> = storage_pg::migration_steps().into_iter().map(|(version, ..)| json!(version)).collect();
        assert_eq!(applied, versions, "round {round}: {answers:#?}");
        let rows = value(server, database.name(), "SELECT count(*) FROM storage_migrations");
        assert_eq!(rows, versions.len().to_string());
    }
}

#[test]
fn a_new_schema_is_planned_confirmed_and_applied_once() {
    let server = Server::shared().unwrap();
    let (place, database) = (Place::new(), server.create_empty_database().unwrap());
    let run = |arguments: &[&str]| run(&place, &database.url(), arguments);
    let tables = || value(server, database.name(), "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'");

    let checked = run(&["migrate", "--check"]).exits(3);
    assert!(checked.stdout.contains("pending: 1 "), "{checked:#?}");
    let checked = run(&["migrate", "--check", "--json"]).exits(3).json();
    assert_eq!((&checked["state"], &checked["version"]), (&json!("pending"), &json!(0)));
    let sql = run(&["migrate", "--dry-run"]).exits(0).stdout;
    assert!(sql.starts_with("-- dry run") && sql.contains("CREATE TABLE"), "{sql}");
    let sql = run(&["migrate", "--dry-run", "--json"]).exits(0).json();
    assert!(sql["sql"][0]["sql"].as_str().unwrap().contains("CREATE TABLE"), "{sql}");
    let planned = run(&["migrate"]).exits(7);
    assert!(planned.stderr.contains("to be applied") && planned.stderr.contains("--yes"), "{planned:#?}");
    assert!(
        planned.stderr.contains("makes 14: storage_meta, ") && planned.stderr.contains("adds to none"),
        "{planned:#?}"
    );
    assert_eq!(tables(), "0");

    let applied = run(&["migrate", "--yes"]).exits(0);
    assert!(applied.stdout.starts_with("applied: 1 "), "{applied:#?}");
    for again in [&["migrate"][..], &["migrate", "--yes"], &["migrate", "--check"], &["migrate", "--dry-run"]] {
        let ran = run(again).exits(0);
        assert!(ran.stdout.contains("there is nothing to do"), "{ran:#?}");
    }
    let current = run(&["migrate", "--check", "--json"]).exits(0).json();
    assert_eq!((&current["state"], &current["pending"]), (&json!("current"), &json!([])));
    run(&["status"]).exits(0);
    // Nothing of this is remembered as a use of the store.
    assert!(!place.data().exists());
}

#[test]
fn what_cannot_be_migrated_says_what_to_run() {
    let server = Server::shared().unwrap();
    let place = Place::new();
    let (newer, divergent) = (migrated(server), migrated(server));
    let insert = "INSERT INTO storage_migrations (version, name, applied_on, checksum)
                  SELECT 999, 'later', applied_on, checksum FROM storage_migrations LIMIT 1";
    server.execute(newer.name(), insert).unwrap();
    server.execute(divergent.name(), "ALTER TABLE payments DROP COLUMN notes").unwrap();
    let foreign = server.create_empty_database().unwrap();
    server.execute(foreign.name(), "CREATE TABLE payments (x text)").unwrap();
    let original = original(server);
    for (database, words, advice) in [
        (&newer, "version 999, of a newer program", "try: a release of this program"),
        (&divergent, "payments.notes", "try: put the schema back by hand"),
        (&foreign, "tables of somebody else (payments)", "STORAGE_SCHEMA"),
        (&original, "tables of the earlier system (users", "try: storage migrate --adopt"),
    ] {
        for arguments in [&["migrate", "--yes"][..], &["migrate", "--check"], &["migrate", "--dry-run"]] {
            let ran = run(&place, &database.url(), arguments).exits(3);
            assert!(ran.stderr.contains(words) && ran.stderr.contains(advice), "{ran:#?}");
        }
    }
    // Nothing to adopt.
    let database = migrated(server);
    let ran = run(&place, &database.url(), &["migrate", "--adopt", "--yes"]).exits(7);
    assert!(ran.stderr.contains("nothing to adopt"), "{ran:#?}");
}

#[test]
fn migrations_have_a_url_of_their_own() {
    let server = Server::shared().unwrap();
    let (place, database) = (Place::new(), server.create_empty_database().unwrap());
    let dead = "postgresql://bot:MARKED@127.0.0.1:1/bot";
    let url = database.url();
    let variables = [("DATABASE_URL", dead), ("MIGRATION_DATABASE_URL", url.as_str())];
    place.run_with(&["migrate", "--yes"], &variables).exits(0);
    // It is the variable of this command alone, and it is the one that errors name.
    place.run_with(&["status"], &variables).exits(6);
    let wrong = format!("{url}?sslmod=require");
    for wrong in [wrong.as_str(), "postgresql://u:MARKED@MARKED@h/d"] {
        let variables = [("DATABASE_URL", url.as_str()), ("MIGRATION_DATABASE_URL", wrong)];
        let ran = place.run_with(&["migrate"], &variables).exits(2);
        assert!(ran.stderr.contains("MIGRATION_DATABASE_URL: "), "{ran:#?}");
        assert!(!format!("{ran:?}").contains("MARKED"), "{ran:#?}");
    }
}

/// What is started together comes up in any order.
#[test]
fn with_wait_a_server_that_is_not_up_yet_is_waited_for() {
    let server = Server::start(pg_test_server::Options::default()).unwrap();
    let (place, database) = (Place::new(), server.create_empty_database().unwrap());
    let url = database.url();
    server.stop_immediate().unwrap();
    run(&place, &url, &["migrate", "--yes"]).exits(6);
    run(&place, &url, &["migrate", "--yes", "--wait", "0"]).exits(6);
    let mut command = place.command(&["migrate", "--yes", "--wait", "60"]);
    command.env("DATABASE_URL", &url);
    let waiting = std::thread::spawn(move || finish(command, &[]));
    std::thread::sleep(std::time::Duration::from_secs(1));
    server.start_again().unwrap();
    let ran = waiting.join().unwrap().exits(0);
    assert!(ran.stdout.starts_with("applied: 1 "), "{ran:#?}");
    assert!(ran.stderr.contains("waiting for the server, 60 s at most"), "{ran:#?}");
}

#[test]
fn files_have_nothing_to_migrate() {
    let place = Place::new();
    let variables = [("DATABASE_URL", "postgresql://u@h/d"), ("STORAGE_MODE", "json")];
    for arguments in [&["migrate"][..], &["migrate", "--check"]] {
        let ran = place.run_with(arguments, &variables).exits(0);
        assert!(ran.stdout.starts_with("nothing to migrate"), "{ran:#?}");
        // The way out of the circle between `copy`, which wants tables, and a mode that was set for the files.
        assert!(ran.stdout.contains("for a database: storage migrate --mode postgres"), "{ran:#?}");
    }
    place.run(&["migrate", "--check", "--adopt"]).exits(2);
    place.run(&["migrate", "--strict"]).exits(2);
    assert!(!place.data().exists());
}

#[test]
fn the_earlier_systems_tables_are_adopted_and_their_rows_imported() {
    let server = Server::shared().unwrap();
    let (place, database) = (Place::new(), original(server));
    let run = |arguments: &[&str]| run(&place, &database.url(), arguments);
    let users = value(server, database.name(), "SELECT count(*) FROM users");
    let sum = value(server, database.name(), "SELECT sum(balance)::numeric(18, 2) FROM users");

    let planned = run(&["migrate", "--adopt"]).exits(7);
    assert!(planned.stderr.contains("payments -> legacy_payments"), "{planned:#?}");
    run(&["migrate", "--adopt", "--dry-run"]).exits(0);
    assert_eq!(value(server, database.name(), "SELECT count(*) FROM users"), users);

    let report = run(&["migrate", "--adopt", "--yes", "--json"]).exits(0).json();
    // It is the report of an import, to the last heading.
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/legacy-data");
    let imported = Place::new().run(&["import", example, "--yes", "--json"]).exits(0).json();
    let headings = |report: &serde_json::Value| report.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(headings(&report), headings(&imported));
    assert_eq!(report["users"].to_string(), users, "{report:#}");
    assert_eq!((&report["balance_sum"], &report["after"]["balance_sum"]), (&json!(sum), &json!(sum)), "{report:#}");
    assert!(report["added"].as_u64().unwrap() > 0);
    assert_eq!(value(server, database.name(), "SELECT count(*) FROM legacy_users"), users);
    run(&["audit"]).exits(0);

    // Once more, which changes nothing.
    let look = run(&["migrate", "--adopt", "--dry-run", "--json"]).exits(0).json();
    assert_eq!((&look["dry_run"], &look["users"]), (&json!(true), &report["users"]));
    let again = run(&["migrate", "--adopt", "--yes", "--json"]).exits(0).json();
    assert_eq!((&again["added"], &again["same"]), (&json!(0), &report["added"]), "{again:#}");
    let ran = run(&["migrate"]).exits(0);
    assert!(ran.stdout.contains("legacy_users"), "{ran:#?}");
}

const SCRATCH: &str = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'storage_verify_%'";

#[test]
fn verify_works_beside_the_store_and_leaves_nothing() {
    let server = Server::shared().unwrap();
    let (place, database) = (Place::new(), migrated(server));
    let run = |arguments: &[&str]| run(&place, &database.url(), arguments);
    run(&["user", "credit", "5", "10", "--yes"]).exits(0);
    let marker = std::fs::read_to_string(place.data().join("backend.json")).unwrap();
    let answer = run(&["verify", "--json"]).exits(0).json();
    assert_eq!((&answer["ok"], &answer["store"]["users"]), (&json!(true), &json!(1)), "{answer:#}");
    assert!(answer["total"].as_u64().unwrap() > 20, "{answer:#}");
    assert_eq!(value(server, database.name(), SCRATCH), "0");
    // The scratch stores are not remembered.
    assert_eq!(std::fs::read_to_string(place.data().join("backend.json")).unwrap(), marker);
    run(&["policy", "--time-zone", "Europe/Kyiv", "--yes"]).exits(0);
    run(&["status"]).exits(3);
}

#[test]
fn verify_says_which_right_it_lacks() {
    let server = Server::shared().unwrap();
    let (place, database) = (Place::new(), migrated(server));
    let name = format!("verifier_{}", database.name());
    let url = role(server, &database, &name, "");
    let ran = run(&place, &url, &["verify"]).exits(1);
    assert!(ran.stderr.contains("GRANT CREATE ON DATABASE"), "{ran:#?}");
    assert!(!format!("{ran:?}").contains("MARKED"), "{ran:#?}");
    // A check that fails is cleaned up after, too: the store's own audit fails here, for the role may not read it.
    server.execute(database.name(), &format!("GRANT CREATE ON DATABASE {} TO {name}", database.name())).unwrap();
    let ran = run(&place, &url, &["verify"]).exits(4);
    assert!(ran.stdout.contains("FAILED  the audit of the store"), "{ran:#?}");
    assert_eq!(value(server, database.name(), SCRATCH), "0");
    server.execute(database.name(), &format!("DROP OWNED BY {name}; DROP ROLE {name}")).unwrap();
}
