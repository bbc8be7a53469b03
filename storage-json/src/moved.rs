//! The mark of a store whose contents were moved elsewhere. It stands in the manifest, and a new journal begins with it: so
//! every process that has the store open reads it before its next change.

use std::sync::Arc;

use storage_core::{Destination, Entity, Error, ErrorKind, Result};

use crate::checkpoint::{set_aside_edits, write_live};
use crate::engine::{JsonStorage, Shared, unpoisoned};
use crate::follow::{catch_up, enter_generation};
use crate::locks::CHECKPOINT;
use crate::manifest::Manifest;
use crate::options::Access;
use crate::writer::locked;

/// What to do with the mark.
#[derive(Clone, Debug)]
pub(crate) enum Mark {
    Set(Destination),
    Lift(Destination),
}

impl Mark {
    /// What the manifest says afterwards.
    fn judge(&self, present: Option<&str>) -> Result<Option<String>> {
        match (self, present) {
            (Self::Lift(_), None) => Ok(None),
            (Self::Set(to), None) => Ok(Some(to.as_str().to_owned())),
            (Self::Set(to), Some(present)) if to.as_str() == present => Ok(Some(present.to_owned())),
            (Self::Lift(to), Some(present)) if to.as_str() == present => Ok(None),
            (Self::Set(_) | Self::Lift(_), Some(present)) => Err(Error::new(ErrorKind::Conflict {
                entity: Entity::new("mark", present),
                reason: "the store is marked as moved there; that mark is lifted by this name".into(),
            })),
        }
    }
}

impl JsonStorage {
    /// Where the store was moved to. A mark comes with a new journal, so that whoever has followed knows it; no lock is taken.
    pub(crate) async fn mark(&self) -> Result<Option<Destination>> {
        self.read("moved_to", |_| ()).await?;
        let to = self.shared.applier().manifest.moved_to.clone();
        to.map(Destination::new).transpose()
    }

    pub(crate) async fn remark(&self, mark: Mark) -> Result<()> {
        self.shared.check_open()?;
        // Files are staged under fixed names: no process may be at a checkpoint meanwhile.
        let shared = Arc::clone(&self.shared);
        let staging = self
            .blocking(move || {
                if shared.options.access == Access::Exclusive {
                    return Ok(None);
                }
                let mut lock = shared.open_lock(CHECKPOINT)?;
                lock.exclusive_within(shared.options.deadline)?;
                lock.sign(|| shared.options.environment.clock.now());
                Ok(Some(lock))
            })
            .await?;
        self.control_in_time(move |shared, lock| {
            let marked = locked(shared, lock, |shared| write(shared, &mark));
            drop(staging);
            marked
        })
        .await
    }
}

fn write(shared: &Arc<Shared>, mark: &Mark) -> Result<()> {
    let mut applier = shared.applier();
    catch_up(shared, &mut applier)?;
    if let Some(refusal) = shared.read_only() {
        return Err(refusal);
    }
    let moved_to = mark.judge(applier.manifest.moved_to.as_deref())?;
    if moved_to == applier.manifest.moved_to {
        return Ok(());
    }
    let _staging = unpoisoned(shared.checkpoint.staging.lock());
    let edited = set_aside_edits(shared, &applier.manifest)?;
    let frozen = {
        let mut state = unpoisoned(shared.state.write());
        // A checkpoint of the background that came this far comes to nothing now.
        state.moments.checkpoint = None;
        state.keys.freeze()
    };
    let manifest = Manifest { moved_to, ..applier.manifest.clone() };
    let written = write_live(shared, &manifest, &shared.state(), &frozen, &edited);
    match written {
        Ok(written) => enter_generation(shared, &mut applier, written).map_err(|error| error.unknown(None)),
        Err(error) => {
            unpoisoned(shared.state.write()).keys.thaw();
            Err(error.unknown(None))
        }
    }
}
