//! `storage backup`: a dump that was proved to be one. It is restored into a scratch store and dumped again; only then
//! do older backups go.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use storage_core::{AuditScope, DumpSummary, Timestamp};
use storage_factory::{Config, Mode, look};

use crate::args::{BackupArgs, Compression};
use crate::compare::{compare, piped};
use crate::confirm::Plan;
use crate::context::Context;
use crate::dump::{Target, kind_word};
use crate::exit::{Exit, Failure, Outcome, quoted};
use crate::output::facts;
use crate::progress::Progress;
use crate::stream::Spooled;

const PREFIX: &str = "storage-";
const ENDINGS: [&str; 3] = [".jsonl.zst", ".jsonl.gz", ".jsonl"];

#[derive(Debug, Serialize)]
struct Report {
    file: String,
    bytes: u64,
    #[serde(flatten)]
    summary: DumpSummary,
    /// Restored into a scratch store, dumped again, equal to the byte, and nothing for an audit to find.
    tested: bool,
    kept: usize,
    removed: Vec<String>,
}

pub(crate) async fn run(context: &Context, arguments: BackupArgs) -> Outcome {
    let BackupArgs { dir, keep, compress } = arguments;
    if !context.choice.exists() {
        return Err(context.no_store());
    }
    let found = backups(&dir).map_err(|error| unusable(&dir, error))?;
    let ending = match compress {
        Compression::Zst => ".jsonl.zst",
        Compression::Gz => ".jsonl.gz",
        Compression::None => ".jsonl",
    };
    let file = dir.join(format!("{PREFIX}{}{ending}", stamp(context.config.environment.clock.now())));
    if file.exists() {
        let message = format!("{} is there already", file.display());
        return Err(Failure::refused(message, "the same command a second later"));
    }
    let keep = keep.map(|keep| usize::try_from(keep.get()).unwrap_or(usize::MAX));
    // The new one counts.
    let going: Vec<PathBuf> = match keep {
        Some(keep) => found.iter().take((found.len() + 1).saturating_sub(keep)).cloned().collect(),
        None => Vec::new(),
    };
    // A new file takes nothing from anybody: only what would be removed is asked about.
    if context.dry_run || !going.is_empty() {
        let (store, _) = context.planning(async |_| Ok(())).await?;
        let mut plan = Plan::new(&store, format!("a backup will be made in {}, and tested", dir.display()));
        plan.add("file", name_of(&file));
        plan.add("there now", found.len().to_string());
        for gone in &going {
            plan.add("removes", name_of(gone));
        }
        if !plan.approve(context)? {
            return Ok(Exit::Done);
        }
    }
    let target = Target::new(context, &file)?;
    let summary = context.looking_at_chosen_store(async |storage| target.write(storage).await).await?;
    if let Err(failure) = test(context, &file, &summary).await {
        // Kept for whoever looks into it, under a name that no retention counts.
        let failed = PathBuf::from(format!("{}.failed", file.display()));
        rename(&file, &failed).map_err(|error| unusable(&dir, error))?;
        return Err(
            failure.with_hint(format!("storage verify, and storage audit; the file is kept as {}", failed.display()))
        );
    }
    let mut removed = Vec::new();
    for gone in going {
        remove(&gone).map_err(|error| Failure::io(format!("{} could not be removed", gone.display()), error))?;
        removed.push(gone.display().to_string());
    }
    let bytes = std::fs::metadata(&file).map(|metadata| metadata.len()).unwrap_or_default();
    let kept = backups(&dir).map_err(|error| unusable(&dir, error))?.len();
    let report = Report { file: file.display().to_string(), bytes, summary, tested: true, kept, removed };
    let printed = context.out.answer(&report, || text(context, &report));
    printed.map_err(|failure| failure.after_change(format!("ls {}", quoted(&dir.display().to_string()))))?;
    Ok(Exit::Done)
}

