//! Exactly once: keys and replays (R6), for every operation that takes a key.

use std::io::Cursor;

use storage_core::{
    AddBalance, AddGenerationJob, AddPayment, GiftClaim, MarkPaymentStatus, OperationKey, PaymentStatus, Receipt,
    RefundPayment, ReserveBalance, SetGiftClaimed, SetUserLanguage, Storage, UserId,
};

use crate::calls::{Arguments, Keyed, Told, prepare};
use crate::check::{Check, ensure, ensure_eq, present};
use crate::context::Context;
use crate::expect::{insufficient, key_conflict, not_found, refused_without_trace, transition};
use crate::scenario::list_scenarios;
use crate::steps::{
    approve, balance, clean, count, credit, dump_text, generation, hold, job, mark, pay, payment, rows, together,
};

list_scenarios! {
    "keys":
    the_same_call_again_answers_the_first_receipt ["R6", "R8"];
    a_key_with_other_arguments_is_a_conflict ["R6", "R8"];
    a_key_of_another_kind_of_operation_is_a_conflict ["R6", "R8"];
    keys_belong_to_one_user ["R6"];
    keys_survive_reopening ["R6", "R5"] needs [Reopen];
    keys_survive_dump_and_restore ["R6", "M1"];
    a_replay_by_nature_uses_its_key_up ["R6"];
    a_success_that_changed_nothing_uses_its_key_up ["R6", "set_balance", "set_user_language"];
    a_refusal_does_not_use_a_key_up ["R6"];
    a_minted_key_settles_a_repeat ["R6", "R7"];
    a_key_is_no_hold_name_job_id_or_generation_id ["R6"];
    of_fifty_calls_with_one_key_one_applies ["R6", "R4", "W2"];
    two_handles_share_their_keys ["R6", "R4"] needs [SecondHandle];
    a_replayed_gift_claim_answers_first_again ["R6", "set_gift_claimed"];
    a_replayed_decision_shows_the_payment_as_it_stands ["R6", "mark_payment_status"];
    a_refunds_key_belongs_to_marking_it_refunded_too ["R6", "refund_payment", "mark_payment_status"];
    a_keyed_order_without_id_finds_its_job_again ["R6", "add_generation_job", "add_payment"] needs [Reopen];
    a_memo_is_an_argument ["R6", "add_balance"];
    the_longest_key_is_a_key ["R6", "V3"];
    a_replayed_debit_asks_for_no_money ["R6", "R8", "subtract_balance"];
}

fn key(text: &str) -> Check<Option<OperationKey>> {
    Ok(Some(text.parse()?))
}

/// Prepared users, one for each operation, so that none spoils another's state.
async fn users(context: &Context, storage: &dyn Storage) -> Check<Vec<(Keyed, UserId)>> {
    let mut users = Vec::new();
    for (number, keyed) in (2001..).zip(Keyed::ALL) {
        let user = context.user(number)?;
        prepare(storage, user).await?;
        users.push((keyed, user));
    }
    Ok(users)
}

/// Makes every operation's first call with the key `k`.
async fn first_calls(storage: &dyn Storage, users: &[(Keyed, UserId)]) -> Check<Vec<Told>> {
    let mut answers = Vec::new();
    for (keyed, user) in users {
        let told = keyed.call(storage, *user, key("k")?, Arguments::Usual).await?;
        ensure_eq!(told.replayed, false, "{keyed:?}");
        answers.push(told);
    }
    Ok(answers)
}

/// Repeats them, and proves that each answers as before and changes nothing.
async fn repeat(storage: &dyn Storage, users: &[(Keyed, UserId)], first: &[Told]) -> Check {
    let before = dump_text(storage).await?;
    for ((keyed, user), first) in users.iter().zip(first) {
        let again = keyed.call(storage, *user, key("k")?, Arguments::Usual).await?;
        ensure_eq!(again, Told { replayed: true, ..first.clone() }, "{keyed:?}");
    }
    ensure_eq!(dump_text(storage).await?, before);
    Ok(())
}

async fn the_same_call_again_answers_the_first_receipt(context: Context) -> Check {
    let storage = context.open().await?;
    let users = users(&context, &*storage).await?;
    let first = first_calls(&*storage, &users).await?;
    for (_, user) in &users {
        // Later changes of balance and quota must not show in a replay.
        credit(&*storage, *user, "1000").await?;
        storage.add_referral_bonus(storage_core::AddReferralBonus::new(*user)).await?;
    }
    context.clock.advance_secs(100_000);
    repeat(&*storage, &users, &first).await?;
    clean(&*storage).await
}

