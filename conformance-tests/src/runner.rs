//! Runs every scenario as a named, filterable line.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::runtime::{Builder, Handle};
use tokio::time::timeout;

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

/// Runs the suite against a backend, with the command line of `cargo test`.
///
/// Call it from the `main` of a test with `harness = false` and hand its code on.
pub fn run(harness: impl Harness) -> ExitCode {
    let arguments = Arguments::from_args();
    let runtime = match Builder::new_multi_thread().worker_threads(4).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failed = Trial::test("runtime", move || Err(Failed::from(error)));
            return libtest_mimic::run(&arguments, vec![failed]).exit_code();
        }
    };
    let harness: Arc<dyn Harness> = Arc::new(harness);
    let trials = scenarios().into_iter().map(|scenario| trial(scenario, &harness, runtime.handle().clone())).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    runtime.shutdown_timeout(Duration::from_secs(5));
    conclusion.exit_code()
}

fn trial(scenario: Scenario, harness: &Arc<dyn Harness>, runtime: Handle) -> Trial {
    let harness = Arc::clone(harness);
    Trial::ignorable_test(scenario.id, move || {
        if let Some(need) = scenario.needs.iter().find(|need| !harness.supports(**need)) {
            return Ok(Completion::ignored_with(format!("{} has no {need}", harness.name())));
        }
        let outcome = runtime.block_on(prove(scenario, harness, limit()));
        outcome.map(|()| Completion::Completed).map_err(Failed::from)
    })
}

/// Runs one scenario on sites of its own, within a limit of time. An error says how it failed; its sites are kept.
pub async fn prove(scenario: Scenario, harness: Arc<dyn Harness>, limit: Duration) -> Result<(), String> {
    let context = Context::new(Arc::clone(&harness)).await.map_err(|failure| failure.to_string())?;
    // In a task of its own, so that a panic is a failure like any other.
    let mut task = tokio::spawn((scenario.run)(context.clone()));
    let problem = match timeout(limit, &mut task).await {
        Ok(Ok(Ok(()))) => {
            for site in context.sites() {
                harness.destroy(site).await;
            }
            return Ok(());
        }
        Ok(Ok(Err(failure))) => failure.to_string(),
        Ok(Err(panicked)) => format!("the scenario or the backend panicked: {panicked}"),
        Err(_) => {
            task.abort();
            format!("not done after {} s", limit.as_secs())
        }
    };
    let mut message = problem;
    for note in context.notes() {
        let _ = write!(message, "\n{note}");
    }
    for site in context.sites() {
        // Writing to a String cannot fail.
        let _ = write!(message, "\nkept: {site}");
    }
    Err(message)
}
