//! Stores in memory, with whichever defect is on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use conformance_tests::{Harness, Need, Site};
use storage_core::{Environment, Storage};

use crate::broken::{self, MemoryPlace};

/// Makes stores in memory.
#[derive(Default)]
pub(crate) struct Mutated(Mutex<BTreeMap<Site, Arc<MemoryPlace>>>);

#[async_trait::async_trait]
impl Harness for Mutated {
    fn name(&self) -> &'static str {
        "memory, with a defect"
    }
    fn supports(&self, _: Need) -> bool {
        true
    }
    async fn create(&self) -> Result<Site, String> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let site = Site::new(format!("place {}", places.len() + 1));
        places.insert(site.clone(), Arc::default());
        Ok(site)
    }
    async fn open(&self, site: &Site, environment: Environment) -> storage_core::Result<Arc<dyn Storage>> {
        let place = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(site).cloned().unwrap_or_default();
        Ok(Arc::new(broken::open(place, environment).await?))
    }
    async fn destroy(&self, _: Site) {
        // Nothing outlives the process.
    }
}
