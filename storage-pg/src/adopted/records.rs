//! Each row as the record that it becomes.

use storage_core::legacy;
use storage_core::{
    AddGenerationJob, Amount, CivilDate, ErrorMessage, FileId, Generation, GenerationId, ImportRecord, Job, JobId,
    JobStatus, Language, MAX_BANK, Note, Params, Payment, PaymentId, PaymentMethod, PaymentOrigin, PaymentStatus,
    TaskId, Total,
};

use super::entry::{Entry, Read, broken, json_object, json_text, ruled, shown};
use super::gather::{Edge, Gather, Spent};
use super::report::UncertainAdoptedPayment;

pub(super) fn read_balance(_: &mut Gather<'_>, entry: &mut Entry<'_>) -> Read<Option<ImportRecord>> {
    let user = entry.user("id")?;
    let Some(balance) = entry.money("balance")? else { return broken("balance", "is missing") };
    Ok(Some(ImportRecord::Balance { user, balance, created_at: entry.time("created_at")? }))
}

pub(super) fn read_language(_: &mut Gather<'_>, entry: &mut Entry<'_>) -> Read<Option<ImportRecord>> {
    let Some(tag) = entry.text("language")? else { return Ok(None) };
    let user = entry.user("user_id")?;
    Ok(Some(ImportRecord::Language { user, language: ruled("language", Language::new(tag))? }))
}

pub(super) fn read_gift(_: &mut Gather<'_>, entry: &mut Entry<'_>) -> Read<Option<ImportRecord>> {
    match entry.flag("gift_claimed")? {
        Some(true) => Ok(Some(ImportRecord::Gift { user: entry.user("user_id")? })),
        _ => Ok(None),
    }
}

/// One day of a user's free generations: the newest counts, the bonuses add up.
pub(super) fn read_quota(gather: &mut Gather<'_>, entry: &mut Entry<'_>) -> Read<Option<ImportRecord>> {
    let user = entry.user("user_id")?;
    let date: Option<CivilDate> = entry.text("date")?.map(|date| ruled("date", date.parse())).transpose()?;
    let Ok(used) = u32::try_from(entry.whole("count")?) else {
        return broken("count", "must be at most 4294967295");
    };
    let bonus = entry.whole("bonus")?;
    let bank = gather.quotas.get(&user).map_or(0, |known| known.bank).saturating_add(bonus);
    if bank > MAX_BANK {
        return broken("bonus", format_args!("the bank must hold at most {MAX_BANK}"));
    }
    let quota = gather.quotas.entry(user).or_default();
    quota.bank = bank;
    // Without a day there is nothing that the count could count against.
    if let Some(date) = date.filter(|date| quota.date.is_none_or(|known| known <= *date)) {
        quota.used = if quota.date == Some(date) { quota.used.max(used) } else { used };
        quota.date = Some(date);
    }
    Ok(None)
}

/// What a fork stored as spent.
pub(super) fn read_spent(gather: &mut Gather<'_>, entry: &mut Entry<'_>) -> Read<Option<ImportRecord>> {
    if let Some(spent) = entry.money("spent")? {
        gather.spent.insert(entry.user("user_id")?, Spent::Stored(spent.into(), entry.key.clone()));
    }
    Ok(None)
}

pub(super) fn read_admin_limit(_: &mut Gather<'_>, entry: &mut Entry<'_>) -> Read<Option<ImportRecord>> {
    let user = entry.user("user_id")?;
    Ok(entry.money("limit_amount")?.map(|limit| ImportRecord::AdminLimit { user, limit }))
}

