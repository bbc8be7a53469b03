//! What a defect once slipped through: each of these catches a mutant that no other scenario caught.

use storage_core::{
    AddBalance, ImportRecord, IncrementFreeGenerations, MarkPaymentStatus, PageRequest, PageSize, PaymentStatus,
    ReturnFreeGeneration,
};

use crate::check::{Check, ensure_eq, present};
use crate::context::Context;
use crate::scenario::list_scenarios;
use crate::steps::{credit, debit, pay, rows};

list_scenarios! {
    "edges":
    a_receipt_is_about_its_own_user ["R4", "W13", "add_balance", "subtract_balance"];
    a_row_has_the_time_of_its_own_operation ["list_operations"];
    a_replayed_decision_leaves_the_stored_payment_alone ["W8", "mark_payment_status"];
    a_minted_key_gives_a_take_back ["R6", "return_free_generation"];
    a_page_of_a_thousand_holds_a_thousand ["V10", "R11", "list_users"];
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
