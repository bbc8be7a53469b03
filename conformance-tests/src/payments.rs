//! Payments: asked for, approved once, refunded once.

pub(crate) mod refunds;

use std::collections::BTreeSet;

use storage_core::{
    AddPayment, Amount, ListPayments, MarkPaymentStatus, Money, PaymentOrigin, PaymentStatus, RefundPayment,
};

use crate::check::{Check, ensure, ensure_eq, present};
use crate::context::Context;
use crate::expect::{Expected, conflict, not_found, refused, refused_without_trace, transition};
use crate::scenario::list_scenarios;
use crate::steps::{approve, balance, clean, count, credit, debit, dump_text, ledger, mark, pay, payment, together};

list_scenarios! {
    "payments":
    a_new_payment_is_pending_and_as_given ["add_payment", "get_payment", "W9"];
    a_payment_creates_its_user ["add_payment", "R2", "W18"];
    amounts_are_positive_and_exact ["W10", "V2", "add_payment"];
    an_approval_credits ["W1", "mark_payment_status", "list_operations"];
    approval_credits_exactly_once ["W2", "mark_payment_status"];
    fifty_approvals_at_once_credit_once ["W3", "mark_payment_status", "R4"];
    fifty_approvals_with_fifty_keys_credit_once ["W3", "mark_payment_status", "R6"];
    an_approved_payment_cannot_be_rejected_and_approved_again ["W4", "mark_payment_status"];
    status_and_credit_are_one_atom ["W5", "mark_payment_status", "R3"];
    deciding_an_unknown_payment_is_not_found ["W6", "mark_payment_status", "refund_payment", "get_payment"];
    a_duplicate_id_never_overwrites_owner_or_amount ["W7", "add_payment"];
    the_same_payment_again_is_a_replay_and_shows_it_as_it_stands ["W7", "add_payment", "R6"];
    a_later_mark_keeps_admin_and_notes ["W8", "mark_payment_status"];
    absent_admin_and_notes_keep_what_is_stored ["W8", "mark_payment_status"];
    a_payment_goes_only_where_it_may ["mark_payment_status", "W4"];
    a_provider_key_belongs_to_one_payment ["add_payment"];
    a_repeated_webhook_finds_its_payment ["add_payment", "R6"];
    fifty_equal_webhooks_make_one_payment ["add_payment", "R4"];
    a_payment_without_id_gets_a_minted_one ["add_payment", "V11"];
    an_approval_over_the_maximum_is_refused_and_stays_pending ["mark_payment_status", "V2"];
    payments_are_listed_by_user_and_status ["list_payments"];
    one_bad_call_does_not_break_the_listing ["W43", "list_payments"];
    one_decision_among_two_thousand_payments_changes_one ["W42", "mark_payment_status"];
}

async fn a_new_payment_is_pending_and_as_given(context: Context) -> Check {
    let storage = context.open().await?;
    let add = AddPayment {
        provider_key: Some("charge-1".parse()?),
        screenshot_file_id: Some("AgACAgIAAx\nfile".parse()?),
        notes: Some("оплата картой".parse()?),
        ..payment(context.alice, "p-1", "100.5")?
    };
    let stored = storage.add_payment(add.clone()).await?;
    let given = &stored.record;
    ensure_eq!((stored.replayed, given.status, given.origin), (false, PaymentStatus::Pending, PaymentOrigin::Here));
    ensure_eq!((given.id.as_str(), given.user, given.amount), ("p-1", context.alice, "100.5".parse()?));
    ensure_eq!((&given.method, &given.screenshot_file_id), (&add.method, &add.screenshot_file_id));
    ensure_eq!((&given.provider_key, &given.notes, given.admin), (&add.provider_key, &add.notes, None));
    ensure_eq!((given.created_at, given.updated_at), (context.now(), context.now()));
    context.clock.advance_secs(60);
    ensure_eq!(storage.get_payment(&"p-1".parse()?).await?.as_ref(), Some(given));
    ensure_eq!(balance(&*storage, context.alice).await?, "0.00", "pending money is not there yet");
    clean(&*storage).await
}

async fn a_payment_creates_its_user(context: Context) -> Check {
    let storage = context.open().await?;
    pay(&*storage, context.alice, "p-1", "100").await?;
    let user = present(storage.find_user(context.alice).await?, "the user")?;
    ensure_eq!((user.created_at, user.balance), (context.now(), Money::ZERO));
    Ok(())
}

