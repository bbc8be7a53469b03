//! Runs scenarios on mutants.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use conformance_tests::{Scenario, prove, scenarios};

use crate::harness::Mutated;
use crate::switch;
use crate::table::{Mutant, mutants};

/// The longest that a scenario may take.
const LIMIT: Duration = Duration::from_mins(1);
/// The mutants that are caught because they come to no end, and how long that is waited for.
const ENDLESS: (&[&str], Duration) = (&["lost-wake-up", "cursor-by-number"], Duration::from_secs(3));
/// Which defect is on is known to the whole process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What became of a mutant.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    mutant: Mutant,
    /// How its scenario failed; `None` when it passed.
    caught: Option<String>,
}

impl Outcome {
    /// Whether the scenario that is meant to catch it did.
    pub(crate) fn is_caught(&self) -> bool {
        self.caught.is_some()
    }
    /// One line.
    pub(crate) fn line(&self) -> String {
        let Mutant { name, defect, caught_by, .. } = self.mutant;
        match &self.caught {
            Some(_) => format!("caught  {name:32} by {caught_by}"),
            None => format!("MISSED  {name:32} by {caught_by}: {defect}"),
        }
    }
}

/// What a scenario says to a mutant: `None` when it passes.
fn says(number: usize, scenario: Scenario) -> Option<String> {
    let mutant = number.checked_sub(1).and_then(|place| mutants().get(place).copied());
    let limit = if mutant.is_some_and(|mutant| ENDLESS.0.contains(&mutant.name)) { ENDLESS.1 } else { LIMIT };
    switch::turn_to(number);
    // A runtime of its own: a mutant may leave tasks behind that never end.
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Some(error.to_string()),
    };
    let outcome = runtime.block_on(prove(scenario, Arc::new(Mutated::default()), limit));
    runtime.shutdown_background();
    switch::turn_to(0);
    outcome.err()
}

fn named(id: &str) -> Option<Scenario> {
    scenarios().into_iter().find(|scenario| scenario.id == id)
}

/// Every mutant against its scenario; each outcome is told at once.
pub(crate) fn every_mutant(tell: &dyn Fn(&Outcome)) -> Vec<Outcome> {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    (1..)
        .zip(mutants())
        .map(|(number, mutant)| {
            let caught = named(mutant.caught_by).and_then(|scenario| says(number, scenario));
            let outcome = Outcome { mutant, caught };
            tell(&outcome);
            outcome
        })
        .collect()
}

/// The scenarios of the table that the backend without a defect fails, or that there are not.
pub(crate) fn wrong_with_the_right_backend() -> Vec<String> {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut ids: Vec<&str> = mutants().iter().map(|mutant| mutant.caught_by).collect();
    ids.sort_unstable();
    ids.dedup();
    let problem = |id: &&str| match named(id) {
        Some(scenario) => says(0, scenario).map(|problem| format!("{id}: {problem}")),
        None => Some(format!("{id}: no such scenario")),
    };
    ids.iter().filter_map(problem).collect()
}

/// Every scenario that catches a mutant, with what it says.
pub(crate) fn catchers(name: &str) -> Vec<String> {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(place) = mutants().iter().position(|mutant| mutant.name == name) else { return Vec::new() };
    let says = |scenario: Scenario| says(place + 1, scenario).map(|problem| format!("{}\n  {problem}", scenario.id));
    scenarios().into_iter().filter_map(says).collect()
}
