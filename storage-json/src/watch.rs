//! Proves that what a store holds open is still what its directory holds.
//!
//! A store goes on in a directory that was renamed: it is the same one. It ends for good, and touches nothing more, where
//! another directory stands in its place, or where a file was removed or replaced by which processes keep out of each other's
//! way, or which cannot be written anew from memory: lock files, head, ledger. What can be written anew is told to the caller.

use std::fs::File;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use storage_core::{Error, ErrorKind, Place, Result};

use crate::disk::{Dir, Identity, Kind, Standing, io_error, read_at, stat_of};
use crate::engine::unpoisoned;
use crate::journal::{HEAD, Head, Journal};
use crate::ledger::{LEDGER, Ledger};
use crate::manifest::Manifest;
use crate::presence::Common;

/// How long changes of a directory may look like one: for a step of the file system's clock. That is a tick of the kernel, 10 ms at
/// most, and more where times are kept less finely: whole seconds on ext4 with small inodes, two of them on FAT. Such a time shows
/// no smaller parts.
fn clock_step(changed: u64) -> Duration {
    let parts = [(1_000_000_000, 2_100), (1_000_000, 100)];
    let coarse = parts.iter().find(|(part, _)| changed.is_multiple_of(*part));
    Duration::from_millis(coarse.map_or(20, |(_, step)| *step))
}

/// While this process itself puts files in place the directory changes all the time, and what went missing is looked for so often.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// What must stay the same while a store is open.
#[derive(Debug)]
pub(crate) struct Watch {
    dir: Dir,
    locks: Common,
    files: [(&'static str, Identity); 2],
    names: Mutex<Names>,
}

/// When the names in the directory were last found to be right.
#[derive(Debug)]
struct Names {
    /// The directory's time of change then.
    changed: u64,
    /// When it was first seen with that time.
    seen: Instant,
    /// When every file was looked for the last time.
    looked: Option<Instant>,
    /// Nothing can have changed since without another time of change.
    settled: bool,
}

/// That names in the directory may have changed since all was found right, and the directory's time of change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Changed(u64);

/// Why a look did not find all well.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    /// This handle can never go on.
    Final(Error),
    /// The look itself failed.
    Passing(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Passing(error)
    }
}

/// What went missing and stands in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) journal: bool,
    pub(crate) files: Vec<String>,
}

impl Missing {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Watch {
    pub(crate) fn new(dir: &Dir, locks: Common, head: &Head, ledger: &Ledger) -> Result<Self> {
        let of =
            |file: &File, name| Identity::of(file).map_err(|error| io_error(error, "cannot look at", &dir.join(name)));
        let files = [(HEAD, of(&head.file, HEAD)?), (LEDGER, of(&ledger.file, LEDGER)?)];
        let names = Mutex::new(Names { changed: 0, seen: Instant::now(), looked: None, settled: false });
        Ok(Self { dir: dir.clone(), locks, files, names })
    }

