//! One contestant at work for a slice of time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::contestant::Contestant;
use super::op::{Op, Source, Work};
use crate::cpu::Cpu;

/// Approvals a second that no contestant exceeds.
const APPROVALS: u64 = 25_000;
/// How many reads stand between two looks at the clock, which would cost more than the read.
const READS: u32 = 64;

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Slice {
    pub(super) rate: f64,
    /// Microseconds of each call; none for reads alone.
    pub(super) latencies: Vec<u32>,
    /// Microseconds of processor time for each call.
    pub(super) cpu: f64,
}

/// Who works, with how many tasks, on what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crew {
    pub(super) work: Work,
    pub(super) tasks: u32,
    pub(super) users: u32,
}

impl Crew {
    /// Lets the tasks work, each one operation after the other, as long as the slice lasts.
    pub(super) async fn slice(self, contestant: &Arc<Contestant>, slice: Duration) -> Result<Slice, String> {
        if self.work == Work::Mix {
            let wanted = slice.as_millis() * u128::from(APPROVALS) / 1000;
            contestant.top_up(u64::try_from(wanted).unwrap_or(u64::MAX) + u64::from(self.tasks)).await?;
        }
        let (cpu, begun) = (Cpu::now(None), Instant::now());
        let done = self.until(contestant, move || begun.elapsed() < slice).await?;
        let elapsed = begun.elapsed().as_secs_f64();
        let (cpu, _) = Cpu::now(None).since(cpu);
        let count = f64::from(u32::try_from(done.count).unwrap_or(u32::MAX));
        Ok(Slice { rate: count / elapsed, latencies: done.latencies, cpu: cpu / count })
    }

    /// Lets the tasks work until told to stop.
    pub(super) async fn until(
        self,
        contestant: &Arc<Contestant>,
        go_on: impl Fn() -> bool + Clone + Send + 'static,
    ) -> Result<Done, String> {
        let working: Vec<_> = (0..self.tasks)
            .map(|_| {
                let (contestant, go_on) = (Arc::clone(contestant), go_on.clone());
                tokio::spawn(async move {
                    if self.work == Work::Balance {
                        reads(&contestant, self.users, go_on).await
                    } else {
                        calls(&contestant, Source::new(self.work, self.users), go_on).await
                    }
                })
            })
            .collect();
        let mut all = Done::default();
        let mut failed = None;
        for task in working {
            match task.await.map_err(|error| format!("a task ended badly: {error}")).flatten() {
                Ok(mut done) => {
                    all.count += done.count;
                    all.latencies.append(&mut done.latencies);
                }
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(all), |error| Err(format!("{}: {error}", contestant.kind.name())))
    }
}

/// What tasks did.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) count: u64,
    pub(super) latencies: Vec<u32>,
}

async fn calls(contestant: &Contestant, mut source: Source, go_on: impl Fn() -> bool) -> Result<Done, String> {
    let mut latencies = Vec::with_capacity(16 * 1024);
    let mut at = Instant::now();
    // Once at least, however short the slice; a slice that used all payments up is over early.
    while let Some(op) = source.next(&contestant.pending) {
        let added = if let Op::AddJob { job, .. } = &op { Some(job.clone()) } else { None };
        contestant.run(op).await?;
        if let Some(job) = added {
            source.added(job);
        }
        let now = Instant::now();
        latencies.push(u32::try_from((now - at).as_micros()).unwrap_or(u32::MAX));
        at = now;
        if !go_on() {
            break;
        }
    }
    Ok(Done { count: latencies.len() as u64, latencies })
}

async fn reads(contestant: &Contestant, users: u32, go_on: impl Fn() -> bool) -> Result<Done, String> {
    let (mut source, mut count) = (Source::new(Work::Balance, users), 0);
    loop {
        for _ in 0..READS {
            let Some(op) = source.next(&contestant.pending) else { break };
            contestant.run(op).await?;
        }
        count += u64::from(READS);
        if !go_on() {
            break;
        }
    }
    Ok(Done { count, latencies: Vec::new() })
}