async fn amounts_are_positive_and_exact(context: Context) -> Check {
    let storage = context.open().await?;
    for bad in ["NaN", "-1", "-0.01", "inf", "1e400", "0.0000001", "1,5", "1000000000000", ""] {
        refused(bad.parse::<Amount>(), &Expected::Invalid("money"))?;
    }
    for zero in ["0", "0.00", "0.000000"] {
        refused(zero.parse::<Amount>(), &Expected::Invalid("amount"))?;
    }
    for (id, amount) in [("p-1", "0.000001"), ("p-2", "999999999998.999999")] {
        pay(&*storage, context.alice, id, amount).await?;
        approve(&*storage, id).await?;
    }
    ensure_eq!(balance(&*storage, context.alice).await?, "999999999999.00");
    clean(&*storage).await
}

async fn an_approval_credits(context: Context) -> Check {
    let storage = context.open().await?;
    pay(&*storage, context.alice, "p-1", "100.25").await?;
    context.clock.advance_secs(60);
    let admin = Some(context.bob);
    let approve = MarkPaymentStatus {
        admin,
        notes: Some("ok".parse()?),
        ..MarkPaymentStatus::new("p-1".parse()?, PaymentStatus::Approved)
    };
    let stored = storage.mark_payment_status(approve).await?;
    ensure_eq!((stored.replayed, stored.record.status), (false, PaymentStatus::Approved));
    ensure_eq!((stored.record.admin, stored.record.notes.clone()), (admin, Some("ok".parse()?)));
    ensure_eq!(stored.record.updated_at, context.now());
    ensure_eq!(storage.get_payment(&"p-1".parse()?).await?, Some(stored.record));
    ensure_eq!(balance(&*storage, context.alice).await?, "100.25");
    ensure_eq!(ledger(&*storage, context.alice).await?, ["payment +100.25 +0.00 = 100.25 0.00 (p-1)"]);
    clean(&*storage).await
}

async fn approval_credits_exactly_once(context: Context) -> Check {
    let storage = context.open().await?;
    pay(&*storage, context.alice, "p-1", "100").await?;
    approve(&*storage, "p-1").await?;
    let before = dump_text(&*storage).await?;
    for _ in 0..3 {
        context.clock.advance_secs(60);
        ensure_eq!(approve(&*storage, "p-1").await?.replayed, true);
    }
    ensure_eq!(dump_text(&*storage).await?, before);
    ensure_eq!(balance(&*storage, context.alice).await?, "100.00");
    clean(&*storage).await
}

async fn fifty_approvals_at_once_credit_once(context: Context) -> Check {
    let storage = context.open().await?;
    pay(&*storage, context.alice, "p-1", "100").await?;
    let answers = together(50, |_| {
        let storage = storage.clone();
        async move { approve(&*storage, "p-1").await }
    })
    .await?;
    ensure_eq!(count(&answers, |answer| answer.as_ref().is_ok_and(|stored| !stored.replayed)), 1);
    ensure_eq!(count(&answers, |answer| answer.as_ref().is_ok_and(|stored| stored.replayed)), 49);
    ensure_eq!(ledger(&*storage, context.alice).await?, ["payment +100.00 +0.00 = 100.00 0.00 (p-1)"]);
    clean(&*storage).await
}

async fn fifty_approvals_with_fifty_keys_credit_once(context: Context) -> Check {
    let storage = context.open().await?;
    pay(&*storage, context.alice, "p-1", "100").await?;
    let mark = MarkPaymentStatus::new("p-1".parse()?, PaymentStatus::Approved);
    let answers = together(50, |number| {
        let (storage, mark) = (storage.clone(), mark.clone());
        async move {
            let key = Some(format!("click-{number}").parse()?);
            storage.mark_payment_status(MarkPaymentStatus { key, ..mark }).await
        }
    })
    .await?;
    ensure_eq!(count(&answers, |answer| answer.as_ref().is_ok_and(|stored| !stored.replayed)), 1);
    ensure_eq!(balance(&*storage, context.alice).await?, "100.00");
    clean(&*storage).await
}

