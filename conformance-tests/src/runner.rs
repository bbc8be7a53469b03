//! Runs every scenario as a named, filterable line.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::runtime::{Builder, Handle};
use tokio::time::timeout;

use crate::certificate::{Certificate, Proof, Verdict};
use crate::context::Context;
use crate::harness::Harness;
use crate::model::Settings;
use crate::scenario::{Scenario, scenarios};

/// The longest that a scenario may take: a minute, unless the environment asked for long random histories.
fn limit() -> Duration {
    match Settings::from_environment() {
        Ok(settings) if settings.is_long() => Duration::from_hours(12),
        _ => Duration::from_mins(1),
    }
}

/// What became of each scenario so far.
type Verdicts = Arc<Mutex<BTreeMap<&'static str, (Verdict, Vec<String>)>>>;

/// Runs the suite against a backend, with the command line of `cargo test`, and ends with a certificate.
///
/// Call it from the `main` of a test with `harness = false` and hand its code on:
///
/// | code | meaning |
/// | --- | --- |
/// | 0 | every scenario that was run passed |
/// | 2 | the command line or the environment was not understood, or the certificate could not be written |
/// | 3 | `CONFORMANCE_WHOLE` is set, a scenario was ignored or left out, and the harness does not say `is_a_part` |
/// | 101 | a scenario failed |
///
/// The certificate is printed in short; with `CONFORMANCE_CERTIFICATE=DIRECTORY` it is also written there, as text, as
/// JSON and as an HTML page.
pub fn run(harness: impl Harness) -> ExitCode {
    let arguments = Arguments::from_args();
    if let Err(problem) = Settings::from_environment() {
        return not_understood(&problem);
    }
    let runtime = match Builder::new_multi_thread().worker_threads(4).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return not_understood(&error.to_string()),
    };
    let harness: Arc<dyn Harness> = Arc::new(harness);
    let verdicts = Verdicts::default();
    let trial = |scenario| trial(scenario, &harness, &verdicts, runtime.handle().clone());
    let conclusion = libtest_mimic::run(&arguments, scenarios().into_iter().map(trial).collect());
    runtime.shutdown_timeout(Duration::from_secs(5));
    if arguments.list {
        return conclusion.exit_code();
    }
    let certificate = certificate(&*harness, &verdicts);
    if !arguments.quiet {
        say(&format!("{}\n", certificate.text().trim_end()));
    }
    if let Some(directory) = std::env::var_os("CONFORMANCE_CERTIFICATE") {
        let directory = PathBuf::from(directory);
        if let Err(error) = certificate.write(&directory) {
            return not_understood(&format!("no certificate in {}: {error}", directory.display()));
        }
    }
    if conclusion.has_failed() {
        ExitCode::from(101)
    } else if std::env::var_os("CONFORMANCE_WHOLE").is_some() && !certificate.is_whole() && !harness.is_a_part() {
        ExitCode::from(3)
    } else {
        ExitCode::SUCCESS
    }
}

fn say(text: &str) {
    // Whoever closed the output does not read what became of it.
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn not_understood(problem: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{problem}");
    ExitCode::from(2)
}

fn certificate(harness: &dyn Harness, verdicts: &Verdicts) -> Certificate {
    let verdicts = verdicts.lock().unwrap_or_else(PoisonError::into_inner);
    let proof = |scenario: Scenario| {
        let (verdict, notes) = verdicts.get(scenario.id).cloned().unwrap_or((Verdict::NotRun, Vec::new()));
        Proof { scenario, verdict, notes }
    };
    Certificate { backend: harness.name().to_owned(), proofs: scenarios().into_iter().map(proof).collect() }
}

fn trial(scenario: Scenario, harness: &Arc<dyn Harness>, verdicts: &Verdicts, runtime: Handle) -> Trial {
    let (harness, verdicts) = (Arc::clone(harness), Arc::clone(verdicts));
    Trial::ignorable_test(scenario.id, move || {
        let known = |verdict, notes| {
            verdicts.lock().unwrap_or_else(PoisonError::into_inner).insert(scenario.id, (verdict, notes));
        };
        if let Some(need) = scenario.needs.iter().find(|need| !harness.supports(**need)) {
            let reason = format!("{} has no {need}", harness.name());
            known(Verdict::Ignored(reason.clone()), Vec::new());
            return Ok(Completion::ignored_with(reason));
        }
        let (outcome, notes) = runtime.block_on(noted(scenario, harness, limit()));
        match outcome {
            Ok(()) => {
                known(Verdict::Passed, notes);
                Ok(Completion::Completed)
            }
            Err(problem) => {
                known(Verdict::Failed(problem.clone()), notes);
                Err(Failed::from(problem))
            }
        }
    })
}

/// Runs one scenario on sites of its own, within a limit of time. An error says how it failed; its sites are kept.
///
/// # Errors
/// How the scenario failed.
pub async fn prove(scenario: Scenario, harness: Arc<dyn Harness>, limit: Duration) -> Result<(), String> {
    noted(scenario, harness, limit).await.0
}

/// Runs one scenario; answers what became of it, and what it noted.
async fn noted(scenario: Scenario, harness: Arc<dyn Harness>, limit: Duration) -> (Result<(), String>, Vec<String>) {
    let context = match Context::new(Arc::clone(&harness)).await {
        Ok(context) => context,
        Err(failure) => return (Err(failure.to_string()), Vec::new()),
    };
    // In a task of its own, so that a panic is a failure like any other.
    let mut task = tokio::spawn((scenario.run)(context.clone()));
    let mut problem = match timeout(limit, &mut task).await {
        Ok(Ok(Ok(()))) => {
            for site in context.sites() {
                harness.destroy(site).await;
            }
            return (Ok(()), context.notes());
        }
        Ok(Ok(Err(failure))) => failure.to_string(),
        Ok(Err(panicked)) => format!("the scenario or the backend panicked: {panicked}"),
        Err(_) => {
            task.abort();
            format!("not done after {} s", limit.as_secs())
        }
    };
    for site in context.sites() {
        // Writing to a String cannot fail.
        let _ = write!(problem, "\nkept: {site}");
    }
    (Err(problem), context.notes())
}
