//! The earlier system's tables with a row for every trap: adopted, read, imported, and imported again.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests: a surprise is a failure")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pg_test_server::{Database, PgBouncer, Server};
use serde_json::json;
use storage_core::{
    AdminLimit, AdminLimits as _, AuditScope, Balances as _, GetUserGenerationsHistory, History as _, ImportOutcome,
    ImportRecord, JobStatus, Jobs as _, MarkPaymentStatus, Operations as _, PaymentStatus, Payments as _, Quota,
    Referrals as _, Store as _, TimeZone, UserId, Users as _,
};
use storage_pg::{Adopted, AdoptedRecord, PgOptions, PgStorage, adopt_tables, read_adopted};
use tokio_postgres::{Client, NoTls};

/// The earlier system's tables, as it made them. Its indexes and triggers make no difference to a reader.
const ORIGINAL: &str = "
    CREATE TABLE users (id BIGINT PRIMARY KEY, balance NUMERIC(12, 2) DEFAULT 0.00 NOT NULL,
        created_at TIMESTAMPTZ DEFAULT now(), updated_at TIMESTAMPTZ DEFAULT now());
    CREATE TABLE user_settings (user_id BIGINT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
        language TEXT DEFAULT 'ru', gift_claimed BOOLEAN DEFAULT FALSE, created_at TIMESTAMPTZ DEFAULT now(),
        updated_at TIMESTAMPTZ DEFAULT now());
    CREATE TABLE daily_free_generations (user_id BIGINT REFERENCES users (id) ON DELETE CASCADE, date DATE NOT NULL,
        count INTEGER DEFAULT 0, bonus INTEGER DEFAULT 0, PRIMARY KEY (user_id, date));
    CREATE TABLE admin_limits (user_id BIGINT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
        limit_amount NUMERIC(12, 2) DEFAULT 100.00, created_at TIMESTAMPTZ DEFAULT now(),
        updated_at TIMESTAMPTZ DEFAULT now());
    CREATE TABLE generation_jobs (job_id TEXT PRIMARY KEY, user_id BIGINT REFERENCES users (id) ON DELETE CASCADE,
        model_id TEXT NOT NULL, model_name TEXT NOT NULL, params JSONB NOT NULL, price NUMERIC(12, 2) NOT NULL,
        status TEXT DEFAULT 'pending', external_task_id TEXT, result_urls JSONB, error_message TEXT,
        created_at TIMESTAMPTZ DEFAULT now(), updated_at TIMESTAMPTZ DEFAULT now());
    CREATE TABLE operations (id BIGSERIAL PRIMARY KEY, user_id BIGINT REFERENCES users (id) ON DELETE CASCADE,
        type TEXT NOT NULL CHECK (type IN ('payment', 'generation', 'refund')), amount NUMERIC(12, 2) NOT NULL,
        model TEXT, result_url TEXT, prompt TEXT, created_at TIMESTAMPTZ DEFAULT now());
    CREATE TABLE payments (payment_id TEXT PRIMARY KEY, user_id BIGINT REFERENCES users (id) ON DELETE CASCADE,
        amount NUMERIC(12, 2) NOT NULL, payment_method TEXT NOT NULL, screenshot_file_id TEXT,
        status TEXT DEFAULT 'pending', admin_id BIGINT, notes TEXT, created_at TIMESTAMPTZ DEFAULT now(),
        updated_at TIMESTAMPTZ DEFAULT now());
    CREATE TABLE referrals (user_id BIGINT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
        referrer_id BIGINT REFERENCES users (id) ON DELETE CASCADE, created_at TIMESTAMPTZ DEFAULT now());";

