//! `storage dump` and `storage restore`: the whole store as lines of JSON.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;
use storage_core::dump::{DumpHeader, ProvedDump};
use storage_core::{DumpSummary, Error, ErrorKind, PageRequest, PageSize, Storage};
use tokio::io::AsyncWriteExt;

use crate::args::is_pipe;
use crate::confirm::Plan;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome, quoted};
use crate::output::{facts, stdout_failed};
use crate::progress::Progress;
use crate::stream::{Coding, Outgoing, Spooled};

pub(crate) async fn dump(context: &Context, file: &Path) -> Outcome {
    if !context.choice.exists() {
        return Err(context.no_store());
    }
    if is_pipe(file) {
        if context.dry_run {
            let (store, _) = context.planning(async |_| Ok(())).await?;
            return Plan::new(&store, "every record will be written to stdout").approve(context).map(|_| Exit::Done);
        }
        let summary = context
            .looking_at_chosen_store(async |storage| {
                let mut stdout = Outgoing::new(tokio::io::stdout(), None);
                let written = storage.dump(&mut stdout).await;
                let summary = written.map_err(|error| stdout.why().map_or_else(|| error.into(), stdout_failed))?;
                stdout.flush().await.map_err(stdout_failed)?;
                Ok(summary)
            })
            .await?;
        // The dump itself is what stdout holds.
        context.out.note(&if context.out.json { counted(&summary, file) } else { to_text("dumped", &summary) });
        return Ok(Exit::Done);
    }
    let target = Target::new(context, file)?;
    // A new file takes nothing from anybody: only one that would be replaced is asked about.
    if context.dry_run || target.replaces {
        let (store, _) = context.planning(async |_| Ok(())).await?;
        let mut plan = Plan::new(&store, format!("every record will be written to {}", file.display()));
        if target.replaces {
            plan.add("replaces", "the file that is there");
        }
        if !plan.approve(context)? {
            return Ok(Exit::Done);
        }
    }
    let summary = context.looking_at_chosen_store(async |storage| target.write(storage).await).await?;
    context
        .out
        .answer(&object(&summary, file), || format!("{}\ndump: {}", to_text("dumped", &summary), file.display()))?;
    Ok(Exit::Done)
}

/// A file that a dump goes to.
pub(crate) struct Target {
    path: PathBuf,
    parent: PathBuf,
    replaces: bool,
}

