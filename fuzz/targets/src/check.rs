//! What must hold of every directory, whatever stands in it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use storage_core::{
    AuditScope, DumpReader, Environment, Error, ErrorKind, ManualClock, Operations as _, SequentialIds, Store as _,
};
use storage_json::{JsonOptions, JsonStorage};

use crate::base::MANIFEST;
use crate::tree::{self, Tree};
use crate::{Finding, shown};

/// The moment at which all of this happens.
const NOW: &str = "2026-01-15T10:00:00Z";

/// Options for a directory. Each opening has a lane of its own, so that no id is minted twice.
pub(crate) fn options(dir: &Path, lane: u32) -> Result<JsonOptions, Finding> {
    let clock = ManualClock::at(NOW.parse().map_err(shown)?);
    let environment =
        Environment { clock: Arc::new(clock), ids: Arc::new(SequentialIds::lane(lane)), ..Environment::default() };
    Ok(JsonOptions { environment, lock_wait: Duration::from_millis(500), ..JsonOptions::new(dir) })
}

pub(crate) fn told(what: &str, error: &Error) -> Finding {
    format!("{what}: {}: {}", error.kind().name(), error.report())
}

/// A whole dump, read back as whoever restores it would.
pub(crate) async fn dump(storage: &JsonStorage) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    storage.dump(&mut bytes).await?;
    let mut reader = DumpReader::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        reader.line(line)?;
    }
    reader.finish()?;
    Ok(bytes)
}

/// How much an input may have made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forged {
    /// Nothing that a checksum protects: what opens is whole and adds up.
    Nothing,
    /// Checksums fit what the store never wrote. Opening looks at checksums, not at every line again: the ledger may add up to
    /// something else, and what was made up may turn out to be damaged later, as `Corrupt`.
    Checksums,
}

/// What came of a directory.
#[derive(Debug)]
pub(crate) enum Came {
    /// It was refused and left as it was.
    Refused,
    /// It opened, but a line that was made up cannot be read.
    Unreadable,
    /// It opened, held this and lost none of it.
    Held {
        /// The dump.
        dump: Vec<u8>,
        /// The files after the first closing.
        files: Tree,
    },
}

/// Opens, dumps, audits, closes and opens again.
pub(crate) async fn whole(dir: &Path, before: &Tree, forged: Forged) -> Result<Came, Finding> {
    let storage = match JsonStorage::open(options(dir, 10)?).await {
        Ok(storage) => storage,
        Err(error) => {
            if !matches!(error.kind(), ErrorKind::Corrupt(_) | ErrorKind::SchemaMismatch { .. }) {
                return Err(told("refused, but with the wrong kind", &error));
            }
            let after = tree::take(dir)?;
            return match tree::difference(before, &after) {
                // Whoever finds a checkpoint that was begun finishes it, and may find afterwards what is not as it should be.
                Some(_) if forged == Forged::Checksums && renamed(before, &after) => Ok(Came::Refused),
                Some(changed) => Err(format!("{}; but these files changed: {changed}", told("refused", &error))),
                None => Ok(Came::Refused),
            };
        }
    };
    // What was made up and then turns out to be damaged is named as such, whenever that is.
    let may_be_damaged = |error: &Error| forged == Forged::Checksums && matches!(error.kind(), ErrorKind::Corrupt(_));
    let dumped = match dump(&storage).await {
        Ok(dumped) => Some(dumped),
        Err(error) if may_be_damaged(&error) => None,
        Err(error) => return Err(told("opened, but cannot be dumped", &error)),
    };
    match storage.audit(AuditScope::Everyone).await {
        Ok(report) if report.is_clean() || forged == Forged::Checksums => {}
        Ok(report) => return Err(format!("opened, but the audit says {:?}", report.findings)),
        Err(error) if may_be_damaged(&error) => {}
        Err(error) => return Err(told("opened, but cannot be audited", &error)),
    }
    storage.close().await.map_err(|error| told("opened, but cannot be closed", &error))?;
    drop(storage);
    let files = tree::take(dir)?;
    let storage = match JsonStorage::open(options(dir, 11)?).await {
        Ok(storage) => storage,
        Err(error) if may_be_damaged(&error) => return Ok(Came::Unreadable),
        Err(error) => return Err(told("opened and closed, but cannot be opened again", &error)),
    };
    let again = dump(&storage).await;
    storage.close().await.map_err(|error| told("opened again, but cannot be closed", &error))?;
    match (dumped, again) {
        (None, _) => Ok(Came::Unreadable),
        (Some(_), Err(error)) => Err(told("opened again, but cannot be dumped", &error)),
        (Some(dump), Ok(again)) if dump == again => Ok(Came::Held { dump, files }),
        (Some(dump), Ok(again)) => Err(format!("opened again, it holds something else: {}", unlike(&dump, &again))),
    }
}

/// Whether two directories differ in nothing but the renames that end a checkpoint.
fn renamed(before: &Tree, after: &Tree) -> bool {
    let staged = |name: &str| before.get(&format!("{name}.tmp"));
    let any = before.keys().any(|name| name.ends_with(".json.tmp"));
    let whole = |name: &String, bytes: &Vec<u8>| match name.strip_suffix(".tmp") {
        Some(named) => after.get(name).or_else(|| after.get(named)) == Some(bytes) || named.starts_with("manifest."),
        None => after.get(name).is_some_and(|now| now == bytes || staged(name) == Some(now)) || name == MANIFEST,
    };
    any && before.iter().all(|(name, bytes)| whole(name, bytes))
}

/// The first line in which two dumps differ.
pub(crate) fn unlike(one: &[u8], other: &[u8]) -> String {
    let (one, other) = (String::from_utf8_lossy(one), String::from_utf8_lossy(other));
    let (mut one, mut other) = (one.lines(), other.lines());
    loop {
        match (one.next(), other.next()) {
            (None, None) => return "nothing differs".to_owned(),
            (a, b) if a == b => {}
            (a, b) => return format!("{} became {}", a.unwrap_or("nothing"), b.unwrap_or("nothing")),
        }
    }
}
