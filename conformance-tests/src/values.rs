//! Values: each limit is kept by the types, and what a limit allows is stored and read back whole.

use std::collections::BTreeSet;

use storage_core::{
    AddBalance, AddGenerationJob, AddGenerationToHistory, AddPayment, Amount, BonusCount, ErrorMessage, FileId,
    GenerationId, GetUserGenerationsHistory, HoldName, JobId, JobStatus, Language, Memo, ModelId, ModelName, Money,
    Note, OperationKey, PageSize, Params, PaymentId, PaymentMethod, ProviderKey, ResultUrls, SetUserLanguage, TaskId,
    Timestamp, UpdateJobStatus, UserId,
};

use crate::check::{Check, ensure_eq, present};
use crate::context::Context;
use crate::expect::{Expected, refused};
use crate::scenario::list_scenarios;
use crate::steps::{balance, clean, credit, debit, dump_text, generation, hold, job, payment, rows};

list_scenarios! {
    "values":
    user_zero_is_nobody ["V1"];
    money_is_exact_at_both_ends ["V2"];
    money_is_never_a_float_or_a_rounding ["V2", "W10", "W16"];
    ids_of_two_hundred_bytes_are_kept ["V3"];
    ids_that_differ_in_a_byte_are_two ["V3", "R8"];
    names_of_512_bytes_are_kept ["V4"];
    notes_of_eight_kib_are_kept_and_never_cut ["V5"];
    sixty_four_long_urls_are_kept ["V6"];
    language_tags_from_both_sides ["V7"];
    params_of_every_shape_come_back_equal ["V8", "W24", "W31"];
    params_over_a_limit_cannot_be_built ["V8"];
    times_from_1970_to_9999_are_kept_to_the_microsecond ["V9"];
    page_sizes_from_both_sides ["V10", "W29"];
    time_and_ids_come_from_the_environment ["V11"];
    absent_and_empty_are_two ["V5", "V6", "R8"];
    bonuses_from_both_sides ["add_referral_bonus"];
}

async fn user_zero_is_nobody(context: Context) -> Check {
    refused(UserId::new(0), &Expected::Invalid("user id"))?;
    let storage = context.open().await?;
    for number in [1, -1, i64::MAX, i64::MIN] {
        storage.get_user(UserId::new(number)?).await?;
        ensure_eq!(storage.find_user(UserId::new(number)?).await?.map(|user| user.id.get()), Some(number));
    }
    Ok(())
}

async fn money_is_exact_at_both_ends(context: Context) -> Check {
    let storage = context.open().await?;
    for (number, text) in (1..).zip(["0.000001", "0.10", "1.00", "999999999999.999999", "123456789012.345678"]) {
        let user = context.user(number)?;
        credit(&*storage, user, text).await?;
        ensure_eq!(balance(&*storage, user).await?, text);
        ensure_eq!(rows(&*storage, user).await?[0].balance_after.to_string(), text);
        debit(&*storage, user, text).await?;
        ensure_eq!(balance(&*storage, user).await?, "0.00");
    }
    refused("1000000000000".parse::<Money>(), &Expected::Invalid("money"))?;
    refused(Money::MAX.checked_add(Money::STEP), &Expected::Invalid("money"))?;
    clean(&*storage).await
}

async fn money_is_never_a_float_or_a_rounding(_: Context) -> Check {
    for bad in ["0.0000001", "NaN", "1e400", "1e2", "inf", "-1", "-0.000001", "0x10", "1,5", " 1", "+1", "1.", ".5", ""]
    {
        refused(bad.parse::<Money>(), &Expected::Invalid("money"))?;
        refused(bad.parse::<Amount>(), &Expected::Invalid("money"))?;
    }
    for (given, shown) in [("0", "0.00"), ("12.5", "12.50"), ("7.120", "7.12"), ("0.000001", "0.000001")] {
        ensure_eq!(given.parse::<Money>()?.to_string(), shown);
    }
    Ok(())
}

