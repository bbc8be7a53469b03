//! `verify`: compares a store with the model and with what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use storage_core::{AuditScope, DumpReader, DumpSummary, ManualClock, Result, Storage, Timestamp};

use crate::acks::{Acks, share};
use crate::facts::{Facts, expected};
use crate::lane::{Lane, MAX_OPERATIONS, moment};
use crate::opener::{Opener, open};
use crate::plan::{Order, Plan};
use crate::read;

/// The most differences that are printed of a lane.
const SHOWN: usize = 12;

/// What was compared.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Lanes looked at.
    pub(crate) lanes: usize,
    /// Operations found acknowledged.
    pub(crate) acknowledged: u64,
    /// Ledger rows added up by the audit.
    pub(crate) rows: u64,
    /// What is wrong.
    pub(crate) problems: Vec<String>,
}

// As in run.rs.
#[expect(missing_docs, reason = "lib.rs documents it")]
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Verify {
    /// Where the store is: its path, or the URL of a server
    pub(crate) store: String,
    /// The file with the lines that `run` printed, of one run or of several.
    pub(crate) acks: PathBuf,
    /// How many operations each seed must have by now.
    #[arg(value_name = "N")]
    total: Option<u64>,
    /// The plan of those runs
    #[arg(long, value_enum, default_value_t)]
    plan: Order,
    /// Compare only what the file names: others have used the store too. The audit still looks at everybody.
    #[arg(long)]
    named: bool,
}

/// Opens the store, compares and closes it. Files are looked at twice: opening may have put something right in them.
pub(crate) async fn verify(opener: &dyn Opener, wanted: &Verify, acks: &Acks) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let openings = if opener.is_server(&wanted.store) { 1 } else { 2 };
    for opened in ["opened", "opened again"].into_iter().take(openings) {
        let (storage, clock) = open(opener, &wanted.store, None).await?;
        verdict = Verdict::default();
        compare(&*storage, &clock, wanted, acks, &mut verdict).await?;
        audit(&*storage, &mut verdict).await?;
        storage.close().await?;
        if !verdict.problems.is_empty() {
            verdict.problems.insert(0, format!("the store, {opened}:"));
            break;
        }
    }
    Ok(verdict)
}

async fn compare(
    storage: &dyn Storage,
    clock: &ManualClock,
    wanted: &Verify,
    acks: &Acks,
    verdict: &mut Verdict,
) -> Result<()> {
    let Verify { total, plan, named, .. } = *wanted;
    let present = read::lanes(storage).await?;
    let mut lanes: BTreeSet<Lane> = acks.lanes.keys().copied().collect();
    if !named {
        lanes.extend(present.keys());
    }
    if let Some(total) = total {
        if total > 0 && acks.tasks.is_empty() {
            verdict.problems.push(format!("{total} operations should be there, and no acknowledgement names a seed"));
        }
        for (seed, tasks) in &acks.tasks {
            lanes.extend((0..*tasks).map(|task| Lane { seed: *seed, task }));
        }
    }
    let nothing = BTreeMap::new();
    for lane in lanes {
        verdict.lanes += 1;
        let promised = acks.lanes.get(&lane).unwrap_or(&nothing);
        let wanted = total.map(|total| share(total, lane.task, acks.tasks.get(&lane.seed).copied().unwrap_or(1)));
        let roles = present.get(&lane).map_or(&[][..], Vec::as_slice);
        let problems = one(storage, clock, Plan::new(lane, plan), promised, wanted, roles).await?;
        verdict.acknowledged += u64::try_from(promised.len()).unwrap_or(0);
        if !problems.is_empty() {
            verdict.problems.push(format!("seed {} task {}:", lane.seed, lane.task));
            verdict.problems.extend(problems.into_iter().map(|problem| format!("  {problem}")));
        }
    }
    Ok(())
}

