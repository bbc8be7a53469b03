//! Each state has a database of its own.

use migrations::{Addition, Error, HISTORY_TABLE, Plan, Schema, State, inspect, latest, migrate};
use pg_test_server::Server;
use tokio_postgres::Client;

use crate::{LONG, chain, connect, database, longer, one, public};

/// A migrated database, changed by `sql`.
async fn migrated_then(sql: &str) -> (pg_test_server::Database, Client) {
    let database = database();
    let mut client = connect(&database.url()).await;
    migrate(&mut client, &public(), LONG).await.unwrap();
    client.batch_execute(sql).await.unwrap();
    (database, client)
}

/// Migrating refuses the state and changes nothing.
async fn refused(client: &mut Client, state: &State) {
    match migrate(client, &public(), LONG).await.unwrap_err() {
        Error::State(found) => assert_eq!(&found, state),
        other => panic!("{other:?}"),
    }
    assert_eq!(&inspect(client, &public()).await.unwrap(), state);
}

fn divergent(version: i32, changed: &[&str], missing: &[&str]) -> State {
    let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    // What a caller outside the crate can make of a state: its words.
    let (changed, missing): (Vec<String>, Vec<String>) = (owned(changed), owned(missing));
    State::Divergent { version, changed, missing }
}

#[tokio::test]
async fn missing_then_current_and_a_second_run_does_nothing() {
    let database = database();
    let mut client = connect(&database.url()).await;
    for name in ["public", "not_there_yet"] {
        let schema = Schema::new(name).unwrap();
        assert_eq!(inspect(&client, &schema).await.unwrap(), State::Missing);
        let first = migrate(&mut client, &schema, LONG).await.unwrap();
        assert_eq!((first.applied, first.from, first.to), ((1..=latest()).collect::<Vec<_>>(), 0, latest()));
        assert_eq!(inspect(&client, &schema).await.unwrap(), State::Current { version: latest() });
        let second = migrate(&mut client, &schema, LONG).await.unwrap();
        assert_eq!((second.applied, second.from, second.to), (vec![], latest(), latest()));
    }
}

#[tokio::test]
async fn older_is_brought_up_and_newer_is_left_alone() {
    let (_database, mut client) = migrated_then("").await;
    let (newer, next) = (longer(), latest() + 1);
    assert_eq!(
        newer.inspect(&client, &public()).await.unwrap(),
        State::Older { applied: latest(), pending: vec![next] }
    );
    let outcome = newer.migrate(&mut client, &public(), LONG).await.unwrap();
    assert_eq!((outcome.applied, outcome.from, outcome.to), (vec![next], latest(), next));
    assert_eq!(newer.inspect(&client, &public()).await.unwrap(), State::Current { version: next });

    let state = State::Newer { applied: next, known: latest() };
    refused(&mut client, &state).await;
    assert!(state.to_string().contains("use a newer `storage`"), "{state}");

    // What a newer version takes away is not missed by an older program.
    client.batch_execute("ALTER TABLE users DROP COLUMN spent").await.unwrap();
    refused(&mut client, &state).await;
    let missed = divergent(next, &[], &["column users.spent"]);
    assert_eq!(newer.inspect(&client, &public()).await.unwrap(), missed);
}

/// A version that adds says that programs of before go on; one that does not say so locks them out, whatever comes after it.
#[tokio::test]
async fn a_newer_schema_says_whether_older_programs_go_on() {
    let (_database, mut client) = migrated_then("").await;
    assert_eq!(Plan::embedded().works_since(), latest());
    let (known, next) = (latest(), latest() + 1);
    let sql = format!("-- A note.\n-- works since: {known}\nALTER TABLE users ADD COLUMN note TEXT;");
    let addition = Addition { version: next, table: "users", columns: &["note"], unique: &[] };
    let newer = Plan::embedded().with(&format!("V{next}__note"), &sql, &[addition]).unwrap();
    assert_eq!(newer.works_since(), known);
    newer.migrate(&mut client, &public(), LONG).await.unwrap();
    let ahead = State::Ahead { applied: next, known };
    assert_eq!(inspect(&client, &public()).await.unwrap(), ahead);
    assert!(ahead.works() && ahead.to_string().contains("nothing to do"), "{ahead}");
    let outcome = migrate(&mut client, &public(), LONG).await.unwrap();
    assert_eq!((outcome.applied, outcome.from, outcome.to), (vec![], next, next));
    // What it promises must be there.
    client.batch_execute("ALTER TABLE payments RENAME COLUMN notes TO gone").await.unwrap();
    assert_eq!(inspect(&client, &public()).await.unwrap(), divergent(next, &[], &["column payments.notes"]));
    client.batch_execute("ALTER TABLE payments RENAME COLUMN gone TO notes").await.unwrap();

    let newest = newer.with(&format!("V{}__less", next + 1), "ALTER TABLE users DROP COLUMN note;", &[]).unwrap();
    assert_eq!(newest.works_since(), next + 1);
    newest.migrate(&mut client, &public(), LONG).await.unwrap();
    assert_eq!(inspect(&client, &public()).await.unwrap(), State::Newer { applied: next + 1, known });
    client.batch_execute("UPDATE storage_meta SET value = 'all' WHERE name = 'works_since'").await.unwrap();
    assert_eq!(inspect(&client, &public()).await.unwrap(), State::Newer { applied: next + 1, known }, "no promise");
}

