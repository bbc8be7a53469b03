//! Records that another system left (M3), as far as a backend takes part: what is added, kept, refused.

use std::io::Cursor;

use storage_core::{
    AddGenerationJob, Generation, ImportOutcome, ImportRecord, Job, JobStatus, ListPayments, MAX_BANK,
    MarkPaymentStatus, OperationKind, Payment, PaymentOrigin, PaymentStatus, Storage, Timestamp, Total, UserId,
};

use crate::check::{Check, ensure, ensure_eq, present};
use crate::context::{Context, keeping};
use crate::expect::{Expected, refused, refused_without_trace, transition};
use crate::scenario::list_scenarios;
use crate::steps::{balance, clean, credit, dump_text, generation, job, ledger, order, pay, payment, record, rows};

list_scenarios! {
    "imports":
    an_imported_balance_opens_the_ledger ["M3"];
    a_balance_is_set_only_for_a_user_without_rows ["M3"];
    imported_payments_never_credit ["M3"];
    an_imported_approval_cannot_be_repeated ["M3", "W2"];
    a_second_import_changes_nothing ["M3"];
    what_the_store_knows_is_kept ["M3", "R12"];
    one_refused_record_never_stops_the_others ["M3", "W43"];
    a_value_over_its_limit_is_refused_by_name ["M3", "V2", "R8"];
    outcomes_come_in_the_order_of_the_records ["M3"];
    the_records_of_one_user_are_put_in_in_their_order ["M3", "R8"];
    imported_generations_cost_nothing ["M3"];
    imported_history_is_trimmed_and_its_ids_are_used_up ["M3", "W30"];
    imported_jobs_are_found_by_both_ids ["M3"];
    a_task_or_provider_key_that_is_taken_refuses_its_record ["M3", "R8"];
    imported_jobs_go_on_from_their_state ["M3"];
    imported_referrals_close_no_circle ["M3", "W38"];
    imported_fields_are_read_like_others ["M3"];
    a_record_of_nothing_but_defaults_creates_its_user ["M3", "R2"];
    an_import_of_nothing_changes_nothing ["M3"];
    an_import_survives_reopening ["M3", "R5"] needs [Reopen];
}

fn is_kept(outcome: &ImportOutcome) -> bool {
    matches!(outcome, ImportOutcome::Kept(reason) if !reason.is_empty())
}

async fn import(storage: &dyn Storage, record: ImportRecord) -> Check<ImportOutcome> {
    let mut outcomes = storage.import_records(vec![record]).await?;
    ensure_eq!(outcomes.len(), 1, "one outcome for each record");
    present(outcomes.pop(), "the outcome")
}

fn opening(user: UserId, amount: &str) -> Check<ImportRecord> {
    Ok(ImportRecord::Balance { user, balance: amount.parse()?, created_at: None })
}

/// A payment of another system.
fn decided(user: UserId, id: &str, status: PaymentStatus, at: Timestamp) -> Check<Payment> {
    let pending = Payment::create(payment(user, id, "100")?, id.parse()?, at);
    Ok(Payment { status, origin: PaymentOrigin::Imported, ..pending })
}

fn old_job(user: UserId, id: &str, status: JobStatus, at: Timestamp) -> Check<Job> {
    let add = AddGenerationJob { external_task_id: Some(format!("task of {id}").parse()?), ..job(user, id)? };
    Ok(Job { status, ..Job::create(add, id.parse()?, at) })
}

fn old_generation(user: UserId, id: &str, at: Timestamp) -> Check<ImportRecord> {
    let add = generation(user, id, "7.50")?;
    let generation = Generation {
        id: id.parse()?,
        model_id: add.model_id,
        model_name: add.model_name,
        params: add.params,
        result_urls: add.result_urls,
        price: add.price,
        at,
    };
    Ok(ImportRecord::Generation { user, generation })
}

