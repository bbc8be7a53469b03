//! Asks a store, and writes its answer down as text that can be compared.

use std::fmt::Debug;

use storage_core::{
    Applied, AuditReport, Cursor, DumpSummary, Error, ErrorKind, Fingerprint, GetReferrals, GetUserGenerationsHistory,
    ImportOutcome, Job, ListJobs, ListOperations, ListPayments, ListReserves, Page, PageRequest, PageSize, Result,
    Storage, Stored, UserId,
};

use super::build::Call;

/// What a call answered, as text: the value with every field, or the refusal with its figures.
pub(crate) type Answer = String;

/// A value that was answered.
pub(crate) fn ok(value: impl Debug) -> Answer {
    format!("{value:?}")
}

/// A refusal. Its wording is the backend's own; its kind, its record and its figures are not.
pub(crate) fn refusal(kind: &ErrorKind) -> Answer {
    match kind {
        ErrorKind::Conflict { entity, .. } => format!("refused: Conflict over {entity}"),
        ErrorKind::InvalidInput { field, .. } => format!("refused: InvalidInput of {field}"),
        kind => format!("refused: {kind:?}"),
    }
}

fn answer<T: Debug>(result: Result<T>) -> Answer {
    match result {
        Ok(value) => ok(value),
        Err(error) => refused(&error),
    }
}

fn refused(error: &Error) -> Answer {
    match error.applied() {
        Applied::No => refusal(error.kind()),
        // Nothing fails here, so that nothing may be unknown.
        Applied::Unknown => format!("unknown: {error:?}"),
    }
}

/// A job without the digest of what it was created with, which is the backends' business.
pub(crate) fn plain_job(job: &Job) -> Job {
    Job { created_with: Fingerprint::from_bytes([0; 16]), ..job.clone() }
}

/// A record that was stored, and whether that was a replay.
pub(crate) fn stored<T: Debug>(record: T, replayed: bool) -> Answer {
    ok((record, replayed))
}

fn stored_answer<T: Debug>(result: Result<Stored<T>>) -> Answer {
    match result {
        Ok(Stored { record, replayed }) => stored(record, replayed),
        Err(error) => refused(&error),
    }
}

/// The kind of an outcome: its reason is the backend's to word.
pub(crate) fn outcome_word(outcome: &ImportOutcome) -> &'static str {
    match outcome {
        ImportOutcome::Added => "added",
        ImportOutcome::Same => "same",
        ImportOutcome::Kept(_) => "kept",
        ImportOutcome::Refused(_) => "refused",
    }
}

/// What an audit found, findings included.
pub(crate) fn audited(report: &AuditReport) -> Answer {
    ok(report)
}

/// Counts and sums of a dump, without its digest.
pub(crate) fn summary(summary: &DumpSummary) -> Answer {
    ok((&summary.counts, summary.balances, summary.held, summary.ledger))
}

/// A list, page by page.
async fn all<T, F>(first: PageRequest, fetch: impl Fn(PageRequest) -> F) -> Result<Vec<std::sync::Arc<T>>>
where
    F: Future<Output = Result<Page<T>>>,
{
    let (size, mut request, mut rows) = (first.size, first, Vec::new());
    for _ in 0..10_000 {
        let page = fetch(request).await?;
        if page.items.len() > size.get() {
            return Err(Error::internal(format!("a page of {} rows for {}", page.items.len(), size.get())));
        }
        rows.extend(page.items);
        let Some(next) = page.next else { return Ok(rows) };
        request = PageRequest::after(size, next);
    }
    Err(Error::internal("the list has no end"))
}

/// Asks the store.
pub(crate) async fn ask(storage: &dyn Storage, call: Call) -> Answer {
    match call {
        Call::GetUser(user) => answer(storage.get_user(user).await),
        Call::FindUser(user) => answer(storage.find_user(user).await),
        Call::ListUsers(size) => answer(all(PageRequest::first(size), |page| storage.list_users(page)).await),
        Call::GetLanguage(user) => answer(storage.get_user_language(user).await),
        Call::SetLanguage(set) => answer(storage.set_user_language(set).await),
        Call::HasGift(user) => answer(storage.has_claimed_gift(user).await),
        Call::ClaimGift(claim) => answer(storage.set_gift_claimed(claim).await),
        Call::GetBalance(user) => answer(storage.get_balance(user).await),
        Call::SetBalance(set) => answer(storage.set_balance(set).await),
        Call::Credit(add) => answer(storage.add_balance(add).await),
        Call::Debit(subtract) => answer(storage.subtract_balance(subtract).await),
        Call::Reserve(reserve) => answer(storage.reserve_balance(reserve).await),
        Call::Commit(commit) => answer(storage.commit_reserve(commit).await),
        Call::Release(release) => answer(storage.release_reserve(release).await),
        Call::FindHold(user, name) => answer(storage.find_reserve(user, &name).await),
        Call::ListHolds(list) => {
            let fetch = |page| storage.list_reserves(ListReserves { page, ..list.clone() });
            answer(all(list.page.clone(), fetch).await)
        }
        Call::Sweep(limit) => answer(storage.release_expired_reserves(limit).await),
        Call::Ledger(list) => answer(
            all(list.page.clone(), |page| storage.list_operations(ListOperations { page, ..list.clone() })).await,
        ),
        Call::Audit(scope) => match storage.audit(scope).await {
            Ok(report) => audited(&report),
            Err(error) => refused(&error),
        },
        Call::TakenToday(user) => answer(storage.get_user_free_generations_today(user).await),
        Call::Remaining(user) => answer(storage.get_user_free_generations_remaining(user).await),
        Call::Take(take) => answer(storage.increment_free_generations(take).await),
        Call::GiveBack(give_back) => answer(storage.return_free_generation(give_back).await),
        Call::Bonus(bonus) => answer(storage.add_referral_bonus(bonus).await),
        Call::GetLimit(user) => answer(storage.get_admin_limit(user).await),
        Call::SetLimit(set) => answer(storage.set_admin_limit(set).await),
        Call::Spent(user) => answer(storage.get_admin_spent(user).await),
        Call::LimitLeft(user) => answer(storage.get_admin_remaining(user).await),
        call => ask_records(storage, call).await,
    }
}

