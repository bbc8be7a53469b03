//! Servers that stop, connections that end, locks that are held, pools that are small: every wait has an end, and nothing
//! is lost or done twice.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests: a surprise is a failure")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use pg_test_server::{Database, Options, Server};
use storage_core::{
    AddBalance, AddPayment, Applied, AuditScope, Balances as _, ErrorKind, ListOperations, MarkPaymentStatus,
    Operations as _, PaymentStatus, Payments as _, Storage, Store as _, SubtractBalance, UserId,
};
use storage_pg::{Limits, PgOptions, PgStorage, Statements};
use tokio::task::JoinSet;

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn quick() -> Limits {
    Limits {
        connect: Duration::from_secs(2),
        pool: Duration::from_secs(2),
        statement: Duration::from_secs(2),
        lock: Duration::from_secs(1),
        operation: Duration::from_secs(8),
    }
}

async fn open(database: &Database, change: impl FnOnce(&mut PgOptions)) -> PgStorage {
    let mut options = PgOptions::new(database.url());
    change(&mut options);
    PgStorage::open(options).await.unwrap_or_else(|error| panic!("{}", error.error().report()))
}

async fn clean(storage: &PgStorage) {
    let report = storage.audit(AuditScope::Everyone).await.unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
}

fn credit(id: i64, amount: &str, key: &str) -> AddBalance {
    AddBalance::new(user(id), amount.parse().unwrap()).with_key(key.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_mixed_calls_finish_on_two_connections() {
    let database = support::database(Server::shared().unwrap()).unwrap();
    for statements in [Statements::Unnamed, Statements::Prepared] {
        let storage = Arc::new(open(&database, |o| (o.max_connections, o.statements) = (2, statements)).await);
        let mut calls = JoinSet::new();
        for number in 0..200_i64 {
            let storage = Arc::clone(&storage);
            calls.spawn(async move {
                let id = number % 7 + 1;
                match number % 4 {
                    0 => storage.add_balance(AddBalance::new(user(id), "5".parse().unwrap())).await.map(drop),
                    1 => storage.get_balance(user(id)).await.map(drop),
                    2 => storage.audit(AuditScope::User(user(id))).await.map(drop),
                    _ => {
                        let debit = SubtractBalance::new(user(id), "1".parse().unwrap());
                        match storage.subtract_balance(debit).await {
                            Err(error) if matches!(error.kind(), ErrorKind::InsufficientFunds { .. }) => Ok(()),
                            other => other.map(drop),
                        }
                    }
                }
            });
        }
        while let Some(done) = calls.join_next().await {
            done.unwrap().unwrap();
        }
        clean(&storage).await;
        storage.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_approvals_credit_once_and_fifty_debits_never_overdraw() {
    let database = support::database(Server::shared().unwrap()).unwrap();
    let storage = Arc::new(open(&database, |_| ()).await);
    let pay = AddPayment {
        payment: Some("p".parse().unwrap()),
        ..AddPayment::new(user(1), "25".parse().unwrap(), "card".parse().unwrap())
    };
    storage.add_payment(pay).await.unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let storage = Arc::clone(&storage);
        calls.spawn(async move {
            let mark = MarkPaymentStatus::new("p".parse().unwrap(), PaymentStatus::Approved);
            storage.mark_payment_status(mark).await.unwrap().replayed
        });
    }
    let replays = calls.join_all().await.into_iter().filter(|replayed| *replayed).count();
    assert_eq!((replays, storage.get_balance(user(1)).await.unwrap().to_string().as_str()), (49, "25.00"));
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let storage = Arc::clone(&storage);
        calls.spawn(async move { storage.subtract_balance(SubtractBalance::new(user(1), "1".parse().unwrap())).await });
    }
    let (mut taken, mut short) = (0, 0);
    for answer in calls.join_all().await {
        match answer {
            Ok(_) => taken += 1,
            Err(error) if matches!(error.kind(), ErrorKind::InsufficientFunds { .. }) => short += 1,
            Err(error) => panic!("{}", error.report()),
        }
    }
    assert_eq!((taken, short), (25, 25));
    assert_eq!(storage.get_balance(user(1)).await.unwrap().to_string(), "0.00");
    clean(&storage).await;
}

/// Somebody ends every connection of the database again and again while credits go on.
#[tokio::test(flavor = "multi_thread")]
async fn terminated_connections_cost_no_credit_and_double_none() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    let storage = Arc::new(open(&database, |o| o.max_connections = 4).await);
    let mut calls = JoinSet::new();
    for task in 0..4_i64 {
        let storage = Arc::clone(&storage);
        calls.spawn(async move {
            for number in 0..100 {
                let receipt = storage.add_balance(credit(task + 1, "1", &format!("k-{number}"))).await;
                let receipt = receipt.unwrap_or_else(|error| panic!("{}", error.report()));
                assert!(!receipt.replayed, "the caller called once");
            }
        });
    }
    let name = database.name().to_owned();
    let killer = std::thread::spawn(move || {
        let kill = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        let mut killed = 0;
        for _ in 0..15 {
            std::thread::sleep(Duration::from_millis(20));
            killed += Server::shared().and_then(|server| server.query_text("postgres", &kill)).unwrap().len();
        }
        killed
    });
    while let Some(done) = calls.join_next().await {
        done.unwrap();
    }
    assert!(killer.join().unwrap() > 0, "nobody was disturbed");
    for id in 1..=4 {
        assert_eq!(storage.get_balance(user(id)).await.unwrap().to_string(), "100.00");
        let page = storage_core::PageRequest::first(storage_core::PageSize::MAX);
        let rows = storage.list_operations(ListOperations { user: user(id), page }).await.unwrap();
        assert_eq!(rows.items.len(), 100);
    }
    clean(&storage).await;
}

/// The server stops hard and comes back, between operations and within them.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_ridden_out() {
    let server = Arc::new(Server::start(Options::default()).unwrap());
    let database = support::database(&server).unwrap();
    let storage = Arc::new(open(&database, |_| ()).await);
    let mut calls = JoinSet::new();
    for task in 0..4_i64 {
        let storage = Arc::clone(&storage);
        calls.spawn(async move {
            let end = Instant::now() + Duration::from_secs(6);
            let mut done = 0;
            while Instant::now() < end {
                let add = credit(task + 1, "1", &format!("k-{done}"));
                // Longer than an operation's patience is the caller's own: the same key settles it.
                while let Err(error) = storage.add_balance(add.clone()).await {
                    let outage = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Busy { .. });
                    assert!(outage, "{}", error.report());
                }
                done += 1;
            }
            done
        });
    }
    let restarting = Arc::clone(&server);
    let restarts = tokio::task::spawn_blocking(move || {
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(700));
            restarting.stop_immediate().unwrap();
            std::thread::sleep(Duration::from_millis(300));
            restarting.start_again().unwrap();
        }
    });
    restarts.await.unwrap();
    let done = calls.join_all().await;
    assert!(done.iter().sum::<i64>() > 0);
    let mut total = 0;
    for id in 1..=4 {
        total += storage.get_balance(user(id)).await.unwrap().micros() / 1_000_000;
    }
    assert_eq!(total, done.iter().sum::<i64>());
    clean(&storage).await;
    storage.close().await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_down_is_told_at_once() {
    let server = Server::start(Options::default()).unwrap();
    let database = support::database(&server).unwrap();
    let storage = open(&database, |o| o.limits = quick()).await;
    storage.add_balance(credit(1, "1", "before")).await.unwrap();
    server.stop_immediate().unwrap();
    let began = Instant::now();
    let error = storage.add_balance(credit(1, "1", "during")).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    assert_eq!(error.kind(), &ErrorKind::Unavailable, "{}", error.report());
    assert!(error.to_string().contains("refused") || error.to_string().contains("lost"), "{}", error.report());
    let error = PgStorage::open(PgOptions::new(database.url())).await.unwrap_err();
    assert!(error.is_unreachable(), "{error}");
    server.start_again().unwrap();
    let receipt = storage.add_balance(credit(1, "1", "during")).await.unwrap();
    assert_eq!(receipt.balance_after.to_string(), "2.00");
}

