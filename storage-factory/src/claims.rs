//! Writing down which backend is about to be used, and refusing to where `auto` would switch between two stores.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use storage_core::{Error, ErrorKind};
#[cfg(feature = "json")]
use storage_json::Found;

use crate::marker::{FORMAT, FellBack, Marker, NAME, Used};
#[cfg(feature = "json")]
use crate::open::{Manner, StandIn};

/// The refusal of PostgreSQL where JSON was written while it could not be reached.
pub(crate) fn postgres_after_json(dir: &Path, fallback: &FellBack) -> Error {
    let FellBack { location, since } = fallback;
    let dir = dir.display();
    Error::conflict(
        "backend",
        "postgres",
        format!(
            "{location} could not be reached at {since} and the JSON store at {dir} stood in for it; PostgreSQL knows \
             nothing of what was written there: end what still uses it, and `storage merge --from json:{dir} --to \
             DATABASE_URL` brings it over; or STORAGE_MODE=postgres or json goes on with one of the two"
        ),
    )
    .in_operation("connect")
}

/// The refusal of a database that is not the one that was used before.
fn another_postgres(dir: &Path, used: &Used, found: &Used) -> Error {
    let Used { location, since, .. } = used;
    Error::conflict(
        "backend",
        "other-postgres",
        format!(
            "the database at {location} has been used from {dir} since {since}, and the one at {found} is another \
             store: correct DATABASE_URL; or, if that one is meant, one start with STORAGE_MODE=postgres makes it the \
             one of this directory",
            dir = dir.display(),
            found = found.location,
        ),
    )
    .in_operation("connect")
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asking {
    /// Whether what is remembered may refuse: in mode `auto` alone.
    pub(crate) judged: bool,
    /// Whether it is remembered, or only looked at.
    pub(crate) remember: bool,
}

/// Why something cannot be remembered.
#[derive(Debug)]
pub(crate) enum Unclaimed {
    /// What is remembered says no.
    Refused(Error),
    /// The file cannot be kept.
    NotKept(Error),
}

/// Remembers that this database is about to be used.
pub(crate) fn claim_postgres(dir: &Path, mut found: Used, asking: Asking) -> Result<(), Unclaimed> {
    let kept = if asking.remember { Kept::open(dir).map(Some) } else { Ok(None) };
    let marker = match Marker::read(dir) {
        Ok(marker) => marker,
        Err(error) if asking.judged => return Err(Unclaimed::Refused(error)),
        Err(error) => return Err(Unclaimed::NotKept(error)),
    };
    // Read once more, and under the lock: another process may have fallen back in the meantime.
    let written = marker.fallback.as_ref().filter(|_| may_be_written(dir));
    if asking.judged {
        if let Some(fallback) = written {
            return Err(Unclaimed::Refused(postgres_after_json(dir, fallback)));
        }
        if let Some(used) = marker.postgres.as_ref().filter(|used| used.store_id != found.store_id) {
            return Err(Unclaimed::Refused(another_postgres(dir, used, &found)));
        }
    }
    if let Some(used) = marker.postgres.as_ref().filter(|used| used.store_id == found.store_id) {
        found.since = used.since;
    }
    let wanted = Marker { format: FORMAT, postgres: Some(found), fallback: written.cloned() };
    match kept.map_err(|error| Unclaimed::NotKept(not_kept(dir, error)))? {
        Some(kept) if marker != wanted => kept.write(&wanted).map_err(|error| Unclaimed::NotKept(not_kept(dir, error))),
        _ => Ok(()),
    }
}

/// Why JSON does not take the place of a server.
#[cfg(feature = "json")]
#[derive(Debug)]
pub(crate) enum NoStandIn {
    /// What is remembered says no, or nothing can be remembered.
    Refused(Error),
    /// The server's own error is the answer, and this follows it.
    Because(String),
}

/// Remembers that JSON is about to be used because the database cannot be reached. The directory must have no store yet, or one
/// that stood in for this database before.
#[cfg(feature = "json")]
pub(crate) fn claim_fallback(dir: &Path, fallback: FellBack, manner: Manner) -> Result<(), NoStandIn> {
    let shown = dir.display();
    let because = |text: String| Err(NoStandIn::Because(text));
    let kept = if manner.remember { Kept::open(dir).map(Some) } else { Ok(None) };
    let kept = kept.map_err(|error| NoStandIn::Refused(not_kept(dir, error)))?;
    let marker = Marker::read(dir).map_err(NoStandIn::Refused)?;
    if let Some(used) = &marker.postgres {
        return Err(NoStandIn::Refused(crate::marker::json_after_postgres(dir, used)));
    }
    let found = match storage_json::inspect(dir) {
        Ok(found) => found,
        Err(error) => {
            return because(format!("JSON does not take its place at {shown}, which cannot be looked into: {error}"));
        }
    };
    let is_same = marker.fallback.as_ref().is_some_and(|before| before.location == fallback.location);
    match (found, marker.fallback) {
        (Found::Nothing, _) if manner.stand_in == StandIn::Find => {
            return because(format!("a program that starts now would begin an empty JSON store at {shown}"));
        }
        // A mark without a store is left from an attempt that made none, and does not count.
        (Found::Nothing, _) => {}
        (_, Some(_)) if is_same => {}
        (_, Some(FellBack { location, .. })) => {
            return because(format!(
                "JSON does not take its place at {shown}, where it stood in for {location} and not for {}: STORAGE_MODE=json \
                 opens that store, and with another DATA_DIR a new one begins",
                fallback.location
            ));
        }
        (Found::Store | Found::Legacy, None) => {
            return because(format!(
                "JSON does not take its place at {shown}, which holds another store, not one of this database: \
                 STORAGE_MODE=json opens that one, and with an empty DATA_DIR a new one begins"
            ));
        }
    }
    match kept {
        // The first one stands: since then files may hold what the database does not.
        Some(kept) if !is_same => {
            let wanted = Marker { format: FORMAT, postgres: None, fallback: Some(fallback) };
            kept.write(&wanted).map_err(|error| NoStandIn::Refused(not_kept(dir, error)))
        }
        _ => Ok(()),
    }
}

fn not_kept(dir: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::StorageFull,
        io::ErrorKind::TimedOut => ErrorKind::Busy { waited: LOCK_WAIT },
        _ => ErrorKind::ReadOnly,
    };
    let message = format!("{} cannot be written", dir.join(NAME).display());
    Error::new(kind).message(message).caused_by(error)
}