async fn an_approved_payment_cannot_be_rejected_and_approved_again(context: Context) -> Check {
    let storage = context.open().await?;
    pay(&*storage, context.alice, "p-1", "100").await?;
    approve(&*storage, "p-1").await?;
    let reject = MarkPaymentStatus::new("p-1".parse()?, PaymentStatus::Rejected);
    let refusal = transition("payment", "p-1", "approved", "rejected");
    refused_without_trace!(storage, storage.mark_payment_status(reject), refusal);
    ensure_eq!(approve(&*storage, "p-1").await?.replayed, true);
    ensure_eq!(balance(&*storage, context.alice).await?, "100.00");
    Ok(())
}

async fn status_and_credit_are_one_atom(context: Context) -> Check {
    let storage = context.open().await?;
    for number in 0..20 {
        let id = format!("p-{number}");
        pay(&*storage, context.alice, &id, "1").await?;
        // Whatever a look from beside sees, approved payments and money agree.
        let both = together(2, |task| {
            let (storage, id) = (storage.clone(), id.clone());
            async move { if task == 0 { approve(&*storage, &id).await.map(drop) } else { clean(&*storage).await } }
        })
        .await?;
        both.into_iter().collect::<Check>()?;
    }
    ensure_eq!(balance(&*storage, context.alice).await?, "20.00");
    clean(&*storage).await
}

async fn deciding_an_unknown_payment_is_not_found(context: Context) -> Check {
    let storage = context.open().await?;
    let unknown = not_found("payment", "p-1");
    for status in PaymentStatus::ALL {
        let mark = MarkPaymentStatus::new("p-1".parse()?, status);
        refused_without_trace!(storage, storage.mark_payment_status(mark), unknown);
    }
    refused_without_trace!(storage, storage.refund_payment(RefundPayment::new("p-1".parse()?)), unknown);
    ensure_eq!(storage.get_payment(&"p-1".parse()?).await?, None);
    Ok(())
}

async fn a_duplicate_id_never_overwrites_owner_or_amount(context: Context) -> Check {
    let storage = context.open().await?;
    let first = pay(&*storage, context.alice, "p-1", "100").await?;
    for (user, amount) in [(context.bob, "100"), (context.alice, "100.000001"), (context.bob, "1")] {
        let other = storage.add_payment(payment(user, "p-1", amount)?);
        refused_without_trace!(storage, other, conflict("payment", "p-1"));
    }
    ensure_eq!(storage.get_payment(&"p-1".parse()?).await?, Some(first));
    ensure_eq!(storage.find_user(context.bob).await?, None, "a refusal created a user");
    Ok(())
}

async fn the_same_payment_again_is_a_replay_and_shows_it_as_it_stands(context: Context) -> Check {
    let storage = context.open().await?;
    pay(&*storage, context.alice, "p-1", "100").await?;
    approve(&*storage, "p-1").await?;
    let before = dump_text(&*storage).await?;
    context.clock.advance_secs(60);
    let again = storage.add_payment(payment(context.alice, "p-1", "100")?).await?;
    ensure_eq!((again.replayed, again.record.status), (true, PaymentStatus::Approved));
    ensure_eq!(dump_text(&*storage).await?, before);
    Ok(())
}

async fn a_later_mark_keeps_admin_and_notes(context: Context) -> Check {
    let storage = context.open().await?;
    pay(&*storage, context.alice, "p-1", "100").await?;
    let first = MarkPaymentStatus {
        admin: Some(context.bob),
        notes: Some("seen".parse()?),
        ..MarkPaymentStatus::new("p-1".parse()?, PaymentStatus::Approved)
    };
    let stored = storage.mark_payment_status(first.clone()).await?.record;
    context.clock.advance_secs(60);
    let later = MarkPaymentStatus { admin: Some(context.carol), notes: Some("mine".parse()?), ..first };
    let again = storage.mark_payment_status(later).await?;
    ensure_eq!((again.replayed, again.record), (true, stored), "a replay changes neither admin nor notes");
    Ok(())
}

async fn absent_admin_and_notes_keep_what_is_stored(context: Context) -> Check {
    let storage = context.open().await?;
    storage
        .add_payment(AddPayment { notes: Some("by hand".parse()?), ..payment(context.alice, "p-1", "100")? })
        .await?;
    let stored = approve(&*storage, "p-1").await?.record;
    ensure_eq!((stored.admin, stored.notes.clone()), (None, Some("by hand".parse()?)));
    let refund = RefundPayment { admin: Some(context.bob), ..RefundPayment::new("p-1".parse()?) };
    let stored = storage.refund_payment(refund).await?.record;
    ensure_eq!((stored.admin, stored.notes.clone()), (Some(context.bob), Some("by hand".parse()?)));
    Ok(())
}

