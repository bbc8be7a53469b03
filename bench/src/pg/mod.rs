//! storage-pg beside `pgbench` and beside other clients, on one server and with the very same statements.
//!
//! Every contestant gets as many slices of time, in turns: each round goes through all of them, and the next round
//! begins with another one. What counts are the medians of the rounds' ratios to `pgbench`.

mod clients;
mod ground;
mod pgbench;
mod scripts;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde_json::json;

use self::clients::Client;
use self::ground::Ground;
use self::scripts::Statements;
use crate::cpu::Cpu;
use crate::draw::Draw;
use crate::result::{Column, Grid, Report, median};

/// What is credited each time.
const AMOUNT: &str = "0.01";

#[derive(Debug, Args)]
pub(crate) struct PgArgs {
    /// Users that the store holds
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    users: u32,
    /// Seconds for everything, divided into slices of whole seconds, one at least
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Rounds; each gives every contestant a slice for each operation
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Connections of each contestant
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Tasks that share the connections; without it as many as there are connections. pgbench has as many clients as
    /// tasks, and never more than connections
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    tasks: Option<u32>,
    /// An empty database whose schema `public` may be filled, on a server with a high `track_activity_query_size`;
    /// without it a server with fsync is started and thrown away, its files in $TMPDIR
    #[arg(long)]
    url: Option<String>,
    /// Only these beside pgbench
    #[arg(long, value_delimiter = ',')]
    only: Vec<Contestant>,
    /// Only these operations
    #[arg(long, value_delimiter = ',')]
    operations: Vec<Operation>,
    /// The program pgbench; without it the one of $PATH
    #[arg(long, default_value = "pgbench")]
    pgbench: PathBuf,
    /// Write the scripts of pgbench anew, from what storage-pg sends, and measure nothing
    #[arg(long)]
    write_scripts: bool,
}

/// Who does the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Contestant {
    /// `pgbench -M prepared`, which the others are compared with
    Pgbench,
    /// storage-pg as it comes: unnamed statements
    Unnamed,
    /// storage-pg with prepared statements
    Prepared,
    /// sqlx with its cache of statements, and without its test of each connection
    Sqlx,
    /// sqlx as it comes: it tests each connection before use, one more round trip
    SqlxTested,
    /// deadpool-postgres with `prepare_cached`
    Deadpool,
}

impl Contestant {
    fn name(self) -> &'static str {
        match self {
            Self::Pgbench => "pgbench -M prepared",
            Self::Unnamed => "storage-pg",
            Self::Prepared => "storage-pg prepared",
            Self::Sqlx => "sqlx untested",
            Self::SqlxTested => "sqlx",
            Self::Deadpool => "deadpool-postgres",
        }
    }
}

/// The job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Operation {
    /// A random user's balance
    GetBalance,
    /// A credit to a random user with a fresh key, its ledger row included
    AddBalance,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::GetBalance => "get_balance",
            Self::AddBalance => "add_balance",
        }
    }
}

/// What one contestant did in one slice.
#[derive(Debug, Default)]
struct Slice {
    rate: f64,
    /// Microseconds of each call, where they are known.
    latencies: Vec<u32>,
    /// Microseconds of processor time for each call: ours, and the server's.
    client: f64,
    server: Option<f64>,
}

/// Measures.
pub(crate) async fn measure(arguments: PgArgs) -> Result<Box<dyn Report>, String> {
    let ground = Ground::new(arguments.url.clone(), arguments.connections)?;
    ground.migrate().await?;
    let statements = Statements::capture(ground.url()).await?;
    if arguments.write_scripts {
        return statements.write().map(|written| Box::new(written) as Box<dyn Report>);
    }
    statements.check()?;
    ground.fill(arguments.users).await?;
    let contest = Contest::new(&arguments, &ground, &statements).await?;
    let grids = contest.run().await?;
    Ok(Box::new(grids))
}

/// Everything that a measurement needs.
struct Contest<'a> {
    arguments: &'a PgArgs,
    ground: &'a Ground,
    contestants: Vec<(Contestant, Option<Arc<Client>>)>,
    operations: Vec<Operation>,
    tasks: u32,
    slice: Duration,
}

impl<'a> Contest<'a> {
    async fn new(arguments: &'a PgArgs, ground: &'a Ground, statements: &Statements) -> Result<Self, String> {
        let chosen = |contestant: &Contestant| {
            *contestant == Contestant::Pgbench || arguments.only.is_empty() || arguments.only.contains(contestant)
        };
        let mut contestants = Vec::new();
        for contestant in Contestant::value_variants().iter().copied().filter(chosen) {
            let client = Client::connect(contestant, ground.url(), arguments.connections, statements).await?;
            contestants.push((contestant, client.map(Arc::new)));
        }
        let operations = if arguments.operations.is_empty() {
            Operation::value_variants().to_vec()
        } else {
            arguments.operations.clone()
        };
        let slices = contestants.len() * operations.len() * usize::try_from(arguments.rounds).unwrap_or(1);
        let seconds = arguments.seconds / u64::try_from(slices).unwrap_or(1).max(1);
        let tasks = arguments.tasks.unwrap_or(arguments.connections);
        Ok(Self { arguments, ground, contestants, operations, tasks, slice: Duration::from_secs(seconds.max(1)) })
    }

