//! Steps outside of the transaction: done once, beside others, by several, and after a kill anywhere.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use migrations::{Addition, Error, Plan, Remark, State, inspect, latest, migrate, remark};
use pg_test_server::{Database, Server};
use tokio_postgres::Client;

use crate::cut::{Cut, Way};
use crate::{LONG, chain, connect, database, one, public, until};

/// A version with a part for the transaction and every kind of step behind it, then one that needs those.
fn plan() -> Plan {
    let (version, next) = (latest() + 1, latest() + 2);
    let sql = format!(
        "-- works since: {}
ALTER TABLE users ADD COLUMN note TEXT, ADD CONSTRAINT users_note_check CHECK (note <> '') NOT VALID;
-- outside of the transaction
-- until nothing is left
UPDATE users SET note = 'user ' || id
    WHERE id IN (SELECT id FROM users WHERE note IS NULL ORDER BY id LIMIT 20 FOR UPDATE);
ALTER TABLE users VALIDATE CONSTRAINT users_note_check;
CREATE UNIQUE INDEX CONCURRENTLY users_note_unique
    ON users (note ASC);
CREATE INDEX CONCURRENTLY users_by_note_length ON users (pg_catalog.length(note) ASC);
",
        latest()
    );
    let column = Addition { version, table: "users", columns: &["note"], unique: &["users_note_unique"] };
    let more = Addition { version: next, table: "users", columns: &["mood"], unique: &[] };
    let needs =
        "DO $$ BEGIN ASSERT (SELECT indisvalid FROM pg_index WHERE indexrelid = 'users_note_unique'::regclass); END $$;
                 ALTER TABLE users ADD COLUMN mood TEXT;";
    Plan::embedded()
        .with(&format!("V{version}__note"), &sql, &[column])
        .unwrap()
        .with(&format!("V{next}__mood"), needs, &[more])
        .unwrap()
}

/// A database of the version before, with users.
async fn with_users() -> (Database, Client) {
    let database = Server::shared()
        .unwrap()
        .create_database_with(&format!("outside_v{}", latest()), |url| {
            let url = url.to_owned();
            // The caller is inside a runtime.
            let filling = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let mut client = connect(&url).await;
                    migrate(&mut client, &public(), LONG).await.unwrap();
                    client.batch_execute("INSERT INTO users (id) SELECT generate_series(1, 50)").await.unwrap();
                });
            });
            filling.join().map_err(|_| "the template failed".to_owned())
        })
        .unwrap();
    let client = connect(&database.url()).await;
    (database, client)
}

/// Everything is there, once, and nothing is left to be done.
async fn all_done(client: &Client, what: &str) {
    assert_eq!(plan().inspect(client, &public()).await.unwrap(), State::Current { version: latest() + 2 }, "{what}");
    let sql = "SELECT (SELECT count(*) FROM users WHERE note = 'user ' || id) = 50
        AND (SELECT bool_and(indisvalid AND indisready) AND count(*) = 3 FROM pg_index WHERE indrelid = 'users'::regclass)
        AND (SELECT convalidated FROM pg_constraint WHERE conname = 'users_note_check')
        AND NOT EXISTS (SELECT FROM storage_meta WHERE name = 'unfinished')
        AND (SELECT value FROM storage_meta WHERE name = 'works_since') LIKE '% in %'";
    assert!(one::<bool>(client, sql).await, "{what}");
}

#[tokio::test]
async fn steps_outside_come_after_the_transaction_and_before_the_next() {
    let (_database, mut client) = with_users().await;
    let outcome = plan().migrate(&mut client, &public(), LONG).await.unwrap();
    assert_eq!((outcome.applied, outcome.from, outcome.to), (vec![latest() + 1, latest() + 2], latest(), latest() + 2));
    all_done(&client, "a database with users").await;
    let again = plan().migrate(&mut client, &public(), LONG).await.unwrap();
    assert_eq!((again.applied, again.from), (vec![], latest() + 2));

    let empty = database();
    let mut client = connect(&empty.url()).await;
    let outcome = plan().migrate(&mut client, &public(), LONG).await.unwrap();
    assert_eq!(outcome.applied, (1..=latest() + 2).collect::<Vec<_>>());
    assert_eq!(plan().inspect(&client, &public()).await.unwrap(), State::Current { version: latest() + 2 });
}

/// How many kills go on side by side: most of the time each waits for the server.
const LANES: usize = 12;

/// At every question: the request is lost, or the answer. The same command ends it, whatever the first one left.
#[test]
fn a_migration_that_was_killed_anywhere_is_ended_by_the_same_command() {
    let next = AtomicUsize::new(0);
    let lane = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut kills = 0;
        while runtime.block_on(kill_and_go_on(next.fetch_add(1, Ordering::SeqCst))) {
            kills += 1;
        }
        kills
    };
    let kills: usize = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().map(|lane| lane.join().unwrap()).sum()
    });
    println!("{kills} kills, each ended by the same command");
    assert!(kills > 60, "{kills} kills");
}

