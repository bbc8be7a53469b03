//! Putting in what another system left, one record at a time.

use storage_core::{
    AddGenerationToHistory, Answer, Error, ErrorKind, Fingerprint, Generation, ImportOutcome, ImportRecord, Job,
    KeySpace, Memo, Money, OperationKey, OperationKind, Payment, PaymentOrigin, PaymentStatus, ProviderKey, Result,
    TaskId, Timestamp, UserId,
};

use crate::account::{self, Posting};
use crate::fault::Fault;
use crate::tx::{Loaded, Tx};
use crate::wire::Value;
use crate::{history, jobs, keys, payments, referrals};

/// Puts one record in, unless the store knows something there already. What the record breaks is its outcome;
/// everything else is an error of the store.
pub(crate) async fn put(tx: &mut Tx<'_>, record: ImportRecord) -> Result<ImportOutcome, Fault> {
    let put = match record {
        ImportRecord::Balance { user, balance, created_at } => put_balance(tx, user, balance, created_at).await,
        ImportRecord::Generation { user, generation } => put_generation(tx, user, generation).await,
        ImportRecord::Job(job) => put_job(tx, job).await,
        ImportRecord::Payment(payment) => put_payment(tx, payment).await,
        ImportRecord::Referral { user, referrer, since } => put_referral(tx, user, referrer, since).await,
        field => put_field(tx, field).await,
    };
    match put {
        Err(Fault::Refused(error))
            if matches!(error.kind(), ErrorKind::InvalidInput { .. } | ErrorKind::Conflict { .. }) =>
        {
            tx.discard();
            Ok(ImportOutcome::Refused(error.to_string()))
        }
        other => other,
    }
}

fn same_or_kept(same: bool, present: impl FnOnce() -> String) -> ImportOutcome {
    if same { ImportOutcome::Same } else { ImportOutcome::Kept(present()) }
}

async fn put_field(tx: &mut Tx<'_>, field: ImportRecord) -> Result<ImportOutcome, Fault> {
    let Loaded { mut account, .. } = tx.load(field.user(), &tx.key(None), Vec::new()).await?;
    let is_new = account.is_new();
    let Some(outcome) = field.apply_to_account(&mut account.record, tx.now())? else {
        return Err(Error::internal("an imported record of an unknown kind").into());
    };
    // A record of nothing but defaults still says that there is such a user.
    if is_new || outcome == ImportOutcome::Added {
        account::put(tx, &mut account);
    }
    Ok(if is_new { ImportOutcome::Added } else { outcome })
}

async fn put_balance(
    tx: &mut Tx<'_>,
    user: UserId,
    balance: Money,
    created_at: Option<Timestamp>,
) -> Result<ImportOutcome, Fault> {
    let key = tx.key(None);
    let Loaded { mut account, used, .. } = tx.load(user, &key, Vec::new()).await?;
    if used.is_some() {
        // An earlier attempt of this very call, whose answer was lost.
        return Ok(ImportOutcome::Added);
    }
    if account.rows > 0 {
        let record = &account.record;
        return Ok(same_or_kept(record.balance == balance, || {
            format!("the store has {} and a ledger of {} rows", record.balance, account.rows)
        }));
    }
    if let Some(created_at) = created_at {
        account.record.created_at = account.record.created_at.min(created_at);
    }
    let held = account.record.held;
    let posting = Posting { kind: OperationKind::Opening, balance, held, memo: Memo::default() };
    let receipt = account::post(tx, &mut account, &key, posting)?;
    let arguments = Fingerprint::of("opening", &[&balance.to_string()]);
    keys::settle_operation(tx, &mut account, &key, arguments, Answer::Money(receipt));
    Ok(ImportOutcome::Added)
}