async fn a_key_with_other_arguments_is_a_conflict(context: Context) -> Check {
    let storage = context.open().await?;
    let users = users(&context, &*storage).await?;
    first_calls(&*storage, &users).await?;
    for (keyed, user) in users.into_iter().filter(|(keyed, _)| keyed.has_arguments()) {
        let other = keyed.call(&*storage, user, key("k")?, Arguments::Other);
        refused_without_trace!(storage, other, key_conflict("k"));
    }
    Ok(())
}

async fn a_key_of_another_kind_of_operation_is_a_conflict(context: Context) -> Check {
    let storage = context.open().await?;
    prepare(&*storage, context.alice).await?;
    storage.add_balance(AddBalance { key: key("k")?, ..AddBalance::new(context.alice, "1".parse()?) }).await?;
    let before = dump_text(&*storage).await?;
    for keyed in Keyed::ALL.into_iter().filter(|keyed| *keyed != Keyed::Credit) {
        let other = keyed.call(&*storage, context.alice, key("k")?, Arguments::Usual).await;
        crate::expect::refused(other, &key_conflict("k"))?;
    }
    ensure_eq!(dump_text(&*storage).await?, before);
    Ok(())
}

async fn keys_belong_to_one_user(context: Context) -> Check {
    let storage = context.open().await?;
    let others: Vec<_> = users(&context, &*storage).await?;
    first_calls(&*storage, &others).await?;
    for keyed in Keyed::ALL {
        let user = context.user(5000 + keyed as i64)?;
        prepare(&*storage, user).await?;
        let told = keyed.call(&*storage, user, key("k")?, Arguments::Usual).await?;
        ensure_eq!(told.replayed, false, "{keyed:?}");
    }
    clean(&*storage).await
}

async fn keys_survive_reopening(context: Context) -> Check {
    let storage = context.open().await?;
    let users = users(&context, &*storage).await?;
    let first = first_calls(&*storage, &users).await?;
    storage.close().await?;
    drop(storage);
    let storage = context.open().await?;
    repeat(&*storage, &users, &first).await?;
    let (keyed, user) = users[0];
    let other = keyed.call(&*storage, user, key("k")?, Arguments::Other);
    refused_without_trace!(storage, other, key_conflict("k"));
    Ok(())
}

async fn keys_survive_dump_and_restore(context: Context) -> Check {
    let storage = context.open().await?;
    let users = users(&context, &*storage).await?;
    let first = first_calls(&*storage, &users).await?;
    let dump = dump_text(&*storage).await?;
    let restored = context.elsewhere().await?.open().await?;
    restored.restore(&mut Cursor::new(dump.as_bytes())).await?;
    repeat(&*restored, &users, &first).await?;
    ensure_eq!(dump_text(&*restored).await?, dump);
    for (keyed, user) in users.into_iter().filter(|(keyed, _)| keyed.has_arguments()) {
        let other = keyed.call(&*restored, user, key("k")?, Arguments::Other).await;
        crate::expect::refused(other, &key_conflict("k"))?;
    }
    Ok(())
}

async fn a_replay_by_nature_uses_its_key_up(context: Context) -> Check {
    let storage = context.open().await?;
    for keyed in Keyed::NATURAL {
        let user = context.user(3000 + keyed as i64)?;
        prepare(&*storage, user).await?;
        let first = keyed.call(&*storage, user, None, Arguments::Usual).await?;
        ensure_eq!(first.replayed, false, "{keyed:?}");
        for _ in 0..2 {
            let again = keyed.call(&*storage, user, key("late")?, Arguments::Usual).await?;
            ensure_eq!(again, Told { replayed: true, ..first.clone() }, "{keyed:?}");
        }
        let other = keyed.call(&*storage, user, key("late")?, Arguments::Other);
        refused_without_trace!(storage, other, key_conflict("late"));
    }
    clean(&*storage).await
}

async fn a_success_that_changed_nothing_uses_its_key_up(context: Context) -> Check {
    let storage = context.open().await?;
    let user = context.alice;
    for keyed in [Keyed::Language, Keyed::SetBalance, Keyed::Limit] {
        keyed.call(&*storage, user, None, Arguments::Usual).await?;
        let name = format!("{keyed:?}");
        let unchanged = keyed.call(&*storage, user, key(&name)?, Arguments::Usual).await?;
        ensure_eq!(unchanged.replayed, false, "a call of its own that found nothing to do");
        let other = keyed.call(&*storage, user, key(&name)?, Arguments::Other);
        refused_without_trace!(storage, other, key_conflict(&name));
        keyed.call(&*storage, user, None, Arguments::Other).await?;
        let before = dump_text(&*storage).await?;
        let again = keyed.call(&*storage, user, key(&name)?, Arguments::Usual).await?;
        ensure_eq!(again, Told { replayed: true, ..unchanged }, "{keyed:?}");
        ensure_eq!(dump_text(&*storage).await?, before, "a replay set the old value again");
    }
    let claim = SetGiftClaimed { user, key: None };
    storage.set_gift_claimed(claim.clone()).await?;
    let late = SetGiftClaimed { key: key("gift")?, ..claim };
    ensure_eq!(storage.set_gift_claimed(late.clone()).await?, GiftClaim { first: false, replayed: false });
    ensure_eq!(storage.set_gift_claimed(late).await?, GiftClaim { first: false, replayed: true });
    Ok(())
}