/// The calls that are about jobs, generations, payments, referrals and the store as a whole.
async fn ask_records(storage: &dyn Storage, call: Call) -> Answer {
    match call {
        Call::AddJob(add) => job(storage.add_generation_job(add).await),
        Call::UpdateJob(update) => job(storage.update_job_status(update).await),
        Call::GetJob(id) => answer(storage.get_job(&id).await.map(|job| job.map(|job| plain_job(&job)))),
        Call::FindTask(task) => {
            answer(storage.find_job_by_task_id(&task).await.map(|job| job.map(|job| plain_job(&job))))
        }
        Call::ListJobs(list) => {
            let jobs = all(list.page.clone(), |page| storage.list_jobs(ListJobs { page, ..list.clone() })).await;
            answer(jobs.map(|jobs| jobs.iter().map(|job| plain_job(job)).collect::<Vec<_>>()))
        }
        Call::Record(add) => answer(storage.add_generation_to_history(add).await),
        Call::History(list) => {
            let fetch = |page| storage.get_user_generations_history(GetUserGenerationsHistory { page, ..list.clone() });
            answer(all(list.page.clone(), fetch).await)
        }
        Call::AddPayment(add) => stored_answer(storage.add_payment(add).await),
        Call::Mark(mark) => stored_answer(storage.mark_payment_status(mark).await),
        Call::Refund(refund) => stored_answer(storage.refund_payment(refund).await),
        Call::GetPayment(id) => answer(storage.get_payment(&id).await),
        Call::ListPayments(list) => {
            let fetch = |page| storage.list_payments(ListPayments { page, ..list.clone() });
            answer(all(list.page.clone(), fetch).await)
        }
        Call::Refer(set) => stored_answer(storage.set_referrer(set).await),
        Call::GetReferrer(user) => answer(storage.get_referrer(user).await),
        Call::Referrals(list) => {
            answer(all(list.page.clone(), |page| storage.get_referrals(GetReferrals { page, ..list.clone() })).await)
        }
        Call::Import(record) => match storage.import_records(vec![record]).await {
            Ok(outcomes) => ok(outcomes.iter().map(outcome_word).collect::<Vec<_>>()),
            Err(error) => refused(&error),
        },
        Call::ForeignCursor(user) => foreign_cursor(storage, user).await,
        Call::Dump => match storage.dump(&mut Vec::new()).await {
            Ok(written) => summary(&written),
            Err(error) => refused(&error),
        },
        _ => answer(storage.ping().await),
    }
}

fn job(result: Result<Stored<Job>>) -> Answer {
    match result {
        Ok(Stored { record, replayed }) => stored(plain_job(&record), replayed),
        Err(error) => refused(&error),
    }
}

/// What each list answers to a cursor of a list that there is not.
async fn foreign_cursor(storage: &dyn Storage, user: UserId) -> Answer {
    let page = || PageRequest::after(PageSize::DEFAULT, Cursor::encode(Fingerprint::of("another list", &[]), "1:a"));
    let answers = [
        answer(storage.list_users(page()).await),
        answer(storage.list_reserves(ListReserves { page: page(), ..ListReserves::default() }).await),
        answer(storage.list_operations(ListOperations { user, page: page() }).await),
        answer(storage.list_jobs(ListJobs { page: page(), ..ListJobs::default() }).await),
        answer(storage.get_user_generations_history(GetUserGenerationsHistory { user, page: page() }).await),
        answer(storage.list_payments(ListPayments { page: page(), ..ListPayments::default() }).await),
        answer(storage.get_referrals(GetReferrals { referrer: user, page: page() }).await),
    ];
    answers.join("; ")
}
