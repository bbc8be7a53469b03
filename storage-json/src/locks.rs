//! The lock files, which are never renamed and never removed.
//!
//! | file | held |
//! | --- | --- |
//! | `opening.lock` | exclusively, while a process opens or closes the store: nobody else changes between a shared and an exclusive presence meanwhile |
//! | `presence.lock` | shared, for as long as a process has the store open; whoever gets it alone may recover and honour hand edits |
//! | `writer.lock` | exclusively, for one batch of changes |
//! | `checkpoint.lock` | exclusively, by the process that writes a checkpoint while writing goes on |
//!
//! Each says who took it last, written under the lock. Who holds it now, the kernel tells where it can.
//!
//! A guard of `fd-lock` is forgotten on purpose: a lock here outlives the scope it was taken in. It lives until
//! [`LockFile::release`], or until its file is closed, however the process ends.

use std::fs::File;
use std::io::{self, ErrorKind as Io};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fd_lock::RwLock;
use storage_core::{Error, ErrorKind, Result, Timestamp};

use crate::disk::{Dir, Identity, io_error};
use crate::holder::Holder;
use crate::options::Locking;

pub(crate) const OPENING: &str = "opening.lock";
pub(crate) const PRESENCE: &str = "presence.lock";
pub(crate) const WRITER: &str = "writer.lock";
pub(crate) const CHECKPOINT: &str = "checkpoint.lock";

/// One of the lock files, opened by this handle.
#[derive(Debug)]
pub(crate) struct LockFile {
    lock: RwLock<Arc<File>>,
    file: Arc<File>,
    dir: Dir,
    name: &'static str,
    locking: Locking,
    /// When this handle gave it up last.
    released: Option<Instant>,
}

/// How a try for a lock ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Try {
    Got,
    Held,
}

/// A wait that begins short and grows to 50 ms.
#[derive(Debug)]
pub(crate) struct Pause {
    began: Instant,
    limit: Duration,
    next: Duration,
}

impl Pause {
    pub(crate) fn within(limit: Duration) -> Self {
        Self { began: Instant::now(), limit, next: Duration::from_millis(1) }
    }
    /// Waits a little; `false` when the limit is over.
    pub(crate) fn wait(&mut self) -> bool {
        let left = self.limit.saturating_sub(self.began.elapsed());
        if left.is_zero() {
            return false;
        }
        std::thread::sleep(self.next.min(left));
        self.next = (self.next * 2).min(Duration::from_millis(50));
        true
    }
}

impl LockFile {
    /// Opens a lock file, made when missing.
    pub(crate) fn open(dir: &Dir, name: &'static str, locking: Locking) -> Result<Self> {
        Ok(Self::of(dir, name, dir.open_file(name)?, locking))
    }

    /// Opens a lock file that must be there; `None` when it is not.
    pub(crate) fn open_existing(dir: &Dir, name: &'static str, locking: Locking) -> Result<Option<Self>> {
        Ok(dir.open_existing(name)?.map(|file| Self::of(dir, name, file, locking)))
    }

    fn of(dir: &Dir, name: &'static str, file: File, locking: Locking) -> Self {
        let file = Arc::new(file);
        Self { lock: RwLock::new(Arc::clone(&file)), file, dir: dir.clone(), name, locking, released: None }
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }
    pub(crate) fn identity(&self) -> Result<Identity> {
        Identity::of(&self.file).map_err(|error| io_error(error, "cannot look at", &self.dir.join(self.name)))
    }

    fn cannot(&self, error: io::Error) -> Error {
        io_error(error, "cannot lock", &self.dir.join(self.name))
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

    fn settle(&mut self, mut attempt: impl FnMut(&mut RwLock<Arc<File>>) -> io::Result<()>) -> Result<Try> {
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
        self.released = Some(Instant::now());
        #[cfg(unix)]
        let _ = rustix::fs::flock(&*self.file, rustix::fs::FlockOperation::Unlock);
        // There a lock is not converted by taking it again, so that only closing the file gives it up. Never run so far.
        #[cfg(not(unix))]
        if let Ok(file) = self.dir.open_file(self.name) {
            let file = Arc::new(file);
            self.lock = RwLock::new(Arc::clone(&file));
            self.file = file;
        }
    }

    /// Whether this handle gave it up a moment ago, so that others cannot have done much with it.
    pub(crate) fn was_held_lately(&self) -> bool {
        self.released.is_some_and(|released| released.elapsed() < Duration::from_millis(10))
    }

    /// Waits for the exclusive lock up to `limit`; `Locked` naming the holder when that runs out.
    pub(crate) fn exclusive_within(&mut self, limit: Duration) -> Result<()> {
        let mut pause = Pause::within(limit);
        while self.try_exclusive()? == Try::Held {
            if !pause.wait() {
                return Err(self.locked());
            }
        }
        Ok(())
    }

    /// Notes under the exclusive lock that this process holds it. Only for people: the lock holds without it.
    pub(crate) fn sign(&self, now: impl FnOnce() -> Timestamp) {
        Holder::sign(&self.file, now);
    }

    /// Who holds the lock, as far as it can be told.
    pub(crate) fn holder(&self) -> Holder {
        Holder::of(&self.file)
    }

    /// `Locked`, naming who holds the lock and what to do about it.
    pub(crate) fn locked(&self) -> Error {
        let holder = self.holder();
        Error::new(ErrorKind::Locked { pid: holder.pid, since: holder.since })
            .message(format!("{} is held by {holder}", self.dir.join(self.name).display()))
    }
}
