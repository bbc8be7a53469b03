//! Reads a lane's state from a store, through the operations that anybody uses.

use std::collections::{BTreeMap, BTreeSet};

use storage_core::{
    AdminLimit, GetReferrals, GetUserGenerationsHistory, Hold, HoldStatus, Job, ListJobs, ListOperations, ListPayments,
    ListReserves, Page, PageRequest, PageSize, Payment, Result, Storage, Timestamp, UserId,
};

use crate::facts::{Facts, RowFact, or_dash};
use crate::lane::{Lane, MAIN, SWEPT};

/// What a store says of a lane.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// What it says.
    pub(crate) facts: Facts,
    /// Holds with an expiry that were given back, by the operation that made them.
    pub(crate) swept: BTreeSet<u64>,
    /// What is wrong whatever the model says.
    pub(crate) problems: Vec<String>,
}

/// The users of each lane that a store knows.
pub(crate) async fn lanes(storage: &dyn Storage) -> Result<BTreeMap<Lane, Vec<u32>>> {
    let mut lanes: BTreeMap<Lane, Vec<u32>> = BTreeMap::new();
    let mut page = PageRequest::first(PageSize::MAX);
    loop {
        let Page { items, next } = storage.list_users(page).await?;
        for (lane, role) in items.iter().filter_map(|user| Lane::of_user(user.id.get())) {
            lanes.entry(lane).or_default().push(role);
        }
        let Some(next) = next else { return Ok(lanes) };
        page = PageRequest::after(PageSize::MAX, next);
    }
}

/// Reads every page of a list.
macro_rules! every_page {
    ($storage:ident.$list:ident($arguments:expr)) => {{
        let mut arguments = $arguments;
        // Small pages, so that paging is part of what is proved.
        arguments.page = PageRequest::first(PageSize::new(50)?);
        let mut rows = Vec::new();
        loop {
            let Page { items, next } = $storage.$list(arguments.clone()).await?;
            rows.extend(items);
            let Some(next) = next else { break rows };
            arguments.page = PageRequest::after(arguments.page.size, next);
        }
    }};
}

/// Reads a lane.
pub(crate) async fn lane(storage: &dyn Storage, lane: Lane, roles: &[u32]) -> Result<Seen> {
    let mut seen = Seen::default();
    for role in roles {
        let user = UserId::new(lane.user(*role))?;
        user_facts(storage, &mut seen, lane, *role, user).await?;
        holds(storage, &mut seen, *role, user).await?;
        jobs(storage, &mut seen, user).await?;
        payments(storage, &mut seen, user).await?;
    }
    Ok(seen)
}

async fn user_facts(storage: &dyn Storage, seen: &mut Seen, lane: Lane, role: u32, id: UserId) -> Result<()> {
    let Some(user) = storage.find_user(id).await? else {
        seen.problems.push(format!("user {id} is listed and not found"));
        return Ok(());
    };
    let limit = |limit: AdminLimit| match limit {
        AdminLimit::Unlimited => "unlimited".to_owned(),
        AdminLimit::Limited(money) => money.micros().to_string(),
    };
    let mut rows = every_page!(storage.list_operations(ListOperations::of(id)));
    rows.reverse();
    let held: i64 = rows.iter().map(|row| row.held_change.micros()).sum();
    let pairs = [
        ("balance", user.balance.micros().to_string()),
        ("held", held.to_string()),
        ("language", user.language.to_string()),
        ("gift", user.gift_claimed.to_string()),
        ("referrer", or_dash(user.referrer)),
        ("created", user.created_at.micros().to_string()),
        ("taken today", storage.get_user_free_generations_today(id).await?.to_string()),
        ("remaining", storage.get_user_free_generations_remaining(id).await?.to_string()),
        ("limit", limit(storage.get_admin_limit(id).await?)),
        ("spent", storage.get_admin_spent(id).await?.micros().to_string()),
        ("limit left", limit(storage.get_admin_remaining(id).await?)),
        ("ledger rows", rows.len().to_string()),
    ];
    for (what, value) in pairs {
        seen.facts.insert(format!("user {role} {what}"), value);
    }
    let agree = storage.get_balance(id).await? == user.balance
        && storage.get_user_language(id).await? == user.language
        && storage.has_claimed_gift(id).await? == user.gift_claimed
        && storage.get_referrer(id).await? == user.referrer;
    if !agree {
        seen.problems.push(format!("user {id}: the single reads and find_user differ"));
    }
    if role != SWEPT {
        seen.facts.insert(format!("user {role} updated"), user.updated_at.micros().to_string());
    }
    for (at, row) in rows.iter().enumerate() {
        if role == SWEPT {
            let about = or_dash(row.reference.as_ref());
            let about = if row.kind.as_str() == "credit" { row.key.to_string() } else { about };
            let change = format!("{:+} held {:+}", row.balance_change.micros(), row.held_change.micros());
            if seen.facts.insert(format!("user {role} {} {about}", row.kind), change).is_some() {
                seen.facts.insert(format!("user {role} twice"), at.to_string());
            }
            continue;
        }
        let fact = RowFact {
            kind: row.kind.as_str(),
            change: row.balance_change.micros(),
            held_change: row.held_change.micros(),
            after: row.balance_after.micros(),
            held_after: row.held_after.micros(),
            key: row.key.to_string(),
            reference: or_dash(row.reference.as_ref()),
            reason: row.reason.as_ref().map_or("-", |reason| reason.as_str()),
            actor: row.actor.as_ref().map_or("-", |actor| actor.as_str()),
            at: row.at.micros(),
        };
        seen.facts.insert(format!("user {role} ledger {:04}", row.seq), fact.text());
    }
    let history = every_page!(storage.get_user_generations_history(GetUserGenerationsHistory::of(id)));
    for (place, entry) in history.iter().enumerate() {
        let (params, urls) = (entry.params.as_json(), entry.result_urls.as_slice().join(" "));
        seen.facts.insert(
            format!("user {role} history {place:03}"),
            format!("{} for {} at {} {params} {urls}", entry.id, entry.price.micros(), entry.at.micros()),
        );
    }
    let brought = every_page!(storage.get_referrals(GetReferrals::of(id)));
    for (place, referral) in brought.iter().enumerate() {
        seen.facts.insert(
            format!("user {role} brought {place:03}"),
            format!("{} at {} for {}", referral.user, referral.since.micros(), referral.bonus),
        );
    }
    let strangers =
        brought.iter().filter(|referral| Lane::of_user(referral.user.get()).map(|(of, _)| of) != Some(lane));
    seen.problems.extend(strangers.map(|referral| format!("user {id} brought {}, of another lane", referral.user)));
    Ok(())
}

