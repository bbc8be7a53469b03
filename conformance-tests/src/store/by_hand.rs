//! What somebody changed by hand, seen through a dump of the store where that was done: every backend may get one.

use std::sync::Arc;

use storage_core::{
    AddGenerationJob, AddPayment, BonusCount, DumpRecord, ImportOutcome, ImportRecord, MarkPaymentStatus, Payment,
    PaymentOrigin, PaymentStatus, RefundPayment, SetReferrer,
};

use super::restores::Forgery;
use crate::check::{Check, Failure, ensure, ensure_eq, present};
use crate::context::Context;
use crate::expect::{Expected, conflict, key_conflict, not_found, refused, refused_without_trace, transition};
use crate::scenario::list_scenarios;
use crate::steps::{approve, balance, clean, credit, job, ledger, pay, payment};

list_scenarios! {
    "store":
    the_key_of_a_payment_that_is_gone_is_a_conflict ["R6", "add_payment", "R12"];
    the_key_of_a_job_that_is_gone_is_a_conflict ["R6", "add_generation_job", "R12"];
    the_key_of_a_referral_that_is_gone_is_a_conflict ["R6", "set_referrer", "R12"];
    the_key_of_a_record_that_is_another_users_is_a_conflict ["R6", "add_payment", "add_generation_job", "set_referrer"];
    a_bonus_is_granted_once_for_a_user_whose_referrer_was_removed ["W39", "set_referrer"];
    a_payment_approved_by_hand_is_neither_credited_nor_refunded ["refund_payment", "mark_payment_status", "W2"];
    a_payment_that_waits_is_credited_wherever_it_was_before ["mark_payment_status", "W1"];
    an_imported_payment_stays_approved_by_hand ["M3", "refund_payment"];
}

/// A webhook's payment, whose id is minted, and one with an id.
fn webhook(context: &Context) -> Check<[AddPayment; 2]> {
    let minted = AddPayment {
        payment: None,
        provider_key: Some("charge-1".parse()?),
        key: Some("by webhook".parse()?),
        ..payment(context.alice, "unused", "10")?
    };
    let named = AddPayment { key: Some("by id".parse()?), ..payment(context.alice, "p-1", "20")? };
    Ok([minted, named])
}

async fn the_key_of_a_payment_that_is_gone_is_a_conflict(context: Context) -> Check {
    let storage = context.open().await?;
    let adds = webhook(&context)?;
    for add in &adds {
        storage.add_payment(add.clone()).await?;
    }
    let forgery = Forgery::of(&context, &*storage).await?;
    let payments: Vec<DumpRecord> = forgery.all().iter().filter(|record| record.kind() == "payment").cloned().collect();
    forgery.restored(&forgery.without(&payments.iter().collect::<Vec<_>>())).await?;
    let there = Arc::clone(&forgery.there);
    for add in &adds {
        let key = present(add.key.as_ref(), "the key")?;
        refused_without_trace!(there, there.add_payment(add.clone()), key_conflict(key.as_str()));
    }
    let gone = there.mark_payment_status(MarkPaymentStatus::new("p-1".parse()?, PaymentStatus::Approved));
    refused_without_trace!(there, gone, not_found("payment", "p-1"));
    for add in adds {
        let made = there.add_payment(AddPayment { key: None, ..add.clone() }).await?;
        ensure_eq!(made.replayed, false, "without the key it is a new one");
        ensure_eq!(there.add_payment(add).await?.record, made.record, "and then the key has a payment again");
    }
    clean(&*there).await
}

async fn the_key_of_a_job_that_is_gone_is_a_conflict(context: Context) -> Check {
    let storage = context.open().await?;
    let named = AddGenerationJob { key: Some("by id".parse()?), ..job(context.alice, "job-1")? };
    let minted = AddGenerationJob { job: None, key: Some("minted".parse()?), ..job(context.alice, "unused")? };
    let task = AddGenerationJob {
        job: None,
        external_task_id: Some("task-1".parse()?),
        key: Some("by task".parse()?),
        ..job(context.alice, "unused")?
    };
    let adds = [named, minted, task];
    for add in &adds {
        storage.add_generation_job(add.clone()).await?;
    }
    let forgery = Forgery::of(&context, &*storage).await?;
    let jobs: Vec<DumpRecord> = forgery.all().iter().filter(|record| record.kind() == "job").cloned().collect();
    forgery.restored(&forgery.without(&jobs.iter().collect::<Vec<_>>())).await?;
    let there = Arc::clone(&forgery.there);
    for add in &adds {
        let key = present(add.key.as_ref(), "the key")?;
        refused_without_trace!(there, there.add_generation_job(add.clone()), key_conflict(key.as_str()));
    }
    let again = there.add_generation_job(AddGenerationJob { key: None, ..adds[0].clone() }).await?;
    ensure_eq!(again.replayed, false, "without the key it is a new one");
    clean(&*there).await
}

