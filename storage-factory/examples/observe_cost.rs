//! What telling costs: durable credits and reads on one JSON store, plain and observed in turns, with a subscriber that
//! takes every span and a recorder that takes every metric; with the word `nobody` instead, when nobody listens, which is
//! the floor of any decorator. Prints the median of the rounds' ratios.
//!
//! `cargo run --release -p storage-factory --features tracing,metrics --example observe_cost [DIR [nobody]]`
#![expect(clippy::print_stdout, clippy::float_arithmetic, reason = "a measurement prints rates")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use metrics_util::debugging::DebuggingRecorder;
use storage_core::{AddBalance, Error, Result, SharedStorage, UserId};
use storage_factory::observed;
use storage_json::{JsonOptions, JsonStorage};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Takes every span and throws it away.
#[derive(Default)]
struct Taker(AtomicU64);

impl Subscriber for Taker {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1 + self.0.fetch_add(1, Ordering::Relaxed))
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

const ROUNDS: usize = 15;
const SLICE: Duration = Duration::from_millis(400);

#[derive(Clone, Copy)]
enum Work {
    Credit,
    Balance,
}

/// Calls a second by so many tasks.
async fn rate(storage: &SharedStorage, work: Work, tasks: i64) -> Result<f64> {
    let until = Instant::now() + SLICE;
    let mut running = tokio::task::JoinSet::new();
    for task in 1..=tasks {
        let storage = Arc::clone(storage);
        running.spawn(async move {
            let user = UserId::new(task)?;
            let mut calls = 0_u32;
            while Instant::now() < until {
                match work {
                    Work::Credit => drop(storage.add_balance(AddBalance::new(user, "0.01".parse()?)).await?),
                    Work::Balance => drop(storage.get_balance(user).await?),
                }
                calls += 1;
            }
            Ok::<u32, Error>(calls)
        });
    }
    let mut calls = 0.0;
    while let Some(done) = running.join_next().await {
        calls += f64::from(done.map_err(|error| Error::internal("a task failed").caused_by(error))??);
    }
    Ok(calls / SLICE.as_secs_f64())
}

#[tokio::main]
async fn main() -> Result<()> {
    let dir = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let scratch = tempfile::tempdir_in(dir).map_err(|error| Error::internal("no directory").caused_by(error))?;
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    if std::env::args().nth(2).as_deref() != Some("nobody") {
        tracing::subscriber::set_global_default(Taker::default())
            .map_err(|error| Error::internal(error.to_string()))?;
        recorder.install().map_err(|error| Error::internal(error.to_string()))?;
    }
    let plain: SharedStorage = Arc::new(JsonStorage::open(JsonOptions::new(scratch.path().join("data"))).await?);
    let told = observed(Arc::clone(&plain));
    for (name, work, tasks) in [
        ("credit, 1 task", Work::Credit, 1),
        ("credit, 64 tasks", Work::Credit, 64),
        ("get_balance, 1 task", Work::Balance, 1),
    ] {
        let mut ratios = Vec::new();
        for round in 0..ROUNDS {
            // Who comes first changes from round to round.
            let (first, second) = if round % 2 == 0 { (&plain, &told) } else { (&told, &plain) };
            let (one, other) = (rate(first, work, tasks).await?, rate(second, work, tasks).await?);
            ratios.push(if round % 2 == 0 { other / one } else { one / other });
            // The recorder keeps every value until it is asked.
            drop(snapshotter.snapshot());
        }
        ratios.sort_by(f64::total_cmp);
        println!("{name}: observed / plain {:.3} ({:.3} to {:.3})", ratios[ROUNDS / 2], ratios[1], ratios[ROUNDS - 2]);
    }
    plain.close().await
}
