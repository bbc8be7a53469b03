//! `storage-bench stopped` and `storage-bench looks` run at a tiny size, so that the measurements do not rot. Nothing here is
//! timed.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::process::{Command, Output};

use serde_json::Value;

/// Runs it in a scratch directory, which is empty again afterwards.
fn run(arguments: &[&str]) -> Output {
    let scratch = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_storage-bench");
    let output = Command::new(program).args(arguments).arg("--dir").arg(scratch.path()).output().unwrap();
    assert_eq!(scratch.path().read_dir().unwrap().count(), 0, "the scratch directory is left");
    output
}

fn report(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn behind_a_stopped_process_memory_is_told_and_judged() {
    let short = ["--json", "stopped", "--seconds", "1", "--rate", "50"];
    let figures = report(&run(&short))["figures"].clone();
    let count = |name: &str| figures[name].as_f64().unwrap();
    assert!((count("calls_done") + count("calls_refused") + count("calls_unknown") - 50.0).abs() < 0.5, "{figures}");
    let output = run(&[&short[..], &["--at-most", "-1"]].concat());
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("memory grew by"), "{said}");
}

#[test]
fn every_look_is_measured() {
    let looks = report(&run(&["--json", "looks", "--records", "30"]))["contestants"].as_object().unwrap().clone();
    assert!(looks.len() > 20, "{looks:?}");
    for (name, figures) in &looks {
        assert!(figures["own_ms"].as_f64().unwrap() >= 0.0 && figures["state_ms"].is_number(), "{name}: {figures}");
    }
}
