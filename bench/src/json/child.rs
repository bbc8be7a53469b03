//! A process of its own: what several processes do to each other, and what one store costs in memory, shows only there.
//!
//! It opens a store, says so with a line, waits for a line, works, and says with another line what it did.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use storage_json::Access;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::contestant::Contestant;
use super::op::Work;
use super::slice::{Crew, Slice};
use super::store::{self, Filling, Json};
use crate::result::{Figures, Report, median, resident_kib};

#[derive(Debug, Args)]
pub(crate) struct ChildArgs {
    /// The store
    dir: PathBuf,
    /// Users of the store
    #[arg(long)]
    users: u32,
    /// Tasks that work; none only opens
    #[arg(long, default_value_t = 0)]
    tasks: u32,
    /// What they do
    #[arg(long, value_enum, default_value_t = Work::Credit)]
    work: Work,
    /// How long they do
    #[arg(long, default_value_t = 0)]
    millis: u64,
    /// Fill a store that is not there yet; for a profiler, which looks at one contestant alone
    #[arg(long)]
    fill: bool,
    /// Open and close again and again, saying how each went, until told to stop with a line
    #[arg(long)]
    again: bool,
}

/// What a process has to say about opening.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opened {
    pub(super) seconds: f64,
    /// Memory after opening beyond that before it, in KiB.
    pub(super) kib: f64,
}

/// Does what a child does. The parent reads the two lines; a person who starts it by hand reads the table after them.
pub(crate) async fn run(arguments: ChildArgs) -> Result<Box<dyn Report>, String> {
    let ChildArgs { dir, users, tasks, work, millis, fill, again } = arguments;
    if fill && !dir.exists() {
        store::fill(&dir, Filling { users, ..Filling::default() }).await?;
    }
    let mut out = tokio::io::stdout();
    if again {
        return openings(&dir, &mut out).await;
    }
    let (before, begun) = (resident_kib().unwrap_or(0.0), Instant::now());
    let store = Json::open(&dir, Access::Shared).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let kib = resident_kib().unwrap_or(0.0) - before;
    say(&mut out, &format!("{seconds} {kib}\n")).await?;
    let mut go = String::new();
    BufReader::new(tokio::io::stdin()).read_line(&mut go).await.map_err(|error| format!("the parent: {error}"))?;
    let contestant = Arc::new(Contestant::of_store(store, users));
    let slice = if tasks > 0 {
        let crew = Crew { work, tasks, users };
        crew.slice(&contestant, Duration::from_millis(millis)).await?
    } else {
        Slice::default()
    };
    contestant.close().await?;
    say(&mut out, &format!("{}\n", slice.rate)).await?;
    let mut figures = Figures::new("a child of storage-bench");
    figures.add("calls", slice.rate, "/s");
    figures.add("cpu", slice.cpu, "us/call");
    Ok(Box::new(figures))
}

async fn openings(dir: &Path, out: &mut tokio::io::Stdout) -> Result<Box<dyn Report>, String> {
    let mut line = String::new();
    let mut stdin = BufReader::new(tokio::io::stdin());
    let told = stdin.read_line(&mut line);
    tokio::pin!(told);
    let mut seconds = Vec::new();
    loop {
        let begun = Instant::now();
        // An opening is never broken off: it may hold what others wait for.
        match Json::open(dir, Access::Shared).await {
            Ok(store) => {
                let opened = begun.elapsed().as_secs_f64();
                store.close().await?;
                seconds.push(opened);
                say(out, &format!("opened {opened}\n")).await?;
            }
            Err(error) => say(out, &format!("refused {} {error}\n", begun.elapsed().as_secs_f64())).await?,
        }
        if tokio::time::timeout(Duration::ZERO, &mut told).await.is_ok() {
            break;
        }
    }
    let mut figures = Figures::new("a child of storage-bench");
    figures.add("opening", median(seconds), "s");
    Ok(Box::new(figures))
}

