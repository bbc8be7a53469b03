//! Who has the store open: how a process comes, and how it goes.
//!
//! A process has the store open while it holds `presence.lock` and the ledger, both shared. Whoever gets both alone may
//! recover, honour hand edits, and leave the files complete at the end. Both, because a lock file may be removed by somebody
//! who takes it for a leftover: the next process would make a new one and find itself alone on it. Nobody removes the ledger
//! so lightly; and whoever does, leaves a store that does not open.
//!
//! Only under `opening.lock` does anybody change between shared and alone, because the system makes that change in two steps.

use std::time::Duration;

use std::io;

use storage_core::{Error, Place, Result, Timestamp};

use crate::disk::{Dir, Identity, io_error, write_all_at};
use crate::holder::{living_lines, text};
use crate::ledger::{LEDGER, Ledger};
use crate::locks::{CHECKPOINT, LockFile, OPENING, PRESENCE, Pause, Try, WRITER};
use crate::options::{Access, JsonOptions};

/// How long somebody who ends may take between letting go of one of the two locks and of the other: a killed process, a handle
/// that was dropped. A doctor who tries the presence for a moment looks like that too.
const LETTING_GO: Duration = Duration::from_secs(1);

/// This process' part in the store.
#[derive(Debug)]
pub(crate) struct Presence {
    opening: LockFile,
    here: LockFile,
    ledger: LockFile,
    access: Access,
}

/// Whether others have the store open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Company {
    Alone,
    Beside,
}