async fn a_record_of_nothing_but_defaults_creates_its_user(context: Context) -> Check {
    let storage = context.open().await?;
    let user = UserId::new(7)?;
    let nothing = ImportRecord::Quota { user, date: None, used: 0, bank: 0 };
    ensure_eq!(import(&*storage, nothing.clone()).await?, ImportOutcome::Added);
    ensure!(storage.find_user(user).await?.is_some(), "the user was not created");
    ensure_eq!(import(&*storage, nothing).await?, ImportOutcome::Same);
    clean(&*storage).await
}

async fn an_imported_balance_opens_the_ledger(context: Context) -> Check {
    let storage = context.open().await?;
    let born = "2025-12-01T08:00:00Z".parse()?;
    let record = ImportRecord::Balance { user: context.alice, balance: "12.345678".parse()?, created_at: Some(born) };
    ensure_eq!(import(&*storage, record).await?, ImportOutcome::Added);
    ensure_eq!(ledger(&*storage, context.alice).await?, ["opening +12.345678 +0.00 = 12.345678 0.00"]);
    let user = present(storage.find_user(context.alice).await?, "the user")?;
    ensure_eq!((user.balance.to_string().as_str(), user.created_at), ("12.345678", born));
    ensure_eq!(credit(&*storage, context.alice, "1").await?.balance_after.to_string(), "13.345678");
    clean(&*storage).await
}

async fn a_balance_is_set_only_for_a_user_without_rows(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "5").await?;
    storage.get_user(context.bob).await?;
    let outcome = import(&*storage, opening(context.alice, "100")?).await?;
    ensure!(is_kept(&outcome), "{outcome:?}");
    ensure_eq!(ledger(&*storage, context.alice).await?, ["credit +5.00 +0.00 = 5.00 0.00"]);
    ensure_eq!(import(&*storage, opening(context.bob, "100")?).await?, ImportOutcome::Added, "known, but no rows");
    ensure_eq!(rows(&*storage, context.bob).await?[0].kind, OperationKind::Opening);
    clean(&*storage).await
}

async fn imported_payments_never_credit(context: Context) -> Check {
    let storage = context.open().await?;
    let born = "2025-12-01T08:00:00Z".parse()?;
    for status in [PaymentStatus::Approved, PaymentStatus::Rejected, PaymentStatus::Cancelled] {
        let record = decided(context.alice, status.as_str(), status, born)?;
        ensure_eq!(import(&*storage, ImportRecord::Payment(record.clone())).await?, ImportOutcome::Added);
        ensure_eq!(storage.get_payment(&status.as_str().parse()?).await?.as_deref(), Some(&record));
    }
    ensure_eq!(balance(&*storage, context.alice).await?, "0.00");
    ensure_eq!(rows(&*storage, context.alice).await?.len(), 0);
    ensure_eq!(storage.list_payments(ListPayments::default()).await?.items.len(), 3);
    clean(&*storage).await
}

async fn an_imported_approval_cannot_be_repeated(context: Context) -> Check {
    let storage = context.open().await?;
    let record = decided(context.alice, "p-1", PaymentStatus::Approved, context.now())?;
    import(&*storage, ImportRecord::Payment(record)).await?;
    let before = dump_text(&*storage).await?;
    let approve = MarkPaymentStatus::new("p-1".parse()?, PaymentStatus::Approved);
    let stored = storage.mark_payment_status(approve).await?;
    ensure_eq!((stored.replayed, stored.record.origin), (true, PaymentOrigin::Imported));
    ensure_eq!(dump_text(&*storage).await?, before);
    let reject = MarkPaymentStatus::new("p-1".parse()?, PaymentStatus::Rejected);
    let refusal = transition("payment", "p-1", "approved", "rejected");
    refused_without_trace!(storage, storage.mark_payment_status(reject), refusal);
    ensure_eq!(balance(&*storage, context.alice).await?, "0.00");
    Ok(())
}

