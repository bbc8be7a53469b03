//! Records that another system left.

use std::sync::Arc;

use storage_core::dump::KeyRecord;
use storage_core::kernel::{Changes, Record, Trim};
use storage_core::{
    AccountRecord, AddGenerationToHistory, Answer, Error, Fingerprint, ImportOutcome, ImportRecord, Job, KeySpace,
    Memo, Money, OperationKey, OperationKind, Payment, Policy, Result, SignedMoney, Stamp, Timestamp, UsedKey, UserId,
};

use crate::state::{Posting, State};
use crate::{jobs, payments, referrals};

/// Puts one record in, unless the store knows better. Only a defect is an error.
pub(crate) fn put_in(state: &mut State, record: ImportRecord, policy: &Policy, stamp: Stamp) -> Result<ImportOutcome> {
    match record {
        ImportRecord::Balance { user, balance, created_at } => put_balance(state, user, balance, created_at, stamp),
        ImportRecord::Generation { user, generation } => {
            let arguments = AddGenerationToHistory {
                user,
                id: Some(generation.id.clone()),
                model_id: generation.model_id.clone(),
                model_name: generation.model_name.clone(),
                params: generation.params.clone(),
                result_urls: generation.result_urls.clone(),
                price: generation.price,
            }
            .fingerprint();
            let key = OperationKey::from(&generation.id);
            if let Some(known) = state.keys.get(&(user, KeySpace::Generation, key.clone())) {
                return Ok(same_or_kept(known.arguments == arguments, "another generation under this id"));
            }
            state.account(user, stamp.now);
            let used = UsedKey { arguments, operation: stamp.operation, answer: Answer::Record };
            state.put(Changes {
                key: Some(KeyRecord { user, space: KeySpace::Generation, key, used }),
                record: Some(Record::Generation(user, generation)),
                trim: Some(Trim::After(policy.history.limit())),
                ..Changes::default()
            });
            Ok(ImportOutcome::Added)
        }
        ImportRecord::Job(job) => Ok(put_job(state, job, stamp)),
        ImportRecord::Payment(payment) => Ok(put_payment(state, payment, stamp)),
        ImportRecord::Referral { user, referrer, since } => {
            if let Some(present) = state.accounts.get(&user).and_then(|account| account.referrer) {
                return Ok(same_or_kept(present == referrer, &format!("referrer {present}")));
            }
            if let Err(error) = referrals::check_chain(state, user, referrer) {
                return Ok(ImportOutcome::Refused(error.kind().to_string()));
            }
            referrals::link(state, user, referrer, None, (since.unwrap_or(stamp.now), stamp.now));
            Ok(ImportOutcome::Added)
        }
        field => {
            // A record of nothing but defaults still says that there is such a user.
            let known = state.accounts.get(&field.user());
            let mut account = known.cloned().unwrap_or_else(|| AccountRecord::new(field.user(), stamp.now));
            let outcome = match field.apply_to_account(&mut account, stamp.now) {
                Ok(Some(_)) if known.is_none() => ImportOutcome::Added,
                Ok(Some(outcome)) => outcome,
                Ok(None) => return Ok(ImportOutcome::Refused("this backend does not know such records".to_owned())),
                Err(error) => return Ok(ImportOutcome::Refused(error.to_string())),
            };
            state.accounts.insert(account.user, account);
            Ok(outcome)
        }
    }
}

fn same_or_kept(same: bool, present: &str) -> ImportOutcome {
    if same { ImportOutcome::Same } else { ImportOutcome::Kept(format!("the store has {present}")) }
}

fn put_balance(
    state: &mut State,
    user: UserId,
    balance: Money,
    created_at: Option<Timestamp>,
    stamp: Stamp,
) -> Result<ImportOutcome> {
    if state.ledger.contains_key(&user) {
        let present = state.balance(user);
        return Ok(same_or_kept(present == balance, &present.to_string()));
    }
    let account = state.account(user, stamp.now);
    account.created_at = created_at.map_or(account.created_at, |at| account.created_at.min(at));
    let posting = Posting {
        kind: OperationKind::Opening,
        balance: SignedMoney::plus(balance),
        held: SignedMoney::ZERO,
        key: stamp.operation.to_key(),
        memo: Memo::default(),
    };
    let receipt = state.post(user, posting, stamp)?;
    let arguments = Fingerprint::of("opening", &[&balance.to_string()]);
    state.settle(user, None, arguments, Answer::Money(receipt), stamp);
    Ok(ImportOutcome::Added)
}

fn put_job(state: &mut State, job: Job, stamp: Stamp) -> ImportOutcome {
    if let Some(present) = state.jobs.get(&job.id) {
        return same_or_kept(**present == job, &format!("job {}", present.id));
    }
    if let Err(error) = jobs::check_task(state, job.external_task_id.as_ref(), &job.id) {
        return ImportOutcome::Refused(error.to_string());
    }
    state.account(job.user, stamp.now);
    state.jobs.insert(job.id.clone(), Arc::new(job));
    ImportOutcome::Added
}

fn put_payment(state: &mut State, payment: Payment, stamp: Stamp) -> ImportOutcome {
    // What was decided elsewhere was credited elsewhere; what waits is decided and credited here.
    let payment = payment.imported();
    if let Some(present) = state.payments.get(&payment.id) {
        return same_or_kept(**present == payment, &format!("payment {}", present.id));
    }
    if let Some(key) = &payment.provider_key
        && let Some(other) = payments::by_provider_key(state, key)
    {
        let error = Error::conflict("provider key", key, format!("it belongs to payment {}", other.id));
        return ImportOutcome::Refused(error.to_string());
    }
    state.account(payment.user, stamp.now);
    state.payments.insert(payment.id.clone(), Arc::new(payment));
    ImportOutcome::Added
}
