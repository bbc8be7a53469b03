//! Opens the store under test.

use std::sync::Arc;
use std::time::Duration;

use storage_core::{Environment, ManualClock, Policy, Result, SharedStorage, SystemIds, Timestamp};
use storage_json::{JsonOptions, JsonStorage};
use storage_pg::{Limits, PgOptions, PgStorage};

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
        let millis = |given: Option<u64>, standard| given.map_or(standard, Duration::from_millis);
        match &mut self {
            Self::Directory(options) => {
                options.checkpoint_bytes = limits.checkpoint_bytes;
                options.lock_wait = millis(limits.deadline, options.lock_wait).min(options.lock_wait);
                options.deadline = millis(limits.deadline, options.deadline);
            }
            Self::Database(options) => {
                let standard = Limits::default();
                options.max_connections = limits.pool;
                options.limits = Limits {
                    pool: millis(limits.deadline, standard.pool).min(standard.pool),
                    statement: millis(limits.statement_timeout, standard.statement),
                    lock: millis(limits.statement_timeout, standard.lock).min(standard.lock),
                    operation: millis(limits.deadline, standard.operation),
                    ..standard
                };
            }
        }
        self
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
    /// How long one operation may take, and opening wait for another process, in milliseconds
    #[arg(long, value_name = "MS")]
    pub(crate) deadline: Option<u64>,
    /// The most connections to a database
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    pub(crate) pool: u32,
}

/// Opens a store with a clock that the probe moves.
///
/// The ids are random ones: a program that begins again must not mint those that it minted before.
pub(crate) async fn open(place: &Place) -> Result<(SharedStorage, Arc<ManualClock>)> {
    let clock = Arc::new(ManualClock::at(Timestamp::MIN));
    let environment =
        Environment { clock: Arc::clone(&clock) as _, ids: Arc::new(SystemIds), policy: Policy::default() };
    let storage: SharedStorage = match place.clone() {
        Place::Directory(options) => {
            let options = JsonOptions { environment, ..*options };
            Arc::new(JsonStorage::open(options).await.map_err(|error| error.in_operation("open"))?)
        }
        Place::Database(options) => Arc::new(PgStorage::open(PgOptions { environment, ..*options }).await?),
    };
    Ok((storage, clock))
}

/// Makes a scratch schema anew, with its tables and nothing in them. That takes no longer than truncating them would.
pub(crate) async fn reset(options: &PgOptions) -> Result<()> {
    storage_pg::drop_scratch_schema(options).await?;
    storage_pg::migrate(options, Duration::from_secs(30)).await?;
    Ok(())
}