async fn a_payment_goes_only_where_it_may(context: Context) -> Check {
    let storage = context.open().await?;
    for from in PaymentStatus::ALL {
        for to in PaymentStatus::ALL.into_iter().filter(|to| *to != from) {
            let id = format!("{from}-{to}");
            pay(&*storage, context.alice, &id, "1").await?;
            if from == PaymentStatus::Refunded {
                approve(&*storage, &id).await?;
            }
            if from != PaymentStatus::Pending {
                mark(&*storage, &id, from).await?;
            }
            let answer = storage.mark_payment_status(MarkPaymentStatus::new(id.parse()?, to)).await;
            let expected = if from.may_become(to) {
                ensure_eq!(answer?.record.status, to);
                to
            } else {
                refused(answer, &transition("payment", &id, from.as_str(), to.as_str()))?;
                from
            };
            ensure_eq!(present(storage.get_payment(&id.parse()?).await?, "the payment")?.status, expected);
        }
    }
    // Credited: pending to approved, and three refused steps away from approved; the refunds took back the rest.
    ensure_eq!(balance(&*storage, context.alice).await?, "4.00");
    clean(&*storage).await
}

async fn a_provider_key_belongs_to_one_payment(context: Context) -> Check {
    let storage = context.open().await?;
    let with = |user, id, amount, key: &str| {
        Ok::<_, crate::Failure>(AddPayment { provider_key: Some(key.parse()?), ..payment(user, id, amount)? })
    };
    storage.add_payment(with(context.alice, "p-1", "100", "charge-1")?).await?;
    for other in [
        with(context.bob, "p-2", "100", "charge-1")?,
        with(context.alice, "p-2", "99", "charge-1")?,
        with(context.alice, "p-2", "100", "charge-1")?,
        with(context.alice, "p-1", "100", "charge-2")?,
    ] {
        refused_without_trace!(storage, storage.add_payment(other), conflict("payment", "p-1"));
    }
    storage.add_payment(with(context.alice, "p-2", "100", "charge-2")?).await?;
    Ok(())
}

async fn a_repeated_webhook_finds_its_payment(context: Context) -> Check {
    let storage = context.open().await?;
    let webhook = AddPayment {
        payment: None,
        provider_key: Some("charge-1".parse()?),
        ..payment(context.alice, "unused", "100")?
    };
    let first = storage.add_payment(webhook.clone()).await?;
    approve(&*storage, first.record.id.as_str()).await?;
    let again = storage.add_payment(webhook).await?;
    ensure_eq!((again.replayed, &again.record.id), (true, &first.record.id));
    ensure_eq!(again.record.status, PaymentStatus::Approved);
    ensure_eq!(storage.list_payments(ListPayments::default()).await?.items.len(), 1);
    Ok(())
}

async fn fifty_equal_webhooks_make_one_payment(context: Context) -> Check {
    let storage = context.open().await?;
    let webhook = AddPayment {
        payment: None,
        provider_key: Some("charge-1".parse()?),
        ..payment(context.alice, "unused", "100")?
    };
    let answers = together(50, |_| {
        let (storage, webhook) = (storage.clone(), webhook.clone());
        async move { storage.add_payment(webhook).await }
    })
    .await?;
    ensure_eq!(count(&answers, |answer| answer.as_ref().is_ok_and(|stored| !stored.replayed)), 1);
    ensure_eq!(count(&answers, |answer| answer.as_ref().is_ok_and(|stored| stored.replayed)), 49);
    ensure_eq!(storage.list_payments(ListPayments::default()).await?.items.len(), 1);
    Ok(())
}

async fn a_payment_without_id_gets_a_minted_one(context: Context) -> Check {
    let storage = context.open().await?;
    let add = AddPayment { payment: None, ..payment(context.alice, "unused", "100")? };
    let first = storage.add_payment(add.clone()).await?.record;
    let second = storage.add_payment(add).await?.record;
    ensure!(first.id != second.id, "two payments got one id: {}", first.id);
    for minted in [first, second] {
        minted.id.as_str().parse::<storage_core::OperationId>()?;
        ensure_eq!(storage.get_payment(&minted.id).await?, Some(minted));
    }
    Ok(())
}

