//! `pg-test-server run [--pgbouncer] [--fsync] -- COMMAND ARGS...`: a throw-away PostgreSQL server for one command.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

use pg_test_server::{Options, PGBOUNCER_VARIABLE, PgBouncer, SERVER_VARIABLE, Server};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "usage: pg-test-server run [--pgbouncer] [--fsync] -- COMMAND ARGS...

Starts a PostgreSQL server, runs COMMAND, ends the server and exits with the command's code.
  --pgbouncer  start a PgBouncer in front of it too
  --fsync      write through to the disk, for measurements

The command finds the server through STORAGE_TEST_SERVER and STORAGE_TEST_PGBOUNCER, or through TEST_PG_HOST,
TEST_PG_PORT, TEST_PG_USER, TEST_PG_PASSWORD, TEST_PG_SOCKET_DIR and TEST_PGBOUNCER_PORT.
";

#[derive(Debug)]
struct Arguments {
    pgbouncer: bool,
    fsync: bool,
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    let Some(arguments) = parse(std::env::args_os().skip(1)) else {
        let _ = std::io::stderr().write_all(USAGE.as_bytes());
        return ExitCode::from(2);
    };
    match run(&arguments) {
        Ok(status) => {
            // As a shell answers for a command that a signal ended.
            let code = status.code().or_else(|| status.signal().map(|number| 128 + number));
            ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "pg-test-server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut words: impl Iterator<Item = OsString>) -> Option<Arguments> {
    let mut arguments = Arguments { pgbouncer: false, fsync: false, command: Vec::new() };
    (words.next()? == "run").then_some(())?;
    loop {
        match words.next()?.to_str() {
            Some("--pgbouncer") => arguments.pgbouncer = true,
            Some("--fsync") => arguments.fsync = true,
            Some("--") => break,
            _ => return None,
        }
    }
    arguments.command = words.collect();
    (!arguments.command.is_empty()).then_some(arguments)
}

fn run(arguments: &Arguments) -> Result<ExitStatus, String> {
    let server = Server::start(Options { fsync: arguments.fsync, ..Options::default() })?;
    let pgbouncer = if arguments.pgbouncer { Some(PgBouncer::start(&server)?) } else { None };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start a runtime: {e}"))?;
    runtime.block_on(supervise(arguments, &server, pgbouncer.as_ref()))
}

async fn supervise(
    arguments: &Arguments,
    server: &Server,
    pgbouncer: Option<&PgBouncer>,
) -> Result<ExitStatus, String> {
    let listen = |kind| signal(kind).map_err(|e| format!("cannot listen for signals: {e}"));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;

    // setpriv: the command ends with us even when we are killed.
    let mut command = tokio::process::Command::new("setpriv");
    command
        .args(["--pdeathsig", "TERM", "--"])
        .args(&arguments.command)
        .env(SERVER_VARIABLE, server.to_env())
        .env("TEST_PG_HOST", server.host())
        .env("TEST_PG_PORT", server.port().to_string())
        .env("TEST_PG_USER", server.user())
        .env("TEST_PG_PASSWORD", server.password())
        .env("TEST_PG_SOCKET_DIR", server.socket_dir())
        // One that we were started under belongs to another server.
        .env_remove(PGBOUNCER_VARIABLE)
        .env_remove("TEST_PGBOUNCER_PORT");
    if let Some(pgbouncer) = pgbouncer {
        let port = pgbouncer.port().to_string();
        command.env(PGBOUNCER_VARIABLE, &port).env("TEST_PGBOUNCER_PORT", &port);
    }
    let mut child = command.spawn().map_err(|e| format!("cannot run setpriv: {e}"))?;
    let pid = child.id();
    loop {
        let name = tokio::select! {
            status = child.wait() => return status.map_err(|e| format!("cannot wait for the command: {e}")),
            // The terminal sends these two to the command as well: it still needs the server while it ends.
            _ = interrupt.recv() => continue,
            _ = hangup.recv() => continue,
            _ = terminate.recv() => "TERM",
        };
        if let Some(pid) = pid {
            let _ = tokio::process::Command::new("sh")
                .args(["-c", r#"kill -s "$1" "$2""#, "sh", name, &pid.to_string()])
                .status()
                .await;
        }
    }
}