/// A server that is stopped in its tracks: it accepts and never answers.
#[tokio::test]
async fn a_server_that_does_not_answer_is_not_waited_for_without_end() {
    let server = Server::start(Options::default()).unwrap();
    let database = support::database(&server).unwrap();
    let storage = open(&database, |o| o.limits = Limits { operation: Duration::from_secs(3), ..quick() }).await;
    storage.add_balance(credit(1, "1", "before")).await.unwrap();
    server.pause().unwrap();
    let began = Instant::now();
    let error = storage.add_balance(credit(1, "1", "during")).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(error.applied(), Applied::Unknown, "{}", error.report());
    assert_eq!(error.key().map(storage_core::OperationKey::as_str), Some("during"));
    server.resume().unwrap();
    let receipt = storage.add_balance(credit(1, "1", "during")).await.unwrap();
    assert_eq!(receipt.balance_after.to_string(), "2.00");
    assert_eq!(storage.get_balance(user(1)).await.unwrap().to_string(), "2.00");
    clean(&storage).await;
}

#[tokio::test]
async fn a_lock_that_somebody_keeps_ends_in_busy_and_applies_nothing() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    let storage = open(&database, |o| o.limits = Limits { operation: Duration::from_secs(4), ..quick() }).await;
    storage.add_balance(credit(1, "5", "before")).await.unwrap();
    let (keeper, connection) = tokio_postgres::connect(&database.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    keeper.batch_execute("BEGIN; SELECT * FROM users WHERE id = 1 FOR UPDATE").await.unwrap();
    let began = Instant::now();
    let error = storage.subtract_balance(SubtractBalance::new(user(1), "1".parse().unwrap())).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(6));
    assert!(matches!(error.kind(), ErrorKind::Busy { .. }), "{}", error.report());
    // Others are not in its way.
    storage.add_balance(credit(2, "1", "other")).await.unwrap();
    assert_eq!(storage.get_balance(user(1)).await.unwrap().to_string(), "5.00");
    keeper.batch_execute("ROLLBACK").await.unwrap();
    clean(&storage).await;
}

