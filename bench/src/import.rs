//! How long bringing in a legacy directory takes.

use std::time::Instant;

use storage_core::{Clock as _, Result, Store as _, SystemClock};
use storage_json::legacy::{self, Legacy, ReadOptions};
use storage_json::{JsonOptions, JsonStorage};

use crate::ImportArgs;
use crate::result::Figures;
use crate::single::scratch;

/// Records that go into the store together, as many as the command `storage import` takes.
const BATCH: usize = 1000;

/// Measures.
pub(crate) async fn measure(arguments: ImportArgs) -> Result<Figures, String> {
    let ImportArgs { legacy: from, keep, dir } = arguments;
    let scratch = scratch(&dir)?;
    let data_dir = keep.unwrap_or_else(|| scratch.path().join("store"));
    if data_dir.exists() {
        return Err(format!("{} exists already", data_dir.display()));
    }
    let of_store = |error: storage_core::Error| error.report().to_string();
    let begun = Instant::now();
    let Legacy { records, report } =
        legacy::read(&from, &ReadOptions::new(SystemClock.now()), &mut |_| {}).map_err(of_store)?;
    let read = begun.elapsed().as_secs_f64();
    let count = records.len();
    let storage = JsonStorage::open(JsonOptions::new(&data_dir)).await.map_err(of_store)?;
    let mut records = records.into_iter().map(|record| record.record);
    loop {
        let batch: Vec<_> = records.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            break;
        }
        storage.import_records(batch).await.map_err(of_store)?;
    }
    let put = begun.elapsed().as_secs_f64();
    storage.close().await.map_err(of_store)?;
    let all = begun.elapsed().as_secs_f64();
    let mut figures = Figures::new(format!("import of {count} records, {} refused", report.refused.len()));
    figures.add("reading", read, "s");
    figures.add("putting in", put - read, "s");
    figures.add("closing", all - put, "s");
    figures.add("all", all, "s");
    figures.add_peak_memory();
    Ok(figures)
}
