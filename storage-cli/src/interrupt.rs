//! Ctrl-C: what is one atom is given up whole, what goes in batches ends after the batch, and either says how to go on.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::args::Command;
use crate::exit::Failure;
use crate::output::Output;

static ASKED: AtomicBool = AtomicBool::new(false);
static ASKING: AtomicBool = AtomicBool::new(false);

/// How a command stops.
pub(crate) enum Stop {
    /// At once: nothing of it is there then. The advice.
    AtOnce(&'static str),
    /// After the batch that is under way.
    AfterBatch,
    /// As the system has it: it is over in a moment.
    Never,
}

impl Stop {
    pub(crate) fn of(command: &Command) -> Self {
        match command {
            Command::Dump { .. } => Self::AtOnce("the same command again; no file was written"),
            Command::Backup(_) => Self::AtOnce("the same command again; no older backup was removed"),
            Command::Restore { .. } => {
                Self::AtOnce("storage status, which tells whether it was restored; all of it or nothing is there")
            }
            Command::Copy(_) => Self::AtOnce("the same command again, which goes on"),
            Command::Compare(_) => Self::AtOnce("the same command again"),
            Command::Import(_) | Command::Merge(_) | Command::Migrate(_) => Self::AfterBatch,
            _ => Self::Never,
        }
    }
}

/// Whether somebody pressed Ctrl-C: whoever works in batches looks between two of them.
pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// The failure of a command that stopped between two batches.
pub(crate) fn stopped(done: u64, total: u64) -> Failure {
    Failure::Interrupted {
        message: format!("interrupted after {done} of {total}; what was done stays done"),
        hint: "the same command again, which goes on and does nothing twice".to_owned(),
    }
}

/// Shows a question and waits for a person's answer: Ctrl-C ends the command there, before anything was changed.
///
/// Here `ASKING` is set before `ASKED` is read; whoever listens sets `ASKED` before it reads `ASKING`. One of the two sees the other,
/// so that no interrupt is kept for a work that waits for the answer.
pub(crate) fn while_asking<T>(ask: impl FnOnce() -> T) -> T {
    ASKING.store(true, Ordering::SeqCst);
    if asked() {
        end();
    }
    let answer = ask();
    ASKING.store(false, Ordering::SeqCst);
    answer
}

/// As a shell tells of a program that a signal ended.
fn end() -> ! {
    std::process::exit(130);
}

/// Runs a command until it ends or is told to stop.
pub(crate) async fn until_asked<T>(
    stop: Stop,
    out: &Output,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    if matches!(stop, Stop::Never) {
        return work.await;
    }
    let (tell, told) = tokio::sync::oneshot::channel();
    let note = matches!(stop, Stop::AfterBatch).then(|| out.clone());
    // A task of its own: while a question is asked, nothing else gets its turn on this thread.
    let listening = tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_err() {
            return;
        }
        ASKED.store(true, Ordering::SeqCst);
        if ASKING.load(Ordering::SeqCst) {
            end();
        }
        let _ = tell.send(());
        if let Some(out) = note {
            out.note("stopping after this batch; Ctrl-C once more stops at once");
        }
        if tokio::signal::ctrl_c().await.is_ok() {
            end();
        }
    });
    let outcome = match stop {
        Stop::AtOnce(hint) => tokio::select! {
            outcome = work => outcome,
            // Dropping the work takes back what it had begun: a transaction, a temporary file.
            Ok(()) = told => Err(Failure::Interrupted { message: "interrupted".to_owned(), hint: hint.to_owned() }),
        },
        Stop::AfterBatch | Stop::Never => work.await,
    };
    listening.abort();
    outcome
}
