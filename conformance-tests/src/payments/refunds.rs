//! Refunds: a credited payment taken back.

use storage_core::{PaymentStatus, RefundPayment};

use crate::check::{Check, ensure_eq, present};
use crate::context::Context;
use crate::expect::{insufficient, refused_without_trace, transition};
use crate::scenario::list_scenarios;
use crate::steps::{approve, balance, clean, count, credit, debit, dump_text, hold, ledger, mark, pay, together};

list_scenarios! {
    "payments":
    a_refund_takes_the_credit_back ["refund_payment", "list_operations"];
    a_refund_of_spent_money_is_short_and_leaves_the_payment_approved ["refund_payment"];
    a_refund_counts_only_what_can_be_spent ["refund_payment"];
    a_repeated_refund_takes_once ["refund_payment"];
    only_an_approved_payment_is_refunded ["refund_payment"];
    marking_refunded_is_a_refund ["mark_payment_status", "refund_payment"];
    fifty_refunds_at_once_take_once ["refund_payment", "R4"];
}

async fn a_refund_takes_the_credit_back(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "10").await?;
    pay(&*storage, context.alice, "p-1", "100").await?;
    approve(&*storage, "p-1").await?;
    context.clock.advance_secs(60);
    let refund = RefundPayment {
        admin: Some(context.bob),
        notes: Some("asked for".parse()?),
        ..RefundPayment::new("p-1".parse()?)
    };
    let stored = storage.refund_payment(refund).await?;
    ensure_eq!((stored.replayed, stored.record.status), (false, PaymentStatus::Refunded));
    ensure_eq!((stored.record.admin, stored.record.notes.clone()), (Some(context.bob), Some("asked for".parse()?)));
    ensure_eq!(stored.record.updated_at, context.now());
    ensure_eq!(ledger(&*storage, context.alice).await?[2], "refund -100.00 +0.00 = 10.00 0.00 (p-1)");
    clean(&*storage).await
}

async fn a_refund_of_spent_money_is_short_and_leaves_the_payment_approved(context: Context) -> Check {
    let storage = context.open().await?;
    pay(&*storage, context.alice, "p-1", "100").await?;
    approve(&*storage, "p-1").await?;
    debit(&*storage, context.alice, "0.000001").await?;
    let refund = RefundPayment { admin: Some(context.bob), ..RefundPayment::new("p-1".parse()?) };
    let short = insufficient("99.999999", "100")?;
    refused_without_trace!(storage, storage.refund_payment(refund), short);
    let stored = present(storage.get_payment(&"p-1".parse()?).await?, "the payment")?;
    ensure_eq!((stored.status, stored.admin), (PaymentStatus::Approved, None));
    Ok(())
}

async fn a_refund_counts_only_what_can_be_spent(context: Context) -> Check {
    let storage = context.open().await?;
    pay(&*storage, context.alice, "p-1", "100").await?;
    approve(&*storage, "p-1").await?;
    hold(&*storage, context.alice, "job-1", "1").await?;
    let refund = storage.refund_payment(RefundPayment::new("p-1".parse()?));
    refused_without_trace!(storage, refund, insufficient("99", "100")?);
    Ok(())
}

async fn a_repeated_refund_takes_once(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "500").await?;
    pay(&*storage, context.alice, "p-1", "100").await?;
    approve(&*storage, "p-1").await?;
    storage.refund_payment(RefundPayment::new("p-1".parse()?)).await?;
    let before = dump_text(&*storage).await?;
    ensure_eq!(storage.refund_payment(RefundPayment::new("p-1".parse()?)).await?.replayed, true);
    ensure_eq!(dump_text(&*storage).await?, before);
    ensure_eq!(balance(&*storage, context.alice).await?, "500.00");
    Ok(())
}

async fn only_an_approved_payment_is_refunded(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "500").await?;
    for status in [PaymentStatus::Pending, PaymentStatus::Rejected, PaymentStatus::Cancelled] {
        pay(&*storage, context.alice, status.as_str(), "100").await?;
        if status != PaymentStatus::Pending {
            mark(&*storage, status.as_str(), status).await?;
        }
        let refund = storage.refund_payment(RefundPayment::new(status.as_str().parse()?));
        let refusal = transition("payment", status.as_str(), status.as_str(), "refunded");
        refused_without_trace!(storage, refund, refusal);
    }
    Ok(())
}

async fn marking_refunded_is_a_refund(context: Context) -> Check {
    let storage = context.open().await?;
    pay(&*storage, context.alice, "p-1", "100").await?;
    approve(&*storage, "p-1").await?;
    mark(&*storage, "p-1", PaymentStatus::Refunded).await?;
    ensure_eq!(ledger(&*storage, context.alice).await?[1], "refund -100.00 +0.00 = 0.00 0.00 (p-1)");
    ensure_eq!(storage.refund_payment(RefundPayment::new("p-1".parse()?)).await?.replayed, true);
    clean(&*storage).await
}

async fn fifty_refunds_at_once_take_once(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "1000").await?;
    pay(&*storage, context.alice, "p-1", "10").await?;
    approve(&*storage, "p-1").await?;
    let refund = RefundPayment::new("p-1".parse()?);
    let answers = together(50, |_| {
        let (storage, refund) = (storage.clone(), refund.clone());
        async move { storage.refund_payment(refund).await }
    })
    .await?;
    ensure_eq!(count(&answers, |answer| answer.as_ref().is_ok_and(|stored| !stored.replayed)), 1);
    ensure_eq!(balance(&*storage, context.alice).await?, "1000.00");
    clean(&*storage).await
}