/// Compares one lane: its state is the model's after the acknowledged operations, or after one more.
async fn one(
    storage: &dyn Storage,
    clock: &ManualClock,
    mut plan: Plan,
    promised: &BTreeMap<u64, String>,
    wanted: Option<u64>,
    roles: &[u32],
) -> Result<Vec<String>> {
    let count = u64::try_from(promised.len()).unwrap_or(0);
    if let Some(gap) = (0..count).find(|operation| !promised.contains_key(operation)) {
        return Ok(vec![format!("operation {gap} is not acknowledged, a later one is")]);
    }
    if count > MAX_OPERATIONS {
        return Ok(vec![format!("{count} operations are more than a lane has")]);
    }
    let mut problems = Vec::new();
    if wanted.is_some_and(|wanted| count != wanted) {
        problems.push(format!("{count} operations are acknowledged, {} should be", wanted.unwrap_or(0)));
    }
    for (operation, word) in promised {
        let step = plan.step();
        if step.op.word() != word {
            return Ok(vec![format!("operation {operation} is {}, acknowledged as {word}", step.op.word())]);
        }
    }
    // "Today" is the day of the operation in doubt, for the store and for the model.
    let now = moment(count);
    clock.set(Timestamp::from_micros(now)?);
    let seen = read::lane(storage, plan.lane(), roles).await?;
    problems.extend(seen.problems);
    let acknowledged = differences(&expected(plan.model(), now, &seen.swept), &seen.facts);
    if acknowledged.is_empty() {
        return Ok(problems);
    }
    let settled = wanted.is_some_and(|wanted| count == wanted);
    let doubtful = plan.step();
    let one_more = differences(&expected(plan.model(), now, &seen.swept), &seen.facts);
    if one_more.is_empty() && !settled {
        return Ok(problems);
    }
    problems.push(format!("{count} operations are acknowledged; the state is not the one after them:"));
    problems.extend(acknowledged.iter().take(SHOWN).map(|line| format!("  {line}")));
    if acknowledged.len() > SHOWN {
        problems.push(format!("  and {} more", acknowledged.len() - SHOWN));
    }
    problems.push(format!(
        "with the operation in doubt ({:?}) there are {} differences, the first: {}",
        doubtful.op,
        one_more.len(),
        one_more.first().map_or("none", String::as_str)
    ));
    Ok(problems)
}

fn differences(expected: &Facts, seen: &Facts) -> Vec<String> {
    let mut lines = Vec::new();
    for (about, value) in expected {
        match seen.get(about) {
            None => lines.push(format!("{about}: missing, should be {value}")),
            Some(found) if found != value => lines.push(format!("{about}: is {found}, should be {value}")),
            Some(_) => {}
        }
    }
    lines.extend(
        seen.iter()
            .filter(|(about, _)| !expected.contains_key(*about))
            .map(|(about, value)| format!("{about}: is {value}, should not be there")),
    );
    lines
}

/// The store's own audit, and a dump that proves itself and agrees with it.
async fn audit(storage: &dyn Storage, verdict: &mut Verdict) -> Result<()> {
    let report = storage.audit(AuditScope::Everyone).await?;
    verdict.rows = report.rows;
    let findings = report.findings.iter().map(|finding| format!("audit: user {}: {}", finding.user, finding.problem));
    verdict.problems.extend(findings);
    let mut bytes = Vec::new();
    storage.dump(&mut bytes).await?;
    let summary = match read_dump(&bytes) {
        Ok(summary) => summary,
        Err(error) => {
            verdict.problems.push(error.report().to_string());
            return Ok(());
        }
    };
    let agree = summary.count("ledger") == report.rows
        && summary.count("account") == report.users
        && summary.balances == report.balances
        && summary.held == report.held;
    if !agree {
        verdict.problems.push(format!("dump and audit differ: {summary:?} and {report:?}"));
    }
    Ok(())
}

fn read_dump(bytes: &[u8]) -> Result<DumpSummary> {
    let mut reader = DumpReader::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        reader.line(line).map_err(|error| error.in_operation("dump"))?;
    }
    let (_, summary) = reader.finish()?;
    Ok(summary)
}
