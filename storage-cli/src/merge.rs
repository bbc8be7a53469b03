//! `storage merge`: what one store did while it stood in for another is done there too, once, by the operations' own keys.
//!
//! Every operation of the source that the target does not know is called on the target with the key that it had, so that a
//! program which repeats it later is answered and nothing happens twice; so does a merge that is run again. What both
//! sides decided differently is left as the target has it, and listed.

mod plan;
mod side;
mod step;

use std::collections::BTreeMap;

use serde::Serialize;
use storage_core::{Error, ErrorKind, SharedStorage, Storage, Total};

use crate::args::{Lookup, MergeArgs};
use crate::confirm::Plan;
use crate::context::Context;
use crate::endpoint::Place;
use crate::exit::{Exit, Failure, Outcome, quoted};
use crate::interrupt;
use crate::output::{Table, facts};
use crate::progress::Progress;

use plan::{Both, Open, Planned};
use side::{Source, Target};

#[derive(Debug, Serialize)]
struct Report {
    from: String,
    to: String,
    dry_run: bool,
    /// What was done, or would be, by kind.
    steps: BTreeMap<&'static str, u64>,
    /// What credits, debits and holds among them come to.
    balance_change: Total,
    /// What the target knew already.
    known: u64,
    /// What was not done.
    open: Vec<Open>,
    both: Vec<Both>,
    source_marked: bool,
}

pub(crate) async fn run(context: &Context, arguments: MergeArgs, environment: Lookup<'_>) -> Outcome {
    let MergeArgs { from, to, keep_source } = arguments;
    let (from, to) = (Place::of(context, &from, environment)?, Place::of(context, &to, environment)?);
    if from.name == to.name {
        return Err(Failure::refused("source and target are the same store", "storage merge with another --to"));
    }
    for place in [&from, &to] {
        if !place.exists {
            return Err(Failure::from(Error::not_found("store", &place.name)));
        }
    }
    let source = from.open(context).await?;
    let target = match to.open(context).await {
        Ok(target) => target,
        Err(failure) => {
            close(context, source).await;
            return Err(failure);
        }
    };
    let outcome = merge(context, [&from, &to], &*source, &*target, keep_source).await;
    close(context, source).await;
    close(context, target).await;
    outcome
}

async fn close(context: &Context, storage: SharedStorage) {
    if let Err(error) = storage.close().await {
        context.out.note(&format!("warning: a store could not be closed: {}", error.report()));
    }
}

async fn planned(context: &Context, source: &dyn Storage, target: &dyn Storage) -> Result<Planned, Failure> {
    let progress = Progress::open_end("comparing the two stores");
    let source = Source::read(source).await?;
    let target = Target::read(target, &source).await?;
    drop(progress);
    let environment = &context.config.environment;
    let today = environment.policy.today(environment.clock.now());
    Ok(plan::plan(&source, &target, today)?)
}

async fn merge(
    context: &Context,
    [from, to]: [&Place; 2],
    source: &dyn Storage,
    target: &dyn Storage,
    keep_source: bool,
) -> Outcome {
    let mark = source.moved_to().await?;
    if let Some(other) = mark.filter(|mark| *mark != to.name) {
        let message = format!("{} was moved to {other} already", from.name);
        let lift = format!("storage lift {} {}", quoted(other.as_str()), from.flags());
        return Err(Failure::refused(message, lift));
    }
    // Nobody is asked: then the source stands still before it is looked at.
    let at_once = context.yes && !context.dry_run;
    if at_once && !keep_source {
        source.mark_moved(to.name.clone()).await?;
    }
    let mut plan = planned(context, source, target).await?;
    let mut report = Report::of([from, to], &plan);
    if context.dry_run {
        report.dry_run = true;
        context.out.answer(&report, || format!("{}\ndry run: nothing was changed", report.to_text(context)))?;
        return Ok(Exit::Done);
    }
    shown([from, to], &report, keep_source).ask(context)?;
    if !keep_source {
        report.source_marked = true;
        if !at_once {
            source.mark_moved(to.name.clone()).await?;
            // What came since the plan was shown is merged too; from here on nothing comes.
            plan = planned(context, source, target).await?;
            report = Report { source_marked: true, ..Report::of([from, to], &plan) };
        }
    }
    do_all(target, plan, &mut report).await.map_err(|failure| crate::copy::again(failure, from, to))?;
    let printed = context.out.answer(&report, || report.to_text(context));
    printed.map_err(|failure| failure.after_change("storage merge with the same words, which does nothing twice"))?;
    Ok(if report.open.is_empty() { Exit::Done } else { Exit::Differences })
}

