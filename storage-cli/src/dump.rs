//! `storage dump` and `storage restore`: the whole store as lines of JSON.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{self, Poll};

use serde_json::json;
use storage_core::dump::{DumpHeader, DumpReader, MAX_DUMP_LINE};
use storage_core::{DumpSummary, Error, ErrorKind, PageRequest, PageSize};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::args::is_pipe;
use crate::confirm::Plan;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome, quoted};
use crate::output::{facts, stdout_failed};
use crate::policy::retention;

pub(crate) async fn dump(context: &Context, file: &Path) -> Outcome {
    if !context.choice.exists() {
        return Err(context.no_store());
    }
    if is_pipe(file) {
        if context.dry_run {
            return Plan::new(context, "every record will be written to stdout").approve(context).map(|_| Exit::Done);
        }
        let summary = context
            .with_store(async |storage| {
                let mut stdout = Watched::new(tokio::io::stdout());
                let written = storage.dump(&mut stdout).await;
                let summary = stdout.settle(written, stdout_failed)?;
                stdout.flush().await.map_err(stdout_failed)?;
                Ok(summary)
            })
            .await?;
        // The dump itself is what stdout holds.
        context.out.note(&if context.out.json { counted(&summary, file) } else { to_text("dumped", &summary) });
        return Ok(Exit::Done);
    }
    let target = Target::new(context, file)?;
    let mut plan = Plan::new(context, format!("every record will be written to {}", file.display()));
    if target.replaces {
        plan.add("replaces", "the file that is there");
    }
    if context.dry_run {
        return plan.approve(context).map(|_| Exit::Done);
    }
    // A new file takes nothing from anybody: only one that would be replaced is asked about.
    if target.replaces {
        plan.ask(context)?;
    }
    let summary = context.with_store(async |storage| target.write(storage).await).await?;
    context
        .out
        .answer(&object(&summary, file), || format!("{}\ndump: {}", to_text("dumped", &summary), file.display()))?;
    Ok(Exit::Done)
}

/// A file that a dump goes to.
struct Target {
    path: PathBuf,
    parent: PathBuf,
    replaces: bool,
}

