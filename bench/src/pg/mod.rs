//! storage-pg beside `pgbench` and beside other clients, on one server and with the very same statements.
//!
//! Every contestant gets as many slices of time, in turns: each round goes through all of them, and the next round
//! begins with another one. What counts are the medians of the rounds' ratios to `pgbench`.

mod clients;
mod ground;
mod pgbench;
mod scripts;
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde_json::json;

use self::clients::Client;
use self::ground::{Ground, Way};
use self::scripts::Statements;
use self::work::{Call, Stock, Work};
use crate::cpu::Cpu;
use crate::draw::Draw;
use crate::result::{Column, Grid, Report, median};

#[derive(Debug, Args)]
pub(crate) struct PgArgs {
    /// Only these; without it all
    #[arg(long, value_delimiter = ',')]
    work: Vec<Work>,
    /// Only by so many tasks, which share the connections; without it by 1, 8 and 64
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    tasks: Vec<u32>,
    /// How clients come to the server. Through `PgBouncer` only 64 tasks are measured
    #[arg(long, value_delimiter = ',', default_value = "tcp,pooled")]
    way: Vec<Way>,
    /// Users that the store holds
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    users: u32,
    /// Jobs that the store holds; a quarter as many payments
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(8..))]
    jobs: u32,
    /// Seconds of a slice
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    slice: u64,
    /// Rounds; each gives every contestant a slice of each work
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Connections of each contestant
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// An empty database whose schema `public` may be filled, on a server with a high `track_activity_query_size`;
    /// without it a server with fsync is started and thrown away, its files in $TMPDIR
    #[arg(long)]
    url: Option<String>,
    /// Only these beside pgbench
    #[arg(long, value_delimiter = ',')]
    only: Vec<Contestant>,
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
    /// `pgbench`, which the others are compared with: as many clients as there are tasks, never more than connections
    Pgbench,
    /// storage-pg with unnamed statements, as behind a pooler
    Unnamed,
    /// storage-pg as it comes to a server: it proves that the connection is direct, and prepares
    Prepared,
    /// storage-pg with prepared statements that gathers nothing
    Alone,
    /// tokio-postgres alone, with prepared statements; more tasks than connections wait in a fair queue
    Queue,
    /// sqlx with its cache of statements, and without its test of each connection
    Sqlx,
    /// deadpool-postgres with `prepare_cached`
    Deadpool,
}

impl Contestant {
    fn name(self) -> &'static str {
        match self {
            Self::Pgbench => "pgbench",
            Self::Unnamed => "storage-pg",
            Self::Prepared => "storage-pg prepared",
            Self::Alone => "the same, not gathered",
            Self::Queue => "tokio-postgres",
            Self::Sqlx => "sqlx",
            Self::Deadpool => "deadpool-postgres",
        }
    }

    /// Whether it takes part: sqlx was taught what it is compared by, and behind a pooler nothing is prepared.
    fn does(self, work: Work, tasks: u32, way: Way) -> bool {
        match self {
            Self::Pgbench | Self::Unnamed => true,
            Self::Prepared | Self::Queue | Self::Deadpool => way != Way::Pooled,
            Self::Alone => way != Way::Pooled && tasks > 8,
            Self::Sqlx => {
                way != Way::Pooled && matches!(work, Work::GetBalance | Work::AddBalance | Work::SubtractBalance)
            }
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
    let pooled = arguments.way.contains(&Way::Pooled) && !arguments.write_scripts;
    let ground = Ground::new(arguments.url.clone(), arguments.connections, pooled)?;
    ground.migrate().await?;
    let statements = Statements::capture(ground.url()).await?;
    if arguments.write_scripts {
        return statements.write().map(|written| Box::new(written) as Box<dyn Report>);
    }
    statements.check()?;
    let stock = Arc::new(Stock::new(arguments.users, arguments.jobs));
    ground.fill(&stock).await?;
    let mut grids = Vec::new();
    for way in &arguments.way {
        let contest = Contest::new(&arguments, &ground, *way, &statements, &stock).await?;
        grids.extend(contest.run().await?);
    }
    Ok(Box::new(grids))
}

/// Everything that a measurement needs.
struct Contest<'a> {
    arguments: &'a PgArgs,
    ground: &'a Ground,
    way: Way,
    url: String,
    stock: &'a Arc<Stock>,
    contestants: Vec<(Contestant, Option<Arc<Client>>)>,
}

impl<'a> Contest<'a> {
    async fn new(
        arguments: &'a PgArgs,
        ground: &'a Ground,
        way: Way,
        statements: &Statements,
        stock: &'a Arc<Stock>,
    ) -> Result<Self, String> {
        let url = ground.by(way)?;
        let chosen = |contestant: &Contestant| {
            let wanted = arguments.only.is_empty() || arguments.only.contains(contestant);
            let able = contestant.does(Work::GetBalance, 64, way);
            *contestant == Contestant::Pgbench || wanted && able
        };
        let mut contestants = Vec::new();
        for contestant in Contestant::value_variants().iter().copied().filter(chosen) {
            let client = Client::connect(contestant, &url, arguments.connections, statements).await?;
            contestants.push((contestant, client.map(Arc::new)));
        }
        Ok(Self { arguments, ground, way, url, stock, contestants })
    }

