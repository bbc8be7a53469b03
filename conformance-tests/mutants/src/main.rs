//! The self-check of the suite: the example backend with one defect at a time. Each must be caught by the scenario that
//! is meant to catch it, and the backend without a defect must pass them all.
//!
//! The build script makes one copy of the example with every defect behind a switch, so that all are compiled once.
//!
//! ```text
//! conformance-mutants               every mutant against its scenario
//! conformance-mutants NAME          one of them, against every scenario: which ones catch it
//! conformance-mutants --table       docs/mutants.md, to standard output
//! ```
//!
//! Exits 0 when every mutant was caught, 1 when one was not, 2 for arguments that are none.

mod harness;
mod report;
mod run;
mod switch;
#[expect(dead_code, reason = "the build script reads the rest")]
mod table;

#[expect(
    unused,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::float_arithmetic,
    reason = "generated, with defects on purpose"
)]
mod broken {
    include!(concat!(env!("OUT_DIR"), "/broken.rs"));
}

use std::io::Write as _;
use std::process::ExitCode;

use table::mutants;

fn say(text: &str) {
    // Whoever closed the output does not read what became of it.
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => every_mutant(),
        ["--table"] => {
            say(report::page().trim_end());
            ExitCode::SUCCESS
        }
        [name] if mutants().iter().any(|mutant| mutant.name == name) => {
            for scenario in run::catchers(name) {
                say(&scenario);
            }
            ExitCode::SUCCESS
        }
        _ => {
            say("conformance-mutants [--table | NAME]; the names are in docs/mutants.md");
            ExitCode::from(2)
        }
    }
}

fn every_mutant() -> ExitCode {
    let wrong = run::wrong_with_the_right_backend();
    for problem in &wrong {
        say(&format!("the backend without a defect fails: {problem}"));
    }
    let outcomes = run::every_mutant(&|outcome| say(&outcome.line()));
    let caught = outcomes.iter().filter(|outcome| outcome.is_caught()).count();
    say(&format!("mutants caught: {caught} of {}", outcomes.len()));
    if caught == outcomes.len() && wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_is_caught_by_its_scenario_and_the_right_backend_is_not() {
        assert_eq!(run::wrong_with_the_right_backend(), Vec::<String>::new());
        let missed: Vec<String> =
            run::every_mutant(&|_| ()).iter().filter(|outcome| !outcome.is_caught()).map(run::Outcome::line).collect();
        assert!(missed.is_empty(), "{}", missed.join("\n"));
    }

    #[test]
    fn no_two_mutants_have_one_name() {
        let names: std::collections::BTreeSet<&str> = mutants().iter().map(|mutant| mutant.name).collect();
        assert_eq!(names.len(), mutants().len());
    }

    #[test]
    fn the_table_in_docs_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/mutants.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            let mut file = std::fs::File::create(path).unwrap();
            file.write_all(report::page().as_bytes()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        let hint = "docs/mutants.md is out of date; run UPDATE_DOCS=1 cargo test -p conformance-mutants";
        assert!(written == report::page(), "{hint}");
    }
}