/// A row for every trap.
const TRAPS: &str = r#"
    INSERT INTO users (id, balance, created_at) VALUES
        (1001, 12.50, '2025-12-01 10:00:00.000001+03'), (1002, 9999999999.99, NULL), (1003, -0.01, now()),
        (1004, 'NaN', now()), (0, 5, now()), (999999999, 0.01, '2025-12-02Z'), (1005, 1, '1969-12-31 23:59:59Z'),
        (1006, 1, 'infinity'), (1007, 1, '10000-01-01Z'), (1008, 1, '0044-03-15 BC'), (-77, 3, '1970-01-01Z'),
        (1009, 0, '2025-12-03Z'), (1010, 0, '2025-12-03Z');
    INSERT INTO user_settings (user_id, language, gift_claimed) VALUES
        (1001, DEFAULT, TRUE), (1002, NULL, NULL), (1003, 'русский', TRUE), (1009, 'en', FALSE), (0, 'en', TRUE);
    INSERT INTO daily_free_generations VALUES
        (1001, '2025-12-20', 2, 5), (1001, '2025-12-21', 1, NULL), (1001, '2025-12-19', 5, 7),
        (1002, '2025-12-21', NULL, -1), (1002, '2025-12-20', 3, 1), (1009, '2025-12-20', -1, 4),
        (1010, 'infinity', 1, 1), (0, '2025-12-20', 1, 1);
    INSERT INTO admin_limits (user_id, limit_amount) VALUES (1001, DEFAULT), (1002, NULL), (1009, -5);
    INSERT INTO operations (id, user_id, type, amount, model, result_url, prompt, created_at) VALUES
        (1, 1001, 'payment', 50, NULL, NULL, NULL, now()), (2, 1001, 'refund', 1, NULL, NULL, NULL, now()),
        (3, 1001, 'generation', 7.5, 'flux', '["https://e/1", "https://e/2\u0026x"]', '{"prompt": "кот", "n": 1}', '2025-12-22 10:00Z'),
        (4, 1001, 'generation', -2.25, NULL, 'https://e/plain?a=[1]', '{"prompt": "a cat in the ra', '2025-12-22 11:00Z'),
        (5, 1001, 'generation', 0, 'flux', '', '', '2025-12-22 12:00Z'),
        (6, 1001, 'generation', 1, 'flux', '[1]', '{}', '2025-12-22 12:00Z'),
        (7, 1001, 'generation', 'NaN', 'flux', NULL, '{}', '2025-12-22 12:00Z'),
        (8, NULL, 'generation', 1, 'flux', NULL, '{}', '2025-12-22 12:00Z'),
        (9, 1001, 'generation', 1, 'flux', NULL, '{}', '-infinity'),
        (10, 1001, 'generation', 0.01, 'flux', '"[\"https://e/twice\"]"', 'say "hi" \ ' || chr(10) || '[', '2025-12-22 13:00Z'),
        (11, 1001, 'generation', 1, 'flux', '{"a": 1}', '{}', '2025-12-22 12:00Z'),
        (12, 1009, 'generation', 0, 'flux', 'null', '5', NULL);
    INSERT INTO generation_jobs (job_id, user_id, model_id, model_name, params, price, status, external_task_id,
        result_urls, error_message, created_at, updated_at) VALUES
        ('j-pending', 1001, 'flux', 'Flux', '{"prompt": "x", "big": 12345678901234567890}', 1.5, 'queuing', 't-1', NULL, NULL, '2025-12-22Z', '2025-12-22Z'),
        ('j-done', 1001, 'flux', 'Flux', '{}', 1.5, 'delivered', 't-2', '["https://e/1"]', 'old error', '2025-12-22Z', '2025-12-23Z'),
        ('j-timeout', 1001, 'flux', 'Flux', '[]', 1.5, 'timeout', NULL, '[]', 'after 300 s', NULL, '2025-12-23Z'),
        ('j-silent', 1001, 'flux', 'Flux', '"{\"prompt\": \"twice\"}"', 0, 'timeout', NULL, 'null', NULL, '2025-12-22Z', NULL),
        ('j-running', 1001, '', '', 'null', 1.5, 'in_progress', '', NULL, '', '2025-12-22Z', '2025-12-22Z'),
        ('j-odd', 1001, 'flux', 'Flux', '{}', 1.5, 'Completed', NULL, NULL, NULL, now(), now()),
        ('j-same-task', 1001, 'flux', 'Flux', '{}', 1.5, 'pending', 't-2', NULL, NULL, now(), now()),
        ('j-url', 1001, 'flux', 'Flux', '{}', 1.5, 'success', NULL, '[{"url": "x"}]', NULL, now(), now()),
        ('j-price', 1001, 'flux', 'Flux', '{}', -1, 'pending', NULL, NULL, NULL, now(), now()),
        ('j-nobody', NULL, 'flux', 'Flux', '{}', 1, 'pending', NULL, NULL, NULL, now(), now()),
        (' j-space', 1001, 'flux', 'Flux', '{}', 1, 'pending', NULL, NULL, NULL, now(), now()),
        ('j-deep', 1001, 'flux', 'Flux', (repeat('[', 40) || repeat(']', 40))::jsonb, 1, 'pending', NULL, NULL, NULL, now(), now()),
        ('j-error', 1001, 'flux', 'Flux', '{}', 1, 'fail', NULL, NULL, repeat('x', 8193), now(), now());
    INSERT INTO payments (payment_id, user_id, amount, payment_method, screenshot_file_id, status, admin_id, notes,
        created_at, updated_at) VALUES
        ('p-pending', 1001, 100, 'sbp', 'f-1', 'pending', NULL, NULL, '2025-12-22Z', '2025-12-22Z'),
        ('p-approved', 1001, 50, 'card', NULL, 'approved', 1, 'ok', '2025-12-22Z', '2025-12-23Z'),
        ('p-approved-2', 1002, 25.55, '', '', 'approved', 0, '', NULL, NULL),
        ('p-completed', 1001, 10, 'stars', NULL, 'completed', NULL, NULL, '2025-12-22Z', NULL),
        ('p-failed', 1001, 10, 'card', NULL, 'failed', 1, NULL, '2025-12-22Z', '2025-12-22Z'),
        ('p-cancelled', 1001, 10, 'card', NULL, 'cancelled', NULL, NULL, '2025-12-22Z', '2025-12-22Z'),
        ('p-zero', 1001, 0, 'card', NULL, 'pending', NULL, NULL, now(), now()),
        ('p-minus', 1001, -5, 'card', NULL, 'approved', NULL, NULL, now(), now()),
        ('p-nan', 1001, 'NaN', 'card', NULL, 'approved', NULL, NULL, now(), now()),
        ('p-word', 1001, 5, 'card', NULL, 'refunded', NULL, NULL, now(), now()),
        ('p-none', 1001, 5, 'card', NULL, NULL, NULL, NULL, now(), now());
    INSERT INTO referrals (user_id, referrer_id, created_at) VALUES
        (1002, 1001, '2025-12-22Z'), (1003, 0, now()), (1004, 1004, now()), (1005, NULL, now()),
        (1006, 1007, now()), (1007, 1008, now()), (1008, 1006, now()), (1009, 1006, NULL);"#;

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