/// One record of each kind.
fn one_of_each(context: &Context) -> Check<Vec<ImportRecord>> {
    let (alice, born) = (context.alice, "2025-12-01T08:00:00Z".parse()?);
    Ok(vec![
        opening(alice, "12.50")?,
        ImportRecord::Language { user: alice, language: "uk".parse()? },
        ImportRecord::Gift { user: alice },
        ImportRecord::Quota { user: alice, date: Some("2026-01-15".parse()?), used: 2, bank: 7 },
        ImportRecord::AdminLimit { user: alice, limit: "50".parse()? },
        ImportRecord::Spent { user: alice, spent: "20.25".parse()? },
        old_generation(alice, "g-1", born)?,
        ImportRecord::Job(old_job(alice, "job-1", JobStatus::Completed, born)?),
        ImportRecord::Payment(decided(alice, "p-1", PaymentStatus::Approved, born)?),
        ImportRecord::Referral { user: alice, referrer: context.bob, since: Some(born) },
    ])
}

async fn a_second_import_changes_nothing(context: Context) -> Check {
    let storage = context.open().await?;
    let records = one_of_each(&context)?;
    let first = storage.import_records(records.clone()).await?;
    ensure_eq!(first, vec![ImportOutcome::Added; records.len()]);
    let before = dump_text(&*storage).await?;
    context.clock.advance_secs(1000);
    let second = storage.import_records(records.clone()).await?;
    ensure_eq!(second, vec![ImportOutcome::Same; records.len()]);
    ensure_eq!(dump_text(&*storage).await?, before);
    clean(&*storage).await
}

async fn what_the_store_knows_is_kept(context: Context) -> Check {
    let storage = context.open().await?;
    let (alice, carol) = (context.alice, context.carol);
    credit(&*storage, alice, "1").await?;
    storage.set_user_language(storage_core::SetUserLanguage::new(alice, "en".parse()?)).await?;
    storage.increment_free_generations(storage_core::IncrementFreeGenerations::new(alice)).await?;
    storage.set_admin_limit(storage_core::SetAdminLimit::new(alice, "9".parse()?)).await?;
    record(&*storage, alice, "g-1", "1").await?;
    order(&*storage, alice, "job-1").await?;
    pay(&*storage, alice, "p-1", "1").await?;
    storage.set_referrer(storage_core::SetReferrer::new(alice, carol)).await?;
    let before = dump_text(&*storage).await?;
    let records: Vec<_> =
        one_of_each(&context)?.into_iter().filter(|record| !matches!(record, ImportRecord::Gift { .. })).collect();
    for (record, outcome) in records.iter().zip(storage.import_records(records.clone()).await?) {
        ensure!(is_kept(&outcome), "{record:?}: {outcome:?}");
    }
    ensure_eq!(dump_text(&*storage).await?, before);
    Ok(())
}

async fn one_refused_record_never_stops_the_others(context: Context) -> Check {
    let storage = context.open().await?;
    let (alice, bob) = (context.alice, context.bob);
    let outcomes = storage
        .import_records(vec![
            opening(alice, "1")?,
            ImportRecord::Referral { user: alice, referrer: alice, since: None },
            ImportRecord::Referral { user: alice, referrer: bob, since: None },
            ImportRecord::Referral { user: bob, referrer: alice, since: None },
            opening(bob, "2")?,
        ])
        .await?;
    let refused = |outcome: &ImportOutcome| matches!(outcome, ImportOutcome::Refused(reason) if !reason.is_empty());
    ensure!(refused(&outcomes[1]) && refused(&outcomes[3]), "{outcomes:?}");
    for number in [0, 2, 4] {
        ensure_eq!(outcomes[number], ImportOutcome::Added);
    }
    ensure_eq!((balance(&*storage, alice).await?, balance(&*storage, bob).await?), ("1.00".into(), "2.00".into()));
    clean(&*storage).await
}