async fn put_generation(tx: &mut Tx<'_>, user: UserId, generation: Generation) -> Result<ImportOutcome, Fault> {
    let arguments = AddGenerationToHistory {
        user,
        id: None,
        model_id: generation.model_id.clone(),
        model_name: generation.model_name.clone(),
        params: generation.params.clone(),
        result_urls: generation.result_urls.clone(),
        price: generation.price,
    }
    .fingerprint();
    let key = OperationKey::new(generation.id.as_str())?;
    let (id, space, word) = (user.get(), KeySpace::Generation.as_str(), key.as_str());
    let find = (&tx.sql().keys.find, vec![&id as Value<'_>, &space, &word]);
    let Loaded { mut account, more, .. } = tx.load(user, &tx.key(None), vec![find]).await?;
    let used = more.first().and_then(|rows| rows.first()).map(keys::used_key).transpose()?;
    if let Some((.., used)) = used {
        if used.operation == tx.stamp.operation {
            return Ok(ImportOutcome::Added);
        }
        return Ok(same_or_kept(used.arguments == arguments, || {
            format!("the store has another generation {}", generation.id)
        }));
    }
    history::record(tx, &mut account, &generation, arguments)?;
    Ok(ImportOutcome::Added)
}

async fn put_job(tx: &mut Tx<'_>, job: Job) -> Result<ImportOutcome, Fault> {
    let (word, task) = (job.id.as_str(), job.external_task_id.as_ref().map_or("", TaskId::as_str));
    let sql = &tx.sql().jobs;
    let more = vec![(&sql.find, vec![&word as Value<'_>]), (&sql.find_by_task, vec![&task as Value<'_>])];
    let Loaded { mut account, more, .. } = tx.load(job.user, &tx.key(None), more).await?;
    let found = |at: usize| more.get(at).and_then(|rows| rows.first());
    if let Some(row) = found(0) {
        let present = jobs::job(row)?;
        return Ok(same_or_kept(present == job, || {
            format!("the store has job {} of user {}, {}", present.id, present.user, present.status)
        }));
    }
    if let Some(task) = &job.external_task_id {
        jobs::task_is_free(task, found(1), &job.id)?;
    }
    account::put(tx, &mut account);
    jobs::create(tx, &job);
    Ok(ImportOutcome::Added)
}

async fn put_payment(tx: &mut Tx<'_>, mut payment: Payment) -> Result<ImportOutcome, Fault> {
    // Only what still waits for a decision may ever credit here.
    payment.origin =
        if payment.status == PaymentStatus::Pending { PaymentOrigin::Here } else { PaymentOrigin::Imported };
    let (word, provider) = (payment.id.as_str(), payment.provider_key.as_ref().map_or("", ProviderKey::as_str));
    let sql = &tx.sql().payments;
    let more = vec![(&sql.find, vec![&word as Value<'_>]), (&sql.find_by_provider, vec![&provider as Value<'_>])];
    let Loaded { mut account, more, .. } = tx.load(payment.user, &tx.key(None), more).await?;
    let found = |at: usize| more.get(at).and_then(|rows| rows.first());
    if let Some(row) = found(0) {
        let present = payments::payment(row)?;
        return Ok(same_or_kept(present == payment, || {
            let Payment { id, user, amount, status, .. } = &present;
            format!("the store has payment {id} of user {user}, {amount} {status}")
        }));
    }
    if let (Some(provider), Some(row)) = (&payment.provider_key, found(1)) {
        let other = payments::payment(row)?;
        return Err(Error::conflict("provider key", provider, format!("it belongs to payment {}", other.id)).into());
    }
    account::put(tx, &mut account);
    payments::create(tx, &payment);
    Ok(ImportOutcome::Added)
}

async fn put_referral(
    tx: &mut Tx<'_>,
    user: UserId,
    referrer: UserId,
    since: Option<Timestamp>,
) -> Result<ImportOutcome, Fault> {
    let key = tx.key(None);
    let mut look = referrals::look(tx, user, referrer, &key).await?;
    if let Some(present) = look.account.record.referrer {
        return Ok(same_or_kept(present == referrer, || format!("user {present} brought them")));
    }
    look.judge_edge()?;
    account::put(tx, &mut look.above);
    referrals::refer(tx, &mut look.account, referrer, since.unwrap_or(tx.now()), 0);
    account::put(tx, &mut look.account);
    Ok(ImportOutcome::Added)
}