/// Alice was brought by Bob, by a key and for a bonus of 5; then somebody removed the referrer.
async fn removed_referrer(context: &Context) -> Check<(Forgery, SetReferrer)> {
    let storage = context.open().await?;
    let set = SetReferrer {
        bonus: Some(BonusCount::default()),
        key: Some("by link".parse()?),
        ..SetReferrer::new(context.alice, context.bob)
    };
    storage.set_referrer(set.clone()).await?;
    let forgery = Forgery::of(context, &*storage).await?;
    let mut account = forgery.account(context.alice)?;
    (account.referrer, account.referred_at) = (None, None);
    ensure_eq!(account.referral_bonus, 5);
    forgery.restored(&forgery.with(&[&DumpRecord::Account(account)])).await?;
    Ok((forgery, set))
}

async fn the_key_of_a_referral_that_is_gone_is_a_conflict(context: Context) -> Check {
    let (forgery, set) = removed_referrer(&context).await?;
    let there = Arc::clone(&forgery.there);
    refused_without_trace!(there, there.set_referrer(set.clone()), key_conflict("by link"));
    ensure_eq!(there.get_referrer(context.alice).await?, None);
    there.set_referrer(SetReferrer::new(context.alice, context.carol)).await?;
    let other = conflict("referrer of user", &context.alice.to_string());
    refused_without_trace!(there, there.set_referrer(set), other);
    Ok(())
}

async fn a_bonus_is_granted_once_for_a_user_whose_referrer_was_removed(context: Context) -> Check {
    for referrer in [context.bob, context.carol] {
        let context = context.elsewhere().await?;
        let (forgery, _) = removed_referrer(&context).await?;
        let there = Arc::clone(&forgery.there);
        let bonus = Some(BonusCount::new(9)?);
        let set = SetReferrer { bonus, ..SetReferrer::new(context.alice, referrer) };
        let stored = there.set_referrer(set.clone()).await?;
        ensure_eq!((stored.replayed, stored.record.referrer, stored.record.bonus), (false, referrer, 5));
        ensure_eq!(there.set_referrer(set).await?.record, stored.record);
        let mut left = Vec::new();
        for user in [context.bob, context.carol] {
            left.push(there.get_user_free_generations_remaining(user).await?);
        }
        ensure_eq!(left, [10, 5], "{referrer}");
        // For whom none was granted, one is.
        let set = SetReferrer { bonus, ..SetReferrer::new(context.user(7)?, referrer) };
        ensure_eq!(there.set_referrer(set).await?.record.bonus, 9);
    }
    Ok(())
}

async fn the_key_of_a_record_that_is_another_users_is_a_conflict(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.bob, "1").await?;
    let paid = AddPayment { key: Some("paid".parse()?), ..payment(context.alice, "p-1", "20")? };
    let ordered = AddGenerationJob { key: Some("ordered".parse()?), ..job(context.alice, "job-1")? };
    let brought = SetReferrer { key: Some("brought".parse()?), ..SetReferrer::new(context.alice, context.carol) };
    storage.add_payment(paid.clone()).await?;
    storage.add_generation_job(ordered.clone()).await?;
    storage.set_referrer(brought.clone()).await?;
    let forgery = Forgery::of(&context, &*storage).await?;
    let (mut moved_payment, mut moved_job) = (forgery.one("payment", |_| true)?, forgery.one("job", |_| true)?);
    let gone = [moved_payment.clone(), moved_job.clone()];
    if let (DumpRecord::Payment(payment), DumpRecord::Job(job)) = (&mut moved_payment, &mut moved_job) {
        (payment.user, job.user) = (context.bob, context.bob);
    }
    let mut account = forgery.account(context.alice)?;
    account.referrer = Some(context.bob);
    let account = DumpRecord::Account(account);
    let changed = forgery.with(&[&moved_payment, &moved_job, &account]);
    let records: Vec<DumpRecord> = changed.into_iter().filter(|record| !gone.contains(record)).collect();
    forgery.restored(&records).await?;
    let there = Arc::clone(&forgery.there);
    refused_without_trace!(there, there.add_payment(paid), conflict("payment", "p-1"));
    refused_without_trace!(there, there.add_generation_job(ordered), conflict("job", "job-1"));
    let named = Expected::ConflictNaming(context.bob.to_string());
    refused_without_trace!(there, there.set_referrer(brought), named);
    Ok(())
}

