//! The probe as a program.

use std::path::Path;
use std::process::{Command, Output};

/// The probe with arguments.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_storage-probe"));
    command.args(arguments);
    command
}

/// Runs it to its end.
pub(crate) fn probe(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs, and appends what was acknowledged to the file.
pub(crate) fn run(store: &str, acks: &Path, arguments: &[&str]) {
    let output = probe(&[&["run", store], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let before = std::fs::read(acks).unwrap_or_default();
    save(acks, &[before, output.stdout].concat());
}

#[expect(clippy::disallowed_methods, reason = "a file of the test, not of a store")]
pub(crate) fn save(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

/// Verifies; the error is what the probe says.
pub(crate) fn verify(store: &str, acks: &Path, arguments: &[&str]) -> Result<(), String> {
    let output = probe(&[&["verify", store, text(acks)], arguments].concat());
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}
