//! Bad days behind a pooler: its few connections to the server are everybody's, so no call may keep one.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests: a surprise is a failure")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use pg_test_server::{Database, PgBouncer, Server};
use storage_core::{AddBalance, AuditScope, Balances as _, ErrorKind, Operations as _, SubtractBalance, UserId};
use storage_pg::{Limits, PgOptions, PgStorage};
use tokio::task::JoinSet;

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

async fn pooled(database: &Database) -> Arc<PgStorage> {
    let limits = Limits {
        pool: Duration::from_secs(2),
        statement: Duration::from_secs(2),
        lock: Duration::from_secs(1),
        operation: Duration::from_secs(4),
        ..Limits::default()
    };
    let url = PgBouncer::shared().unwrap().url(database.name());
    let options = PgOptions { limits, max_connections: 8, ..PgOptions::new(url) };
    Arc::new(PgStorage::open(options).await.unwrap_or_else(|error| panic!("{}", error.error().report())))
}

/// Keeps what `sql` locks until it is dropped.
async fn keeper(database: &Database, sql: &str) -> tokio_postgres::Client {
    let (keeper, connection) = tokio_postgres::connect(&database.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    keeper.batch_execute(&format!("BEGIN; {sql}")).await.unwrap();
    keeper
}

/// Waits until nobody in the database waits for a lock; who still does after `patience` is a failure.
async fn nobody_waits(database: &Database, patience: Duration) {
    let waiting = format!(
        "SELECT query FROM pg_stat_activity WHERE datname = '{}' AND wait_event_type = 'Lock'",
        database.name()
    );
    let end = Instant::now() + patience;
    loop {
        let left = Server::shared().unwrap().query_text("postgres", &waiting).unwrap();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "{} connections of the server still wait: {left:?}", left.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn debit(number: u32) -> SubtractBalance {
    SubtractBalance::new(user(1), "1".parse().unwrap()).with_key(format!("k-{number}").parse().unwrap())
}

async fn found(storage: &PgStorage) {
    storage.add_balance(AddBalance::new(user(1), "100".parse().unwrap())).await.unwrap();
}

/// The calls are settled afterwards by their keys: each applied once, whatever became of the first try.
async fn settle(storage: &PgStorage, calls: u32) {
    for number in 0..calls {
        storage.subtract_balance(debit(number)).await.unwrap();
    }
    assert_eq!(storage.get_balance(user(1)).await.unwrap(), (100 - calls).to_string().parse().unwrap());
    assert!(storage.audit(AuditScope::Everyone).await.unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_somebody_keeps_takes_no_connection_of_the_pooler() {
    let database = support::database(Server::shared().unwrap()).unwrap();
    let storage = pooled(&database).await;
    found(&storage).await;
    let keeper = keeper(&database, "SELECT * FROM users WHERE id = 1 FOR UPDATE").await;
    let mut calls = JoinSet::new();
    for number in 0..8 {
        let storage = Arc::clone(&storage);
        calls.spawn(async move { storage.subtract_balance(debit(number)).await });
    }
    for answer in calls.join_all().await {
        let error = answer.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Busy { .. }), "{}", error.report());
    }
    // The keeper still keeps: it is the server's own limit that ended them.
    nobody_waits(&database, Duration::from_secs(3)).await;
    storage.add_balance(AddBalance::new(user(2), "1".parse().unwrap())).await.unwrap();
    keeper.batch_execute("ROLLBACK").await.unwrap();
    settle(&storage, 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_given_up_take_no_connection_of_the_pooler() {
    let database = support::database(Server::shared().unwrap()).unwrap();
    let storage = pooled(&database).await;
    found(&storage).await;
    let keeper = keeper(&database, "SELECT * FROM users WHERE id = 1 FOR UPDATE").await;
    for number in 0..6 {
        let given_up = tokio::time::timeout(Duration::from_millis(100), storage.subtract_balance(debit(number))).await;
        assert!(given_up.is_err(), "the keeper keeps");
    }
    nobody_waits(&database, Duration::from_secs(4)).await;
    storage.add_balance(AddBalance::new(user(2), "1".parse().unwrap())).await.unwrap();
    keeper.batch_execute("ROLLBACK").await.unwrap();
    settle(&storage, 6).await;
}

/// A read waits for no row, but for whoever changes a table.
#[tokio::test(flavor = "multi_thread")]
async fn reads_that_nobody_waits_for_any_more_end() {
    let database = support::database(Server::shared().unwrap()).unwrap();
    let storage = pooled(&database).await;
    found(&storage).await;
    let keeper = keeper(&database, "LOCK TABLE users IN ACCESS EXCLUSIVE MODE").await;
    let mut calls = JoinSet::new();
    for _ in 0..4 {
        let storage = Arc::clone(&storage);
        calls.spawn(async move { storage.get_balance(user(1)).await });
    }
    for answer in calls.join_all().await {
        let error = answer.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Busy { .. }), "{}", error.report());
    }
    let given_up = tokio::time::timeout(Duration::from_millis(100), storage.get_balance(user(1))).await;
    assert!(given_up.is_err(), "the keeper keeps");
    nobody_waits(&database, Duration::from_secs(4)).await;
    keeper.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(storage.get_balance(user(1)).await.unwrap().to_string(), "100.00");
}

/// A pooler that is told to swallow the options looks like a server until the limits are looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_swallows_the_limits_is_noticed() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    let bouncer = PgBouncer::start(server).unwrap();
    let console = support::console(&bouncer).await.unwrap();
    console.simple_query("SET ignore_startup_parameters = 'options'").await.unwrap();
    let url = bouncer.url(database.name());
    let storage = PgStorage::open(PgOptions::new(url.clone())).await.unwrap();
    let warnings = storage_core::Store::backend(&storage).warnings;
    assert!(warnings.iter().any(|warning| warning.contains("behind a pooler")), "{warnings:?}");
    let prepared = PgOptions { statements: storage_pg::Statements::Prepared, ..PgOptions::new(url) };
    let error = PgStorage::open(prepared).await.unwrap_err();
    assert!(matches!(error.error().kind(), ErrorKind::InvalidInput { .. }), "{error}");
    let keeper = keeper(&database, "LOCK TABLE users IN ACCESS EXCLUSIVE MODE").await;
    drop(tokio::time::timeout(Duration::from_millis(100), storage.get_balance(user(1))).await);
    nobody_waits(&database, Duration::from_secs(8)).await;
    keeper.batch_execute("ROLLBACK").await.unwrap();
}