async fn a_value_over_its_limit_is_refused_by_name(context: Context) -> Check {
    let storage = context.open().await?;
    let (alice, bob) = (context.alice, context.bob);
    let quota = |user, bank| ImportRecord::Quota { user, date: None, used: 1, bank };
    let spent = |user, text: &str| Ok::<_, storage_core::Error>(ImportRecord::Spent { user, spent: text.parse()? });
    let most = "999999999999999999999999999999.999999";
    for (record, field, limit) in [
        (quota(alice, MAX_BANK + 1), "bank", MAX_BANK.to_string()),
        (quota(alice, u64::MAX), "bank", MAX_BANK.to_string()),
        (spent(alice, "-0.000001")?, "spent", "not be negative".to_owned()),
        (spent(alice, "1000000000000000000000000000000")?, "spent", most.to_owned()),
        (spent(alice, "99999999999999999999999999999999.999999")?, "spent", most.to_owned()),
    ] {
        let before = dump_text(&*storage).await?;
        let outcome = import(&*storage, record).await?;
        let named =
            matches!(&outcome, ImportOutcome::Refused(reason) if reason.contains(field) && reason.contains(&limit));
        ensure!(named, "{field} and {limit} are missing in {outcome:?}");
        ensure_eq!(dump_text(&*storage).await?, before, "a refused record left a trace");
    }
    let records = vec![
        opening(alice, "1")?,
        quota(alice, MAX_BANK + 1),
        quota(bob, MAX_BANK),
        spent(bob, most)?,
        spent(alice, "-1")?,
        ImportRecord::Gift { user: alice },
    ];
    let outcomes = storage.import_records(records).await?;
    let is_refused = |outcome: &ImportOutcome| matches!(outcome, ImportOutcome::Refused(_));
    ensure_eq!(outcomes.iter().map(is_refused).collect::<Vec<_>>(), [false, true, false, false, true, false]);
    ensure_eq!(storage.get_user_free_generations_remaining(bob).await?, MAX_BANK + 5);
    ensure_eq!(storage.get_admin_spent(bob).await?.to_string(), most);
    let dump = dump_text(&*storage).await?;
    let restored = context.elsewhere().await?.open().await?;
    restored.restore(&mut Cursor::new(dump.as_bytes())).await?;
    ensure_eq!(dump_text(&*restored).await?, dump);
    Ok(())
}

async fn the_records_of_one_user_are_put_in_in_their_order(context: Context) -> Check {
    let storage = context.open().await?;
    let (alice, bob, carol) = (context.alice, context.bob, context.carol);
    let born = "2025-12-01T08:00:00Z".parse()?;
    let nothing = |user| ImportRecord::Quota { user, date: None, used: 0, bank: 0 };
    let (dave, erin) = (context.user(7)?, context.user(8)?);
    let job = old_job(carol, "job-9", JobStatus::Completed, born)?;
    let records = vec![
        ImportRecord::Job(old_job(alice, "job-1", JobStatus::Completed, born)?),
        ImportRecord::Spent { user: alice, spent: Total::ZERO },
        ImportRecord::Payment(decided(bob, "p-1", PaymentStatus::Approved, born)?),
        nothing(bob),
        // A referral makes two users.
        ImportRecord::Referral { user: dave, referrer: erin, since: Some(born) },
        nothing(dave),
        nothing(erin),
        // Of two who claim one id, the first has it.
        ImportRecord::Job(job.clone()),
        ImportRecord::Job(Job { user: alice, ..job.clone() }),
        nothing(carol),
    ];
    let outcomes = storage.import_records(records).await?;
    let known = |outcome: &ImportOutcome| match outcome {
        ImportOutcome::Added => "added",
        ImportOutcome::Same => "same",
        ImportOutcome::Kept(_) => "kept",
        ImportOutcome::Refused(_) => "refused",
    };
    ensure_eq!(
        outcomes.iter().map(known).collect::<Vec<_>>(),
        ["added", "same", "added", "same", "added", "same", "same", "added", "kept", "same"]
    );
    ensure_eq!(storage.get_job(&job.id).await?.as_deref(), Some(&job));
    clean(&*storage).await
}

