//! The suite, on SQLite files.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use conformance_tests::{Harness, Need, Site};
use storage_core::{Environment, Storage};

struct Files;

#[async_trait::async_trait]
impl Harness for Files {
    fn name(&self) -> &'static str {
        "sqlite"
    }
    fn supports(&self, need: Need) -> bool {
        match need {
            Need::SecondHandle | Need::Reopen | Need::TimeZones | Need::Mark => true,
        }
    }
    async fn create(&self) -> Result<Site, String> {
        let dir = tempfile::Builder::new().prefix("storage-sqlite-").tempdir().map_err(|error| error.to_string())?;
        Ok(Site::new(dir.keep().display().to_string()))
    }
    async fn open(&self, site: &Site, environment: Environment) -> storage_core::Result<Arc<dyn Storage>> {
        let file = PathBuf::from(site.to_string()).join("store.db");
        Ok(Arc::new(sqlite_backend::open(file, environment).await?))
    }
    async fn destroy(&self, site: Site) {
        // What cannot be removed is a temporary directory that the system removes.
        let _ = std::fs::remove_dir_all(site.to_string());
    }
}

fn main() -> ExitCode {
    conformance_tests::run(Files)
}
