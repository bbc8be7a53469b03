//! Opening a store that was closed cleanly, by a process of its own each time.

use std::path::Path;
use std::time::Duration;

use super::child::Process;
use super::store::{Filling, fill};
use crate::result::{Column, Grid, median};

/// Ledger rows of each user beyond the opening one.
const MORE_ROWS: u32 = 9;

pub(super) async fn measure(dir: &Path, users: u32, rounds: u32) -> Result<Grid, String> {
    let store = dir.join("opening");
    fill(&store, Filling { users, more_rows: MORE_ROWS, ..Filling::default() }).await?;
    let (mut seconds, mut mib) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut process = Process::open(&store, users, 0, Duration::ZERO).await?;
        seconds.push(process.opened.seconds);
        mib.push(process.opened.kib / 1024.0);
        process.go().await?;
        process.finish().await?;
    }
    let title = format!(
        "opening after a clean close: {users} users with balance, settings and {} ledger rows, {rounds} rounds, medians",
        MORE_ROWS + 1
    );
    let mut grid = Grid::new("open", title, vec![Column("seconds", 2), Column("at most", 2), Column("MiB", 0)]);
    grid.add("storage-json", vec![Some(median(seconds)), Some(5.0), Some(median(mib))]);
    Ok(grid)
}
