//! The server cannot be reached, and a JSON directory stands beside the command. The command changes nothing there without being
//! asked to, and says so when it shows something of it.
#![cfg(feature = "postgres")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails must stop")]

mod common;

use common::pg::migrated;
use common::{Place, files};
use pg_test_server::Server;
use serde_json::json;
use storage_core::{AddPayment, UserId};

/// Nothing listens there.
const DEAD: &str = "postgresql://bot:MARKED@127.0.0.1:1/bot";

/// Every command that changes a store.
const CHANGES: [&[&str]; 9] = [
    &["user", "credit", "1", "5"],
    &["user", "debit", "1", "5"],
    &["user", "set-language", "1", "en"],
    &["payments", "approve", "p-1"],
    &["payments", "reject", "p-1"],
    &["import", "legacy"],
    &["restore", "store.jsonl"],
    &["policy", "--time-zone", "Europe/Kyiv", "--history", "7"],
    &["lift", "json:/elsewhere"],
];

/// Commands whose answer is kept or proves something.
const PROOFS: [&[&str]; 5] =
    [&["dump", "-"], &["dump", "dump.jsonl"], &["backup", "backups", "--yes"], &["audit"], &["verify"]];

/// Commands that show something to a person.
const LOOKS: [&[&str]; 7] = [
    &["status"],
    &["user", "list"],
    &["user", "show", "1"],
    &["payments", "list"],
    &["jobs", "list"],
    &["history", "1"],
    &["referrals", "1"],
];

fn prepared(place: Place) -> Place {
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/legacy-data");
    let legacy = place.path("legacy");
    std::fs::create_dir(&legacy).unwrap();
    for entry in std::fs::read_dir(example).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), legacy.join(entry.file_name())).unwrap();
    }
    let dump = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts/store.jsonl");
    std::fs::copy(dump, place.path("store.jsonl")).unwrap();
    std::fs::create_dir(place.path("backups")).unwrap();
    place
}

/// A JSON store with money in it, of no server.
fn of_another() -> Place {
    let place = prepared(Place::new());
    place.with_store(async |storage| {
        let mut add = AddPayment::new(UserId::new(1).unwrap(), "100".parse().unwrap(), "card".parse().unwrap());
        add.payment = Some("p-1".parse().unwrap());
        storage.add_payment(add).await.unwrap();
    });
    place
}

/// One that a program fell back to.
fn stands_in() -> Place {
    let place = prepared(Place::new());
    place.program_credits(DEAD, "5");
    place.with_store(async |storage| {
        let mut add = AddPayment::new(UserId::new(1).unwrap(), "100".parse().unwrap(), "card".parse().unwrap());
        add.payment = Some("p-1".parse().unwrap());
        storage.add_payment(add).await.unwrap();
    });
    place
}

#[test]
fn no_command_changes_what_stands_in() {
    for place in [of_another(), stands_in(), prepared(Place::new())] {
        let before = files(place.dir.path());
        for change in CHANGES {
            for more in [&["--yes"][..], &["--dry-run"], &[]] {
                let ran = place.run_with(&[change, more].concat(), &[("DATABASE_URL", DEAD)]).exits(6);
                let data = place.data().display().to_string();
                for words in ["connection was refused", "--mode json", "127.0.0.1:1", &data] {
                    assert!(ran.stderr.contains(words), "{change:?}: {words}: {ran:#?}");
                }
                // No plan of a store that was not opened.
                assert!(!ran.stderr.contains("  store "), "{ran:#?}");
                assert!(ran.stdout.is_empty() && !format!("{ran:?}").contains("MARKED"), "{ran:#?}");
            }
            let error = place.run_with(&[change, &["--yes", "--json"]].concat(), &[("DATABASE_URL", DEAD)]);
            let error = error.exits(6).json();
            assert_eq!((&error["error"]["kind"], &error["error"]["applied"]), (&json!("Unavailable"), &json!("no")));
            assert!(error["error"]["try"].as_str().unwrap().contains("--mode json"), "{error}");
        }
        assert_eq!(files(place.dir.path()), before);
    }
}

#[test]
fn nothing_is_proved_of_what_stands_in() {
    for place in [of_another(), stands_in()] {
        let before = files(place.dir.path());
        for proof in PROOFS {
            let ran = place.run_with(proof, &[("DATABASE_URL", DEAD)]).exits(6);
            assert!(ran.stderr.contains("connection was refused") && ran.stdout.is_empty(), "{proof:?}: {ran:#?}");
        }
        assert_eq!(files(place.dir.path()), before);
    }
}

#[test]
fn what_a_program_fell_back_to_is_shown_and_named() {
    let (other, place) = (of_another(), stands_in());
    for look in LOOKS {
        let ran = place.run_with(look, &[("DATABASE_URL", DEAD)]).exits(0);
        let warning = format!("warning: JSON at {} stands in for postgresql://127.0.0.1:1/bot", place.data().display());
        assert!(ran.stderr.contains(&warning), "{look:?}: {ran:#?}");
        assert!(!format!("{ran:?}").contains("MARKED"), "{ran:#?}");
        let ran = other.run_with(look, &[("DATABASE_URL", DEAD)]).exits(6);
        assert!(ran.stderr.contains("another store") && ran.stdout.is_empty(), "{look:?}: {ran:#?}");
    }
    // By name everything goes.
    other.run_with(&["payments", "approve", "p-1", "--mode", "json", "--yes"], &[("DATABASE_URL", DEAD)]).exits(0);
}

#[test]
fn a_plan_names_the_store_that_was_opened() {
    let server = Server::shared().unwrap();
    let (place, database) = (Place::new(), migrated(server));
    let url = [("DATABASE_URL", &*database.url())].map(|(name, url)| (name, url.to_owned()));
    let url = [(url[0].0, &*url[0].1)];
    let planned = place.run_with(&["user", "credit", "1", "5"], &url).exits(7);
    let shown = format!("store          postgres at postgresql://127.0.0.1:{}/{}", server.port(), database.name());
    assert!(planned.stderr.contains(&shown), "{planned:#?}");
    // A plan is a look: nothing remembers it.
    assert!(!place.data().exists());
    let planned = place.run(&["user", "credit", "1", "5", "--dry-run"]).exits(0);
    let shown = format!(
        "json at {} (STORAGE_MODE is auto and DATABASE_URL is not set), which will be created",
        place.data().display()
    );
    assert!(planned.stdout.contains(&shown), "{planned:#?}");
    place.run(&["user", "credit", "1", "5", "--yes"]).exits(0);
    let planned = place.run(&["user", "credit", "1", "5", "--dry-run"]).exits(0);
    assert!(planned.stdout.contains("DATABASE_URL is not set)\n"), "{planned:#?}");
}
