//! The suite, on stores in memory.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use conformance_tests::{Harness, Need, Site};
use memory_backend::MemoryPlace;
use storage_core::{Environment, Storage};

#[derive(Default)]
struct InMemory(Mutex<BTreeMap<Site, Arc<MemoryPlace>>>);

#[async_trait::async_trait]
impl Harness for InMemory {
    fn name(&self) -> &'static str {
        "memory"
    }
    fn supports(&self, need: Need) -> bool {
        match need {
            Need::SecondHandle | Need::Reopen | Need::TimeZones | Need::Mark => true,
        }
    }
    async fn create(&self) -> Result<Site, String> {
        let mut places = self.0.lock().map_err(|error| error.to_string())?;
        let site = Site::new(format!("place {}", places.len() + 1));
        places.insert(site.clone(), Arc::default());
        Ok(site)
    }
    async fn open(&self, site: &Site, environment: Environment) -> storage_core::Result<Arc<dyn Storage>> {
        let place = self.0.lock().ok().and_then(|places| places.get(site).cloned()).unwrap_or_default();
        Ok(Arc::new(memory_backend::open(place, environment).await?))
    }
    async fn destroy(&self, _: Site) {
        // Nothing outlives the process.
    }
}

fn main() -> ExitCode {
    conformance_tests::run(InMemory::default())
}