impl Target {
    pub(crate) fn new(context: &Context, file: &Path) -> Result<Self, Failure> {
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
    pub(crate) async fn write(&self, storage: &dyn Storage) -> Result<DumpSummary, Failure> {
        let failed = |error| Failure::io(format!("{} could not be written", self.path.display()), error);
        let temporary = tempfile::Builder::new().prefix(".storage-dump-").tempfile_in(&self.parent).map_err(failed)?;
        let file = temporary.as_file().try_clone().map_err(failed)?;
        let buffered = tokio::io::BufWriter::with_capacity(1 << 20, tokio::fs::File::from_std(file));
        let progress = Progress::open_end("dumping");
        let mut out = Outgoing::new(Coding::of(&self.path).encode(buffered), Some(&progress));
        let written = storage.dump(&mut out).await;
        let summary = written.map_err(|error| out.why().map_or_else(|| error.into(), failed))?;
        out.shutdown().await.map_err(failed)?;
        drop(progress);
        let parent = self.parent.clone();
        let kept = tokio::task::spawn_blocking(move || {
            temporary.as_file().sync_all()?;
            Ok::<_, io::Error>((temporary, parent))
        });
        let (temporary, parent) = kept.await.map_err(io::Error::other).flatten().map_err(failed)?;
        temporary.persist(&self.path).map_err(|error| failed(error.error))?;
        if cfg!(unix) {
            // Without this a power cut could take the new name away again.
            std::fs::File::open(&parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
        }
        Ok(summary)
    }
}

pub(crate) async fn restore(context: &Context, file: &Path) -> Outcome {
    let failed = |error| Failure::io(format!("{} could not be read", shown(file)), error);
    // Proved whole before a store is opened, let alone created; what can be read only once is kept.
    let opened = if is_pipe(file) { Spooled::take(tokio::io::stdin()).await } else { Spooled::open(file).await };
    let mut source = opened.map_err(|error| unreadable(file, error))?;
    let (header, proved) = prove(&mut source).await?;
    same_policy(context, &header, file)?;
    let first = PageRequest::first(PageSize::new(1)?);
    let (store, users) = context.planning(async |storage| Ok(storage.list_users(first).await?)).await?;
    if users.is_some_and(|users| !users.items.is_empty()) {
        let message =
            format!("a dump is restored into an empty store, and there are users at {}", context.choice.location());
        return Err(Failure::refused(message, format!("storage restore {} --data-dir NEW", word(file))));
    }
    let mut plan = Plan::new(&store, format!("{} will be restored", shown(file)));
    plan.add_summary(&proved);
    if is_pipe(file) {
        plan.reads_stdin();
    }
    if !plan.approve(context)? {
        return Ok(Exit::Done);
    }
    source.rewind().await.map_err(failed)?;
    let summary = context
        .with_new_store(async |storage| {
            let progress = Progress::of_bytes("restoring");
            Ok(storage.restore(&mut source.watched(&progress)).await?)
        })
        .await?;
    let printed = context.out.answer(&object(&summary, file), || to_text("restored", &summary));
    printed.map_err(|failure| failure.after_change("storage status"))?;
    Ok(Exit::Done)
}

/// Reads a dump to its end and proves it whole.
pub(crate) async fn prove(source: &mut Spooled) -> Result<(DumpHeader, DumpSummary), Failure> {
    let progress = Progress::of_bytes("proving the dump");
    let mut watched = source.watched(&progress);
    let proved = ProvedDump::prove(&mut watched).await.map_err(|error| {
        let damaged = matches!(error.kind(), ErrorKind::Corrupt(_));
        let failure = Failure::from(error);
        if damaged { failure.with_hint("storage restore with another dump; this one is damaged") } else { failure }
    })?;
    let header = proved.header().cloned().ok_or_else(|| Error::internal("a dump without a header is whole"))?;
    Ok((header, proved.summary().clone()))
}

/// Why a dump could not be read; compressed ones end in words of their own.
fn unreadable(file: &Path, error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::Other => {
            let place = storage_core::Place::new(shown(file));
            let error = Error::corrupt(place, "the compressed dump is damaged or was cut").caused_by(error);
            Failure::from(error).with_hint("storage restore with another dump; this one is damaged")
        }
        io::ErrorKind::NotFound => Failure::io(format!("{} could not be read", shown(file)), error)
            .with_hint("ls, and the same command with a file that is there"),
        _ => Failure::io(format!("{} could not be read", shown(file)), error),
    }
}

/// Zone and retention are fixed when a store is created: a store of other ones must not come to be by accident.
fn same_policy(context: &Context, header: &DumpHeader, file: &Path) -> Result<(), Failure> {
    let policy = &context.config.environment.policy;
    if header.time_zone == policy.time_zone && header.history == policy.history {
        return Ok(());
    }
    let (zone, history) = (header.time_zone.name(), header.history);
    let place = context.choice.data_dir().map(|dir| format!(" --data-dir {}", quoted(&dir.display().to_string())));
    let place = place.unwrap_or_default();
    let run = format!("STORAGE_TIME_ZONE={zone} STORAGE_HISTORY={history} storage restore {}{place}", word(file));
    let wanted = format!("{} and {}", policy.time_zone, policy.history);
    Err(Error::schema(format!("a dump with time zone {zone} and history {history}"), wanted, run).into())
}

/// The file as the command line takes it.
fn word(file: &Path) -> String {
    if is_pipe(file) { "-".to_owned() } else { quoted(&file.display().to_string()) }
}

fn shown(file: &Path) -> String {
    if is_pipe(file) { "stdin".to_owned() } else { file.display().to_string() }
}

/// What the records of a kind are called.
pub(crate) fn kind_word(kind: &str) -> &'static str {
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
