//! What a migration costs a bot at full speed. One that waits: a session has read a table and stands idle in its transaction, so that the
//! migration cannot have it; behind the migration everybody who needs the table queues up, for as long as it asks. And one that builds an
//! index beside the bot, again and again: what that costs by locks shows beside a session that touches no table and computes, since the
//! machine's cores are shared either way.
//!
//! Each round has four slices: one without a migration, then one beside each of them.

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
    /// Rows of the ledger of which an index is built, in thousands
    #[arg(long, default_value_t = 500, value_name = "THOUSANDS", value_parser = clap::value_parser!(u32).range(1..))]
    rows: u32,
    /// Rounds; each has a slice without a migration, one beside one that waits, one beside an index, one beside a session that computes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of a slice
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..))]
    slice: u64,
    /// Fail when the rate beside a migration that waits comes to less than this part of what it is without one
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

/// This program's versions and one more, which has this text.
fn with(plan: Plan, sql: &str, additions: &[Addition]) -> Result<Plan, String> {
    let version = plan.latest() + 1;
    plan.with(&format!("V{version}__more"), sql, additions).map_err(|error| error.to_string())
}

/// One version more, for which the table of users is needed alone.
fn longer() -> Result<Plan, String> {
    let addition = Addition { version: latest() + 1, table: "users", columns: &["note"], unique: &[] };
    with(Plan::embedded(), "ALTER TABLE users ADD COLUMN note TEXT", &[addition])
}

/// What somebody's connection came to.
fn refused(error: &tokio_postgres::Error) -> String {
    format!("beside the bot: {error:?}")
}

/// Migrations that build an index of the ledger, one after the other, each dropped when it is there; how many. The schema is as it was in
/// the end.
async fn indexes(url: &str, ended: &AtomicBool) -> Result<u32, String> {
    let (mut runner, by_hand) = (client(url).await?, client(url).await?);
    let sql = format!(
        "-- works since: {}\n-- outside of the transaction\nCREATE INDEX CONCURRENTLY operations_by_reason ON operations (reason ASC);",
        latest()
    );
    let (plan, schema) = (with(Plan::embedded(), &sql, &[])?, Schema::default());
    let mut count = 0;
    while !ended.load(Ordering::Relaxed) {
        plan.migrate(&mut runner, &schema, WAIT).await.map_err(|error| format!("{error}: {error:?}"))?;
        by_hand
            .batch_execute("DROP INDEX CONCURRENTLY public.operations_by_reason")
            .await
            .map_err(|error| refused(&error))?;
        let undo = format!("DELETE FROM public.{} WHERE version > {}", migrations::HISTORY_TABLE, latest());
        by_hand.batch_execute(&undo).await.map_err(|error| refused(&error))?;
        count += 1;
    }
    Ok(count)
}

/// A session that touches no table and takes a core.
async fn computes(url: &str, ended: &AtomicBool) -> Result<u32, String> {
    let client = client(url).await?;
    while !ended.load(Ordering::Relaxed) {
        let sql = "SELECT count(md5(n::text)) FROM generate_series(1, 100000) AS n";
        client.batch_execute(sql).await.map_err(|error| refused(&error))?;
    }
    Ok(0)
}

/// A slice, and what goes on beside it until that has ended.
async fn slice_beside<F: Future<Output = Result<u32, String>>>(
    storage: &Arc<PgStorage>,
    arguments: &MigratingArgs,
    ended: &AtomicBool,
    beside: F,
) -> Result<((f64, f64), u32), String> {
    let measuring = async {
        let measured = slice(storage, arguments).await;
        ended.store(true, Ordering::Relaxed);
        measured
    };
    let (measured, count) = tokio::join!(measuring, beside);
    Ok((measured?, count?))
}

