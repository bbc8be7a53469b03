//! Balances: money that can be spent.

use storage_core::{AddBalance, Memo, Money, SetBalance, SubtractBalance};

use crate::check::{Check, ensure_eq, present};
use crate::context::Context;
use crate::expect::{Expected, insufficient, refused_without_trace};
use crate::scenario::list_scenarios;
use crate::steps::{all_different, balance, clean, count, credit, debit, dump_text, hold, ledger, rows, together};

list_scenarios! {
    "balances":
    an_unknown_user_has_nothing_and_stays_unknown ["get_balance", "R1", "W19"];
    held_money_cannot_be_spent ["get_balance"];
    a_credit_answers_the_balance_it_made ["add_balance", "W13"];
    a_credit_to_an_unknown_user_creates_them ["add_balance", "R2", "W18"];
    a_debit_answers_the_balance_it_made ["subtract_balance", "W13"];
    a_debit_to_exactly_zero_is_allowed ["subtract_balance"];
    a_debit_of_too_much_names_both_figures_and_changes_nothing ["subtract_balance", "R8"];
    a_debit_of_an_unknown_user_is_short_and_creates_nobody ["subtract_balance", "R2", "W18"];
    a_tenth_and_two_tenths_are_three_tenths ["W15", "V2", "add_balance"];
    the_smallest_amount_is_charged_and_not_rounded_away ["W16", "V2", "subtract_balance"];
    balance_and_held_money_never_exceed_the_maximum ["V2", "add_balance", "set_balance"];
    setting_a_balance_writes_the_difference ["set_balance"];
    setting_the_same_balance_writes_no_row ["set_balance"];
    setting_a_balance_leaves_held_money_alone ["set_balance"];
    setting_an_unknown_users_balance_creates_them ["set_balance", "R2", "W18"];
    a_memo_stands_in_the_ledger ["add_balance", "subtract_balance", "set_balance", "list_operations"];
    a_failed_debit_is_judged_anew ["subtract_balance", "R6"];
    fifty_debits_of_one_from_twenty_five_leave_nothing ["W11", "subtract_balance", "R4"];
    fifty_credits_answer_fifty_balances ["W13", "add_balance", "R4"];
    two_users_money_is_kept_apart ["add_balance", "subtract_balance"];
}

async fn an_unknown_user_has_nothing_and_stays_unknown(context: Context) -> Check {
    let storage = context.open().await?;
    ensure_eq!(storage.get_balance(context.alice).await?, Money::ZERO);
    ensure_eq!(storage.find_user(context.alice).await?, None, "a read created a user");
    Ok(())
}

async fn held_money_cannot_be_spent(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "10").await?;
    hold(&*storage, context.alice, "job-1", "8").await?;
    ensure_eq!(balance(&*storage, context.alice).await?, "2.00");
    let debit = SubtractBalance::new(context.alice, "2.000001".parse()?);
    refused_without_trace!(storage, storage.subtract_balance(debit), insufficient("2", "2.000001")?);
    Ok(())
}

async fn a_credit_answers_the_balance_it_made(context: Context) -> Check {
    let storage = context.open().await?;
    let first = credit(&*storage, context.alice, "10").await?;
    let second = credit(&*storage, context.alice, "0.5").await?;
    ensure_eq!((first.balance_after.to_string().as_str(), first.replayed), ("10.00", false));
    ensure_eq!((second.balance_after.to_string().as_str(), second.replayed), ("10.50", false));
    let rows = rows(&*storage, context.alice).await?;
    let operations: Vec<_> = rows.iter().map(|row| row.operation).collect();
    ensure_eq!(operations, [second.operation, first.operation]);
    ensure_eq!(
        ledger(&*storage, context.alice).await?,
        ["credit +10.00 +0.00 = 10.00 0.00", "credit +0.50 +0.00 = 10.50 0.00"]
    );
    clean(&*storage).await
}

async fn a_credit_to_an_unknown_user_creates_them(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "1").await?;
    let user = present(storage.find_user(context.alice).await?, "the user")?;
    ensure_eq!((user.created_at, user.updated_at), (context.now(), context.now()));
    Ok(())
}

async fn a_debit_answers_the_balance_it_made(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "10").await?;
    let receipt = debit(&*storage, context.alice, "2.25").await?;
    ensure_eq!((receipt.balance_after.to_string().as_str(), receipt.replayed), ("7.75", false));
    ensure_eq!(ledger(&*storage, context.alice).await?[1], "debit -2.25 +0.00 = 7.75 0.00");
    clean(&*storage).await
}

