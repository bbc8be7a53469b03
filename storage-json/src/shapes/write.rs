//! Writing the files: one entry a line, money as decimal numbers, times in UTC without a zone, as the original had them.

use std::fmt::Display;

use serde_json::json;
use storage_core::{AccountRecord, Error, Generation, Job, Payment, PaymentOrigin, Result, Timestamp};

use super::{LISTS, NO_DATE};
use crate::state::{FileId, State};

/// An object being written, one entry a line.
struct Entries {
    bytes: Vec<u8>,
    any: bool,
}

impl Entries {
    fn new() -> Self {
        Self { bytes: b"{".to_vec(), any: false }
    }
    fn key(&mut self, key: &str) -> Result<()> {
        self.bytes.extend_from_slice(if self.any { b",\n  " } else { b"\n  " });
        self.any = true;
        self.json(&key)?;
        self.text(": ");
        Ok(())
    }
    fn text(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }
    fn json(&mut self, value: &(impl serde::Serialize + ?Sized)) -> Result<()> {
        serde_json::to_writer(&mut self.bytes, value)
            .map_err(|error| Error::internal("a record could not be serialised").caused_by(error))
    }
    fn entry(&mut self, key: &str, value: &str) -> Result<()> {
        self.key(key)?;
        self.text(value);
        Ok(())
    }
    fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(if self.any { b"\n}\n" } else { b"}\n" });
        self.bytes
    }
}

/// Fields of one object, on one line.
struct Fields<'a> {
    out: &'a mut Entries,
    any: bool,
}

impl<'a> Fields<'a> {
    fn new(out: &'a mut Entries) -> Self {
        out.text("{");
        Self { out, any: false }
    }
    fn name(&mut self, name: &str) {
        let comma = if self.any { ", " } else { "" };
        self.any = true;
        self.out.text(&format!("{comma}\"{name}\": "));
    }
    /// A number: its text as it is.
    fn number(mut self, name: &str, value: impl Display) -> Self {
        self.name(name);
        self.out.text(&value.to_string());
        self
    }
    fn json(mut self, name: &str, value: &(impl serde::Serialize + ?Sized)) -> Result<Self> {
        self.name(name);
        self.out.json(value)?;
        Ok(self)
    }
    fn time(self, name: &str, value: Timestamp) -> Result<Self> {
        self.json(name, &value.to_naive_iso())
    }
    fn raw(mut self, name: &str, json: &str) -> Self {
        self.name(name);
        self.out.text(json);
        self
    }
    fn close(self) {
        self.out.text("}");
    }
}

/// The bytes of one file.
pub(crate) fn write(file: FileId, state: &State) -> Result<Vec<u8>> {
    let mut out = Entries::new();
    let accounts = state.accounts.values().map(|account| &account.record);
    match file {
        FileId::Balances => {
            for record in accounts {
                out.entry(&record.user.to_string(), &record.balance.to_string())?;
            }
        }
        FileId::Languages => {
            for (record, language) in accounts.filter_map(|record| Some((record, record.language.as_ref()?))) {
                out.entry(&record.user.to_string(), &json!(language).to_string())?;
            }
        }
        FileId::Gifts => {
            for record in accounts.filter(|record| record.gift_claimed) {
                out.entry(&record.user.to_string(), "true")?;
            }
        }
        FileId::Quotas => {
            for record in accounts.filter(|record| record.quota() != storage_core::Quota::default()) {
                out.key(&record.user.to_string())?;
                let date = record.quota_date.map_or_else(|| NO_DATE.to_owned(), |date| date.to_string());
                let fields = Fields::new(&mut out).json("date", &date)?;
                fields.number("count", record.quota_used).number("bonus", record.bank).close();
            }
        }
        FileId::AdminLimits => {
            for (record, limit) in accounts.filter_map(|record| Some((record, record.admin_limit?))) {
                out.key(&record.user.to_string())?;
                Fields::new(&mut out).number("limit", limit).number("spent", record.spent).close();
            }
        }
        FileId::Referrals => referrals(state, &mut out)?,
        FileId::History => history(state, &mut out)?,
        FileId::Payments => {
            for payment in state.payments_by_time.iter().filter_map(|(_, id)| state.payments.get(id)) {
                write_payment(payment, &mut out)?;
            }
        }
        FileId::Jobs => {
            for job in state.jobs_by_time.iter().filter_map(|(_, id)| state.jobs.get(id)) {
                write_job(job, &mut out)?;
            }
        }
        FileId::Users => {
            for record in accounts {
                write_user(record, &mut out)?;
            }
        }
        FileId::Holds => {
            for ((user, name), hold) in &state.holds {
                out.key(&format!("{user}/{name}"))?;
                out.json(&**hold)?;
            }
        }
    }
    Ok(out.finish())
}

