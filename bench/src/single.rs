//! What a durable change costs.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use storage_core::{AddBalance, ImportRecord, Money, Result, SharedStorage, UserId};
use storage_json::{JsonOptions, JsonStorage};

use crate::SingleArgs;
use crate::result::{Figures, median};

/// Users go in together, as one change.
const BATCH: usize = 1000;

/// Measures.
pub(crate) async fn measure(arguments: SingleArgs) -> Result<Figures, String> {
    let SingleArgs { users, seconds, rounds, tasks, line, dir } = arguments;
    let scratch = scratch(&dir)?;
    let storage = open(&scratch.path().join("store"), users)
        .await
        .map_err(|error: storage_core::Error| error.report().to_string())?;
    let slice = Duration::from_secs(seconds) / (3 * rounds);
    let (mut bare, mut one, mut many, mut to_bare, mut to_one) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let path = scratch.path().join(format!("bare-{round}"));
        let of_bare = append(&path, line, slice).map_err(|error| format!("the bare loop: {error}"))?;
        let of_one = credits(&storage, 1, users, slice).await?;
        let of_many = credits(&storage, tasks, users, slice).await?;
        to_bare.push(of_one / of_bare);
        to_one.push(of_many / of_one);
        bare.push(of_bare);
        one.push(of_one);
        many.push(of_many);
    }
    storage.close().await.map_err(|error: storage_core::Error| error.report().to_string())?;
    let mut figures = Figures::new(format!(
        "durable add_balance, {users} users, {rounds} rounds of {} ms each, medians",
        slice.as_millis()
    ));
    figures.add("bare append and fdatasync", median(bare), "a second");
    figures.add("one task", median(one), "a second");
    figures.add("many tasks", median(many), "a second");
    figures.add("one task to bare", median(to_bare), "times");
    figures.add("many tasks to one", median(to_one), "times");
    figures.add("tasks", f64::from(tasks), "");
    figures.add_peak_memory();
    Ok(figures)
}

/// A directory on the measured disk that goes away at the end.
pub(crate) fn scratch(dir: &Path) -> Result<tempfile::TempDir, String> {
    tempfile::Builder::new()
        .prefix("storage-bench-")
        .tempdir_in(dir)
        .map_err(|error| format!("no scratch directory in {}: {error}", dir.display()))
}

async fn open(dir: &Path, users: u32) -> Result<SharedStorage> {
    let storage = JsonStorage::open(JsonOptions::new(dir)).await?;
    let balances: Vec<ImportRecord> = (1..=i64::from(users))
        .map(|user| {
            Ok(ImportRecord::Balance { user: UserId::new(user)?, balance: Money::from_units(1)?, created_at: None })
        })
        .collect::<Result<_>>()?;
    let storage: SharedStorage = Arc::new(storage);
    for batch in balances.chunks(BATCH) {
        storage.import_records(batch.to_vec()).await?;
    }
    Ok(storage)
}

/// Appends lines to a new file, each made durable, as long as the slice lasts; answers lines a second.
fn append(path: &Path, line: u32, slice: Duration) -> std::io::Result<f64> {
    let mut text = vec![b'x'; usize::try_from(line).unwrap_or(1).saturating_sub(1)];
    text.push(b'\n');
    let mut file = File::create_new(path)?;
    let (begun, mut lines) = (Instant::now(), 0_u32);
    while begun.elapsed() < slice {
        file.write_all(&text)?;
        file.sync_data()?;
        lines += 1;
    }
    Ok(f64::from(lines) / begun.elapsed().as_secs_f64())
}

/// Credits by so many tasks, each one after the other, as long as the slice lasts; answers credits a second.
async fn credits(storage: &SharedStorage, tasks: u32, users: u32, slice: Duration) -> Result<f64, String> {
    let begun = Instant::now();
    let working: Vec<_> = (0..tasks)
        .map(|task| {
            let storage = Arc::clone(storage);
            tokio::spawn(async move {
                let mut done = 0_u32;
                while begun.elapsed() < slice {
                    // Tasks go through the users in steps of their own, so that they rarely meet.
                    let user = i64::from((task.wrapping_add(done.wrapping_mul(tasks))) % users.max(1)) + 1;
                    storage.add_balance(AddBalance::new(UserId::new(user)?, "0.01".parse()?)).await?;
                    done += 1;
                }
                Result::Ok(done)
            })
        })
        .collect();
    let mut done = 0;
    for task in working {
        let count = task.await.map_err(|error| format!("a task ended badly: {error}"))?;
        done += count.map_err(|error: storage_core::Error| error.report().to_string())?;
    }
    Ok(f64::from(done) / begun.elapsed().as_secs_f64())
}