/// Measures.
pub(crate) async fn measure(arguments: MigratingArgs) -> Result<Figures, String> {
    let server = Server::start(Options { fsync: true, ..Options::default() })?;
    let database = server.create_empty_database()?;
    let options = PgOptions::new(database.url());
    storage_pg::migrate(&options, WAIT).await.map_err(|error| told(error.error()))?;
    let storage = Arc::new(PgStorage::open(options).await.map_err(|error| told(error.error()))?);
    let (plan, schema, holder) = (longer()?, Schema::default(), client(&database.url()).await?);
    // Whoever comes first makes the users.
    slice(&storage, &arguments).await?;
    let fill = format!(
        "INSERT INTO public.operations SELECT filled.*
         FROM (SELECT * FROM public.operations LIMIT 1) AS one, generate_series(1, {}) AS n, jsonb_populate_record(
            NULL::public.operations,
            to_jsonb(one) || jsonb_build_object('seq', 1000000 + n, 'reason', md5(n::text))) AS filled",
        u64::from(arguments.rows) * 1000
    );
    holder.batch_execute(&fill).await.map_err(|error| refused(&error))?;
    holder.batch_execute("VACUUM ANALYZE public.operations").await.map_err(|error| refused(&error))?;
    let mut free = Vec::new();
    let mut waiting = Beside::default();
    let (mut building, mut computing) = (Beside::default(), Beside::default());
    let mut built = 0;
    for _ in 0..arguments.rounds {
        let (without, _) = slice(&storage, &arguments).await?;
        free.push(without);

        holder.batch_execute("BEGIN; SELECT FROM public.users LIMIT 1").await.map_err(|error| refused(&error))?;
        let mut runner = client(&database.url()).await?;
        let wait = Duration::from_secs(arguments.slice);
        let migrating = async { plan.migrate(&mut runner, &schema, wait).await };
        let (measured, migrated) = tokio::join!(slice(&storage, &arguments), migrating);
        holder.batch_execute("ROLLBACK").await.map_err(|error| refused(&error))?;
        if !matches!(migrated, Err(migrations::Error::Busy { source: Some(_), .. })) {
            return Err(format!("the migration did not wait for the table: {migrated:?}"));
        }
        waiting.add(measured?, without);

        let (url, ended) = (database.url(), AtomicBool::new(false));
        let (measured, count) = slice_beside(&storage, &arguments, &ended, indexes(&url, &ended)).await?;
        building.add(measured, without);
        built += count;

        let ended = AtomicBool::new(false);
        let (measured, _) = slice_beside(&storage, &arguments, &ended, computes(&url, &ended)).await?;
        computing.add(measured, without);
    }
    storage.close().await.map_err(|error| told(&error))?;
    let MigratingArgs { tasks, at_least, .. } = arguments;
    let mut figures = Figures::new(format!("credits by {tasks} tasks beside a migration"));
    figures.add("without one", median(free), "/s");
    let least = waiting.told(&mut figures, "beside one that waits for a table");
    building.told(&mut figures, "beside one that builds an index");
    figures.add("indexes built", f64::from(built), "");
    computing.told(&mut figures, "beside a session that computes");
    if let Some(at_least) = at_least.filter(|at_least| least < *at_least) {
        return Err(format!(
            "credits come to {least:.2} of what they are without a migration that waits, less than {at_least}"
        ));
    }
    Ok(figures)
}

/// What was measured beside one kind of migration.
#[derive(Default)]
struct Beside {
    rates: Vec<f64>,
    ratios: Vec<f64>,
    longest: Vec<f64>,
}

impl Beside {
    fn add(&mut self, (rate, longest): (f64, f64), without: f64) {
        self.rates.push(rate);
        self.ratios.push(rate / without);
        self.longest.push(longest);
    }

    /// Answers the ratio.
    fn told(self, figures: &mut Figures, which: &'static str) -> f64 {
        let ratio = median(self.ratios);
        figures.add(which, median(self.rates), "/s");
        figures.add("of that", ratio, "");
        figures.add("longest call", median(self.longest), "ms");
        ratio
    }
}
