//! What a migration that waits costs a bot at full speed: a session has read a table and stands idle in its transaction, so that the
//! migration cannot have it; behind the migration everybody who needs the table queues up, for as long as it asks.
//!
//! Each round has two slices: one without the migration, then one beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use migrations::{Addition, Plan, Schema, latest};
use pg_test_server::{Options, Server};
use storage_core::{AddBalance, Balances as _, Store as _, UserId};
use storage_pg::{PgOptions, PgStorage};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

use crate::draw::Draw;
use crate::result::{Figures, median, told};

const WAIT: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct MigratingArgs {
    /// Tasks that give credits
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    tasks: u32,
    /// Users that get them
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    users: u32,
    /// Rounds; each has a slice without the migration and one with it
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of a slice
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..))]
    slice: u64,
    /// Fail when the rate comes to less than this part of what it is without the migration
    #[arg(long, value_name = "PART")]
    at_least: Option<f64>,
}

async fn client(url: &str) -> Result<Client, String> {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.map_err(|error| format!("no connection: {error:?}"))?;
    tokio::spawn(connection);
    Ok(client)
}

/// Credits a second, and the longest call in milliseconds.
async fn slice(storage: &Arc<PgStorage>, arguments: &MigratingArgs) -> Result<(f64, f64), String> {
    let MigratingArgs { tasks, users, slice, .. } = *arguments;
    let (ended, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let begun = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..tasks {
        let (storage, ended, done) = (Arc::clone(storage), Arc::clone(&ended), Arc::clone(&done));
        running.spawn(async move {
            let (mut draw, mut longest) = (Draw::new(), Duration::ZERO);
            while !ended.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let add = AddBalance::new(UserId::new(draw.user(users))?, "0.01".parse()?);
                storage.add_balance(add.with_key(format!("{:016x}", draw.number()).parse()?)).await?;
                longest = longest.max(begun.elapsed());
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, storage_core::Error>(longest)
        });
    }
    tokio::time::sleep(Duration::from_secs(slice)).await;
    let count = f64::from(u32::try_from(done.load(Ordering::Relaxed)).unwrap_or(u32::MAX));
    let rate = count / begun.elapsed().as_secs_f64();
    ended.store(true, Ordering::Relaxed);
    let mut longest = Duration::ZERO;
    while let Some(answer) = running.join_next().await {
        longest = longest.max(answer.map_err(|error| error.to_string())?.map_err(|error| told(&error))?);
    }
    Ok((rate, longest.as_secs_f64() * 1000.0))
}

/// One version more, for which the table of users is needed alone.
fn longer() -> Result<Plan, String> {
    let version = latest() + 1;
    let addition = Addition { version, table: "users", columns: &["note"], unique: &[] };
    Plan::embedded()
        .with(&format!("V{version}__note"), "ALTER TABLE users ADD COLUMN note TEXT", &[addition])
        .map_err(|error| error.to_string())
}

/// Measures.
pub(crate) async fn measure(arguments: MigratingArgs) -> Result<Figures, String> {
    let server = Server::start(Options { fsync: true, ..Options::default() })?;
    let database = server.create_empty_database()?;
    let options = PgOptions::new(database.url());
    storage_pg::migrate(&options, WAIT).await.map_err(|error| told(error.error()))?;
    let storage = Arc::new(PgStorage::open(options).await.map_err(|error| told(error.error()))?);
    let (plan, schema, holder) = (longer()?, Schema::default(), client(&database.url()).await?);
    let of_holder = |error: tokio_postgres::Error| format!("the one who has read the table: {error:?}");
    // Whoever comes first makes the users.
    slice(&storage, &arguments).await?;
    let (mut free, mut beside, mut ratios, mut longest) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..arguments.rounds {
        let (without, _) = slice(&storage, &arguments).await?;
        holder.batch_execute("BEGIN; SELECT FROM public.users LIMIT 1").await.map_err(of_holder)?;
        let mut runner = client(&database.url()).await?;
        let wait = Duration::from_secs(arguments.slice);
        let migrating = async { plan.migrate(&mut runner, &schema, wait).await };
        let (with, migrated) = tokio::join!(slice(&storage, &arguments), migrating);
        holder.batch_execute("ROLLBACK").await.map_err(of_holder)?;
        if !matches!(migrated, Err(migrations::Error::Busy { source: Some(_), .. })) {
            return Err(format!("the migration did not wait for the table: {migrated:?}"));
        }
        let (with, wait) = with?;
        ratios.push(with / without);
        free.push(without);
        beside.push(with);
        longest.push(wait);
    }
    storage.close().await.map_err(|error| told(&error))?;
    let ratio = median(ratios);
    let MigratingArgs { tasks, at_least, .. } = arguments;
    if let Some(at_least) = at_least.filter(|at_least| ratio < *at_least) {
        return Err(format!(
            "credits come to {ratio:.2} of what they are without a migration that waits, less than {at_least}"
        ));
    }
    let mut figures = Figures::new(format!("credits by {tasks} tasks beside a migration that waits for a table"));
    figures.add("without it", median(free), "/s");
    figures.add("beside it", median(beside), "/s");
    figures.add("of that", ratio, "");
    figures.add("longest call beside it", median(longest), "ms");
    Ok(figures)
}
