//! What the bot does for people, step by step, on each backend.
#![expect(clippy::unwrap_used, reason = "a test that fails must stop")]

mod common;

use std::time::Duration;

use common::{ADMIN, Place, bot, offered, press, told, until, user};
use fake_telegram::{Failure, Telegram};
use storage_core::{AuditScope, JobStatus, ListJobs, ListOperations, OperationKind, SharedStorage};

const ANNA: i64 = 1001;
const BORIS: i64 = 1002;

async fn balance(storage: &SharedStorage, id: i64) -> String {
    storage.get_balance(user(id)).await.unwrap().to_string()
}

async fn free(storage: &SharedStorage, id: i64) -> u64 {
    storage.get_user_free_generations_remaining(user(id)).await.unwrap()
}

/// Anna pays and an admin approves.
async fn paid(telegram: &Telegram, id: i64, file: &str, amount: &str) {
    telegram.photo(id, file, &format!("/paid {amount}"));
    let asked = told(telegram, ADMIN, &format!("{id} says: {amount}")).await;
    press(telegram, ADMIN, &asked, "approve");
    told(telegram, id, "was approved").await;
}

async fn a_day(place: Place) {
    let telegram = Telegram::start("127.0.0.1:0").await.unwrap();
    let storage = place.open().await;
    let _bot = bot(&telegram, &place, &[("STORAGE_DAILY_FREE", "1")]);
    // Whoever never wrote cannot be written to.
    telegram.say(ADMIN, "/start");
    telegram.say(ANNA, "/start");
    told(&telegram, ANNA, "0.00 credits and 1 free generations").await;

    // The free one first.
    let offer = offered(&telegram, ANNA, "a cat").await;
    press(&telegram, ANNA, &offer, "generate");
    press(&telegram, ANNA, &offer, "generate");
    let delivered = told(&telegram, ANNA, "https://example.org/").await;
    assert_eq!(delivered.id, offer.id, "the offer becomes the delivery");
    assert!(delivered.buttons.is_empty());

    // Then there is nothing to pay with.
    let offer = offered(&telegram, ANNA, "a dog").await;
    press(&telegram, ANNA, &offer, "generate");
    told(&telegram, ANNA, "7.50 credits are needed, 0.00 are there. You were charged nothing.").await;

    // Paid, and approved once by an admin who presses twice; the same picture is no second payment.
    paid(&telegram, ANNA, "receipt-1", "20").await;
    let asked = told(&telegram, ADMIN, "20.00 approved by 1").await;
    assert!(asked.buttons.is_empty());
    telegram.press(ADMIN, asked.id, &format!("approve:tg-1-{ANNA}-999"));
    telegram.photo(ANNA, "receipt-1", "/paid 20");
    told(&telegram, ANNA, "told of a payment already").await;

    // A generation for credits; one that fails costs nothing.
    let offer = offered(&telegram, ANNA, "a dog").await;
    press(&telegram, ANNA, &offer, "generate");
    until("a dog", || telegram.chat(ANNA).iter().any(|posted| posted.id == offer.id && posted.text.contains("http")))
        .await;
    let offer = offered(&telegram, ANNA, "something impossible").await;
    press(&telegram, ANNA, &offer, "generate");
    told(&telegram, ANNA, "There is no picture: the model cannot draw that. You were charged nothing.").await;
    until("everything confirmed", || telegram.unconfirmed() == 0).await;
    telegram.say(ANNA, "/balance");
    told(&telegram, ANNA, "You have 12.50 credits").await;
    telegram.say(ANNA, "/history");
    told(&telegram, ANNA, "7.50 credits: https://example.org/").await;

    // Somebody comes by Anna's link, and again, and by somebody else's.
    telegram.say(BORIS, &format!("/start ref_{ANNA}"));
    told(&telegram, BORIS, "Hello!").await;
    telegram.say(BORIS, &format!("/start ref_{ANNA}"));
    telegram.say(BORIS, &format!("/start ref_{ADMIN}"));
    until("everything confirmed", || telegram.unconfirmed() == 0).await;
    assert_eq!(storage.get_referrer(user(BORIS)).await.unwrap(), Some(user(ANNA)));
    // The store answers by its own policy here, of 5 a day: 1 was taken, 5 came.
    assert_eq!(free(&storage, ANNA).await, 5 - 1 + 5);
    assert_eq!(balance(&storage, ANNA).await, "12.50");
    assert!(storage.audit(AuditScope::Everyone).await.unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_on_json() {
    a_day(Place::json()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_on_postgresql() {
    a_day(Place::postgres()).await;
}

/// Buttons carry what whoever presses them says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_button_gets_nothing() {
    let telegram = Telegram::start("127.0.0.1:0").await.unwrap();
    let place = Place::json();
    let storage = place.open().await;
    let _bot = bot(&telegram, &place, &[("STORAGE_DAILY_FREE", "0")]);
    telegram.say(ADMIN, "/start");
    paid_only(&telegram).await;
    let payment = told(&telegram, ADMIN, "says: 100.00").await;
    let data = payment.buttons[0].data.clone();
    // Anna approves her own payment, orders for less, and presses what no offer has.
    let offer = offered(&telegram, ANNA, "a cat").await;
    for forged in [data.as_str(), "generate:0.01", "generate:", "generate:-1", "reject:tg-1-1001-1", "nonsense", ""] {
        telegram.press(ANNA, offer.id, forged);
    }
    until("everything confirmed", || telegram.unconfirmed() == 0).await;
    assert_eq!(balance(&storage, ANNA).await, "0.00");
    assert!(storage.list_jobs(ListJobs::default()).await.unwrap().items.is_empty());
    assert_eq!(telegram.answers()[..2], ["This is for admins.", "The price is another one since: ask again."]);
    // A payment that was rejected cannot be approved.
    press(&telegram, ADMIN, &payment, "reject");
    told(&telegram, ANNA, "was rejected").await;
    telegram.press(ADMIN, payment.id, &data);
    until("everything confirmed", || telegram.unconfirmed() == 0).await;
    assert_eq!(balance(&storage, ANNA).await, "0.00");
    assert_eq!(telegram.answers().last().unwrap(), "It is rejected.");
}

async fn paid_only(telegram: &Telegram) {
    telegram.say(ANNA, "/start");
    // Neither an amount, nor one that is none.
    for caption in ["", "/paid", "/paid -5", "/paid 1e9", "/paid 0"] {
        telegram.photo(ANNA, "receipt-0", caption);
    }
    told(telegram, ANNA, "Say with the picture what you paid").await;
    telegram.photo(ANNA, "receipt-2", "/paid 100");
}

/// What cannot be delivered is not paid.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_bot_charges_nothing() {
    let telegram = Telegram::start("127.0.0.1:0").await.unwrap();
    let place = Place::json();
    let storage = place.open().await;
    let _bot = bot(&telegram, &place, &[("STORAGE_DAILY_FREE", "0"), ("BOT_TAKES_MS", "1000")]);
    telegram.say(ADMIN, "/start");
    telegram.say(ANNA, "/start");
    paid(&telegram, ANNA, "receipt-1", "20").await;
    let (blocked, deleted) = (offered(&telegram, ANNA, "a cat").await, offered(&telegram, ANNA, "a dog").await);
    press(&telegram, ANNA, &deleted, "generate");
    until("everything confirmed", || telegram.unconfirmed() == 0).await;
    telegram.delete(ANNA, deleted.id);
    press(&telegram, ANNA, &blocked, "generate");
    until("everything confirmed", || telegram.unconfirmed() == 0).await;
    telegram.block(ANNA);
    let end = tokio::time::Instant::now() + Duration::from_mins(1);
    loop {
        let jobs = storage.list_jobs(ListJobs::default()).await.unwrap().items;
        if jobs.len() == 2 && jobs.iter().all(|job| job.status == JobStatus::Failed) {
            assert!(jobs.iter().all(|job| job.error_message.as_ref().unwrap().as_str() == "it could not be delivered"));
            break;
        }
        assert!(tokio::time::Instant::now() < end, "{jobs:#?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(balance(&storage, ANNA).await, "20.00");
    let kinds: Vec<OperationKind> = storage
        .list_operations(ListOperations::of(user(ANNA)))
        .await
        .unwrap()
        .items
        .iter()
        .map(|row| row.kind)
        .collect();
    assert!(!kinds.contains(&OperationKind::Commit), "{kinds:?}");
    assert!(storage.audit(AuditScope::Everyone).await.unwrap().is_clean());
}

/// A picture that arrived is paid, whatever came back instead of Telegram's word for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_whose_answer_is_lost_is_a_delivery() {
    let telegram = Telegram::start("127.0.0.1:0").await.unwrap();
    let place = Place::json();
    let storage = place.open().await;
    let _bot = bot(&telegram, &place, &[("STORAGE_DAILY_FREE", "0")]);
    telegram.say(ADMIN, "/start");
    telegram.say(ANNA, "/start");
    paid(&telegram, ANNA, "receipt-1", "37.50").await;
    let failures =
        [Failure::RequestLost, Failure::AnswerLost, Failure::Unreadable, Failure::Flooded, Failure::ServerError];
    for (count, failure) in failures.into_iter().enumerate() {
        let offer = offered(&telegram, ANNA, &format!("cat {count}")).await;
        telegram.fail_once("EditMessageText", failure);
        press(&telegram, ANNA, &offer, "generate");
        let sold = format!("tg-1-{ANNA}-{}", offer.id).parse().unwrap();
        let end = tokio::time::Instant::now() + Duration::from_mins(1);
        while storage.get_job(&sold).await.unwrap().is_none_or(|job| job.status != JobStatus::Completed) {
            assert!(tokio::time::Instant::now() < end, "{failure:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let posted = telegram.chat(ANNA).into_iter().find(|posted| posted.id == offer.id).unwrap();
        assert!(posted.text.contains("https://"), "{failure:?}: {posted:?}");
        assert_eq!(posted.earlier.len(), 1, "{failure:?}: {posted:?}");
    }
    assert_eq!(balance(&storage, ANNA).await, "0.00");
    assert!(storage.audit(AuditScope::Everyone).await.unwrap().is_clean());
}

/// Whoever sees a picture finds it in their history, also before it is noted as sold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_that_is_seen_is_in_the_history() {
    let telegram = Telegram::start("127.0.0.1:0").await.unwrap();
    let place = Place::json();
    let storage = place.open().await;
    let _bot = bot(&telegram, &place, &[("STORAGE_DAILY_FREE", "0")]);
    telegram.say(ADMIN, "/start");
    telegram.say(ANNA, "/start");
    paid(&telegram, ANNA, "receipt-1", "7.50").await;
    let offer = offered(&telegram, ANNA, "a cat").await;
    // The bot delivers again after a pause: so long it does not know that it did.
    telegram.fail_once("EditMessageText", Failure::AnswerLost);
    press(&telegram, ANNA, &offer, "generate");
    told(&telegram, ANNA, "a cat\n\nhttps://").await;
    telegram.say(ANNA, "/history");
    let told = told(&telegram, ANNA, "The newest first:").await;
    assert!(told.text.contains("7.50 credits: https://example.org/"), "{told:?}");
    assert_eq!(told.text.matches("https://").count(), 1, "{told:?}");
    let sold = format!("tg-1-{ANNA}-{}", offer.id).parse().unwrap();
    let end = tokio::time::Instant::now() + Duration::from_mins(1);
    while storage.get_job(&sold).await.unwrap().is_none_or(|job| job.status != JobStatus::Completed) {
        assert!(tokio::time::Instant::now() < end, "it is never noted as sold");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(balance(&storage, ANNA).await, "0.00");
}

/// What a store that needs an operator keeps the bot from noting is noted by the next bot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_the_store_is_moved() {
    let telegram = Telegram::start("127.0.0.1:0").await.unwrap();
    let place = Place::json();
    let storage = place.open().await;
    let mut stopped = bot(&telegram, &place, &[]);
    telegram.say(ADMIN, "/start");
    telegram.say(ANNA, "/start");
    until("everything confirmed", || telegram.unconfirmed() == 0).await;
    storage.mark_moved("json:/elsewhere".parse().unwrap()).await.unwrap();
    telegram.photo(ANNA, "receipt-1", "/paid 20");
    let status = tokio::time::timeout(Duration::from_mins(1), stopped.wait()).await.unwrap().unwrap();
    assert!(!status.success());
    assert_eq!(telegram.unconfirmed(), 1);
    storage.lift_moved("json:/elsewhere".parse().unwrap()).await.unwrap();
    let _bot = bot(&telegram, &place, &[]);
    told(&telegram, ADMIN, "1001 says: 20.00 paid").await;
}

/// What was asked for may be changed between the offer and the order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prompt_is_looked_at_when_it_is_ordered() {
    let telegram = Telegram::start("127.0.0.1:0").await.unwrap();
    let place = Place::json();
    let storage = place.open().await;
    let _bot = bot(&telegram, &place, &[]);
    telegram.say(ANNA, "/start");
    for changed in [format!("/generate {}", "x".repeat(901)), "/generate".to_owned(), "hello".to_owned()] {
        let offer = offered(&telegram, ANNA, "a cat").await;
        telegram.rewrite(ANNA, offer.reply_to.unwrap(), &changed);
        press(&telegram, ANNA, &offer, "generate");
    }
    until("everything confirmed", || telegram.unconfirmed() == 0).await;
    assert!(storage.list_jobs(ListJobs::default()).await.unwrap().items.is_empty());
    assert_eq!(telegram.answers(), ["What you asked for is gone: ask again."; 3]);
    // The longest one, of letters that Telegram counts twice, and one letter more.
    telegram.say(ANNA, &format!("/generate {}", "🐈".repeat(901)));
    told(&telegram, ANNA, "Describe the picture in 1 to 900 characters").await;
    let offer = offered(&telegram, ANNA, &"🐈".repeat(900)).await;
    press(&telegram, ANNA, &offer, "generate");
    told(&telegram, ANNA, "https://example.org/").await;
}

/// An admin who could not be reached asks what waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_an_admin_is_shown_again() {
    let telegram = Telegram::start("127.0.0.1:0").await.unwrap();
    let place = Place::json();
    let _bot = bot(&telegram, &place, &[]);
    telegram.say(ANNA, "/start");
    // The admin never wrote to the bot: Telegram lets nothing through.
    telegram.photo(ANNA, "receipt-1", "/paid 20");
    told(&telegram, ANNA, "20.00 noted").await;
    telegram.say(ANNA, "/waiting");
    told(&telegram, ANNA, "This is for admins").await;
    telegram.say(ADMIN, "/waiting");
    told(&telegram, ADMIN, "1 payments wait for you").await;
    let asked = told(&telegram, ADMIN, "1001 says: 20.00 paid").await;
    press(&telegram, ADMIN, &asked, "approve");
    told(&telegram, ANNA, "You have 20.00 credits").await;
}
