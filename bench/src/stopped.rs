//! Memory of a bot whose store is kept by a process that stands still: calls go on coming, none of them can be done.
//!
//! The process that keeps the writer lock is a real one, stopped by a signal, as a debugger or a full cgroup freezer does it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use storage_core::{
    AddGenerationToHistory, AdminLimits as _, Applied, ErrorKind, GenerationId, History as _, Money, Params,
    ResultUrls, Store as _, UserId,
};
use storage_json::{JsonOptions, JsonStorage};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::result::{Figures, Report, resident_kib};
use crate::single::scratch;

/// Calls that are done before memory is looked at: what the runtime and the store set up once is there then.
const WARM: u32 = 500;
/// The price of each call in millionths, so that what was spent counts the calls that were applied.
const PRICE: i64 = 1;

#[derive(Debug, Args)]
pub(crate) struct StoppedArgs {
    /// How long the other process is stopped
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Calls a second, whether the earlier ones were answered or not
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Bytes of each call's arguments
    #[arg(long, default_value_t = 60_000, value_parser = clap::value_parser!(u32).range(1..65_000))]
    bytes: u32,
    /// Fail when memory grows by more than so many MiB
    #[arg(long, value_name = "MIB", allow_negative_numbers = true)]
    at_most: Option<f64>,
    /// Where the scratch directory is made
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct HolderArgs {
    /// The lock file
    lock: PathBuf,
}

/// Takes the lock, says so, and keeps it until its input ends.
pub(crate) async fn hold(arguments: HolderArgs) -> Result<Box<dyn Report>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", arguments.lock.display());
    let file = File::options().read(true).write(true).open(&arguments.lock).map_err(failed)?;
    file.lock().map_err(failed)?;
    let mut out = tokio::io::stdout();
    out.write_all(b"held\n").await.map_err(failed)?;
    out.flush().await.map_err(failed)?;
    let mut end = String::new();
    BufReader::new(tokio::io::stdin()).read_line(&mut end).await.map_err(failed)?;
    Ok(Box::new(Figures::new("a lock was kept")))
}

/// A process that keeps the writer lock and is stopped.
struct Holder {
    child: Child,
    stdin: ChildStdin,
}

impl Holder {
    async fn stopped(store: &Path) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("a child process: {error}");
        let program = std::env::current_exe().map_err(failed)?;
        let mut child = Command::new(program)
            .arg("lock-holder")
            .arg(store.join("writer.lock"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a child process without pipes".to_owned());
        };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await.map_err(failed)?;
        if line.trim() != "held" {
            return Err("a child process could not take the lock".to_owned());
        }
        let holder = Self { child, stdin };
        holder.signal("STOP").await?;
        Ok(holder)
    }

    async fn signal(&self, name: &str) -> Result<(), String> {
        let pid = self.child.id().ok_or("the child process is gone")?;
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).status().await;
        match sent {
            Ok(status) if status.success() => Ok(()),
            other => Err(format!("kill -{name}: {other:?}")),
        }
    }

    async fn goes_on_and_ends(mut self) -> Result<(), String> {
        self.signal("CONT").await?;
        drop(self.stdin);
        self.child.wait().await.map(|_| ()).map_err(|error| format!("a child process: {error}"))
    }
}

#[derive(Debug, Default)]
struct Answers {
    done: u32,
    refused: u32,
    unknown: u32,
}

impl Answers {
    fn add(&mut self, answer: Result<(), storage_core::Error>) -> Result<(), String> {
        match answer {
            Ok(()) => self.done += 1,
            Err(error) => match (error.kind(), error.applied()) {
                (ErrorKind::Busy { .. }, Applied::No) => self.refused += 1,
                (ErrorKind::Busy { .. }, Applied::Unknown) => self.unknown += 1,
                _ => return Err(error.report().to_string()),
            },
        }
        Ok(())
    }
}

async fn call(storage: Arc<JsonStorage>, number: u32, bytes: u32) -> Result<(), storage_core::Error> {
    let text = "x".repeat(usize::try_from(bytes).unwrap_or_default());
    let add = AddGenerationToHistory {
        user: UserId::new(1)?,
        id: Some(GenerationId::new(format!("generation-{number}"))?),
        model_id: "model-7".parse()?,
        model_name: "Model Seven".parse()?,
        params: Params::new(&text.into())?,
        result_urls: ResultUrls::default(),
        price: Money::from_micros(PRICE)?,
    };
    storage.add_generation_to_history(add).await.map(|_| ())
}

/// Measures.
pub(crate) async fn measure(arguments: StoppedArgs) -> Result<Figures, String> {
    let StoppedArgs { seconds, rate, bytes, at_most, dir } = arguments;
    let of_store = |error: storage_core::Error| error.report().to_string();
    let scratch = scratch(&dir)?;
    let store = scratch.path().join("store");
    let storage = Arc::new(JsonStorage::open(JsonOptions::new(&store)).await.map_err(of_store)?);
    for number in 0..WARM {
        call(Arc::clone(&storage), number, bytes).await.map_err(of_store)?;
    }
    let holder = Holder::stopped(&store).await?;
    let before = resident_kib().ok_or("this system does not tell a process' memory")?;
    let (mut most, mut longest) = (before, Duration::ZERO);
    let mut calls = tokio::task::JoinSet::new();
    let mut answers = Answers::default();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    for number in 0..seconds * rate {
        ticks.tick().await;
        let (storage, begun) = (Arc::clone(&storage), Instant::now());
        calls.spawn(async move { (call(storage, WARM + number, bytes).await, begun.elapsed()) });
        while let Some(done) = calls.try_join_next() {
            let (answer, waited) = done.map_err(|error| format!("a call ended badly: {error}"))?;
            longest = longest.max(waited);
            answers.add(answer)?;
        }
        if number % rate == 0 {
            most = most.max(resident_kib().unwrap_or(most));
        }
    }
    most = most.max(resident_kib().unwrap_or(most));
    holder.goes_on_and_ends().await?;
    while let Some(done) = calls.join_next().await {
        let (answer, waited) = done.map_err(|error| format!("a call ended badly: {error}"))?;
        longest = longest.max(waited);
        answers.add(answer)?;
    }
    // The next call is behind all that waited, so what was spent then is final.
    let after = WARM + seconds * rate;
    call(Arc::clone(&storage), after, bytes).await.map_err(of_store)?;
    let spent = storage.get_admin_spent(UserId::new(1).map_err(of_store)?).await.map_err(of_store)?;
    storage.close().await.map_err(of_store)?;
    let applied = spent.micros() / i128::from(PRICE) - i128::from(WARM) - 1;
    let Answers { done, refused, unknown } = answers;
    if applied < i128::from(done) || applied > i128::from(done + unknown) {
        return Err(format!("{applied} calls were applied, of {done} acknowledged and {unknown} unknown ones"));
    }
    let grown = (most - before) / 1024.0;
    if let Some(at_most) = at_most.filter(|at_most| grown > *at_most) {
        return Err(format!("memory grew by {grown:.1} MiB, more than {at_most}"));
    }
    let mut figures = Figures::new(format!(
        "{seconds} s behind a stopped process that holds the writer lock, {rate} calls a second of {bytes} bytes"
    ));
    figures.add("memory before", before / 1024.0, "MiB");
    figures.add("memory grew by at most", grown, "MiB");
    figures.add("longest wait for an answer", longest.as_secs_f64(), "s");
    figures.add("calls refused", f64::from(refused), "");
    figures.add("calls unknown", f64::from(unknown), "");
    figures.add("calls done", f64::from(done), "");
    Ok(figures)
}
