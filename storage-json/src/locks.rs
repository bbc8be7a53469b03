//! The lock files, which are never renamed.
//!
//! `presence.lock` is held, shared, for as long as a process has the store open; whoever gets it alone may recover and
//! honour hand edits. `writer.lock` is held, exclusively, for one batch of changes, and while opening and closing, so
//! that the change of a shared presence into an exclusive one and back has no gap.
//!
//! A guard of `fd-lock` is forgotten on purpose where a lock outlives a scope: the lock then lives until its file is
//! closed, which the owner of the file decides.

use std::fs::File;
use std::io::{self, ErrorKind as Io};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fd_lock::RwLock;
use storage_core::{Error, ErrorKind, Result, Timestamp};

use crate::files::{Dir, io_error, read_at, write_all_at};
use crate::options::Locking;

pub(crate) const PRESENCE: &str = "presence.lock";
pub(crate) const WRITER: &str = "writer.lock";
/// Held exclusively by the process that writes a checkpoint while writing goes on.
pub(crate) const CHECKPOINT: &str = "checkpoint.lock";

/// One of the lock files, opened by this handle.
#[derive(Debug)]
pub(crate) struct LockFile {
    lock: RwLock<File>,
    path: PathBuf,
    locking: Locking,
}

/// How a try for a lock ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Try {
    Got,
    Held,
}

impl LockFile {
    pub(crate) fn open(dir: &Dir, name: &str, locking: Locking) -> Result<Self> {
        Ok(Self { lock: RwLock::new(dir.open(name)?), path: dir.join(name), locking })
    }

    fn cannot(&self, error: io::Error) -> Error {
        io_error(error, "cannot lock", &self.path)
            .message("this file system cannot lock files: use a local one, or choose `Locking::Without` by name and run one process only")
    }

    fn outcome(&self, tried: io::Result<()>) -> Result<Option<Try>> {
        match tried {
            Ok(()) => Ok(Some(Try::Got)),
            Err(error) if error.kind() == Io::WouldBlock => Ok(Some(Try::Held)),
            Err(error) if error.kind() == Io::Interrupted => Ok(None),
            Err(_) if self.locking == Locking::Without => Ok(Some(Try::Got)),
            Err(error) => Err(self.cannot(error)),
        }
    }

    fn settle(&mut self, mut attempt: impl FnMut(&mut RwLock<File>) -> io::Result<()>) -> Result<Try> {
        loop {
            let tried = attempt(&mut self.lock);
            if let Some(outcome) = self.outcome(tried)? {
                return Ok(outcome);
            }
        }
    }

    /// Tries for the exclusive lock, which is then held until [`LockFile::release`] or the file is closed.
    pub(crate) fn try_exclusive(&mut self) -> Result<Try> {
        self.settle(|lock| lock.try_write().map(std::mem::forget))
    }

    /// Tries for the shared lock, which is then held until [`LockFile::release`] or the file is closed.
    pub(crate) fn try_shared(&mut self) -> Result<Try> {
        self.settle(|lock| lock.try_read().map(std::mem::forget))
    }

    /// Waits for the exclusive lock. Only on threads that may block: the wait has no limit of its own, the callers'
    /// deadlines bound theirs.
    pub(crate) fn exclusive(&mut self) -> Result<()> {
        self.settle(|lock| lock.write().map(std::mem::forget)).map(|_| ())
    }

    /// Gives the lock up.
    pub(crate) fn release(&mut self) {
        // Taking the lock on the same open file converts it, and the guard of that releases it.
        if let Ok(guard) = self.lock.try_write() {
            drop(guard);
        }
    }

    /// Waits for the exclusive lock up to `limit`; `Locked` naming the holder when that runs out.
    pub(crate) fn exclusive_within(&mut self, limit: Duration, holder: impl Fn() -> Holder) -> Result<()> {
        let began = Instant::now();
        let mut pause = Duration::from_millis(1);
        while self.try_exclusive()? == Try::Held {
            if began.elapsed() >= limit {
                let Holder { pid, since } = holder();
                return Err(Error::new(ErrorKind::Locked { pid, since }).message("end that process or wait for it"));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// Who holds the store, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holder {
    pub(crate) pid: Option<u32>,
    pub(crate) since: Option<Timestamp>,
}

impl Holder {
    /// Notes that this process has the store open.
    pub(crate) fn sign(dir: &Dir, now: Timestamp) {
        // Only for people: a store works without it.
        if let Ok(file) = dir.open(PRESENCE) {
            let text = format!("{:<10} {now}\n", std::process::id());
            let _ = write_all_at(&file, text.as_bytes(), 0);
        }
    }
    pub(crate) fn read(dir: &Dir) -> Self {
        let mut buffer = [0; 64];
        let text = dir
            .open_existing(PRESENCE)
            .ok()
            .flatten()
            .and_then(|file| read_at(&file, &mut buffer, 0).ok())
            .map(|count| String::from_utf8_lossy(&buffer[..count]).into_owned())
            .unwrap_or_default();
        let mut words = text.split_whitespace();
        Self {
            pid: words.next().and_then(|pid| pid.parse().ok()),
            since: words.next().and_then(|since| since.parse().ok()),
        }
    }
}
