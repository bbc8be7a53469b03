//! The probe as the fault tools use it: run, run again, verify.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a surprise is a failure")]

mod support;

use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use support::{command, probe, run, save, text, verify};

#[test]
fn a_run_repeats_itself_and_verifies() {
    let scratch = tempfile::tempdir().unwrap();
    let (dir, acks) = (scratch.path().join("store"), scratch.path().join("acks"));
    for tasks in ["1", "3"] {
        let arguments = [tasks, "90", "--tasks", tasks];
        run(text(&dir), &acks, &arguments);
        verify(text(&dir), &acks, &["90"]).unwrap();
        run(text(&dir), &acks, &arguments);
        verify(text(&dir), &acks, &["90"]).unwrap();
    }
}

#[test]
fn a_shorter_run_goes_on_as_a_longer_one() {
    let scratch = tempfile::tempdir().unwrap();
    let (dir, acks) = (scratch.path().join("store"), scratch.path().join("acks"));
    for count in ["0", "1", "7", "40", "41"] {
        run(text(&dir), &acks, &["5", count]);
        verify(text(&dir), &acks, &[]).unwrap();
    }
    verify(text(&dir), &acks, &["41"]).unwrap();
}

#[test]
fn seeds_share_a_directory() {
    let scratch = tempfile::tempdir().unwrap();
    let (dir, acks) = (scratch.path().join("store"), scratch.path().join("acks"));
    let run =
        |seed| command(&["run", text(&dir), seed, "40"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let both = [run("1"), run("2")].map(|child| child.wait_with_output().unwrap());
    for output in &both {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    save(&acks, &both.map(|output| output.stdout).concat());
    verify(text(&dir), &acks, &["40"]).unwrap();
}

#[test]
fn what_is_not_there_is_noticed() {
    let scratch = tempfile::tempdir().unwrap();
    let (dir, acks) = (scratch.path().join("store"), scratch.path().join("acks"));
    let other = scratch.path().join("other");
    run(text(&dir), &acks, &["9", "40"]);
    verify(text(&dir), &acks, &[]).unwrap();
    assert!(verify(text(&dir), &acks, &["41"]).unwrap_err().contains("41 should be"));

    // A store that lacks the last operations.
    let short = scratch.path().join("short");
    run(text(&short), &other, &["9", "30"]);
    assert!(verify(text(&short), &acks, &[]).unwrap_err().contains("the state is not the one after them"));
    // A store that has more than was acknowledged: one operation may be in doubt, ten may not.
    assert!(verify(text(&dir), &other, &[]).unwrap_err().contains("the state is not the one after them"));
    // An empty store.
    assert!(verify(text(&scratch.path().join("empty")), &acks, &[]).is_err());
    // Nothing acknowledged, everything there.
    save(&other, b"");
    assert!(verify(text(&dir), &other, &[]).is_err());
}

#[test]
fn one_operation_in_doubt_may_be_there_or_not() {
    let scratch = tempfile::tempdir().unwrap();
    let (dir, acks) = (scratch.path().join("store"), scratch.path().join("acks"));
    run(text(&dir), &acks, &["3", "25"]);
    let all = std::fs::read_to_string(&acks).unwrap();
    let lines: Vec<&str> = all.split_inclusive('\n').collect();
    // The last line was cut off by the crash.
    let (last, before) = lines.split_last().unwrap();
    save(&acks, format!("{}{}", before.concat(), &last[..5]).as_bytes());
    verify(text(&dir), &acks, &[]).unwrap();
    assert!(verify(text(&dir), &acks, &["25"]).is_err(), "not every operation is acknowledged");
}

#[test]
fn wrong_arguments_are_told() {
    for arguments in [
        &["run", "mysql://u:secret@h/d", "1", "1"][..],
        &["verify", "mysql://u:secret@h/d", "acks"],
        &["reset", "x"],
        &["run", "x", "1", "1", "--schema", "storage_verify_x"],
        &["run", "x", "1", "1", "--plan", "other"],
        &["run", "x", "1"],
        &["run", "x", "-1", "1"],
        &["run", "x", "1", "1", "--tasks", "0"],
        &["run", "x", "1", "9999999"],
    ] {
        let output = probe(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("secret"));
    }
    let missing = probe(&["verify", "x", "/no/such/file"]);
    assert_eq!(missing.status.code(), Some(1));
}

#[test]
fn a_store_that_refuses_is_told_from_one_that_is_wrong() {
    let scratch = tempfile::tempdir().unwrap();
    let (dir, acks) = (scratch.path().join("store"), scratch.path().join("acks"));
    run(text(&dir), &acks, &["9", "20"]);
    let wrong = probe(&["verify", text(&dir), text(&acks), "21"]);
    assert_eq!(wrong.status.code(), Some(1));
    // A file stands where the directory should.
    save(&scratch.path().join("file"), b"");
    let refused = probe(&["verify", text(&scratch.path().join("file")), text(&acks)]);
    assert_eq!(refused.status.code(), Some(3));
    // Trying again does not help there, and is not done.
    let insisting = |store: &Path| {
        let output = probe(&["run", text(store), "9", "20", "--insist", "2", "--deadline", "50"]);
        assert_eq!(output.status.code(), Some(3));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = insisting(&scratch.path().join("file"));
    assert!(!said.contains("opening was refused after "), "{said}");
    // It helps where another process has a lock.
    let held = File::open(dir.join("opening.lock")).unwrap();
    held.lock().unwrap();
    let said = insisting(&dir);
    assert_eq!(said.matches("opening was refused after ").count(), 2, "{said}");
}

#[test]
fn lanes_that_are_not_named_are_left_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let (dir, acks, other) = (scratch.path().join("store"), scratch.path().join("acks"), scratch.path().join("other"));
    run(text(&dir), &acks, &["1", "20"]);
    run(text(&dir), &other, &["2", "20"]);
    assert!(verify(text(&dir), &acks, &[]).is_err());
    verify(text(&dir), &acks, &["--named", "20"]).unwrap();
}