/// The longest id, from a letter of so many bytes.
fn longest(letter: &str) -> String {
    letter.repeat(200 / letter.len())
}

async fn ids_of_two_hundred_bytes_are_kept(context: Context) -> Check {
    let storage = context.open().await?;
    let user = context.alice;
    for letter in ["x", "й", "🐈", "\"", "\\", "'"] {
        let id = longest(letter);
        refused(JobId::new(format!("{id}x")), &Expected::Invalid("job id"))?;
        credit(&*storage, user, "1").await?;
        hold(&*storage, user, &id, "1").await?;
        ensure_eq!(storage.find_reserve(user, &id.parse()?).await?.map(|hold| hold.name.to_string()), Some(id.clone()));
        let order = AddGenerationJob { external_task_id: Some(id.parse()?), ..job(user, &id)? };
        storage.add_generation_job(order).await?;
        ensure_eq!(storage.get_job(&id.parse()?).await?.map(|job| job.id.to_string()), Some(id.clone()));
        let found = storage.find_job_by_task_id(&id.parse()?).await?;
        ensure_eq!(found.map(|job| job.id.to_string()), Some(id.clone()));
        let pay = AddPayment { provider_key: Some(id.parse()?), ..payment(user, &id, "1")? };
        storage.add_payment(pay).await?;
        let paid = present(storage.get_payment(&id.parse()?).await?, "the payment")?;
        ensure_eq!((paid.id.as_str(), paid.provider_key.clone()), (id.as_str(), Some(id.parse()?)));
        storage.add_generation_to_history(generation(user, &id, "1").or_else(|_| short_url(user, &id))?).await?;
        let listed = storage.get_user_generations_history(GetUserGenerationsHistory::of(user)).await?.items;
        ensure_eq!(listed.iter().filter(|entry| entry.id.as_str() == id).count(), 1);
    }
    for bad in ["", " a", "a ", "a\nb", "a\0b", "\u{a0}a", "a\u{7f}", &"é".repeat(101)] {
        refused(JobId::new(bad), &Expected::Invalid("job id"))?;
        refused(PaymentId::new(bad), &Expected::Invalid("payment id"))?;
        refused(GenerationId::new(bad), &Expected::Invalid("generation id"))?;
        refused(OperationKey::new(bad), &Expected::Invalid("operation key"))?;
        refused(HoldName::new(bad), &Expected::Invalid("hold name"))?;
        refused(ProviderKey::new(bad), &Expected::Invalid("provider key"))?;
        refused(TaskId::new(bad), &Expected::Invalid("external task id"))?;
    }
    clean(&*storage).await
}

fn short_url(user: UserId, id: &str) -> Check<AddGenerationToHistory> {
    Ok(AddGenerationToHistory { id: Some(id.parse()?), ..generation(user, "short", "1")? })
}

async fn ids_that_differ_in_a_byte_are_two(context: Context) -> Check {
    let storage = context.open().await?;
    // Case, composed and decomposed accents, an inner space: no folding, no trimming, no collation.
    let ids = ["job", "Job", "é", "e\u{301}", "a b", "a  b", "ab", "ß", "ss", "1", "01", "a%b", "a_b", "a:b", "a/b"];
    for id in ids {
        crate::steps::order(&*storage, context.alice, id).await?;
        crate::steps::pay(&*storage, context.alice, id, "1").await?;
        credit(&*storage, context.alice, "1").await?;
        hold(&*storage, context.alice, id, "1").await?;
    }
    let listed = storage.list_jobs(storage_core::ListJobs::default()).await?.items;
    let stored: BTreeSet<&str> = listed.iter().map(|job| job.id.as_str()).collect();
    ensure_eq!(stored, BTreeSet::from(ids));
    let order: Vec<&str> = listed.iter().map(|job| job.id.as_str()).collect();
    let by_bytes: Vec<&str> = BTreeSet::from(ids).into_iter().rev().collect();
    ensure_eq!(order, by_bytes, "of one moment, the higher bytes come first");
    Ok(())
}

