//! The suite on a server that somebody else runs: `SCALE_TEST_URL`, the URL of a database in which schemas may be made.
//!
//! Each scenario has a schema of its own, migrated and then spread over the nodes as `storage shard --apply` does it; where
//! the database has no sharding engine that does nothing. With a URL nothing is skipped: whatever differs is a failure.
//! Without one there is nothing to test, and `scripts/prove scale` says so.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use conformance_tests::{Harness, Need, Site};
use storage_core::{Environment, Storage};
use storage_pg::{Limits, PgOptions, PgStorage};

const VARIABLE: &str = "SCALE_TEST_URL";
/// How long a change of the tables may take on many nodes.
const PATIENCE: Duration = Duration::from_mins(2);

struct Schemas {
    url: String,
    count: AtomicU32,
}

impl Schemas {
    fn options(&self, site: &Site, environment: Environment) -> PgOptions {
        let patient = Limits { pool: Duration::from_secs(20), operation: Duration::from_secs(30), ..Limits::default() };
        let schema = site.to_string();
        PgOptions { schema, max_connections: 6, limits: patient, environment, ..PgOptions::new(self.url.clone()) }
    }
}

#[async_trait::async_trait]
impl Harness for Schemas {
    fn name(&self) -> &'static str {
        "postgres by SCALE_TEST_URL"
    }
    fn supports(&self, need: Need) -> bool {
        match need {
            Need::SecondHandle | Need::Reopen | Need::TimeZones | Need::Mark => true,
        }
    }
    async fn create(&self) -> Result<Site, String> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let site = Site::new(format!("storage_verify_scale_{}_{number}", std::process::id()));
        let options = self.options(&site, Environment::default());
        let told = |error: storage_pg::OpenError| error.error().report().to_string();
        storage_pg::migrate(&options, PATIENCE).await.map_err(told)?;
        storage_pg::shard(&options, PATIENCE).await.map_err(told)?;
        let sharding = storage_pg::sharding(&options).await.map_err(told)?;
        match sharding.pending().next() {
            Some(table) if sharding.engine.is_some() => Err(format!("{} was not spread", table.table)),
            _ => Ok(site),
        }
    }
    async fn open(&self, site: &Site, environment: Environment) -> storage_core::Result<Arc<dyn Storage>> {
        Ok(Arc::new(PgStorage::open(self.options(site, environment)).await?))
    }
    async fn destroy(&self, site: Site) {
        // A schema that stays is seen by whoever looks, and the next run has other names.
        let _ = storage_pg::drop_scratch_schema(&self.options(&site, Environment::default())).await;
    }
}

fn main() -> ExitCode {
    match std::env::var(VARIABLE) {
        Ok(url) if !url.is_empty() => conformance_tests::run(Schemas { url, count: AtomicU32::new(0) }),
        _ => {
            let _ = writeln!(std::io::stdout(), "{VARIABLE} is not set: no other server to test");
            ExitCode::SUCCESS
        }
    }
}
