//! The ledger and the audit.

use storage_core::{AddBalance, AuditScope, ListOperations, Money, Policy, Total};

use crate::check::{Check, ensure, ensure_eq};
use crate::context::Context;
use crate::expect::{Expected, refused};
use crate::scenario::list_scenarios;
use crate::steps::{all_different, approve, balance, clean, credit, debit, hold, ledger, pay, rows};

list_scenarios! {
    "operations":
    one_row_for_each_change_of_money ["list_operations"];
    rows_are_numbered_without_gaps_for_each_user ["list_operations"];
    a_row_names_operation_key_and_time ["list_operations", "R6"];
    without_a_key_each_row_has_a_minted_one ["list_operations", "R6"];
    rows_never_change ["list_operations"];
    what_moves_no_money_writes_no_row ["list_operations"];
    the_newest_row_comes_first ["list_operations", "R11"];
    a_cursor_of_another_users_ledger_is_refused ["list_operations", "R11"];
    an_unknown_users_ledger_is_empty ["list_operations", "audit", "R1"];
    an_audit_adds_everything_up ["audit"];
    an_audit_of_one_user_looks_at_one ["audit"];
    totals_are_wider_than_a_balance ["audit", "V2"];
    every_kind_of_change_keeps_the_audit_clean ["audit", "list_operations"];
}

async fn one_row_for_each_change_of_money(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    credit(&*storage, alice, "10").await?;
    debit(&*storage, alice, "1").await?;
    pay(&*storage, alice, "p-1", "5").await?;
    approve(&*storage, "p-1").await?;
    hold(&*storage, alice, "job-1", "4").await?;
    storage.commit_reserve(storage_core::CommitReserve::new(alice, "job-1".parse()?)).await?;
    hold(&*storage, alice, "job-2", "2").await?;
    storage.release_reserve(storage_core::ReleaseReserve::new(alice, "job-2".parse()?)).await?;
    storage.refund_payment(storage_core::RefundPayment::new("p-1".parse()?)).await?;
    storage.set_balance(storage_core::SetBalance::new(alice, "7".parse()?)).await?;
    ensure_eq!(
        ledger(&*storage, alice).await?,
        [
            "credit +10.00 +0.00 = 10.00 0.00",
            "debit -1.00 +0.00 = 9.00 0.00",
            "payment +5.00 +0.00 = 14.00 0.00 (p-1)",
            "hold -4.00 +4.00 = 10.00 4.00 (job-1)",
            "commit +0.00 -4.00 = 10.00 0.00 (job-1)",
            "hold -2.00 +2.00 = 8.00 2.00 (job-2)",
            "release +2.00 -2.00 = 10.00 0.00 (job-2)",
            "refund -5.00 +0.00 = 5.00 0.00 (p-1)",
            "adjustment +2.00 +0.00 = 7.00 0.00",
        ]
    );
    clean(&*storage).await
}

async fn rows_are_numbered_without_gaps_for_each_user(context: Context) -> Check {
    let storage = context.open().await?;
    for round in 1..=5 {
        for user in [context.alice, context.bob, context.carol] {
            credit(&*storage, user, "1").await?;
            // A refusal leaves no gap behind.
            let too_much = storage_core::SubtractBalance::new(user, "100".parse()?);
            let round = round.to_string();
            refused(storage.subtract_balance(too_much).await, &crate::expect::insufficient(&round, "100")?)?;
        }
    }
    for user in [context.alice, context.bob, context.carol] {
        ensure_eq!(ledger(&*storage, user).await?.len(), 5);
    }
    Ok(())
}

async fn a_row_names_operation_key_and_time(context: Context) -> Check {
    let storage = context.open().await?;
    let add = AddBalance::new(context.alice, "10".parse()?).with_key("webhook-17".parse()?);
    let receipt = storage.add_balance(add).await?;
    let at = context.now();
    context.clock.advance_secs(60);
    let rows = rows(&*storage, context.alice).await?;
    ensure_eq!(rows.len(), 1);
    ensure_eq!((rows[0].user, rows[0].seq, rows[0].at), (context.alice, 1, at));
    ensure_eq!(rows[0].operation, receipt.operation);
    ensure_eq!(rows[0].key.as_str(), "webhook-17");
    Ok(())
}

async fn without_a_key_each_row_has_a_minted_one(context: Context) -> Check {
    let storage = context.open().await?;
    for _ in 0..5 {
        credit(&*storage, context.alice, "1").await?;
    }
    let rows = rows(&*storage, context.alice).await?;
    all_different(&rows.iter().map(|row| row.key.clone()).collect::<Vec<_>>())?;
    all_different(&rows.iter().map(|row| row.operation).collect::<Vec<_>>())
}

async fn rows_never_change(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "10").await?;
    hold(&*storage, context.alice, "job-1", "4").await?;
    let before = rows(&*storage, context.alice).await?;
    context.clock.advance_secs(60);
    storage.release_reserve(storage_core::ReleaseReserve::new(context.alice, "job-1".parse()?)).await?;
    debit(&*storage, context.alice, "3").await?;
    let after = rows(&*storage, context.alice).await?;
    ensure_eq!(after[2..], before[..]);
    Ok(())
}