async fn a_debit_to_exactly_zero_is_allowed(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "10").await?;
    ensure_eq!(debit(&*storage, context.alice, "10").await?.balance_after, Money::ZERO);
    let debit = SubtractBalance::new(context.alice, "0.000001".parse()?);
    refused_without_trace!(storage, storage.subtract_balance(debit), insufficient("0", "0.000001")?);
    Ok(())
}

async fn a_debit_of_too_much_names_both_figures_and_changes_nothing(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "10").await?;
    let debit = SubtractBalance::new(context.alice, "10.000001".parse()?);
    refused_without_trace!(storage, storage.subtract_balance(debit), insufficient("10", "10.000001")?);
    ensure_eq!(balance(&*storage, context.alice).await?, "10.00");
    Ok(())
}

async fn a_debit_of_an_unknown_user_is_short_and_creates_nobody(context: Context) -> Check {
    let storage = context.open().await?;
    let debit = SubtractBalance::new(context.alice, "1".parse()?);
    refused_without_trace!(storage, storage.subtract_balance(debit), insufficient("0", "1")?);
    ensure_eq!(storage.find_user(context.alice).await?, None);
    Ok(())
}

async fn a_tenth_and_two_tenths_are_three_tenths(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "0.1").await?;
    ensure_eq!(credit(&*storage, context.alice, "0.2").await?.balance_after, "0.3".parse()?);
    for _ in 0..10 {
        credit(&*storage, context.bob, "0.1").await?;
    }
    ensure_eq!(storage.get_balance(context.bob).await?, "1".parse()?);
    clean(&*storage).await
}

async fn the_smallest_amount_is_charged_and_not_rounded_away(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "1").await?;
    ensure_eq!(debit(&*storage, context.alice, "0.004").await?.balance_after.to_string(), "0.996");
    ensure_eq!(debit(&*storage, context.alice, "0.000001").await?.balance_after.to_string(), "0.995999");
    clean(&*storage).await
}

async fn balance_and_held_money_never_exceed_the_maximum(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    credit(&*storage, alice, "999999999999.999998").await?;
    ensure_eq!(credit(&*storage, alice, "0.000001").await?.balance_after, Money::MAX);
    let one_more = || Ok::<_, storage_core::Error>(AddBalance::new(alice, "0.000001".parse()?));
    let one_more_is = Expected::Kind("InvalidInput");
    refused_without_trace!(storage, storage.add_balance(one_more()?), one_more_is);
    hold(&*storage, alice, "job-1", "1").await?;
    refused_without_trace!(storage, storage.add_balance(one_more()?), one_more_is);
    refused_without_trace!(storage, storage.set_balance(SetBalance::new(alice, Money::MAX)), one_more_is);
    ensure_eq!(balance(&*storage, alice).await?, "999999999998.999999");
    Ok(())
}

async fn setting_a_balance_writes_the_difference(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    credit(&*storage, alice, "10").await?;
    for (to, after) in [("25", "25.00"), ("3.5", "3.50"), ("0", "0.00")] {
        let receipt = storage.set_balance(SetBalance::new(alice, to.parse()?)).await?;
        ensure_eq!((receipt.balance_after.to_string().as_str(), receipt.replayed), (after, false));
        ensure_eq!(balance(&*storage, alice).await?, after);
    }
    ensure_eq!(
        ledger(&*storage, alice).await?,
        [
            "credit +10.00 +0.00 = 10.00 0.00",
            "adjustment +15.00 +0.00 = 25.00 0.00",
            "adjustment -21.50 +0.00 = 3.50 0.00",
            "adjustment -3.50 +0.00 = 0.00 0.00",
        ]
    );
    clean(&*storage).await
}

async fn setting_the_same_balance_writes_no_row(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "10").await?;
    let before = (rows(&*storage, context.alice).await?, storage.find_user(context.alice).await?);
    context.clock.advance_secs(60);
    let receipt = storage.set_balance(SetBalance::new(context.alice, "10".parse()?)).await?;
    ensure_eq!((receipt.balance_after.to_string().as_str(), receipt.replayed), ("10.00", false));
    ensure_eq!((rows(&*storage, context.alice).await?, storage.find_user(context.alice).await?), before);
    clean(&*storage).await
}

async fn setting_a_balance_leaves_held_money_alone(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "10").await?;
    hold(&*storage, context.alice, "job-1", "4").await?;
    storage.set_balance(SetBalance::new(context.alice, "1".parse()?)).await?;
    ensure_eq!(ledger(&*storage, context.alice).await?[2], "adjustment -5.00 +0.00 = 1.00 4.00");
    let hold = present(storage.find_reserve(context.alice, &"job-1".parse()?).await?, "the hold")?;
    ensure_eq!(hold.amount, "4".parse()?);
    clean(&*storage).await
}