async fn a_refusal_does_not_use_a_key_up(context: Context) -> Check {
    let storage = context.open().await?;
    let user = context.alice;
    let reserve = ReserveBalance::new(user, "job-1".parse()?, "5".parse()?).with_key("k-1".parse()?);
    refused_without_trace!(storage, storage.reserve_balance(reserve.clone()), insufficient("0", "5")?);
    let commit =
        storage_core::CommitReserve { key: key("k-2")?, ..storage_core::CommitReserve::new(user, "job-1".parse()?) };
    refused_without_trace!(storage, storage.commit_reserve(commit.clone()), not_found("hold", "job-1"));
    let approve =
        MarkPaymentStatus { key: key("k-3")?, ..MarkPaymentStatus::new("p-1".parse()?, PaymentStatus::Approved) };
    refused_without_trace!(storage, storage.mark_payment_status(approve.clone()), not_found("payment", "p-1"));
    let refund = RefundPayment { key: key("k-4")?, ..RefundPayment::new("p-1".parse()?) };
    pay(&*storage, user, "p-1", "5").await?;
    let early = transition("payment", "p-1", "pending", "refunded");
    refused_without_trace!(storage, storage.refund_payment(refund.clone()), early);
    ensure_eq!(storage.mark_payment_status(approve).await?.replayed, false);
    ensure_eq!(storage.reserve_balance(reserve).await?.replayed, false);
    refused_without_trace!(storage, storage.refund_payment(refund.clone()), insufficient("0", "5")?);
    ensure_eq!(storage.commit_reserve(commit).await?.replayed, false);
    credit(&*storage, user, "5").await?;
    ensure_eq!(storage.refund_payment(refund).await?.replayed, false);
    clean(&*storage).await
}

async fn a_minted_key_settles_a_repeat(context: Context) -> Check {
    let storage = context.open().await?;
    let receipt = credit(&*storage, context.alice, "10").await?;
    let minted = present(rows(&*storage, context.alice).await?.first().map(|row| row.key.clone()), "the row")?;
    let repeat = AddBalance::new(context.alice, "10".parse()?).with_key(minted.clone());
    ensure_eq!(storage.add_balance(repeat).await?, Receipt { replayed: true, ..receipt });
    let other = AddBalance::new(context.alice, "11".parse()?).with_key(minted.clone());
    refused_without_trace!(storage, storage.add_balance(other), key_conflict(minted.as_str()));
    Ok(())
}

async fn a_key_is_no_hold_name_job_id_or_generation_id(context: Context) -> Check {
    let storage = context.open().await?;
    let user = context.alice;
    credit(&*storage, user, "100").await?;
    hold(&*storage, user, "seven", "1").await?;
    storage.add_generation_to_history(generation(user, "seven", "1")?).await?;
    crate::steps::order(&*storage, user, "seven").await?;
    pay(&*storage, user, "seven", "1").await?;
    let add = AddBalance::new(user, "1".parse()?).with_key("seven".parse()?);
    ensure_eq!(storage.add_balance(add).await?.replayed, false);
    ensure_eq!(storage.add_generation_to_history(generation(user, "seven", "1")?).await?.replayed, true);
    clean(&*storage).await
}

async fn of_fifty_calls_with_one_key_one_applies(context: Context) -> Check {
    let storage = context.open().await?;
    for keyed in Keyed::ALL {
        let user = context.user(4000 + keyed as i64)?;
        prepare(&*storage, user).await?;
        let key = key("k")?;
        let answers = together(50, |_| {
            let (storage, key) = (storage.clone(), key.clone());
            async move { keyed.call(&*storage, user, key, Arguments::Usual).await }
        })
        .await?;
        let answers = answers.into_iter().collect::<storage_core::Result<Vec<_>>>()?;
        ensure_eq!(count(&answers, |told| !told.replayed), 1, "{keyed:?}");
        ensure!(answers.iter().all(|told| told.answer == answers[0].answer), "{keyed:?}: one receipt for all");
    }
    clean(&*storage).await
}

async fn two_handles_share_their_keys(context: Context) -> Check {
    let (one, other) = (context.open().await?, context.open().await?);
    let users = users(&context, &*one).await?;
    let first = first_calls(&*one, &users).await?;
    repeat(&*other, &users, &first).await?;
    repeat(&*one, &users, &first).await
}