async fn an_approval_over_the_maximum_is_refused_and_stays_pending(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "999999999999.999999").await?;
    pay(&*storage, context.alice, "p-1", "0.000001").await?;
    let over = storage.mark_payment_status(MarkPaymentStatus::new("p-1".parse()?, PaymentStatus::Approved));
    refused_without_trace!(storage, over, Expected::Kind("InvalidInput"));
    debit(&*storage, context.alice, "1").await?;
    ensure_eq!(approve(&*storage, "p-1").await?.replayed, false);
    clean(&*storage).await
}

async fn payments_are_listed_by_user_and_status(context: Context) -> Check {
    let storage = context.open().await?;
    for (user, id, status) in [
        (context.alice, "a", PaymentStatus::Pending),
        (context.alice, "b", PaymentStatus::Approved),
        (context.bob, "c", PaymentStatus::Approved),
        (context.bob, "d", PaymentStatus::Rejected),
    ] {
        pay(&*storage, user, id, "1").await?;
        if status != PaymentStatus::Pending {
            mark(&*storage, id, status).await?;
        }
        context.clock.advance_secs(1);
    }
    let list = async |user, status| -> Check<Vec<String>> {
        let list = ListPayments { user, status, ..ListPayments::default() };
        Ok(storage.list_payments(list).await?.items.iter().map(|payment| payment.id.to_string()).collect())
    };
    let (alice, approved) = (Some(context.alice), Some(PaymentStatus::Approved));
    ensure_eq!(list(None, None).await?, ["d", "c", "b", "a"]);
    ensure_eq!(list(alice, None).await?, ["b", "a"]);
    ensure_eq!(list(None, approved).await?, ["c", "b"]);
    ensure_eq!(list(alice, approved).await?, ["b"]);
    ensure_eq!(list(alice, Some(PaymentStatus::Refunded)).await?, Vec::<String>::new());
    Ok(())
}

async fn one_bad_call_does_not_break_the_listing(context: Context) -> Check {
    let storage = context.open().await?;
    pay(&*storage, context.alice, "p-1", "1").await?;
    refused(storage.add_payment(payment(context.bob, "p-1", "1")?).await, &conflict("payment", "p-1"))?;
    pay(&*storage, context.bob, "p-2", "2").await?;
    let odd = AddPayment {
        method: " \n".parse()?,
        notes: Some(String::new().parse()?),
        ..payment(context.carol, "п 3/\"'<&%\\", "3")?
    };
    storage.add_payment(odd).await?;
    let listed = storage.list_payments(ListPayments::default()).await?.items;
    let ids: Vec<&str> = listed.iter().map(|payment| payment.id.as_str()).collect();
    ensure_eq!(ids, ["п 3/\"'<&%\\", "p-2", "p-1"]);
    ensure_eq!((listed[0].method.as_str(), listed[0].notes.clone()), (" \n", Some(String::new().parse()?)));
    Ok(())
}

async fn one_decision_among_two_thousand_payments_changes_one(context: Context) -> Check {
    let storage = context.open().await?;
    let answers = together(2000, |number| {
        let (storage, user) = (storage.clone(), context.numbered(5000, number % 100));
        async move { pay(&*storage, user?, &format!("p-{number:04}"), "1").await }
    })
    .await?;
    ensure_eq!(count(&answers, Result::is_ok), 2000);
    let before = dump_text(&*storage).await?;
    approve(&*storage, "p-1234").await?;
    let after = dump_text(&*storage).await?;
    // By sets: a search through the text for each line would keep a thread of the runtime for seconds, and with it whatever other
    // scenario's task was to run there next.
    let (before, after): (BTreeSet<&str>, BTreeSet<&str>) = (before.lines().collect(), after.lines().collect());
    let changed: Vec<&&str> = after.difference(&before).collect();
    // The payment, its user's account, one ledger row, the key of that row where one is kept, the footer.
    ensure!((4..=5).contains(&changed.len()), "changed: {changed:?}");
    ensure_eq!(before.difference(&after).count(), 3, "payment, account, footer");
    clean(&*storage).await
}
