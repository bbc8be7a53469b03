//! Ids in `id_routes` that lead nowhere: damage, named at once, and neither "not found" nor a wait.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a surprise is a failure")]

mod support;

use std::fmt::Debug;
use std::time::Duration;

use pg_test_server::Server;
use storage_core::{
    AddGenerationJob, AddPayment, AuditScope, Balances as _, BonusCount, ErrorKind, FreeGenerations as _, ImportRecord,
    Job, JobStatus, Jobs as _, MarkPaymentStatus, Operations as _, Params, Payment, PaymentStatus, Payments as _,
    Referrals as _, RefundPayment, Result, SetReferrer, Store as _, Timestamp, UpdateJobStatus, UserId,
};
use storage_pg::{Limits, PgOptions, PgStorage};

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn payment(id: &str, provider: Option<&str>) -> AddPayment {
    let add = AddPayment::new(user(1), "5".parse().unwrap(), "card".parse().unwrap());
    let provider_key = provider.map(|key| key.parse().unwrap());
    AddPayment { payment: Some(id.parse().unwrap()), provider_key, ..add }
}

fn job(id: &str, task: Option<&str>) -> AddGenerationJob {
    AddGenerationJob {
        user: user(1),
        job: Some(id.parse().unwrap()),
        external_task_id: task.map(|task| task.parse().unwrap()),
        model_id: "m".parse().unwrap(),
        model_name: "M".parse().unwrap(),
        params: Params::from_json("{}").unwrap(),
        price: "1".parse().unwrap(),
        key: None,
    }
}