#[tokio::test]
async fn a_changed_text_is_divergent() {
    let (_database, mut client) =
        migrated_then(&format!("UPDATE {HISTORY_TABLE} SET checksum = '1' WHERE version = 1")).await;
    refused(&mut client, &divergent(latest(), &["V1__tables"], &[])).await;
    client.batch_execute(&format!("UPDATE {HISTORY_TABLE} SET checksum = NULL WHERE version = 1")).await.unwrap();
    refused(&mut client, &divergent(latest(), &["V1__tables"], &[])).await;
}

#[tokio::test]
async fn a_migration_that_was_left_out_is_divergent() {
    let database = database();
    let mut client = connect(&database.url()).await;
    let plan = longer();
    plan.migrate(&mut client, &public(), LONG).await.unwrap();
    client.batch_execute(&format!("DELETE FROM {HISTORY_TABLE} WHERE version = 1")).await.unwrap();
    let state = divergent(latest() + 1, &[], &["migration V1__tables"]);
    assert_eq!(plan.inspect(&client, &public()).await.unwrap(), state);
    let error = plan.migrate(&mut client, &public(), LONG).await.unwrap_err();
    assert!(matches!(&error, Error::State(found) if *found == state), "{error:?}");
}

#[tokio::test]
async fn half_there_is_named() {
    let (_database, mut client) = migrated_then(
        "DROP TABLE id_routes;
         ALTER TABLE users DROP COLUMN held;
         ALTER TABLE payments DROP CONSTRAINT payments_provider_unique",
    )
    .await;
    let missing = ["table id_routes", "column users.held", "unique index payments_provider_unique of payments"];
    let state = divergent(latest(), &[], &missing);
    refused(&mut client, &state).await;
    for name in missing {
        assert!(state.to_string().contains(name), "{state}");
    }
}

#[tokio::test]
async fn a_lost_history_is_told_from_strangers() {
    let (_database, mut client) = migrated_then(&format!("DROP TABLE {HISTORY_TABLE}")).await;
    let what = format!("table {HISTORY_TABLE} or its rows");
    refused(&mut client, &divergent(0, &[], &[&what])).await;
}

#[tokio::test]
async fn foreign_tables_are_named() {
    for (sql, tables) in [
        ("CREATE TABLE users (id uuid PRIMARY KEY, email text)", &["users"][..]),
        ("CREATE VIEW payments AS SELECT 1 AS payment_id", &["payments"]),
        ("CREATE TABLE referrals (user_id bigint PRIMARY KEY, referrer_id bigint)", &["referrals"]),
        (
            "CREATE TABLE users (id bigint PRIMARY KEY, balance numeric(12, 2));
             CREATE TABLE operations (id bigint, user_id bigint, type text, amount numeric, created_at timestamptz);
             CREATE TABLE payments (id bigint)",
            &["payments"],
        ),
        ("CREATE VIEW storage_migrations AS SELECT 1 AS version", &["storage_migrations"]),
    ] {
        let database = database();
        let mut client = connect(&database.url()).await;
        client.batch_execute("ALTER SCHEMA public OWNER TO current_user").await.unwrap_or_default();
        client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        refused(&mut client, &State::Foreign { tables: tables.iter().map(ToString::to_string).collect() }).await;
    }
}

