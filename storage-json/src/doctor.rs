//! Examines a data directory without opening the store: nothing is created, recovered or changed, and a store that is in
//! use goes on.

use std::path::Path;

use storage_core::{Diagnosis, Timestamp};

use crate::files::Dir;
use crate::journal::{Head, Journal};
use crate::locks::{Holder, LockFile, PRESENCE, Try};
use crate::manifest::{FileSum, MANIFEST, Manifest};
use crate::mount::{Mount, Nature, free};
use crate::options::Locking;
use crate::state::FileId;

/// Below this, room for a checkpoint is short whatever the store's size.
const LEAST_FREE: u64 = 256 * 1024 * 1024;
/// A store that was written since then and made no checkpoint since longer is behind, in seconds.
const OLD_CHECKPOINT: i64 = 7 * 24 * 3600;

/// Examines a directory: rights, file system, room, who has it open, journal, checkpoint, and whether the files are as the
/// manifest has them. `now` is the time to reckon ages from.
///
/// Never fails: what cannot be looked at is a finding too.
pub fn examine(dir: &Path, now: Timestamp) -> Vec<Diagnosis> {
    let mut found = Vec::new();
    if !dir.is_dir() {
        found.push(Diagnosis::bad(
            "directory",
            format!("{} is not there", dir.display()),
            "start the bot or run storage import DIR, or name another place with --data-dir",
        ));
        return found;
    }
    let examined = Examined { dir: Dir::new(dir.to_owned()), now };
    found.push(examined.directory());
    found.push(examined.file_system());
    let manifest = match Manifest::read(&examined.dir) {
        Ok(Some(manifest)) => manifest,
        Ok(None) => {
            found.push(Diagnosis::bad("manifest", "there is none: this is no store of ours", "storage import DIR"));
            return found;
        }
        Err(error) => {
            let remedy = "restore the directory from a backup; nothing here was changed";
            found.push(Diagnosis::bad("manifest", error.report().to_string(), remedy));
            return found;
        }
    };
    found.push(examined.room(&manifest));
    found.push(examined.modes(&manifest));
    let (in_use, holder) = examined.holder();
    found.push(holder);
    found.extend(examined.promises());
    found.push(examined.journal(&manifest, in_use));
    found.push(examined.checkpoint(&manifest));
    found.push(examined.contents(&manifest, in_use));
    found.extend(examined.set_aside());
    found.extend(manifest.moved_to.as_ref().map(|to| {
        Diagnosis::notice(
            "moved",
            format!("the contents were moved to {to}"),
            "use that store; writing here is refused",
        )
    }));
    found
}

/// A size as people read it.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

struct Examined {
    dir: Dir,
    now: Timestamp,
}

