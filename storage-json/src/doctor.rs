//! Examines a data directory without opening the store: nothing is created, recovered or changed, and a store that is in
//! use goes on.

use std::path::Path;

use storage_core::{Diagnosis, Error, ErrorKind, Result, Timestamp};

use crate::disk::{Dir, Mount, Nature, free};
use crate::journal::{Head, Journal, Mark};
use crate::ledger::{LEDGER, Ledger};
use crate::locks::{CHECKPOINT, LockFile, OPENING, PRESENCE, Pause, Try, WRITER};
use crate::manifest::{FileSum, MANIFEST, Manifest};
use crate::open::{Found, inspect, lost_journal, read_complete};
use crate::options::Locking;
use crate::state::FileId;

/// Below this, room for a checkpoint is short whatever the store's size.
const LEAST_FREE: u64 = 256 * 1024 * 1024;
/// A store that was written since then and made no checkpoint since longer is behind, in seconds.
const OLD_CHECKPOINT: i64 = 7 * 24 * 3600;
/// How long a lock may be held before it is worth a word.
const LONG_HELD: std::time::Duration = std::time::Duration::from_secs(1);

/// Examines a directory: rights, owners, file system, room, who has it open and who keeps its locks, journal, checkpoint, ledger,
/// and whether the files are as the manifest has them. `now` is the time to reckon ages from.
///
/// Never fails: what cannot be looked at is a finding too.
pub fn examine(dir: &Path, now: Timestamp) -> Vec<Diagnosis> {
    let examined = match Dir::open(dir) {
        Ok(Some(dir)) => Examined { dir, now },
        Ok(None) => {
            return vec![Diagnosis::bad(
                "directory",
                format!("{} is not there", dir.display()),
                "start the bot or run storage import DIR, or name another place with --data-dir",
            )];
        }
        Err(error) => return vec![trouble("directory", &error)],
    };
    let mut found = vec![examined.directory(), examined.file_system()];
    found.extend(examined.mounts());
    let manifest = match Manifest::read(&examined.dir) {
        Ok(Some(manifest)) => manifest,
        Ok(None) => {
            found.push(examined.no_manifest());
            return found;
        }
        Err(error) => {
            found.push(trouble("manifest", &error));
            return found;
        }
    };
    found.push(examined.room(&manifest));
    found.push(examined.modes(&manifest));
    found.extend(examined.owners());
    let (in_use, holder) = examined.holder();
    found.push(holder);
    found.extend([OPENING, WRITER, CHECKPOINT].into_iter().filter_map(|name| examined.lock(name)));
    found.extend(examined.promises());
    found.push(examined.journal(&manifest, in_use));
    found.push(examined.checkpoint(&manifest));
    found.push(examined.ledger(&manifest, in_use));
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

/// A finding of what could not be read. Only damage is mended by a backup.
fn trouble(subject: &'static str, error: &Error) -> Diagnosis {
    let remedy = match error.kind() {
        ErrorKind::Corrupt(_) => "restore the directory from a backup; nothing here was changed",
        ErrorKind::SchemaMismatch { .. } => "use the program that wrote this store",
        ErrorKind::ReadOnly => {
            "run this as the user that owns the directory, or give that user the files; nothing is damaged"
        }
        _ => "look at the disk",
    };
    Diagnosis::bad(subject, format!("{:#}", error.report()), remedy)
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
        const SUBJECT: &str = "directory";
        if !self.dir.may_write() {
            return Diagnosis::bad(
                SUBJECT,
                format!("{}: this user may not write there", self.shown()),
                "run this, and the bot, as the user that owns the directory",
            );
        }
        match mode(self.dir.path()) {
            Some(mode) if is_open_to_others(self.dir.path()) => Diagnosis::notice(
                SUBJECT,
                format!("{} has mode {mode:03o}: other users of this machine can look in", self.shown()),
                format!("chmod 700 {}", self.shown()),
            ),
            _ => Diagnosis::good(SUBJECT, self.shown().to_string()),
        }
    }

    fn no_manifest(&self) -> Diagnosis {
        const SUBJECT: &str = "manifest";
        match inspect(self.dir.path()) {
            Ok(Found::Legacy) => Diagnosis::bad(
                SUBJECT,
                "there is none, but records are: this is no store of ours",
                "storage import DIR",
            ),
            Ok(_) if matches!(self.dir.stat(LEDGER), Ok(Some((_, 1..)))) => Diagnosis::bad(
                SUBJECT,
                "there is none, but a ledger is: the store has lost it",
                "restore the directory from a backup; nothing here was changed",
            ),
            Ok(_) => Diagnosis::good(SUBJECT, "there is no store here yet; the first opening makes one"),
            Err(error) => trouble(SUBJECT, &error),
        }
    }

    /// A rename cannot replace what is mounted.
    fn mounts(&self) -> Option<Diagnosis> {
        let inside = Mount::inside(self.dir.path());
        (!inside.is_empty()).then(|| {
            Diagnosis::bad(
                "mounts",
                format!("mounted by themselves, so that no checkpoint can replace them: {}", inside.join(", ")),
                "mount the directory, not the files in it",
            )
        })
    }

    /// Files of another user keep the bot out.
    fn owners(&self) -> Option<Diagnosis> {
        let owner = self.dir.own_stat().ok()?.owner;
        let names = self.dir.names().ok()?;
        let others =
            names.iter().filter(|name| self.dir.stat_name(name).ok().flatten().is_some_and(|stat| stat.owner != owner));
        let others: Vec<&str> = others.map(String::as_str).collect();
        (!others.is_empty()).then(|| {
            Diagnosis::bad(
                "owners",
                format!("the directory belongs to user {owner}, but not {}", others.join(", ")),
                format!("as root: chown -R --reference={0} {0}", self.shown()),
            )
        })
    }

    /// A lock that is free most of the time, and was not for a second.
    fn lock(&self, name: &'static str) -> Option<Diagnosis> {
        let tried = LockFile::open_existing(&self.dir, name, Locking::Required).and_then(|lock| {
            let Some(mut lock) = lock else { return Ok(None) };
            let mut pause = Pause::within(LONG_HELD);
            while lock.try_exclusive()? == Try::Held {
                if !pause.wait() {
                    return Ok(Some(lock.holder()));
                }
            }
            lock.release();
            Ok(None)
        });
        match tried {
            Ok(None) => None,
            Ok(Some(holder)) if holder.is_stopped() => {
                Some(Diagnosis::bad(name, format!("held by {holder}"), "let it go on, or end it: nobody else gets on"))
            }
            // A checkpoint of a large store takes its time.
            Ok(Some(holder)) => {
                Some(Diagnosis::notice(name, format!("held for more than a second by {holder}"), "look what it does"))
            }
            Err(error) => Some(trouble(name, &error)),
        }
    }

    /// Looks at the ledger's length, and at every byte where nobody writes.
    fn ledger(&self, manifest: &Manifest, in_use: bool) -> Diagnosis {
        const SUBJECT: &str = "ledger";
        let lost = |what: String| {
            Diagnosis::bad(SUBJECT, what, "restore the directory from a backup; nothing here was changed")
        };
        let length = match self.dir.check_regular(LEDGER).and_then(|_| self.dir.stat(LEDGER)) {
            Ok(Some((_, length))) => length,
            Ok(None) => return lost(format!("{LEDGER} is missing")),
            Err(error) => return trouble(SUBJECT, &error),
        };
        if length < manifest.ledger_bytes {
            return lost(format!(
                "{LEDGER} has {length} bytes, the last checkpoint speaks of {}",
                manifest.ledger_bytes
            ));
        }
        let Some(listed) = manifest.ledger.as_ref().filter(|_| !in_use) else {
            return Diagnosis::good(SUBJECT, size(length));
        };
        let sum = Ledger::look(&self.dir).and_then(|ledger| ledger.checksum(0, manifest.ledger_bytes, 0));
        match sum {
            Ok(sum) if format!("{sum:08x}") == listed.crc32 => {
                Diagnosis::good(SUBJECT, format!("{}, every byte as it was written", size(length)))
            }
            Ok(_) => lost(format!("{LEDGER} is not what the store wrote")),
            Err(error) => trouble(SUBJECT, &error),
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
                return Diagnosis::bad(SUBJECT, format!("{:#}", error.report()), "put the file itself there");
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
        let tried = LockFile::open_existing(&self.dir, PRESENCE, Locking::Required).and_then(|lock| {
            let Some(mut lock) = lock else { return Ok(None) };
            if lock.try_exclusive()? == Try::Held {
                return Ok(Some(lock.holder()));
            }
            // Whoever opens the store at this very moment tries again.
            lock.release();
            Ok(None)
        });
        match tried {
            Ok(None) => (false, Diagnosis::good(SUBJECT, "by nobody")),
            Ok(Some(holder)) => {
                let since = holder.since.map_or_else(String::new, |since| format!(" since {since}"));
                (true, Diagnosis::good(SUBJECT, format!("{}{since}", holder.has_it_open())))
            }
            Err(error) => (false, trouble(SUBJECT, &error)),
        }
    }

    /// How far the journal was said to be durable.
    fn mark(&self) -> Option<Mark> {
        Head::look(&self.dir).ok()??.read().ok()?
    }

    /// Whether a sync failed since the last opening.
    fn promises(&self) -> Option<Diagnosis> {
        let mark = self.mark()?;
        mark.dead.then(|| {
            Diagnosis::bad(
                "syncs",
                "the disk refused to confirm a change, and the store takes no more",
                "look at the disk, then close every process that has the store open and open it again",
            )
        })
    }

    /// How many changes stand in the journals that the manifest names, and in how many bytes.
    fn changes(&self, manifest: &Manifest, mark: Option<Mark>) -> Result<(usize, u64)> {
        let current = manifest.current().generation;
        let look = |generation| Journal::look(&self.dir, generation)?.ok_or_else(|| lost_journal(generation));
        let before = (manifest.generation..current).map(look).collect::<Result<Vec<_>>>()?;
        let (complete, start) = read_complete(before.iter(), manifest, mark)?;
        let promised = mark.filter(|mark| mark.position.generation == current);
        let tail = look(current)?.read(start, None, promised.map_or(0, |mark| mark.position.offset))?;
        let tails = || complete.iter().chain([&tail]);
        Ok((tails().map(|tail| tail.records.len()).sum(), tails().map(|tail| tail.end.offset).sum()))
    }

    fn journal(&self, manifest: &Manifest, in_use: bool) -> Diagnosis {
        const SUBJECT: &str = "journal";
        // What the last process promised must be there; while one writes, more is promised at every moment.
        let mark = self.mark().filter(|mark| mark.durable && !in_use);
        match self.changes(manifest, mark) {
            Ok((changes, bytes)) => {
                let what = format!("{changes} changes in {} since the last checkpoint", size(bytes));
                if in_use || changes == 0 {
                    Diagnosis::good(SUBJECT, what)
                } else {
                    let what = format!("{what}: a process ended without closing the store");
                    Diagnosis::notice(SUBJECT, what, "nothing is lost; the next opening recovers it")
                }
            }
            // Somebody writes at this moment: a line may be half there, a journal just dropped.
            Err(error) if in_use => Diagnosis::good(SUBJECT, format!("being written ({error})")),
            Err(error) => trouble(SUBJECT, &error),
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
                Err(error) => return trouble(SUBJECT, &error),
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