async fn setting_an_unknown_users_balance_creates_them(context: Context) -> Check {
    let storage = context.open().await?;
    storage.set_balance(SetBalance::new(context.alice, "0".parse()?)).await?;
    storage.set_balance(SetBalance::new(context.bob, "7".parse()?)).await?;
    ensure_eq!(present(storage.find_user(context.alice).await?, "alice")?.balance, Money::ZERO);
    ensure_eq!(rows(&*storage, context.alice).await?.len(), 0, "to the same value: no row");
    ensure_eq!(present(storage.find_user(context.bob).await?, "bob")?.balance, "7".parse()?);
    clean(&*storage).await
}

async fn a_memo_stands_in_the_ledger(context: Context) -> Check {
    let storage = context.open().await?;
    let memo = Memo {
        reference: Some("ticket-17".parse()?),
        reason: Some("the провайдер failed\ntwice".parse()?),
        actor: Some("admin 7".parse()?),
    };
    let alice = context.alice;
    storage.add_balance(AddBalance::new(alice, "10".parse()?).with_memo(memo.clone())).await?;
    storage.subtract_balance(SubtractBalance::new(alice, "1".parse()?).with_memo(memo.clone())).await?;
    storage.set_balance(SetBalance::new(alice, "5".parse()?).with_memo(memo.clone())).await?;
    credit(&*storage, alice, "1").await?;
    let rows = rows(&*storage, alice).await?;
    let memo_of = |row: &storage_core::LedgerRow| Memo {
        reference: row.reference.clone(),
        reason: row.reason.clone(),
        actor: row.actor.clone(),
    };
    ensure_eq!(memo_of(&rows[0]), Memo::default());
    for row in &rows[1..] {
        ensure_eq!(memo_of(row), memo);
    }
    Ok(())
}

async fn a_failed_debit_is_judged_anew(context: Context) -> Check {
    let storage = context.open().await?;
    let debit = SubtractBalance::new(context.alice, "5".parse()?).with_key("charge-1".parse()?);
    refused_without_trace!(storage, storage.subtract_balance(debit.clone()), insufficient("0", "5")?);
    credit(&*storage, context.alice, "5").await?;
    let receipt = storage.subtract_balance(debit).await?;
    ensure_eq!((receipt.balance_after, receipt.replayed), (Money::ZERO, false));
    Ok(())
}

async fn fifty_debits_of_one_from_twenty_five_leave_nothing(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    credit(&*storage, alice, "25").await?;
    let one = "1".parse()?;
    let answers = together(50, |_| {
        let storage = storage.clone();
        async move { storage.subtract_balance(SubtractBalance::new(alice, one)).await }
    })
    .await?;
    let mut left: Vec<i64> = answers.iter().flatten().map(|receipt| receipt.balance_after.micros()).collect();
    left.sort_unstable();
    ensure_eq!(left, (0..25).map(|units| units * 1_000_000).collect::<Vec<_>>());
    for refusal in answers.into_iter().filter(Result::is_err) {
        crate::expect::refused(refusal, &insufficient("0", "1")?)?;
    }
    ensure_eq!(balance(&*storage, alice).await?, "0.00");
    ensure_eq!(rows(&*storage, alice).await?.len(), 26);
    clean(&*storage).await
}

async fn fifty_credits_answer_fifty_balances(context: Context) -> Check {
    let storage = context.open().await?;
    let (alice, one) = (context.alice, "1".parse()?);
    let answers = together(50, |_| {
        let storage = storage.clone();
        async move { storage.add_balance(AddBalance::new(alice, one)).await }
    })
    .await?;
    ensure_eq!(count(&answers, Result::is_ok), 50);
    let receipts: Vec<_> = answers.into_iter().flatten().collect();
    all_different(&receipts.iter().map(|receipt| receipt.balance_after).collect::<Vec<_>>())?;
    all_different(&receipts.iter().map(|receipt| receipt.operation).collect::<Vec<_>>())?;
    for row in rows(&*storage, alice).await? {
        let receipt = receipts.iter().find(|receipt| receipt.operation == row.operation);
        ensure_eq!(present(receipt, "the row's receipt")?.balance_after, row.balance_after);
    }
    ensure_eq!(balance(&*storage, alice).await?, "50.00");
    clean(&*storage).await
}

async fn two_users_money_is_kept_apart(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "10").await?;
    credit(&*storage, context.bob, "20").await?;
    let before = dump_text(&*storage).await?;
    debit(&*storage, context.alice, "3").await?;
    ensure_eq!(balance(&*storage, context.bob).await?, "20.00");
    ensure_eq!(dump_text(&*storage).await? == before, false);
    ensure_eq!(ledger(&*storage, context.bob).await?, ["credit +20.00 +0.00 = 20.00 0.00"]);
    clean(&*storage).await
}
