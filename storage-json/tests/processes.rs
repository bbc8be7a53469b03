//! Several processes on one directory: what was acknowledged is there, once, and the ledger agrees.
//!
//! The test starts this very program again as its workers. The longest wait of a call is printed, not judged.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "workers report on stdout, the figures are printed")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
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

/// Starts this program as a worker and waits for its first line.
fn start(work: &str, path: &Path) -> Result<(Child, impl Iterator<Item = std::io::Result<String>> + use<>), Failed> {
    let program = std::env::current_exe()?;
    let value = format!("{work}:{}", path.display());
    let mut worker = Command::new(program).env(WORKER, value).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(worker.stdout.take().ok_or("no output")?).lines();
    lines.next().ok_or("the worker said nothing")??;
    Ok((worker, lines))
}

/// Credits user 1 by 1 again and again until that is refused; says how often it was acknowledged, and the error.
#[tokio::main]
async fn credit_until_refused(dir: &str) -> Result<(), Box<dyn std::error::Error>> {
    let storage = JsonStorage::open(options(dir)).await?;
    let (user, amount) = (UserId::new(1)?, "1".parse::<Amount>()?);
    let mut acknowledged = 0_u64;
    println!("open");
    let error = loop {
        match storage.add_balance(AddBalance::new(user, amount)).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    println!("{acknowledged}");
    println!("{error}");
    storage.close().await?;
    Ok(())
}

#[cfg(unix)]
fn signal(worker: &Child, name: &str) -> Result<(), Failed> {
    let done = Command::new("kill").args([name, &worker.id().to_string()]).status()?;
    if done.success() { Ok(()) } else { Err("kill failed".into()) }
}

#[cfg(unix)]
fn a_process_that_finds_no_lock_files_is_refused_while_another_has_the_store_open() -> Result<(), Failed> {
    for removed in
        [&["opening.lock", "presence.lock", "writer.lock", "checkpoint.lock"][..], &["writer.lock"], &["presence.lock"]]
    {
        let temp = tempfile::tempdir()?;
        let dir = temp.path().join("data");
        let (mut worker, mut lines) = start("credit", &dir)?;
        // Else it might notice, and end, before the other one comes.
        signal(&worker, "-STOP")?;
        for name in removed {
            away(&dir.join(name))?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let error = JsonStorage::open(options(&dir.display().to_string())).await.err().ok_or("it opened")?;
            let named = error.to_string().contains(&format!("process {} has it open", worker.id()));
            if named { Ok(()) } else { Err(Failed::from(format!("{removed:?}: {error}"))) }
        })?;
        signal(&worker, "-CONT")?;
        let acknowledged: u64 = lines.next().ok_or("no count")??.parse()?;
        let error = lines.next().ok_or("no error")??;
        if !error.contains(".lock was re") {
            return Err(format!("{removed:?}: {error}").into());
        }
        if !worker.wait()?.success() {
            return Err("the worker failed".into());
        }
        runtime.block_on(async {
            let storage = JsonStorage::open(options(&dir.display().to_string())).await?;
            let balance = storage.get_balance(UserId::new(1)?).await?;
            // The one call whose answer was the error may be there or not.
            let (least, most) = (Money::from_units(acknowledged)?, Money::from_units(acknowledged + 1)?);
            let report = storage.audit(AuditScope::Everyone).await?;
            if balance < least || balance > most || !report.is_clean() {
                return Err(format!(
                    "{removed:?}: {acknowledged} acknowledged, {balance} stored, {:?}",
                    report.findings
                )
                .into());
            }
            Ok::<_, Failed>(())
        })?;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the test plays the person who removes a file")]
fn away(path: &Path) -> std::io::Result<()> {
    std::fs::remove_file(path)
}

fn main() -> ExitCode {
    if let Ok(value) = std::env::var(WORKER) {
        let (worker, path) = value.split_once(':').unwrap_or(("0", "."));
        let outcome = match worker {
            "credit" => credit_until_refused(path),
            number => work(path, number.parse().unwrap_or(0)),
        };
        return match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("worker {worker}: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let trials = vec![
        Trial::test("four_processes_times_64_tasks_lose_nothing", four_processes_times_64_tasks_lose_nothing),
        #[cfg(unix)]
        Trial::test(
            "a_process_that_finds_no_lock_files_is_refused_while_another_has_the_store_open",
            a_process_that_finds_no_lock_files_is_refused_while_another_has_the_store_open,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