pub(super) fn read_operation(gather: &mut Gather<'_>, entry: &mut Entry<'_>) -> Read<Option<ImportRecord>> {
    match entry.needed("type")? {
        "generation" => {}
        "payment" => {
            *gather.no_ledger.entry("payment").or_default() += 1;
            return Ok(None);
        }
        "refund" => {
            *gather.no_ledger.entry("refund").or_default() += 1;
            return Ok(None);
        }
        word => return broken("type", format_args!("the word {:?} is unknown", shown(word))),
    }
    let id = ruled("id", GenerationId::new(format!("operations:{}", entry.needed("id")?)))?;
    let user = entry.user("user_id")?;
    let model = entry.text("model")?;
    if model.is_none() {
        entry.note("no model: \"unknown\" was put in");
    }
    let (model_id, model_name) = gather.model(model, None)?;
    let params = prompt(entry)?;
    let result_urls = entry.urls("result_url")?;
    // The older variant books generations as what they take away.
    let amount =
        entry.text("amount")?.map(|text| if text == "-Infinity" { text } else { text.trim_start_matches('-') });
    let price = amount.map(|text| entry.money_of("amount", text)).transpose()?;
    let price = entry.price(price);
    let at = entry.created(None)?;
    if let Spent::Summed(sum) = gather.spent.entry(user).or_insert(Spent::Summed(Total::ZERO)) {
        *sum = sum.plus(price);
    }
    let generation = Generation { id, model_id, model_name, params, result_urls, price, at };
    Ok(Some(ImportRecord::Generation { user, generation }))
}

/// The parameters of a generation: the prompt when it is a whole JSON object, else its text under a name.
pub(super) fn prompt(entry: &mut Entry<'_>) -> Read<Params> {
    let Some(text) = entry.text("prompt")? else {
        entry.note("no prompt: {} was put in as params");
        return ruled("prompt", Params::from_json("{}"));
    };
    if let Some(params) = json_object(text) {
        return Ok(params);
    }
    entry.note("the prompt is no whole JSON object: its text was put in as prompt_text");
    let mut value = ruled("prompt", Params::from_json("{}").and_then(|params| params.to_value()))?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("prompt_text".to_owned(), text.into());
    }
    ruled("prompt", Params::new(&value))
}

pub(super) fn read_referral(gather: &mut Gather<'_>, entry: &mut Entry<'_>) -> Read<Option<ImportRecord>> {
    let user = entry.user("user_id")?;
    if entry.text("referrer_id")?.is_none() {
        entry.note("no referrer_id: nobody brought this user");
        return Ok(None);
    }
    let referrer = entry.user("referrer_id")?;
    if referrer == user {
        return broken("referrer_id", "must not be the user itself");
    }
    let since = entry.time("created_at")?;
    if gather.edges.contains_key(&user) {
        return broken("user_id", "another row names a referrer already");
    }
    gather.edges.insert(user, Edge { referrer, since, key: entry.key.clone() });
    Ok(None)
}

pub(super) fn read_payment(gather: &mut Gather<'_>, entry: &mut Entry<'_>) -> Read<Option<ImportRecord>> {
    let id = ruled("payment_id", PaymentId::new(entry.needed("payment_id")?))?;
    let user = entry.user("user_id")?;
    let Some(amount) = entry.money("amount")? else { return broken("amount", "is missing") };
    let amount = ruled("amount", Amount::new(amount))?;
    let word = entry.needed("status")?;
    let Some(status) = legacy::payment_status(word) else {
        return broken("status", format_args!("the word {:?} is unknown", shown(word)));
    };
    let charged = entry.flag("balance_charged")?;
    if charged == Some(true) && status == PaymentStatus::Pending {
        // Whoever approved it here would credit it a second time.
        return broken("status", "is pending, but balance_charged says that it was credited: decide which is true");
    }
    if charged == Some(true) && status != PaymentStatus::Approved {
        entry.note(format!("{status}, but balance_charged says that it was credited: compare it with the balance"));
    }
    let method = entry.text("payment_method")?;
    if method.is_none() {
        entry.note("no payment_method: \"unknown\" was put in");
    }
    let method = ruled("payment_method", PaymentMethod::new(method.unwrap_or("unknown")))?;
    let screenshot_file_id = entry.text("screenshot_file_id")?;
    let screenshot_file_id = screenshot_file_id.map(|id| ruled("screenshot_file_id", FileId::new(id))).transpose()?;
    let notes = entry.text("notes")?.map(|notes| ruled("notes", Note::new(notes))).transpose()?;
    let admin = match entry.text("admin_id")? {
        Some("0") | None => None,
        Some(_) => Some(entry.user("admin_id")?),
    };
    let changed = entry.time("updated_at")?;
    let created_at = entry.created(changed)?;
    let origin = match status {
        PaymentStatus::Pending => PaymentOrigin::Here,
        _ => PaymentOrigin::Imported,
    };
    // `completed` was written when the money was credited, `approved` however often it was.
    if status == PaymentStatus::Approved && !charged.unwrap_or(word == "completed") {
        let (table, key, amount) = (entry.table.name, entry.key.to_string(), amount.money());
        gather.report.uncertain_sum = gather.report.uncertain_sum.plus(amount);
        gather.report.uncertain_payments.push(UncertainAdoptedPayment { table, key, user, amount });
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
        updated_at: changed.unwrap_or(created_at),
    })))
}

