//! What a user, a job and a payment cost in memory, each in a process that only opens the store.

use std::path::Path;
use std::time::Duration;

use super::child::Process;
use super::store::{Filling, fill};
use crate::result::{Column, Grid};

pub(super) async fn measure(dir: &Path, users: u32) -> Result<Grid, String> {
    let owners = users;
    let title = format!("memory: growth of a process that opened a store of {users}, without that of an empty store");
    let columns = vec![Column("bytes each", 0), Column("at most", 0), Column("MiB", 1), Column("open s", 2)];
    let mut grid = Grid::new("memory", title, columns);
    let empty = open(dir, "empty", Filling::default()).await?;
    for (name, filling, target) in [
        ("user", Filling { users, ..Filling::default() }, Some(600.0)),
        ("job", Filling { jobs: users, owners, ..Filling::default() }, None),
        ("payment", Filling { payments: users, owners, ..Filling::default() }, None),
    ] {
        let opened = open(dir, name, filling).await?;
        let kib = opened.kib - empty.kib;
        grid.add(name, vec![Some(kib * 1024.0 / f64::from(users)), target, Some(kib / 1024.0), Some(opened.seconds)]);
    }
    Ok(grid)
}

async fn open(dir: &Path, name: &str, filling: Filling) -> Result<super::child::Opened, String> {
    let store = dir.join(format!("memory-{name}"));
    fill(&store, filling).await?;
    let mut process = Process::open(&store, filling.users.max(1), 0, Duration::ZERO).await?;
    let opened = process.opened;
    process.go().await?;
    process.finish().await?;
    Ok(opened)
}