async fn holds(storage: &dyn Storage, seen: &mut Seen, role: u32, user: UserId) -> Result<()> {
    let list = ListReserves { user: Some(user), ..ListReserves::default() };
    for hold in every_page!(storage.list_reserves(list)) {
        if storage.find_reserve(user, &hold.name).await?.as_ref() != Some(&hold) {
            seen.problems.push(format!("hold {}: list_reserves and find_reserve differ", hold.name));
        }
        let Hold { name, amount, status, committed, expires_at, created_at, updated_at, opened, ended, .. } = &*hold;
        let mut fact = format!(
            "{} of user {role} until {} since {} {status} {}",
            amount.money().micros(),
            or_dash(expires_at.map(Timestamp::micros)),
            created_at.micros(),
            committed.micros()
        );
        if role == MAIN {
            let ended = or_dash(ended.map(|ended| ended.balance_after.micros()));
            fact = format!("{fact} changed {} answers {} {ended}", updated_at.micros(), opened.balance_after.micros());
        } else if *status == HoldStatus::Released {
            if expires_at.is_none_or(|expiry| *updated_at < expiry) {
                seen.problems.push(format!("hold {name} was swept at {updated_at}, before its expiry"));
            }
            seen.swept.extend(name.as_str().rsplit('-').next().and_then(|number| number.parse::<u64>().ok()));
        }
        seen.facts.insert(format!("hold {name}"), fact);
    }
    Ok(())
}

async fn jobs(storage: &dyn Storage, seen: &mut Seen, user: UserId) -> Result<()> {
    let list = ListJobs { user: Some(user), ..ListJobs::default() };
    for job in every_page!(storage.list_jobs(list)) {
        let by_task = match &job.external_task_id {
            Some(task) => storage.find_job_by_task_id(task).await?,
            None => Some(job.clone()),
        };
        if storage.get_job(&job.id).await?.as_ref() != Some(&job) || by_task.as_ref() != Some(&job) {
            seen.problems.push(format!("job {}: list_jobs, get_job and find_job_by_task_id differ", job.id));
        }
        let Job { id, status, price, external_task_id, result_urls, error_message, .. } = &*job;
        let task = or_dash(external_task_id.as_ref());
        let error = or_dash(error_message.as_ref());
        let urls = result_urls.as_slice().join(" ");
        let fact = format!(
            "{status} for {} task {task} urls [{urls}] error {error:?} since {} changed {} {}",
            price.micros(),
            job.created_at.micros(),
            job.updated_at.micros(),
            job.params.as_json()
        );
        seen.facts.insert(format!("job {id}"), fact);
    }
    Ok(())
}

async fn payments(storage: &dyn Storage, seen: &mut Seen, user: UserId) -> Result<()> {
    let list = ListPayments { user: Some(user), ..ListPayments::default() };
    for payment in every_page!(storage.list_payments(list)) {
        if storage.get_payment(&payment.id).await?.as_ref() != Some(&payment) {
            seen.problems.push(format!("payment {}: list_payments and get_payment differ", payment.id));
        }
        let Payment { id, status, amount, provider_key, screenshot_file_id, admin, notes, .. } = &*payment;
        let fact = format!(
            "{status} of {} charge {} shot {} admin {} notes {:?} since {} changed {}",
            amount.money().micros(),
            or_dash(provider_key.as_ref()),
            or_dash(screenshot_file_id.as_ref()),
            or_dash(*admin),
            or_dash(notes.as_ref()),
            payment.created_at.micros(),
            payment.updated_at.micros()
        );
        seen.facts.insert(format!("payment {id}"), fact);
    }
    Ok(())
}