/// Whether users were written into the JSON store of a directory that stood in for a database, or may be at any moment,
/// because a program still has it open. Not where its contents were moved: then nobody writes there any more.
pub(crate) fn may_be_written(dir: &Path) -> bool {
    !is_moved(dir) && (holds_users(dir) || is_open(dir).unwrap_or(true))
}

/// Whether the JSON store of a directory is marked as moved elsewhere.
pub(crate) fn is_moved(dir: &Path) -> bool {
    #[derive(serde::Deserialize)]
    struct Manifest {
        moved_to: Option<String>,
    }
    let manifest = fs::read(dir.join("manifest.json")).ok();
    manifest.is_some_and(|text| serde_json::from_slice(&text).is_ok_and(|Manifest { moved_to }| moved_to.is_some()))
}

/// Whoever has a JSON store open keeps a lock on this file.
fn is_open(dir: &Path) -> io::Result<bool> {
    let file = match File::open(dir.join("presence.lock")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        Ok(()) => Ok(false),
        Err(fs::TryLockError::WouldBlock) => Ok(true),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Whether users were written into the JSON store of a directory. Opens and changes nothing; what cannot be read counts
/// as written.
pub(crate) fn holds_users(dir: &Path) -> bool {
    // The journals first: a checkpoint that runs meanwhile writes its users before it takes a journal away.
    journal_is_written(dir).unwrap_or(true) || file_holds_users(dir).unwrap_or(true)
}

/// A journal is zeroed space, with lines at its start.
fn journal_is_written(dir: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = Path::new(&name);
        let journal = name.to_str().is_some_and(|name| name.starts_with("journal-"));
        if journal && name.extension().is_some_and(|extension| extension == "jsonl") {
            let mut first = [0];
            if File::open(entry.path())?.read(&mut first)? == 1 && first != [0] {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// `users.json` is an object with a key for each user.
fn file_holds_users(dir: &Path) -> io::Result<bool> {
    let file = match File::open(dir.join("users.json")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    // An object without users is a few bytes; one with users shows the first of them at once.
    let mut beginning = Vec::new();
    file.take(64).read_to_end(&mut beginning)?;
    Ok(beginning.iter().any(|byte| !b"{} \t\r\n".contains(byte) && !byte.is_ascii_control()))
}

/// How long another start may keep the directory: it writes a small file and syncs it.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// Waits for a lock that somebody else may never give up: any program may lock a directory.
fn lock_within(handle: &File, limit: Duration) -> io::Result<()> {
    let began = Instant::now();
    while let Err(fs::TryLockError::WouldBlock) = handle.try_lock() {
        if began.elapsed() >= limit {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "another program keeps a lock on the directory"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A file that root made would keep out the user whose directory it is.
fn give_to_owner(dir: &Path, made: &File) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt as _, fchown};
        let (above, file) = (fs::metadata(dir)?, made.metadata()?);
        if file.uid() == 0 && (above.uid(), above.gid()) != (file.uid(), file.gid()) {
            fchown(made, Some(above.uid()), Some(above.gid()))?;
        }
    }
    #[cfg(not(unix))]
    let _ = (dir, made);
    Ok(())
}

/// The right to write the marker; other processes wait until it is dropped.
struct Kept {
    dir: PathBuf,
    /// Holds the lock, where directories can be opened and locked.
    handle: Option<File>,
}

impl Kept {
    fn open(dir: &Path) -> io::Result<Self> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(dir)?;
        // Where a directory cannot be locked two starts at one moment may overwrite each other's mark; each has judged
        // what it found.
        let handle = File::open(dir).ok();
        if let Some(handle) = &handle {
            lock_within(handle, LOCK_WAIT)?;
        }
        Ok(Self { dir: dir.to_owned(), handle })
    }

    /// Replaces the marker, durably: whoever returns from this may use what it says.
    fn write(&self, marker: &Marker) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(marker).map_err(io::Error::other)?;
        text.push(b'\n');
        // Such files have the mode 0600.
        let mut staged = tempfile::Builder::new().prefix("backend-").suffix(".tmp").tempfile_in(&self.dir)?;
        staged.write_all(&text)?;
        give_to_owner(&self.dir, staged.as_file())?;
        staged.as_file().sync_all()?;
        staged.persist(self.dir.join(NAME)).map_err(|error| error.error)?;
        self.handle.as_ref().map_or(Ok(()), File::sync_all)
    }
}
