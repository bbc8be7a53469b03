//! What was stored before the rules moved into the kernel opens and means the same: a directory, a database and a dump.
//!
//! `fixtures/` was written by the program of before, with `FIXTURES=write`; it is not written again.

#![expect(clippy::disallowed_methods, reason = "files of a test, not of a store")]
#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use pg_test_server::Server;
use storage_core::*;
use storage_json::{JsonOptions, JsonStorage};
use storage_pg::{PgOptions, PgStorage};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn environment(lane: u32) -> Environment {
    let clock = ManualClock::at("2026-01-15T12:00:00Z".parse().unwrap());
    Environment { clock: Arc::new(clock), ids: Arc::new(SequentialIds::lane(lane)), policy: Policy::default() }
}

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn key(text: &str) -> OperationKey {
    text.parse().unwrap()
}

/// What a call that repeats an earlier one must answer: whether it is a replay, and a figure that no later call moves.
struct Answer(&'static str, String, bool);

fn receipt(call: &'static str, receipt: Receipt) -> Answer {
    Answer(call, format!("{} {}", receipt.operation, receipt.balance_after), receipt.replayed)
}

fn quota(call: &'static str, receipt: QuotaReceipt) -> Answer {
    let QuotaReceipt { operation, source, remaining_after, replayed } = receipt;
    Answer(call, format!("{operation} {source:?} {remaining_after}"), replayed)
}

/// Every kind of call, each with a key.
#[expect(clippy::too_many_lines, reason = "one list")]
async fn calls(storage: &dyn Storage) -> Result<Vec<Answer>> {
    let memo = Memo {
        reference: Some("order-1".parse()?),
        reason: Some("a gift, with \"quotes\" and a line\nbreak".parse()?),
        actor: Some("operator".parse()?),
    };
    let amount = |text: &str| text.parse::<Amount>();
    let params = || Params::from_json(r#"{"prompt":"a cat","steps":[1,2.50,-0.0]}"#);
    let job = |id: Option<&str>, task: Option<&str>, used: &str| {
        Ok::<_, Error>(AddGenerationJob {
            user: user(1),
            job: id.map(str::parse).transpose()?,
            external_task_id: task.map(str::parse).transpose()?,
            model_id: "z-image".parse()?,
            model_name: "Z Image".parse()?,
            params: params()?,
            price: "7.5".parse()?,
            key: Some(key(used)),
        })
    };
    let mut answers = Vec::new();
    let done = storage.set_user_language(SetUserLanguage {
        key: Some(key("language")),
        ..SetUserLanguage::new(user(1), "en".parse()?)
    });
    answers.push(Answer("language", String::new(), done.await?.replayed));
    let gift = storage.set_gift_claimed(SetGiftClaimed { user: user(1), key: Some(key("gift")) }).await?;
    answers.push(Answer("gift", gift.first.to_string(), gift.replayed));
    let add = AddBalance { user: user(1), amount: amount("100.000001")?, memo, key: Some(key("credit")) };
    answers.push(receipt("credit", storage.add_balance(add).await?));
    let debit = SubtractBalance { key: Some(key("debit")), ..SubtractBalance::new(user(1), amount("0.5")?) };
    answers.push(receipt("debit", storage.subtract_balance(debit).await?));
    let set = SetBalance { key: Some(key("set")), ..SetBalance::new(user(2), "20".parse()?) };
    answers.push(receipt("set", storage.set_balance(set).await?));
    let unchanged = SetBalance { key: Some(key("set again")), ..SetBalance::new(user(2), "20".parse()?) };
    answers.push(receipt("set again", storage.set_balance(unchanged).await?));
    for (name, used) in [("open", "hold-1"), ("spent", "hold-2"), ("part", "hold-3"), ("back", "hold-4")] {
        let hold = ReserveBalance { key: Some(key(used)), ..ReserveBalance::new(user(1), name.parse()?, amount("2")?) };
        answers
            .push(receipt("hold", storage.reserve_balance(hold.expiring_at("2026-02-01T00:00:00Z".parse()?)).await?));
    }
    for (name, part, used) in [("spent", None, "commit-1"), ("part", Some(amount("0.75")?), "commit-2")] {
        let commit = CommitReserve { user: user(1), name: name.parse()?, amount: part, key: Some(key(used)) };
        answers.push(receipt("commit", storage.commit_reserve(commit).await?));
    }
    let release = ReleaseReserve { user: user(1), name: "back".parse()?, key: Some(key("release")) };
    answers.push(receipt("release", storage.release_reserve(release).await?));
    let limit = SetAdminLimit { user: user(2), limit: "50".parse()?, key: Some(key("limit")) };
    answers.push(Answer("limit", String::new(), storage.set_admin_limit(limit).await?.replayed));
    let take = IncrementFreeGenerations { user: user(1), key: Some(key("take")) };
    answers.push(quota("take", storage.increment_free_generations(take).await?));
    let bonus = AddReferralBonus { key: Some(key("bonus")), ..AddReferralBonus::new(user(2)) };
    answers.push(quota("bonus", storage.add_referral_bonus(bonus).await?));
    for (id, task, used) in
        [(Some("job-1"), Some("task-1"), "job-1"), (None, Some("task-2"), "job-2"), (None, None, "job-3")]
    {
        let stored = storage.add_generation_job(job(id, task, used)?).await?;
        answers.push(Answer("job", stored.record.id.to_string(), stored.replayed));
    }
    let mut update = UpdateJobStatus::new("job-1".parse()?, JobStatus::Completed);
    update.result_urls = Some(ResultUrls::new(["https://example.org/1.png"])?);
    update.key = Some(key("update"));
    let stored = storage.update_job_status(update).await?;
    answers.push(Answer("update", stored.record.status.to_string(), stored.replayed));
    let generation = AddGenerationToHistory {
        user: user(1),
        id: Some("generation-1".parse()?),
        model_id: "z-image".parse()?,
        model_name: "Z Image".parse()?,
        params: params()?,
        result_urls: ResultUrls::new(["https://example.org/1.png"])?,
        price: "7.5".parse()?,
    };
    let recorded = storage.add_generation_to_history(generation).await?;
    answers.push(Answer("generation", recorded.id.to_string(), recorded.replayed));
    for (id, provider, used) in [(Some("pay-1"), Some("charge-1"), "pay-1"), (None, None, "pay-2")] {
        let add = AddPayment {
            payment: id.map(str::parse).transpose()?,
            provider_key: provider.map(str::parse).transpose()?,
            notes: Some("by card".parse()?),
            key: Some(key(used)),
            ..AddPayment::new(user(2), amount("5")?, "card".parse()?)
        };
        let stored = storage.add_payment(add).await?;
        answers.push(Answer("payment", stored.record.id.to_string(), stored.replayed));
    }
    let mark = MarkPaymentStatus::new("pay-1".parse()?, PaymentStatus::Approved);
    let marked = storage
        .mark_payment_status(MarkPaymentStatus { key: Some(key("approve")), admin: Some(user(9)), ..mark })
        .await?;
    answers.push(Answer("approve", String::new(), marked.replayed));
    let refunded = storage
        .refund_payment(RefundPayment { key: Some(key("refund")), ..RefundPayment::new("pay-1".parse()?) })
        .await?;
    answers.push(Answer("refund", String::new(), refunded.replayed));
    let brought = SetReferrer {
        bonus: Some(BonusCount::default()),
        key: Some(key("refer")),
        ..SetReferrer::new(user(1), user(3))
    };
    answers.push(Answer("refer", String::new(), storage.set_referrer(brought).await?.replayed));
    Ok(answers)
}

async fn dumped(storage: &dyn Storage) -> String {
    let mut bytes = Vec::new();
    storage.dump(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

fn listed(answers: &[Answer]) -> String {
    let lines: Vec<String> = answers.iter().map(|Answer(call, figure, _)| format!("{call}: {figure}\n")).collect();
    lines.concat()
}

/// The store has what it had, and answers every call as it did.
async fn means_the_same(of: &str, storage: &dyn Storage) {
    assert_eq!(dumped(storage).await, read("dump.jsonl"), "{of}");
    let answers = calls(storage).await.unwrap();
    assert_eq!(listed(&answers), read("answers.txt"), "{of}");
    let anew: Vec<&str> = answers.iter().filter(|answer| !answer.2).map(|answer| answer.0).collect();
    assert!(anew.is_empty(), "{of} did these again: {anew:?}");
    assert_eq!(dumped(storage).await, read("dump.jsonl"), "{of}");
    assert!(storage.audit(AuditScope::Everyone).await.unwrap().is_clean(), "{of}");
}

fn read(name: &str) -> String {
    std::fs::read_to_string(fixtures().join(name)).unwrap()
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_before_means_the_same() {
    let temp = tempfile::tempdir().unwrap();
    let server = Server::shared().unwrap();
    let database = server.create_database_with("storage_of_nobody", |_| Ok(())).unwrap();
    if std::env::var("FIXTURES").is_ok_and(|word| word == "write") {
        return write(&database.url()).await;
    }
    // The directory of a process that was killed, and of one that closed the store.
    for name in ["killed", "closed"] {
        let dir = temp.path().join(name);
        run(Command::new("cp").arg("-r").arg(fixtures().join(name)).arg(&dir));
        let options = JsonOptions { environment: environment(8), ..JsonOptions::new(&dir) };
        let storage = JsonStorage::open(options).await.unwrap();
        means_the_same(name, &storage).await;
        storage.close().await.unwrap();
    }
    let (client, connection) = tokio_postgres::connect(&database.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(&read("database.sql")).await.unwrap();
    let options = PgOptions { environment: environment(8), ..PgOptions::new(database.url()) };
    let storage = PgStorage::open(options).await.unwrap();
    means_the_same("the database", &storage).await;
    for backend in conformance_differential::every_backend().unwrap() {
        let site = backend.create().await.unwrap();
        let storage = backend.open(&site, environment(8)).await.unwrap();
        storage.restore(&mut std::io::Cursor::new(read("dump.jsonl").into_bytes())).await.unwrap();
        means_the_same(backend.name(), &*storage).await;
        drop(storage);
        backend.destroy(site).await;
    }
}

async fn write(url: &str) {
    let options = JsonOptions { environment: environment(7), ..JsonOptions::new(fixtures().join("closed")) };
    let storage = JsonStorage::open(options).await.unwrap();
    let answers = calls(&storage).await.unwrap();
    std::fs::write(fixtures().join("answers.txt"), listed(&answers)).unwrap();
    std::fs::write(fixtures().join("dump.jsonl"), dumped(&storage).await).unwrap();
    run(Command::new("cp").arg("-r").arg(fixtures().join("closed")).arg(fixtures().join("killed")));
    storage.close().await.unwrap();
    // They name the process that wrote this, and are made anew.
    run(Command::new("find").arg(fixtures()).args(["-name", "*.lock", "-delete"]));
    let options = |lane| PgOptions { environment: environment(lane), ..PgOptions::new(url) };
    storage_pg::migrate(&options(9), std::time::Duration::from_secs(30)).await.unwrap();
    // The first opening draws the store's own id.
    PgStorage::open(options(9)).await.unwrap().close().await.unwrap();
    let storage = PgStorage::open(options(7)).await.unwrap();
    assert_eq!(listed(&calls(&storage).await.unwrap()), listed(&answers));
    let sql = run(Command::new("pg_dump").args(["--no-owner", "--no-privileges", "--inserts", url]));
    let sql = String::from_utf8(sql).unwrap();
    let sql: Vec<&str> = sql.lines().filter(|line| !line.starts_with('\\')).collect();
    std::fs::write(fixtures().join("database.sql"), sql.join("\n")).unwrap();
}
