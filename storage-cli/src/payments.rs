//! `storage payments`: asked for, approved once, refunded once.

use std::sync::Arc;

use serde_json::json;
use storage_core::{
    Error, ListPayments, MarkPaymentStatus, Payment, PaymentId, PaymentOrigin, PaymentStatus, RefundPayment, Storage,
    Stored,
};

use crate::args::{DecisionArgs, PaymentsCommand};
use crate::confirm::Plan;
use crate::context::Context;
use crate::exit::{Exit, Outcome, quoted};
use crate::output::{Table, facts, or_dash, short, when};

pub(crate) async fn run(context: &Context, command: PaymentsCommand) -> Outcome {
    match command {
        PaymentsCommand::List { user, status, page } => {
            list(context, ListPayments { user, status, page: page.request()? }).await
        }
        PaymentsCommand::Show { payment } => show(context, &payment).await,
        PaymentsCommand::Approve(arguments) => decide(context, arguments, PaymentStatus::Approved).await,
        PaymentsCommand::Reject(arguments) => decide(context, arguments, PaymentStatus::Rejected).await,
        PaymentsCommand::Refund(arguments) => decide(context, arguments, PaymentStatus::Refunded).await,
    }
}

async fn list(context: &Context, list: ListPayments) -> Outcome {
    let payments = context.looking_at_store(async |storage| Ok(storage.list_payments(list).await?)).await?;
    context.out.page(&payments, "payments", || {
        let mut table = Table::new(&["payment", "user", "amount>", "status", "method", "created (UTC)"]);
        for payment in &payments.items {
            table.row([
                payment.id.to_string(),
                payment.user.to_string(),
                payment.amount.to_string(),
                payment.status.to_string(),
                short(payment.method.as_str(), 24),
                when(payment.created_at),
            ]);
        }
        table
    })?;
    Ok(Exit::Done)
}

async fn find(storage: &dyn Storage, id: &PaymentId) -> Result<Arc<Payment>, Error> {
    storage.get_payment(id).await?.ok_or_else(|| Error::not_found("payment", id))
}

async fn show(context: &Context, id: &PaymentId) -> Outcome {
    let payment = context.looking_at_store(async |storage| Ok(find(storage, id).await?)).await?;
    context.out.answer(&*payment, || {
        let origin = match payment.origin {
            PaymentOrigin::Here => "made here",
            PaymentOrigin::Imported => "imported; decided elsewhere, it never credits here",
            PaymentOrigin::ByHand => "approved by hand; it was never credited here, and no refund takes money",
        };
        let about = [
            ("user", payment.user.to_string()),
            ("amount", payment.amount.to_string()),
            ("status", payment.status.to_string()),
            ("method", payment.method.to_string()),
            ("origin", origin.to_owned()),
            ("provider key", or_dash(payment.provider_key.as_ref())),
            ("screenshot", or_dash(payment.screenshot_file_id.as_ref())),
            ("admin", or_dash(payment.admin.as_ref())),
            ("notes", or_dash(payment.notes.as_ref())),
            ("created", format!("{} UTC", when(payment.created_at))),
            ("updated", format!("{} UTC", when(payment.updated_at))),
        ];
        format!("Payment {}\n{}", payment.id, facts("  ", &about))
    })?;
    Ok(Exit::Done)
}

async fn decide(context: &Context, arguments: DecisionArgs, status: PaymentStatus) -> Outcome {
    let DecisionArgs { payment: id, key, reason, admin } = arguments;
    let (store, found) = context
        .planning(async |storage| {
            let payment = find(storage, &id).await?;
            let balance = storage.get_balance(payment.user).await?;
            Ok((payment, balance))
        })
        .await?;
    let (payment, balance) = found.ok_or_else(|| context.no_store())?;
    let mark = MarkPaymentStatus { payment: id, status, admin, notes: reason, key };
    let done = payment.status == status;
    if !done {
        payment.may_become(status)?;
    }
    let user = payment.user;
    let moves = match (status, payment.origin) {
        _ if done => "nothing: it is so already",
        (PaymentStatus::Approved, _) => "the amount is credited to the user",
        (PaymentStatus::Refunded, _) => "the amount is taken from the user's balance",
        _ => "no money",
    };
    let mut plan = Plan::new(&store, format!("payment {} will be {status}", payment.id));
    plan.add("user", user.to_string());
    plan.add("amount", payment.amount.to_string());
    plan.add("status now", payment.status.as_str());
    plan.add("balance now", balance.to_string());
    plan.add("moves", moves);
    if !plan.approve(context)? {
        return Ok(Exit::Done);
    }
    let (Stored { record, replayed }, balance) = context
        .with_store(async |storage| {
            let stored = if status == PaymentStatus::Refunded {
                let MarkPaymentStatus { payment, status: _, admin, notes, key } = mark;
                storage.refund_payment(RefundPayment { payment, admin, notes, key }).await
            } else {
                storage.mark_payment_status(mark).await
            };
            Ok((stored?, storage.get_balance(user).await?))
        })
        .await?;
    let object = json!({ "payment": record, "replayed": replayed, "balance": balance });
    let printed = context.out.answer(&object, || {
        let again = if replayed { " already; nothing changed now" } else { "" };
        format!(
            "payment {} is {}{again}: {} of user {user}\nbalance: {balance}",
            record.id, record.status, record.amount
        )
    });
    printed.map_err(|failure| failure.after_change(format!("storage payments show {}", quoted(record.id.as_str()))))?;
    Ok(Exit::Done)
}