async fn connect(database: &Database) -> Client {
    let (client, connection) = tokio_postgres::connect(&database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A database in which these tables were adopted.
async fn adopted(sql: &[&str]) -> Database {
    let database = Server::shared().unwrap().create_empty_database().unwrap();
    let client = connect(&database).await;
    for sql in sql {
        client.batch_execute(sql).await.unwrap();
    }
    adopt_tables(&PgOptions::new(database.url()), Duration::from_secs(30)).await.unwrap();
    database
}

async fn read(database: &Database) -> Adopted {
    let read = read_adopted(&PgOptions::new(database.url()), &TimeZone::UTC).await;
    read.unwrap_or_else(|error| panic!("{}", error.error().report()))
}

async fn import(storage: &PgStorage, adopted: &Adopted) -> Vec<ImportOutcome> {
    let mut outcomes = Vec::new();
    for batch in adopted.records.chunks(1000) {
        let batch = batch.iter().map(|record| record.record.clone()).collect();
        outcomes.extend(storage.import_records(batch).await.unwrap());
    }
    outcomes
}

async fn dump(storage: &PgStorage) -> Vec<u8> {
    let mut bytes = Vec::new();
    storage.dump(&mut bytes).await.unwrap();
    bytes
}

/// Refusals as `table key: reason`, without the common part of the table's name.
fn refused(adopted: &Adopted) -> Vec<String> {
    let of = |refusal: &storage_pg::AdoptedRefusal| {
        format!("{} {}: {}", refusal.table.trim_start_matches("legacy_"), refusal.key, refusal.reason)
    };
    adopted.report.refused.iter().map(of).collect()
}

fn notes(adopted: &Adopted) -> Vec<String> {
    let of = |note: &storage_pg::AdoptedNote| {
        let key = note.key.as_ref().map_or_else(String::new, |key| format!(" {key}"));
        format!("{}{key}: {}", note.table.trim_start_matches("legacy_"), note.note)
    };
    adopted.report.notes.iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_trap_is_read_or_refused_by_name() {
    let database = adopted(&[ORIGINAL, TRAPS]).await;
    let adopted = read(&database).await;
    let time = "must be a time in the years 1970 to 9999, not";
    assert_eq!(
        refused(&adopted),
        [
            "users 0: id: must not be 0".to_owned(),
            "users 1003: balance: must not be negative".to_owned(),
            "users 1004: balance: must be a finite number, not NaN".to_owned(),
            format!("users 1005: created_at: {time} \"1969-12-31 23:59:59+00\""),
            format!("users 1006: created_at: {time} \"infinity\""),
            format!("users 1007: created_at: {time} \"10000-01-01 00:00:00+00\""),
            format!("users 1008: created_at: {time} \"0044-03-15 00:00:00+00 BC\""),
            "user_settings 0: user_id: must not be 0".to_owned(),
            "user_settings 0: user_id: must not be 0".to_owned(),
            "user_settings 1003: language: must be a tag of 2 to 35 ASCII letters, digits, hyphens".to_owned(),
            "daily_free_generations 0/2025-12-20: user_id: must not be 0".to_owned(),
            "daily_free_generations 1002/2025-12-21: bonus: must not be negative".to_owned(),
            "daily_free_generations 1009/2025-12-20: count: must not be negative".to_owned(),
            "daily_free_generations 1010/infinity: date: must be a date such as 2026-01-15".to_owned(),
            "admin_limits 1009: limit_amount: must not be negative".to_owned(),
            "operations 6: result_url: must be a list of texts".to_owned(),
            "operations 7: amount: must be a finite number, not NaN".to_owned(),
            "operations 8: user_id: is missing".to_owned(),
            format!("operations 9: created_at: {time} \"-infinity\""),
            "operations 11: result_url: must be a list of texts".to_owned(),
            "referrals 1003: referrer_id: must not be 0".to_owned(),
            "referrals 1004: referrer_id: must not be the user itself".to_owned(),
            "payments p-minus: amount: must not be negative".to_owned(),
            "payments p-nan: amount: must be a finite number, not NaN".to_owned(),
            "payments p-none: status: is missing".to_owned(),
            "payments p-word: status: the word \"refunded\" is unknown".to_owned(),
            "payments p-zero: amount: must be greater than zero".to_owned(),
            "generation_jobs  j-space: job_id: must not begin or end with white space".to_owned(),
            "generation_jobs j-deep: params: must nest at most 32 levels deep".to_owned(),
            "generation_jobs j-error: error_message: must be at most 8 KiB".to_owned(),
            "generation_jobs j-nobody: user_id: is missing".to_owned(),
            "generation_jobs j-odd: status: the word \"Completed\" is unknown".to_owned(),
            "generation_jobs j-price: price: must not be negative".to_owned(),
            "generation_jobs j-same-task: external_task_id: belongs to the job \"j-done\" already".to_owned(),
            "generation_jobs j-url: result_urls: must be a list of texts".to_owned(),
            "referrals 1006: referrer_id: closes a circle (1006 -> 1007 -> 1008 -> 1006)".to_owned(),
            "referrals 1007: referrer_id: closes a circle (1007 -> 1008 -> 1006 -> 1007)".to_owned(),
            "referrals 1008: referrer_id: closes a circle (1008 -> 1006 -> 1007 -> 1008)".to_owned(),
        ]
    );
    let no_json = "the prompt is no whole JSON object: its text was put in as prompt_text";
    assert_eq!(
        notes(&adopted),
        [
            "operations 4: no model: \"unknown\" was put in".to_owned(),
            format!("operations 4: {no_json}"),
            "operations 5: no prompt: {} was put in as params".to_owned(),
            format!("operations 10: {no_json}"),
            format!("operations 12: {no_json}"),
            "operations 12: no created_at: the time of this reading was taken".to_owned(),
            "referrals 1005: no referrer_id: nobody brought this user".to_owned(),
            "payments p-approved-2: no payment_method: \"unknown\" was put in".to_owned(),
            "payments p-approved-2: no created_at: the time of this reading was taken".to_owned(),
            "generation_jobs j-done: a completed job with an error message, which was left out".to_owned(),
            "generation_jobs j-running: no model_id: \"unknown\" was put in".to_owned(),
            "generation_jobs j-running: no model_name: the model_id was put in".to_owned(),
            "generation_jobs j-running: no params: {} was put in".to_owned(),
            "generation_jobs j-silent: the params are a text that holds JSON: what it holds was put in".to_owned(),
            "generation_jobs j-timeout: no created_at: updated_at was taken".to_owned(),
            "payments: 2 approved payments, 75.55 together, may have been credited several times or never: compare \
             them with the balances"
                .to_owned(),
            "users 999999999: the earlier system's test user; imported like any other".to_owned(),
        ]
    );
    let report = &adopted.report;
    let left: Vec<_> = report.left_alone.iter().map(|left| left.reason.as_str()).collect();
    assert_eq!(
        left,
        [
            "rows of the type payment: 1. They are no ledger and add up to no balance",
            "rows of the type refund: 1. They are no ledger and add up to no balance"
        ]
    );
    let uncertain: Vec<_> = report.uncertain_payments.iter().map(|payment| payment.key.as_str()).collect();
    assert_eq!((uncertain, report.uncertain_sum.to_string()), (vec!["p-approved", "p-approved-2"], "75.55".to_owned()));
    assert_eq!((report.balance_sum.to_string().as_str(), report.rounded), ("10000000015.50", 0));
    assert_eq!((report.payments, report.jobs, report.history_records), (6, 5, 5));
    // 1001 1002 999999999 -77 1009 1010, 1003 by its gift, 1006 who brought 1009.
    assert_eq!(report.users, 8);
    let tables: BTreeMap<_, _> =
        report.tables.iter().map(|seen| (seen.table, (seen.rows, seen.records, seen.refused))).collect();
    assert_eq!(tables.len(), 8);
    assert_eq!(tables["legacy_users"], (13, 6, 7));
    assert_eq!(tables["legacy_user_settings"], (5, 4, 3));
    assert_eq!(tables["legacy_daily_free_generations"], (8, 2, 4));
    assert_eq!(tables["legacy_referrals"], (8, 2, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_is_imported_once_and_a_second_time_changes_nothing() {
    let database = adopted(&[ORIGINAL, TRAPS]).await;
    let adopted = read(&database).await;
    let storage = PgStorage::open(PgOptions::new(database.url())).await.unwrap();
    for (record, outcome) in adopted.records.iter().zip(import(&storage, &adopted).await) {
        assert_eq!(outcome, ImportOutcome::Added, "{record:?}");
    }

    let known = storage.get_user(user(1001)).await.unwrap();
    assert_eq!((known.balance.to_string().as_str(), known.gift_claimed), ("12.50", true));
    assert_eq!((known.language.as_str(), known.referrer), ("ru", None));
    assert_eq!(known.created_at.to_string(), "2025-12-01T07:00:00.000001Z");
    assert_eq!(storage.get_balance(user(1002)).await.unwrap().to_string(), "9999999999.99");
    // Nobody is created by a balance that was refused, but by another record.
    assert_eq!(storage.find_user(user(1004)).await.unwrap(), None);
    assert_eq!(storage.find_user(user(1003)).await.unwrap().unwrap().balance.to_string(), "0.00");
    let quota = adopted.records.iter().find_map(|record| match record.record {
        ImportRecord::Quota { user: of, date, used, bank } if of == user(1001) => Some(Quota { date, used, bank }),
        _ => None,
    });
    assert_eq!(quota, Some(Quota { date: Some("2025-12-21".parse().unwrap()), used: 1, bank: 12 }));
    let limit = AdminLimit::Limited("100".parse().unwrap());
    assert_eq!(storage.get_admin_limit(user(1001)).await.unwrap(), limit);
    assert_eq!(storage.get_admin_spent(user(1001)).await.unwrap().to_string(), "9.76");
    assert_eq!(storage.get_admin_spent(user(1009)).await.unwrap().to_string(), "0.00");

    history_is_there(&storage).await;
    jobs_are_there(&storage).await;
    for (id, status) in [
        ("p-pending", PaymentStatus::Pending),
        ("p-approved", PaymentStatus::Approved),
        ("p-completed", PaymentStatus::Approved),
        ("p-failed", PaymentStatus::Rejected),
        ("p-cancelled", PaymentStatus::Cancelled),
    ] {
        let payment = storage.get_payment(&id.parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(payment.status, status, "{id}");
    }
    let payment = storage.get_payment(&"p-approved".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((payment.admin, payment.notes.as_ref().map(storage_core::Note::as_str)), (Some(user(1)), Some("ok")));
    assert_eq!(storage.get_referrer(user(1002)).await.unwrap(), Some(user(1001)));
    assert_eq!(storage.get_referrer(user(1009)).await.unwrap(), Some(user(1006)));
    assert_eq!(storage.get_referrer(user(1006)).await.unwrap(), None);
    assert!(storage.audit(AuditScope::Everyone).await.unwrap().is_clean());

    let before = dump(&storage).await;
    let again = read(&database).await;
    assert_eq!(again.report, adopted.report);
    for (record, outcome) in again.records.iter().zip(import(&storage, &again).await) {
        assert!(matches!(outcome, ImportOutcome::Same | ImportOutcome::Kept(_)), "{record:?}: {outcome:?}");
    }
    assert!(before == dump(&storage).await);

    // What is decided never credits; what waits is credited here, once.
    for id in ["p-approved", "p-completed", "p-pending"] {
        storage
            .mark_payment_status(MarkPaymentStatus::new(id.parse().unwrap(), PaymentStatus::Approved))
            .await
            .unwrap();
    }
    assert_eq!(storage.get_balance(user(1001)).await.unwrap().to_string(), "112.50");
    assert!(storage.audit(AuditScope::Everyone).await.unwrap().is_clean());
}

async fn history_is_there(storage: &PgStorage) {
    let history = storage.get_user_generations_history(GetUserGenerationsHistory::of(user(1001))).await.unwrap();
    let entries: Vec<_> = history
        .items
        .iter()
        .map(|entry| {
            let params = entry.params.to_value().unwrap();
            (entry.id.as_str(), entry.model_id.as_str(), entry.price.to_string(), params, entry.result_urls.as_slice())
        })
        .collect();
    let urls = |urls: &[&str]| urls.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        entries,
        [
            (
                "operations:10",
                "flux",
                "0.01".to_owned(),
                json!({"prompt_text": "say \"hi\" \\ \n["}),
                &urls(&["https://e/twice"])[..]
            ),
            ("operations:5", "flux", "0.00".to_owned(), json!({}), &[]),
            (
                "operations:4",
                "unknown",
                "2.25".to_owned(),
                json!({"prompt_text": "{\"prompt\": \"a cat in the ra"}),
                &urls(&["https://e/plain?a=[1]"])
            ),
            (
                "operations:3",
                "flux",
                "7.50".to_owned(),
                json!({"prompt": "кот", "n": 1}),
                &urls(&["https://e/1", "https://e/2&x"])
            ),
        ]
    );
}

async fn jobs_are_there(storage: &PgStorage) {
    let mut jobs = BTreeMap::new();
    for id in ["j-pending", "j-done", "j-timeout", "j-silent", "j-running"] {
        jobs.insert(id, storage.get_job(&id.parse().unwrap()).await.unwrap().unwrap());
    }
    let message = |id: &str| jobs[id].error_message.as_ref().map(|message| message.as_str().to_owned());
    assert_eq!(
        jobs["j-pending"].params.to_value().unwrap(),
        json!({"prompt": "x", "big": 12_345_678_901_234_567_890_u64})
    );
    assert_eq!((jobs["j-done"].status, message("j-done")), (JobStatus::Completed, None));
    assert_eq!(jobs["j-done"].result_urls.as_slice(), ["https://e/1"]);
    assert_eq!(
        (jobs["j-timeout"].status, message("j-timeout")),
        (JobStatus::Failed, Some("timeout: after 300 s".to_owned()))
    );
    assert_eq!(jobs["j-timeout"].created_at.to_string(), "2025-12-23T00:00:00.000000Z");
    assert_eq!(message("j-silent"), Some("timeout".to_owned()));
    assert_eq!(jobs["j-silent"].params.to_value().unwrap(), json!({"prompt": "twice"}));
    assert_eq!((jobs["j-running"].status, jobs["j-running"].model_name.as_str()), (JobStatus::Running, "unknown"));
    assert!(storage.find_job_by_task_id(&"t-1".parse().unwrap()).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_variant_has_two_tables_and_negative_amounts() {
    let older = "
        CREATE SCHEMA shop_7;
        SET search_path TO shop_7;
        CREATE TABLE users (id BIGINT PRIMARY KEY, balance NUMERIC(12, 2) DEFAULT 0);
        CREATE TABLE operations (id BIGSERIAL PRIMARY KEY, user_id BIGINT, type TEXT, amount NUMERIC(12, 2),
            created_at TIMESTAMPTZ DEFAULT now());
        INSERT INTO users VALUES (1, 5.5), (2, NULL);
        INSERT INTO operations (user_id, type, amount) VALUES (1, 'generation', -5), (1, 'generation', -0.5),
            (1, 'payment', 11), (3, 'generation', NULL), (1, 'gift', 1), (1, NULL, 1);";
    let database = Server::shared().unwrap().create_empty_database().unwrap();
    connect(&database).await.batch_execute(older).await.unwrap();
    let options = PgOptions { schema: "shop_7".to_owned(), ..PgOptions::new(database.url()) };
    adopt_tables(&options, Duration::from_secs(30)).await.unwrap();
    let adopted = read_adopted(&options, &TimeZone::UTC).await.unwrap();
    assert_eq!(
        refused(&adopted),
        [
            "users 2: balance: is missing",
            "operations 5: type: the word \"gift\" is unknown",
            "operations 6: type: is missing"
        ]
    );
    assert_eq!((adopted.report.tables.len(), adopted.report.users, adopted.report.history_records), (2, 2, 3));
    assert!(notes(&adopted).contains(&"operations 4: no price: 0 was put in".to_owned()), "{:?}", notes(&adopted));
    let storage = PgStorage::open(options).await.unwrap();
    assert!(import(&storage, &adopted).await.iter().all(|outcome| *outcome == ImportOutcome::Added));
    assert_eq!(storage.get_balance(user(1)).await.unwrap().to_string(), "5.50");
    assert_eq!(storage.get_admin_spent(user(1)).await.unwrap().to_string(), "5.50");
    assert!(storage.audit(AuditScope::Everyone).await.unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn forks_are_read_by_what_they_have() {
    let fork = r#"
        ALTER TABLE users ALTER id TYPE TEXT, ALTER balance TYPE DOUBLE PRECISION, ADD nickname TEXT,
            ALTER created_at TYPE TIMESTAMP;
        ALTER TABLE payments ADD balance_charged BOOLEAN, ADD idempotency_key TEXT, DROP notes;
        ALTER TABLE admin_limits ADD spent NUMERIC;
        ALTER TABLE generation_jobs ALTER params TYPE TEXT, ALTER result_urls TYPE JSON, DROP CONSTRAINT generation_jobs_pkey,
            ALTER job_id DROP NOT NULL;
        INSERT INTO users (id, balance, created_at) VALUES ('7', 2402.2999999999997, '2026-01-15 10:00'),
            ('x', 1, NULL), ('+8', 1, NULL);
        INSERT INTO admin_limits VALUES (7, 100, now(), now(), 3.5), (8, 100, now(), now(), NULL);
        INSERT INTO operations (user_id, type, amount, prompt) VALUES (7, 'generation', 1, '{}'), (8, 'generation', 2, '{}');
        INSERT INTO payments (payment_id, user_id, amount, payment_method, status, balance_charged) VALUES
            ('a', 7, 1, 'card', 'approved', TRUE), ('b', 7, 1, 'card', 'approved', FALSE),
            ('c', 7, 1, 'card', 'pending', TRUE), ('d', 7, 1, 'card', 'completed', FALSE);
        INSERT INTO generation_jobs (job_id, user_id, model_id, model_name, params, price, result_urls) VALUES
            ('j', 7, 'm', 'M', '{"a":"\u0041"}', 1, '["https://e/\u0000"]'), (NULL, 7, 'm', 'M', '{}', 1, NULL),
            ('k', 7, 'm', 'M', '{"a":"\u0041"}', 1, '["https://e/\u0041"]');"#;
    let plain = ORIGINAL.replace("REFERENCES users (id) ON DELETE CASCADE", "");
    let database = adopted(&[&plain, fork, "DROP TABLE referrals; CREATE TABLE legacy_referrals (id BIGINT)"]).await;
    let options = PgOptions::new(database.url());
    let adopted = read_adopted(&options, &TimeZone::new("Europe/Moscow").unwrap()).await.unwrap();
    assert_eq!(
        refused(&adopted),
        [
            "users +8: id: must have no sign and no zeros in front",
            "users x: id: must be a whole number other than 0",
            "payments c: status: is pending, but balance_charged says that it was credited: decide which is true",
            "generation_jobs j: result_urls: must be a list of texts",
            "generation_jobs NULL: job_id: is missing",
        ]
    );
    let left: Vec<_> = adopted.report.left_alone.iter().map(|left| (left.table, left.reason.as_str())).collect();
    assert_eq!(left, [("legacy_referrals", "not the earlier system's: no user_id, referrer_id")]);
    for note in [
        "users: nobody knows these columns, they were left alone: nickname",
        "payments: nobody knows these columns, they were left alone: idempotency_key",
    ] {
        assert!(notes(&adopted).iter().any(|found| found == note), "{:?}", notes(&adopted));
    }
    let report = &adopted.report;
    let rounded: Vec<_> =
        report.roundings.iter().map(|r| (r.key.as_str(), r.from.as_str(), r.to.to_string())).collect();
    assert_eq!((rounded, report.rounded), (vec![("7", "2402.2999999999997", "2402.30".to_owned())], 1));
    let uncertain: Vec<_> = report.uncertain_payments.iter().map(|payment| payment.key.as_str()).collect();
    assert_eq!(uncertain, ["b", "d"]);
    let mut spent = Vec::new();
    for AdoptedRecord { table, key, record } in &adopted.records {
        match record {
            ImportRecord::Balance { created_at, .. } => {
                assert_eq!(created_at.unwrap().to_string(), "2026-01-15T07:00:00.000000Z");
            }
            // Stored or summed, never both.
            ImportRecord::Spent { user, spent: sum } => spent.push((user.get(), *table, &**key, sum.to_string())),
            ImportRecord::Job(job) => {
                assert_eq!(
                    (job.id.as_str(), job.params.as_json(), job.result_urls.as_slice()[0].as_str()),
                    ("k", r#"{"a":"A"}"#, "https://e/A")
                );
            }
            _ => {}
        }
    }
    let stored =
        [(7, "legacy_admin_limits", "7", "3.50".to_owned()), (8, "legacy_operations", "user 8", "2.00".to_owned())];
    assert_eq!(spent, stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_users_are_read_within_seconds_and_through_a_pooler() {
    let many = "
        INSERT INTO users SELECT n, n % 1000 FROM generate_series(1, 20000) n;
        INSERT INTO user_settings (user_id) SELECT n FROM generate_series(1, 20000) n;
        INSERT INTO daily_free_generations SELECT n, '2025-12-20', 1, 1 FROM generate_series(1, 20000) n;
        INSERT INTO operations (user_id, type, amount, prompt) SELECT n, 'generation', 1.5, '{\"prompt\": \"x\"}'
            FROM generate_series(1, 20000) n;
        INSERT INTO operations (user_id, type, amount, prompt) SELECT n, 'generation', 1.5, '{\"prompt\": \"x'
            FROM generate_series(1, 25) n;
        INSERT INTO payments (payment_id, user_id, amount, payment_method, status)
            SELECT 'p-' || n, n, 1, 'card', 'approved' FROM generate_series(1, 20000) n;
        INSERT INTO generation_jobs (job_id, user_id, model_id, model_name, params, price)
            SELECT 'j-' || n, n, 'm', 'M', '{\"prompt\": \"x\"}', 1 FROM generate_series(1, 20000) n;
        INSERT INTO referrals SELECT n, n / 2 FROM generate_series(2, 20000) n;";
    let database = adopted(&[ORIGINAL, many]).await;
    for url in [database.url(), PgBouncer::shared().unwrap().url(database.name())] {
        let begun = Instant::now();
        let adopted = read_adopted(&PgOptions::new(url), &TimeZone::UTC).await.unwrap();
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(20), "{took:?}");
        println!("{} records in {took:?}", adopted.records.len());
        let report = &adopted.report;
        assert_eq!(
            (report.users, report.payments, report.jobs, report.history_records),
            (20_000, 20_000, 20_000, 20_025)
        );
        assert_eq!((report.refused.len(), report.balance_sum.to_string().as_str()), (0, "9990000.00"));
        assert_eq!((report.uncertain_payments.len(), report.uncertain_sum.to_string().as_str()), (20_000, "20000.00"));
        let prompts: Vec<_> = notes(&adopted).into_iter().filter(|note| note.contains("prompt_text")).collect();
        assert_eq!(prompts.len(), 21);
        assert!(prompts[20].ends_with("(and for 5 more rows)"), "{}", prompts[20]);
        // No end of a page loses anybody.
        let users: Vec<_> =
            adopted.records.iter().filter(|r| matches!(r.record, ImportRecord::Balance { .. })).collect();
        assert!(users.iter().zip(1..).all(|(record, id)| record.record.user() == user(id)) && users.len() == 20_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_adopted_tables_there_is_nothing() {
    let database = Server::shared().unwrap().create_empty_database().unwrap();
    let adopted = read(&database).await;
    assert!(adopted.records.is_empty() && adopted.report == storage_pg::AdoptedReport::default());
    let nowhere = PgOptions::new("postgresql://nobody@127.0.0.1:1/none");
    assert!(read_adopted(&nowhere, &TimeZone::UTC).await.unwrap_err().is_unreachable());
}
