//! The probe on a database: run, run again, ride out a server that goes, verify.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a surprise is a failure")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::Stdio;

use pg_test_server::{Database, Options, Server};
use support::{command, probe, run, save, verify};

/// A database with an empty scratch schema, and a file for the acknowledgements.
struct Ground {
    database: Database,
    url: String,
    acks: PathBuf,
    scratch: tempfile::TempDir,
}

impl Ground {
    fn on(server: &Server) -> Self {
        let database = server.create_empty_database().unwrap();
        let url = database.url();
        let scratch = tempfile::tempdir().unwrap();
        let ground = Self { database, url, acks: scratch.path().join("acks"), scratch };
        ground.reset();
        ground
    }
    fn reset(&self) {
        let output = probe(&["reset", &self.url]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn server() -> &'static Server {
    Server::shared().unwrap()
}

#[test]
fn a_run_repeats_itself_and_verifies() {
    let ground = Ground::on(server());
    let (url, acks) = (ground.url.as_str(), ground.acks.as_path());
    for (seed, count, tasks) in [("1", "40", "1"), ("2", "90", "3")] {
        ground.reset();
        save(acks, b"");
        for _ in 0..2 {
            run(url, acks, &[seed, count, "--tasks", tasks, "--pool", "2"]);
            verify(url, acks, &[count]).unwrap();
        }
    }
}

#[test]
fn each_kind_repeats_itself_and_verifies() {
    let ground = Ground::on(server());
    let (url, acks) = (ground.url.as_str(), ground.acks.as_path());
    for _ in 0..2 {
        run(url, acks, &["1", "68", "--plan", "each", "--tasks", "2"]);
        verify(url, acks, &["68", "--plan", "each"]).unwrap();
    }
    assert!(verify(url, acks, &["68"]).unwrap_err().contains("acknowledged as"), "that was another plan");
}

#[test]
fn what_is_not_there_is_noticed() {
    let ground = Ground::on(server());
    let (url, acks) = (ground.url.as_str(), ground.acks.as_path());
    let fewer = ground.scratch.path().join("fewer");
    run(url, acks, &["9", "34", "--plan", "each"]);
    verify(url, acks, &["34", "--plan", "each"]).unwrap();

    // The last acknowledgement is missing: its operation may be there or not, unless all were asked for.
    let all = std::fs::read_to_string(acks).unwrap();
    let lines: Vec<&str> = all.split_inclusive('\n').collect();
    save(&fewer, lines[..33].concat().as_bytes());
    verify(url, &fewer, &["--plan", "each"]).unwrap();
    assert!(verify(url, &fewer, &["34", "--plan", "each"]).unwrap_err().contains("34 should be"));
    // One in the middle is missing.
    save(&fewer, [&lines[..10], &lines[11..]].concat().concat().as_bytes());
    assert!(verify(url, &fewer, &["--plan", "each"]).unwrap_err().contains("operation 10 is not acknowledged"));

    // Acknowledged, and not there: the ledger row of a debit, then everything.
    let sql = "DELETE FROM storage_verify_probe.operations WHERE kind = 'debit'";
    server().execute(ground.database.name(), sql).unwrap();
    let lost = verify(url, acks, &["--plan", "each"]).unwrap_err();
    assert!(lost.contains("the state is not the one after them") && lost.contains("audit: user"), "{lost}");
    assert!(lost.contains("dump: damaged data"), "{lost}");
    ground.reset();
    assert!(verify(url, acks, &["--plan", "each"]).unwrap_err().contains("missing, should be"));
}

#[test]
fn reset_touches_scratch_schemas_alone() {
    let ground = Ground::on(server());
    let url = ground.url.as_str();
    let name = ground.database.name();
    server().execute(name, "CREATE TABLE public.kept (id BIGINT); CREATE SCHEMA storage_verify_other").unwrap();
    server().execute(name, "CREATE TABLE storage_verify_other.kept (id BIGINT)").unwrap();
    ground.reset();
    for schema in ["public", "storage_verif", "postgres", ""] {
        for arguments in [&["reset", url][..], &["run", url, "1", "1"]] {
            let output = probe(&[arguments, &["--schema", schema]].concat());
            assert_eq!(output.status.code(), Some(2), "{schema}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    let kept = server().query_text(name, "SELECT count(*) FROM pg_tables WHERE tablename = 'kept'").unwrap();
    assert_eq!(kept, [[Some("2".to_owned())]]);
    // Two schemas of one database know nothing of one another.
    let two = &["--schema", "storage_verify_two"];
    assert!(probe(&[&["reset", url][..], two].concat()).status.success());
    run(url, &ground.acks, &[&["3", "10"][..], two].concat());
    verify(url, &ground.acks, &[&["10"][..], two].concat()).unwrap();
    assert!(verify(url, &ground.acks, &["10"]).unwrap_err().contains("missing, should be"));
}

#[test]
fn a_server_that_restarts_is_ridden_out() {
    let server = Server::start(Options::default()).unwrap();
    let ground = Ground::on(&server);
    let count = "400";
    let mut running = command(&["run", &ground.url, "4", count, "--tasks", "2", "--pool", "2"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // In the middle of it, with the fault that leaves no client an answer.
    let mut lines = BufReader::new(running.stdout.take().unwrap());
    let mut acknowledged = String::new();
    for _ in 0..40 {
        lines.read_line(&mut acknowledged).unwrap();
    }
    server.stop_immediate().unwrap();
    server.start_again().unwrap();
    lines.read_to_string(&mut acknowledged).unwrap();
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    save(&ground.acks, acknowledged.as_bytes());
    verify(&ground.url, &ground.acks, &[count]).unwrap();
}

#[test]
fn patience_has_an_end() {
    // Nobody listens there: the port is reserved and never given to a service.
    let output = probe(&["run", "postgresql://probe:MARKED@127.0.0.1:1/none", "1", "1", "--patience", "1"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(output.stdout.is_empty());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("refused") && !told.contains("MARKED"), "{told}");
}