pub(super) fn read_job(gather: &mut Gather<'_>, entry: &mut Entry<'_>) -> Read<Option<ImportRecord>> {
    let id = ruled("job_id", JobId::new(entry.needed("job_id")?))?;
    let user = entry.user("user_id")?;
    let (status, error_message) = job_status(entry)?;
    let task = entry.text("external_task_id")?;
    let task = task.map(|task| ruled("external_task_id", TaskId::new(task))).transpose()?;
    if let Some(other) = task.as_ref().and_then(|task| gather.tasks.get(task)) {
        return broken("external_task_id", format_args!("belongs to the job {other:?} already"));
    }
    let (model, name) = (entry.text("model_id")?, entry.text("model_name")?);
    if model.is_none() {
        entry.note("no model_id: \"unknown\" was put in");
    }
    if name.is_none() {
        entry.note("no model_name: the model_id was put in");
    }
    let (model_id, model_name) = gather.model(model, name)?;
    let params = params(entry)?;
    let price = entry.money("price")?;
    let price = entry.price(price);
    let result_urls = entry.urls("result_urls")?;
    let changed = entry.time("updated_at")?;
    let created_at = entry.created(changed)?;
    let order =
        AddGenerationJob { user, job: None, external_task_id: task, model_id, model_name, params, price, key: None };
    let created_with = order.creation();
    let AddGenerationJob { external_task_id, model_id, model_name, params, .. } = order;
    if let Some(task) = &external_task_id {
        gather.tasks.insert(task.clone(), id.clone());
    }
    Ok(Some(ImportRecord::Job(Job {
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
        updated_at: changed.unwrap_or(created_at),
        created_with,
    })))
}

/// The parameters of a job. What was put into JSON twice is a text that holds an object, and is taken out.
pub(super) fn params(entry: &mut Entry<'_>) -> Read<Params> {
    let Some(json) = entry.text("params")?.filter(|json| *json != "null") else {
        entry.note("no params: {} was put in");
        return ruled("params", Params::from_json("{}"));
    };
    let params = ruled("params", Params::from_json(json))?;
    let held = if json.starts_with('"') { json_text(json).and_then(|text| json_object(&text)) } else { None };
    if held.is_some() {
        entry.note("the params are a text that holds JSON: what it holds was put in");
    }
    Ok(held.unwrap_or(params))
}

/// The job's state, and the error message that goes with it.
pub(super) fn job_status(entry: &mut Entry<'_>) -> Read<(JobStatus, Option<ErrorMessage>)> {
    let word = entry.text("status")?;
    if word.is_none() {
        entry.note("no status: pending was put in");
    }
    let word = word.unwrap_or("pending");
    let Some(status) = legacy::job_status(word) else {
        return broken("status", format_args!("the word {:?} is unknown", shown(word)));
    };
    let message = match (status, entry.text("error_message")?) {
        (JobStatus::Completed, Some(_)) => {
            entry.note("a completed job with an error message, which was left out");
            None
        }
        (_, Some(message)) if word == "timeout" => Some(format!("timeout: {message}")),
        (_, None) if word == "timeout" => Some(word.to_owned()),
        (_, message) => message.map(str::to_owned),
    };
    let message = message.map(|message| ruled("error_message", ErrorMessage::new(message))).transpose()?;
    Ok((status, message))
}
