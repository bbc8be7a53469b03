//! The rules of every operation (R1 to R12) that are not of one domain.

use storage_core::{
    AddBalance, AddGenerationJob, AddPayment, CommitReserve, ErrorKind, JobStatus, MarkPaymentStatus, PageRequest,
    PaymentStatus, RefundPayment, ReserveBalance, SetReferrer, Storage, SubtractBalance, UpdateJobStatus, UserId,
};

use crate::calls::{Arguments, Keyed, every_read, every_write, prepare};
use crate::check::{Check, ensure, ensure_eq, present};
use crate::context::Context;
use crate::expect::{
    Expected, closed, conflict, insufficient, key_conflict, not_found, refused, refused_without_trace, transition,
};
use crate::scenario::list_scenarios;
use crate::steps::{approve, balance, clean, credit, debit, dump_text, hold, job, order, pay, record, rows};

list_scenarios! {
    "rules":
    no_read_writes ["R1", "W19"];
    every_write_creates_the_users_it_names ["R2", "W18"];
    a_charge_and_its_job_hang_together_by_a_hold ["W17", "R3", "reserve_balance", "commit_reserve"];
    a_second_handle_sees_every_write_at_once ["R4", "W14"] needs [SecondHandle];
    two_handles_lose_no_update ["R4", "W14"] needs [SecondHandle];
    lists_and_audits_see_what_was_acknowledged ["R4"] needs [SecondHandle];
    what_was_acknowledged_is_there_after_a_close ["R5", "W41"] needs [Reopen];
    what_was_acknowledged_is_there_without_a_close ["R5", "W41"] needs [SecondHandle];
    a_refusal_says_that_nothing_was_applied ["R7"];
    closed_comes_before_everything ["R8", "R10"];
    bad_input_comes_before_a_key ["R8"];
    a_key_comes_before_a_missing_record ["R8"];
    a_key_comes_before_a_step_that_is_not_there ["R8"];
    a_key_comes_before_funds ["R8"];
    a_conflict_comes_before_a_step_that_is_not_there ["R8"];
    a_missing_record_comes_before_its_step ["R8"];
    a_step_that_is_not_there_comes_before_funds ["R8"];
    bad_input_comes_before_a_missing_record ["R8"];
    a_closed_handle_answers_closed_to_every_call ["R10", "W47", "close"];
    a_closed_handle_never_reopens ["R10", "W47", "close"];
    a_closed_handle_leaves_the_others_open ["R10", "close"] needs [SecondHandle];
    a_second_close_is_no_error ["R10", "close"];
}

async fn no_read_writes(context: Context) -> Check {
    let storage = context.open().await?;
    prepare(&*storage, context.alice).await?;
    let before = dump_text(&*storage).await?;
    for user in [context.alice, context.bob, context.carol] {
        for (name, answer) in every_read(&*storage, user).await? {
            ensure!(answer.is_ok(), "{name}: {answer:?}");
        }
    }
    ensure_eq!(dump_text(&*storage).await?, before);
    ensure_eq!(storage.list_users(PageRequest::default()).await?.items.len(), 1);
    Ok(())
}

async fn every_write_creates_the_users_it_names(context: Context) -> Check {
    let storage = context.open().await?;
    // Those that an unknown user can make; the others are short of money or lack their record, and create nobody.
    let creating = [
        Keyed::Language,
        Keyed::Gift,
        Keyed::SetBalance,
        Keyed::Credit,
        Keyed::Take,
        Keyed::Bonus,
        Keyed::Limit,
        Keyed::Order,
        Keyed::Pay,
        Keyed::Referrer,
    ];
    for keyed in Keyed::ALL {
        let user = context.user(2000 + keyed as i64)?;
        let answer = keyed.call(&*storage, user, None, Arguments::Usual).await;
        let created = storage.find_user(user).await?.is_some();
        ensure_eq!((answer.is_ok(), created), (creating.contains(&keyed), creating.contains(&keyed)), "{keyed:?}");
    }
    ensure!(storage.find_user(context.user(900_000)?).await?.is_some(), "the referrer");
    record(&*storage, context.carol, "g-1", "1").await?;
    ensure!(storage.find_user(context.carol).await?.is_some(), "add_generation_to_history");
    clean(&*storage).await
}