async fn outcomes_come_in_the_order_of_the_records(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.user(7)?, "1").await?;
    let records = (1..=50).map(|number| opening(context.user(number)?, "5")).collect::<Check<Vec<_>>>()?;
    let outcomes = storage.import_records(records).await?;
    ensure_eq!(outcomes.len(), 50);
    for (number, outcome) in (1..).zip(outcomes) {
        if number == 7 {
            ensure!(is_kept(&outcome), "{outcome:?}");
        } else {
            ensure_eq!(outcome, ImportOutcome::Added, "user {number}");
        }
    }
    ensure_eq!(storage.audit(storage_core::AuditScope::Everyone).await?.balances.to_string(), "246.00");
    clean(&*storage).await
}

async fn imported_generations_cost_nothing(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    let spent = ImportRecord::Spent { user: alice, spent: "3".parse()? };
    ensure_eq!(import(&*storage, old_generation(alice, "g-1", context.now())?).await?, ImportOutcome::Added);
    ensure_eq!(storage.get_admin_spent(alice).await?.to_string(), "0.00");
    ensure_eq!(import(&*storage, spent).await?, ImportOutcome::Added);
    record(&*storage, alice, "g-2", "1").await?;
    ensure_eq!(storage.get_admin_spent(alice).await?.to_string(), "4.00");
    Ok(())
}

async fn imported_history_is_trimmed_and_its_ids_are_used_up(context: Context) -> Check {
    let storage = context.open_with(keeping(2)).await?;
    let alice = context.alice;
    let at = |secs: i64| context.now().plus_micros(-secs * 1_000_000);
    let mut records = Vec::new();
    for (id, secs) in [("g-3", 30), ("g-1", 10), ("g-4", 40), ("g-2", 20)] {
        records.push(old_generation(alice, id, at(secs))?);
    }
    storage.import_records(records).await?;
    let list = storage_core::GetUserGenerationsHistory::of(alice);
    let kept = storage.get_user_generations_history(list).await?.items;
    ensure_eq!(kept.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(), ["g-1", "g-2"]);
    ensure_eq!(kept[0].at, at(10));
    for id in ["g-1", "g-4"] {
        ensure_eq!(record(&*storage, alice, id, "7.50").await?.replayed, true, "{id}");
        let other = storage.add_generation_to_history(generation(alice, id, "1")?).await;
        refused(other, &Expected::ConflictNaming(id.to_owned()))?;
    }
    ensure_eq!(storage.get_admin_spent(alice).await?.to_string(), "0.00");
    Ok(())
}

async fn imported_jobs_are_found_by_both_ids(context: Context) -> Check {
    let storage = context.open().await?;
    let old = old_job(context.alice, "job-1", JobStatus::Completed, "2025-12-01T08:00:00Z".parse()?)?;
    ensure_eq!(import(&*storage, ImportRecord::Job(old.clone())).await?, ImportOutcome::Added);
    ensure_eq!(storage.get_job(&"job-1".parse()?).await?.as_deref(), Some(&old));
    ensure_eq!(storage.find_job_by_task_id(&"task of job-1".parse()?).await?.as_deref(), Some(&old));
    ensure!(storage.find_user(context.alice).await?.is_some(), "its user");
    Ok(())
}

/// Another record has it, which is no record that the store knows under this id.
async fn a_task_or_provider_key_that_is_taken_refuses_its_record(context: Context) -> Check {
    let storage = context.open().await?;
    let (alice, bob, born) = (context.alice, context.bob, "2025-12-01T08:00:00Z".parse()?);
    let job = old_job(alice, "job-1", JobStatus::Completed, born)?;
    let paid = decided(alice, "p-1", PaymentStatus::Approved, born)?;
    let paid = Payment { provider_key: Some("charge-1".parse()?), ..paid };
    let first = vec![ImportRecord::Job(job.clone()), ImportRecord::Payment(paid.clone())];
    ensure_eq!(storage.import_records(first).await?, vec![ImportOutcome::Added; 2]);
    let before = dump_text(&*storage).await?;
    for user in [alice, bob] {
        let job = ImportRecord::Job(Job { id: "job-2".parse()?, user, ..job.clone() });
        let paid = ImportRecord::Payment(Payment { id: "p-2".parse()?, user, ..paid.clone() });
        for (record, taken, by) in [(job, "task of job-1", "job-1"), (paid, "charge-1", "p-1")] {
            let outcome = import(&*storage, record).await?;
            let named =
                matches!(&outcome, ImportOutcome::Refused(reason) if reason.contains(taken) && reason.contains(by));
            ensure!(named, "{outcome:?} does not name {taken} and {by}");
        }
    }
    ensure_eq!(dump_text(&*storage).await?, before, "a refused record left a trace");
    Ok(())
}

