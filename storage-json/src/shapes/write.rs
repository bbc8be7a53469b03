//! Writing the files: one entry a line, money as decimal numbers, times in UTC without a zone, as the original had them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io::Write as _;

use storage_core::{Error, Generation, Job, Payment, PaymentOrigin, Result, Timestamp, UserId};

use super::LISTS;
use crate::before::Records;
use crate::disk::Staged;
use crate::manifest::FileSum;
use crate::state::{Account, FileId, FileSet};

/// An object being written to a staged file, one entry a line.
struct Entries<'a> {
    file: Staged<'a>,
    any: bool,
}

impl<'a> Entries<'a> {
    fn new(mut file: Staged<'a>) -> Self {
        file.bytes.push(b'{');
        Self { file, any: false }
    }
    fn key(&mut self, key: &str) -> Result<()> {
        self.file.flush_if_full()?;
        self.text(if self.any { ",\n  " } else { "\n  " });
        self.any = true;
        self.json(&key)?;
        self.text(": ");
        Ok(())
    }
    /// A user as a key.
    fn user(&mut self, user: UserId) -> Result<()> {
        self.file.flush_if_full()?;
        self.text(if self.any { ",\n  \"" } else { "\n  \"" });
        self.any = true;
        self.shown(user);
        self.text("\": ");
        Ok(())
    }
    fn text(&mut self, text: &str) {
        self.file.bytes.extend_from_slice(text.as_bytes());
    }
    fn shown(&mut self, value: impl Display) {
        // Writing to a Vec cannot fail.
        let _ = write!(self.file.bytes, "{value}");
    }
    fn json(&mut self, value: &(impl serde::Serialize + ?Sized)) -> Result<()> {
        serde_json::to_writer(&mut self.file.bytes, value)
            .map_err(|error| Error::internal("a record could not be serialised").caused_by(error))
    }
    fn finish(mut self) -> Result<FileSum> {
        self.text(if self.any { "\n}\n" } else { "}\n" });
        let (bytes, crc) = self.file.finish()?;
        Ok(FileSum { bytes, crc32: format!("{crc:08x}") })
    }
}

/// Fields of one object, on one line.
struct Fields<'a, 'f> {
    out: &'a mut Entries<'f>,
    any: bool,
}

impl<'a, 'f> Fields<'a, 'f> {
    fn new(out: &'a mut Entries<'f>) -> Self {
        out.text("{");
        Self { out, any: false }
    }
    fn name(&mut self, name: &str) {
        self.out.text(if self.any { ", \"" } else { "\"" });
        self.any = true;
        self.out.text(name);
        self.out.text("\": ");
    }
    /// A number: its text as it is.
    fn number(mut self, name: &str, value: impl Display) -> Self {
        self.name(name);
        self.out.shown(value);
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

/// Writes files under their staged names, through `begin`, which opens one. Answers their checksums.
pub(crate) fn write<'a>(
    files: &FileSet,
    records: &impl Records,
    mut begin: impl FnMut(FileId) -> Result<Staged<'a>>,
) -> Result<BTreeMap<String, FileSum>> {
    let mut sums = BTreeMap::new();
    let mut keep = |file: FileId, out: Entries<'a>| {
        sums.insert(file.name().to_owned(), out.finish()?);
        Ok(())
    };
    let of_accounts: Vec<FileId> =
        FileId::ALL.into_iter().filter(|file| files.has(*file) && file.is_of_accounts()).collect();
    if !of_accounts.is_empty() {
        // One walk for all of them.
        let mut outs =
            of_accounts.into_iter().map(|file| Ok((file, Entries::new(begin(file)?)))).collect::<Result<Vec<_>>>()?;
        let mut referred = BTreeSet::new();
        records.accounts(&mut |account| {
            outs.iter_mut().try_for_each(|(file, out)| write_account(*file, account, out, &mut referred))
        })?;
        for (file, mut out) in outs {
            if file == FileId::Referrals {
                write_lists(&referred, &mut out)?;
            }
            keep(file, out)?;
        }
    }
    for file in FileId::ALL.into_iter().filter(|file| files.has(*file) && !file.is_of_accounts()) {
        let mut out = Entries::new(begin(file)?);
        match file {
            FileId::History => write_history(records, &mut out)?,
            FileId::Payments => records.payments(&mut |payment| write_payment(payment, &mut out))?,
            FileId::Jobs => records.jobs(&mut |job| write_job(job, &mut out))?,
            _ => records.holds(&mut |hold| {
                out.key(&format!("{}/{}", hold.user, hold.name))?;
                out.json(hold)
            })?,
        }
        keep(file, out)?;
    }
    Ok(sums)
}

