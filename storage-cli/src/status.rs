//! `storage status`: which store, and what is in it.

use serde::Serialize;
use storage_core::{
    BackendInfo, Error, HoldStatus, ListPayments, ListReserves, PageRequest, PageSize, PaymentStatus, Storage, Total,
};

use crate::context::Context;
use crate::exit::{Exit, Outcome};
use crate::output::facts;

/// Users and their money, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Totals {
    pub(crate) users: u64,
    pub(crate) balance_sum: Total,
}

impl Totals {
    /// Of the whole store.
    pub(crate) async fn of(storage: &dyn Storage) -> Result<Self, Error> {
        let mut totals = Self::default();
        let mut page = PageRequest::first(PageSize::MAX);
        loop {
            let users = storage.list_users(page).await?;
            for user in &users.items {
                totals.users += 1;
                totals.balance_sum = totals.balance_sum.plus(user.balance);
            }
            let Some(next) = users.next else { return Ok(totals) };
            page = PageRequest::after(PageSize::MAX, next);
        }
    }
}

#[derive(Debug, Serialize)]
struct Status {
    exists: bool,
    backend: BackendInfo,
    #[serde(flatten)]
    contents: Option<Contents>,
}

#[derive(Debug, Serialize)]
struct Contents {
    #[serde(flatten)]
    totals: Totals,
    held: Total,
    open_holds: u64,
    pending_payments: u64,
}

pub(crate) async fn status(context: &Context) -> Outcome {
    if !context.choice.exists() {
        let location = context.choice.location();
        let backend = BackendInfo {
            name: "json".to_owned(),
            reason: context.choice.reason.clone(),
            location: location.clone(),
            warnings: Vec::new(),
        };
        context.out.answer(&Status { exists: false, backend, contents: None }, || {
            format!("no store yet at {location}; run: storage import DIR, or just start the bot")
        })?;
        return Ok(Exit::Done);
    }
    let (backend, contents) =
        context.looking_at_store(async |storage| Ok((storage.backend(), contents(storage).await?))).await?;
    let text = format!(
        "{backend}\n{}",
        facts(
            "  ",
            &[
                ("users", contents.totals.users.to_string()),
                ("balances", contents.totals.balance_sum.to_string()),
                ("held", format!("{} in {} holds", contents.held, contents.open_holds)),
                ("payments to decide", contents.pending_payments.to_string()),
            ]
        )
    );
    context.out.answer(&Status { exists: true, backend, contents: Some(contents) }, || text)?;
    Ok(Exit::Done)
}

async fn contents(storage: &dyn Storage) -> Result<Contents, Error> {
    let totals = Totals::of(storage).await?;
    let (mut held, mut open_holds, mut pending_payments) = (Total::ZERO, 0, 0);
    let mut holds = ListReserves { status: Some(HoldStatus::Open), ..ListReserves::default() };
    holds.page.size = PageSize::MAX;
    loop {
        let page = storage.list_reserves(holds.clone()).await?;
        open_holds += page.items.len() as u64;
        held = page.items.iter().fold(held, |held, hold| held.plus(hold.amount.money()));
        holds.page.after = page.next;
        if holds.page.after.is_none() {
            break;
        }
    }
    let mut payments = ListPayments { status: Some(PaymentStatus::Pending), ..ListPayments::default() };
    payments.page.size = PageSize::MAX;
    loop {
        let page = storage.list_payments(payments.clone()).await?;
        pending_payments += page.items.len() as u64;
        payments.page.after = page.next;
        if payments.page.after.is_none() {
            return Ok(Contents { totals, held, open_holds, pending_payments });
        }
    }
}