async fn say(out: &mut tokio::io::Stdout, line: &str) -> Result<(), String> {
    let said = async {
        out.write_all(line.as_bytes()).await?;
        out.flush().await
    };
    said.await.map_err(|error| format!("the parent: {error}"))
}

type Spawned = (Child, ChildStdin, Lines<BufReader<ChildStdout>>);

#[expect(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn failed(error: std::io::Error) -> String {
    format!("a child process: {error}")
}

fn spawn(dir: &Path, users: u32, arguments: &[&str]) -> Result<Spawned, String> {
    let mut child = Command::new(std::env::current_exe().map_err(failed)?)
        .arg("json-child")
        .arg(dir)
        .args(["--users", &users.to_string()])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    match (child.stdin.take(), child.stdout.take()) {
        (Some(stdin), Some(stdout)) => Ok((child, stdin, BufReader::new(stdout).lines())),
        _ => Err("a child process without pipes".to_owned()),
    }
}

/// A child that opens and closes the store again and again.
#[derive(Debug)]
pub(super) struct Opener {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

/// How its openings went.
#[derive(Debug, Default)]
pub(super) struct Openings {
    /// Seconds of each that opened.
    pub(super) seconds: Vec<f64>,
    /// How many were refused.
    pub(super) refused: u32,
    /// What the last refusal said.
    pub(super) told: Option<String>,
}

impl Openings {
    fn add(&mut self, line: &str) -> Result<(), String> {
        if let Some(seconds) = line.strip_prefix("opened ") {
            self.seconds.push(number(seconds)?);
        } else if let Some(told) = line.strip_prefix("refused ") {
            self.refused += 1;
            self.told = Some(told.to_owned());
        }
        // Anything else is the table for whoever starts it by hand.
        Ok(())
    }
}

impl Opener {
    pub(super) fn start(dir: &Path) -> Result<Self, String> {
        let (child, stdin, lines) = spawn(dir, 1, &["--again"])?;
        Ok(Self { child, stdin, lines })
    }

    /// Waits until an opening went by, well or not.
    pub(super) async fn once(&mut self, openings: &mut Openings) -> Result<(), String> {
        let line = self.lines.next_line().await.map_err(failed)?.ok_or("a child process failed")?;
        openings.add(&line)
    }

    /// Lets it end after the opening that it is at.
    pub(super) async fn stop(mut self, openings: &mut Openings) -> Result<(), String> {
        self.stdin.write_all(b"stop\n").await.map_err(failed)?;
        while let Some(line) = self.lines.next_line().await.map_err(failed)? {
            openings.add(&line)?;
        }
        let status = self.child.wait().await.map_err(failed)?;
        if status.success() { Ok(()) } else { Err(format!("a child process: {status}")) }
    }
}

/// A child that has opened the store.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    pub(super) opened: Opened,
}

impl Process {
    pub(super) async fn open(dir: &Path, users: u32, tasks: u32, slice: Duration) -> Result<Self, String> {
        let (tasks, millis) = (tasks.to_string(), slice.as_millis().to_string());
        let (child, stdin, mut lines) = spawn(dir, users, &["--tasks", &tasks, "--millis", &millis])?;
        let line = lines.next_line().await.map_err(failed)?.ok_or("a child process could not open the store")?;
        let (seconds, kib) = line.split_once(' ').ok_or("a child process said something else")?;
        let opened = Opened { seconds: number(seconds)?, kib: number(kib)? };
        Ok(Self { child, stdin, lines, opened })
    }

    /// Lets it begin.
    pub(super) async fn go(&mut self) -> Result<(), String> {
        self.stdin.write_all(b"go\n").await.map_err(failed)
    }

    /// Waits until it is done; answers its credits a second.
    pub(super) async fn finish(mut self) -> Result<f64, String> {
        let line = self.lines.next_line().await.map_err(failed)?.ok_or("a child process failed")?;
        let status = self.child.wait().await.map_err(failed)?;
        if status.success() { number(&line) } else { Err(format!("a child process: {status}")) }
    }
}

fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|error| format!("a child process said {text:?}: {error}"))
}
