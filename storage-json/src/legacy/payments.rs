//! Payments: all four shapes, which one file can mix. None of them credits here.

use storage_core::{
    Amount, FileId, ImportRecord, Note, Payment, PaymentId, PaymentMethod, PaymentOrigin, PaymentStatus, Result, legacy,
};

use super::fields::{Attempt, Read, broken, object, owner, present, ruled, same_id, text, user_of};
use super::gather::Gather;
use super::report::UncertainPayment;
use super::source_files::LegacyFile;
use crate::json_text::{Node, NodeValue};

/// Reads `payments.json`.
pub(super) fn read(gather: &mut Gather<'_>, file: &LegacyFile) -> Result<()> {
    let before = (gather.report.uncertain_payments.len(), gather.report.uncertain_sum);
    gather.each_record(file, &mut payment)?;
    let count = gather.report.uncertain_payments.len() - before.0;
    if count > 0 {
        let sum = storage_core::Total::from_micros(gather.report.uncertain_sum.micros() - before.1.micros());
        gather.file_note(
            &file.name,
            format!("{count} approved payments, {sum} together, may never have been credited: compare them with the balances"),
        );
    }
    Ok(())
}

fn payment(gather: &mut Gather<'_>, attempt: &mut Attempt<'_>, node: &Node<'_>) -> Read<Option<ImportRecord>> {
    object(node)?;
    let id = ruled("payment_id", PaymentId::new(attempt.key))?;
    same_id(attempt.key, node, "payment_id")?;
    let user = owner(node)?;
    let Some(amount) = attempt.optional_money(node, "amount")? else { return broken("amount", "is missing") };
    let amount = ruled("amount", Amount::new(amount))?;
    let Some(word) = text(node, "status")? else { return broken("status", "is missing") };
    let Some(status) = legacy::payment_status(word) else {
        return broken("status", format_args!("the word {word:?} is unknown"));
    };
    let charged = charged(node)?;
    if charged == Some(true) && status == PaymentStatus::Pending {
        // Whoever approved it here would credit it a second time.
        return broken("status", "is pending, but balance_charged says that it was credited: decide which is true");
    }
    if charged == Some(true) && status != PaymentStatus::Approved {
        attempt.note(format!("{status}, but balance_charged says that it was credited: compare it with the balance"));
    }
    let method = text(node, "payment_method")?;
    if method.is_none() {
        attempt.note("no payment_method: \"unknown\" was put in");
    }
    let method = ruled("payment_method", PaymentMethod::new(method.unwrap_or("unknown")))?;
    let screenshot_file_id = text(node, "screenshot_file_id")?;
    let screenshot_file_id = screenshot_file_id.map(|id| ruled("screenshot_file_id", FileId::new(id))).transpose()?;
    let notes = text(node, "notes")?.map(|notes| ruled("notes", Note::new(notes))).transpose()?;
    let admin = match present(node, "admin_id") {
        Some(Node { raw: "0", .. }) | None => None,
        Some(admin) => Some(user_of("admin_id", admin)?),
    };
    let created_at = attempt.moment(node, &["created_at", "timestamp"], &["updated_at"])?;
    let updated_at = attempt.time(node, "updated_at")?.unwrap_or(created_at);
    let origin = match status {
        PaymentStatus::Pending => PaymentOrigin::Here,
        _ => PaymentOrigin::Imported,
    };
    // `completed` was written when the money was credited, `approved` whether it was or not.
    let uncertain = status == PaymentStatus::Approved && !charged.unwrap_or(word == "completed");
    if uncertain {
        let (file, key) = (attempt.file.name.to_string(), attempt.key.to_owned());
        gather.report.uncertain_sum = gather.report.uncertain_sum.plus(amount.money());
        gather.report.uncertain_payments.push(UncertainPayment { file, key, user, amount: amount.money() });
    }
    Ok(Some(ImportRecord::Payment(Payment {
        id,
        user,
        amount,
        method,
        screenshot_file_id,
        provider_key: None,
        status,
        admin,
        notes,
        origin,
        created_at,
        updated_at,
    })))
}

/// Whether the record says that it was credited.
fn charged(node: &Node<'_>) -> Read<Option<bool>> {
    match present(node, "balance_charged").map(|node| (&node.value, node)) {
        None => Ok(None),
        Some((NodeValue::Bool(charged), _)) => Ok(Some(*charged)),
        Some((_, node)) => broken("balance_charged", format_args!("must be true or false, not {}", node.kind())),
    }
}