async fn names_of_512_bytes_are_kept(context: Context) -> Check {
    let storage = context.open().await?;
    for (number, name) in (1..).zip(["m".repeat(512), " \n\t".to_owned(), "й".repeat(256), "\u{1}".repeat(512)]) {
        let order = AddGenerationJob {
            model_id: name.parse()?,
            model_name: name.parse()?,
            ..job(context.alice, &format!("job-{number}"))?
        };
        let stored = storage.add_generation_job(order).await?.record;
        ensure_eq!((stored.model_id.as_str(), stored.model_name.as_str()), (name.as_str(), name.as_str()));
        let pay = AddPayment {
            method: name.parse()?,
            screenshot_file_id: Some(name.parse()?),
            ..payment(context.alice, &format!("p-{number}"), "1")?
        };
        storage.add_payment(pay).await?;
        let paid = present(storage.get_payment(&format!("p-{number}").parse()?).await?, "the payment")?;
        ensure_eq!((paid.method.as_str(), paid.screenshot_file_id.clone()), (name.as_str(), Some(name.parse()?)));
    }
    for bad in ["", "a\0", &"m".repeat(513)] {
        refused(ModelId::new(bad), &Expected::Invalid("model id"))?;
        refused(ModelName::new(bad), &Expected::Invalid("model name"))?;
        refused(PaymentMethod::new(bad), &Expected::Invalid("payment method"))?;
        refused(FileId::new(bad), &Expected::Invalid("screenshot file id"))?;
    }
    Ok(())
}

async fn notes_of_eight_kib_are_kept_and_never_cut(context: Context) -> Check {
    let storage = context.open().await?;
    for (number, note) in (1..).zip(["n".repeat(8192), "\u{1}".repeat(8192), "🐈".repeat(2048)]) {
        let memo = Memo { reason: Some(note.parse()?), ..Memo::default() };
        storage.add_balance(AddBalance::new(context.alice, "1".parse()?).with_memo(memo)).await?;
        ensure_eq!(rows(&*storage, context.alice).await?[0].reason, Some(note.parse()?));
        let id = format!("job-{number}");
        crate::steps::order(&*storage, context.alice, &id).await?;
        let mut failed = UpdateJobStatus::new(id.parse()?, JobStatus::Failed);
        failed.error_message = Some(note.parse()?);
        storage.update_job_status(failed).await?;
        let stored = present(storage.get_job(&id.parse()?).await?, "the job")?;
        ensure_eq!(stored.error_message, Some(note.parse()?));
        let pay = AddPayment { notes: Some(note.parse()?), ..payment(context.alice, &format!("p-{number}"), "1")? };
        ensure_eq!(storage.add_payment(pay).await?.record.notes, Some(note.parse()?));
    }
    refused(Note::new("n".repeat(8193)), &Expected::Invalid("note"))?;
    refused(ErrorMessage::new("n".repeat(8193)), &Expected::Invalid("error message"))?;
    refused(Note::new("a\0"), &Expected::Invalid("note"))
}

async fn sixty_four_long_urls_are_kept(context: Context) -> Check {
    let storage = context.open().await?;
    let urls: Vec<String> =
        (0..64).map(|number| format!("https://example.org/{number:02}?{}", "q".repeat(2025))).collect();
    ensure_eq!(urls[0].len(), 2048);
    let urls = ResultUrls::new(urls)?;
    let add = AddGenerationToHistory { result_urls: urls.clone(), ..generation(context.alice, "g-1", "1")? };
    storage.add_generation_to_history(add).await?;
    let listed = storage.get_user_generations_history(GetUserGenerationsHistory::of(context.alice)).await?.items;
    ensure_eq!(listed[0].result_urls, urls);
    crate::steps::order(&*storage, context.alice, "job-1").await?;
    let mut done = UpdateJobStatus::new("job-1".parse()?, JobStatus::Completed);
    done.result_urls = Some(urls.clone());
    storage.update_job_status(done).await?;
    ensure_eq!(present(storage.get_job(&"job-1".parse()?).await?, "the job")?.result_urls, urls);
    refused(ResultUrls::new(vec!["u"; 65]), &Expected::Invalid("result urls"))?;
    for bad in ["", "a\nb", &"u".repeat(2049)] {
        refused(ResultUrls::new([bad]), &Expected::Invalid("result urls"))?;
    }
    Ok(())
}

