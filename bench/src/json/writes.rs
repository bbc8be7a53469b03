//! Credits, debits and the mix of a bot.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::contest::{Lane, Turns};
use super::contestant::{Contestant, Kind};
use super::floor::WAYS;
use super::gather::Batch;
use super::op::Work;
use super::slice::Crew;
use crate::result::{Column, Grid, median};

const PEERS: [Kind; 6] = [
    Kind::Json,
    Kind::Sqlite(Batch::Each),
    Kind::Sqlite(Batch::Gathered),
    Kind::Redb(Batch::Each),
    Kind::Redb(Batch::Gathered),
    Kind::Fjall,
];

/// Tasks whose changes wait for each other.
const MANY: u32 = 64;

/// How many times a peer's rate ours should be.
fn target(work: Work, tasks: u32, kind: Kind) -> Option<f64> {
    let (floor, sqlite, redb, fjall) = match (work, tasks) {
        (Work::Credit | Work::Debit, 1) => (0.8, 1.3, None, 1.0),
        (Work::Credit | Work::Debit, 8) => (0.65, 1.15, None, 1.0),
        (Work::Credit, 64) => (0.6, 1.6, Some(2.3), 1.7),
        (Work::Debit, 64) => (0.6, 2.5, Some(4.0), 2.0),
        (Work::Mix, 64) => (0.5, 3.5, None, 1.5),
        _ => return None,
    };
    match kind {
        Kind::Floor(..) => Some(floor),
        Kind::Sqlite(Batch::Gathered) => Some(sqlite),
        Kind::Redb(Batch::Gathered) => redb,
        Kind::Fjall => Some(fjall),
        _ => None,
    }
}

/// Which work, under which name, by how many tasks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job(pub(super) Work, pub(super) &'static str, pub(super) &'static [u32]);

/// Measures each work by each number of tasks.
pub(super) async fn measure(dir: &Path, jobs: &[Job], users: u32, turns: Turns) -> Result<Vec<Grid>, String> {
    let mut grids = Vec::new();
    let mut peers = Vec::new();
    for kind in PEERS {
        peers.push(Arc::new(Contestant::open(kind, dir, users).await?));
    }
    let mut ways = Vec::new();
    for (name, by, disk) in WAYS {
        match Contestant::open(Kind::Floor(by, disk), dir, users).await {
            Ok(way) => ways.push((name, Arc::new(way))),
            // Not every file system takes O_DIRECT.
            Err(_) if grids.is_empty() && !ways.is_empty() => {}
            Err(error) => return Err(error),
        }
    }
    let many_tasks = jobs.iter().any(|Job(_, _, many)| many.contains(&MANY));
    let unsynced = if many_tasks { Some(Arc::new(Contestant::open(Kind::Unsynced, dir, users).await?)) } else { None };
    for Job(work, name, many) in jobs {
        for tasks in *many {
            let crew = Crew { work: *work, tasks: *tasks, users };
            let (grid, floor) = fastest(crew, &ways, turns).await?;
            grids.push(grid);
            let mut all = vec![Arc::clone(&peers[0]), floor];
            all.extend(peers[1..].iter().cloned());
            all.extend(unsynced.iter().filter(|_| *tasks == MANY).cloned());
            if *work != Work::Mix && *tasks == 1 {
                all.push(Arc::new(Contestant::open(Kind::Append, dir, users).await?));
            }
            if *work == Work::Credit && *tasks == 1 {
                all.push(Arc::new(Contestant::open(Kind::Rewrite, dir, users).await?));
            }
            let lanes: Vec<Lane> = all
                .into_iter()
                .map(|contestant| Lane { target: target(*work, *tasks, contestant.kind), contestant })
                .collect();
            grids.push(turns.contest(name, crew, &lanes).await?);
        }
    }
    peers[0].close().await?;
    if let Some(unsynced) = unsynced {
        unsynced.close().await?;
    }
    Ok(grids)
}

/// Tries every way to the floor for a while and answers the fastest.
async fn fastest(
    crew: Crew,
    ways: &[(&'static str, Arc<Contestant>)],
    turns: Turns,
) -> Result<(Grid, Arc<Contestant>), String> {
    let turns = Turns { slice: (turns.slice / 3).max(Duration::from_millis(1)), ..turns };
    let done = turns.run(ways, async |(_, way), slice| crew.slice(way, slice).await).await?;
    let rates: Vec<f64> = done.iter().map(|slices| median(slices.iter().map(|slice| slice.rate).collect())).collect();
    let title =
        format!("ways to the floor: {} tasks, {} rounds of {} ms", crew.tasks, turns.rounds, turns.slice.as_millis());
    let mut grid = Grid::new("floor", title, vec![Column("a second", 0)]);
    ways.iter().zip(&rates).for_each(|((name, _), rate)| grid.add(name, vec![Some(*rate)]));
    let best = ways.iter().zip(&rates).max_by(|(_, one), (_, other)| one.total_cmp(other));
    let ((_, best), _) = best.ok_or("there is no way to the floor")?;
    Ok((grid, Arc::clone(best)))
}
