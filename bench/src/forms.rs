//! What the fast forms of the PostgreSQL backend gain: every operation that has one, with them and without, on one server.
//!
//! The tasks go through the same cycle of calls, so that each call finds the plain case: what is committed was held, what is approved
//! was added. The two ways take turns; what counts is how long a call takes, and of that the median of the rounds' ratios.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use pg_test_server::{Options, Server};
use serde_json::json;
use storage_core::{
    AddBalance, AddGenerationJob, AddPayment, Amount, Balances as _, CommitReserve, FreeGenerations as _,
    IncrementFreeGenerations, JobStatus, Jobs as _, MarkPaymentStatus, Params, PaymentStatus, Payments as _,
    ReleaseReserve, ReserveBalance, Reserves as _, Result, Store as _, SubtractBalance, UpdateJobStatus, UserId,
};
use storage_pg::{FastForms, Gather, PgOptions, PgStorage, migrate};
use tokio::task::JoinSet;

use crate::draw::Draw;
use crate::result::{Column, Grid, Report, median, told};

const WAIT: Duration = Duration::from_secs(10);
/// The operations of a cycle, in their order.
const NAMES: [&str; 10] = [
    "add_balance",
    "subtract_balance",
    "reserve_balance",
    "commit_reserve",
    "release_reserve",
    "increment_free_generations",
    "add_generation_job",
    "update_job_status",
    "add_payment",
    "approve a payment",
];

#[derive(Debug, Args)]
pub(crate) struct FormsArgs {
    /// Users that the calls go to
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    users: u32,
    /// By how many tasks; each number is measured for itself. More tasks than the ten connections wait for one another
    #[arg(long, value_delimiter = ',', default_value = "1,8", value_parser = clap::value_parser!(u32).range(1..))]
    tasks: Vec<u32>,
    /// Rounds; each has a slice with the forms and one without
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of a slice
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    slice: u64,
}

/// Microseconds and calls of each operation.
type Times = [(f64, f64); NAMES.len()];

