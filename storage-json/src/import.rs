//! Putting in what another system left, one record at a time.

use storage_core::{
    AddGenerationToHistory, Answer, Error, ErrorKind, Fingerprint, Generation, ImportOutcome, ImportRecord, Job,
    KeySpace, Memo, OperationKey, OperationKind, Payment, Result, Timestamp, UserId,
};

use crate::tx::{Posting, Tx};

/// Puts one record in, unless the store knows something there already.
pub(crate) fn put(tx: &mut Tx<'_>, record: ImportRecord) -> Result<ImportOutcome> {
    let put = match record {
        ImportRecord::Balance { user, balance, created_at } => put_balance(tx, user, balance, created_at),
        ImportRecord::Generation { user, generation } => put_generation(tx, user, &generation),
        ImportRecord::Job(job) => put_job(tx, job),
        ImportRecord::Payment(payment) => put_payment(tx, payment),
        ImportRecord::Referral { user, referrer, since } => put_referral(tx, user, referrer, since),
        account_only => {
            let mut account = tx.account_or_new(account_only.user());
            match account_only.apply_to_account(&mut account.record, tx.now()) {
                Ok(Some(outcome)) => {
                    // A record of nothing but defaults still says that there is such a user.
                    let is_new = tx.account(account.record.user).is_none();
                    if is_new || outcome == ImportOutcome::Added {
                        tx.put_account(account);
                    }
                    Ok(if is_new { ImportOutcome::Added } else { outcome })
                }
                Ok(None) => Err(Error::internal("an imported record of an unknown kind")),
                Err(error) => Err(error),
            }
        }
    };
    // A rule that the record breaks is its outcome; everything else is an error of the store.
    put.or_else(|error| match error.kind() {
        ErrorKind::InvalidInput { .. } | ErrorKind::Conflict { .. } => Ok(ImportOutcome::Refused(error.to_string())),
        _ => Err(error),
    })
}

fn put_balance(
    tx: &mut Tx<'_>,
    user: UserId,
    balance: storage_core::Money,
    created_at: Option<Timestamp>,
) -> Result<ImportOutcome> {
    let mut account = tx.account_or_new(user);
    if account.rows > 0 {
        return Ok(if account.record.balance == balance {
            ImportOutcome::Same
        } else {
            ImportOutcome::Kept(format!(
                "the store has {} and a ledger of {} rows",
                account.record.balance, account.rows
            ))
        });
    }
    if let Some(created_at) = created_at {
        account.record.created_at = account.record.created_at.min(created_at);
    }
    let held = account.record.held;
    let row = tx.post(&mut account, Posting { kind: OperationKind::Opening, balance, held, memo: Memo::default() })?;
    let answer = Answer::Money(tx.receipt(balance));
    let arguments = Fingerprint::of("opening", &[&balance.to_string()]);
    tx.settle_operation(account, None, arguments, answer, vec![row])?;
    Ok(ImportOutcome::Added)
}

/// What a call that records the entry again repeats.
pub(crate) fn arguments_of(user: UserId, generation: &Generation) -> Fingerprint {
    let Generation { id: _, model_id, model_name, params, result_urls, price, at: _ } = generation.clone();
    AddGenerationToHistory { user, id: None, model_id, model_name, params, result_urls, price }.fingerprint()
}

fn put_generation(tx: &mut Tx<'_>, user: UserId, generation: &Generation) -> Result<ImportOutcome> {
    let key = OperationKey::new(generation.id.as_str())?;
    let arguments = arguments_of(user, generation);
    if let Some(used) = tx.used_key(user, KeySpace::Generation, &key)? {
        return Ok(if used.arguments == arguments {
            ImportOutcome::Same
        } else {
            ImportOutcome::Kept(format!("the store has another generation {}", generation.id))
        });
    }
    let account = tx.account_or_new(user);
    tx.settle(account, (KeySpace::Generation, key), arguments, Answer::Record, Vec::new())?;
    tx.put_generation(user, generation);
    tx.trim_history(user, tx.env.policy.history.limit());
    Ok(ImportOutcome::Added)
}

fn put_job(tx: &mut Tx<'_>, job: Job) -> Result<ImportOutcome> {
    if let Some(present) = tx.job(&job.id) {
        return Ok(if *present == job {
            ImportOutcome::Same
        } else {
            ImportOutcome::Kept(format!(
                "the store has job {} of user {}, {}",
                present.id, present.user, present.status
            ))
        });
    }
    if let Some(task) = &job.external_task_id
        && let Some(other) = tx.job_by_task(task)
    {
        return Err(Error::conflict("external task id", task, format!("it belongs to job {}", other.id)));
    }
    tx.ensure_account(job.user);
    tx.put_job(job);
    Ok(ImportOutcome::Added)
}

fn put_payment(tx: &mut Tx<'_>, payment: Payment) -> Result<ImportOutcome> {
    let payment = payment.imported();
    if let Some(present) = tx.payment(&payment.id) {
        return Ok(if *present == payment {
            ImportOutcome::Same
        } else {
            ImportOutcome::Kept(format!(
                "the store has payment {} of user {}, {} {}",
                present.id, present.user, present.amount, present.status
            ))
        });
    }
    if let Some(provider) = &payment.provider_key
        && let Some(other) = tx.payment_by_provider(provider)
    {
        return Err(Error::conflict("provider key", provider, format!("it belongs to payment {}", other.id)));
    }
    tx.ensure_account(payment.user);
    tx.put_payment(payment);
    Ok(ImportOutcome::Added)
}

fn put_referral(tx: &mut Tx<'_>, user: UserId, referrer: UserId, since: Option<Timestamp>) -> Result<ImportOutcome> {
    if let Some(present) = tx.account(user).and_then(|account| account.record.referrer) {
        return Ok(if present == referrer {
            ImportOutcome::Same
        } else {
            ImportOutcome::Kept(format!("user {present} brought them"))
        });
    }
    crate::referrals::judge(tx, user, referrer)?;
    tx.ensure_account(referrer);
    let mut account = tx.account_or_new(user);
    account.record.refer(referrer, since.unwrap_or(tx.now()), None, tx.now());
    tx.put_account(account);
    tx.raise_above(user);
    Ok(ImportOutcome::Added)
}
