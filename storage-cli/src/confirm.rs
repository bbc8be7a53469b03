//! Asking before something changes.

use std::io::{BufRead, IsTerminal};

use serde_json::{Map, Value, json};
use storage_core::DumpSummary;

use crate::context::{Context, Planned};
use crate::dump::kind_word;
use crate::endpoint::Place;
use crate::exit::Failure;
use crate::output::facts;

/// What a command is about to do.
#[derive(Debug)]
pub(crate) struct Plan {
    title: String,
    lines: Vec<(&'static str, String)>,
    reads_stdin: bool,
}

impl Plan {
    /// A plan with a sentence that says what will happen, and where.
    pub(crate) fn new(store: &Planned, title: impl Into<String>) -> Self {
        let mut plan = Self { title: title.into(), lines: Vec::new(), reads_stdin: false };
        plan.add("store", store.to_string());
        plan
    }
    /// A plan that is about other stores than that of the configuration.
    pub(crate) fn of_places(title: impl Into<String>, places: &[(&'static str, &Place)]) -> Self {
        let mut plan = Self { title: title.into(), lines: Vec::new(), reads_stdin: false };
        for (name, place) in places {
            let fresh = if place.exists { "" } else { ", which will be created" };
            plan.add(name, format!("{}{fresh}", place.name));
        }
        plan
    }
    /// Adds a figure.
    pub(crate) fn add(&mut self, name: &'static str, value: impl Into<String>) {
        self.lines.push((name, value.into()));
    }
    /// Adds what a dump holds.
    pub(crate) fn add_summary(&mut self, summary: &DumpSummary) {
        for (kind, count) in &summary.counts {
            self.add(kind_word(kind), count.to_string());
        }
        self.add("balances", summary.balances.to_string());
        self.add("held", summary.held.to_string());
    }
    /// Says that stdin holds data, so that nobody can be asked there.
    pub(crate) fn reads_stdin(&mut self) {
        self.reads_stdin = true;
    }
    fn to_text(&self) -> String {
        format!("{}\n{}", self.title, facts("  ", &self.lines))
    }

    /// Shows the plan and asks. `false`: this was a dry run, and the plan was the answer.
    pub(crate) fn approve(&self, context: &Context) -> Result<bool, Failure> {
        if context.dry_run {
            let lines: Map<String, Value> =
                self.lines.iter().map(|(name, value)| (name.replace(' ', "_"), json!(value))).collect();
            let object = json!({ "dry_run": true, "would": self.title, "plan": lines });
            context.out.answer(&object, || format!("{}\ndry run: nothing was changed", self.to_text()))?;
            return Ok(false);
        }
        self.ask(context)?;
        Ok(true)
    }

    /// Shows the plan and asks, dry run or not.
    pub(crate) fn ask(&self, context: &Context) -> Result<(), Failure> {
        let somebody_there = !self.reads_stdin && std::io::stdin().is_terminal();
        if !context.out.json || somebody_there {
            context.out.note(&self.to_text());
        }
        if context.yes {
            return Ok(());
        }
        if !somebody_there {
            let why = if self.reads_stdin { "stdin holds the data" } else { "stdin is not a terminal" };
            return Err(Failure::refused(
                format!("{why}, so nobody can be asked: nothing was changed"),
                "the same command with --yes, or with --dry-run to see the plan",
            ));
        }
        let mut answer = String::new();
        let ask = || {
            context.out.question("Go on? [y/N] ");
            std::io::stdin().lock().read_line(&mut answer)
        };
        crate::interrupt::while_asking(ask).map_err(|error| Failure::io("the answer could not be read", error))?;
        if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
            Ok(())
        } else {
            Err(Failure::refused("not confirmed: nothing was changed", "the same command with --dry-run"))
        }
    }
}