/// One cycle; answers how long each call took.
async fn cycle(storage: &PgStorage, draw: &mut Draw, users: u32, amount: Amount) -> Result<[Duration; NAMES.len()]> {
    let user = UserId::new(draw.user(users))?;
    let name = |draw: &mut Draw| format!("{:016x}", draw.number());
    let mut times = [Duration::ZERO; NAMES.len()];
    let mut begun = Instant::now();
    let mut took = |at: usize| {
        let now = Instant::now();
        times[at] = now - begun;
        begun = now;
    };
    storage.add_balance(AddBalance::new(user, amount).with_key(name(draw).parse()?)).await?;
    took(0);
    storage.subtract_balance(SubtractBalance::new(user, amount).with_key(name(draw).parse()?)).await?;
    took(1);
    let (spent, freed) = (name(draw), name(draw));
    storage.reserve_balance(ReserveBalance::new(user, spent.parse()?, amount)).await?;
    took(2);
    storage.commit_reserve(CommitReserve::new(user, spent.parse()?)).await?;
    took(3);
    storage.reserve_balance(ReserveBalance::new(user, freed.parse()?, amount)).await?;
    took(2);
    storage.release_reserve(ReleaseReserve::new(user, freed.parse()?)).await?;
    took(4);
    storage.increment_free_generations(IncrementFreeGenerations::new(user)).await?;
    took(5);
    let job = name(draw);
    let add = AddGenerationJob {
        user,
        job: Some(job.parse()?),
        external_task_id: Some(job.parse()?),
        model_id: "model-7".parse()?,
        model_name: "Model Seven".parse()?,
        params: Params::from_json(r#"{"prompt": "a cat on a roof at night", "steps": 30}"#)?,
        price: amount.money(),
        key: Some(name(draw).parse()?),
    };
    storage.add_generation_job(add).await?;
    took(6);
    storage.update_job_status(UpdateJobStatus::new(job.parse()?, JobStatus::Running)).await?;
    took(7);
    let payment = name(draw);
    let mut add = AddPayment::new(user, amount, "card".parse()?);
    (add.payment, add.provider_key, add.key) =
        (Some(payment.parse()?), Some(payment.parse()?), Some(name(draw).parse()?));
    storage.add_payment(add).await?;
    took(8);
    storage.mark_payment_status(MarkPaymentStatus::new(payment.parse()?, PaymentStatus::Approved)).await?;
    took(9);
    Ok(times)
}

/// Cycles by so many tasks; answers how long a call of each operation takes, in microseconds.
async fn slice(
    storage: &Arc<PgStorage>,
    arguments: &FormsArgs,
    tasks: u32,
    amount: Amount,
) -> Result<Vec<f64>, String> {
    let (length, users) = (Duration::from_secs(arguments.slice), arguments.users);
    let mut running = JoinSet::new();
    for _ in 0..tasks {
        let storage = Arc::clone(storage);
        running.spawn(async move {
            let (begun, mut draw, mut total) = (Instant::now(), Draw::new(), Times::default());
            while begun.elapsed() < length {
                let times = cycle(&storage, &mut draw, users, amount).await.map_err(|error| told(&error))?;
                for ((sum, calls), time) in total.iter_mut().zip(times) {
                    *sum += time.as_secs_f64() * 1e6;
                    *calls += 1.0;
                }
            }
            Ok::<_, String>(total)
        });
    }
    let mut total = Times::default();
    while let Some(times) = running.join_next().await {
        for ((sum, calls), (more, others)) in total.iter_mut().zip(times.map_err(|error| error.to_string())??) {
            *sum += more;
            *calls += others;
        }
    }
    Ok(total.iter().map(|(sum, calls)| sum / calls).collect())
}

/// Measures.
pub(crate) async fn measure(arguments: FormsArgs) -> Result<Gains, String> {
    let server = Server::start(Options { fsync: true, ..Options::default() })?;
    let database = server.create_empty_database()?;
    let mut options = PgOptions { gather: Gather::Never, ..PgOptions::new(database.url()) };
    // No take is refused.
    options.environment.policy.daily_free_generations = 1_000_000;
    migrate(&options, WAIT).await.map_err(|error| told(error.error()))?;
    let mut stores = Vec::new();
    for fast_forms in [FastForms::WherePlain, FastForms::Never] {
        let options = PgOptions { fast_forms, ..options.clone() };
        stores.push(Arc::new(PgStorage::open(options).await.map_err(|error| told(error.error()))?));
    }
    let amount: Amount = "0.01".parse().map_err(|error: storage_core::Error| told(&error))?;
    let gift: Amount = "1000".parse().map_err(|error: storage_core::Error| told(&error))?;
    for user in 1..=i64::from(arguments.users) {
        let user = UserId::new(user).map_err(|error| told(&error))?;
        stores[0].add_balance(AddBalance::new(user, gift)).await.map_err(|error| told(&error))?;
    }
    let mut grids = Vec::new();
    for tasks in &arguments.tasks {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for round in 0..arguments.rounds {
            for at in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                let times = slice(&stores[at], &arguments, *tasks, amount).await?;
                if at == 0 { with.push(times) } else { without.push(times) }
            }
        }
        let title =
            format!("A call with its fast form and without, {tasks} tasks, {} rounds, medians", arguments.rounds);
        let columns = vec![
            Column("with us", 0),
            Column("without us", 0),
            Column("gain", 2),
            Column("least", 2),
            Column("most", 2),
        ];
        let mut grid = Grid::new("fast forms", title, columns);
        grid.say("tasks", *tasks);
        for (at, name) in NAMES.into_iter().enumerate() {
            let of = |rounds: &[Vec<f64>]| rounds.iter().map(|times| times[at]).collect::<Vec<_>>();
            let gains: Vec<f64> = of(&without).iter().zip(of(&with)).map(|(without, with)| without / with).collect();
            let (least, most) = (gains.iter().copied().reduce(f64::min), gains.iter().copied().reduce(f64::max));
            grid.add(name, vec![Some(median(of(&with))), Some(median(of(&without))), Some(median(gains)), least, most]);
        }
        grids.push(grid);
    }
    for storage in stores {
        storage.close().await.map_err(|error| told(&error))?;
    }
    Ok(Gains(grids))
}

/// A table for each number of tasks.
#[derive(Debug)]
pub(crate) struct Gains(Vec<Grid>);

impl Report for Gains {
    fn to_text(&self) -> String {
        self.0.iter().map(Grid::to_text).collect::<Vec<_>>().join("\n")
    }
    fn to_json(&self) -> serde_json::Value {
        json!({ "operations": self.0.iter().map(Grid::to_json).collect::<Vec<_>>() })
    }
}
