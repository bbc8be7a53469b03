//! What the rows come to together: records, sums, and the report.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use migrations::Schema;
use storage_core::legacy;
use storage_core::{CivilDate, ImportRecord, JobId, ModelId, ModelName, TaskId, TimeZone, Timestamp, Total, UserId};
use tokio_postgres::Row;

use super::entry::{Entry, Read, Reason, ruled};
use super::report::{
    Adopted, AdoptedLeftAlone, AdoptedNote, AdoptedRecord, AdoptedRefusal, AdoptedReport, AdoptedTable,
};
use super::tables::Table;
use crate::statement::Statement;

/// How many notes of the same words name their row before the rest is only counted.
const SPOKEN_NOTES: u64 = 20;
/// How many different models are kept to be shared.
const SHARED_MODELS: usize = 10_000;

/// What was spent, and where it says so.
pub(super) enum Spent {
    Stored(Total, Arc<str>),
    Summed(Total),
}

/// What a user's days say together.
#[derive(Default)]
pub(super) struct Quota {
    pub(super) date: Option<CivilDate>,
    pub(super) used: u32,
    pub(super) bank: u64,
}

/// Who brought a user, and the row that says so.
pub(super) struct Edge {
    pub(super) referrer: UserId,
    pub(super) since: Option<Timestamp>,
    pub(super) key: Arc<str>,
}

/// Collects good records, refusals and notes while the tables are read.
pub(super) struct Gather<'o> {
    pub(super) zone: &'o TimeZone,
    pub(super) now: Timestamp,
    pub(super) report: AdoptedReport,
    /// What needs no other table, in the order of reading; then payments and jobs; then the history.
    pub(super) records: [Vec<AdoptedRecord>; 3],
    pub(super) quotas: BTreeMap<UserId, Quota>,
    pub(super) spent: BTreeMap<UserId, Spent>,
    pub(super) edges: BTreeMap<UserId, Edge>,
    pub(super) tasks: HashMap<TaskId, JobId>,
    pub(super) models: HashMap<String, (ModelId, ModelName)>,
    pub(super) no_ledger: BTreeMap<&'static str, u64>,
    pub(super) repeated_notes: BTreeMap<(&'static str, Cow<'static, str>), u64>,
}

impl<'o> Gather<'o> {
    pub(super) fn new(zone: &'o TimeZone, now: Timestamp) -> Self {
        Self {
            zone,
            now,
            report: AdoptedReport::default(),
            records: [Vec::new(), Vec::new(), Vec::new()],
            quotas: BTreeMap::new(),
            spent: BTreeMap::new(),
            edges: BTreeMap::new(),
            tasks: HashMap::new(),
            models: HashMap::new(),
            no_ledger: BTreeMap::new(),
            repeated_notes: BTreeMap::new(),
        }
    }

    /// A table's turn has come: how its rows are asked for, unless it is somebody else's.
    pub(super) fn begin(&mut self, table: &'static Table, present: &[String], schema: &Schema) -> Option<Statement> {
        let Table { name, key, needed, unused, .. } = *table;
        let has = |column: &str| present.iter().any(|there| there == column);
        let missing: Vec<&str> = key.iter().chain(needed).copied().filter(|column| !has(column)).collect();
        if !missing.is_empty() {
            let reason = format!("not the earlier system's: no {}", missing.join(", "));
            self.report.left_alone.push(AdoptedLeftAlone { table: name, reason });
            return None;
        }
        self.report.tables.push(AdoptedTable { table: name, rows: 0, records: 0, refused: 0 });
        let known = |column: &str| table.columns().any(|known| known == column) || unused.contains(&column);
        let unknown: Vec<&str> = present.iter().map(String::as_str).filter(|column| !known(column)).collect();
        if !unknown.is_empty() {
            self.table_note(name, format!("nobody knows these columns, they were left alone: {}", unknown.join(", ")));
        }
        let column = |column| if has(column) { format!("t.{column}::text") } else { "NULL::text".to_owned() };
        let columns: Vec<String> = table.columns().map(column).collect();
        let order: Vec<String> = key.iter().map(|column| format!("t.{column} ASC")).collect();
        let (columns, order) = (columns.join(", "), order.join(", "));
        let text =
            format!("DECLARE adopted NO SCROLL CURSOR FOR SELECT {columns} FROM {{s}}.{name} t ORDER BY {order}");
        Some(Statement::new(name, &text, &[], schema))
    }

