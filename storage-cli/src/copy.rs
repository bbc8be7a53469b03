//! `storage copy`: everything from one store into another, and the proof that it arrived.
//!
//! 1. The source is marked as moved: nobody changes it any more.
//! 2. It is dumped into a spool file.
//! 3. The spool is restored into the target, in one atom.
//! 4. The target is dumped and compared with the spool, record by record.
//!
//! Whatever is killed and whenever, the same command goes on: before 3 has happened the target is empty and everything
//! begins anew, and afterwards it holds all of it and 4 proves it.

use std::path::PathBuf;

use serde::Serialize;
use storage_core::{DumpSummary, Error, PageRequest, PageSize, SharedStorage, Storage};

use crate::args::{CopyArgs, Lookup};
use crate::compare::{Compared, compare, listed, piped};
use crate::confirm::Plan;
use crate::context::Context;
use crate::dump::kind_word;
use crate::endpoint::Place;
use crate::exit::{Exit, Failure, Outcome, quoted};
use crate::output::facts;
use crate::progress::Progress;
use crate::stream::{Outgoing, Spool, Spooled};

/// What a copy leaves: the same however often it was interrupted.
#[derive(Debug, Serialize)]
struct Receipt {
    from: String,
    to: String,
    #[serde(flatten)]
    copied: DumpSummary,
    /// Whether every record of the target is equal to the source's, to the byte.
    verified: bool,
    /// Whether the source takes no changes any more.
    source_marked: bool,
    #[serde(flatten)]
    compared: Compared,
}

pub(crate) async fn run(context: &Context, arguments: CopyArgs, environment: Lookup<'_>) -> Outcome {
    let CopyArgs { from, to, keep_source, receipt } = arguments;
    let (from, to) = (Place::of(context, &from, environment)?, Place::of(context, &to, environment)?);
    let from_storage = checked_source(context, &from, &to).await?;
    let outcome = with_source(context, &from, &to, &*from_storage, keep_source, receipt).await;
    close(context, from_storage).await;
    outcome
}

async fn close(context: &Context, storage: SharedStorage) {
    if let Err(error) = storage.close().await {
        context.out.note(&format!("warning: a store could not be closed: {}", error.report()));
    }
}

async fn checked_source(context: &Context, from: &Place, to: &Place) -> Result<SharedStorage, Failure> {
    if from.name == to.name {
        return Err(Failure::refused("source and target are the same store", "storage copy with another --to"));
    }
    if !from.exists {
        return Err(Failure::from(Error::not_found("store", &from.name))
            .with_hint("storage copy with another --from, or storage import DIR for files of the earlier system"));
    }
    from.open(context).await
}

/// What stands at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum There {
    Nothing,
    Users,
}

async fn look_there(context: &Context, to: &Place) -> Result<There, Failure> {
    if !to.exists {
        return Ok(There::Nothing);
    }
    let storage = to.open(context).await?;
    let users = storage.list_users(PageRequest::first(PageSize::new(1)?)).await;
    let moved = storage.moved_to().await;
    close(context, storage).await;
    if let Some(moved) = moved? {
        let message = format!("{} was itself moved to {moved}", to.name);
        return Err(Failure::refused(message, format!("storage lift {} {}", quoted(moved.as_str()), to.flags())));
    }
    Ok(if users?.items.is_empty() { There::Nothing } else { There::Users })
}

async fn with_source(
    context: &Context,
    from: &Place,
    to: &Place,
    source: &dyn Storage,
    keep_source: bool,
    receipt: Option<PathBuf>,
) -> Outcome {
    let mark = source.moved_to().await?;
    // A mark that names this target is of an earlier run, which this one goes on with.
    let resumed = mark.as_ref() == Some(&to.name);
    if let Some(other) = mark.filter(|_| !resumed) {
        let message = format!("{} was moved to {other} already", from.name);
        let lift = format!("storage lift {} {}", quoted(other.as_str()), from.flags());
        return Err(Failure::refused(message, format!("storage copy --from that store; or {lift}")));
    }
    let there = look_there(context, to).await?;
    if there == There::Users && !resumed {
        let message = format!("{} holds users already, and a copy goes into an empty store", to.name);
        let hint = format!("storage merge --from {} --to {}, or another --to", from.word(), to.word());
        return Err(Failure::refused(message, hint));
    }
    let title = match (resumed, keep_source) {
        (true, _) => format!("the copy of {} into {} will go on", from.name, to.name),
        (false, true) => format!("{} will be copied into {}, and goes on being used", from.name, to.name),
        (false, false) => {
            format!(
                "{} will be copied into {}; it is marked as moved and takes no changes any more",
                from.name, to.name
            )
        }
    };
    let mut plan = Plan::of_places(title, &[("from", from), ("to", to)]);
    // Nobody is asked: then what is shown is what is copied, and the source need not be read twice.
    let at_once = context.yes && !context.dry_run;
    if at_once && !keep_source {
        source.mark_moved(to.name.clone()).await?;
    }
    let (mut spooled, mut summary) = spool(source).await.map_err(|failure| again(failure, from, to))?;
    plan.add_summary(&summary);
    if !plan.approve(context)? {
        return Ok(Exit::Done);
    }
    if !at_once && !keep_source {
        source.mark_moved(to.name.clone()).await?;
        // What came since the plan was made; from here on nothing comes.
        (spooled, summary) = spool(source).await.map_err(|failure| again(failure, from, to))?;
    }
    let target = to.open(context).await.map_err(|failure| again(failure, from, to))?;
    let moved = move_into(&*target, there, spooled, [from, to], &summary).await;
    close(context, target).await;
    let (held, compared) = moved.map_err(|failure| again(failure, from, to))?;
    let verified = compared.different_records == 0 && held == summary;
    let answer = Receipt {
        from: from.name.to_string(),
        to: to.name.to_string(),
        copied: summary,
        verified,
        source_marked: !keep_source,
        compared,
    };
    if let Some(file) = receipt {
        write_receipt(&file, &answer)?;
    }
    let printed = context.out.answer(&answer, || text(context, &answer, from, to));
    printed.map_err(|failure| failure.after_change(format!("storage compare {} {}", from.word(), to.word())))?;
    Ok(if verified { Exit::Done } else { Exit::Differences })
}

