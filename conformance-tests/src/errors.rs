//! Errors: one type, a message that says what failed and what to do, nothing twice, no secrets.

use std::error::Error as _;
use std::io::Cursor;

use storage_core::{Error, MarkPaymentStatus, PaymentStatus, RefundPayment, SetReferrer, Storage, SubtractBalance};

use crate::calls::{every_read, every_write};
use crate::check::{Check, Failure, ensure, ensure_eq};
use crate::context::{Context, keeping};
use crate::scenario::list_scenarios;
use crate::steps::{credit, job, order, pay, payment};

list_scenarios! {
    "errors":
    a_refusal_names_operation_record_and_figures ["E1"];
    an_error_names_the_operation_that_was_called ["E1"];
    a_message_says_nothing_twice ["E1"];
    a_damaged_dump_is_named_by_line ["E1", "R12"];
    a_policy_mismatch_says_what_to_run ["E1", "V12"] needs [Reopen];
    nothing_shown_holds_a_secret ["E2", "backend"];
}

fn error_of<T: std::fmt::Debug>(answer: storage_core::Result<T>) -> Check<Error> {
    match answer {
        Err(error) => Ok(error),
        Ok(value) => Err(Failure::new(format!("should have failed: {value:?}"))),
    }
}

/// One refusal of each kind, with what its message must name.
async fn refusals(context: &Context, storage: &dyn Storage) -> Check<Vec<(Error, Vec<&'static str>)>> {
    let (alice, bob) = (context.alice, context.bob);
    credit(storage, alice, "2.50").await?;
    pay(storage, alice, "p-1", "1").await?;
    order(storage, alice, "job-1").await?;
    storage.set_referrer(SetReferrer::new(alice, bob)).await?;
    let short = storage.subtract_balance(SubtractBalance::new(alice, "7.25".parse()?)).await;
    let unknown = storage.mark_payment_status(MarkPaymentStatus::new("p-9".parse()?, PaymentStatus::Approved)).await;
    let early = storage.refund_payment(RefundPayment::new("p-1".parse()?)).await;
    let taken = storage.add_payment(payment(bob, "p-1", "1")?).await;
    let double = storage.add_generation_job(job(bob, "job-1")?).await;
    let circle = storage.set_referrer(SetReferrer::new(bob, alice)).await;
    Ok(vec![
        (error_of(short)?, vec!["subtract_balance", "2.50", "7.25"]),
        (error_of(unknown)?, vec!["mark_payment_status", "payment", "p-9"]),
        (error_of(early)?, vec!["refund_payment", "p-1", "pending", "refunded"]),
        (error_of(taken)?, vec!["add_payment", "payment", "p-1"]),
        (error_of(double)?, vec!["add_generation_job", "job", "job-1"]),
        (error_of(circle)?, vec!["set_referrer", "referrer"]),
    ])
}

async fn a_refusal_names_operation_record_and_figures(context: Context) -> Check {
    let storage = context.open().await?;
    for (error, names) in refusals(&context, &*storage).await? {
        for name in names {
            ensure!(error.to_string().contains(name), "{name:?} is missing from {error}");
        }
        ensure!(error.operation().is_some(), "no operation in {error:?}");
    }
    Ok(())
}

async fn an_error_names_the_operation_that_was_called(context: Context) -> Check {
    let storage = context.open().await?;
    storage.close().await?;
    let mut answers = every_read(&*storage, context.alice).await?;
    answers.extend(every_write(&storage, context.alice).await?);
    for (call, answer) in answers {
        let error = error_of(answer)?;
        // A call may say more than the name: "audit of one".
        ensure_eq!(error.operation(), call.split(' ').next(), "{error}");
    }
    Ok(())
}

async fn a_message_says_nothing_twice(context: Context) -> Check {
    let storage = context.open().await?;
    for (error, _) in refusals(&context, &*storage).await? {
        let text = error.to_string();
        if let Some(source) = error.source() {
            ensure!(!text.contains(&source.to_string()), "{text:?} repeats its source {source}");
        }
        let kind = error.kind().to_string();
        ensure_eq!(text.matches(kind.as_str()).count(), 1, "{text:?}");
        let operation = error.operation().unwrap_or("no operation");
        ensure_eq!(text.matches(operation).count(), 1, "{text:?}");
        ensure!(!text.contains('\n') && !text.ends_with('.'), "{text:?}");
    }
    Ok(())
}

async fn a_damaged_dump_is_named_by_line(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "1").await?;
    let dump = crate::steps::dump_text(&*storage).await?;
    let damaged = dump.replacen("\"record\":\"ledger\"", "\"record\":\"ledgre\"", 1);
    let line = dump.lines().position(|line| line.contains("\"record\":\"ledger\"")).unwrap_or(0) as u64 + 1;
    let there = context.elsewhere().await?.open().await?;
    let error = error_of(there.restore(&mut Cursor::new(damaged.as_bytes())).await)?;
    match error.kind() {
        storage_core::ErrorKind::Corrupt(place) => ensure_eq!(place.line, Some(line), "{error}"),
        _ => return Err(error.into()),
    }
    Ok(())
}

async fn a_policy_mismatch_says_what_to_run(context: Context) -> Check {
    let storage = context.open().await?;
    credit(&*storage, context.alice, "1").await?;
    storage.close().await?;
    drop(storage);
    let error = error_of(context.try_open(keeping(7)).await.map(drop))?;
    match error.kind() {
        storage_core::ErrorKind::SchemaMismatch { found, wanted, run } => {
            for part in [found, wanted, run] {
                ensure!(!part.is_empty() && error.to_string().contains(part.as_str()), "{part:?} in {error}");
            }
        }
        _ => return Err(error.into()),
    }
    Ok(())
}

async fn nothing_shown_holds_a_secret(context: Context) -> Check {
    let storage = context.open().await?;
    let info = storage.backend();
    let mut shown = vec![format!("{storage:?}"), format!("{info:?}"), info.to_string()];
    for (error, _) in refusals(&context, &*storage).await? {
        shown.extend([error.to_string(), format!("{error:?}"), error.report().to_string()]);
    }
    for text in shown {
        // A URL with a user part, or a password by name.
        let credentials = text
            .split("://")
            .skip(1)
            .any(|rest| rest.split(['/', ' ', '"']).next().is_some_and(|authority| authority.contains('@')));
        ensure!(!credentials && !text.to_lowercase().contains("password="), "{text}");
    }
    Ok(())
}
