//! What a defect once slipped through: each of these catches a mutant that no other scenario caught, or settles what a
//! new backend had to guess.

use storage_core::{
    AddBalance, BonusCount, ErrorKind, ImportOutcome, ImportRecord, IncrementFreeGenerations, MarkPaymentStatus,
    PageRequest, PageSize, Payment, PaymentOrigin, PaymentStatus, RefundPayment, ReserveBalance, ReturnFreeGeneration,
    SetReferrer,
};

use crate::check::{Check, ensure_eq, present};
use crate::context::Context;
use crate::expect::{Expected, refused_without_trace};
use crate::scenario::list_scenarios;
use crate::steps::{balance, clean, credit, debit, ledger, pay, payment, rows};

list_scenarios! {
    "edges":
    a_receipt_is_about_its_own_user ["R4", "W13", "add_balance", "subtract_balance"];
    a_row_has_the_time_of_its_own_operation ["list_operations"];
    a_replayed_decision_leaves_the_stored_payment_alone ["W8", "mark_payment_status"];
    a_minted_key_gives_a_take_back ["R6", "return_free_generation"];
    a_page_of_a_thousand_holds_a_thousand ["V10", "R11", "list_users"];
    an_imported_payment_that_waits_is_decided_here ["M3", "W1", "mark_payment_status"];
    a_refund_of_an_imported_payment_takes_back_what_came_with_the_balance ["M3", "refund_payment"];
    the_same_referrer_with_another_bonus_is_a_replay ["W39", "set_referrer"];
    another_referrer_is_a_conflict_also_where_a_circle_would_close ["W38", "R8", "set_referrer"];
    holds_that_expire_together_are_released_by_user_and_name ["R8", "release_expired_reserves"];
}

async fn a_receipt_is_about_its_own_user(context: Context) -> Check {
    let storage = context.open().await?;
    let users = [context.alice, context.bob, context.carol];
    for (user, amount, expected) in [(users[0], "10", "10.00"), (users[1], "20", "20.00"), (users[2], "30", "30.00")] {
        ensure_eq!(credit(&*storage, user, amount).await?.balance_after.to_string(), expected, "user {user}");
    }
    for (user, expected) in users.into_iter().zip(["9.00", "19.00", "29.00"]) {
        ensure_eq!(debit(&*storage, user, "1").await?.balance_after.to_string(), expected, "user {user}");
    }
    Ok(())
}

async fn a_row_has_the_time_of_its_own_operation(context: Context) -> Check {
    let storage = context.open().await?;
    let mut times = Vec::new();
    for _ in 0..3 {
        times.push(context.now());
        credit(&*storage, context.alice, "1").await?;
        context.clock.advance_secs(60);
    }
    let mut stored: Vec<_> = rows(&*storage, context.alice).await?.iter().map(|row| row.at).collect();
    stored.reverse();
    ensure_eq!(stored, times);
    Ok(())
}

async fn a_replayed_decision_leaves_the_stored_payment_alone(context: Context) -> Check {
    let storage = context.open().await?;
    pay(&*storage, context.alice, "p-1", "100").await?;
    for status in [PaymentStatus::Approved, PaymentStatus::Refunded] {
        let first = MarkPaymentStatus {
            admin: Some(context.bob),
            notes: Some("seen".parse()?),
            ..MarkPaymentStatus::new("p-1".parse()?, status)
        };
        let decided = storage.mark_payment_status(first.clone()).await?.record;
        context.clock.advance_secs(60);
        for notes in [Some("mine".parse()?), None] {
            let later = MarkPaymentStatus { admin: Some(context.carol), notes, ..first.clone() };
            storage.mark_payment_status(later).await?;
            let stored = present(storage.get_payment(&"p-1".parse()?).await?, "the payment")?;
            ensure_eq!(stored, decided, "{status}: what a replay answers is not all: what is stored stays");
        }
    }
    Ok(())
}

async fn a_minted_key_gives_a_take_back(context: Context) -> Check {
    let storage = context.open().await?;
    let taken = storage.increment_free_generations(IncrementFreeGenerations::new(context.alice)).await?;
    // The operation's id is the key that the store minted.
    let take = taken.operation.to_key();
    let back = storage.return_free_generation(ReturnFreeGeneration { user: context.alice, take }).await?;
    ensure_eq!((back.source, back.remaining_after), (taken.source, taken.remaining_after + 1));
    let first = credit(&*storage, context.alice, "3").await?;
    let again = AddBalance::new(context.alice, "3".parse()?).with_key(first.operation.to_key());
    ensure_eq!(storage.add_balance(again).await?.replayed, true);
    Ok(())
}

async fn a_page_of_a_thousand_holds_a_thousand(context: Context) -> Check {
    let storage = context.open().await?;
    let language = "uk".parse::<storage_core::Language>()?;
    let records =
        (1..=1001).map(|number| Ok(ImportRecord::Language { user: context.user(number)?, language: language.clone() }));
    storage.import_records(records.collect::<Check<_>>()?).await?;
    let page = storage.list_users(PageRequest::first(PageSize::MAX)).await?;
    ensure_eq!(page.items.len(), 1000);
    let next = present(page.next, "the cursor of the last page")?;
    let last = storage.list_users(PageRequest::after(PageSize::MAX, next)).await?;
    let users: Vec<i64> = last.items.iter().map(|user| user.id.get()).collect();
    ensure_eq!((users, last.next), (vec![1001], None));
    Ok(())
}

