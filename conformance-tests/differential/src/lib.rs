//! The backends of this workspace, side by side.
//!
//! The test of this crate plays the same random histories on the examples in memory and on SQLite, on directories and on
//! PostgreSQL, and compares every answer and every dump, byte for byte: time and ids are driven. `CONFORMANCE_SEED` and
//! `CONFORMANCE_OPERATIONS` say which histories and how many operations.

/// The guide for authors of backends. Doc tests compile its code, and run the blocks that need nothing else.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/writing-a-backend.md")]
mod guide {}

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use conformance_tests::{Harness, Need, Site};
use memory_backend::MemoryPlace;
use pg_test_server::{Database, Server};
use storage_core::{Environment, Storage};
use storage_json::{JsonOptions, JsonStorage};
use storage_pg::{PgOptions, PgStorage};

/// Every backend, the example first.
///
/// # Errors
/// Why there is no server.
pub fn every_backend() -> Result<Vec<Arc<dyn Harness>>, String> {
    let databases = Databases { server: Server::shared()?, sites: Mutex::default() };
    Ok(vec![Arc::new(Places::default()), Arc::new(Embedded::Sqlite), Arc::new(Embedded::Json), Arc::new(databases)])
}

#[derive(Default)]
struct Places(Mutex<BTreeMap<Site, Arc<MemoryPlace>>>);

#[async_trait]
impl Harness for Places {
    fn name(&self) -> &'static str {
        "memory"
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
        Ok(Arc::new(memory_backend::open(place, environment).await?))
    }
    async fn destroy(&self, site: Site) {
        // The name stays, so that no later place gets it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(site, Arc::default());
    }
}

/// The backends that keep a site in a temporary directory.
enum Embedded {
    Sqlite,
    Json,
}

#[async_trait]
impl Harness for Embedded {
    fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Json => "json",
        }
    }
    fn supports(&self, _: Need) -> bool {
        true
    }
    async fn create(&self) -> Result<Site, String> {
        let dir =
            tempfile::Builder::new().prefix("storage-differential-").tempdir().map_err(|error| error.to_string())?;
        Ok(Site::new(dir.keep().display().to_string()))
    }
    async fn open(&self, site: &Site, environment: Environment) -> storage_core::Result<Arc<dyn Storage>> {
        let dir = PathBuf::from(site.to_string());
        Ok(match self {
            Self::Sqlite => Arc::new(sqlite_backend::open(dir.join("store.db"), environment).await?),
            Self::Json => {
                let options = JsonOptions { environment, ..JsonOptions::new(dir.join("data")) };
                Arc::new(JsonStorage::open(options).await?)
            }
        })
    }
    async fn destroy(&self, site: Site) {
        // What cannot be removed is a temporary directory that the system removes.
        let _ = std::fs::remove_dir_all(site.to_string());
    }
}

struct Databases {
    server: &'static Server,
    sites: Mutex<BTreeMap<Site, Database>>,
}

/// A new database with the store's tables.
///
/// # Errors
/// Why there is none.
pub fn database(server: &Server) -> Result<Database, String> {
    // The template's name changes with the migrations, so that a server that outlives a change has no stale one.
    let template = format!("storage_v{}", storage_pg::migration_steps().len());
    server.create_database_with(&template, |url| {
        let url = url.to_owned();
        // The caller may be inside a runtime.
        let migrating = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| error.to_string())?;
            let migrated = runtime.block_on(storage_pg::migrate(&PgOptions::new(url), Duration::from_secs(30)));
            migrated.map(drop).map_err(|error| error.error().report().to_string())
        });
        migrating.join().map_err(|_| "the migration panicked".to_owned())?
    })
}

#[async_trait]
impl Harness for Databases {
    fn name(&self) -> &'static str {
        "postgres"
    }
    fn supports(&self, _: Need) -> bool {
        true
    }
    async fn create(&self) -> Result<Site, String> {
        let server = self.server;
        let made = tokio::task::spawn_blocking(move || database(server)).await;
        let database = made.map_err(|error| error.to_string())??;
        let site = Site::new(database.url());
        self.sites.lock().unwrap_or_else(PoisonError::into_inner).insert(site.clone(), database);
        Ok(site)
    }
    async fn open(&self, site: &Site, environment: Environment) -> storage_core::Result<Arc<dyn Storage>> {
        let options = PgOptions { environment, max_connections: 2, ..PgOptions::new(site.to_string()) };
        Ok(Arc::new(PgStorage::open(options).await?))
    }
    async fn destroy(&self, site: Site) {
        let database = self.sites.lock().unwrap_or_else(PoisonError::into_inner).remove(&site);
        // Dropping it waits for the server.
        let _ = tokio::task::spawn_blocking(move || drop(database)).await;
    }
}
