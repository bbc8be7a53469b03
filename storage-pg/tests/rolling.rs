//! Programs of two versions on one database: this one beside a migration of the next.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests: a surprise is a failure")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use migrations::{Addition, Plan, Schema, latest};
use pg_test_server::Server;
use storage_core::{AddBalance, AuditScope, Balances as _, Operations as _, Store as _, UserId};
use storage_pg::{PgOptions, PgStorage};

const WRITERS: i64 = 16;

fn next() -> Plan {
    let version = latest() + 1;
    let addition = Addition { version, table: "users", columns: &["note"], unique: &[] };
    let sql = format!("-- works since: {}\nALTER TABLE users ADD COLUMN note TEXT NOT NULL DEFAULT '';", latest());
    Plan::embedded().with(&format!("V{version}__note"), &sql, &[addition]).unwrap()
}

async fn open(url: &str) -> Arc<PgStorage> {
    Arc::new(PgStorage::open(PgOptions::new(url)).await.unwrap_or_else(|error| panic!("{}", error.error().report())))
}

/// Credits until it is told to stop; how many were acknowledged.
async fn credits(storage: Arc<PgStorage>, id: i64, stop: Arc<AtomicBool>) -> u64 {
    let mut acknowledged = 0;
    while !stop.load(Ordering::Relaxed) {
        let add = AddBalance::new(UserId::new(id).unwrap(), "1".parse().unwrap());
        storage.add_balance(add).await.unwrap_or_else(|error| panic!("{}", error.report()));
        acknowledged += 1;
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn older_programs_go_on_beside_a_newer_schema() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    let old = open(&database.url()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers: Vec<_> =
        (1..=WRITERS / 2).map(|id| tokio::spawn(credits(Arc::clone(&old), id, Arc::clone(&stop)))).collect();
    let (mut client, connection) = tokio_postgres::connect(&database.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let outcome = next().migrate(&mut client, &Schema::default(), Duration::from_mins(1)).await.unwrap();
    assert_eq!(outcome.applied, [latest() + 1]);
    // Those of before go on, and one that starts now does too.
    let later = open(&database.url()).await;
    writers
        .extend((WRITERS / 2 + 1..=WRITERS).map(|id| tokio::spawn(credits(Arc::clone(&later), id, Arc::clone(&stop)))));
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = 0;
    for (writer, id) in writers.into_iter().zip(1..) {
        let count = writer.await.unwrap();
        let balance = later.get_balance(UserId::new(id).unwrap()).await.unwrap();
        assert_eq!(balance.to_string(), format!("{count}.00"), "user {id}: lost or doubled");
        acknowledged += count;
    }
    println!("{acknowledged} credits acknowledged, none lost, none doubled");
    assert!(later.audit(AuditScope::Everyone).await.unwrap().is_clean());
    // What it does not know would be left behind.
    let error = later.dump(&mut tokio::io::sink()).await.unwrap_err();
    assert!(error.to_string().contains("of a newer program"), "{}", error.report());
    let error = later.mark_moved("elsewhere".parse().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("of a newer program"), "{}", error.report());
    let report = storage_pg::schema_report(&PgOptions::new(database.url())).await.unwrap();
    assert!(report.text.contains("this program"), "{}", report.text);
    old.close().await.unwrap();
    later.close().await.unwrap();
}

/// Programs go on while a migration still has steps to do; a mark would refuse those.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_migration_has_steps_left_is_not_marked() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    let storage = open(&database.url()).await;
    let left = format!("INSERT INTO storage_meta (name, value) VALUES ('unfinished', '{}')", latest());
    server.execute(database.name(), &left).unwrap();
    let later = open(&database.url()).await;
    later.dump(&mut tokio::io::sink()).await.unwrap();
    let error = later.mark_moved("elsewhere".parse().unwrap()).await.unwrap_err();
    assert!(error.report().to_string().contains("storage migrate"), "{}", error.report());
    storage_pg::migrate(&PgOptions::new(database.url()), Duration::from_mins(1)).await.map_err(drop).unwrap();
    later.mark_moved("elsewhere".parse().unwrap()).await.unwrap();
    storage.close().await.unwrap();
    later.close().await.unwrap();
}