fn referrals(state: &State, out: &mut Entries) -> Result<()> {
    for record in state.accounts.values().map(|account| &account.record) {
        if let Some(referrer) = record.referrer {
            out.entry(&record.user.to_string(), &referrer.to_string())?;
        }
    }
    if state.referred.is_empty() {
        return Ok(());
    }
    out.key(LISTS)?;
    let mut last = None;
    for (referrer, _, user) in &state.referred {
        match last {
            Some(open) if open == *referrer => out.text(&format!(", {user}")),
            open => {
                out.text(if open.is_some() { "],\n    " } else { "{\n    " });
                out.text(&format!("\"{referrer}\": [{user}"));
            }
        }
        last = Some(*referrer);
    }
    out.text("]\n  }");
    Ok(())
}

fn history(state: &State, out: &mut Entries) -> Result<()> {
    let mut last = None;
    for (user, generation) in state.history.all() {
        if last == Some(user) {
            out.text(",\n    ");
        } else {
            if last.is_some() {
                out.text("\n  ]");
            }
            out.key(&user.to_string())?;
            out.text("[\n    ");
        }
        last = Some(user);
        let Generation { id, model_id, model_name, params, result_urls, price, at } = &**generation;
        Fields::new(out)
            .json("id", id)?
            .json("model_id", model_id)?
            .json("model_name", model_name)?
            .raw("params", params.as_json())
            .json("result_urls", result_urls)?
            .number("price", price)
            .time("timestamp", *at)?
            .close();
    }
    if last.is_some() {
        out.text("\n  ]");
    }
    Ok(())
}

fn write_payment(payment: &Payment, out: &mut Entries) -> Result<()> {
    let Payment {
        id,
        user,
        amount,
        method,
        screenshot_file_id,
        provider_key,
        status,
        admin,
        notes,
        origin,
        created_at,
        updated_at,
    } = payment;
    out.key(id.as_str())?;
    let mut fields = Fields::new(out)
        .json("payment_id", id)?
        .number("user_id", user)
        .number("amount", amount)
        .json("payment_method", method)?
        .json("screenshot_file_id", screenshot_file_id)?
        .json("status", status)?
        .time("created_at", *created_at)?
        .time("updated_at", *updated_at)?
        .json("admin_id", admin)?
        .json("notes", notes)?;
    if provider_key.is_some() {
        fields = fields.json("provider_key", provider_key)?;
    }
    if *origin == PaymentOrigin::Imported {
        fields = fields.json("origin", origin)?;
    }
    fields.close();
    Ok(())
}

fn write_job(job: &Job, out: &mut Entries) -> Result<()> {
    let Job {
        id,
        user,
        model_id,
        model_name,
        params,
        price,
        status,
        external_task_id,
        result_urls,
        error_message,
        created_at,
        updated_at,
        created_with,
    } = job;
    out.key(id.as_str())?;
    Fields::new(out)
        .json("job_id", id)?
        .number("user_id", user)
        .json("model_id", model_id)?
        .json("model_name", model_name)?
        .raw("params", params.as_json())
        .number("price", price)
        .json("status", status)?
        .json("task_id", external_task_id)?
        .json("external_task_id", external_task_id)?
        .time("created_at", *created_at)?
        .time("updated_at", *updated_at)?
        .json("result_urls", result_urls)?
        .json("error_message", error_message)?
        .json("created_with", created_with)?
        .close();
    Ok(())
}

/// What the original's files have no room for.
fn write_user(record: &AccountRecord, out: &mut Entries) -> Result<()> {
    out.key(&record.user.to_string())?;
    let mut fields = Fields::new(out).time("created_at", record.created_at)?.time("updated_at", record.updated_at)?;
    if !record.held.is_zero() {
        fields = fields.number("held", record.held);
    }
    if record.spent != storage_core::Total::ZERO {
        fields = fields.number("spent", record.spent);
    }
    if let Some(since) = record.referred_at {
        fields = fields.time("referred_at", since)?;
    }
    if record.referral_bonus > 0 {
        fields = fields.number("referral_bonus", record.referral_bonus);
    }
    fields.close();
    Ok(())
}
