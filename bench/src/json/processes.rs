//! Two processes that write into one store, beside one process with as many tasks.

use std::path::Path;
use std::time::Duration;

use super::child::Process;
use super::contest::{Turns, columns, row};
use super::slice::Slice;
use super::store::{Filling, fill};
use crate::result::Grid;

const TASKS: u32 = 64;

pub(super) async fn measure(dir: &Path, users: u32, turns: Turns) -> Result<Grid, String> {
    let store = dir.join("processes");
    fill(&store, Filling { users, ..Filling::default() }).await?;
    let crews = [2_u32, 1];
    let done = turns.run(&crews, async |processes, slice| together(&store, users, *processes, slice).await).await?;
    let title = format!(
        "credits by processes: {users} users, {TASKS} tasks in all, {} rounds of {} ms, medians",
        turns.rounds,
        turns.slice.as_millis()
    );
    let mut grid = Grid::new("processes", title, columns().into_iter().take(5).collect());
    let ratios = done[0].iter().zip(&done[1]).map(|(two, one)| two.rate / one.rate).collect();
    grid.add("two processes", row(&done[0], None, None));
    grid.add("one process", row(&done[1], Some(ratios), Some(0.4)));
    Ok(grid)
}

async fn together(store: &Path, users: u32, processes: u32, slice: Duration) -> Result<Slice, String> {
    let mut all = Vec::new();
    for _ in 0..processes {
        all.push(Process::open(store, users, TASKS / processes, slice).await?);
    }
    for process in &mut all {
        process.go().await?;
    }
    let mut rate = 0.0;
    for process in all {
        rate += process.finish().await?;
    }
    Ok(Slice { rate, ..Slice::default() })
}