/// Dumps a store into a file without a name.
async fn spool(source: &dyn Storage) -> Result<(Spooled, DumpSummary), Failure> {
    let failed = |error| {
        let dir = std::env::temp_dir();
        Failure::io(format!("the spool file in {} (TMPDIR) could not be written", dir.display()), error)
    };
    let mut spool = Spool::new().map_err(failed)?;
    let progress = Progress::open_end("reading the source");
    let mut out = Outgoing::new(spool.out(), Some(&progress));
    let written = source.dump(&mut out).await;
    let summary = written.map_err(|error| out.why().map_or_else(|| error.into(), failed))?;
    drop(out);
    Ok((spool.done().await.map_err(failed)?, summary))
}

/// Restores the spool, unless an earlier run did, and compares.
async fn move_into(
    target: &dyn Storage,
    there: There,
    mut spooled: Spooled,
    [from, to]: [&Place; 2],
    summary: &DumpSummary,
) -> Result<(DumpSummary, Compared), Failure> {
    let failed = |error| Failure::io("the spool file could not be read", error);
    if there == There::Nothing {
        let progress = Progress::of_bytes("writing the target");
        target.restore(&mut spooled.watched(&progress)).await?;
    }
    spooled.rewind().await.map_err(failed)?;
    let progress = Progress::new("comparing");
    let total = summary.counts.values().sum();
    piped(target, async |theirs| {
        compare(spooled.reader(), theirs, [from.name.as_str(), to.name.as_str()], Some((&progress, total))).await
    })
    .await
}

/// With the advice that an interrupted copy needs.
pub(crate) fn again(failure: Failure, from: &Place, to: &Place) -> Failure {
    let lift = format!("storage lift {} {}", quoted(to.name.as_str()), from.flags());
    failure.with_hint(format!("the same command again, which goes on; or {lift}, which gives the copy up"))
}

fn write_receipt(file: &std::path::Path, receipt: &Receipt) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::io(format!("everything was copied, only {} could not be written", file.display()), error)
    };
    let text = serde_json::to_vec_pretty(receipt).map_err(|error| failed(error.into()))?;
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(std::path::Path::new("."));
    let mut staged = tempfile::Builder::new().prefix(".storage-receipt-").tempfile_in(parent).map_err(failed)?;
    std::io::Write::write_all(&mut staged, &text).map_err(failed)?;
    staged.as_file().sync_all().map_err(failed)?;
    staged.persist(file).map(|_| ()).map_err(|error| failed(error.error))
}

fn text(context: &Context, receipt: &Receipt, from: &Place, to: &Place) -> String {
    let mut about = vec![("from", receipt.from.clone()), ("to", receipt.to.clone())];
    let copied = &receipt.copied;
    about.extend(copied.counts.iter().map(|(kind, count)| (kind_word(kind), count.to_string())));
    about.push(("balances", copied.balances.to_string()));
    about.push(("held", copied.held.to_string()));
    about.push(("ledger", copied.ledger.to_string()));
    about.push(("sha256", copied.sha256.clone()));
    let word =
        if receipt.verified { context.out.good("copied, and proved equal") } else { context.out.bad("different") };
    let mut parts = vec![format!("{word}\n{}", facts("  ", &about))];
    parts.extend(listed(&receipt.compared));
    if receipt.source_marked {
        parts.push(format!(
            "{} takes no changes any more; `storage lift {} {}` would lift that",
            from.name,
            quoted(to.name.as_str()),
            from.flags()
        ));
    }
    parts.join("\n\n")
}