async fn a_payment_approved_by_hand_is_neither_credited_nor_refunded(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    credit(&*storage, alice, "50").await?;
    for id in ["p-1", "p-2"] {
        pay(&*storage, alice, id, "20").await?;
    }
    let forgery = Forgery::of(&context, &*storage).await?;
    let by_hand = |id: &str, status| {
        let mut payment = forgery.payment(id)?;
        (payment.status, payment.origin) = (status, PaymentOrigin::ByHand);
        Check::Ok(DumpRecord::Payment(payment))
    };
    let records = [by_hand("p-1", PaymentStatus::Approved)?, by_hand("p-2", PaymentStatus::Refunded)?];
    forgery.restored(&forgery.with(&[&records[0], &records[1]])).await?;
    let there = Arc::clone(&forgery.there);
    ensure_eq!(approve(&*there, "p-1").await?.replayed, true);
    let no_way = || transition("payment", "p-1", "approved", "refunded");
    refused_without_trace!(there, there.refund_payment(RefundPayment::new("p-1".parse()?)), no_way());
    let mark = MarkPaymentStatus {
        key: Some("k".parse()?),
        ..MarkPaymentStatus::new("p-1".parse()?, PaymentStatus::Refunded)
    };
    refused_without_trace!(there, there.mark_payment_status(mark), no_way());
    let Err(error) = there.refund_payment(RefundPayment::new("p-1".parse()?)).await else {
        return Err(Failure::new("it was refunded"));
    };
    ensure!(error.to_string().contains("by hand"), "{error}");
    ensure_eq!(there.refund_payment(RefundPayment::new("p-2".parse()?)).await?.replayed, true);
    ensure_eq!(ledger(&*there, alice).await?.len(), 1);
    ensure_eq!(balance(&*there, alice).await?, "50.00");
    Ok(())
}

async fn a_payment_that_waits_is_credited_wherever_it_was_before(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    for id in ["p-1", "p-2"] {
        pay(&*storage, alice, id, "20").await?;
    }
    let forgery = Forgery::of(&context, &*storage).await?;
    let mut records = Vec::new();
    for (id, origin) in [("p-1", PaymentOrigin::Imported), ("p-2", PaymentOrigin::ByHand)] {
        let mut payment = forgery.payment(id)?;
        payment.origin = origin;
        records.push(DumpRecord::Payment(payment));
    }
    forgery.restored(&forgery.with(&records.iter().collect::<Vec<_>>())).await?;
    let there = Arc::clone(&forgery.there);
    for (id, key) in [("p-1", None), ("p-2", Some("k".parse()?))] {
        let mark = MarkPaymentStatus { key, ..MarkPaymentStatus::new(id.parse()?, PaymentStatus::Approved) };
        let stored = there.mark_payment_status(mark).await?;
        ensure_eq!((stored.replayed, stored.record.origin), (false, PaymentOrigin::Here), "{id}");
        clean(&*there).await?;
    }
    ensure_eq!(balance(&*there, alice).await?, "40.00");
    there.refund_payment(RefundPayment::new("p-1".parse()?)).await?;
    ensure_eq!(balance(&*there, alice).await?, "20.00");
    clean(&*there).await
}

async fn an_imported_payment_stays_approved_by_hand(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "50").await?;
    let waiting = Payment::create(payment(context.alice, "p-1", "25")?, "p-1".parse()?, context.now());
    let (status, origin) = (PaymentStatus::Approved, PaymentOrigin::ByHand);
    let record = Payment { status, origin, ..waiting };
    let import = vec![ImportRecord::Payment(record.clone())];
    ensure_eq!(storage.import_records(import.clone()).await?, [ImportOutcome::Added]);
    ensure_eq!(storage.get_payment(&"p-1".parse()?).await?.as_deref(), Some(&record));
    ensure_eq!(storage.import_records(import).await?, [ImportOutcome::Same]);
    let refund = storage.refund_payment(RefundPayment::new("p-1".parse()?)).await;
    refused(refund, &transition("payment", "p-1", "approved", "refunded"))?;
    ensure_eq!(balance(&*storage, context.alice).await?, "50.00");
    clean(&*storage).await
}