impl Target {
    fn new(context: &Context, file: &Path) -> Result<Self, Failure> {
        let (path, replaces) = match file.canonicalize() {
            Ok(path) if path.is_file() => (path, true),
            Ok(_) => {
                let message = format!("{} is there and is not a regular file", file.display());
                return Err(Failure::refused(message, "storage dump - > FILE"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (file.to_owned(), false),
            Err(error) => return Err(Failure::io(format!("{} cannot be used", file.display()), error)),
        };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let parent = parent
            .canonicalize()
            .map_err(|error| Failure::io(format!("the directory of {} cannot be used", file.display()), error))?;
        let inside = context.choice.data_dir().and_then(|dir| dir.canonicalize().ok());
        if inside.is_some_and(|dir| parent.starts_with(dir)) {
            let message = "a dump inside the data directory would be lost together with it";
            return Err(Failure::refused(message, "storage dump with a file elsewhere"));
        }
        Ok(Self { path, parent, replaces })
    }

    /// Writes beside the target and renames: the file is whole or not there.
    async fn write(&self, storage: &dyn storage_core::Storage) -> Result<DumpSummary, Failure> {
        let failed = |error| Failure::io(format!("{} could not be written", self.path.display()), error);
        let temporary = tempfile::Builder::new().prefix(".storage-dump-").tempfile_in(&self.parent).map_err(failed)?;
        let file = temporary.as_file().try_clone().map_err(failed)?;
        let buffered = tokio::io::BufWriter::with_capacity(1 << 20, tokio::fs::File::from_std(file));
        let mut out = Watched::new(buffered);
        let written = storage.dump(&mut out).await;
        let summary = out.settle(written, failed)?;
        out.flush().await.map_err(failed)?;
        out.inner.get_ref().sync_all().await.map_err(failed)?;
        temporary.persist(&self.path).map_err(|error| failed(error.error))?;
        if cfg!(unix) {
            // Without this a power cut could take the new name away again.
            File::open(&self.parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
        }
        Ok(summary)
    }
}

/// An output that remembers why it failed: the store only knows that its dump did not get through.
struct Watched<W> {
    inner: W,
    failed: Option<io::Error>,
}

impl<W> Watched<W> {
    fn new(inner: W) -> Self {
        Self { inner, failed: None }
    }
    /// What a dump answered, or why this output failed.
    fn settle(
        &mut self,
        written: Result<DumpSummary, Error>,
        failed: impl FnOnce(io::Error) -> Failure,
    ) -> Result<DumpSummary, Failure> {
        written.map_err(|error| self.failed.take().map_or_else(|| error.into(), failed))
    }
    fn watch<T>(&mut self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &polled {
            let same = error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
            self.failed.get_or_insert(same);
        }
        polled
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Watched<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.watch(polled)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(cx);
        self.watch(polled)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.watch(polled)
    }
}

pub(crate) async fn restore(context: &Context, file: &Path) -> Outcome {
    let failed = |error| Failure::io(format!("{} could not be read", shown(file)), error);
    // Proved whole before a store is opened, let alone created; what can be read only once is kept.
    let mut source = opened(file).map_err(failed)?;
    let (header, proved) = prove(BufReader::new(&source)).map_err(|problem| match problem {
        Problem::Read(error) => failed(error),
        Problem::Dump(error) if matches!(error.kind(), ErrorKind::Corrupt(_)) => {
            Failure::from(error).with_hint("storage restore with another dump; this one is damaged")
        }
        Problem::Dump(error) => error.into(),
    })?;
    same_policy(context, &header, file)?;
    if context.choice.exists() {
        let first = PageRequest::first(PageSize::new(1)?);
        let users = context.with_store(async |storage| Ok(storage.list_users(first).await?)).await?;
        if !users.items.is_empty() {
            let message =
                format!("a dump is restored into an empty store, and there are users at {}", context.choice.location());
            return Err(Failure::refused(message, format!("storage restore {} --data-dir NEW", word(file))));
        }
    }
    let mut plan = Plan::new(context, format!("{} will be restored", shown(file)));
    for (kind, count) in &proved.counts {
        plan.add(kind_word(kind), count.to_string());
    }
    plan.add("balances", proved.balances.to_string());
    plan.add("held", proved.held.to_string());
    if is_pipe(file) {
        plan.reads_stdin();
    }
    if !plan.approve(context)? {
        return Ok(Exit::Done);
    }
    source.rewind().map_err(failed)?;
    let mut from = tokio::io::BufReader::with_capacity(1 << 20, tokio::fs::File::from_std(source));
    let summary = context.with_new_store(async |storage| Ok(storage.restore(&mut from).await?)).await?;
    let printed = context.out.answer(&object(&summary, file), || to_text("restored", &summary));
    printed.map_err(|failure| failure.after_change("storage status"))?;
    Ok(Exit::Done)
}

/// Zone and retention are fixed when a store is created: a store of other ones must not come to be by accident.
fn same_policy(context: &Context, header: &DumpHeader, file: &Path) -> Result<(), Failure> {
    let policy = &context.config.environment.policy;
    if header.time_zone == policy.time_zone && header.history == policy.history {
        return Ok(());
    }
    let (zone, history) = (header.time_zone.name(), retention(header.history));
    let place = context.choice.data_dir().map(|dir| format!(" --data-dir {}", quoted(&dir.display().to_string())));
    let place = place.unwrap_or_default();
    let run = format!("STORAGE_TIME_ZONE={zone} STORAGE_HISTORY={history} storage restore {}{place}", word(file));
    let wanted = format!("{} and {}", policy.time_zone, retention(policy.history));
    Err(Error::schema(format!("a dump with time zone {zone} and history {history}"), wanted, run).into())
}

/// The dump as a file that can be read twice.
fn opened(file: &Path) -> io::Result<File> {
    if is_pipe(file) {
        return spooled(&mut io::stdin().lock());
    }
    let mut opened = File::open(file)?;
    if opened.metadata()?.is_file() { Ok(opened) } else { spooled(&mut opened) }
}

/// Copies what can be read only once to where it can be read again.
fn spooled(from: &mut impl Read) -> io::Result<File> {
    let mut spool = tempfile::tempfile()?;
    io::copy(from, &mut spool)?;
    spool.flush()?;
    spool.rewind()?;
    Ok(spool)
}

enum Problem {
    Read(io::Error),
    Dump(Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Dump(error)
    }
}

/// Reads a dump to its end and proves it whole.
fn prove(mut lines: impl BufRead) -> Result<(DumpHeader, DumpSummary), Problem> {
    let mut reader = DumpReader::new();
    let (mut line, longest) = (Vec::new(), MAX_DUMP_LINE as u64);
    loop {
        line.clear();
        lines.by_ref().take(longest).read_until(b'\n', &mut line).map_err(Problem::Read)?;
        if line.is_empty() {
            return Ok(reader.finish()?);
        }
        reader.line(&line)?;
    }
}

/// The file as the command line takes it.
fn word(file: &Path) -> String {
    if is_pipe(file) { "-".to_owned() } else { quoted(&file.display().to_string()) }
}

fn shown(file: &Path) -> String {
    if is_pipe(file) { "stdin".to_owned() } else { file.display().to_string() }
}

fn kind_word(kind: &str) -> &'static str {
    match kind {
        "account" => "users",
        "generation" => "generations",
        "hold" => "holds",
        "job" => "jobs",
        "key" => "used keys",
        "ledger" => "ledger rows",
        "payment" => "payments",
        _ => "other records",
    }
}

fn object(summary: &DumpSummary, file: &Path) -> serde_json::Value {
    json!({
        "file": file.display().to_string(),
        "counts": summary.counts,
        "balances": summary.balances,
        "held": summary.held,
        "ledger": summary.ledger,
        "sha256": summary.sha256,
    })
}

fn counted(summary: &DumpSummary, file: &Path) -> String {
    object(summary, file).to_string()
}

fn to_text(word: &str, summary: &DumpSummary) -> String {
    let mut about: Vec<(&str, String)> =
        summary.counts.iter().map(|(kind, count)| (kind_word(kind), count.to_string())).collect();
    about.push(("balances", summary.balances.to_string()));
    about.push(("held", summary.held.to_string()));
    about.push(("sha256", summary.sha256.clone()));
    format!("{word}\n{}", facts("  ", &about))
}