/// What is gathered into one statement waits for every user in it, but not for long.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_whom_somebody_keeps_delays_no_neighbour() {
    let database = support::database(Server::shared().unwrap()).unwrap();
    let storage = Arc::new(
        open(&database, |options| (options.gather, options.limits) = (storage_pg::Gather::Always, quick())).await,
    );
    for id in 1..=20 {
        storage.add_balance(credit(id, "1", "first")).await.unwrap();
    }
    let (client, connection) = tokio_postgres::connect(&database.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("BEGIN; SELECT FROM users WHERE id = 7 FOR UPDATE").await.unwrap();
    let calls: Vec<_> = (1..=20)
        .map(|id| {
            let storage = Arc::clone(&storage);
            tokio::spawn(async move { (id, storage.add_balance(credit(id, "1", "second")).await) })
        })
        .collect();
    let mut kept = None;
    for call in calls {
        match call.await.unwrap() {
            (7, answer) => kept = Some(answer),
            (id, answer) => assert_eq!(answer.unwrap().balance_after.to_string(), "2.00", "user {id}"),
        }
    }
    let error = kept.unwrap().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Busy { .. }), "{error:?}");
    client.batch_execute("ROLLBACK").await.unwrap();
    // Its last attempt was cut short, and may have come through after all.
    assert_eq!(storage.add_balance(credit(7, "1", "second")).await.unwrap().balance_after.to_string(), "2.00");
    clean(&storage).await;
}

#[tokio::test]
async fn a_server_without_slots_is_unreachable_and_says_so() {
    let server = Server::start(Options {
        max_connections: 6,
        settings: vec![("superuser_reserved_connections".into(), "2".into())],
        ..Options::default()
    })
    .unwrap();
    let database = support::database(&server).unwrap();
    let mut kept = Vec::new();
    loop {
        match tokio_postgres::connect(&database.url(), tokio_postgres::NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                kept.push(client);
            }
            Err(error) => {
                assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("53300"));
                break;
            }
        }
    }
    let error = PgStorage::open(PgOptions::new(database.url())).await.unwrap_err();
    assert!(error.is_unreachable(), "{error}");
    assert!(error.to_string().contains("all connections that the server allows are taken"), "{error}");
    drop(kept);
}

