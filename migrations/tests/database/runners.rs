//! Runners beside each other, beside writers, and killed.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use migrations::{Error, HISTORY_TABLE, Plan, Schema, State, inspect, latest, migrate};
use pg_test_server::Server;
use tokio_postgres::NoTls;

use crate::{LONG, all, connect, database, longer, one, pooled, public, until};

const RUNNERS: usize = 8;

/// All of them at once, each on a connection of its own. Answers what each applied.
async fn run_together(plan: &Plan, url: &str, schemas: &[Schema], wait: Duration) -> Vec<Vec<i32>> {
    let clients = join_all((0..RUNNERS).map(|_| connect(url))).await;
    let runs = clients.into_iter().enumerate().map(|(at, mut client)| {
        let (plan, schema) = (plan.clone(), schemas[at % schemas.len()].clone());
        tokio::spawn(async move { plan.migrate(&mut client, &schema, wait).await.unwrap().applied })
    });
    join_all(runs).await.into_iter().map(Result::unwrap).collect()
}

async fn runners_on_an_empty_database(plan: &Plan, rounds: usize, pooler: bool) {
    let steps: Vec<i32> = plan.steps().iter().map(|step| step.version).collect();
    for round in 0..rounds {
        let database = database();
        let url = if pooler { pooled(&database) } else { database.url() };
        let applied = run_together(plan, &url, &[public()], LONG).await;
        assert_eq!(applied.iter().filter(|applied| !applied.is_empty()).collect::<Vec<_>>(), [&steps], "round {round}");
        let client = connect(&url).await;
        let history = all::<i32>(&client, &format!("SELECT version FROM {HISTORY_TABLE} ORDER BY version")).await;
        assert_eq!(history, steps);
        assert_eq!(plan.inspect(&client, &public()).await.unwrap(), State::Current { version: plan.latest() });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runners_that_start_together_all_succeed_and_each_version_is_applied_once() {
    runners_on_an_empty_database(&Plan::embedded(), 20, false).await;
    runners_on_an_empty_database(&longer(), 3, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runners_that_start_together_succeed_through_a_pooler() {
    runners_on_an_empty_database(&Plan::embedded(), 10, true).await;
    runners_on_an_empty_database(&longer(), 2, true).await;
}

/// Nobody waits at all, so not a single lock was asked for that a writer could hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_on_a_current_schema_is_never_behind_a_writer() {
    let database = database();
    let mut client = connect(&database.url()).await;
    migrate(&mut client, &public(), LONG).await.unwrap();
    client.batch_execute("INSERT INTO users (id) VALUES (1), (2)").await.unwrap();

    let rows = connect(&database.url()).await;
    rows.batch_execute("BEGIN; UPDATE users SET balance = 5 WHERE id = 1; INSERT INTO users (id) VALUES (3)")
        .await
        .unwrap();
    let table = connect(&database.url()).await;
    table.batch_execute("BEGIN; LOCK TABLE payments IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let lock = connect(&database.url()).await;
    let sql = "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('generation-storage migrations in public', 0))";
    lock.batch_execute(sql).await.unwrap();
    for url in [database.url(), pooled(&database)] {
        for _ in 0..20 {
            let started = Instant::now();
            let applied = run_together(&Plan::embedded(), &url, &[public()], Duration::ZERO).await;
            assert!(applied.iter().all(Vec::is_empty), "{applied:?}");
            assert!(started.elapsed() < Duration::from_secs(20));
        }
    }
    for writer in [rows, table, lock] {
        writer.batch_execute("COMMIT").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_live_side_by_side_in_one_database() {
    let database = database();
    let schemas = [Schema::new("bot_1").unwrap(), Schema::new("bot_2").unwrap()];
    let applied = run_together(&Plan::embedded(), &database.url(), &schemas, LONG).await;
    assert_eq!(applied.iter().filter(|applied| **applied == all_steps()).count(), 2, "{applied:?}");
    let mut client = connect(&database.url()).await;
    client.batch_execute("INSERT INTO bot_1.users (id) VALUES (1)").await.unwrap();
    assert_eq!(one::<i64>(&client, "SELECT count(*) FROM bot_2.users").await, 0);
    // The one moves on, the other stays.
    longer().migrate(&mut client, &schemas[0], LONG).await.unwrap();
    assert_eq!(inspect(&client, &schemas[0]).await.unwrap(), State::Newer { applied: latest() + 1, known: latest() });
    assert_eq!(inspect(&client, &schemas[1]).await.unwrap(), State::Current { version: latest() });
}

#[tokio::test]
async fn somebody_elses_lock_is_waited_for_as_long_as_told() {
    let database = database();
    let holder = connect(&database.url()).await;
    let sql = "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('generation-storage migrations in public', 0))";
    holder.batch_execute(sql).await.unwrap();
    let mut client = connect(&database.url()).await;
    let wait = Duration::from_millis(300);
    let started = Instant::now();
    let error = migrate(&mut client, &public(), wait).await.unwrap_err();
    let Error::Busy { waited, source: None, .. } = &error else { panic!("{error:?}") };
    assert!(*waited >= wait && started.elapsed() < Duration::from_secs(20), "{waited:?}");
    assert!(error.to_string().contains("another migration"), "{error}");
    assert_eq!(inspect(&client, &public()).await.unwrap(), State::Missing);
    // Nothing is held open by the one that gave up.
    let open = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL";
    assert_eq!(one::<i64>(&holder, open).await, 0);

    let waiting = tokio::spawn(async move { migrate(&mut client, &public(), LONG).await });
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().applied, all_steps());
}

/// What the server says of a missing right names no remedy.
#[tokio::test]
async fn a_role_without_the_right_is_told_what_to_run() {
    let database = database();
    let owner = connect(&database.url()).await;
    let role = format!("poor_{}", database.name());
    let sql = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'secret'; REVOKE CREATE ON SCHEMA public FROM PUBLIC;
         REVOKE ALL ON DATABASE \"{0}\" FROM PUBLIC; GRANT CONNECT ON DATABASE \"{0}\" TO {role}",
        database.name()
    );
    let server = Server::shared().unwrap();
    server.execute(database.name(), &sql).unwrap();
    let (_, place) = database.url().split_once('@').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let mut poor = connect(&format!("postgresql://{role}:secret@{place}")).await;
    let other = Schema::new("other").unwrap();
    for (schema, wanted) in [
        (public(), format!("GRANT USAGE, CREATE ON SCHEMA \"public\" TO \"{role}\";")),
        (other, format!("GRANT CREATE ON DATABASE \"{}\" TO \"{role}\";", database.name())),
    ] {
        let error = migrate(&mut poor, &schema, LONG).await.unwrap_err();
        let Error::NoRight { run, .. } = &error else { panic!("{error:?}") };
        assert_eq!(*run, wanted);
        server.execute(database.name(), run).unwrap();
        assert_eq!(migrate(&mut poor, &schema, LONG).await.unwrap().applied, all_steps(), "{schema}");
    }
    // Tables of somebody else are changed by that one.
    let third = Schema::new("third").unwrap();
    server
        .execute(database.name(), &format!("CREATE SCHEMA third; GRANT ALL ON SCHEMA third TO {role}, PUBLIC"))
        .unwrap();
    let mut owning = owner;
    migrate(&mut owning, &third, LONG).await.unwrap();
    server.execute(database.name(), &format!("GRANT SELECT ON ALL TABLES IN SCHEMA third TO {role}")).unwrap();
    let error = longer().migrate(&mut poor, &third, LONG).await.unwrap_err();
    let Error::NoRight { what, run, .. } = &error else { panic!("{error:?}") };
    assert!(what.contains("change the tables of") && run.contains(&format!("TO \"{role}\";")), "{error}");
    drop((poor, owning));
    server.execute(database.name(), &format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}")).unwrap();
}

/// A table's lock that does not come is given up early, so that others do not queue behind, and asked for again.
#[tokio::test]
async fn a_writer_on_the_table_makes_a_migration_wait_and_not_fail() {
    let database = database();
    let mut client = connect(&database.url()).await;
    migrate(&mut client, &public(), LONG).await.unwrap();
    let writer = connect(&database.url()).await;
    writer.batch_execute("BEGIN; INSERT INTO users (id) VALUES (1)").await.unwrap();
    let error = longer().migrate(&mut client, &public(), Duration::from_millis(300)).await.unwrap_err();
    let Error::Busy { source: Some(source), holders, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.code().unwrap().code(), "55P03");
    assert!(error.to_string().contains("locks on the tables"), "{error}");
    let pid = one::<i32>(&writer, "SELECT pg_backend_pid()").await;
    assert_eq!(holders.len(), 1, "{error}");
    assert!(holders[0].starts_with(&format!("process {pid} (")), "{error}");
    assert!(
        holders[0].contains("idle in transaction") && holders[0].contains("has locks on users in a transaction"),
        "{error}"
    );
    assert_eq!(inspect(&client, &public()).await.unwrap(), State::Current { version: latest() });

    let waiting = tokio::spawn(async move { longer().migrate(&mut client, &public(), LONG).await });
    until(&writer, "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)").await;
    writer.batch_execute("COMMIT").await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().applied, [latest() + 1]);
}

/// Every version, in order.
fn all_steps() -> Vec<i32> {
    (1..=latest()).collect()
}

/// All of them, and then something that takes its time: whoever looks finds the runner in the middle.
fn slow(seconds: u32) -> Plan {
    let name = format!("V{}__slow", latest() + 1);
    Plan::embedded().with(&name, &format!("SELECT pg_sleep({seconds})"), &[]).unwrap()
}

const SLEEPING: &str = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'SELECT pg_sleep(%' AND state = 'active')";
const SLEEPERS: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'SELECT pg_sleep(%'";

#[tokio::test]
async fn a_server_process_killed_in_the_middle_leaves_nothing() {
    let database = database();
    let schema = Schema::new("fresh").unwrap();
    let watcher = connect(&Server::shared().unwrap().superuser_url(database.name())).await;
    let (mut client, runner_schema) = (connect(&database.url()).await, schema.clone());
    let running = tokio::spawn(async move { slow(600).migrate(&mut client, &runner_schema, LONG).await });
    until(&watcher, SLEEPING).await;
    assert_eq!(one::<i64>(&watcher, SLEEPERS).await, 1);
    let error = running.await.unwrap().unwrap_err();
    let (Error::Migration { .. } | Error::Postgres(_)) = &error else { panic!("{error:?}") };
    left_nothing(&database.url(), &schema).await;
}

#[tokio::test]
async fn a_program_killed_in_the_middle_leaves_nothing() {
    let database = database();
    let schema = Schema::new("fresh").unwrap();
    let watcher = connect(&Server::shared().unwrap().superuser_url(database.name())).await;
    let (mut client, connection) = tokio_postgres::connect(&database.url(), NoTls).await.unwrap();
    let (connection, runner_schema) = (tokio::spawn(connection), schema.clone());
    let running = tokio::spawn(async move { slow(2).migrate(&mut client, &runner_schema, LONG).await });
    until(&watcher, SLEEPING).await;
    // The socket closes at once, without a word of farewell.
    connection.abort();
    running.abort();
    let _ = running.await;
    until(&watcher, &SLEEPING.replace("SELECT EXISTS", "SELECT NOT EXISTS")).await;
    left_nothing(&database.url(), &schema).await;
}

/// The future is dropped and the connection lives on, as in a pool.
#[tokio::test]
async fn a_dropped_future_leaves_nothing_on_its_connection() {
    let database = database();
    let schema = Schema::new("fresh").unwrap();
    let mut client = connect(&database.url()).await;
    let dropped = tokio::time::timeout(Duration::from_millis(500), slow(2).migrate(&mut client, &schema, LONG)).await;
    assert!(dropped.is_err());
    // The next statement waits for the roll-back that the drop has sent.
    assert_eq!(slow(2).inspect(&client, &schema).await.unwrap(), State::Missing);
    left_nothing(&database.url(), &schema).await;
}

async fn left_nothing(url: &str, schema: &Schema) {
    let mut client = connect(url).await;
    until(&client, &format!("SELECT to_regnamespace('{schema}') IS NULL")).await;
    assert_eq!(inspect(&client, schema).await.unwrap(), State::Missing);
    assert_eq!(migrate(&mut client, schema, LONG).await.unwrap().applied, all_steps());
}