async fn what_moves_no_money_writes_no_row(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    storage.get_user(alice).await?;
    pay(&*storage, alice, "p-1", "5").await?;
    crate::steps::mark(&*storage, "p-1", storage_core::PaymentStatus::Rejected).await?;
    crate::steps::order(&*storage, alice, "job-1").await?;
    crate::steps::record(&*storage, alice, "g-1", "7.50").await?;
    storage.increment_free_generations(storage_core::IncrementFreeGenerations::new(alice)).await?;
    ensure_eq!(ledger(&*storage, alice).await?, Vec::<String>::new());
    ensure_eq!(balance(&*storage, alice).await?, "0.00");
    clean(&*storage).await
}

async fn the_newest_row_comes_first(context: Context) -> Check {
    let storage = context.open().await?;
    for _ in 0..7 {
        credit(&*storage, context.alice, "1").await?;
        // The order is the rows' own, whatever the clock says.
        context.clock.advance_secs(-30);
    }
    let numbers: Vec<u64> = rows(&*storage, context.alice).await?.iter().map(|row| row.seq).collect();
    ensure_eq!(numbers, [7, 6, 5, 4, 3, 2, 1]);
    Ok(())
}

async fn a_cursor_of_another_users_ledger_is_refused(context: Context) -> Check {
    let storage = context.open().await?;
    for user in [context.alice, context.bob] {
        for _ in 0..3 {
            credit(&*storage, user, "1").await?;
        }
    }
    let page = |user, after| ListOperations { user, page: storage_core::PageRequest { size: one_row(), after } };
    let next = storage.list_operations(page(context.alice, None)).await?.next;
    ensure!(next.is_some(), "two more rows follow");
    let second = storage.list_operations(page(context.alice, next.clone())).await?;
    ensure_eq!(second.items[0].seq, 2);
    refused(storage.list_operations(page(context.bob, next)).await, &Expected::Invalid("cursor"))
}

fn one_row() -> storage_core::PageSize {
    storage_core::PageSize::new(1).unwrap_or_default()
}

async fn an_unknown_users_ledger_is_empty(context: Context) -> Check {
    let storage = context.open().await?;
    let page = storage.list_operations(ListOperations::of(context.alice)).await?;
    ensure_eq!((page.items.len(), page.next), (0, None));
    let report = storage.audit(AuditScope::User(context.alice)).await?;
    ensure_eq!((report.rows, report.balances, report.held, report.findings.len()), (0, Total::ZERO, Total::ZERO, 0));
    ensure_eq!(storage.find_user(context.alice).await?, None, "a read created a user");
    Ok(())
}

async fn an_audit_adds_everything_up(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "10").await?;
    credit(&*storage, context.bob, "20.5").await?;
    hold(&*storage, context.bob, "job-1", "0.5").await?;
    storage.get_user(context.carol).await?;
    let report = storage.audit(AuditScope::Everyone).await?;
    ensure_eq!((report.users, report.rows), (3, 3));
    ensure_eq!((report.balances.to_string().as_str(), report.held.to_string().as_str()), ("30.00", "0.50"));
    ensure_eq!(report.findings, Vec::new());
    Ok(())
}

async fn an_audit_of_one_user_looks_at_one(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "10").await?;
    credit(&*storage, context.alice, "1").await?;
    credit(&*storage, context.bob, "20").await?;
    let report = storage.audit(AuditScope::User(context.alice)).await?;
    ensure_eq!((report.users, report.rows), (1, 2));
    ensure_eq!(report.balances.to_string(), "11.00");
    ensure!(report.is_clean(), "{:?}", report.findings);
    Ok(())
}

async fn totals_are_wider_than_a_balance(context: Context) -> Check {
    let storage = context.open_with(Policy::default()).await?;
    for user in 1..=20 {
        credit(&*storage, context.user(user)?, "999999999999.999999").await?;
    }
    let report = storage.audit(AuditScope::Everyone).await?;
    ensure_eq!(report.balances.to_string(), "19999999999999.99998");
    ensure_eq!(storage.get_balance(context.user(20)?).await?, Money::MAX);
    clean(&*storage).await
}

async fn every_kind_of_change_keeps_the_audit_clean(context: Context) -> Check {
    let storage = context.open().await?;
    let alice = context.alice;
    credit(&*storage, alice, "100").await?;
    for round in 0..5 {
        let (payment, name) = (format!("p-{round}"), format!("job-{round}"));
        pay(&*storage, alice, &payment, "3").await?;
        approve(&*storage, &payment).await?;
        clean(&*storage).await?;
        hold(&*storage, alice, &name, "2").await?;
        clean(&*storage).await?;
        let amount = (round % 2 == 0).then(|| "0.75".parse()).transpose()?;
        let commit = storage_core::CommitReserve::new(alice, name.parse()?);
        storage.commit_reserve(storage_core::CommitReserve { amount, ..commit }).await?;
        clean(&*storage).await?;
        if round > 2 {
            storage.refund_payment(storage_core::RefundPayment::new(payment.parse()?)).await?;
            clean(&*storage).await?;
        }
    }
    // 100 + 5 * 3 - 2 * 3 - 3 * 0.75 - 2 * 2
    ensure_eq!(balance(&*storage, alice).await?, "102.75");
    Ok(())
}