/// Every statement at the strictest isolation: the server asks for another try again and again.
#[tokio::test(flavor = "multi_thread")]
async fn serialization_failures_are_tried_again() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    let strict = format!("ALTER DATABASE {} SET default_transaction_isolation = 'serializable'", database.name());
    server.execute("postgres", &strict).unwrap();
    let storage = Arc::new(open(&database, |_| ()).await);
    let mut calls = JoinSet::new();
    for number in 0..40_i64 {
        let storage = Arc::clone(&storage);
        calls.spawn(async move { storage.add_balance(credit(1, "1", &format!("k-{number}"))).await });
    }
    for answer in calls.join_all().await {
        answer.unwrap_or_else(|error| panic!("{}", error.report()));
    }
    assert_eq!(storage.get_balance(user(1)).await.unwrap().to_string(), "40.00");
    clean(&storage).await;
}

/// Futures that are dropped at any moment leave no open transaction and no unusable connection.
#[tokio::test(flavor = "multi_thread")]
async fn dropped_futures_leave_nothing_behind() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    let storage = open(&database, |o| o.max_connections = 2).await;
    for round in 0..200_u64 {
        let add = credit(1, "1", &format!("k-{round}"));
        let wait = Duration::from_micros(round * 15);
        let _ = tokio::time::timeout(wait, storage.add_balance(add)).await;
        // Without the express form: in a transaction.
        let claim = storage_core::SetGiftClaimed::new(user(i64::try_from(round).unwrap() + 10));
        let _ = tokio::time::timeout(wait * 3, storage_core::Users::set_gift_claimed(&storage, claim)).await;
    }
    for round in 0..200_u64 {
        storage.add_balance(credit(1, "1", &format!("k-{round}"))).await.unwrap();
    }
    assert_eq!(storage.get_balance(user(1)).await.unwrap().to_string(), "200.00");
    clean(&storage).await;
    let open = format!(
        "SELECT state FROM pg_stat_activity WHERE datname = '{}' AND state LIKE 'idle in transaction%'",
        database.name()
    );
    assert_eq!(server.query_text("postgres", &open).unwrap(), Vec::<Vec<Option<String>>>::new());
    let storage: Arc<dyn Storage> = Arc::new(storage);
    storage.close().await.unwrap();
}

/// Somebody with psql changed what the store keeps: it is named, and nothing is guessed.
#[tokio::test]
async fn what_was_broken_by_hand_is_named_by_table_row_and_column() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    let storage = open(&database, |_| ()).await;
    let pay = AddPayment {
        payment: Some("p-7".parse().unwrap()),
        ..AddPayment::new(user(1), "25".parse().unwrap(), "card".parse().unwrap())
    };
    storage.add_payment(pay).await.unwrap();
    server.execute(database.name(), "UPDATE payments SET payment_method = ''").unwrap();
    let error = storage.get_payment(&"p-7".parse().unwrap()).await.unwrap_err();
    let ErrorKind::Corrupt(place) = error.kind() else { panic!("{}", error.report()) };
    assert_eq!(place.source, "table payments");
    assert_eq!(place.key.as_deref(), Some("user_id 1, payment_id p-7"));
    assert!(error.to_string().contains("column payment_method"), "{}", error.report());
    // A balance that nobody booked is found by the audit.
    server.execute(database.name(), "UPDATE users SET balance = 7").unwrap();
    let report = storage.audit(AuditScope::User(user(1))).await.unwrap();
    assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
}

/// What was applied and could not be read is not told as a refusal; once the row is put right, the key settles it.
#[tokio::test]
async fn an_answer_that_cannot_be_read_is_not_a_refusal() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    let storage = open(&database, |_| ()).await;
    let pay = AddPayment {
        payment: Some("p".parse().unwrap()),
        ..AddPayment::new(user(1), "25".parse().unwrap(), "card".parse().unwrap())
    };
    storage.add_payment(pay).await.unwrap();
    server.execute(database.name(), "UPDATE payments SET notes = repeat('n', 9000)").unwrap();
    let mark = MarkPaymentStatus {
        key: Some("once".parse().unwrap()),
        ..MarkPaymentStatus::new("p".parse().unwrap(), PaymentStatus::Approved)
    };
    let error = storage.mark_payment_status(mark.clone()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Corrupt(_)), "{}", error.report());
    assert_eq!(error.applied(), Applied::Unknown, "{}", error.report());
    assert_eq!(error.key().map(storage_core::OperationKey::as_str), Some("once"));
    server.execute(database.name(), "UPDATE payments SET notes = NULL").unwrap();
    let settled = storage.mark_payment_status(mark).await.unwrap();
    assert_eq!(settled.record.status, PaymentStatus::Approved);
    assert_eq!(storage.get_balance(user(1)).await.unwrap().to_string(), "25.00");
    clean(&storage).await;
}