async fn language_tags_from_both_sides(context: Context) -> Check {
    let storage = context.open().await?;
    for good in ["ru", "pt-br", "zh-Hant-TW", &"a".repeat(35)] {
        storage.set_user_language(SetUserLanguage::new(context.alice, good.parse()?)).await?;
        ensure_eq!(storage.get_user_language(context.alice).await?.as_str(), good);
    }
    for bad in ["", "r", "ру", "a_b", "ru ", &"a".repeat(36)] {
        refused(Language::new(bad), &Expected::Invalid("language"))?;
    }
    Ok(())
}

async fn params_of_every_shape_come_back_equal(context: Context) -> Check {
    let storage = context.open().await?;
    let shapes = [
        "null",
        "true",
        "\"\"",
        "[]",
        "{}",
        "0",
        "-0.0",
        "1e16",
        "1.0",
        "18446744073709551615",
        "-9223372036854775808",
        "5e-324",
        "1.7976931348623157e308",
        "0.1",
        "123456789.123456789",
        r#"{"b":1,"a":{"z":[],"y":null},"":2}"#,
        r#"["\u0001","\n","\"","\\","\u2028","🐈","é"]"#,
        r#"{"a":1.0,"b":1,"c":-0.0,"d":0}"#,
    ];
    for (number, text) in (0..).zip(shapes) {
        let params = Params::from_json(text)?;
        let (id, value) = (format!("g-{number:02}"), params.to_value()?);
        let order = AddGenerationJob { params: params.clone(), ..job(context.alice, &id)? };
        storage.add_generation_job(order.clone()).await?;
        let record = AddGenerationToHistory { params, ..generation(context.alice, &id, "1")? };
        storage.add_generation_to_history(record.clone()).await?;
        let stored = present(storage.get_job(&id.parse()?).await?, "the job")?;
        ensure_eq!(stored.params.to_value()?, value, "{text}");
        let listed = storage.get_user_generations_history(GetUserGenerationsHistory::of(context.alice)).await?.items;
        ensure_eq!(listed[0].params.to_value()?, value, "{text}");
        // What is equal when read is equal when compared: both are replays.
        ensure_eq!(storage.add_generation_job(order).await?.replayed, true, "{text}");
        ensure_eq!(storage.add_generation_to_history(record).await?.replayed, true, "{text}");
    }
    Ok(())
}

async fn params_over_a_limit_cannot_be_built(_: Context) -> Check {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    Params::from_json(&nested(32))?;
    refused(Params::from_json(&nested(33)), &Expected::Invalid("params"))?;
    refused(Params::from_json(&nested(100_000)), &Expected::Invalid("params"))?;
    Params::from_json(&format!("\"{}\"", "x".repeat(65_534)))?;
    refused(Params::from_json(&format!("\"{}\"", "x".repeat(65_535))), &Expected::Invalid("params"))?;
    for bad in [r#""a\u0000""#, r#"{"a\u0000":1}"#, "{", "", "NaN", "1 2"] {
        refused(Params::from_json(bad), &Expected::Invalid("params"))?;
    }
    Ok(())
}

