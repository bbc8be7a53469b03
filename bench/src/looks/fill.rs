//! What the store has that is looked at.

use std::path::Path;
use std::sync::Arc;

use storage_core::{
    AddGenerationToHistory, Error, GenerationId, History as _, HoldName, ImportRecord, Job, MarkPaymentStatus, Money,
    Params, Payment, PaymentStatus, Payments as _, ReserveBalance, Reserves as _, Result, ResultUrls, Store as _,
    Timestamp, UserId,
};
use storage_json::{Access, Durability, JsonStorage};

use super::{BROUGHT, HEAVY, ROUNDS, options};
use crate::json::{import, new_payment, old_job};

/// How many tasks fill what cannot be imported.
const TASKS: u32 = 256;

pub(super) fn user(id: i64) -> Result<UserId> {
    UserId::new(id)
}

/// Fills a store: so many users with a balance; one of them with as many payments, all approved, as many pending jobs, as
/// many open holds and as many history entries; and three who brought a third each.
pub(super) async fn fill(dir: &Path, records: u32) -> Result<()> {
    let mut options = options(dir, records);
    (options.access, options.durability) = (Access::Exclusive, Durability::ProcessOnly);
    let begin = options.environment.clock.now().micros() - i64::from(records);
    let store = Arc::new(JsonStorage::open(options).await?);
    let balance = Money::from_units(1_000_000)?;
    let all = 1..=i64::from(records);
    import(&*store, all.map(|id| Ok(ImportRecord::Balance { user: user(id)?, balance, created_at: None }))).await?;
    import(&*store, (0..records).map(|number| job(number, begin).map(ImportRecord::Job))).await?;
    import(&*store, (0..records).map(|number| payment(number, begin).map(ImportRecord::Payment))).await?;
    let rounds = i64::try_from(ROUNDS).unwrap_or(1);
    let brought = (BROUGHT + rounds..=i64::from(records)).map(|id| {
        let referrer = user(BROUGHT + id % rounds)?;
        Ok(ImportRecord::Referral { user: user(id)?, referrer, since: None })
    });
    import(&*store, brought).await?;
    each(&store, records, |store, number| async move {
        let mark = MarkPaymentStatus::new(format!("payment-{number}").parse()?, PaymentStatus::Approved);
        store.mark_payment_status(mark).await.map(|_| ())
    })
    .await?;
    each(&store, records, |store, number| async move { store.reserve_balance(hold(number)?).await.map(|_| ()) })
        .await?;
    // While there is nothing to trim yet.
    each(&store, records, |store, number| async move {
        store.add_generation_to_history(generation(number)?).await.map(|_| ())
    })
    .await?;
    store.close().await
}

/// Runs a call for each number, by many tasks.
pub(super) async fn each<F>(
    store: &Arc<JsonStorage>,
    numbers: u32,
    call: impl Fn(Arc<JsonStorage>, u32) -> F,
) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut tasks = tokio::task::JoinSet::new();
    let joined = |done: Option<Result<Result<()>, tokio::task::JoinError>>| match done {
        None | Some(Ok(Ok(()))) => Ok(()),
        Some(Ok(Err(error))) => Err(error),
        Some(Err(error)) => Err(Error::internal(format!("a task ended badly: {error}"))),
    };
    for number in 0..numbers {
        tasks.spawn(call(Arc::clone(store), number));
        if number >= TASKS {
            joined(tasks.join_next().await)?;
        }
    }
    while !tasks.is_empty() {
        joined(tasks.join_next().await)?;
    }
    Ok(())
}

fn payment(number: u32, begin: i64) -> Result<Payment> {
    let at = Timestamp::from_micros(begin + i64::from(number))?;
    Ok(Payment { created_at: at, updated_at: at, ..new_payment(&format!("payment-{number}"), HEAVY)? })
}

fn job(number: u32, begin: i64) -> Result<Job> {
    old_job(&format!("job-{number}"), HEAVY, begin + i64::from(number))
}

pub(super) fn generation(number: u32) -> Result<AddGenerationToHistory> {
    Ok(AddGenerationToHistory {
        user: user(HEAVY)?,
        id: Some(GenerationId::new(format!("generation-{number}"))?),
        model_id: "model-7".parse()?,
        model_name: "Model Seven".parse()?,
        params: Params::from_json("{}")?,
        result_urls: ResultUrls::default(),
        price: Money::ZERO,
    })
}

fn hold(number: u32) -> Result<ReserveBalance> {
    Ok(ReserveBalance::new(user(HEAVY)?, HoldName::new(format!("hold-{number}"))?, "0.01".parse()?))
}