/// A server that ends what idles for too long costs a reconnect, not an operation.
#[tokio::test]
async fn sessions_that_the_server_ends_for_idling_are_replaced() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    let impatient = format!("ALTER DATABASE {} SET idle_session_timeout = '100ms'", database.name());
    server.execute("postgres", &impatient).unwrap();
    let storage = open(&database, |o| o.max_connections = 2).await;
    for number in 1..=30 {
        // Around the limit, so that some calls meet the very moment.
        tokio::time::sleep(Duration::from_millis(95 + number % 10)).await;
        let add = storage.add_balance(credit(1, "1", &format!("k-{number}"))).await;
        add.unwrap_or_else(|error| panic!("{}", error.report()));
    }
    assert_eq!(storage.get_balance(user(1)).await.unwrap().to_string(), "30.00");
    clean(&storage).await;
}

/// A trigger that swallows a change: what the server did not do is not acknowledged.
#[tokio::test]
async fn a_change_that_does_not_take_place_is_not_acknowledged() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    let storage = open(&database, |o| o.limits = quick()).await;
    storage.add_balance(credit(1, "5", "before")).await.unwrap();
    let swallow = "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
                   CREATE TRIGGER swallow BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION swallow()";
    server.execute(database.name(), swallow).unwrap();
    let set = storage_core::SetBalance::new(user(1), "7".parse().unwrap());
    for error in
        [storage.add_balance(credit(1, "1", "during")).await.unwrap_err(), storage.set_balance(set).await.unwrap_err()]
    {
        assert!(matches!(error.kind(), ErrorKind::Busy { .. }), "{}", error.report());
        assert_eq!(error.applied(), Applied::No, "{}", error.report());
    }
    assert_eq!(storage.get_balance(user(1)).await.unwrap().to_string(), "5.00");
    clean(&storage).await;
}

/// A read that takes too long does not go on when nobody waits for it any more.
#[tokio::test]
async fn a_read_that_is_given_up_ends_on_the_server_too() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    let storage = open(&database, |o| o.limits = Limits { operation: Duration::from_secs(3), ..quick() }).await;
    storage.add_balance(credit(1, "1", "before")).await.unwrap();
    let slow = "ALTER TABLE users RENAME TO kept; \
                CREATE VIEW users AS SELECT * FROM kept WHERE pg_sleep(60)::text = ''; \
                GRANT ALL ON users TO PUBLIC";
    server.execute(database.name(), slow).unwrap();
    let error = storage.get_balance(user(1)).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Busy { .. }), "{}", error.report());
    let given_up = tokio::time::timeout(Duration::from_millis(100), storage.get_balance(user(1))).await;
    assert!(given_up.is_err(), "it sleeps");
    // The next user of a connection that was left in doubt finds out.
    assert!(storage.get_balance(user(1)).await.is_err());
    let working =
        format!("SELECT query FROM pg_stat_activity WHERE datname = '{}' AND wait_event = 'PgSleep'", database.name());
    let end = Instant::now() + Duration::from_secs(5);
    while !server.query_text("postgres", &working).unwrap().is_empty() {
        assert!(Instant::now() < end, "somebody still works for nobody");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A connection that is being made when the operation's time is over does not prolong it.
#[tokio::test]
async fn connecting_is_within_the_operations_time() {
    let server = Server::start(Options::default()).unwrap();
    let database = support::database(&server).unwrap();
    let limits = Limits { operation: Duration::from_secs(1), ..Limits::default() };
    let storage = open(&database, |o| o.limits = limits).await;
    storage.add_balance(credit(1, "1", "before")).await.unwrap();
    server.pause().unwrap();
    for _ in 0..2 {
        let began = Instant::now();
        let error = storage.get_balance(user(1)).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Busy { .. }), "{}", error.report());
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
    server.resume().unwrap();
    assert_eq!(storage.get_balance(user(1)).await.unwrap().to_string(), "1.00");
}
