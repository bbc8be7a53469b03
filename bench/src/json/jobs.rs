//! The newest jobs of a user among very many, beside SQLite with its best index for that.

use std::path::Path;
use std::time::{Duration, Instant};

use storage_core::{ListJobs, PageRequest, PageSize, UserId};
use storage_json::Access;

use super::contest::{Turns, columns, row};
use super::gather::Batch;
use super::op::seen;
use super::slice::Slice;
use super::sqlite::Sqlite;
use super::store::{Filling, Json, fill, numbered_jobs, of_store};
use crate::draw::Draw;
use crate::result::Grid;

const NEWEST: u32 = 20;
/// Jobs of each user.
const EACH: u32 = 50;

#[derive(Debug)]
enum Lister {
    Json(Json),
    Sqlite(Sqlite),
}

impl Lister {
    async fn list(&self, user: i64) -> Result<usize, String> {
        match self {
            Self::Json(store) => {
                let list = async {
                    let page = PageRequest::first(PageSize::new(NEWEST)?);
                    store
                        .storage()
                        .list_jobs(ListJobs { user: Some(UserId::new(user)?), statuses: Vec::new(), page })
                        .await
                };
                let page = list.await.map_err(of_store)?;
                let count = page.items.len();
                seen(page);
                Ok(count)
            }
            Self::Sqlite(sqlite) => {
                let jobs = sqlite.newest_jobs(user, NEWEST)?;
                let count = jobs.len();
                seen(jobs);
                Ok(count)
            }
        }
    }

    async fn slice(&self, owners: u32, slice: Duration) -> Result<Slice, String> {
        let (begun, mut draw, mut latencies) = (Instant::now(), Draw::new(), Vec::new());
        let mut at = begun;
        while at == begun || at - begun < slice {
            let count = self.list(draw.user(owners)).await?;
            if count == 0 {
                return Err("a user's jobs are missing".to_owned());
            }
            let now = Instant::now();
            latencies.push(u32::try_from((now - at).as_nanos()).unwrap_or(u32::MAX));
            at = now;
        }
        let count = f64::from(u32::try_from(latencies.len()).unwrap_or(u32::MAX));
        Ok(Slice { rate: count / begun.elapsed().as_secs_f64(), latencies, cpu: 0.0 })
    }
}

pub(super) async fn measure(dir: &Path, jobs: u32, turns: Turns) -> Result<Grid, String> {
    let owners = (jobs / EACH).max(1);
    let store = dir.join("jobs");
    fill(&store, Filling { jobs, owners, ..Filling::default() }).await?;
    let sqlite = Sqlite::open(&dir.join("jobs.sqlite"), Batch::Gathered, 0)?;
    sqlite.add_jobs(numbered_jobs(jobs, owners))?;
    let listers = [Lister::Json(Json::open(&store, Access::Shared).await?), Lister::Sqlite(sqlite)];
    let done = turns.run(&listers, async |lister, slice| lister.slice(owners, slice).await).await?;
    let [Lister::Json(ours), _] = &listers else { return Err("the order of the contestants".to_owned()) };
    ours.close().await?;
    let title = format!(
        "newest {NEWEST} jobs of a user among {jobs} jobs, 1 task, {} rounds of {} ms, medians; latencies in ns",
        turns.rounds,
        turns.slice.as_millis()
    );
    let mut grid = Grid::new("newest jobs", title, columns().into_iter().take(8).collect());
    let ratios = done[0].iter().zip(&done[1]).map(|(ours, peer)| ours.rate / peer.rate).collect();
    grid.add("storage-json", row(&done[0], None, None));
    grid.add("SQLite, index", row(&done[1], Some(ratios), Some(4.0)));
    Ok(grid)
}