async fn do_all(target: &dyn Storage, plan: Planned, report: &mut Report) -> Result<(), Failure> {
    let progress = Progress::new("merging");
    let total = plan.steps.len() as u64;
    for (number, step) in plan.steps.into_iter().enumerate() {
        progress.set(number as u64, total);
        if interrupt::asked() {
            return Err(interrupt::stopped(number as u64, total));
        }
        let (kind, change) = (step.action.kind(), step.action.change());
        if let Err(error) = step.action.run(target).await {
            if !is_refusal(&error) {
                return Err(error.into());
            }
            report.undo(kind, change);
            report.open.push(Open { user: step.user, what: step.what, reason: error.to_string() });
        }
    }
    Ok(())
}

/// Whether the target has judged, so that trying again would judge the same.
fn is_refusal(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound(_)
            | ErrorKind::Conflict { .. }
            | ErrorKind::InvalidInput { .. }
            | ErrorKind::InsufficientFunds { .. }
            | ErrorKind::QuotaExhausted { .. }
            | ErrorKind::InvalidTransition { .. }
    )
}

fn shown(places: [&Place; 2], report: &Report, keep_source: bool) -> Plan {
    let [from, to] = places;
    let ends = if keep_source { String::new() } else { format!("; {} takes no changes any more", from.name) };
    let title = format!("what {} did will be done on {} too{ends}", from.name, to.name);
    let mut plan = Plan::of_places(title, &[("from", from), ("to", to)]);
    for (kind, count) in &report.steps {
        plan.add(kind, count.to_string());
    }
    plan.add("balances change by", report.balance_change.to_string());
    plan.add("known there already", report.known.to_string());
    plan.add("users of both sides", report.both.len().to_string());
    plan.add("left to you", report.open.len().to_string());
    plan
}

impl Report {
    fn of([from, to]: [&Place; 2], plan: &Planned) -> Self {
        let mut report = Self {
            from: from.name.to_string(),
            to: to.name.to_string(),
            dry_run: false,
            steps: BTreeMap::new(),
            balance_change: Total::ZERO,
            known: plan.known,
            open: plan.open.clone(),
            both: plan.both.clone(),
            source_marked: false,
        };
        for step in &plan.steps {
            *report.steps.entry(step.action.kind()).or_default() += 1;
            report.change_by(step.action.change());
        }
        report
    }
    fn change_by(&mut self, micros: i64) {
        self.balance_change = Total::from_micros(self.balance_change.micros() + i128::from(micros));
    }
    /// Takes a step back that the target refused.
    fn undo(&mut self, kind: &'static str, change: i64) {
        if let Some(count) = self.steps.get_mut(kind) {
            *count -= 1;
        }
        self.change_by(-change);
    }
    fn to_text(&self, context: &Context) -> String {
        let mut about = vec![("from", self.from.clone()), ("to", self.to.clone())];
        about.extend(self.steps.iter().map(|(kind, count)| (*kind, count.to_string())));
        about.push(("balances changed by", self.balance_change.to_string()));
        about.push(("known there already", self.known.to_string()));
        let words = match (self.dry_run, self.open.is_empty()) {
            (true, true) => context.out.good("would be merged"),
            (true, false) => context.out.bad("would be merged in part"),
            (false, true) => context.out.good("merged"),
            (false, false) => context.out.bad("merged in part"),
        };
        let mut parts = vec![format!("{words}\n{}", facts("  ", &about))];
        if !self.both.is_empty() {
            let mut table = Table::new(&["user", "from here", "ledger rows there"]);
            for Both { user, steps, rows_there } in &self.both {
                table.row([user.to_string(), steps.to_string(), rows_there.to_string()]);
            }
            parts.push(format!("Changed on both sides\n{}", table.to_text("  ")));
        }
        if !self.open.is_empty() {
            let mut table = Table::new(&["user", "what", "why it is left to you"]);
            for Open { user, what, reason } in &self.open {
                table.row([user.to_string(), what.clone(), reason.clone()]);
            }
            parts.push(format!("Not merged\n{}", table.to_text("  ")));
        }
        parts.join("\n\n")
    }
}
