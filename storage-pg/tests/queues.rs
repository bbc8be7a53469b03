//! One user's lock is one user's wait: whoever is behind a row that somebody holds waits without a connection.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests: a surprise is a failure")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pg_test_server::Server;
use storage_core::{
    AddBalance, AddGenerationJob, AddPayment, Applied, Balances as _, Clock, Environment, Error, ErrorKind, JobStatus,
    Jobs as _, MarkPaymentStatus, PageSize, Params, PaymentStatus, Payments as _, Referrals as _, ReserveBalance,
    Reserves as _, SetReferrer, SetUserLanguage, Storage, Store as _, SubtractBalance, UpdateJobStatus, UserId,
    Users as _,
};
use storage_pg::{Gather, Limits, PgOptions, PgStorage};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

/// The user whose row is held, and how many others there are.
const HELD: i64 = 1;
const OTHERS: i64 = 20;

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn credit(id: i64) -> AddBalance {
    AddBalance::new(user(id), "10".parse().unwrap())
}

async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Everybody has money, a payment and a job.
async fn filled(url: &str, gather: Gather) -> Arc<PgStorage> {
    let limits = Limits { lock: Duration::from_secs(20), operation: Duration::from_secs(30), ..Limits::default() };
    let limits = Limits { pool: Duration::from_secs(20), statement: Duration::from_secs(25), ..limits };
    let options = PgOptions { max_connections: 4, gather, limits, ..PgOptions::new(url) };
    let storage = Arc::new(PgStorage::open(options).await.unwrap());
    for id in HELD..=HELD + OTHERS {
        storage.add_balance(credit(id)).await.unwrap();
        let mut payment = AddPayment::new(user(id), "5".parse().unwrap(), "card".parse().unwrap());
        payment.payment = Some(format!("payment-{id}").parse().unwrap());
        storage.add_payment(payment).await.unwrap();
        let job = AddGenerationJob {
            user: user(id),
            job: Some(format!("job-{id}").parse().unwrap()),
            external_task_id: None,
            model_id: "model".parse().unwrap(),
            model_name: "Model".parse().unwrap(),
            params: Params::from_json("{}").unwrap(),
            price: "1".parse().unwrap(),
            key: None,
        };
        storage.add_generation_job(job).await.unwrap();
    }
    storage
}

/// One call of each kind, all of which need the user's row.
fn calls(storage: &Arc<PgStorage>, id: i64, running: &mut JoinSet<Result<(), Error>>) {
    macro_rules! call {
        ($call:ident($argument:expr)) => {
            let (storage, argument) = (Arc::clone(storage), $argument);
            running.spawn(async move { storage.$call(argument).await.map(drop) });
        };
    }
    call!(add_balance(credit(id)));
    call!(subtract_balance(SubtractBalance::new(user(id), "0.1".parse().unwrap())));
    call!(reserve_balance(ReserveBalance::new(user(id), "hold".parse().unwrap(), "1".parse().unwrap())));
    call!(set_user_language(SetUserLanguage::new(user(id), "de".parse().unwrap())));
    call!(update_job_status(UpdateJobStatus::new(format!("job-{id}").parse().unwrap(), JobStatus::Running)));
    call!(mark_payment_status(MarkPaymentStatus::new(
        format!("payment-{id}").parse().unwrap(),
        PaymentStatus::Approved
    )));
    call!(set_referrer(SetReferrer::new(user(id), user(id + 1))));
}

async fn all(mut running: JoinSet<Result<(), Error>>) {
    while let Some(done) = running.join_next().await {
        done.unwrap().unwrap_or_else(|error| panic!("{}", error.report()));
    }
}

