//! Records that another system left. Only what is missing is added: what the store knows stays.

use std::fmt::Display;
use std::sync::Arc;

use super::jobs::task_is_free;
use super::keys::account_or_new;
use super::post::{Posting, post, receipt};
use super::referrals::may_bring;
use super::{Account, Atom, Changes, Decision, Halt, Record, Trim, View};
use crate::{
    AccountRecord, Answer, Error, ErrorKind, Generation, ImportOutcome, ImportRecord, Job, KeySpace, Memo, Money,
    OperationKey, OperationKind, Payment, Policy, Quota, Result, Timestamp, Total, UserId, check_spent,
};

pub(super) fn put_in(atom: &Atom, record: &ImportRecord, view: &dyn View, policy: &Policy) -> Result<Decision, Halt> {
    if atom.is_again() && is_added(atom, record.user(), view)? {
        return Ok(Changes::default().answering(ImportOutcome::Added));
    }
    let put = match record {
        ImportRecord::Balance { user, balance, created_at } => put_balance(atom, *user, *balance, *created_at, view),
        ImportRecord::Generation { user, generation } => put_generation(atom, *user, generation, view, policy),
        ImportRecord::Job(job) => put_job(atom, job, view),
        ImportRecord::Payment(payment) => put_payment(atom, payment, view),
        ImportRecord::Referral { user, referrer, since } => put_referral(atom, *user, *referrer, *since, view),
        field => put_field(atom, field, view),
    };
    put.or_else(|halt| match halt {
        // A rule that the record breaks is its outcome; everything else is an error of the store.
        Halt::Refused(error) if matches!(error.kind(), ErrorKind::InvalidInput { .. } | ErrorKind::Conflict { .. }) => {
            Ok(Changes::default().answering(ImportOutcome::Refused(error.to_string())))
        }
        halt => Err(halt),
    })
}

/// Whether an earlier attempt of this very atom added the record. Only what leaves a key tells.
fn is_added(atom: &Atom, user: UserId, view: &dyn View) -> Result<bool, Halt> {
    let used = view.key(user, atom.space(), atom.key())?;
    Ok(used.is_some_and(|used| used.operation == atom.stamp().operation))
}

/// The store has this already, or something else in its place.
fn known(is_same: bool, present: impl FnOnce() -> String) -> Decision {
    let outcome =
        if is_same { ImportOutcome::Same } else { ImportOutcome::Kept(format!("the store has {}", present())) };
    Changes::default().answering(outcome)
}

fn put_balance(
    atom: &Atom,
    user: UserId,
    balance: Money,
    created_at: Option<Timestamp>,
    view: &dyn View,
) -> Result<Decision, Halt> {
    let mut account = account_or_new(atom, user, view)?;
    let Account { record, rows } = &mut account;
    if *rows > 0 {
        let present = record.balance;
        return Ok(known(present == balance, || format!("{present} and a ledger of {rows} rows")));
    }
    record.created_at = created_at.map_or(record.created_at, |at| record.created_at.min(at));
    let held = record.held;
    let posting = Posting { kind: OperationKind::Opening, balance, held, memo: Memo::default() };
    let rows = vec![post(atom, &mut account, posting)?];
    let answer = Answer::Money(receipt(atom, &account));
    Ok(Changes { rows, ..Changes::of(account) }.settled(atom, user, answer).answering(ImportOutcome::Added))
}

fn put_generation(
    atom: &Atom,
    user: UserId,
    generation: &Generation,
    view: &dyn View,
    policy: &Policy,
) -> Result<Decision, Halt> {
    let key = OperationKey::from(&generation.id);
    if let Some(used) = view.key(user, KeySpace::Generation, &key)? {
        let other = || format!("another generation {}", generation.id);
        return Ok(known(used.arguments == atom.arguments(), other));
    }
    let changes = Changes {
        record: Some(Record::Generation(user, generation.clone())),
        trim: Some(Trim::After(policy.history.limit())),
        ..Changes::with_user(atom, user, view)?
    };
    Ok(changes.settled(atom, user, Answer::Record).answering(ImportOutcome::Added))
}