    /// Reads one row and settles what becomes of it.
    pub(super) fn row(&mut self, table: &'static Table, row: &Row) {
        if let Some(seen) = self.seen(table.name) {
            seen.rows += 1;
        }
        for read in table.reads {
            let mut entry = Entry::new(table, row, self.zone, self.now);
            let read = read(self, &mut entry);
            let Entry { key, roundings, notes, .. } = entry;
            match read {
                Ok(record) => {
                    self.report.roundings.extend(roundings);
                    for note in notes {
                        self.note(table.name, &key, note);
                    }
                    if let Some(record) = record {
                        self.accept(table.name, key, record);
                    }
                }
                Err(reason) => self.refuse(table.name, &key, reason),
            }
        }
    }

    /// Takes a good record in.
    pub(super) fn accept(&mut self, table: &'static str, key: Arc<str>, record: ImportRecord) {
        if let Some(seen) = self.seen(table) {
            seen.records += 1;
        }
        let report = &mut self.report;
        let [first, then, last] = &mut self.records;
        let place = match &record {
            ImportRecord::Payment(_) => {
                report.payments += 1;
                then
            }
            ImportRecord::Job(_) => {
                report.jobs += 1;
                then
            }
            ImportRecord::Generation { .. } => {
                report.history_records += 1;
                last
            }
            ImportRecord::Balance { balance, .. } => {
                report.balance_sum = report.balance_sum.plus(*balance);
                first
            }
            _ => first,
        };
        place.push(AdoptedRecord { table, key, record });
    }
    /// Leaves a record out, by name.
    pub(super) fn refuse(&mut self, table: &'static str, key: &str, Reason(reason): Reason) {
        if let Some(seen) = self.seen(table) {
            seen.refused += 1;
        }
        self.report.refused.push(AdoptedRefusal { table, key: key.to_owned(), reason });
    }
    pub(super) fn seen(&mut self, table: &str) -> Option<&mut AdoptedTable> {
        self.report.tables.iter_mut().find(|seen| seen.table == table)
    }
    /// Says something about a row.
    pub(super) fn note(&mut self, table: &'static str, key: &str, note: Cow<'static, str>) {
        let spoken = self.repeated_notes.entry((table, note.clone())).or_default();
        *spoken += 1;
        if *spoken <= SPOKEN_NOTES {
            self.report.notes.push(AdoptedNote { table, key: Some(key.to_owned()), note: note.into_owned() });
        }
    }
    /// Says something about a table.
    pub(super) fn table_note(&mut self, table: &'static str, note: String) {
        self.report.notes.push(AdoptedNote { table, key: None, note });
    }

    /// A row's model and its name; what is missing is put in, and the caller notes it.
    pub(super) fn model(&mut self, id: Option<&str>, name: Option<&str>) -> Read<(ModelId, ModelName)> {
        let id = id.unwrap_or("unknown");
        let name = name.unwrap_or(id);
        if let Some(known) = self.models.get(id).filter(|(_, known)| known.as_str() == name) {
            return Ok(known.clone());
        }
        let model = (ruled("model_id", ModelId::new(id))?, ruled("model_name", ModelName::new(name))?);
        if self.models.len() < SHARED_MODELS {
            self.models.insert(id.to_owned(), model.clone());
        }
        Ok(model)
    }

