//! Several processes on one directory: what was acknowledged is there, once, and the ledger agrees.
//!
//! The test starts this very program again as its workers. The longest wait of a call is printed, not judged.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "workers report on stdout, the figures are printed")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use storage_core::{
    AddBalance, Amount, AuditScope, Balances as _, CommitReserve, ErrorKind, Money, Operations as _, ReleaseReserve,
    ReserveBalance, Reserves as _, Store as _, SubtractBalance, UserId,
};
use storage_json::{JsonOptions, JsonStorage};

const WORKER: &str = "STORAGE_JSON_TEST_WORKER";
const PROCESSES: usize = 4;
const TASKS: u64 = 64;
const CALLS: u64 = 200;
const USERS: u64 = 40;

fn options(dir: &str) -> JsonOptions {
    // Small, so that several checkpoints go by while all are writing.
    JsonOptions { checkpoint_bytes: 4 * 1024 * 1024, lock_wait: Duration::from_mins(1), ..JsonOptions::new(dir) }
}

/// Numbers that look random and are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

type Sums = BTreeMap<i64, i64>;

/// One task's calls; answers the acknowledged change of each user's balance in millionths, and the longest wait.
async fn task(storage: Arc<JsonStorage>, worker: u64, lane: u64) -> Result<(Sums, Duration), storage_core::Error> {
    let mut numbers = Numbers(worker * 1000 + lane);
    let (mut sums, mut longest) = (Sums::new(), Duration::ZERO);
    for call in 0..CALLS {
        let user = UserId::new(1 + i64::try_from(numbers.next(USERS)).unwrap_or_default())?;
        let amount = Amount::new(Money::from_micros(1 + i64::try_from(numbers.next(5_000_000)).unwrap_or_default())?)?;
        let change = amount.money().micros();
        let name = format!("{worker}-{lane}-{call}").parse::<storage_core::HoldName>()?;
        let began = Instant::now();
        let done = match numbers.next(4) {
            0 | 1 => storage.add_balance(AddBalance::new(user, amount)).await.map(|_| change),
            2 => storage.subtract_balance(SubtractBalance::new(user, amount)).await.map(|_| -change),
            _ => match storage.reserve_balance(ReserveBalance::new(user, name.clone(), amount)).await {
                Err(error) => Err(error),
                Ok(_) if call % 2 == 0 => storage.commit_reserve(CommitReserve::new(user, name)).await.map(|_| -change),
                Ok(_) => storage.release_reserve(ReleaseReserve::new(user, name)).await.map(|_| 0),
            },
        };
        longest = longest.max(began.elapsed());
        match done {
            Ok(change) => *sums.entry(user.get()).or_default() += change,
            Err(error) if matches!(error.kind(), ErrorKind::InsufficientFunds { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok((sums, longest))
}

#[tokio::main]
async fn work(dir: &str, worker: u64) -> Result<(), Box<dyn std::error::Error>> {
    let storage = Arc::new(JsonStorage::open(options(dir)).await?);
    let tasks: Vec<_> = (0..TASKS).map(|lane| tokio::spawn(task(Arc::clone(&storage), worker, lane))).collect();
    let (mut sums, mut longest) = (Sums::new(), Duration::ZERO);
    for task in tasks {
        let (some, wait) = task.await??;
        longest = longest.max(wait);
        for (user, change) in some {
            *sums.entry(user).or_default() += change;
        }
    }
    storage.close().await?;
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &(sums, longest.as_millis()))?;
    out.flush()?;
    Ok(())
}

fn four_processes_times_64_tasks_lose_nothing() -> Result<(), Failed> {
    let temp = tempfile::tempdir()?;
    let dir = temp.path().join("data");
    let began = Instant::now();
    let mut workers = Vec::new();
    for worker in 0..PROCESSES {
        let program = std::env::current_exe()?;
        let value = format!("{worker}:{}", dir.display());
        workers.push(Command::new(program).env(WORKER, value).stdout(Stdio::piped()).spawn()?);
    }
    let (mut expected, mut longest) = (Sums::new(), 0);
    for worker in workers {
        let output = worker.wait_with_output()?;
        if !output.status.success() {
            return Err(format!("a worker ended with {}", output.status).into());
        }
        let (sums, wait): (Sums, u64) = serde_json::from_slice(&output.stdout)?;
        longest = longest.max(wait);
        for (user, change) in sums {
            *expected.entry(user).or_default() += change;
        }
    }
    let elapsed = began.elapsed();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let storage = JsonStorage::open(options(&dir.display().to_string())).await?;
        for (user, micros) in expected {
            let balance = storage.get_balance(UserId::new(user)?).await?.micros();
            if balance != micros {
                return Err(format!("user {user}: {balance} is stored, {micros} was acknowledged").into());
            }
        }
        let report = storage.audit(AuditScope::Everyone).await?;
        if !report.is_clean() {
            return Err(format!("{:?}", report.findings).into());
        }
        let calls = PROCESSES as u64 * TASKS * CALLS;
        println!("{calls} calls in {elapsed:.1?}, {} ledger rows, longest wait {longest} ms", report.rows);
        Ok(())
    })
}

fn main() -> ExitCode {
    if let Ok(value) = std::env::var(WORKER) {
        let (worker, dir) = value.split_once(':').unwrap_or(("0", "."));
        return match work(dir, worker.parse().unwrap_or(0)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("worker {worker}: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let trial = Trial::test("four_processes_times_64_tasks_lose_nothing", four_processes_times_64_tasks_lose_nothing);
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}