    async fn run(&self) -> Result<Vec<Grid>, String> {
        let count = self.contestants.len();
        let mut done: Vec<Vec<Vec<Slice>>> =
            self.operations.iter().map(|_| (0..count).map(|_| Vec::new()).collect()).collect();
        for round in 0..usize::try_from(self.arguments.rounds).unwrap_or(1) {
            for (operation, of_operation) in self.operations.iter().zip(&mut done) {
                for turn in 0..count {
                    let at = (turn + round) % count;
                    let slice = self.slice(&self.contestants[at], *operation).await?;
                    of_operation[at].push(slice);
                }
            }
        }
        Ok(self.operations.iter().zip(done).map(|(operation, slices)| self.grid(*operation, slices)).collect())
    }

    async fn slice(
        &self,
        (contestant, client): &(Contestant, Option<Arc<Client>>),
        operation: Operation,
    ) -> Result<Slice, String> {
        let before = Cpu::now(self.ground.server_pid());
        let (mut slice, count) = match client {
            None => {
                let clients = self.tasks.min(self.arguments.connections);
                let pgbench = pgbench::Run { program: &self.arguments.pgbench, clients, users: self.arguments.users };
                let (rate, count) = pgbench.slice(self.ground.url(), scripts::script(operation), self.slice)?;
                (Slice { rate, ..Slice::default() }, count)
            }
            Some(client) => {
                let begun = Instant::now();
                let latencies = calls(client, operation, self.tasks, self.arguments.users, self.slice)
                    .await
                    .map_err(|error| format!("{}: {error}", contestant.name()))?;
                let count = f64::from(u32::try_from(latencies.len()).unwrap_or(u32::MAX));
                (Slice { rate: count / begun.elapsed().as_secs_f64(), latencies, ..Slice::default() }, count)
            }
        };
        let (client, server) = Cpu::now(self.ground.server_pid()).since(before);
        slice.client = client / count;
        slice.server = server.map(|server| server / count);
        Ok(slice)
    }

    fn grid(&self, operation: Operation, done: Vec<Vec<Slice>>) -> Grid {
        let PgArgs { users, rounds, connections, .. } = self.arguments;
        let mut grid = Grid::new(
            operation.name(),
            format!(
                "{}: {users} users, {connections} connections, {} tasks, {rounds} rounds of {} s each, medians",
                operation.name(),
                self.tasks,
                self.slice.as_secs()
            ),
            vec![
                Column("a second", 0),
                Column("to pgbench", 3),
                Column("p50 us", 0),
                Column("p99 us", 0),
                Column("p999 us", 0),
                Column("client cpu us", 1),
                Column("server cpu us", 1),
            ],
        );
        let base: Vec<f64> = done.first().into_iter().flatten().map(|slice| slice.rate).collect();
        for ((contestant, _), slices) in self.contestants.iter().zip(done) {
            let ratios = slices.iter().zip(&base).map(|(slice, base)| slice.rate / base).collect();
            let server: Option<Vec<f64>> = slices.iter().map(|slice| slice.server).collect();
            let mut latencies: Vec<u32> = slices.iter().flat_map(|slice| &slice.latencies).copied().collect();
            latencies.sort_unstable();
            let at = |thousandths: usize| {
                latencies.get(latencies.len() * thousandths / 1000).map(|micros| f64::from(*micros))
            };
            grid.add(
                contestant.name(),
                vec![
                    Some(median(slices.iter().map(|slice| slice.rate).collect())),
                    Some(median(ratios)),
                    at(500),
                    at(990),
                    at(999),
                    Some(median(slices.iter().map(|slice| slice.client).collect())),
                    server.map(median),
                ],
            );
        }
        grid
    }
}

/// Calls by so many tasks, each one after the other, as long as the slice lasts; answers how long each took.
async fn calls(
    client: &Arc<Client>,
    operation: Operation,
    tasks: u32,
    users: u32,
    slice: Duration,
) -> Result<Vec<u32>, String> {
    let begun = Instant::now();
    let working: Vec<_> = (0..tasks)
        .map(|_| {
            let (client, mut draw) = (Arc::clone(client), Draw::new());
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                let mut at = begun.elapsed();
                while at < slice {
                    match operation {
                        Operation::GetBalance => client.get_balance(draw.user(users)).await?,
                        Operation::AddBalance => client.add_balance(draw.user(users), &mut draw).await?,
                    }
                    let now = begun.elapsed();
                    latencies.push(u32::try_from(now.saturating_sub(at).as_micros()).unwrap_or(u32::MAX));
                    at = now;
                }
                Ok::<_, String>(latencies)
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in working {
        all.append(&mut task.await.map_err(|error| format!("a task ended badly: {error}"))??);
    }
    Ok(all)
}

impl Report for Vec<Grid> {
    fn to_text(&self) -> String {
        let grids: Vec<String> = self.iter().map(Grid::to_text).collect();
        format!(
            "{}\nA call's processor time: the client's with its kernel, the server's with all its processes. pgbench \
             has no latencies here.\n",
            grids.join("\n")
        )
    }
    fn to_json(&self) -> serde_json::Value {
        json!({ "operations": self.iter().map(Grid::to_json).collect::<Vec<_>>() })
    }
}