async fn a_charge_and_its_job_hang_together_by_a_hold(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    credit(&*storage, alice, "10").await?;
    hold(&*storage, alice, "job-1", "7.50").await?;
    // The order is refused: the hold goes back by its name, and nothing was charged.
    order(&*storage, context.bob, "job-1").await?;
    refused(storage.add_generation_job(job(alice, "job-1")?).await, &conflict("job", "job-1"))?;
    storage.release_reserve(storage_core::ReleaseReserve::new(alice, "job-1".parse()?)).await?;
    ensure_eq!(balance(&*storage, alice).await?, "10.00");
    // The order stands: the hold is spent when the job is done, once however often that is told.
    hold(&*storage, alice, "job-2", "7.50").await?;
    order(&*storage, alice, "job-2").await?;
    for _ in 0..2 {
        storage.update_job_status(UpdateJobStatus::new("job-2".parse()?, JobStatus::Completed)).await?;
        storage.commit_reserve(CommitReserve::new(alice, "job-2".parse()?)).await?;
    }
    ensure_eq!(balance(&*storage, alice).await?, "2.50");
    clean(&*storage).await
}

async fn a_second_handle_sees_every_write_at_once(context: Context) -> Check {
    let (one, other) = (context.open().await?, context.open().await?);
    for round in 1..=20 {
        let (writer, reader) = if round % 2 == 0 { (&one, &other) } else { (&other, &one) };
        credit(&**writer, context.alice, "1").await?;
        ensure_eq!(balance(&**reader, context.alice).await?, format!("{round}.00"));
        let id = format!("job-{round}");
        order(&**writer, context.alice, &id).await?;
        ensure!(reader.get_job(&id.parse()?).await?.is_some(), "{id}");
        hold(&**writer, context.alice, &id, "1").await?;
        give_back(&**reader, context.alice, &id).await?;
        pay(&**writer, context.bob, &id, "1").await?;
        approve(&**reader, &id).await?;
        ensure_eq!(balance(&**writer, context.bob).await?, format!("{round}.00"));
        speak(&**writer, context.alice, if round % 2 == 0 { "en" } else { "uk" }).await?;
        ensure_eq!(reader.get_user(context.alice).await?, writer.get_user(context.alice).await?);
    }
    ensure_eq!(dump_text(&*one).await?, dump_text(&*other).await?);
    clean(&*other).await
}

async fn give_back(storage: &dyn Storage, user: UserId, name: &str) -> Check {
    storage.release_reserve(storage_core::ReleaseReserve::new(user, name.parse()?)).await?;
    Ok(())
}

async fn speak(storage: &dyn Storage, user: UserId, language: &str) -> Check {
    storage.set_user_language(storage_core::SetUserLanguage::new(user, language.parse()?)).await?;
    Ok(())
}

async fn two_handles_lose_no_update(context: Context) -> Check {
    let handles = [context.open().await?, context.open().await?];
    let (alice, one) = (context.alice, "1".parse()?);
    let answers = crate::steps::together(60, |number| {
        let storage = handles[number % 2].clone();
        async move { storage.add_balance(AddBalance::new(alice, one)).await }
    })
    .await?;
    let mut after = Vec::new();
    for answer in answers {
        after.push(answer?.balance_after.micros() / 1_000_000);
    }
    after.sort_unstable();
    ensure_eq!(after, (1..=60).collect::<Vec<i64>>(), "each call answers the balance that it made");
    for storage in &handles {
        ensure_eq!(balance(&**storage, alice).await?, "60.00");
        ensure_eq!(rows(&**storage, alice).await?.len(), 60);
        clean(&**storage).await?;
    }
    Ok(())
}

