//! Signals and the state of processes, through `/proc` and `kill`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What the kernel says about a process: its state letter and its parent.
fn state(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything, parentheses and blanks too.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

pub(crate) fn is_stopped(pid: u32) -> bool {
    // A process that is gone runs no more either.
    state(pid).is_none_or(|(letter, _)| matches!(letter, 'T' | 't' | 'Z' | 'X'))
}

pub(crate) fn children(parent: u32) -> Vec<u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| state(*pid).is_some_and(|(_, of)| of == parent))
        .collect()
}

/// Sends a signal, named as for `kill`. Processes that are gone already are no error.
pub(crate) fn signal(name: &str, pids: &[u32]) -> Result<(), String> {
    // The shell's own kill: the program of that name is not installed everywhere.
    Command::new("sh")
        .args(["-c", r#"signal=$1; shift; for pid; do kill -s "$signal" "$pid"; done"#, "sh", name])
        .args(pids.iter().map(u32::to_string))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map(|_| ())
        .map_err(|e| format!("cannot run sh to send SIG{name}: {e}"))
}

/// Looks again and again until `done` or the time is over; answers whether it was done.
pub(crate) fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if done() {
            return true;
        }
        if start.elapsed() > limit {
            return false;
        }
        sleep(Duration::from_millis(5));
    }
}

/// The last lines of a log, for an error text.
pub(crate) fn last_lines(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n")
}