async fn imported_jobs_go_on_from_their_state(context: Context) -> Check {
    let storage = context.open().await?;
    let running = old_job(context.alice, "job-1", JobStatus::Running, context.now())?;
    let done = old_job(context.alice, "job-2", JobStatus::Completed, context.now())?;
    storage.import_records(vec![ImportRecord::Job(running), ImportRecord::Job(done)]).await?;
    let to = |id: &str, status| Ok::<_, storage_core::Error>(storage_core::UpdateJobStatus::new(id.parse()?, status));
    storage.update_job_status(to("job-1", JobStatus::Completed)?).await?;
    let back = storage.update_job_status(to("job-2", JobStatus::Running)?);
    refused_without_trace!(storage, back, transition("job", "job-2", "completed", "running"));
    Ok(())
}

async fn imported_referrals_close_no_circle(context: Context) -> Check {
    let storage = context.open().await?;
    let (alice, bob, carol) = (context.alice, context.bob, context.carol);
    let born = "2025-12-01T08:00:00Z".parse()?;
    let edge = |user, referrer| ImportRecord::Referral { user, referrer, since: Some(born) };
    let outcomes = storage.import_records(vec![edge(alice, bob), edge(bob, carol), edge(carol, alice)]).await?;
    ensure_eq!(outcomes[..2], [ImportOutcome::Added, ImportOutcome::Added]);
    ensure!(matches!(outcomes[2], ImportOutcome::Refused(_)), "{outcomes:?}");
    let brought = storage.get_referrals(storage_core::GetReferrals::of(bob)).await?.items;
    ensure_eq!((brought[0].user, brought[0].since, brought[0].bonus), (alice, born, 0));
    ensure_eq!(storage.get_referrer(carol).await?, None);
    Ok(())
}

async fn imported_fields_are_read_like_others(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    storage.import_records(one_of_each(&context)?).await?;
    let user = present(storage.find_user(alice).await?, "the user")?;
    ensure_eq!((user.language.as_str(), user.gift_claimed, user.referrer), ("uk", true, Some(context.bob)));
    ensure_eq!(storage.set_gift_claimed(storage_core::SetGiftClaimed::new(alice)).await?.first, false);
    ensure_eq!(storage.get_user_free_generations_today(alice).await?, 2);
    ensure_eq!(storage.get_user_free_generations_remaining(alice).await?, 10);
    ensure_eq!(storage.get_admin_limit(alice).await?.to_string(), "50.00");
    ensure_eq!(storage.get_admin_remaining(alice).await?.to_string(), "29.75");
    ensure!(storage.find_user(context.bob).await?.is_some(), "the referrer");
    clean(&*storage).await
}

async fn an_import_of_nothing_changes_nothing(context: Context) -> Check {
    let storage = context.open().await?;
    let before = dump_text(&*storage).await?;
    ensure_eq!(storage.import_records(Vec::new()).await?, Vec::new());
    ensure_eq!(dump_text(&*storage).await?, before);
    Ok(())
}

async fn an_import_survives_reopening(context: Context) -> Check {
    let storage = context.open().await?;
    let records = one_of_each(&context)?;
    storage.import_records(records.clone()).await?;
    let before = dump_text(&*storage).await?;
    storage.close().await?;
    drop(storage);
    let storage = context.open().await?;
    ensure_eq!(dump_text(&*storage).await?, before);
    let again = storage.import_records(records.clone()).await?;
    ensure_eq!(again, vec![ImportOutcome::Same; records.len()]);
    clean(&*storage).await
}