async fn times_from_1970_to_9999_are_kept_to_the_microsecond(context: Context) -> Check {
    let storage = context.open().await?;
    let moments = [Timestamp::MIN, Timestamp::from_micros(1)?, "2038-01-19T03:14:08.000001Z".parse()?, Timestamp::MAX];
    for (number, moment) in (1..).zip(moments) {
        context.clock.set(moment);
        let user = context.user(number)?;
        credit(&*storage, user, "1").await?;
        crate::steps::pay(&*storage, user, &format!("p-{number}"), "1").await?;
        let stored = present(storage.find_user(user).await?, "the user")?;
        ensure_eq!((stored.created_at, stored.updated_at), (moment, moment));
        ensure_eq!(rows(&*storage, user).await?[0].at, moment);
        let paid = present(storage.get_payment(&format!("p-{number}").parse()?).await?, "the payment")?;
        ensure_eq!((paid.created_at, paid.updated_at), (moment, moment));
    }
    refused(Timestamp::from_micros(-1), &Expected::Invalid("timestamp"))?;
    refused(Timestamp::from_micros(Timestamp::MAX.micros() + 1), &Expected::Invalid("timestamp"))?;
    refused("2026-01-15T10:00:00.0000001Z".parse::<Timestamp>(), &Expected::Invalid("timestamp"))?;
    let listed = storage.list_payments(storage_core::ListPayments::default()).await?.items;
    ensure_eq!(listed.iter().map(|payment| payment.id.as_str()).collect::<Vec<_>>(), ["p-4", "p-3", "p-2", "p-1"]);
    Ok(())
}

async fn page_sizes_from_both_sides(context: Context) -> Check {
    let storage = context.open().await?;
    for bad in [0, 1001, u32::MAX] {
        refused(PageSize::new(bad), &Expected::Invalid("page size"))?;
    }
    for number in 1..=101 {
        storage.get_user(context.user(number)?).await?;
    }
    let sizes = [(PageSize::new(1)?, 1), (PageSize::default(), 100), (PageSize::new(1000)?, 101)];
    for (size, expected) in sizes {
        let page = storage.list_users(storage_core::PageRequest::first(size)).await?;
        ensure_eq!((page.items.len(), page.next.is_some()), (expected, expected < 101));
    }
    Ok(())
}

async fn time_and_ids_come_from_the_environment(context: Context) -> Check {
    let storage = context.open().await?;
    context.clock.set("2001-02-03T04:05:06.000007Z".parse()?);
    let receipt = credit(&*storage, context.alice, "1").await?;
    // The suite's ids are UUIDv7s that hold their handle's lane and a count: nothing a machine would make up.
    let text = receipt.operation.to_string();
    ensure_eq!(&text[14..23], "7000-8000", "{text}");
    let dump = dump_text(&*storage).await?;
    ensure_eq!(dump.contains("2001-02-03T04:05:06.000007Z"), true);
    ensure_eq!(rows(&*storage, context.alice).await?[0].at, context.now());
    Ok(())
}

async fn absent_and_empty_are_two(context: Context) -> Check {
    let storage = context.open().await?;
    let empty = AddPayment { notes: Some(String::new().parse()?), ..payment(context.alice, "p-1", "1")? };
    storage.add_payment(empty).await?;
    storage.add_payment(payment(context.alice, "p-2", "1")?).await?;
    let notes = async |id: &str| -> Check<Option<Note>> {
        Ok(present(storage.get_payment(&id.parse()?).await?, "the payment")?.notes.clone())
    };
    ensure_eq!(notes("p-1").await?, Some(String::new().parse()?));
    ensure_eq!(notes("p-2").await?, None);
    crate::steps::order(&*storage, context.alice, "job-1").await?;
    let mut running = UpdateJobStatus::new("job-1".parse()?, JobStatus::Running);
    running.result_urls = Some(ResultUrls::new(["https://example.org/1.png"])?);
    storage.update_job_status(running.clone()).await?;
    running.result_urls = Some(ResultUrls::default());
    let stored = storage.update_job_status(running).await?;
    ensure_eq!((stored.replayed, stored.record.result_urls.is_empty()), (false, true), "an empty list is a list");
    Ok(())
}

async fn bonuses_from_both_sides(_: Context) -> Check {
    for bad in [0, 1_000_001, u32::MAX] {
        refused(BonusCount::new(bad), &Expected::Invalid("bonus"))?;
    }
    ensure_eq!((BonusCount::new(1)?.get(), BonusCount::new(1_000_000)?.get()), (1, 1_000_000));
    Ok(())
}
