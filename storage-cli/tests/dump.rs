//! `storage dump` and `storage restore`.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that fails must stop, and it writes what it tests with"
)]

mod common;

use common::{Place, files};
use serde_json::json;

fn filled() -> Place {
    let place = Place::new();
    place.run(&["user", "credit", "1001", "5.000001", "--key", "k-1", "--yes"]).exits(0);
    place.run(&["user", "debit", "1001", "0.5", "--yes"]).exits(0);
    place.run(&["user", "set-language", "1002", "en", "--yes"]).exits(0);
    place
}

#[test]
fn dump_restore_dump_gives_the_same_bytes() {
    let (place, other) = (filled(), Place::new());
    let dump = place.run(&["dump"]).exits(0);
    assert!(dump.stderr.contains("sha256"), "{dump:#?}");
    let file = place.path("store.dump");
    let summary = place.run(&["dump", file.to_str().unwrap(), "--json"]).exits(0).json();
    assert_eq!((&summary["counts"]["account"], &summary["balances"]), (&json!(2), &json!("4.500001")));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), dump.stdout);

    let restored = other.run(&["restore", file.to_str().unwrap(), "--yes", "--json"]).exits(0).json();
    assert_eq!(restored["sha256"], summary["sha256"]);
    assert_eq!(other.run(&["dump"]).stdout, dump.stdout);
    other.run(&["audit"]).exits(0);
    let again = other.run(&["user", "credit", "1001", "5.000001", "--key", "k-1", "--yes", "--json"]).exits(0).json();
    assert_eq!(again["replayed"], true);

    let third = Place::new();
    third.run_piped(&["restore", "-", "--yes"], dump.stdout.as_bytes()).exits(0);
    assert_eq!(third.run(&["dump", "-"]).stdout, dump.stdout);
}

#[test]
fn a_restore_never_overwrites_and_never_half_happens() {
    let (place, other) = (filled(), Place::new());
    let dump = place.run(&["dump"]).stdout;
    let file = place.path("store.dump");
    std::fs::write(&file, &dump).unwrap();
    let name = file.to_str().unwrap();
    let ran = place.run(&["restore", name, "--yes"]).exits(7);
    assert!(ran.stderr.contains("empty store"), "{ran:#?}");
    // Nobody can be asked.
    other.run(&["restore", name]).exits(7);
    let ran = other.run_piped(&["restore"], dump.as_bytes()).exits(7);
    assert!(ran.stderr.contains("stdin holds the data"), "{ran:#?}");
    // A dry run proves the dump and shows what is in it.
    let plan = other.run(&["restore", name, "--dry-run", "--json"]).exits(0).json();
    assert_eq!((&plan["plan"]["users"], &plan["plan"]["balances"]), (&json!("2"), &json!("4.500001")));
    // Cut or changed dumps.
    std::fs::write(&file, &dump[..dump.len() - 10]).unwrap();
    other.run(&["restore", name, "--yes"]).exits(1);
    let damaged = other.run_piped(&["restore", "--yes", "--json"], dump.replacen("4.5", "4.6", 1).as_bytes()).exits(1);
    assert_eq!(damaged.json()["error"]["kind"], "Corrupt");
    other.run(&["restore", "missing.dump", "--yes"]).exits(1);
    // A dump of another zone.
    std::fs::write(&file, &dump).unwrap();
    let ran = other.run_with(&["restore", name, "--yes"], &[("STORAGE_TIME_ZONE", "Europe/Kyiv")]).exits(3);
    assert!(ran.stderr.contains("try: STORAGE_TIME_ZONE=UTC"), "{ran:#?}");
    assert!(!other.data().exists());
}

#[test]
fn a_dump_file_is_whole_or_as_it_was() {
    let place = filled();
    let file = place.path("store.dump");
    let name = file.to_str().unwrap();
    place.run(&["dump", name, "--dry-run"]).exits(0);
    assert!(!file.exists());
    std::fs::write(&file, "precious").unwrap();
    place.run(&["dump", name]).exits(7);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    place.run(&["dump", name, "--yes"]).exits(0);
    assert!(std::fs::read_to_string(&file).unwrap().contains("storage_dump"));
    let before = files(&place.data());
    place.run(&["dump", place.data().join("x").to_str().unwrap(), "--yes"]).exits(7);
    place.run(&["dump", place.data().to_str().unwrap(), "--yes"]).exits(7);
    place.run(&["dump", "no/such/directory", "--yes"]).exits(1);
    let names = |files: &[(std::path::PathBuf, Vec<u8>)]| files.iter().map(|file| file.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(&files(&place.data())), names(&before));
    let left = std::fs::read_dir(place.dir.path()).unwrap().count();
    assert_eq!(left, 2, "the data directory and the dump, no temporary file");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_dump_whose_reader_leaves_ends_quietly() {
    let place = filled();
    let mut child = place.command(&["dump"]).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:#?}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_no_fault_of_the_store() {
    let place = filled();
    let full = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        command.stdout(std::fs::File::options().write(true).open("/dev/full").unwrap());
        common::finish(command, &[]).exits(1)
    };
    let ran = full(&["dump"]);
    assert!(ran.stderr.contains("try: df -h") && !ran.stderr.contains("store cannot"), "{ran:#?}");
    // What was done is not advised again.
    let ran = full(&["user", "credit", "1001", "1", "--yes"]);
    assert!(ran.stderr.contains("it was done") && ran.stderr.contains("try: storage user show 1001"), "{ran:#?}");
    let ran = full(&["user", "credit", "1001", "1", "--yes", "--json"]);
    assert!(ran.stderr.contains(r#""applied":"yes""#), "{ran:#?}");
    assert_eq!(place.run(&["user", "show", "1001", "--json"]).exits(0).json()["balance"], "6.500001");
}

#[test]
#[cfg(unix)]
fn what_can_be_read_only_once_is_restored() {
    let (place, other) = (filled(), Place::new());
    let dump = place.run(&["dump"]).stdout;
    other.run_piped(&["restore", "/dev/stdin", "--yes"], dump.as_bytes()).exits(0);
    assert_eq!(other.run(&["dump"]).stdout, dump);
    // The remedy can be run as it stands.
    let third = Place::new();
    let mut command = third.command(&["restore", "-", "--yes", "--data-dir", "else where"]);
    command.env("STORAGE_TIME_ZONE", "Europe/Kyiv").stdin(std::process::Stdio::piped());
    let ran = common::finish(command, dump.as_bytes()).exits(3);
    assert!(ran.stderr.contains("storage restore - --data-dir 'else where'"), "{ran:#?}");
}
