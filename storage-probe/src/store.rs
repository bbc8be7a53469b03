//! The stores of this workspace: a data directory, or a scratch schema of a database.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use storage_core::{Environment, Error, Result, SharedStorage};
use storage_json::{JsonOptions, JsonStorage};
use storage_pg::{Limits, PgOptions, PgStorage};
use storage_probe::Opener;

/// Where the store is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// A data directory.
    Directory(Box<JsonOptions>),
    /// A database.
    Database(Box<PgOptions>),
}

/// How large the journal may grow by default; small, so that a short run has some checkpoints.
pub(crate) const CHECKPOINT_BYTES: u64 = 16 * 1024;
/// How the names of scratch schemas begin. The probe touches no other, so that it never meets real users; nor does
/// `storage-pg` remove any other.
const SCRATCH: &str = "storage_verify_";

/// Where in a database.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Scratch {
    /// The scratch schema of a database; the name must begin with `storage_verify_` [default: `storage_verify_probe`]
    #[arg(long, value_name = "NAME")]
    pub(crate) schema: Option<String>,
}

impl Place {
    /// Turns the argument into a place.
    pub(crate) fn of(store: &str, schema: Option<String>) -> Result<Self, String> {
        if store.starts_with("postgres://") || store.starts_with("postgresql://") {
            let mut options = PgOptions::new(store);
            options.schema = schema.unwrap_or_else(|| format!("{SCRATCH}probe"));
            if !options.schema.starts_with(SCRATCH) {
                return Err(format!("the schema's name must begin with {SCRATCH}: the probe touches no other"));
            }
            return Ok(Self::Database(Box::new(options)));
        }
        if store.contains("://") || store.is_empty() {
            return Err("give the path of a data directory, or a postgresql:// URL".to_owned());
        }
        if schema.is_some() {
            return Err("a directory has no schema".to_owned());
        }
        let options = JsonOptions { checkpoint_bytes: CHECKPOINT_BYTES, ..JsonOptions::new(store) };
        Ok(Self::Directory(Box::new(options)))
    }
    /// With limits, and a pool of its own where it is a database.
    pub(crate) fn limited(mut self, limits: &Limited) -> Self {
        match &mut self {
            Self::Directory(options) => options.checkpoint_bytes = limits.checkpoint_bytes,
            Self::Database(options) => {
                options.max_connections = limits.pool;
                let statement = limits.statement_timeout.map_or(options.limits.statement, Duration::from_millis);
                let lock = limits.statement_timeout.map_or(options.limits.lock, |_| statement.min(options.limits.lock));
                options.limits = Limits { statement, lock, ..options.limits };
            }
        }
        self
    }
}

#[async_trait]
impl Opener for Place {
    async fn open(&self, _: &str, environment: Environment, deadline: Option<Duration>) -> Result<SharedStorage> {
        Ok(match self.clone() {
            Self::Directory(options) => {
                let mut options = JsonOptions { environment, ..*options };
                if let Some(deadline) = deadline {
                    options.lock_wait = options.lock_wait.min(deadline);
                    options.deadline = deadline;
                }
                Arc::new(JsonStorage::open(options).await.map_err(|error| error.in_operation("open"))?)
            }
            Self::Database(options) => {
                let mut options = PgOptions { environment, ..*options };
                if let Some(deadline) = deadline {
                    options.limits.pool = options.limits.pool.min(deadline);
                    options.limits.operation = deadline;
                }
                Arc::new(PgStorage::open(options).await?)
            }
        })
    }

    fn is_server(&self, _: &str) -> bool {
        matches!(self, Self::Database(_))
    }
}

/// Limits, so that trials of faults end soon.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Limited {
    /// How large the journal of a directory may grow before a checkpoint; small, so that a short run has some
    #[arg(long, default_value_t = CHECKPOINT_BYTES)]
    pub(crate) checkpoint_bytes: u64,
    /// How long one statement may take on a database, in milliseconds
    #[arg(long, value_name = "MS")]
    pub(crate) statement_timeout: Option<u64>,
    /// The most connections to a database
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    pub(crate) pool: u32,
}

/// Makes a scratch schema anew, with its tables and nothing in them. That takes no longer than truncating them would.
pub(crate) fn reset(options: &PgOptions) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::internal("the runtime could not be built").caused_by(error))?;
    runtime.block_on(async {
        storage_pg::drop_scratch_schema(options).await?;
        storage_pg::migrate(options, Duration::from_secs(30)).await?;
        Ok(())
    })
}