/// The lock files that all processes of one time must have in common, and their identities.
pub(crate) type Common = [(&'static str, Identity); 4];

impl Presence {
    /// Comes. Whoever is alone keeps everybody else at the door until [`Presence::settle`].
    pub(crate) fn enter(dir: &Dir, options: &JsonOptions, writer: &LockFile) -> Result<(Self, Company)> {
        let open = |name| LockFile::open(dir, name, options.locking);
        let mut own =
            Self { opening: open(OPENING)?, here: open(PRESENCE)?, ledger: open(LEDGER)?, access: options.access };
        // Made by whoever comes first, so that its absence later means that it was removed.
        open(CHECKPOINT)?;
        let mut pause = Pause::within(options.lock_wait);
        let mut letting_go = None;
        loop {
            while own.opening.try_exclusive()? == Try::Held {
                if !pause.wait() {
                    return Err(own.opening.locked());
                }
            }
            own.opening.sign(|| options.environment.clock.now());
            let at_odds = if own.here.try_exclusive()? == Try::Got {
                match own.take_ledger(dir)? {
                    None => return Ok((own, Company::Alone)),
                    at_odds => at_odds,
                }
            } else if options.access == Access::Shared && own.here.try_shared()? == Try::Got {
                match own.share_ledger(dir)? {
                    None => {
                        own.join(dir, writer, options.environment.clock.now())?;
                        return Ok((own, Company::Beside));
                    }
                    at_odds => at_odds,
                }
            } else {
                None
            };
            own.release();
            // Whoever was stopped between its two looks at the locks saw them at two moments, and has no time left: it looks once more.
            let is_first = at_odds.is_some() && letting_go.is_none();
            let passes = at_odds.is_none()
                || letting_go.get_or_insert_with(|| Pause::within(LETTING_GO.min(options.lock_wait))).wait();
            if (!passes || !pause.wait()) && !is_first {
                return Err(at_odds.unwrap_or_else(|| own.here.locked()));
            }
        }
    }

    /// Takes the ledger for this process alone; else says why that cannot be.
    fn take_ledger(&mut self, dir: &Dir) -> Result<Option<Error>> {
        if !cfg!(unix) || self.ledger.try_exclusive()? == Try::Got {
            return Ok(None);
        }
        Ok(Some(self.ledger.locked().message(format!(
            "lock files in {} were removed or replaced while {}; nothing was changed",
            dir.path().display(),
            self.ledger.holder().has_it_open(),
        ))))
    }

    /// Takes the ledger beside the others, who hold it shared; else says why that cannot be. Who gets it alone has another
    /// file before it than they have.
    fn share_ledger(&mut self, dir: &Dir) -> Result<Option<Error>> {
        if !cfg!(unix) || (self.ledger.try_exclusive()? == Try::Held && self.ledger.try_shared()? == Try::Got) {
            return Ok(None);
        }
        Ok(Some(self.not_theirs(dir, LEDGER)))
    }

    /// The refusal of a file that the others do not have open.
    fn not_theirs(&self, dir: &Dir, name: &str) -> Error {
        Error::corrupt(
            Place::new(name.to_owned()),
            format!(
                "it was removed or replaced in {} while {}, which also a process of an earlier version looks like; \
                 end that process, then open the store again; nothing was changed",
                dir.path().display(),
                self.here.holder().has_it_open(),
            ),
        )
    }

    /// Proves that this process and the others hold the same lock files, and goes in.
    fn join(&mut self, dir: &Dir, writer: &LockFile, now: Timestamp) -> Result<()> {
        let noted = text(self.here.file());
        for (name, identity) in self.common(dir, writer)? {
            if !noted.lines().any(|line| line == common_line(name, identity)) {
                return Err(self.not_theirs(dir, name));
            }
        }
        // The names are for people.
        let _ = self.note(&noted, now);
        self.opening.release();
        Ok(())
    }

    /// Proves that the ledger which was opened is the one that is locked.
    pub(crate) fn check_ledger(&self, ledger: &Ledger) -> Result<()> {
        let opened = Identity::of(&ledger.file).map_err(|error| io_error(error, "cannot look at", LEDGER.as_ref()))?;
        if opened == self.ledger.identity()? {
            return Ok(());
        }
        Err(Error::corrupt(Place::new(LEDGER), "it was replaced while the store was being opened; nothing was changed"))
    }

    /// The lock files, as this process has them open or finds them.
    pub(crate) fn common(&self, dir: &Dir, writer: &LockFile) -> Result<Common> {
        let checkpoint = dir.stat_name(CHECKPOINT)?.map(|stat| stat.identity).unwrap_or_default();
        Ok([
            (OPENING, self.opening.identity()?),
            (PRESENCE, self.here.identity()?),
            (WRITER, writer.identity()?),
            (CHECKPOINT, checkpoint),
        ])
    }

    /// Lets others in, after whoever is alone has recovered the store.
    pub(crate) fn settle(&mut self, common: &Common, now: Timestamp) -> Result<()> {
        if self.access == Access::Shared {
            let lost = || Error::internal("the presence was lost while the opening lock was held");
            if self.here.try_shared()? == Try::Held || (cfg!(unix) && self.ledger.try_shared()? == Try::Held) {
                return Err(lost());
            }
        }
        let lines: Vec<String> = common.iter().map(|(name, identity)| common_line(name, *identity)).collect();
        // Whoever comes later must find what all have in common.
        self.note(&lines.join("\n"), now).map_err(|error| io_error(error, "cannot write", PRESENCE.as_ref()))?;
        self.opening.release();
        Ok(())
    }

    /// Notes this process behind what all have in common and those others that still live. The caller holds the opening lock.
    fn note(&self, before: &str, now: Timestamp) -> io::Result<()> {
        let own = format!("{} {now}", std::process::id());
        self.write(common_lines(before).chain(living_lines(before)).chain([own.as_str()]))
    }

    fn write<'a>(&self, lines: impl Iterator<Item = &'a str>) -> io::Result<()> {
        let mut text = lines.collect::<Vec<_>>().join("\n");
        text.push('\n');
        let file = self.here.file();
        write_all_at(file, text.as_bytes(), 0).map_err(|(error, _)| error)?;
        file.set_len(text.len() as u64)
    }

    /// Goes. Whoever is the last keeps others at the door until [`Presence::release`].
    pub(crate) fn leave(&mut self, limit: Duration) -> Result<Company> {
        // Who stands in the door is no stranger to the store: this process is not the last.
        if self.opening.exclusive_within(limit).is_err() {
            return Ok(Company::Beside);
        }
        let noted = text(self.here.file());
        let own = format!("{} ", std::process::id());
        let gone = noted.lines().position(|line| line.starts_with(&own));
        let _ = self.write(noted.lines().enumerate().filter(|(at, _)| Some(*at) != gone).map(|(_, line)| line));
        let alone = self.access == Access::Exclusive || self.here.try_exclusive()? == Try::Got;
        Ok(if alone { Company::Alone } else { Company::Beside })
    }

    /// Gives everything up.
    pub(crate) fn release(&mut self) {
        self.ledger.release();
        self.here.release();
        self.opening.release();
    }
}

/// All of them lie in the directory that is open, so that the number says which file it is; machines that share a file system give
/// it other device numbers.
fn common_line(name: &str, Identity { device: _, inode }: Identity) -> String {
    format!("{name} {inode}")
}

fn common_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| line.split(' ').next().is_some_and(|name| name.strip_suffix(".lock").is_some()))
}
