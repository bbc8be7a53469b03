//! Each workload of `storage-bench json` runs at a tiny size, so that the measurements do not rot. Nothing here is timed.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::process::Command;

use serde_json::Value;

/// Runs it and answers the tables.
fn tables(arguments: &[&str]) -> Vec<Value> {
    let scratch = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_storage-bench"))
        .args(["--json", "json", "--users", "30", "--jobs", "200", "--rounds", "1", "--seconds", "0.005", "--dir"])
        .arg(scratch.path())
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(scratch.path().read_dir().unwrap().count(), 0, "the scratch directory is left");
    report["tables"].as_array().unwrap().clone()
}

#[test]
fn openings_beside_a_writer() {
    let scratch = tempfile::tempdir().unwrap();
    let store = scratch.path().join("store");
    // Twice: the second run uses the store that the first one kept.
    for _ in 0..2 {
        let output = Command::new(env!("CARGO_BIN_EXE_storage-bench"))
            .args(["--json", "opening", "--users", "30", "--rows", "1", "--rounds", "2"])
            .args(["--seconds", "0.01", "--tasks", "4", "--dir"])
            .arg(scratch.path())
            .arg("--keep")
            .arg(&store)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        for turn in ["alone", "beside_openings"] {
            assert!(report["contestants"][turn]["a_second"].as_f64().unwrap() > 0.0, "{report}");
        }
        assert!(report["openings"].as_u64().unwrap() >= 2, "{report}");
        assert_eq!(scratch.path().read_dir().unwrap().count(), 1, "the scratch directory is left");
    }
}

/// The contestants of the table with this name, each with a rate.
fn contestants(tables: &[Value], name: &str) -> Vec<String> {
    let table = tables.iter().find(|table| table["name"] == name).unwrap_or_else(|| panic!("no table {name}"));
    let contestants = table["contestants"].as_object().unwrap();
    for (contestant, figures) in contestants {
        assert!(figures["a_second"].as_f64().unwrap() > 0.0, "{name}: {contestant}: {figures}");
    }
    contestants.keys().cloned().collect()
}

#[test]
fn writes_have_every_peer() {
    let tables = tables(&["--workload", "credit,debit,bot"]);
    for name in ["credit", "debit", "bot mix"] {
        let present = contestants(&tables, name);
        for peer in ["storage_json", "floor", "SQLite", "SQLite_batched", "redb", "redb_batched", "fjall_batched"] {
            assert!(present.iter().any(|name| name == peer), "{name}: {present:?}");
        }
    }
    assert!(contestants(&tables, "credit").iter().any(|name| name == "file_rewritten"));
}

#[test]
fn reads_have_their_peers() {
    let tables = tables(&["--workload", "balance,jobs"]);
    for name in ["get_balance, shared", "get_balance, exclusive"] {
        assert_eq!(contestants(&tables, name).len(), 4);
    }
    assert_eq!(contestants(&tables, "newest jobs").len(), 2);
}

#[test]
fn processes_and_checkpoints() {
    let tables = tables(&["--workload", "processes,checkpoint", "--checkpoint-bytes", "1"]);
    assert_eq!(contestants(&tables, "processes").len(), 2);
    assert_eq!(contestants(&tables, "checkpoint").len(), 2);
}

#[test]
fn memory_and_opening() {
    let tables = tables(&["--workload", "memory,open"]);
    let of = |name: &str| tables.iter().find(|table| table["name"] == name).unwrap()["contestants"].clone();
    assert!(of("memory")["user"]["bytes_each"].is_number());
    assert!(of("open")["storage_json"]["seconds"].as_f64().unwrap() > 0.0);
}