async fn lists_and_audits_see_what_was_acknowledged(context: Context) -> Check {
    let (one, other) = (context.open().await?, context.open().await?);
    for number in 1..=10 {
        let user = context.numbered(0, number)?;
        credit(&*one, user, "1").await?;
        ensure_eq!(other.list_users(PageRequest::default()).await?.items.len(), number);
        let report = other.audit(storage_core::AuditScope::Everyone).await?;
        ensure_eq!((report.users, report.balances.to_string()), (number as u64, format!("{number}.00")));
        pay(&*other, user, &format!("p-{number}"), "1").await?;
        let payments = one.list_payments(storage_core::ListPayments::default()).await?;
        ensure_eq!(payments.items.len(), number);
    }
    Ok(())
}

async fn what_was_acknowledged_is_there_after_a_close(context: Context) -> Check {
    let storage = context.open().await?;
    for keyed in Keyed::ALL {
        let user = context.user(2000 + keyed as i64)?;
        prepare(&*storage, user).await?;
        keyed.call(&*storage, user, None, Arguments::Usual).await?;
        record(&*storage, user, "g-1", "1").await?;
    }
    let before = dump_text(&*storage).await?;
    let users = storage.list_users(PageRequest::default()).await?;
    storage.close().await?;
    drop(storage);
    let storage = context.open().await?;
    ensure_eq!(dump_text(&*storage).await?, before);
    ensure_eq!(storage.list_users(PageRequest::default()).await?, users);
    clean(&*storage).await
}

async fn what_was_acknowledged_is_there_without_a_close(context: Context) -> Check {
    let storage = context.open().await?;
    prepare(&*storage, context.alice).await?;
    let before = dump_text(&*storage).await?;
    drop(storage);
    let storage = context.open().await?;
    ensure_eq!(dump_text(&*storage).await?, before);
    credit(&*storage, context.alice, "1").await?;
    clean(&*storage).await
}

async fn a_refusal_says_that_nothing_was_applied(context: Context) -> Check {
    let storage = context.open().await?;
    // `refused` looks at `applied` too; here one of each kind of refusal.
    let debit = SubtractBalance::new(context.alice, "1".parse()?).with_key("k".parse()?);
    let error = match storage.subtract_balance(debit).await {
        Err(error) => error,
        Ok(receipt) => return Err(crate::Failure::new(format!("{receipt:?}"))),
    };
    ensure_eq!((error.applied(), error.key()), (storage_core::Applied::No, None));
    ensure_eq!(matches!(error.kind(), ErrorKind::InsufficientFunds { .. }), true);
    pay(&*storage, context.alice, "p-1", "1").await?;
    refused(storage.add_payment(crate::steps::payment(context.bob, "p-1", "1")?).await, &conflict("payment", "p-1"))?;
    let refund = storage.refund_payment(RefundPayment::new("p-1".parse()?)).await;
    refused(refund, &transition("payment", "p-1", "pending", "refunded"))?;
    let oneself = storage.set_referrer(SetReferrer::new(context.alice, context.alice)).await;
    refused(oneself, &Expected::Invalid("referrer"))
}

async fn closed_comes_before_everything(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "1").await?;
    storage.close().await?;
    let debit = SubtractBalance::new(context.alice, "5".parse()?);
    refused(storage.subtract_balance(debit).await, &closed())?;
    refused(storage.refund_payment(RefundPayment::new("p-1".parse()?)).await, &closed())?;
    let odd = UpdateJobStatus {
        error_message: Some("?".parse()?),
        ..UpdateJobStatus::new("job-1".parse()?, JobStatus::Completed)
    };
    refused(storage.update_job_status(odd).await, &closed())?;
    refused(storage.set_referrer(SetReferrer::new(context.alice, context.alice)).await, &closed())
}

async fn bad_input_comes_before_a_key(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    let used = AddBalance::new(alice, "1".parse()?).with_key("k".parse()?);
    storage.add_balance(used).await?;
    let key = Some("k".parse()?);
    let oneself = SetReferrer { key: key.clone(), ..SetReferrer::new(alice, alice) };
    refused_without_trace!(storage, storage.set_referrer(oneself), Expected::Invalid("referrer"));
    order(&*storage, alice, "job-1").await?;
    let odd = UpdateJobStatus {
        error_message: Some("?".parse()?),
        key,
        ..UpdateJobStatus::new("job-1".parse()?, JobStatus::Completed)
    };
    refused_without_trace!(storage, storage.update_job_status(odd), Expected::Invalid("error message"));
    Ok(())
}