fn put_job(atom: &Atom, job: &Job, view: &dyn View) -> Result<Decision, Halt> {
    if let Some(present) = view.job(&job.id)? {
        let other = || format!("job {} of user {}, {}", present.id, present.user, present.status);
        return Ok(known(*present == *job, other));
    }
    task_is_free(job.external_task_id.as_ref(), &job.id, view)?;
    let record = Some(Record::Job(Arc::new(job.clone())));
    Ok(Changes { record, ..Changes::with_user(atom, job.user, view)? }.answering(ImportOutcome::Added))
}

fn put_payment(atom: &Atom, payment: &Payment, view: &dyn View) -> Result<Decision, Halt> {
    // What was decided elsewhere was credited elsewhere; what waits is decided and credited here.
    let payment = payment.clone().imported();
    if let Some(present) = view.payment(&payment.id)? {
        let Payment { id, user, amount, status, .. } = &*present;
        return Ok(known(*present == payment, || format!("payment {id} of user {user}, {amount} {status}")));
    }
    if let Some(provider) = &payment.provider_key
        && let Some(other) = view.payment_of(provider)?
    {
        return Err(Error::conflict("provider key", provider, format!("it belongs to payment {}", other.id)).into());
    }
    let changes = Changes::with_user(atom, payment.user, view)?;
    Ok(Changes { record: Some(Record::Payment(Arc::new(payment))), ..changes }.answering(ImportOutcome::Added))
}

fn put_referral(
    atom: &Atom,
    user: UserId,
    referrer: UserId,
    since: Option<Timestamp>,
    view: &dyn View,
) -> Result<Decision, Halt> {
    let mut account = account_or_new(atom, user, view)?;
    if let Some(present) = account.record.referrer {
        return Ok(known(present == referrer, || format!("referrer {present}")));
    }
    may_bring(user, referrer, view)?;
    let now = atom.stamp().now;
    account.record.refer(referrer, since.unwrap_or(now), None, now);
    let [above, _] = Changes::with_user(atom, referrer, view)?.accounts;
    Ok(Changes { accounts: [Some(account), above], ..Changes::default() }.answering(ImportOutcome::Added))
}

/// A record that concerns a field of the user alone.
fn put_field(atom: &Atom, field: &ImportRecord, view: &dyn View) -> Result<Decision, Halt> {
    let user = field.user();
    let is_new = view.account(user)?.is_none();
    let mut account = account_or_new(atom, user, view)?;
    let outcome = set_field(&mut account.record, field, atom.stamp().now)?;
    // A record of nothing but defaults still says that there is such a user.
    if is_new || outcome == ImportOutcome::Added {
        return Ok(Changes::of(account).answering(ImportOutcome::Added));
    }
    Ok(Changes::default().answering(outcome))
}

/// Sets a field that the store knows nothing of. `InvalidInput` for a value over its limit.
fn set_field(account: &mut AccountRecord, field: &ImportRecord, now: Timestamp) -> Result<ImportOutcome> {
    let kept = |is_same: bool, present: &dyn Display| {
        if is_same { ImportOutcome::Same } else { ImportOutcome::Kept(format!("the store has {present}")) }
    };
    match field {
        ImportRecord::Language { language, .. } => {
            if let Some(present) = &account.language {
                return Ok(kept(present == language, present));
            }
            account.language = Some(language.clone());
            account.updated_at = now;
        }
        ImportRecord::Gift { .. } => {
            if account.gift_claimed {
                return Ok(ImportOutcome::Same);
            }
            account.gift_claimed = true;
            account.updated_at = now;
        }
        ImportRecord::Quota { date, used, bank, .. } => {
            let (known, given) = (account.quota(), Quota { date: *date, used: *used, bank: *bank });
            given.check()?;
            if known == given || known != Quota::default() {
                return Ok(kept(known == given, &format!("{} taken, {} in the bank", known.used, known.bank)));
            }
            account.set_quota(given);
        }
        ImportRecord::AdminLimit { limit, .. } => {
            if let Some(present) = account.admin_limit {
                return Ok(kept(present == *limit, &present));
            }
            account.admin_limit = Some(*limit);
        }
        ImportRecord::Spent { spent, .. } => {
            check_spent(*spent)?;
            if account.spent != Total::ZERO || *spent == Total::ZERO {
                return Ok(kept(account.spent == *spent, &account.spent));
            }
            account.spent = *spent;
        }
        _ => return Err(Error::internal("an imported record of an unknown kind")),
    }
    Ok(ImportOutcome::Added)
}
