//! A lane's state as sorted lines of text, once from the model and once from a store, so that they can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use crate::call::{params, urls};
use crate::lane::{Lane, MAIN, SWEPT, moment};
use crate::model::{Account, Hold, Job, Model, Payment, REASON};

/// What is known, by what it is about.
pub(crate) type Facts = BTreeMap<String, String>;

/// Text or its absence.
pub(crate) fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A ledger row as a fact. Memo fields only where the operation itself had a memo.
pub(crate) struct RowFact<'a> {
    pub(crate) kind: &'a str,
    pub(crate) change: i64,
    pub(crate) held_change: i64,
    pub(crate) after: i64,
    pub(crate) held_after: i64,
    pub(crate) key: String,
    pub(crate) reference: String,
    pub(crate) reason: &'a str,
    pub(crate) actor: &'a str,
    pub(crate) at: i64,
}

impl RowFact<'_> {
    /// Whether the row's reason and actor are the operation's own.
    pub(crate) fn has_memo(kind: &str) -> bool {
        matches!(kind, "credit" | "debit" | "adjustment" | "hold")
    }
    /// As a line.
    pub(crate) fn text(&self) -> String {
        let memo =
            if Self::has_memo(self.kind) { format!("{:?} by {}", self.reason, self.actor) } else { String::new() };
        format!(
            "{} {:+} held {:+} after {} held {} key {} about {} at {} {memo}",
            self.kind, self.change, self.held_change, self.after, self.held_after, self.key, self.reference, self.at
        )
    }
}

/// What a store must answer after the model's operations. Holds of `swept` were given back by some other lane.
pub(crate) fn expected(model: &Model, now: i64, swept: &BTreeSet<u64>) -> Facts {
    let mut model = model.clone();
    for id in swept {
        let open = model.holds.get(id).is_some_and(|hold| hold.role == SWEPT && hold.status == "open");
        if open {
            model.end(*id, *id, "released", 0);
        }
    }
    let mut facts = Facts::new();
    for (role, account) in &model.accounts {
        user_facts(&mut facts, &model, *role, account, now);
    }
    for (id, hold) in &model.holds {
        facts.insert(format!("hold {}", model.lane.name("hold", *id)), hold_fact(*id, hold));
    }
    for (id, job) in &model.jobs {
        let name = model.lane.name(if job.by_task { "task" } else { "job" }, *id);
        facts.insert(format!("job {name}"), job_fact(model.lane, *id, job));
    }
    for (id, payment) in &model.payments {
        facts.insert(format!("payment {}", model.lane.name("payment", *id)), payment_fact(model.lane, *id, payment));
    }
    facts
}

fn user_facts(facts: &mut Facts, model: &Model, role: u32, account: &Account, now: i64) {
    let lane = model.lane;
    let mut add = |what: &str, value: String| facts.insert(format!("user {role} {what}"), value);
    add("balance", account.balance.to_string());
    add("held", account.held.to_string());
    add("language", account.language.to_owned());
    add("gift", account.gift.to_string());
    add("referrer", or_dash(account.brought.map(|brought| lane.user(brought.by))));
    add("created", moment(account.created).to_string());
    add("taken today", account.used_at(now).to_string());
    add("remaining", account.remaining_at(now).to_string());
    add("limit", account.limit.to_string());
    add("spent", account.spent.to_string());
    add("limit left", (account.limit - account.spent).max(0).to_string());
    add("ledger rows", account.rows.len().to_string());
    if role == SWEPT {
        // In which order and when this user's holds went back is the business of whoever swept.
        for (at, row) in account.rows.iter().enumerate() {
            let about = or_dash(row.reference.clone());
            let about = if row.kind == "credit" { lane.name("key", row.operation) } else { about };
            let change = format!("{:+} held {:+}", row.change, row.held_change);
            if facts.insert(format!("user {role} {} {about}", row.kind), change).is_some() {
                facts.insert(format!("user {role} twice"), at.to_string());
            }
        }
    } else {
        add("updated", moment(account.updated).to_string());
        for (at, row) in account.rows.iter().enumerate() {
            let fact = RowFact {
                kind: row.kind,
                change: row.change,
                held_change: row.held_change,
                after: row.after,
                held_after: row.held_after,
                key: lane.name("key", row.operation),
                reference: or_dash(row.reference.clone()),
                reason: if row.memo { REASON } else { "-" },
                actor: if row.memo { "probe" } else { "-" },
                at: moment(row.operation),
            };
            add(&format!("ledger {:04}", at + 1), fact.text());
        }
    }
    for (place, (operation, price)) in account.history.iter().rev().enumerate() {
        let name = lane.name("generation", *operation);
        let params = params(*operation).map(|params| params.as_json().to_owned()).unwrap_or_default();
        let urls = urls(*operation).map(|urls| urls.as_slice().join(" ")).unwrap_or_default();
        facts.insert(
            format!("user {role} history {place:03}"),
            format!("{name} for {price} at {} {params} {urls}", moment(*operation)),
        );
    }
    for (place, (brought, how)) in model.brought_by(role).iter().enumerate() {
        facts.insert(
            format!("user {role} brought {place:03}"),
            format!("{} at {} for {}", lane.user(*brought), moment(how.operation), how.bonus),
        );
    }
}

fn hold_fact(id: u64, hold: &Hold) -> String {
    let own = format!("{} of user {} until {} since {}", hold.amount, hold.role, or_dash(hold.expires), moment(id));
    if hold.role == MAIN {
        let (opened, ended) = (hold.opened_balance, or_dash(hold.ended_balance));
        let changed = moment(hold.updated);
        format!("{own} {} {} changed {changed} answers {opened} {ended}", hold.status, hold.committed)
    } else {
        format!("{own} {} {}", hold.status, hold.committed)
    }
}

fn job_fact(lane: Lane, id: u64, job: &Job) -> String {
    let params = params(id).map(|params| params.as_json().to_owned()).unwrap_or_default();
    let urls = job.urls.and_then(|from| urls(from).ok()).map(|urls| urls.as_slice().join(" ")).unwrap_or_default();
    let task = or_dash(job.task.map(|from| lane.name("task", from)));
    let error = or_dash(job.error.map(|from| format!("{REASON} {from}")));
    format!(
        "{} for {} task {task} urls [{urls}] error {error:?} since {} changed {} {params}",
        job.status,
        job.price,
        moment(id),
        moment(job.updated)
    )
}

fn payment_fact(lane: Lane, id: u64, payment: &Payment) -> String {
    let full = |what| or_dash(payment.full.then(|| lane.name(what, id)));
    let admin = or_dash(payment.decided_by_admin.then(|| lane.user(MAIN)));
    let notes = or_dash(payment.noted.map(|from| format!("{REASON} {from}")));
    format!(
        "{} of {} charge {} shot {} admin {admin} notes {notes:?} since {} changed {}",
        payment.status,
        payment.amount,
        full("charge"),
        full("shot"),
        moment(id),
        moment(payment.updated)
    )
}