async fn bad_input_comes_before_a_missing_record(context: Context) -> Check {
    let storage = context.open().await?;
    let odd = UpdateJobStatus {
        error_message: Some("?".parse()?),
        ..UpdateJobStatus::new("job-1".parse()?, JobStatus::Completed)
    };
    refused_without_trace!(storage, storage.update_job_status(odd), Expected::Invalid("error message"));
    Ok(())
}

async fn a_key_comes_before_a_missing_record(context: Context) -> Check {
    let storage = context.open().await?;
    let used = AddBalance::new(context.alice, "1".parse()?).with_key("k".parse()?);
    storage.add_balance(used).await?;
    let commit = CommitReserve { key: Some("k".parse()?), ..CommitReserve::new(context.alice, "none".parse()?) };
    refused_without_trace!(storage, storage.commit_reserve(commit.clone()), key_conflict("k"));
    let commit = CommitReserve { key: None, ..commit };
    refused_without_trace!(storage, storage.commit_reserve(commit), not_found("hold", "none"));
    Ok(())
}

async fn a_key_comes_before_a_step_that_is_not_there(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    let used = AddBalance::new(alice, "10".parse()?).with_key("k".parse()?);
    storage.add_balance(used).await?;
    let key = || Ok::<_, storage_core::Error>(Some("k".parse()?));
    hold(&*storage, alice, "job-1", "1").await?;
    give_back(&*storage, alice, "job-1").await?;
    let commit = CommitReserve { key: key()?, ..CommitReserve::new(alice, "job-1".parse()?) };
    refused_without_trace!(storage, storage.commit_reserve(commit), key_conflict("k"));
    pay(&*storage, alice, "p-1", "1").await?;
    let refund = RefundPayment { key: key()?, ..RefundPayment::new("p-1".parse()?) };
    refused_without_trace!(storage, storage.refund_payment(refund), key_conflict("k"));
    order(&*storage, alice, "job-1").await?;
    storage.update_job_status(UpdateJobStatus::new("job-1".parse()?, JobStatus::Failed)).await?;
    let back = UpdateJobStatus { key: key()?, ..UpdateJobStatus::new("job-1".parse()?, JobStatus::Running) };
    refused_without_trace!(storage, storage.update_job_status(back), key_conflict("k"));
    Ok(())
}

async fn a_key_comes_before_funds(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    let used = AddBalance::new(alice, "1".parse()?).with_key("k".parse()?);
    storage.add_balance(used).await?;
    let short = SubtractBalance::new(alice, "5".parse()?).with_key("k".parse()?);
    refused_without_trace!(storage, storage.subtract_balance(short), key_conflict("k"));
    let short = ReserveBalance::new(alice, "job-1".parse()?, "5".parse()?).with_key("k".parse()?);
    refused_without_trace!(storage, storage.reserve_balance(short), key_conflict("k"));
    Ok(())
}

async fn a_conflict_comes_before_a_step_that_is_not_there(context: Context) -> Check {
    let storage = context.open().await?;
    let task = AddGenerationJob { external_task_id: Some("kie-1".parse()?), ..job(context.alice, "job-1")? };
    storage.add_generation_job(task).await?;
    order(&*storage, context.alice, "job-2").await?;
    storage.update_job_status(UpdateJobStatus::new("job-2".parse()?, JobStatus::Failed)).await?;
    let back = UpdateJobStatus {
        external_task_id: Some("kie-1".parse()?),
        ..UpdateJobStatus::new("job-2".parse()?, JobStatus::Running)
    };
    let taken = Expected::ConflictNaming("kie-1".to_owned());
    refused_without_trace!(storage, storage.update_job_status(back), taken);
    Ok(())
}

