//! A balance read by one task: shared, so that each answer covers what other processes had made durable, and exclusively.

use std::path::Path;
use std::sync::Arc;

use storage_json::Access;

use super::contest::{Lane, Turns};
use super::contestant::{Contestant, Kind};
use super::gather::Batch;
use super::op::Work;
use super::slice::Crew;
use super::store::{Filling, Json, fill};
use crate::result::Grid;

pub(super) async fn measure(dir: &Path, users: u32, turns: Turns) -> Result<Vec<Grid>, String> {
    let store = dir.join("balances");
    fill(&store, Filling { users, ..Filling::default() }).await?;
    let redb = Arc::new(Contestant::open(Kind::Redb(Batch::Gathered), dir, users).await?);
    let sqlite = Arc::new(Contestant::open(Kind::Sqlite(Batch::Gathered), dir, users).await?);
    let fjall = Arc::new(Contestant::open(Kind::Fjall, dir, users).await?);
    let crew = Crew { work: Work::Balance, tasks: 1, users };
    let mut grids = Vec::new();
    for (name, access, target) in
        [("get_balance, shared", Access::Shared, 1.2), ("get_balance, exclusive", Access::Exclusive, 2.0)]
    {
        let ours = Arc::new(Contestant::of_store(Json::open(&store, access).await?, users));
        let lanes = [
            Lane { contestant: Arc::clone(&ours), target: None },
            Lane { contestant: Arc::clone(&redb), target: Some(target) },
            Lane { contestant: Arc::clone(&sqlite), target: None },
            Lane { contestant: Arc::clone(&fjall), target: None },
        ];
        grids.push(turns.contest(name, crew, &lanes).await?);
        ours.close().await?;
    }
    Ok(grids)
}