/// What the connections of the store were at that waited long for a lock, at the look that found the most, until it is told to stop.
/// A user's own calls meet for a moment.
async fn most_that_wait(watcher: Client, name: String, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut most = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let sql = "SELECT query FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock'
            AND clock_timestamp() - query_start > interval '100 ms'";
        let rows = watcher.query_typed(sql, &[(&name, tokio_postgres::types::Type::TEXT)]).await.unwrap();
        if rows.len() > most.len() {
            most = rows.iter().map(|row| row.get(0)).collect();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    most
}

async fn a_locked_user_takes_one_connection(gather: Gather) {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    let storage = filled(&database.url(), gather).await;
    let (holder, watcher) = (client(&database.url()).await, client(&database.url()).await);
    holder.batch_execute(&format!("BEGIN; SELECT FROM users WHERE id = {HELD} FOR UPDATE")).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let watching = tokio::spawn(most_that_wait(watcher, database.name().to_owned(), Arc::clone(&stop)));
    let mut behind = JoinSet::new();
    calls(&storage, HELD, &mut behind);
    for _ in 0..20 {
        let storage = Arc::clone(&storage);
        behind.spawn(async move { storage.add_balance(credit(HELD)).await.map(drop) });
    }
    // Somebody whose referrer is held holds nobody else's chain up.
    let chained = Arc::clone(&storage);
    behind
        .spawn(async move { chained.set_referrer(SetReferrer::new(user(HELD + OTHERS), user(HELD))).await.map(drop) });
    // Each begins while those behind the row wait, and ends.
    for id in HELD + 1..HELD + OTHERS - 1 {
        let mut others = JoinSet::new();
        calls(&storage, id, &mut others);
        all(others).await;
    }
    assert_eq!(behind.len(), 28);
    assert!(behind.try_join_next().is_none(), "somebody got past the row");
    stop.store(true, Ordering::Relaxed);
    let waited = watching.await.unwrap();
    assert_eq!(waited.len(), 1, "one connection waits for one user's row: {waited:#?}");
    holder.batch_execute("ROLLBACK").await.unwrap();
    all(behind).await;
    assert_eq!(storage.get_balance(user(HELD)).await.unwrap().to_string(), "223.90");
    storage.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_user_takes_one_connection_when_statements_are_gathered_at_need() {
    a_locked_user_takes_one_connection(Gather::WhenBusy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_user_takes_one_connection_when_every_statement_is_gathered() {
    a_locked_user_takes_one_connection(Gather::Always).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_user_takes_one_connection_when_none_is_gathered() {
    a_locked_user_takes_one_connection(Gather::Never).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_row_in_vain_is_told_so() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    let limits =
        Limits { lock: Duration::from_millis(300), operation: Duration::from_millis(1500), ..Limits::default() };
    let options = PgOptions { max_connections: 2, limits, ..PgOptions::new(database.url()) };
    let storage = Arc::new(PgStorage::open(options).await.unwrap());
    storage.add_balance(credit(HELD)).await.unwrap();
    let holder = client(&database.url()).await;
    holder.batch_execute(&format!("BEGIN; SELECT FROM users WHERE id = {HELD} FOR UPDATE")).await.unwrap();
    let mut behind = JoinSet::new();
    for _ in 0..10 {
        let storage = Arc::clone(&storage);
        behind.spawn(async move { storage.add_balance(credit(HELD)).await.map(drop) });
    }
    let mut told = 0;
    while let Some(done) = behind.join_next().await {
        let error = done.unwrap().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Busy { .. }), "{}", error.report());
        assert_eq!(error.applied(), Applied::No, "{}", error.report());
        assert!(error.report().to_string().contains("somebody holds the row"), "{}", error.report());
        told += 1;
    }
    assert_eq!(told, 10);
    // Nobody's statement waits any more, for which it is unknown whether it will be applied.
    tokio::time::sleep(Duration::from_millis(400)).await;
    holder.batch_execute("ROLLBACK").await.unwrap();
    storage.add_balance(credit(HELD)).await.unwrap();
    assert_eq!(storage.get_balance(user(HELD)).await.unwrap().to_string(), "20.00");
    storage.close().await.unwrap();
}

/// Somebody at the records alone, and not at their user.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_record_takes_one_connection() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    let storage = filled(&database.url(), Gather::WhenBusy).await;
    let (holder, watcher) = (client(&database.url()).await, client(&database.url()).await);
    let lock = "BEGIN; SELECT FROM generation_jobs WHERE job_id = 'job-1' FOR UPDATE;
        SELECT FROM payments WHERE payment_id = 'payment-1' FOR UPDATE";
    holder.batch_execute(lock).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let watching = tokio::spawn(most_that_wait(watcher, database.name().to_owned(), Arc::clone(&stop)));
    let mut behind = JoinSet::new();
    for _ in 0..8 {
        let calling = Arc::clone(&storage);
        let update = UpdateJobStatus::new("job-1".parse().unwrap(), JobStatus::Running);
        behind.spawn(async move { calling.update_job_status(update).await.map(drop) });
        let calling = Arc::clone(&storage);
        let mark = MarkPaymentStatus::new("payment-1".parse().unwrap(), PaymentStatus::Approved);
        behind.spawn(async move { calling.mark_payment_status(mark).await.map(drop) });
    }
    for id in [2, 3, 4, 5] {
        let mut others = JoinSet::new();
        calls(&storage, id, &mut others);
        all(others).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(behind.try_join_next().is_none(), "somebody got past the record");
    stop.store(true, Ordering::Relaxed);
    let waited = watching.await.unwrap();
    assert_eq!(waited.len(), 1, "one connection waits for one user's records: {waited:#?}");
    holder.batch_execute("ROLLBACK").await.unwrap();
    all(behind).await;
    assert_eq!(storage.get_balance(user(HELD)).await.unwrap().to_string(), "15.00");
    storage.close().await.unwrap();
}

async fn held_for_a_second(storage: &PgStorage, id: i64, now: storage_core::Timestamp) {
    storage.add_balance(credit(id)).await.unwrap();
    let hold = ReserveBalance::new(user(id), "hold".parse().unwrap(), "1".parse().unwrap());
    storage.reserve_balance(hold.expiring_at(now.plus_micros(1_000_000))).await.unwrap();
}

async fn swept(storage: &PgStorage, limit: u32) -> Result<Vec<i64>, Error> {
    let released = storage.release_expired_reserves(PageSize::new(limit)?).await?;
    Ok(released.iter().map(|hold| hold.user.get()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_passes_over_a_locked_user_and_a_damaged_hold() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    let clock = Arc::new(storage_core::ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
    let environment = Environment { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..Environment::default() };
    let limits = Limits { lock: Duration::from_millis(300), operation: Duration::from_secs(1), ..Limits::default() };
    let options = PgOptions { limits, ..support::options(database.url(), environment) };
    let storage = PgStorage::open(options).await.unwrap();
    for id in [1, 2, 3, 4] {
        held_for_a_second(&storage, id, clock.now()).await;
    }
    clock.advance_micros(2_000_000);
    let holder = client(&database.url()).await;
    holder.batch_execute("BEGIN; SELECT FROM users WHERE id = 1 FOR UPDATE").await.unwrap();
    // More than the user holds in all.
    server.execute(database.name(), "UPDATE balance_reserves SET amount = 5 WHERE user_id = 2").unwrap();
    assert_eq!(swept(&storage, 1).await.unwrap(), [3], "the two before it are passed over");
    assert_eq!(swept(&storage, 100).await.unwrap(), [4]);
    // Now there is nothing but trouble, and that is said: first of all what somebody has to mend.
    let error = swept(&storage, 100).await.unwrap_err();
    assert!(!matches!(error.kind(), ErrorKind::Busy { .. }), "{}", error.report());
    server.execute(database.name(), "UPDATE balance_reserves SET amount = 1 WHERE user_id = 2").unwrap();
    assert_eq!(swept(&storage, 100).await.unwrap(), [2]);
    let error = swept(&storage, 100).await.unwrap_err();
    assert!(error.report().to_string().contains("somebody holds the row"), "{}", error.report());
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(swept(&storage, 100).await.unwrap(), [1]);
    assert_eq!(swept(&storage, 100).await.unwrap(), [0; 0]);

    // Somebody at the hold alone, and one whose row cannot be read.
    for id in [5, 6, 7] {
        held_for_a_second(&storage, id, clock.now()).await;
    }
    clock.advance_micros(2_000_000);
    holder.batch_execute("BEGIN; SELECT FROM balance_reserves WHERE user_id = 5 FOR UPDATE").await.unwrap();
    let damage = "UPDATE balance_reserves SET expires_at = '-infinity' WHERE user_id = 6";
    server.execute(database.name(), damage).unwrap();
    assert_eq!(swept(&storage, 1).await.unwrap(), [7]);
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(swept(&storage, 100).await.unwrap(), [5]);
    let error = swept(&storage, 100).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Corrupt(_)), "{}", error.report());

    // Who is held for a moment keeps the place: a call that was refused may have its answer before the server has ended it.
    for id in [8, 9] {
        held_for_a_second(&storage, id, clock.now()).await;
    }
    clock.advance_micros(2_000_000);
    holder.batch_execute("BEGIN; SELECT FROM users WHERE id = 8 FOR UPDATE").await.unwrap();
    let end = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        holder.batch_execute("ROLLBACK").await.unwrap();
    };
    let (released, ()) = tokio::join!(swept(&storage, 1), end);
    assert_eq!(released.unwrap(), [8]);
    storage.close().await.unwrap();
}

/// Through the trait, as every program has it.
#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_the_connections_of_what_does_not_end() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    let limits = Limits { lock: Duration::from_mins(1), statement: Duration::from_mins(1), ..Limits::default() };
    let limits = Limits { operation: Duration::from_millis(500), ..limits };
    let options = PgOptions { limits, ..PgOptions::new(database.url()) };
    let storage: Arc<dyn Storage> = Arc::new(PgStorage::open(options).await.unwrap());
    storage.add_balance(credit(HELD)).await.unwrap();
    let holder = client(&database.url()).await;
    holder.batch_execute("BEGIN; LOCK TABLE operations IN ACCESS EXCLUSIVE MODE").await.unwrap();
    // A dump has no limit but that of each step, and one step stands still here.
    let dumping = Arc::clone(&storage);
    let dump = tokio::spawn(async move { dumping.dump(&mut tokio::io::sink()).await.map(drop) });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let error = storage.close().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Busy { .. }), "{}", error.report());
    let error = dump.await.unwrap().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Closed), "{}", error.report());
    assert!(matches!(storage.get_balance(user(HELD)).await.unwrap_err().kind(), ErrorKind::Closed));
    holder.batch_execute("ROLLBACK").await.unwrap();
    // The server's own part of it is over when the lock is there or the end is seen.
    for _ in 0..100 {
        let sql =
            format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND state <> 'idle'", database.name());
        if server.query_text("postgres", &sql).unwrap() == [[Some("0".to_owned())]] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("a connection is left");
}
