//! The metrics of a storage.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use metrics::{counter, histogram};

/// Where gauges are read. Without a backend of ours there is none.
pub(super) enum Source {
    #[cfg(feature = "json")]
    Json(Arc<storage_json::JsonStorage>),
    #[cfg(feature = "postgres")]
    Postgres(Arc<storage_pg::PgStorage>),
}

impl Source {
    fn tell(&self) {
        match *self {
            #[cfg(feature = "json")]
            Self::Json(ref storage) => {
                let storage_json::Vitals { journal_bytes, syncs, sync_micros, waiting_calls, waiting_bytes } =
                    storage.vitals();
                metrics::gauge!("storage_journal_bytes", "backend" => "json").set(exact(journal_bytes));
                metrics::gauge!("storage_waiting_calls", "backend" => "json").set(exact(waiting_calls));
                metrics::gauge!("storage_waiting_bytes", "backend" => "json").set(exact(waiting_bytes));
                counter!("storage_syncs_total", "backend" => "json").absolute(syncs);
                // A counter is whole: microseconds, of which a dashboard makes seconds.
                counter!("storage_sync_microseconds_total", "backend" => "json").absolute(sync_micros);
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(ref storage) => {
                let storage_pg::PoolState { connections, idle } = storage.pool_state();
                metrics::gauge!("storage_pool_connections", "backend" => "postgres").set(f64::from(connections));
                metrics::gauge!("storage_pool_idle", "backend" => "postgres").set(f64::from(idle));
            }
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

/// What is told beside each operation.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    source: Option<Source>,
    begun: OnceLock<Instant>,
    /// The second, since the first operation, in which the gauges were set last; one more than that.
    told: AtomicU64,
}

impl Gauges {
    #[cfg(any(feature = "json", feature = "postgres"))]
    pub(super) fn of(source: Source) -> Self {
        Self { source: Some(source), ..Self::default() }
    }

    pub(super) fn tell(
        &self,
        backend: &Arc<str>,
        operation: &'static str,
        began: Instant,
        outcome: &'static str,
        replayed: bool,
    ) {
        let seconds = began.elapsed();
        let backend = || Arc::clone(backend);
        histogram!("storage_operation_seconds", "operation" => operation, "backend" => backend(), "outcome" => outcome)
            .record(seconds);
        if replayed {
            counter!("storage_replays_total", "operation" => operation, "backend" => backend()).increment(1);
        }
        let Some(source) = &self.source else { return };
        let second = began.duration_since(*self.begun.get_or_init(|| began)).as_secs() + 1;
        if self.told.fetch_max(second, Ordering::Relaxed) >= second {
            return;
        }
        source.tell();
    }
}

/// A count as a gauge takes it: exact up to 2^53.
#[cfg(feature = "json")]
#[expect(clippy::cast_precision_loss, reason = "a journal is smaller than 8 PiB")]
fn exact(count: u64) -> f64 {
    count as f64
}
