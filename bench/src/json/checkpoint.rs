//! Credits while a checkpoint happens, beside the floor while a background thread writes as many bytes.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use storage_json::Access;

use super::contest::{Turns, percentile};
use super::contestant::{Contestant, Kind};
use super::floor::Disk;
use super::gather::By;
use super::op::Work;
use super::slice::{Crew, Done};
use super::store::{Filling, Json, fill};
use crate::result::{Column, Grid, median};

const TASKS: u32 = 64;
/// How long a checkpoint is waited for, at most.
const PATIENCE: Duration = Duration::from_mins(2);
/// How often it is looked whether one happened.
const LOOK: Duration = Duration::from_millis(20);
/// How much the background thread writes at a time, as a checkpoint does that gives its files out whole.
const CHUNK: usize = 1024 * 1024;

/// What one turn was like.
#[derive(Debug)]
struct Turn {
    rate: f64,
    p50: f64,
    p99: f64,
    longest: f64,
    written: u64,
}

impl Turn {
    fn new(mut done: Done, elapsed: Duration, written: u64) -> Self {
        done.latencies.sort_unstable();
        let at = |thousandths| percentile(&done.latencies, thousandths).unwrap_or(0.0) / 1000.0;
        let longest = done.latencies.last().map_or(0.0, |micros| f64::from(*micros) / 1000.0);
        let count = f64::from(u32::try_from(done.count).unwrap_or(u32::MAX));
        Self { rate: count / elapsed.as_secs_f64(), p50: at(500), p99: at(990), longest, written }
    }
}

pub(super) async fn measure(
    dir: &Path,
    users: u32,
    checkpoint_bytes: Option<u64>,
    turns: Turns,
) -> Result<Grid, String> {
    let store = dir.join("checkpoint");
    fill(&store, Filling { users, ..Filling::default() }).await?;
    let ours = Json::open_with(&store, Access::Shared, checkpoint_bytes).await?;
    let ours = Arc::new(Contestant::of_store(ours, users));
    let floor = Arc::new(Contestant::open(Kind::Floor(By::Swap, Disk::Sync), dir, users).await?);
    let crew = Crew { work: Work::Credit, tasks: TASKS, users };
    let (mut of_ours, mut of_floor, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..turns.rounds {
        let with = during_checkpoint(&ours, crew, &store, turns.slice).await?;
        // Alike in length and bytes, so in this order.
        let beside = beside_writer(&floor, crew, dir, turns.slice, with.written).await?;
        ratios.push(with.longest / beside.longest);
        of_ours.push(with);
        of_floor.push(beside);
    }
    ours.close().await?;
    let title = format!(
        "credits during a checkpoint: {users} users, {TASKS} tasks, {} rounds, medians; the longest wait is to be at most \
         3 times the floor's beside a writer of the same bytes, p99 at most 50 ms",
        turns.rounds
    );
    let columns = vec![
        Column("a second", 0),
        Column("p50 ms", 2),
        Column("p99 ms", 2),
        Column("max ms", 1),
        Column("max to floor", 2),
        Column("MiB written", 1),
    ];
    let mut grid = Grid::new("checkpoint", title, columns);
    for (name, turns, ratios) in [("storage-json", of_ours, Some(ratios)), ("floor beside writer", of_floor, None)] {
        let of = |figure: fn(&Turn) -> f64| Some(median(turns.iter().map(figure).collect()));
        grid.add(
            name,
            vec![
                of(|turn| turn.rate),
                of(|turn| turn.p50),
                of(|turn| turn.p99),
                of(|turn| turn.longest),
                ratios.map(median),
                of(|turn| mib(turn.written)),
            ],
        );
    }
    Ok(grid)
}

fn mib(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes / 1024).unwrap_or(u32::MAX)) / 1024.0
}