    /// Refuses files that have another name too: whatever writes under that name writes here.
    pub(crate) fn refuse_other_names(dir: &Dir, journals: impl Iterator<Item = String>) -> Result<()> {
        use crate::locks::{CHECKPOINT, OPENING, PRESENCE, WRITER};
        let names = [OPENING, PRESENCE, WRITER, CHECKPOINT, HEAD, LEDGER].into_iter().map(str::to_owned);
        for name in names.chain(journals) {
            if dir.stat_name(&name)?.is_some_and(|stat| stat.kind == Kind::File && stat.names > 1) {
                let path = crate::disk::quoted(&dir.join(&name));
                return Err(Error::corrupt(
                    Place::new(name),
                    format!(
                        "it has another name too (a hard link), so that another store may write into it; end every process that has \
                         the store open, and give it bytes of its own: cp -p {path} {path}.own && mv {path}.own {path}"
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Whether the directory is still the one at its path; for a thread that has nothing else to do, too.
    pub(crate) fn place(&self) -> Result<Option<String>, Trouble> {
        let here = self.dir.path().display();
        let (what, restart) = match self.dir.standing() {
            Standing::Here => return Ok(None),
            Standing::Renamed(by_now) => {
                let by_now = by_now.map_or_else(String::new, |path| format!(" and is {} by now", path.display()));
                return Ok(Some(format!(
                    "the directory {here} was renamed{by_now}; the store goes on in it, but the next opening will not find it there"
                )));
            }
            Standing::Replaced => ("another directory stands in its place", "open the store that is there now"),
            Standing::Removed => ("it was removed", "put it back from a backup"),
        };
        let message = format!(
            "the directory {here} is not the one that was opened: {what}; this handle ended and changes neither, so close it and {restart}"
        );
        Err(Trouble::Final(Error::new(ErrorKind::Unavailable).message(message)))
    }

    /// Looks for what is written anew from memory, after [`Watch::locks`] has said that names `changed`. The caller holds the writer
    /// lock. `at_it`: this process is putting files in place.
    pub(crate) fn look(
        &self,
        changed: Changed,
        at_it: bool,
        manifest: &Manifest,
        journal: &Journal,
    ) -> Result<Missing, Trouble> {
        let Changed(changed) = changed;
        let mut names = unpoisoned(self.names.lock());
        let now = Instant::now();
        if at_it && names.looked.is_some_and(|looked| now.duration_since(looked) < BETWEEN_LOOKS) {
            // What is acknowledged stands in the journal, which is looked for each time.
            names.settled = false;
            return Ok(Missing { journal: self.lacks(journal)?, files: Vec::new() });
        }
        let missing = Missing { journal: self.lacks(journal)?, files: self.missing(manifest)? };
        if names.changed != changed {
            (names.changed, names.seen) = (changed, now);
        }
        // Found right when every change since the first look would have shown.
        let settled = missing.is_empty() && now.duration_since(names.seen) > clock_step(changed);
        (names.looked, names.settled) = (Some(now), settled);
        Ok(missing)
    }

    /// Whether the lock files are still those that everybody finds: asked between a batch's sync and its answer. A process that
    /// found others, or none, may already have read a journal without this batch. `None`: every name in the directory is as it was
    /// when all was found right.
    pub(crate) fn locks(&self) -> Result<Option<Changed>, Trouble> {
        let changed = self.dir.own_stat()?.changed;
        {
            let names = unpoisoned(self.names.lock());
            if names.settled && names.changed == changed {
                return Ok(None);
            }
        }
        self.locks_and_files().map(|()| Some(Changed(changed)))
    }

    /// Whether a lock file that was opened again is the one that all have in common.
    pub(crate) fn check(&self, name: &str, opened: Identity) -> Result<(), Trouble> {
        match self.locks.iter().find(|(lock, _)| *lock == name) {
            Some((_, identity)) if *identity == opened => Ok(()),
            _ => Err(Trouble::Final(self.lost(name, true))),
        }
    }

    fn locks_and_files(&self) -> Result<(), Trouble> {
        for (name, identity) in self.locks.into_iter().chain(self.files) {
            let present = self.dir.stat_name(name)?;
            if present.as_ref().map(|stat| stat.identity) != Some(identity) {
                return Err(Trouble::Final(self.lost(name, present.is_some())));
            }
        }
        Ok(())
    }

    /// Says that a file is not the one that was opened.
    fn lost(&self, name: &str, replaced: bool) -> Error {
        let what = if replaced { "was replaced" } else { "was removed" };
        let path = self.dir.join(name);
        let path = path.display();
        if name == LEDGER {
            let rescue = self.rescue(name, self.files[1].1);
            let message =
                format!("{path} {what} while the store is open; this handle ended and changes nothing more{rescue}");
            return Error::corrupt(Place::new(LEDGER), message);
        }
        Error::new(ErrorKind::Unavailable).message(format!(
            "{path} {what} while the store is open, so that other processes could no longer be told from this one; \
             this handle ended and changes nothing more: close every process that has the store open, and open it again"
        ))
    }

    /// The command that brings back a file which this process still has open.
    fn rescue(&self, name: &str, identity: Identity) -> String {
        let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return String::new() };
        let mut open = open.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let same = |number: &String| {
            crate::disk::stat_path(format!("/proc/self/fd/{number}").as_ref())
                .is_ok_and(|stat| stat.identity == identity)
        };
        let Some(number) = open.find(same) else { return String::new() };
        let (pid, path) = (std::process::id(), self.dir.join(name));
        format!(
            "; before this process ends, copy what it still holds: cp /proc/{pid}/fd/{number} {}",
            crate::disk::quoted(&path)
        )
    }

    /// The files of the manifest that are not there.
    fn missing(&self, manifest: &Manifest) -> Result<Vec<String>> {
        let is_file =
            |name: &str| Ok::<_, Error>(self.dir.stat_name(name)?.is_some_and(|stat| stat.kind == Kind::File));
        let mut files = Vec::new();
        for name in manifest.files.keys() {
            if !is_file(name)? {
                files.push(name.clone());
            }
        }
        Ok(files)
    }

    /// Whether the journal is not the one that stands in the directory.
    fn lacks(&self, journal: &Journal) -> Result<bool> {
        let present = self.dir.stat_name(&crate::journal::name(journal.generation))?;
        Ok(present.map(|stat| stat.identity) != Some(journal.identity()?))
    }

    /// Whether files that are only appended to are as long as they were.
    pub(crate) fn lengths(&self, ledger: &Ledger, length: u64) -> Result<(), Trouble> {
        let path = self.dir.join(LEDGER);
        // Read and not asked for, as in `Journal::reaches`.
        let last = length.checked_sub(1).map(|last| read_at(&ledger.file, &mut [0], last));
        if last.transpose().map_err(|error| io_error(error, "cannot read", &path))? != Some(0) {
            return Ok(());
        }
        let present = stat_of(&ledger.file).map_err(|error| io_error(error, "cannot look at", &path))?;
        Err(Trouble::Final(Error::corrupt(
            Place::new(LEDGER).offset(present.length),
            format!(
                "{} was cut while the store is open, {length} bytes of it were promised; this handle ended and changes nothing more: \
                 put the file back from a backup",
                path.display()
            ),
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_of_whole_seconds_is_waited_for() {
        let second = 1_000_000_000;
        assert!(clock_step(1_700_000_000 * second) > Duration::from_secs(2));
        assert_eq!(clock_step(1_700_000_000 * second + 4_000_000), Duration::from_millis(100));
        assert_eq!(clock_step(1_700_000_000 * second + 4_000_123), Duration::from_millis(20));
    }
}