/// What one of the files says of a user.
fn write_account(
    file: FileId,
    account: &Account,
    out: &mut Entries<'_>,
    referred: &mut BTreeSet<(UserId, Timestamp, UserId)>,
) -> Result<()> {
    let record = &account.record;
    match file {
        FileId::Balances => {
            out.user(record.user)?;
            out.shown(record.balance);
        }
        FileId::Languages => {
            if let Some(language) = &record.language {
                out.user(record.user)?;
                out.json(language)?;
            }
        }
        FileId::Gifts => {
            if record.gift_claimed {
                out.user(record.user)?;
                out.text("true");
            }
        }
        FileId::Quotas => {
            if record.quota() != storage_core::Quota::default() {
                out.user(record.user)?;
                let fields = Fields::new(out).json("date", &record.quota_date)?;
                fields.number("count", record.quota_used).number("bonus", record.bank).close();
            }
        }
        FileId::AdminLimits => {
            if let Some(limit) = record.admin_limit {
                out.user(record.user)?;
                Fields::new(out).number("limit", limit).number("spent", record.spent).close();
            }
        }
        FileId::Referrals => {
            if let Some(referrer) = record.referrer {
                out.user(record.user)?;
                out.shown(referrer);
                referred.extend(record.referred_at.map(|since| (referrer, since, record.user)));
            }
        }
        _ => write_user(account, out)?,
    }
    Ok(())
}

fn write_lists(referred: &BTreeSet<(UserId, Timestamp, UserId)>, out: &mut Entries<'_>) -> Result<()> {
    if referred.is_empty() {
        return Ok(());
    }
    out.key(LISTS)?;
    let mut last = None;
    for (referrer, _, user) in referred {
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

fn write_history(records: &impl Records, out: &mut Entries<'_>) -> Result<()> {
    let mut last = None;
    records.history(&mut |user, generation| {
        if last == Some(user) {
            out.file.flush_if_full()?;
            out.text(",\n    ");
        } else {
            if last.is_some() {
                out.text("\n  ]");
            }
            out.user(user)?;
            out.text("[\n    ");
        }
        last = Some(user);
        let Generation { id, model_id, model_name, params, result_urls, price, at } = generation;
        Fields::new(out)
            .json("id", id)?
            .json("model_id", model_id)?
            .json("model_name", model_name)?
            .raw("params", params.as_json())
            .json("result_urls", result_urls)?
            .number("price", price)
            .time("timestamp", *at)?
            .close();
        Ok(())
    })?;
    if last.is_some() {
        out.text("\n  ]");
    }
    Ok(())
}

fn write_payment(payment: &Payment, out: &mut Entries<'_>) -> Result<()> {
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
    if *origin != PaymentOrigin::Here {
        fields = fields.json("origin", origin)?;
    }
    fields.close();
    Ok(())
}

fn write_job(job: &Job, out: &mut Entries<'_>) -> Result<()> {
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
fn write_user(account: &Account, out: &mut Entries<'_>) -> Result<()> {
    let record = &account.record;
    out.user(record.user)?;
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
    // Where the user's ledger ends, so that opening need not read it.
    if let Some(last) = account.last {
        fields = fields.number("ledger_rows", account.rows).number("ledger_last", last);
    }
    fields.close();
    Ok(())
}