/// Restores a backup into a scratch store, dumps that, and compares.
async fn test(context: &Context, file: &Path, summary: &DumpSummary) -> Result<(), Failure> {
    let failed = |error| Failure::io(format!("{} could not be read back", file.display()), error);
    let scratch = tempfile::tempdir().map_err(|error| Failure::io("no scratch directory could be made", error))?;
    let mut source = Spooled::open(file).await.map_err(failed)?;
    let config = Config {
        mode: Mode::Json,
        data_dir: scratch.path().join("data"),
        database_url: None,
        ..context.config.clone()
    };
    let storage = look(config).await?;
    let tested = async {
        let progress = Progress::of_bytes("testing the backup");
        let restored = storage.restore(&mut source.watched(&progress)).await?;
        source.rewind().await.map_err(failed)?;
        let reader = source.reader();
        let (dumped, compared) =
            piped(&*storage, async |theirs| compare(reader, theirs, ["the backup", "its restore"], None).await).await?;
        let audit = storage.audit(AuditScope::Everyone).await?;
        if restored == *summary && dumped == *summary && compared.different_records == 0 && audit.findings.is_empty() {
            return Ok(());
        }
        let message = format!(
            "the backup does not hold what was dumped: {} records differ, the audit found {}",
            compared.different_records,
            audit.findings.len()
        );
        Err(Failure::from(storage_core::Error::corrupt(storage_core::Place::new(file.display().to_string()), message)))
    }
    .await;
    let _ = storage.close().await;
    tested
}

/// The backups of a directory, oldest first: their names hold their times.
fn backups(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = name_of(&path);
        let stamp = name.strip_prefix(PREFIX).and_then(|rest| ENDINGS.iter().find_map(|end| rest.strip_suffix(end)));
        if stamp.is_some_and(is_stamp) && path.is_file() {
            found.push(path);
        }
    }
    found.sort_unstable_by_key(|path| name_of(path));
    Ok(found)
}

/// A moment as a part of a file's name: 2026-01-15T10-00-00Z.
fn stamp(at: Timestamp) -> String {
    let iso = at.to_naive_iso();
    format!("{}Z", iso.split('.').next().unwrap_or(&iso).replace(':', "-"))
}

fn is_stamp(text: &str) -> bool {
    let form = "0000-00-00T00-00-00Z";
    text.len() == form.len()
        && text
            .chars()
            .zip(form.chars())
            .all(|(c, wanted)| if wanted == '0' { c.is_ascii_digit() } else { c == wanted })
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn unusable(dir: &Path, error: io::Error) -> Failure {
    let dir = dir.display();
    Failure::io(format!("the directory {dir} cannot be used"), error)
        .with_hint(format!("mkdir -p {dir}, and the same command"))
}

#[expect(clippy::disallowed_methods, reason = "a backup is no file of a store's directory")]
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)
}

#[expect(clippy::disallowed_methods, reason = "a backup is no file of a store's directory")]
fn remove(file: &Path) -> io::Result<()> {
    std::fs::remove_file(file)
}

fn text(context: &Context, report: &Report) -> String {
    let mut about = vec![("file", report.file.clone()), ("bytes", report.bytes.to_string())];
    about.extend(report.summary.counts.iter().map(|(kind, count)| (kind_word(kind), count.to_string())));
    about.push(("balances", report.summary.balances.to_string()));
    about.push(("held", report.summary.held.to_string()));
    about.push(("sha256", report.summary.sha256.clone()));
    about.push(("backups kept", report.kept.to_string()));
    about.extend(report.removed.iter().map(|file| ("removed", file.clone())));
    format!("{}\n{}", context.out.good("backed up, restored for a test, and equal"), facts("  ", &about))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_holds_a_moment_and_nothing_else_is_a_backup() {
        let at = "2026-01-15T10:07:08.123456Z".parse().unwrap();
        assert_eq!(stamp(at), "2026-01-15T10-07-08Z");
        assert!(is_stamp(&stamp(at)));
        for other in ["", "2026-01-15", "2026-01-15T10-07-08Z.failed", "2026-01-15T10:07:08Z", "mine"] {
            assert!(!is_stamp(other), "{other}");
        }
    }
}