async fn a_missing_record_comes_before_its_step(context: Context) -> Check {
    let storage = context.open().await?;
    let pending = MarkPaymentStatus::new("p-1".parse()?, PaymentStatus::Pending);
    refused_without_trace!(storage, storage.mark_payment_status(pending), not_found("payment", "p-1"));
    let pending = UpdateJobStatus::new("job-1".parse()?, JobStatus::Pending);
    refused_without_trace!(storage, storage.update_job_status(pending), not_found("job", "job-1"));
    Ok(())
}

async fn a_step_that_is_not_there_comes_before_funds(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    pay(&*storage, alice, "p-1", "100").await?;
    let refund = storage.refund_payment(RefundPayment::new("p-1".parse()?));
    refused_without_trace!(storage, refund, transition("payment", "p-1", "pending", "refunded"));
    credit(&*storage, alice, "5").await?;
    hold(&*storage, alice, "job-1", "5").await?;
    let more = ReserveBalance::new(alice, "job-1".parse()?, "50".parse()?);
    refused_without_trace!(storage, storage.reserve_balance(more), transition("hold", "job-1", "open", "open"));
    give_back(&*storage, alice, "job-1").await?;
    debit(&*storage, alice, "5").await?;
    let more = CommitReserve { amount: Some("50".parse()?), ..CommitReserve::new(alice, "job-1".parse()?) };
    let refusal = transition("hold", "job-1", "released", "committed");
    refused_without_trace!(storage, storage.commit_reserve(more), refusal);
    let new = ReserveBalance::new(alice, "job-2".parse()?, "50".parse()?);
    refused_without_trace!(storage, storage.reserve_balance(new), insufficient("0", "50")?);
    Ok(())
}

async fn a_closed_handle_answers_closed_to_every_call(context: Context) -> Check {
    let storage = context.open().await?;
    prepare(&*storage, context.alice).await?;
    storage.close().await?;
    for (name, answer) in every_read(&*storage, context.alice).await? {
        ensure!(matches!(&answer, Err(error) if *error.kind() == ErrorKind::Closed), "{name}: {answer:?}");
    }
    for (name, answer) in every_write(&storage, context.alice).await? {
        ensure!(matches!(&answer, Err(error) if *error.kind() == ErrorKind::Closed), "{name}: {answer:?}");
    }
    Ok(())
}

async fn a_closed_handle_never_reopens(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "1").await?;
    storage.close().await?;
    for _ in 0..5 {
        refused(storage.ping().await, &closed())?;
        refused(storage.get_balance(context.alice).await, &closed())?;
        refused(storage.add_balance(AddBalance::new(context.alice, "1".parse()?)).await, &closed())?;
    }
    let fresh = context.open().await?;
    ensure_eq!(balance(&*fresh, context.alice).await?, "1.00", "a closed handle still wrote");
    refused(storage.ping().await, &closed())
}

async fn a_closed_handle_leaves_the_others_open(context: Context) -> Check {
    let (one, other) = (context.open().await?, context.open().await?);
    credit(&*one, context.alice, "1").await?;
    one.close().await?;
    other.ping().await?;
    ensure_eq!(credit(&*other, context.alice, "1").await?.balance_after.to_string(), "2.00");
    refused(one.get_balance(context.alice).await, &closed())?;
    let third = context.open().await?;
    ensure_eq!(balance(&*third, context.alice).await?, "2.00");
    clean(&*other).await
}

async fn a_second_close_is_no_error(context: Context) -> Check {
    let storage = context.open().await?;
    storage.add_payment(AddPayment { notes: None, ..crate::steps::payment(context.alice, "p-1", "1")? }).await?;
    storage.close().await?;
    storage.close().await?;
    let both = crate::steps::together(4, |_| {
        let storage = storage.clone();
        async move { storage.close().await }
    })
    .await?;
    ensure!(both.iter().all(Result::is_ok), "{both:?}");
    let fresh = context.open().await?;
    ensure_eq!(present(fresh.get_payment(&"p-1".parse()?).await?, "the payment")?.user, context.alice);
    Ok(())
}