    /// Turns free generations into records.
    pub(super) fn settle_quotas(&mut self) {
        for (user, Quota { date, used, bank }) in std::mem::take(&mut self.quotas) {
            let key = format!("user {user}").into();
            self.accept("legacy_daily_free_generations", key, ImportRecord::Quota { user, date, used, bank });
        }
    }
    /// Turns what was spent into records. Having spent nothing needs none.
    pub(super) fn settle_spent(&mut self) {
        for (user, spent) in std::mem::take(&mut self.spent) {
            let (table, key, spent) = match spent {
                Spent::Stored(spent, key) => ("legacy_admin_limits", key, spent),
                Spent::Summed(spent) => ("legacy_operations", format!("user {user}").into(), spent),
            };
            if spent != Total::ZERO {
                self.accept(table, key, ImportRecord::Spent { user, spent });
            }
        }
    }
    /// Turns referrers into records, but for every edge of a circle.
    pub(super) fn settle_referrals(&mut self) {
        let edges = std::mem::take(&mut self.edges);
        let circles = circles(&edges);
        for (user, Edge { referrer, since, key }) in edges {
            match circles.get(&user) {
                Some(circle) => {
                    self.refuse("legacy_referrals", &key, Reason(format!("referrer_id: closes a circle ({circle})")));
                }
                None => self.accept("legacy_referrals", key, ImportRecord::Referral { user, referrer, since }),
            }
        }
    }

    /// Puts everything together.
    pub(super) fn finish(mut self) -> Adopted {
        self.settle_quotas();
        self.settle_spent();
        self.settle_referrals();
        for ((table, note), times) in std::mem::take(&mut self.repeated_notes) {
            if times > SPOKEN_NOTES {
                self.table_note(table, format!("{note} (and for {} more rows)", times - SPOKEN_NOTES));
            }
        }
        let (count, sum) = (self.report.uncertain_payments.len(), self.report.uncertain_sum);
        if count > 0 {
            let note = format!(
                "{count} approved payments, {sum} together, may have been credited several times or never: compare \
                 them with the balances"
            );
            self.table_note("legacy_payments", note);
        }
        let Self { mut report, records, no_ledger, .. } = self;
        for (word, rows) in no_ledger {
            let reason = format!("rows of the type {word}: {rows}. They are no ledger and add up to no balance");
            report.left_alone.push(AdoptedLeftAlone { table: "legacy_operations", reason });
        }
        let records: Vec<AdoptedRecord> = records.into_iter().flatten().collect();
        report.rounded = u64::try_from(report.roundings.len()).unwrap_or(u64::MAX);
        let mut users = HashSet::with_capacity(records.len() / 2);
        for AdoptedRecord { table, key, record } in &records {
            let referrer = match record {
                ImportRecord::Referral { referrer, .. } => Some(*referrer),
                _ => None,
            };
            for user in std::iter::once(record.user()).chain(referrer) {
                if users.insert(user) && user.get() == legacy::TEST_USER {
                    let note = "the earlier system's test user; imported like any other".to_owned();
                    report.notes.push(AdoptedNote { table, key: Some(key.to_string()), note });
                }
            }
        }
        report.users = u64::try_from(users.len()).unwrap_or(u64::MAX);
        Adopted { records, report }
    }
}

/// Everybody on a circle of referrers, with the circle as it is shown.
pub(super) fn circles(edges: &BTreeMap<UserId, Edge>) -> HashMap<UserId, String> {
    let next = |of: UserId| edges.get(&of).map(|edge| edge.referrer);
    // The walk on which a user was met first; meeting one of the same walk again closes a circle.
    let mut met: HashMap<UserId, UserId> = HashMap::with_capacity(edges.len());
    let mut found = HashMap::new();
    for start in edges.keys() {
        let mut at = Some(*start);
        while let Some(user) = at.filter(|user| !met.contains_key(user)) {
            met.insert(user, *start);
            at = next(user);
        }
        let Some(at) = at.filter(|at| met.get(at) == Some(start)) else { continue };
        let behind = std::iter::successors(next(at), |user| next(*user)).take_while(|user| *user != at);
        let circle: Vec<UserId> = std::iter::once(at).chain(behind).collect();
        for (position, user) in circle.iter().enumerate() {
            let round = circle.iter().cycle().skip(position).take(circle.len().min(8) + 1);
            let mut shown = round.map(UserId::to_string).collect::<Vec<_>>().join(" -> ");
            if circle.len() > 8 {
                shown.push_str(" -> ...");
            }
            found.insert(*user, shown);
        }
    }
    found
}