    /// A table for each work and each number of tasks.
    async fn run(&self) -> Result<Vec<Grid>, String> {
        let PgArgs { work: wanted, tasks: numbers, .. } = self.arguments;
        let mut grids = Vec::new();
        for work in Work::value_variants().iter().copied().filter(|work| wanted.is_empty() || wanted.contains(work)) {
            let is_wanted = |tasks: &u32| {
                (numbers.is_empty() || numbers.contains(tasks)) && (self.way != Way::Pooled || *tasks > 8)
            };
            for tasks in work.tasks().iter().copied().filter(is_wanted) {
                grids.push(self.contest(work, tasks).await?);
            }
        }
        Ok(grids)
    }

    async fn contest(&self, work: Work, tasks: u32) -> Result<Grid, String> {
        let contestants: Vec<_> =
            self.contestants.iter().filter(|(contestant, _)| contestant.does(work, tasks, self.way)).collect();
        let count = contestants.len();
        let mut done: Vec<Vec<Slice>> = contestants.iter().map(|_| Vec::new()).collect();
        for round in 0..usize::try_from(self.arguments.rounds).unwrap_or(1) {
            for at in (0..count).map(|turn| (turn + round) % count) {
                done[at].push(self.slice(contestants[at], work, tasks).await?);
            }
        }
        let done = contestants.iter().map(|(contestant, _)| *contestant).zip(done).collect();
        Ok(self.grid(work, tasks, done))
    }

    async fn slice(
        &self,
        (contestant, client): &(Contestant, Option<Arc<Client>>),
        work: Work,
        tasks: u32,
    ) -> Result<Slice, String> {
        let before = Cpu::now(self.ground.server_pid());
        let length = Duration::from_secs(self.arguments.slice);
        let (mut slice, count) = match client {
            None => {
                let clients = tasks.min(self.arguments.connections);
                let (program, prepared) = (self.arguments.pgbench.as_path(), self.way != Way::Pooled);
                let pgbench = pgbench::Run { program, clients, prepared, stock: self.stock };
                let (rate, count) = pgbench.slice(&self.url, &scripts::scripts(work), length)?;
                (Slice { rate, ..Slice::default() }, count)
            }
            Some(client) => {
                let begun = Instant::now();
                let latencies = calls(client, work, tasks, self.stock, length)
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

    fn grid(&self, work: Work, tasks: u32, done: Vec<(Contestant, Vec<Slice>)>) -> Grid {
        let &PgArgs { users, rounds, connections, slice, .. } = self.arguments;
        let of_tasks = if tasks == 1 { "1 task".to_owned() } else { format!("{tasks} tasks") };
        let mut grid = Grid::new(
            work.name(),
            format!(
                "{}, {}: {users} users, {connections} connections, {of_tasks}, {rounds} rounds of {slice} s each, medians",
                work.name(),
                self.way.name(),
            ),
            vec![
                Column("a second", 0),
                Column("to pgbench", 3),
                Column("least", 2),
                Column("most", 2),
                Column("p50 us", 0),
                Column("p99 us", 0),
                Column("p999 us", 0),
                Column("client cpu us", 1),
                Column("server cpu us", 1),
            ],
        );
        grid.say("tasks", tasks);
        grid.say("users", users);
        grid.say("connections", connections);
        grid.say("rounds", rounds);
        grid.say("seconds", slice);
        grid.say("way", self.way.name());
        let base: Vec<f64> = done.first().into_iter().flat_map(|(_, slices)| slices).map(|slice| slice.rate).collect();
        for (contestant, slices) in done {
            let ratios: Vec<f64> = slices.iter().zip(&base).map(|(slice, base)| slice.rate / base).collect();
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
                    Some(median(ratios.clone())),
                    ratios.iter().copied().reduce(f64::min),
                    ratios.iter().copied().reduce(f64::max),
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
    work: Work,
    tasks: u32,
    stock: &Arc<Stock>,
    slice: Duration,
) -> Result<Vec<u32>, String> {
    let begun = Instant::now();
    let working: Vec<_> = (0..tasks)
        .map(|_| {
            let (client, stock, mut draw) = (Arc::clone(client), Arc::clone(stock), Draw::new());
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                let mut at = begun.elapsed();
                while at < slice {
                    client.call(Call::draw(work, &mut draw, &stock)?).await?;
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
            "{}\nRatios are those of each round: their median, the least and the most. A call's processor time: the client's \
             with its kernel, the server's with all its processes. pgbench has no latencies here.\n",
            grids.join("\n")
        )
    }
    fn to_json(&self) -> serde_json::Value {
        json!({ "operations": self.iter().map(Grid::to_json).collect::<Vec<_>>() })
    }
}