async fn a_replayed_gift_claim_answers_first_again(context: Context) -> Check {
    let storage = context.open().await?;
    let claim = SetGiftClaimed { user: context.alice, key: key("welcome")? };
    ensure_eq!(storage.set_gift_claimed(claim.clone()).await?, GiftClaim { first: true, replayed: false });
    ensure_eq!(storage.set_gift_claimed(claim.clone()).await?, GiftClaim { first: true, replayed: true });
    let other = SetGiftClaimed { key: key("again")?, ..claim };
    ensure_eq!(storage.set_gift_claimed(other).await?, GiftClaim { first: false, replayed: false });
    Ok(())
}

async fn a_replayed_decision_shows_the_payment_as_it_stands(context: Context) -> Check {
    let storage = context.open().await?;
    pay(&*storage, context.alice, "p-1", "10").await?;
    let approve =
        MarkPaymentStatus { key: key("click")?, ..MarkPaymentStatus::new("p-1".parse()?, PaymentStatus::Approved) };
    storage.mark_payment_status(approve.clone()).await?;
    mark(&*storage, "p-1", PaymentStatus::Refunded).await?;
    let before = dump_text(&*storage).await?;
    let again = storage.mark_payment_status(approve).await?;
    ensure_eq!((again.replayed, again.record.status), (true, PaymentStatus::Refunded));
    ensure_eq!(dump_text(&*storage).await?, before);
    ensure_eq!(balance(&*storage, context.alice).await?, "0.00");
    Ok(())
}

async fn a_refunds_key_belongs_to_marking_it_refunded_too(context: Context) -> Check {
    let storage = context.open().await?;
    pay(&*storage, context.alice, "p-1", "10").await?;
    approve(&*storage, "p-1").await?;
    let refund = RefundPayment { key: key("undo")?, ..RefundPayment::new("p-1".parse()?) };
    ensure_eq!(storage.refund_payment(refund.clone()).await?.replayed, false);
    ensure_eq!(storage.mark_payment_status(refund.into()).await?.replayed, true);
    clean(&*storage).await
}

async fn a_keyed_order_without_id_finds_its_job_again(context: Context) -> Check {
    let storage = context.open().await?;
    let order = AddGenerationJob { job: None, key: key("order-1")?, ..job(context.alice, "unused")? };
    let pay = AddPayment { payment: None, key: key("pay-1")?, ..payment(context.alice, "unused", "5")? };
    let ids = (
        storage.add_generation_job(order.clone()).await?.record.id.clone(),
        storage.add_payment(pay.clone()).await?.record.id.clone(),
    );
    // Equal orders under other keys are other orders.
    let other = AddGenerationJob { key: key("order-2")?, ..order.clone() };
    ensure!(storage.add_generation_job(other).await?.record.id != ids.0, "two orders, one job");
    storage.close().await?;
    drop(storage);
    let reopened = context.open().await?;
    let restored = context.elsewhere().await?.open().await?;
    restored.restore(&mut Cursor::new(dump_text(&*reopened).await?.as_bytes())).await?;
    for storage in [reopened, restored] {
        let (job, payment) =
            (storage.add_generation_job(order.clone()).await?, storage.add_payment(pay.clone()).await?);
        ensure_eq!((job.replayed, payment.replayed), (true, true));
        ensure_eq!((job.record.id.clone(), payment.record.id.clone()), ids);
    }
    Ok(())
}

async fn a_memo_is_an_argument(context: Context) -> Check {
    let storage = context.open().await?;
    let add = AddBalance::new(context.alice, "10".parse()?).with_key("k".parse()?);
    storage.add_balance(add.clone()).await?;
    let memo = storage_core::Memo { reason: Some(String::new().parse()?), ..storage_core::Memo::default() };
    refused_without_trace!(storage, storage.add_balance(add.with_memo(memo)), key_conflict("k"));
    Ok(())
}

async fn the_longest_key_is_a_key(context: Context) -> Check {
    let storage = context.open().await?;
    for text in ["к".repeat(100), "a b\u{2028}\"'\\/ é".to_owned(), "x".to_owned()] {
        let set = SetUserLanguage { key: key(&text)?, ..SetUserLanguage::new(context.alice, "en".parse()?) };
        ensure_eq!(storage.set_user_language(set.clone()).await?.replayed, false, "{text}");
        ensure_eq!(storage.set_user_language(set).await?.replayed, true, "{text}");
    }
    Ok(())
}

async fn a_replayed_debit_asks_for_no_money(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "10").await?;
    let debit = storage_core::SubtractBalance::new(context.alice, "10".parse()?).with_key("charge".parse()?);
    let first = storage.subtract_balance(debit.clone()).await?;
    ensure_eq!(storage.subtract_balance(debit).await?, Receipt { replayed: true, ..first }, "the balance is 0 now");
    Ok(())
}