#[tokio::test]
async fn what_is_nobodys_name_is_nobodys_business() {
    let database = database();
    let mut client = connect(&database.url()).await;
    let sql = "CREATE TABLE refinery_schema_history (version int4 PRIMARY KEY); CREATE TABLE bots (id int4)";
    client.batch_execute(sql).await.unwrap();
    assert_eq!(inspect(&client, &public()).await.unwrap(), State::Missing);
    migrate(&mut client, &public(), LONG).await.unwrap();
}

#[tokio::test]
async fn a_role_that_may_only_read_can_inspect_and_open() {
    let (database, _client) = migrated_then("").await;
    let mut client = connect(&Server::shared().unwrap().superuser_url(database.name())).await;
    let role = format!("reader_{}", database.name());
    client
        .batch_execute(&format!(
            "CREATE ROLE {role}; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};
             SET default_transaction_read_only = on; SET ROLE {role}"
        ))
        .await
        .unwrap();
    assert_eq!(inspect(&client, &public()).await.unwrap(), State::Current { version: latest() });
    assert_eq!(migrate(&mut client, &public(), LONG).await.unwrap().applied, Vec::<i32>::new());
    let error = longer().migrate(&mut client, &public(), LONG).await.unwrap_err();
    let Error::NoRight { what, .. } = &error else { panic!("{error:?}") };
    assert!(what.starts_with("change the tables of"), "{error}");
    let admin = connect(&Server::shared().unwrap().superuser_url(database.name())).await;
    admin.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
}

#[tokio::test]
async fn defaults_of_the_database_do_not_matter_and_nothing_stays_on_the_connection() {
    let database = database();
    let admin = connect(&database.url()).await;
    admin
        .batch_execute(&format!(
            "CREATE SCHEMA other; CREATE SCHEMA store;
             CREATE FUNCTION store.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT NULL::timestamptz';
             ALTER DATABASE {0} SET search_path = other;
             ALTER DATABASE {0} SET default_transaction_isolation = 'serializable';
             ALTER DATABASE {0} SET default_transaction_read_only = on;
             ALTER DATABASE {0} SET lock_timeout = '7s'",
            database.name()
        ))
        .await
        .unwrap();
    let mut client = connect(&database.url()).await;
    client.batch_execute("BEGIN READ WRITE; CREATE TEMPORARY TABLE users (id bigint); COMMIT").await.unwrap();
    let schema = Schema::new("store").unwrap();
    migrate(&mut client, &schema, LONG).await.unwrap();
    assert_eq!(inspect(&client, &schema).await.unwrap(), State::Current { version: latest() });
    assert!(one::<bool>(&client, "SELECT count(*) = 0 FROM pg_class WHERE relnamespace = 'other'::regnamespace").await);
    assert_eq!(one::<String>(&client, "SHOW search_path").await, "other");
    assert_eq!(one::<String>(&client, "SHOW lock_timeout").await, "7s");
    assert_eq!(one::<i64>(&client, "SELECT count(*) FROM pg_prepared_statements").await, 0);
    assert_eq!(
        one::<i64>(&client, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
            .await,
        0
    );
    client.batch_execute("BEGIN READ WRITE; INSERT INTO store.users (id) VALUES (1); COMMIT").await.unwrap();
}

#[tokio::test]
async fn a_failing_migration_leaves_nothing_and_says_which() {
    let database = database();
    let mut client = connect(&database.url()).await;
    let schema = Schema::new("fresh").unwrap();
    let plan = longer()
        .with(&format!("V{}__broken", latest() + 2), "CREATE TABLE fine (id int4); SELECT 1 FROM nowhere;", &[])
        .unwrap();
    let error = plan.migrate(&mut client, &schema, LONG).await.unwrap_err();
    let Error::Migration { source: Some(source), .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.code().unwrap().code(), "42P01");
    let chain = chain(&error);
    assert!(chain[0].contains("__broken"), "{chain:?}");
    assert!(chain.iter().filter(|text| text.contains("nowhere")).count() == 1, "{chain:?}");
    assert_eq!(plan.inspect(&client, &schema).await.unwrap(), State::Missing);
    assert!(one::<bool>(&client, "SELECT to_regnamespace('fresh') IS NULL").await);
    Plan::embedded().migrate(&mut client, &schema, LONG).await.unwrap();
}
