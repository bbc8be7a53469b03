//! A backend that keeps everything in memory: the shortest store that there is.
//!
//! A [`MemoryPlace`] holds the contents, and each handle on it is a [`Serial`]. A transaction copies the contents, changes the copy
//! and puts it in place when the whole succeeded; a look is a look at a snapshot that nobody changes. Slow for many users, and
//! obviously right.
//!
//! Nothing outlives the process: this backend keeps every rule of the contract but durability.

mod list;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use storage_core::serial::{DEADLINE, Engine, Serial, Unit};
use storage_core::{BackendInfo, Environment, Result};

use crate::state::State;

/// Where a store lives. Handles that share a place share the store.
#[derive(Debug, Default)]
pub struct MemoryPlace(Mutex<Arc<State>>);

impl MemoryPlace {
    fn lock(&self) -> MutexGuard<'_, Arc<State>> {
        // A writer that panicked never put its copy in place, so what the lock guards is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the store of a place, and founds it when the place is new.
///
/// # Errors
/// `SchemaMismatch` when the store was founded with another time zone or history retention.
pub async fn open(place: Arc<MemoryPlace>, environment: Environment) -> Result<Serial> {
    let info = BackendInfo {
        name: "memory".to_owned(),
        reason: "opened directly".to_owned(),
        location: "this process".to_owned(),
        warnings: vec!["nothing outlives the process".to_owned()],
    };
    Serial::open(Memory { place }, environment, info, DEADLINE).await
}

struct Memory {
    place: Arc<MemoryPlace>,
}

impl Engine for Memory {
    fn together(&mut self, work: &mut dyn FnMut(&mut dyn Unit) -> Result<()>) -> Result<()> {
        let mut place = self.place.lock();
        let mut copy = State::clone(&place);
        work(&mut copy)?;
        *place = Arc::new(copy);
        Ok(())
    }

    fn look(&mut self, work: &mut dyn FnMut(&dyn Unit) -> Result<()>) -> Result<()> {
        let snapshot = Arc::clone(&self.place.lock());
        work(snapshot.as_ref())
    }
}