async fn an_imported_payment_that_waits_is_decided_here(context: Context) -> Check {
    let storage = context.open().await?;
    // Whatever its record says: nobody has credited it.
    for (id, origin) in [("p-1", PaymentOrigin::Imported), ("p-2", PaymentOrigin::Here)] {
        let waiting = Payment::create(payment(context.alice, id, "25")?, id.parse()?, context.now());
        let record = ImportRecord::Payment(Payment { origin, ..waiting });
        ensure_eq!(storage.import_records(vec![record]).await?, [ImportOutcome::Added]);
        let stored = present(storage.get_payment(&id.parse()?).await?, "the payment")?;
        ensure_eq!((stored.status, stored.origin), (PaymentStatus::Pending, PaymentOrigin::Here), "{id}");
        for replayed in [false, true] {
            let approve = MarkPaymentStatus::new(id.parse()?, PaymentStatus::Approved);
            ensure_eq!(storage.mark_payment_status(approve).await?.replayed, replayed, "{id}");
        }
    }
    let rows = ["payment +25.00 +0.00 = 25.00 0.00 (p-1)", "payment +25.00 +0.00 = 50.00 0.00 (p-2)"];
    ensure_eq!(ledger(&*storage, context.alice).await?, rows, "credited once each");
    clean(&*storage).await
}

async fn a_refund_of_an_imported_payment_takes_back_what_came_with_the_balance(context: Context) -> Check {
    let storage = context.open().await?;
    let paid = |id: &str, amount: &str| {
        let waiting = Payment::create(payment(context.alice, id, amount)?, id.parse()?, context.now());
        let (status, origin) = (PaymentStatus::Approved, PaymentOrigin::Imported);
        Check::Ok(ImportRecord::Payment(Payment { status, origin, ..waiting }))
    };
    let opening = ImportRecord::Balance { user: context.alice, balance: "30".parse()?, created_at: None };
    storage.import_records(vec![opening, paid("p-1", "25")?, paid("p-2", "25")?]).await?;
    let stored = storage.refund_payment(RefundPayment::new("p-1".parse()?)).await?;
    ensure_eq!((stored.record.status, stored.record.origin), (PaymentStatus::Refunded, PaymentOrigin::Imported));
    ensure_eq!(ledger(&*storage, context.alice).await?[1], "refund -25.00 +0.00 = 5.00 0.00 (p-1)");
    let short = ErrorKind::InsufficientFunds { available: "5".parse()?, required: "25".parse()? };
    let refund = storage.refund_payment(RefundPayment::new("p-2".parse()?));
    refused_without_trace!(storage, refund, Expected::Exactly(short));
    clean(&*storage).await
}

async fn the_same_referrer_with_another_bonus_is_a_replay(context: Context) -> Check {
    let storage = context.open().await?;
    let set = SetReferrer::new(context.alice, context.bob);
    storage.set_referrer(SetReferrer { bonus: Some(BonusCount::new(7)?), ..set.clone() }).await?;
    for bonus in [Some(BonusCount::new(9)?), None] {
        let again = storage.set_referrer(SetReferrer { bonus, ..set.clone() }).await?;
        ensure_eq!((again.replayed, again.record.bonus), (true, 7), "{bonus:?}");
    }
    ensure_eq!(storage.get_user_free_generations_remaining(context.bob).await?, 12, "granted once");
    Ok(())
}

async fn another_referrer_is_a_conflict_also_where_a_circle_would_close(context: Context) -> Check {
    let storage = context.open().await?;
    for (user, referrer) in [(context.alice, context.bob), (context.bob, context.carol)] {
        storage.set_referrer(SetReferrer::new(user, referrer)).await?;
    }
    let circle = storage.set_referrer(SetReferrer::new(context.bob, context.alice));
    refused_without_trace!(storage, circle, Expected::ConflictNaming(context.carol.to_string()));
    Ok(())
}

async fn holds_that_expire_together_are_released_by_user_and_name(context: Context) -> Check {
    let storage = context.open().await?;
    let at = context.now().plus_micros(60_000_000);
    let (one, other) = (context.user(501)?, context.user(502)?);
    for (user, name) in [(other, "a"), (one, "b"), (other, "b"), (one, "a")] {
        credit(&*storage, user, "1").await?;
        let hold = ReserveBalance::new(user, name.parse()?, "1".parse()?).expiring_at(at);
        storage.reserve_balance(hold).await?;
    }
    context.clock.advance_secs(60);
    let released = storage.release_expired_reserves(PageSize::MAX).await?;
    let order: Vec<_> = released.iter().map(|hold| (hold.user, hold.name.as_str())).collect();
    ensure_eq!(order, [(one, "a"), (one, "b"), (other, "a"), (other, "b")]);
    ensure_eq!(balance(&*storage, one).await?, "2.00");
    clean(&*storage).await
}
