//! What `storage doctor` finds, and that it changes nothing.
#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that fails must stop, and it damages what it examines"
)]

mod common;

use std::os::unix::fs::PermissionsExt as _;

use common::{Place, Ran, files};
use serde_json::Value;
use storage_core::{AddBalance, UserId};

fn filled() -> Place {
    let place = Place::new();
    place.with_store(async |storage| {
        let add = AddBalance::new(UserId::new(1001).unwrap(), "20".parse().unwrap());
        storage.add_balance(add).await.unwrap();
    });
    place
}

/// The verdict and the words on a subject.
#[track_caller]
fn on(ran: &Ran, subject: &str) -> (String, String) {
    let answer = ran.json();
    let diagnoses = answer["diagnoses"].as_array().unwrap();
    let one = diagnoses.iter().find(|one| one["subject"] == subject);
    let one = one.unwrap_or_else(|| panic!("nothing on {subject}: {answer:#}"));
    let remedy = one["remedy"].as_str();
    assert_eq!(one["verdict"] == "good", remedy.is_none(), "whatever is not good has a remedy: {one}");
    (one["verdict"].as_str().unwrap().to_owned(), format!("{} {}", one["found"], remedy.unwrap_or_default()))
}

#[track_caller]
fn finds(place: &Place, subject: &str, verdict: &str, words: &str) {
    let before = files(&place.data());
    let ran = place.run(&["doctor", "--json"]);
    assert_eq!(files(&place.data()), before, "the doctor only looks");
    let (found, text) = on(&ran, subject);
    assert!(found == verdict && text.contains(words), "{subject}: {found} {text}");
    let bad = ran.json()["diagnoses"].as_array().unwrap().iter().any(|one| one["verdict"] == "bad");
    assert_eq!(ran.code, if bad { 4 } else { 0 }, "{ran:#?}");
}

fn chmod(place: &Place, name: &str, mode: u32) {
    std::fs::set_permissions(place.data().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_store_that_is_well() {
    let place = filled();
    for subject in ["directory", "files", "free space", "in use", "journal", "checkpoint", "contents"] {
        finds(&place, subject, "good", "");
    }
    let ran = place.run(&["doctor"]);
    assert!(ran.stdout.lines().next().unwrap().starts_with("json at "), "{ran:#?}");
    assert!(ran.stdout.lines().last().unwrap().starts_with("doctor: "), "{ran:#?}");
}

#[test]
fn no_store_at_all() {
    let place = Place::new();
    let ran = place.run(&["doctor", "--json"]).exits(4);
    assert_eq!(on(&ran, "directory").0, "bad");
    std::fs::create_dir(place.data()).unwrap();
    finds(&place, "manifest", "good", "the first opening makes one");
    std::fs::write(place.data().join("user_balances.json"), "{}").unwrap();
    finds(&place, "manifest", "bad", "storage import");
}

#[test]
fn others_who_may_look_in() {
    let place = filled();
    chmod(&place, "users.json", 0o644);
    finds(&place, "files", "good", "the directory keeps them out");
    chmod(&place, "", 0o755);
    finds(&place, "directory", "notice", "chmod 700");
    finds(&place, "files", "notice", "users.json");
}

#[test]
fn files_that_somebody_changed() {
    let place = filled();
    std::fs::write(place.data().join("user_balances.json"), "{\"1001\": 21}").unwrap();
    finds(&place, "contents", "notice", "user_balances.json");
    std::fs::write(place.data().join("user_balances.json.edited-1"), "{}").unwrap();
    finds(&place, "set aside", "notice", "edited-1");
    std::fs::write(place.data().join("users.json"), "{}").unwrap();
    finds(&place, "contents", "bad", "users.json");
    std::fs::remove_file(place.data().join("users.json")).unwrap();
    std::os::unix::fs::symlink("/dev/null", place.data().join("users.json")).unwrap();
    let ran = place.run(&["doctor", "--json"]).exits(4);
    assert!(on(&ran, "files").1.contains("symbolic link"));
    std::fs::write(place.data().join("manifest.json"), "{").unwrap();
    let ran = place.run(&["doctor", "--json"]).exits(4);
    assert_eq!(on(&ran, "manifest").0, "bad");
}

#[test]
fn a_store_that_is_in_use_goes_on() {
    let place = filled();
    let (doctor, journal): (Ran, Value) = place.with_store(async |storage| {
        let add = AddBalance::new(UserId::new(1001).unwrap(), "1".parse().unwrap());
        storage.add_balance(add.clone()).await.unwrap();
        let ran = tokio::task::block_in_place(|| place.run(&["doctor", "--json"]));
        storage.add_balance(add).await.unwrap();
        let journal = ran.json()["diagnoses"].clone();
        (ran, journal)
    });
    let (verdict, text) = on(&doctor, "in use");
    assert!(verdict == "good" && text.contains(&format!("process {}", std::process::id())), "{text}");
    assert!(on(&doctor, "journal").1.contains("1 changes"), "{journal:#}");
}

#[cfg(feature = "postgres")]
mod postgres {
    use super::*;
    use crate::common::pg::{migrated, role};
    use pg_test_server::{PgBouncer, Server};

    fn doctor(url: &str) -> Ran {
        let ran = Place::new().run_with(&["doctor", "--json"], &[("DATABASE_URL", url)]);
        assert!(!format!("{ran:?}").contains("MARKED"), "{ran:#?}");
        ran
    }

    #[test]
    fn a_server_its_schema_and_what_is_missing() {
        let server = Server::shared().unwrap();
        let database = migrated(server);
        let ran = doctor(&database.url());
        for subject in
            ["connection", "version", "clock", "role", "pooler", "connections", "standbys", "schema", "indexes"]
        {
            assert_eq!(on(&ran, subject).0, "good", "{subject} {ran:#?}");
        }
        // The test server does not write through.
        let (verdict, text) = on(&ran, "durability");
        assert!(verdict == "bad" && text.contains("fsync"), "{text}");
        server.execute(database.name(), "DROP INDEX payments_by_time").unwrap();
        let (verdict, text) = on(&doctor(&database.url()).exits(4), "indexes");
        assert!(verdict == "bad" && text.contains("payments_by_time"), "{text}");
        let bouncer = PgBouncer::shared().unwrap();
        assert!(on(&doctor(&bouncer.url(database.name())), "pooler").1.contains("there is one"));
        let empty = server.create_empty_database().unwrap();
        let (verdict, text) = on(&doctor(&empty.url()).exits(4), "schema");
        assert!(verdict == "bad" && text.contains("storage migrate"), "{text}");
    }

    #[test]
    fn a_server_that_lets_nobody_in() {
        let server = Server::shared().unwrap();
        let database = migrated(server);
        let name = format!("nobody_{}", std::process::id());
        let url = role(server, &database, &name, "").replace("MARKED", "WRONG");
        let ran = doctor(&url).exits(4);
        let (verdict, text) = on(&ran, "connection");
        assert!(verdict == "bad" && text.contains("password"), "{text}");
        let ran = doctor("postgresql://127.0.0.1:1/none?connect_timeout=2").exits(4);
        assert_eq!(on(&ran, "connection").0, "bad");
    }
}
