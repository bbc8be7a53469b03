//! The corpora, replayed: what was found once is not found again.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, with its line")]

use std::path::Path;

use fuzz_targets::{Bench, Target};

fn replay(target: Target) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(target.name());
    let mut files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", dir.display());
    let bench = Bench::new().unwrap();
    let mut findings = Vec::new();
    for file in files {
        if let Err(finding) = bench.run(target, &std::fs::read(&file).unwrap()) {
            findings.push(format!("{}: {finding}", file.display()));
        }
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

#[test]
fn journal() {
    replay(Target::Journal);
}

#[test]
fn data_files() {
    replay(Target::DataFiles);
}

#[test]
fn manifest() {
    replay(Target::Manifest);
}

#[test]
fn import() {
    replay(Target::Import);
}

/// An input that does not get past the checksums tests nothing behind them.
#[test]
fn the_seeds_say_what_they_are_meant_to_say() {
    let bench = Bench::new().unwrap();
    for target in Target::ALL {
        assert!(bench.seeds(target).len() > 10, "{}", target.name());
    }
    fuzz_targets::check_seals(&bench).unwrap();
}
