//! `storage backup`, and compressed dumps.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that fails must stop, and it writes what it tests with"
)]

mod common;

use common::Place;
use serde_json::json;

fn filled() -> Place {
    let place = Place::new();
    place.run(&["user", "credit", "1001", "5.000001", "--key", "k-1", "--yes"]).exits(0);
    place.run(&["user", "set-language", "1002", "en", "--yes"]).exits(0);
    std::fs::create_dir(place.path("backups")).unwrap();
    place
}

fn names(place: &Place) -> Vec<String> {
    let entries = std::fs::read_dir(place.path("backups")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_backup_is_proved_before_older_ones_go() {
    let place = filled();
    let made = place.run(&["backup", "backups", "--json"]).exits(0).json();
    assert_eq!((&made["tested"], &made["kept"], &made["balances"]), (&json!(true), &json!(1), &json!("5.000001")));
    let file = made["file"].as_str().unwrap();
    assert!(file.starts_with("backups/storage-2") && file.ends_with("Z.jsonl.zst"), "{file}");
    // It is a dump like any other.
    let other = Place::new();
    other.run(&["restore", place.path(file).to_str().unwrap(), "--yes"]).exits(0);
    assert_eq!(other.run(&["dump"]).stdout, place.run(&["dump"]).stdout);

    let older = ["storage-2020-01-01T00-00-00Z.jsonl.gz", "storage-2021-01-01T00-00-00Z.jsonl"];
    let strangers = ["storage-mine.jsonl", "storage-2019-01-01T00-00-00Z.jsonl.zst.failed", "notes.txt"];
    for name in older.iter().chain(&strangers) {
        std::fs::write(place.path("backups").join(name), "x").unwrap();
    }
    std::fs::rename(place.path(file), place.path("backups/storage-2022-01-01T00-00-00Z.jsonl.zst")).unwrap();
    let plan = place.run(&["backup", "backups", "--keep", "2", "--dry-run"]).exits(0);
    assert!(older.iter().all(|name| plan.stdout.contains(name)), "{plan:#?}");
    // Removing is asked about.
    place.run(&["backup", "backups", "--keep", "2"]).exits(7);
    assert_eq!(names(&place).len(), 6);
    let made = place.run(&["backup", "backups", "--keep", "2", "--compress", "gz", "--yes", "--json"]).exits(0).json();
    assert_eq!((&made["kept"], made["removed"].as_array().unwrap().len()), (&json!(2), 2));
    let left = names(&place);
    assert!(strangers.iter().all(|name| left.contains(&(*name).to_owned())) && left.len() == 5, "{left:?}");
    place.run(&["backup", "missing"]).exits(1);
    place.run(&["backup", "backups", "--keep", "0"]).exits(2);
    place.run(&["backup", "data"]).exits(7);
}

#[test]
fn a_dump_is_compressed_by_the_ending_of_its_name_and_known_by_its_bytes() {
    let place = filled();
    let plain = place.run(&["dump"]).exits(0).stdout;
    for name in ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"] {
        place.run(&["dump", name]).exits(0);
        let bytes = std::fs::read(place.path(name)).unwrap();
        assert_eq!(bytes == plain.as_bytes(), name == "a.jsonl");
        let from_pipe = Place::new();
        from_pipe.run_piped(&["restore", "--yes"], &bytes).exits(0);
        assert_eq!(from_pipe.run(&["dump"]).stdout, plain);
        // Cut or damaged, it is refused, and nothing comes to be.
        for damaged in [&bytes[..bytes.len() / 2], &[&bytes[..10], b"damage", &bytes[16..]].concat()] {
            let other = Place::new();
            let ran = other.run_piped(&["restore", "--yes", "--json"], damaged).exits(1);
            assert_eq!(ran.json()["error"]["kind"], "Corrupt", "{name}: {ran:#?}");
            assert!(!other.data().exists());
        }
    }
}
