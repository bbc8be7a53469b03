//! Writes anew what went missing under a running store and stands in memory: the manifest, the journal, the files of a
//! checkpoint. Left as it is, the store would go on and not open again.

use std::sync::atomic::Ordering;

use storage_core::{Error, ErrorKind, Result};

use crate::checkpoint::{Extent, checkpoint, set_aside};
use crate::engine::{Applier, Shared, unpoisoned};
use crate::journal::{self, Behind};
use crate::locks::{CHECKPOINT, Try};
use crate::manifest::{MANIFEST, Manifest};
use crate::options::Access;
use crate::watch::{Changed, Missing};

/// Puts the manifest back that this handle knows, where there is none, a damaged one, or one from before. The caller holds the
/// writer lock.
pub(crate) fn manifest(shared: &Shared, applier: &Applier, error: Error) -> Result<Manifest> {
    if !matches!(error.kind(), ErrorKind::Corrupt(_)) {
        return Err(error);
    }
    let known = &applier.manifest;
    let current = known.current().generation;
    // Another process may have written one that this handle has not seen; then that process puts it back.
    let newest = shared.head.read()?.is_some_and(|mark| mark.position.generation == current && !mark.dead);
    // One that names a second journal is out of date once the checkpoint is done that it speaks of.
    let mut journals = known.generation..=current;
    let whole = journals.all(|generation| matches!(shared.dir.check_regular(&journal::name(generation)), Ok(true)));
    if !newest || !whole {
        return Err(error);
    }
    let aside = set_aside(&shared.dir, MANIFEST)?;
    shared.dir.stage(MANIFEST, &known.to_bytes()?)?;
    shared.dir.publish(MANIFEST)?;
    shared.dir.sync()?;
    let aside = aside.map_or_else(String::new, |name| format!("; what stood there is {name} now"));
    shared.warn(format!("{MANIFEST} was removed or damaged while the store is open; it was written anew{aside}"));
    Ok(known.clone())
}

/// Looks whether journal and files are there, and brings back what is not: the journal at once, by a checkpoint, because a
/// change is acknowledged when it stands there; files by the next checkpoint, which is made due. The caller holds the writer
/// lock and has caught up.
///
/// `changed`: what [`Watch::locks`](crate::watch::Watch::locks) said a moment ago. Answers whether nothing stands in the journal beyond
/// what this handle knows.
pub(crate) fn files(shared: &Shared, applier: &mut Applier, changed: Option<Changed>) -> Result<bool> {
    let position = shared.state().position;
    shared.judged(shared.watch.lengths(&shared.ledger, position.ledger))?;
    let Missing { journal, files } = match changed {
        None => Missing::default(),
        Some(changed) => {
            let at_it = shared.checkpoint.running.load(Ordering::Acquire);
            shared.judged(shared.watch.look(changed, at_it, &applier.manifest, &applier.journal))?
        }
    };
    if !files.is_empty() {
        shared.warn(format!("{} went missing while the store is open; written anew by a checkpoint", files.join(", ")));
        applier.is_due = true;
    }
    match applier.journal.behind(position.offset)? {
        Behind::Cut => anew(shared, applier)?,
        _ if journal => anew(shared, applier)?,
        behind => return Ok(behind == Behind::Nothing),
    }
    Ok(true)
}

/// Makes a checkpoint between two batches.
fn anew(shared: &Shared, applier: &mut Applier) -> Result<()> {
    let name = journal::name(applier.journal.generation);
    let what = "was removed, replaced or cut while the store is open";
    let mut lock = None;
    // Whoever closes the store is alone, and has ended its own checkpoint.
    let closing = shared.checkpoint.cancelled.load(Ordering::Acquire);
    if shared.options.access == Access::Shared && !closing {
        let lock = lock.insert(shared.open_lock(CHECKPOINT)?);
        // Its end needs the lock that is held here, and drops this journal.
        if lock.try_exclusive()? == Try::Held {
            let error = Error::new(ErrorKind::Busy { waited: std::time::Duration::ZERO });
            return Err(error.message(format!("{name} {what}, and a checkpoint is being made; repeat the call")));
        }
    }
    let _staging = unpoisoned(shared.checkpoint.staging.lock());
    checkpoint(shared, applier, Extent::Whole).map_err(|error| {
        // What keeps it from being written may pass: a full disk is no damage.
        Error::new(error.kind().clone())
            .message(format!("{name} {what}, and could not be written anew"))
            .caused_by(error)
    })?;
    shared.warn(format!("{name} {what}; a checkpoint was made in its place"));
    Ok(())
}