/// Kills a migration at a question, before it and after it in turns; false when the migration had ended before.
async fn kill_and_go_on(number: usize) -> bool {
    let cut = if number.is_multiple_of(2) { Cut::Before(number / 2) } else { Cut::After(number / 2) };
    let (database, mut client) = with_users().await;
    let way = Way::new(&database.url(), cut).await;
    let mut killed = connect(&way.url).await;
    let first = plan().migrate(&mut killed, &public(), LONG).await;
    if way.asked() <= number / 2 {
        first.unwrap();
        return false;
    }
    drop(killed);
    let state = plan().inspect(&client, &public()).await.unwrap();
    assert!(!matches!(state, State::Divergent { .. }), "{cut:?}: {state}");
    if let State::Unfinished { pending, .. } = &state {
        assert_eq!((state.works(), &pending[..]), (false, &[latest() + 2][..]), "{cut:?}");
        // The program of before knows nothing of it, and goes on.
        assert!(inspect(&client, &public()).await.unwrap().works(), "{cut:?}");
    }
    let outcome = plan().migrate(&mut client, &public(), LONG).await;
    outcome.unwrap_or_else(|error| panic!("{cut:?}: {:?}", chain(&error)));
    all_done(&client, &format!("{cut:?}")).await;
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_runners_do_the_steps_once_between_them() {
    for _ in 0..5 {
        let (database, client) = with_users().await;
        let url = database.url();
        let runners = join_all((0..4).map(|_| connect(&url))).await;
        let runs = runners
            .into_iter()
            .map(|mut client| tokio::spawn(async move { plan().migrate(&mut client, &public(), LONG).await.unwrap() }));
        for run in join_all(runs).await {
            assert_eq!(run.unwrap().to, latest() + 2);
        }
        all_done(&client, "four runners").await;
    }
}

/// An index is being built, and waits for a session that was there before.
const BUILDING: &str = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
    AND state = 'active' AND query LIKE 'CREATE UNIQUE INDEX CONCURRENTLY%' AND wait_event_type = 'Lock')";

/// An index is built while a session that was there before has not ended: the build waits, and is killed.
#[tokio::test]
async fn an_index_that_a_killed_run_left_is_made_anew_and_one_that_is_being_built_is_left_alone() {
    let (database, mut client) = with_users().await;
    let holder = connect(&database.url()).await;
    let hold = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM payments";
    let watcher = connect(&Server::shared().unwrap().superuser_url(database.name())).await;

    holder.batch_execute(hold).await.unwrap();
    let mut runner = connect(&database.url()).await;
    let running = tokio::spawn(async move { plan().migrate(&mut runner, &public(), LONG).await });
    until(&watcher, BUILDING).await;
    let end = BUILDING.replace("EXISTS (SELECT FROM", "(SELECT bool_and(pg_terminate_backend(pid)) FROM");
    assert!(one::<bool>(&watcher, &end).await);
    let error = running.await.unwrap().unwrap_err();
    let Error::Unfinished { version, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*version, latest() + 1);
    assert!(error.to_string().contains("the index users_note_unique of users"), "{error}");
    assert!(
        one::<bool>(&client, "SELECT NOT indisvalid FROM pg_index WHERE indexrelid = 'users_note_unique'::regclass")
            .await
    );
    let state = plan().inspect(&client, &public()).await.unwrap();
    let State::Unfinished { missing, .. } = &state else { panic!("{state}") };
    assert_eq!(missing[..], ["unique index users_note_unique of users"]);
    assert!(!state.works() && state.to_string().contains("storage migrate"), "{state}");

    // The next one makes it anew, waits for the same session, and is left alone by a third.
    let mut second = connect(&database.url()).await;
    let second = tokio::spawn(async move { plan().migrate(&mut second, &public(), LONG).await });
    until(&watcher, BUILDING).await;
    let index = "SELECT 'users_note_unique'::regclass::oid::int8";
    let being_built = one::<i64>(&client, index).await;
    let error = plan().migrate(&mut client, &public(), Duration::from_millis(1500)).await.unwrap_err();
    let chain = chain(&error);
    assert!(chain[1].contains("stood in the way") && chain[1].contains("has locks on users"), "{chain:?}");
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(second.await.unwrap().unwrap().to, latest() + 2);
    assert_eq!(one::<i64>(&client, index).await, being_built);
    all_done(&client, "made anew").await;
}

