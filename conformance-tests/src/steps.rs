//! Steps that many scenarios take.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use storage_core::{
    AddBalance, AddGenerationJob, AddGenerationToHistory, AddPayment, AuditScope, GenerationReceipt, Job, LedgerRow,
    ListOperations, MarkPaymentStatus, Page, PageRequest, PageSize, Params, Payment, PaymentStatus, Receipt,
    ReserveBalance, ResultUrls, Storage, Stored, SubtractBalance, UserId,
};
use tokio::task::JoinSet;

use crate::check::{Check, Failure, ensure, ensure_eq};

pub(crate) async fn credit(storage: &dyn Storage, user: UserId, amount: &str) -> Check<Receipt> {
    Ok(storage.add_balance(AddBalance::new(user, amount.parse()?)).await?)
}

pub(crate) async fn debit(storage: &dyn Storage, user: UserId, amount: &str) -> Check<Receipt> {
    Ok(storage.subtract_balance(SubtractBalance::new(user, amount.parse()?)).await?)
}

pub(crate) async fn hold(storage: &dyn Storage, user: UserId, name: &str, amount: &str) -> Check<Receipt> {
    Ok(storage.reserve_balance(ReserveBalance::new(user, name.parse()?, amount.parse()?)).await?)
}

/// A payment to be added: by card.
pub(crate) fn payment(user: UserId, id: &str, amount: &str) -> Check<AddPayment> {
    let add = AddPayment::new(user, amount.parse()?, "card".parse()?);
    Ok(AddPayment { payment: Some(id.parse()?), ..add })
}

pub(crate) async fn pay(storage: &dyn Storage, user: UserId, id: &str, amount: &str) -> Check<Arc<Payment>> {
    Ok(storage.add_payment(payment(user, id, amount)?).await?.record)
}

pub(crate) async fn mark(storage: &dyn Storage, id: &str, status: PaymentStatus) -> Check<Stored<Payment>> {
    Ok(storage.mark_payment_status(MarkPaymentStatus::new(id.parse()?, status)).await?)
}

pub(crate) async fn approve(storage: &dyn Storage, id: &str) -> Check<Stored<Payment>> {
    mark(storage, id, PaymentStatus::Approved).await
}

