//! How long opening takes after a clean close.

use std::time::Instant;

use storage_core::Store as _;
use storage_json::{JsonOptions, JsonStorage};

use crate::OpenArgs;
use crate::result::{Figures, median};

/// Measures.
pub(crate) async fn measure(arguments: OpenArgs) -> Result<Figures, String> {
    let OpenArgs { data_dir, rounds } = arguments;
    if !data_dir.is_dir() {
        return Err(format!("{} is no directory", data_dir.display()));
    }
    let of_store = |error: storage_core::Error| error.report().to_string();
    let (mut opening, mut closing) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let begun = Instant::now();
        let storage = JsonStorage::open(JsonOptions::new(&data_dir)).await.map_err(of_store)?;
        let opened = begun.elapsed().as_secs_f64();
        storage.close().await.map_err(of_store)?;
        opening.push(opened);
        closing.push(begun.elapsed().as_secs_f64() - opened);
    }
    let mut figures = Figures::new(format!("opening {}, {rounds} times, medians", data_dir.display()));
    figures.add("opening", median(opening), "s");
    figures.add("closing", median(closing), "s");
    figures.add_peak_memory();
    Ok(figures)
}