#[tokio::test]
async fn a_thing_that_has_the_name_of_an_index_is_left_alone_and_named() {
    for sql in [
        "CREATE TABLE users_by_note_length (id int8)",
        "CREATE INDEX users_by_note_length ON payments (payment_id)",
        "CREATE UNIQUE INDEX users_by_note_length ON users (id)",
    ] {
        let (_database, mut client) = with_users().await;
        client.batch_execute(sql).await.unwrap();
        let error = plan().migrate(&mut client, &public(), LONG).await.unwrap_err();
        let told = chain(&error);
        assert!(told[1].contains("something else has the name of the index users_by_note_length"), "{sql}: {told:?}");
        assert!(one::<bool>(&client, "SELECT to_regclass('users_by_note_length') IS NOT NULL").await);
    }
}

/// A row that a program holds is waited for briefly, again and again, and its holder is named in the end.
#[tokio::test]
async fn a_held_row_makes_a_step_wait_and_not_fail() {
    let (database, mut client) = with_users().await;
    let version = latest() + 1;
    let sql = "-- outside of the transaction\n-- until nothing is left
UPDATE users SET spent = 1 WHERE id IN (SELECT id FROM users WHERE spent = 0 ORDER BY id LIMIT 20 FOR UPDATE);";
    let plan = Plan::embedded().with(&format!("V{version}__spent"), sql, &[]).unwrap();
    let holder = connect(&database.url()).await;
    holder
        .batch_execute("BEGIN; SELECT FROM users WHERE id = 30 FOR UPDATE; UPDATE users SET held = 0 WHERE id = 30")
        .await
        .unwrap();
    let error = plan.migrate(&mut client, &public(), Duration::from_millis(500)).await.unwrap_err();
    let told = chain(&error);
    let pid = one::<i32>(&holder, "SELECT pg_backend_pid()").await;
    assert!(told[0].contains("UPDATE users SET spent") && told[0].contains("the same command goes on"), "{told:?}");
    assert!(told[1].contains("stood in the way") && told[1].contains(&format!("process {pid} ")), "{told:?}");
    // What came before it is filled.
    assert_eq!(one::<i64>(&client, "SELECT count(*) FROM users WHERE spent = 1").await, 20);
    holder.batch_execute("COMMIT").await.unwrap();
    assert_eq!(plan.migrate(&mut client, &public(), LONG).await.unwrap().applied, [version]);
    assert_eq!(one::<i64>(&client, "SELECT count(*) FROM users WHERE spent = 1").await, 50);
    assert_eq!(plan.inspect(&client, &public()).await.unwrap(), State::Current { version });
}

/// A store that is marked as moved takes no change of its rows: what is pending is refused before anything of it is done.
#[tokio::test]
async fn a_marked_store_is_not_left_half_migrated() {
    let (_database, mut client) = with_users().await;
    let place = "postgresql://elsewhere/bot";
    remark(&mut client, &public(), Remark::Set(place), LONG).await.unwrap();
    let error = plan().migrate(&mut client, &public(), LONG).await.unwrap_err();
    assert!(matches!(&error, Error::Moved { to } if to == place), "{error:?}");
    assert!(inspect(&client, &public()).await.unwrap().works());
    remark(&mut client, &public(), Remark::Lift(place), LONG).await.unwrap();
    plan().migrate(&mut client, &public(), LONG).await.unwrap();
    all_done(&client, "after the mark").await;
}

/// One that stands before a step while another ends them all, and a later version takes back what they made.
#[tokio::test]
async fn a_slow_runner_does_not_do_the_steps_again() {
    let (database, mut client) = with_users().await;
    plan().migrate(&mut client, &public(), LONG).await.unwrap();
    let undo = format!(
        "DELETE FROM storage_migrations WHERE version = {}; ALTER TABLE users DROP COLUMN mood;
         DROP INDEX users_note_unique, users_by_note_length; INSERT INTO storage_meta VALUES ('unfinished', '{}')",
        latest() + 2,
        latest() + 1
    );
    client.batch_execute(&undo).await.unwrap();
    let holder = connect(&database.url()).await;
    holder.batch_execute("BEGIN; LOCK TABLE users IN SHARE UPDATE EXCLUSIVE MODE").await.unwrap();
    let mut slow = connect(&database.url()).await;
    let slow = tokio::spawn(async move { plan().migrate(&mut slow, &public(), LONG).await });
    let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
        AND query LIKE 'ALTER TABLE users VALIDATE%' AND wait_event_type = 'Lock')";
    until(&connect(&Server::shared().unwrap().superuser_url(database.name())).await, waits).await;
    client.batch_execute("DELETE FROM storage_meta WHERE name = 'unfinished'").await.unwrap();
    holder.batch_execute("COMMIT").await.unwrap();
    let _ = slow.await.unwrap();
    let built = "SELECT count(*) FROM pg_class WHERE relname IN ('users_note_unique', 'users_by_note_length')";
    assert_eq!(one::<i64>(&client, built).await, 0);
}
