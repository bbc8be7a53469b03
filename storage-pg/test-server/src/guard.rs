//! A directory that is gone, with every server in it, when this process is: whatever ended it.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::account::Account;

/// A fresh directory and the guard process that removes it.
///
/// The guard reads from a pipe whose other end only we hold. The kernel closes that end when we end, so it needs no
/// destructor, which statics and killed processes do not run.
#[derive(Debug)]
pub(crate) struct Guard {
    directory: PathBuf,
    pipe: Option<ChildStdin>,
    process: Child,
}

impl Guard {
    /// Makes the directory, in memory when `in_memory` and there is room.
    pub(crate) fn start(account: Account, in_memory: bool) -> Result<Self, String> {
        let base = base_directory(in_memory);
        let fail = |e| format!("cannot make a directory in {}: {e}", base.display());
        let fresh = tempfile::Builder::new().prefix("pg-test-").tempdir_in(&base).map_err(fail)?;
        account.give(fresh.path())?;
        let mut process = Command::new("sh")
            .args(["-c", include_str!("guard.sh")])
            .env("GUARDED", fresh.path())
            .current_dir("/")
            .stdin(Stdio::piped())
            // The caller may wait for the end of what it captures from us.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C goes to the whole process group; the guard must outlive it.
            .process_group(0)
            .spawn()
            .map_err(|e| format!("cannot run sh: {e}"))?;
        Ok(Self { directory: fresh.keep(), pipe: process.stdin.take(), process })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // Its work takes a bounded time. When it is over, nothing of the server is left.
        let _ = self.process.wait();
    }
}

fn base_directory(in_memory: bool) -> PathBuf {
    let memory = Path::new("/dev/shm");
    // Containers often get 64 MB there, which holds an empty cluster and little more.
    if in_memory && free_kilobytes(memory).is_some_and(|free| free >= 1024 * 1024) {
        return memory.to_owned();
    }
    let temporary = std::env::temp_dir();
    // The path of a Unix socket has room for 107 bytes.
    if temporary.as_os_str().len() > 60 { PathBuf::from("/tmp") } else { temporary }
}

fn free_kilobytes(directory: &Path) -> Option<u64> {
    let output = Command::new("df").arg("-Pk").arg(directory).stdin(Stdio::null()).output().ok()?;
    if !output.status.success() {
        return None;
    }
    String::from_utf8_lossy(&output.stdout).lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()
}