impl Examined {
    fn shown(&self) -> std::path::Display<'_> {
        self.dir.path().display()
    }

    fn directory(&self) -> Diagnosis {
        match mode(self.dir.path()) {
            Some(mode) if is_open_to_others(self.dir.path()) => Diagnosis::notice(
                "directory",
                format!("{} has mode {mode:03o}: other users of this machine can look in", self.shown()),
                format!("chmod 700 {}", self.shown()),
            ),
            _ => Diagnosis::good("directory", self.shown().to_string()),
        }
    }

    fn file_system(&self) -> Diagnosis {
        const SUBJECT: &str = "file system";
        let Some(mount) = Mount::of(self.dir.path()) else {
            return Diagnosis::good(SUBJECT, "this system does not tell");
        };
        let Mount { at, kind, read_only } = &mount;
        let what = format!("{kind}, mounted at {}", at.display());
        if *read_only {
            return Diagnosis::bad(SUBJECT, format!("{what}, read-only"), "mount it for writing");
        }
        match mount.nature() {
            Nature::Local => Diagnosis::good(SUBJECT, what),
            Nature::Memory => {
                Diagnosis::bad(SUBJECT, format!("{what}: memory, gone with the machine"), "use a directory on a disk")
            }
            Nature::Layer => Diagnosis::bad(
                SUBJECT,
                format!("{what}: a container's own layer, gone with the container"),
                "mount a volume there",
            ),
            Nature::Network => Diagnosis::bad(
                SUBJECT,
                format!("{what}: another machine's, whose locks and syncs promise less"),
                "use a local disk, or PostgreSQL",
            ),
        }
    }

    /// A checkpoint writes every changed file anew before the old one goes, and a copy of it.
    fn room(&self, manifest: &Manifest) -> Diagnosis {
        const SUBJECT: &str = "free space";
        let Some(free) = free(self.dir.path()) else { return Diagnosis::good(SUBJECT, "this system does not tell") };
        let stored: u64 = manifest.files.values().map(|sum| sum.bytes).sum();
        let wanted = (stored * 2).max(LEAST_FREE);
        let what = format!("{} free, the files take {}", size(free), size(stored));
        if free < stored.saturating_mul(2) {
            Diagnosis::bad(
                SUBJECT,
                format!("{what}: not enough for a checkpoint"),
                "make room, or move to a larger disk",
            )
        } else if free < wanted {
            Diagnosis::notice(SUBJECT, what, "make room before it runs out")
        } else {
            Diagnosis::good(SUBJECT, what)
        }
    }

    fn modes(&self, manifest: &Manifest) -> Diagnosis {
        const SUBJECT: &str = "files";
        let names = || manifest.files.keys().map(String::as_str).chain([MANIFEST, crate::ledger::LEDGER]);
        for name in names() {
            if let Err(error) = self.dir.check_regular(name) {
                return Diagnosis::bad(SUBJECT, error.report().to_string(), "put the file itself there");
            }
        }
        let open: Vec<&str> = names().filter(|name| is_open_to_others(&self.dir.join(name))).collect();
        if open.is_empty() {
            return Diagnosis::good(SUBJECT, format!("{} of them, for their owner alone", names().count()));
        }
        let what = format!("others may read {}", open.join(", "));
        if is_open_to_others(self.dir.path()) {
            Diagnosis::notice(SUBJECT, what, format!("chmod 600 {}/*", self.shown()))
        } else {
            Diagnosis::good(SUBJECT, format!("{what}; the directory keeps them out"))
        }
    }

    /// Whether a process has the store open, and which.
    fn holder(&self) -> (bool, Diagnosis) {
        const SUBJECT: &str = "in use";
        let tried = match self.dir.check_regular(PRESENCE) {
            Ok(false) => return (false, Diagnosis::good(SUBJECT, "by nobody")),
            Ok(true) => LockFile::open(&self.dir, PRESENCE, Locking::Required).and_then(|mut lock| {
                let tried = lock.try_exclusive()?;
                // Whoever opens the store at this very moment tries again.
                lock.release();
                Ok(tried)
            }),
            Err(error) => Err(error),
        };
        match tried {
            Ok(Try::Got) => (false, Diagnosis::good(SUBJECT, "by nobody")),
            Ok(Try::Held) => {
                let Holder { pid, since } = Holder::read(&self.dir);
                let pid = pid.map_or_else(|| "a process".to_owned(), |pid| format!("process {pid}"));
                let since = since.map_or_else(String::new, |since| format!(" since {since}"));
                (true, Diagnosis::good(SUBJECT, format!("the last to open it was {pid}{since}")))
            }
            Err(error) => {
                let remedy = "use a local file system, and the user whose files they are";
                (false, Diagnosis::bad(SUBJECT, error.report().to_string(), remedy))
            }
        }
    }

    /// Whether a sync failed since the last opening.
    fn promises(&self) -> Option<Diagnosis> {
        self.dir.check_regular(crate::journal::HEAD).ok().filter(|there| *there)?;
        let mark = Head::open(&self.dir).ok()?.read().ok()??;
        mark.dead.then(|| {
            Diagnosis::bad(
                "syncs",
                "the disk refused to confirm a change, and the store takes no more",
                "look at the disk, then close every process that has the store open and open it again",
            )
        })
    }

    fn journal(&self, manifest: &Manifest, in_use: bool) -> Diagnosis {
        const SUBJECT: &str = "journal";
        let journal = match Journal::open(&self.dir, manifest.current().generation) {
            Ok(Some(journal)) => journal,
            Ok(None) if in_use => return Diagnosis::good(SUBJECT, "a checkpoint goes by"),
            Ok(None) => {
                let remedy = "restore the directory from a backup; nothing here was changed";
                return Diagnosis::bad(SUBJECT, "it is missing", remedy);
            }
            Err(error) => return Diagnosis::bad(SUBJECT, error.report().to_string(), "look at the disk"),
        };
        match journal.read(manifest.current().position(), None, 0) {
            Ok(tail) => {
                let (changes, bytes) = (tail.records.len(), tail.end.offset);
                let what = format!("{changes} changes in {} since the last checkpoint", size(bytes));
                if in_use || changes == 0 {
                    Diagnosis::good(SUBJECT, what)
                } else {
                    let what = format!("{what}: a process ended without closing the store");
                    Diagnosis::notice(SUBJECT, what, "nothing is lost; the next opening recovers it")
                }
            }
            // Somebody writes at this moment: a line may be half there.
            Err(error) if in_use => Diagnosis::good(SUBJECT, format!("being written ({error})")),
            Err(error) => {
                let remedy = "restore the directory from a backup; nothing here was changed";
                Diagnosis::bad(SUBJECT, error.report().to_string(), remedy)
            }
        }
    }

    fn checkpoint(&self, manifest: &Manifest) -> Diagnosis {
        const SUBJECT: &str = "checkpoint";
        let at = manifest.checkpoint_at;
        let age = (self.now.micros() - at.micros()) / 1_000_000;
        let what = format!("the last one at {at}");
        if manifest.next.is_some() {
            return Diagnosis::notice(
                SUBJECT,
                format!("{what}; another one was begun"),
                "the next opening finishes it",
            );
        }
        if age < -60 {
            return Diagnosis::bad(
                SUBJECT,
                format!("{what}, which is still to come"),
                "set this machine's clock right",
            );
        }
        let is_large = self.dir.stat(&crate::journal::name(manifest.current().generation)).ok().flatten();
        if age > OLD_CHECKPOINT && is_large.is_some_and(|(_, bytes)| bytes > LEAST_FREE) {
            return Diagnosis::notice(SUBJECT, format!("{what}, and the journal grows"), "look at the bot's warnings");
        }
        Diagnosis::good(SUBJECT, what)
    }

    /// Compares each file with its checksum.
    fn contents(&self, manifest: &Manifest, in_use: bool) -> Diagnosis {
        const SUBJECT: &str = "contents";
        let mut edited = Vec::new();
        for (name, sum) in &manifest.files {
            let bytes = match self.dir.read(name) {
                Ok(bytes) => bytes,
                Err(error) => return Diagnosis::bad(SUBJECT, error.report().to_string(), "look at the disk"),
            };
            if bytes.is_some_and(|bytes| FileSum::of(&bytes) == *sum) {
                continue;
            }
            let original = FileId::ALL.iter().any(|file| file.name() == name && file.is_original());
            // A checkpoint may have gone by since the manifest was read.
            let gone_by = in_use && !matches!(Manifest::read(&self.dir), Ok(Some(now)) if now == *manifest);
            if gone_by {
                return Diagnosis::good(SUBJECT, "a checkpoint goes by");
            }
            if !original || !self.dir.check_regular(name).unwrap_or(true) {
                let remedy = "restore the directory from a backup; nothing here was changed";
                return Diagnosis::bad(SUBJECT, format!("{name} is not what the store wrote, or missing"), remedy);
            }
            edited.push(name.as_str());
        }
        if edited.is_empty() {
            return Diagnosis::good(SUBJECT, "every file is as the store wrote it");
        }
        let what = format!("changed by hand: {}", edited.join(", "));
        let remedy = if in_use {
            "close the store before editing; the next checkpoint sets this aside under another name"
        } else {
            "the next opening takes it over, after validation"
        };
        Diagnosis::notice(SUBJECT, what, remedy)
    }

    fn set_aside(&self) -> Option<Diagnosis> {
        let names = self.dir.names().ok()?;
        let aside: Vec<&str> = names.iter().map(String::as_str).filter(|name| name.contains(".edited-")).collect();
        let what = || format!("edits that were not taken over: {}", aside.join(", "));
        let remedy = "look whether they are still wanted; nothing here reads them";
        (!aside.is_empty()).then(|| Diagnosis::notice("set aside", what(), remedy))
    }
}

#[cfg(unix)]
fn mode(path: &Path) -> Option<u32> {
    let meta = std::fs::symlink_metadata(path).ok()?;
    Some(std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o777)
}
/// Whether others than the owner have a right to it.
fn is_open_to_others(path: &Path) -> bool {
    mode(path).is_some_and(|mode| mode & 0o077 != 0)
}
#[cfg(not(unix))]
fn mode(_: &Path) -> Option<u32> {
    None
}
