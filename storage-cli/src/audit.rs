//! `storage audit`: the ledger added up and compared.

use serde_json::json;
use storage_core::{AuditReport, AuditScope, UserId};

use crate::context::Context;
use crate::exit::{Exit, Outcome};
use crate::output::{Table, facts};

pub(crate) async fn audit(context: &Context, user: Option<UserId>) -> Outcome {
    let scope = user.map_or(AuditScope::Everyone, AuditScope::User);
    let report = context.looking_at_chosen_store(async |storage| Ok(storage.audit(scope).await?)).await?;
    let object = json!({
        "clean": report.is_clean(),
        "users": report.users,
        "rows": report.rows,
        "balances": report.balances,
        "held": report.held,
        "findings": report.findings,
    });
    context.out.answer(&object, || to_text(context, &report))?;
    Ok(if report.is_clean() { Exit::Done } else { Exit::Differences })
}

fn to_text(context: &Context, report: &AuditReport) -> String {
    let about = [
        ("users", report.users.to_string()),
        ("ledger rows", report.rows.to_string()),
        ("balances", report.balances.to_string()),
        ("held", report.held.to_string()),
    ];
    let about = facts("  ", &about);
    if report.is_clean() {
        return format!("Audit\n{about}\naudit: {}, the ledger explains every balance", context.out.good("clean"));
    }
    let mut table = Table::new(&["user", "problem"]);
    for finding in &report.findings {
        table.row([finding.user.to_string(), finding.problem.clone()]);
    }
    let count = report.findings.len();
    format!("Audit\n{about}\n{}\naudit: {}", table.to_text("  "), context.out.bad(&format!("{count} findings")))
}
