//! Contestants in turns: each round goes through all of them, and the next round begins with another one. What counts are
//! the medians of the rounds' ratios.

use std::sync::Arc;
use std::time::Duration;

use super::contestant::Contestant;
use super::slice::{Crew, Slice};
use crate::result::{Column, Grid, median};

/// Who takes part, and how many times its rate ours should be.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) contestant: Arc<Contestant>,
    pub(super) target: Option<f64>,
}

/// How long, and how often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turns {
    pub(super) rounds: u32,
    pub(super) slice: Duration,
}

impl Turns {
    /// Rounds in which every contestant has its turn. The first one is what the others are compared with.
    pub(super) async fn run<C, R>(
        self,
        contestants: &[C],
        turn: impl AsyncFn(&C, Duration) -> Result<R, String>,
    ) -> Result<Vec<Vec<R>>, String> {
        let count = contestants.len();
        let mut done: Vec<Vec<R>> = contestants.iter().map(|_| Vec::new()).collect();
        for round in 0..usize::try_from(self.rounds).unwrap_or(1) {
            for at in (0..count).map(|turn| (turn + round) % count) {
                done[at].push(turn(&contestants[at], self.slice).await?);
            }
        }
        Ok(done)
    }

    /// Rounds of one work, as a table.
    pub(super) async fn contest(self, name: &'static str, crew: Crew, lanes: &[Lane]) -> Result<Grid, String> {
        let done = self.run(lanes, async |lane, slice| crew.slice(&lane.contestant, slice).await).await?;
        let Crew { tasks, users, .. } = crew;
        let of_tasks = if tasks == 1 { "1 task".to_owned() } else { format!("{tasks} tasks") };
        let mut grid = Grid::new(
            name,
            format!(
                "{name}: {users} users, {of_tasks}, {} rounds of {} ms, medians",
                self.rounds,
                self.slice.as_millis()
            ),
            columns(),
        );
        grid.say("tasks", tasks);
        grid.say("users", users);
        grid.say("rounds", self.rounds);
        grid.say("seconds", self.slice.as_secs_f64());
        let ours: Vec<f64> = done.first().into_iter().flatten().map(|slice| slice.rate).collect();
        for (at, (lane, slices)) in lanes.iter().zip(&done).enumerate() {
            let ratios = (at > 0).then(|| ours.iter().zip(slices).map(|(ours, peer)| ours / peer.rate).collect());
            grid.add(lane.contestant.kind.name(), row(slices, ratios, lane.target));
        }
        Ok(grid)
    }
}

/// The columns of [`row`].
pub(super) fn columns() -> Vec<Column> {
    vec![
        Column("a second", 0),
        Column("ours to it", 2),
        Column("least", 2),
        Column("most", 2),
        Column("target", 2),
        Column("p50 us", 0),
        Column("p99 us", 0),
        Column("max us", 0),
        Column("cpu us", 1),
    ]
}

/// A contestant's figures: rate, ratios, latencies, processor time.
pub(super) fn row(slices: &[Slice], ratios: Option<Vec<f64>>, target: Option<f64>) -> Vec<Option<f64>> {
    let mut latencies: Vec<u32> = slices.iter().flat_map(|slice| &slice.latencies).copied().collect();
    latencies.sort_unstable();
    let least = ratios.as_ref().and_then(|ratios| ratios.iter().copied().reduce(f64::min));
    let most = ratios.as_ref().and_then(|ratios| ratios.iter().copied().reduce(f64::max));
    vec![
        Some(median(slices.iter().map(|slice| slice.rate).collect())),
        ratios.map(median),
        least,
        most,
        target,
        percentile(&latencies, 500),
        percentile(&latencies, 990),
        latencies.last().map(|micros| f64::from(*micros)),
        Some(median(slices.iter().map(|slice| slice.cpu).collect())),
    ]
}

/// What so many thousandths of the sorted values stay below.
pub(super) fn percentile(sorted: &[u32], thousandths: usize) -> Option<f64> {
    sorted.get(sorted.len() * thousandths / 1000).map(|micros| f64::from(*micros))
}
