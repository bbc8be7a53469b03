//! What a user whose row somebody holds costs everybody else: credits by many tasks, of which some go to that user.
//!
//! Each round has two slices: the row is free in the first and held in the second. The same part of the calls goes to that user in
//! both. No task waits for their answers, so the figure shows what the connections lose.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use pg_test_server::{Options, Server};
use storage_core::{AddBalance, Amount, Applied, Balances as _, ErrorKind, Store as _, UserId};
use storage_pg::{PgOptions, PgStorage, migrate};
use tokio::task::JoinSet;

use crate::draw::Draw;
use crate::result::{Figures, median, told};

const AMOUNT: &str = "0.01";
/// The user whose row is held.
const HELD: i64 = 1;
const WAIT: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct LockedArgs {
    /// Tasks that give credits
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    tasks: u32,
    /// Which part of the calls goes to the locked user, in percent
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..100))]
    percent: u32,
    /// Users that get the others
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    users: u32,
    /// Rounds; each has a slice without the lock and one with it
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of a slice
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..))]
    slice: u64,
    /// Fail when the others come to less than this part of what they do without the lock
    #[arg(long, value_name = "PART")]
    at_least: Option<f64>,
}

/// What one slice came to.
#[derive(Default)]
struct Slice {
    others: f64,
    /// Calls to the one user that were refused in time, and nothing was applied.
    busy: u64,
}

async fn credit(storage: &PgStorage, user: i64, amount: Amount, key: u64) -> Result<(), storage_core::Error> {
    let add = AddBalance::new(UserId::new(user)?, amount).with_key(format!("{key:016x}").parse()?);
    storage.add_balance(add).await.map(drop)
}

async fn slice(storage: &Arc<PgStorage>, arguments: &LockedArgs) -> Result<Slice, String> {
    let LockedArgs { tasks, percent, users, slice, .. } = *arguments;
    let amount: Amount = AMOUNT.parse().map_err(|error: storage_core::Error| told(&error))?;
    let (ended, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let begun = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..tasks {
        let (storage, ended, done) = (Arc::clone(storage), Arc::clone(&ended), Arc::clone(&done));
        running.spawn(async move {
            let (mut draw, mut apart, mut slice) = (Draw::new(), JoinSet::new(), Slice::default());
            while !ended.load(Ordering::Relaxed) {
                let key = draw.number();
                if draw.below(100) < percent {
                    let storage = Arc::clone(&storage);
                    apart.spawn(async move { credit(&storage, HELD, amount, key).await });
                    continue;
                }
                // Never the one.
                let user = draw.user(users) + HELD;
                credit(&storage, user, amount, key).await.map_err(|error| told(&error))?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            while let Some(answer) = apart.join_next().await {
                match answer.map_err(|error| error.to_string())? {
                    Ok(()) => {}
                    Err(error) => match (error.kind(), error.applied()) {
                        (ErrorKind::Busy { .. }, Applied::No) => slice.busy += 1,
                        _ => return Err(told(&error)),
                    },
                }
            }
            Ok::<_, String>(slice)
        });
    }
    tokio::time::sleep(Duration::from_secs(slice)).await;
    let others = f64::from(u32::try_from(done.load(Ordering::Relaxed)).unwrap_or(u32::MAX));
    let mut total = Slice { others: others / begun.elapsed().as_secs_f64(), busy: 0 };
    ended.store(true, Ordering::Relaxed);
    while let Some(answer) = running.join_next().await {
        total.busy += answer.map_err(|error| error.to_string())??.busy;
    }
    Ok(total)
}

/// Measures.
pub(crate) async fn measure(arguments: LockedArgs) -> Result<Figures, String> {
    let server = Server::start(Options { fsync: true, ..Options::default() })?;
    let database = server.create_empty_database()?;
    let options = PgOptions::new(database.url());
    migrate(&options, WAIT).await.map_err(|error| told(error.error()))?;
    let storage = Arc::new(PgStorage::open(options).await.map_err(|error| told(error.error()))?);
    let amount: Amount = AMOUNT.parse().map_err(|error: storage_core::Error| told(&error))?;
    for user in HELD..=i64::from(arguments.users) + HELD {
        credit(&storage, user, amount, 0).await.map_err(|error| told(&error))?;
    }
    let (holder, connection) = tokio_postgres::connect(&database.url(), tokio_postgres::NoTls)
        .await
        .map_err(|error| format!("no connection: {error:?}"))?;
    tokio::spawn(connection);
    let of_holder = |error: tokio_postgres::Error| format!("the one who holds the row: {error:?}");
    let (mut free, mut held, mut ratios, mut busy) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..arguments.rounds {
        let without = slice(&storage, &arguments).await?;
        if without.busy > 0 {
            return Err(format!("{} calls were refused while the row was free", without.busy));
        }
        let lock = format!("BEGIN; SELECT FROM public.users WHERE id = {HELD} FOR UPDATE");
        holder.batch_execute(&lock).await.map_err(of_holder)?;
        let with = slice(&storage, &arguments).await?;
        holder.batch_execute("ROLLBACK").await.map_err(of_holder)?;
        ratios.push(with.others / without.others);
        free.push(without.others);
        held.push(with.others);
        busy += with.busy;
    }
    storage.close().await.map_err(|error| told(&error))?;
    let ratio = median(ratios);
    let LockedArgs { tasks, percent, at_least, .. } = arguments;
    if let Some(at_least) = at_least.filter(|at_least| ratio < *at_least) {
        return Err(format!("the others come to {ratio:.2} of what they do without the lock, less than {at_least}"));
    }
    if busy == 0 {
        return Err("no call was refused, so the row was not held".to_owned());
    }
    let mut figures =
        Figures::new(format!("credits by {tasks} tasks, {percent} % of them to one user whose row somebody holds"));
    figures.add("others, the row free", median(free), "/s");
    figures.add("others, the row held", median(held), "/s");
    figures.add("of that", ratio, "");
    figures.add("refused for the row", f64::from(u32::try_from(busy).unwrap_or(u32::MAX)), "calls");
    Ok(figures)
}