#[track_caller]
fn damaged<T: Debug>(answer: Result<T>, kind: &str, id: &str) {
    let error = answer.unwrap_err();
    let ErrorKind::Corrupt(place) = error.kind() else { unreachable!("{kind} {id}: {}", error.report()) };
    assert_eq!((place.source.as_str(), place.key.as_deref()), ("table id_routes", Some(&*format!("{kind} {id}"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_leads_nowhere_is_damage() {
    let database = support::database(Server::shared().unwrap()).unwrap();
    let limits = Limits { operation: Duration::from_secs(2), ..Limits::default() };
    let storage = PgStorage::open(PgOptions { limits, ..PgOptions::new(database.url()) }).await.unwrap();
    storage.add_balance(storage_core::AddBalance::new(user(1), "5".parse().unwrap())).await.unwrap();
    storage.add_payment(payment("good", None)).await.unwrap();
    storage.add_generation_job(job("good", None)).await.unwrap();
    let (client, connection) = tokio_postgres::connect(&database.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    // To a user who has no such record, and to nobody at all.
    for leads_to in [1, 999] {
        let lost = format!("lost {leads_to}");
        for kind in ["payment", "provider", "job", "task"] {
            let insert = format!("INSERT INTO id_routes VALUES ('{kind}', '{lost}', {leads_to})");
            client.batch_execute(&insert).await.unwrap();
        }
        let (other, lost) = (format!("new {leads_to}"), lost.as_str());
        damaged(storage.add_payment(payment(lost, None)).await, "payment", lost);
        damaged(storage.add_payment(payment(&other, Some(lost))).await, "provider", lost);
        damaged(storage.get_payment(&lost.parse().unwrap()).await, "payment", lost);
        let approve = MarkPaymentStatus::new(lost.parse().unwrap(), PaymentStatus::Approved);
        damaged(storage.mark_payment_status(approve).await, "payment", lost);
        damaged(storage.refund_payment(RefundPayment::new(lost.parse().unwrap())).await, "payment", lost);

        damaged(storage.add_generation_job(job(lost, None)).await, "job", lost);
        damaged(storage.add_generation_job(job(&other, Some(lost))).await, "task", lost);
        damaged(storage.get_job(&lost.parse().unwrap()).await, "job", lost);
        damaged(storage.find_job_by_task_id(&lost.parse().unwrap()).await, "task", lost);
        let run = UpdateJobStatus::new(lost.parse().unwrap(), JobStatus::Running);
        damaged(storage.update_job_status(run).await, "job", lost);
        let mut run = UpdateJobStatus::new("good".parse().unwrap(), JobStatus::Running);
        run.external_task_id = Some(lost.parse().unwrap());
        damaged(storage.update_job_status(run).await, "task", lost);

        for (add, kind) in [(payment(lost, None), "payment"), (payment(&other, Some(lost)), "provider")] {
            let id = add.payment.clone().unwrap();
            let record = ImportRecord::Payment(Payment::create(add, id, Timestamp::MIN));
            damaged(storage.import_records(vec![record]).await, kind, lost);
        }
        for (add, kind) in [(job(lost, None), "job"), (job(&other, Some(lost)), "task")] {
            let id = add.job.clone().unwrap();
            let record = ImportRecord::Job(Job::create(add, id, Timestamp::MIN));
            damaged(storage.import_records(vec![record]).await, kind, lost);
        }
        assert!(storage.get_payment(&other.parse().unwrap()).await.unwrap().is_none(), "nothing was stored");
    }
    // What nobody ever named is still not found.
    assert!(storage.get_payment(&"unknown".parse().unwrap()).await.unwrap().is_none());
    let unknown = storage.refund_payment(RefundPayment::new("unknown".parse().unwrap())).await.unwrap_err();
    assert_eq!(unknown.kind().name(), "NotFound");
}

#[track_caller]
fn gone<T: Debug>(answer: Result<T>) {
    let error = answer.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Conflict { .. }), "{}", error.report());
    assert!(error.to_string().contains("removed by hand"), "{error}");
}

/// With the ids that led to them, as somebody who knows the tables does it, or without.
#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_row_that_somebody_deleted_is_a_conflict() {
    for with_routes in [true, false] {
        let database = support::database(Server::shared().unwrap()).unwrap();
        let storage = PgStorage::open(PgOptions::new(database.url())).await.unwrap();
        let key = |text: &str| Some(text.parse().unwrap());
        let named = AddPayment { key: key("named"), ..payment("p-1", Some("charge-1")) };
        let minted = AddPayment { payment: None, key: key("minted"), ..payment("unused", None) };
        let ordered = AddGenerationJob { key: key("ordered"), ..job("j-1", Some("task-1")) };
        let by_task = AddGenerationJob { job: None, key: key("by task"), ..job("unused", Some("task-2")) };
        let brought = SetReferrer {
            bonus: Some(BonusCount::default()),
            key: key("brought"),
            ..SetReferrer::new(user(1), user(2))
        };
        for add in [&named, &minted] {
            storage.add_payment(add.clone()).await.unwrap();
        }
        for add in [&ordered, &by_task] {
            storage.add_generation_job(add.clone()).await.unwrap();
        }
        storage.set_referrer(brought.clone()).await.unwrap();
        let mark = MarkPaymentStatus::new("p-1".parse().unwrap(), PaymentStatus::Rejected);
        let reject = MarkPaymentStatus { key: key("reject"), ..mark };
        storage.mark_payment_status(reject.clone()).await.unwrap();
        let (client, connection) = tokio_postgres::connect(&database.url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("DELETE FROM payments; DELETE FROM generation_jobs; DELETE FROM referrals").await.unwrap();
        if with_routes {
            client.batch_execute("DELETE FROM id_routes").await.unwrap();
        }
        for add in [named, minted] {
            gone(storage.add_payment(add).await);
        }
        // The key of a decision says nothing of the payment.
        if with_routes {
            assert_eq!(storage.mark_payment_status(reject).await.unwrap_err().kind().name(), "NotFound");
        } else {
            damaged(storage.mark_payment_status(reject).await, "payment", "p-1");
        }
        for add in [ordered, by_task] {
            gone(storage.add_generation_job(add).await);
        }
        gone(storage.set_referrer(brought.clone()).await);
        // The bonus was granted, and is not granted again.
        let again = storage.set_referrer(SetReferrer { key: None, ..brought }).await.unwrap();
        assert_eq!((again.replayed, again.record.bonus), (false, 5));
        assert_eq!(storage.get_user_free_generations_remaining(user(2)).await.unwrap(), 10);
        assert!(storage.audit(AuditScope::Everyone).await.unwrap().is_clean());
    }
}