/// A job to be added, for 7.50.
pub(crate) fn job(user: UserId, id: &str) -> Check<AddGenerationJob> {
    Ok(AddGenerationJob {
        user,
        job: Some(id.parse()?),
        external_task_id: None,
        model_id: "z-image".parse()?,
        model_name: "Z Image".parse()?,
        params: Params::from_json(r#"{"prompt":"a cat in the rain","steps":30}"#)?,
        price: "7.50".parse()?,
        key: None,
    })
}

pub(crate) async fn order(storage: &dyn Storage, user: UserId, id: &str) -> Check<Arc<Job>> {
    Ok(storage.add_generation_job(job(user, id)?).await?.record)
}

/// A generation to be recorded.
pub(crate) fn generation(user: UserId, id: &str, price: &str) -> Check<AddGenerationToHistory> {
    Ok(AddGenerationToHistory {
        user,
        id: Some(id.parse()?),
        model_id: "z-image".parse()?,
        model_name: "Z Image".parse()?,
        params: Params::from_json(r#"{"prompt":"a cat in the rain"}"#)?,
        result_urls: ResultUrls::new([format!("https://example.org/{id}.png")])?,
        price: price.parse()?,
    })
}

pub(crate) async fn record(storage: &dyn Storage, user: UserId, id: &str, price: &str) -> Check<GenerationReceipt> {
    Ok(storage.add_generation_to_history(generation(user, id, price)?).await?)
}

/// Every row of the user's ledger, newest first.
pub(crate) async fn rows(storage: &dyn Storage, user: UserId) -> Check<Vec<Arc<LedgerRow>>> {
    let fetch = |page| storage.list_operations(ListOperations { user, page });
    all_pages(PageSize::MAX, fetch).await
}

/// The user's ledger, oldest row first, a line each: `hold -4.00 +4.00 = 6.00 4.00 (job-1)`. Proves on the way that
/// the rows are numbered without gaps.
pub(crate) async fn ledger(storage: &dyn Storage, user: UserId) -> Check<Vec<String>> {
    let mut rows = rows(storage, user).await?;
    rows.reverse();
    let numbers: Vec<u64> = rows.iter().map(|row| row.seq).collect();
    ensure_eq!(numbers, (1..=rows.len() as u64).collect::<Vec<_>>(), "rows are numbered 1, 2, 3, ...");
    Ok(rows.iter().map(|row| line(row)).collect())
}

fn line(row: &LedgerRow) -> String {
    let LedgerRow { kind, balance_change, held_change, balance_after, held_after, reference, .. } = row;
    let reference = reference.as_ref().map(|reference| format!(" ({reference})")).unwrap_or_default();
    format!("{kind} {balance_change} {held_change} = {balance_after} {held_after}{reference}")
}

pub(crate) async fn balance(storage: &dyn Storage, user: UserId) -> Check<String> {
    Ok(storage.get_balance(user).await?.to_string())
}

/// The audit finds nothing.
pub(crate) async fn clean(storage: &dyn Storage) -> Check {
    let report = storage.audit(AuditScope::Everyone).await?;
    ensure!(report.is_clean(), "the audit found {:?}", report.findings);
    Ok(())
}

/// The whole store as text.
pub(crate) async fn dump_text(storage: &dyn Storage) -> Check<String> {
    let mut bytes = Vec::new();
    storage.dump(&mut bytes).await?;
    String::from_utf8(bytes).map_err(|error| Failure::new(format!("the dump is not UTF-8: {error}")))
}

/// More pages than any scenario's list has.
const MOST_PAGES: usize = 5000;

/// Every row of a list, page by page.
pub(crate) async fn all_pages<T, F>(size: PageSize, fetch: impl Fn(PageRequest) -> F) -> Check<Vec<Arc<T>>>
where
    F: Future<Output = storage_core::Result<Page<T>>>,
{
    let (mut rows, mut request) = (Vec::new(), PageRequest::first(size));
    // A list that never ends is a failure, not a test that never ends.
    for _ in 0..MOST_PAGES {
        let page = fetch(request).await?;
        ensure!(page.items.len() <= size.get(), "a page of {} rows for {}", page.items.len(), size.get());
        rows.extend(page.items);
        let Some(next) = page.next else { return Ok(rows) };
        request = PageRequest::after(size, next);
    }
    Err(Failure::new(format!("the list has no end: {MOST_PAGES} pages of {}", size.get())))
}

/// Starts `count` calls at once, each in a task of its own, and gathers what they answer, in the order of their
/// numbers.
pub(crate) async fn together<T, F>(count: usize, call: impl Fn(usize) -> F) -> Check<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let barrier = Arc::new(tokio::sync::Barrier::new(count));
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let (barrier, call) = (Arc::clone(&barrier), call(number));
        tasks.spawn(async move {
            barrier.wait().await;
            (number, call.await)
        });
    }
    let mut answers = Vec::with_capacity(count);
    while let Some(answer) = tasks.join_next().await {
        answers.push(answer.map_err(|error| Failure::new(format!("a task failed: {error}")))?);
    }
    answers.sort_by_key(|(number, _)| *number);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}

/// Polls a call at most so many times, then drops it. `None` when it was dropped unfinished.
pub(crate) async fn dropped_after<T>(polls: usize, call: impl Future<Output = T>) -> Option<T> {
    let (mut call, mut left) = (pin!(call), polls);
    std::future::poll_fn(|task| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match call.as_mut().poll(task) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            // The last poll is not waited for.
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// How many of the answers are as described.
pub(crate) fn count<T>(answers: &[T], is: impl Fn(&T) -> bool) -> usize {
    answers.iter().filter(|answer| is(answer)).count()
}

/// Fails when a value comes twice.
pub(crate) fn all_different<T: Ord + std::fmt::Debug>(values: &[T]) -> Check {
    let set: BTreeSet<&T> = values.iter().collect();
    ensure_eq!(set.len(), values.len(), "a value comes twice in {values:?}");
    Ok(())
}