/// Works at least as long as the slice and until a checkpoint has gone by.
async fn during_checkpoint(
    contestant: &Arc<Contestant>,
    crew: Crew,
    store: &Path,
    slice: Duration,
) -> Result<Turn, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", store.display());
    let (go_on, begun) = (Arc::new(AtomicBool::new(true)), Instant::now());
    let first = generation(store).map_err(failed)?;
    let looking = {
        let (go_on, store) = (Arc::clone(&go_on), store.to_owned());
        tokio::spawn(async move {
            while begun.elapsed() < slice || (generation(&store).ok() == Some(first) && begun.elapsed() < PATIENCE) {
                tokio::time::sleep(LOOK).await;
            }
            // What waits behind the checkpoint is answered before the tasks are told.
            tokio::time::sleep(LOOK).await;
            go_on.store(false, Ordering::Release);
        })
    };
    let done = crew.until(contestant, move || go_on.load(Ordering::Acquire)).await?;
    let elapsed = begun.elapsed();
    looking.await.map_err(|error| format!("a task ended badly: {error}"))?;
    if generation(store).map_err(failed)? == first {
        return Err("no checkpoint happened".to_owned());
    }
    Ok(Turn::new(done, elapsed, written(store).map_err(failed)?))
}

/// The newest journal's number: another one after each checkpoint.
fn generation(store: &Path) -> std::io::Result<Option<u64>> {
    let number = |name: &str| name.strip_prefix("journal-")?.strip_suffix(".jsonl")?.parse().ok();
    let names = fs::read_dir(store)?.flatten().map(|entry| entry.file_name());
    Ok(names.filter_map(|name| name.to_str().and_then(number)).max())
}

/// How many bytes the last checkpoint wrote: the files that credits change, and their copies.
fn written(store: &Path) -> std::io::Result<u64> {
    let newest = |path: PathBuf| fs::metadata(path).map(|meta| (meta.modified().ok(), meta.len()));
    let (manifest, _) = newest(store.join("manifest.json"))?;
    let mut bytes = 0;
    for dir in [store.to_owned(), store.join(".checkpoint")] {
        for entry in fs::read_dir(dir)?.flatten() {
            let path = entry.path();
            let is_data = path.extension().is_some_and(|extension| extension == "json");
            if let (true, Ok((modified, length))) = (is_data, newest(path)) {
                // Written within the last seconds before the manifest: by this checkpoint and not by an earlier one.
                let age = manifest.zip(modified).and_then(|(manifest, file)| manifest.duration_since(file).ok());
                bytes += if age.is_some_and(|age| age < Duration::from_secs(10)) { length } else { 0 };
            }
        }
    }
    Ok(bytes)
}

/// The floor, while a thread writes so many bytes into a file beside it and syncs it.
async fn beside_writer(
    floor: &Arc<Contestant>,
    crew: Crew,
    dir: &Path,
    slice: Duration,
    bytes: u64,
) -> Result<Turn, String> {
    let (path, busy) = (dir.join("background"), Arc::new(AtomicBool::new(true)));
    let writing = {
        let (busy, path) = (Arc::clone(&busy), path.clone());
        std::thread::spawn(move || {
            std::thread::sleep(slice / 4);
            let written = write(&path, bytes);
            busy.store(false, Ordering::Release);
            written
        })
    };
    let begun = Instant::now();
    let done = crew.until(floor, move || begun.elapsed() < slice || busy.load(Ordering::Acquire)).await?;
    let elapsed = begun.elapsed();
    let outcome = writing.join().map_err(|_| "the background writer panicked")?;
    outcome.map_err(|error| format!("the background writer: {error}"))?;
    Ok(Turn::new(done, elapsed, bytes))
}

#[expect(clippy::disallowed_methods, reason = "a scratch file, no data directory")]
fn write(path: &Path, bytes: u64) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    let chunk = vec![b'x'; CHUNK];
    let mut left = usize::try_from(bytes).unwrap_or(0);
    while left > 0 {
        let some = left.min(CHUNK);
        file.write_all(&chunk[..some])?;
        left -= some;
    }
    file.sync_all()?;
    fs::remove_file(path)
}
