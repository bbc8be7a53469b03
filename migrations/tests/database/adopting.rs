//! The earlier system's tables.

use std::time::Duration;

use futures_util::future::join_all;
use migrations::{Error, Schema, State, adopt, adopted_tables, inspect, latest, migrate};
use pg_test_server::Database;
use tokio_postgres::Client;

use crate::{LONG, all, chain, connect, database, one, pooled, public};

const ORIGINAL: &str = include_str!("original.sql");

const TABLES: [&str; 8] = [
    "users",
    "user_settings",
    "daily_free_generations",
    "admin_limits",
    "generation_jobs",
    "operations",
    "payments",
    "referrals",
];

async fn original_with(sql: &str) -> (Database, Client) {
    let database = database();
    let client = connect(&database.url()).await;
    client.batch_execute(ORIGINAL).await.unwrap();
    client.batch_execute(sql).await.unwrap();
    (database, client)
}

/// The rows of a table as text, whatever it is called.
async fn rows(client: &Client, table: &str) -> Vec<String> {
    all(client, &format!("SELECT t::text FROM {table} t ORDER BY 1")).await
}

async fn names(client: &Client) -> Vec<String> {
    let sql = "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
        UNION ALL SELECT conname::text FROM pg_constraint WHERE connamespace = 'public'::regnamespace
        UNION ALL SELECT tgname::text FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1";
    all(client, sql).await
}

#[tokio::test]
async fn everything_of_the_earlier_system_stays_under_other_names() {
    let (_database, mut client) = original_with("").await;
    let state = inspect(&client, &public()).await.unwrap();
    assert_eq!(state, State::Original { tables: TABLES.map(str::to_owned).to_vec() });
    let error = migrate(&mut client, &public(), LONG).await.unwrap_err();
    assert!(matches!(&error, Error::State(found) if *found == state), "{error:?}");
    assert!(error.to_string().contains("`storage migrate --adopt`"), "{error}");
    assert_eq!(adopted_tables(&client, &public()).await.unwrap(), Vec::<String>::new());

    let mut before = Vec::new();
    for table in TABLES {
        before.push(rows(&client, table).await);
    }
    let names_before = names(&client).await;

    let adopted = adopt(&mut client, &public(), LONG).await.unwrap();
    let legacy = TABLES.map(|table| format!("legacy_{table}"));
    assert!(!adopted.already());
    assert_eq!(adopted.tables, legacy);
    assert_eq!((adopted.outcome.applied, adopted.outcome.to), ((1..=latest()).collect::<Vec<_>>(), latest()));
    assert_eq!(inspect(&client, &public()).await.unwrap(), State::Current { version: latest() });
    assert_eq!(adopted_tables(&client, &public()).await.unwrap(), legacy);

    for (table, before) in legacy.iter().zip(before) {
        assert!(!before.is_empty() && rows(&client, table).await == before, "{table}");
    }
    assert_eq!(rows(&client, "users").await, Vec::<String>::new());
    // Each old name is there, as it was or with the prefix, and none of them under both.
    let names_after = names(&client).await;
    for name in &names_before {
        let new = format!("legacy_{name}");
        let kept = name.starts_with("update_");
        let found = names_after.iter().any(|found| *found == if kept { name.clone() } else { new.clone() });
        assert!(found, "{name}");
    }
    for (from, to) in &adopted.renamed {
        assert_eq!(*to, format!("legacy_{from}"));
    }
    // It all works as before: sequence, foreign keys, triggers.
    client
        .batch_execute(
            "INSERT INTO legacy_operations (user_id, type, amount) VALUES (1001, 'refund', 1);
             UPDATE legacy_users SET balance = 13 WHERE id = 1001",
        )
        .await
        .unwrap();
    assert_eq!(one::<i64>(&client, "SELECT max(id) FROM legacy_operations").await, 3);
    assert!(
        one::<bool>(&client, "SELECT updated_at > now() - interval '1 hour' FROM legacy_users WHERE id = 1001").await
    );
    let orphan = client.batch_execute("INSERT INTO legacy_payments VALUES ('p-2', 5, 1, 'sbp')").await.unwrap_err();
    assert_eq!(orphan.as_db_error().unwrap().constraint(), Some("legacy_payments_user_id_fkey"));

    let again = adopt(&mut client, &public(), LONG).await.unwrap();
    assert!(again.already());
    assert_eq!(again.tables, legacy);
    assert_eq!(again.outcome.applied, Vec::<i32>::new());
    assert_eq!(names(&client).await, names_after);
}

#[tokio::test]
async fn the_older_variant_and_forks_are_adopted_too() {
    let older = "CREATE TABLE users (id BIGINT PRIMARY KEY, balance NUMERIC(12, 2) DEFAULT 0);
        CREATE TABLE operations (id BIGSERIAL PRIMARY KEY, user_id BIGINT, type TEXT, amount NUMERIC(12, 2), model TEXT,
            result_url TEXT, prompt TEXT, created_at TIMESTAMPTZ DEFAULT now());
        INSERT INTO operations (user_id, type, amount) VALUES (1, 'generation', -5)";
    let fork =
        format!("{ORIGINAL} ALTER TABLE payments ADD COLUMN balance_charged BOOLEAN, ADD COLUMN idempotency_key TEXT");
    for (sql, tables) in [(older, 2), (&fork, 8)] {
        let database = database();
        let mut client = connect(&database.url()).await;
        client.batch_execute(sql).await.unwrap();
        let adopted = adopt(&mut client, &public(), LONG).await.unwrap();
        assert_eq!(adopted.tables.len(), tables);
        assert_eq!(inspect(&client, &public()).await.unwrap(), State::Current { version: latest() });
    }
}

#[tokio::test]
async fn names_that_collide_with_ours_or_with_each_other_step_aside() {
    let long = "a".repeat(60);
    let (_database, mut client) = original_with(&format!(
        "CREATE INDEX payments_by_user ON payments (user_id, created_at);
         ALTER TABLE users RENAME CONSTRAINT users_pkey TO users_pk;
         CREATE INDEX {long}xyz ON payments (notes);
         CREATE INDEX {long}xyw ON payments (admin_id);
         CREATE INDEX \"Odd \"\"name\" ON payments (amount);
         CREATE TABLE elsewhere (id INT4);
         CREATE INDEX legacy_idx_payments_status ON elsewhere (id)"
    ))
    .await;
    let adopted = adopt(&mut client, &public(), LONG).await.unwrap();
    let new = |old: &str| adopted.renamed.iter().find(|(from, _)| from == old).unwrap().1.clone();
    assert_eq!(new("payments_by_user"), "legacy_payments_by_user");
    assert_eq!(new("users_pk"), "legacy_users_pk");
    assert_eq!(new("idx_payments_status"), "legacy_idx_payments_status_2");
    assert_eq!(new("Odd \"name"), "legacy_Odd \"name");
    let cut = [new(&format!("{long}xyz")), new(&format!("{long}xyw"))];
    assert!(cut[0] != cut[1] && cut.iter().all(|name| name.len() == 63), "{cut:?}");
    let found = names(&client).await;
    for (_, to) in &adopted.renamed {
        assert!(found.contains(to), "{to}");
    }
}

#[tokio::test]
async fn a_table_under_both_names_is_refused_by_name() {
    let (_database, mut client) =
        original_with("CREATE TABLE legacy_payments (id INT4); CREATE TABLE legacy_users (id INT4)").await;
    let before = names(&client).await;
    let error = adopt(&mut client, &public(), LONG).await.unwrap_err();
    let Error::AdoptedTwice { tables } = &error else { panic!("{error:?}") };
    assert_eq!(*tables, ["users", "payments"]);
    assert!(error.to_string().contains("payments and legacy_payments"), "{error}");
    assert_eq!(names(&client).await, before);
}

#[tokio::test]
async fn nothing_to_adopt_is_an_error_and_changes_nothing() {
    let database = database();
    let mut client = connect(&database.url()).await;
    let error = adopt(&mut client, &public(), LONG).await.unwrap_err();
    assert!(matches!(error, Error::NothingToAdopt(State::Missing)), "{error:?}");
    assert_eq!(names(&client).await, Vec::<String>::new());
    migrate(&mut client, &public(), LONG).await.unwrap();
    let error = adopt(&mut client, &public(), LONG).await.unwrap_err();
    assert!(matches!(error, Error::NothingToAdopt(State::Current { version }) if version == latest()), "{error:?}");
    assert_eq!(adopted_tables(&client, &Schema::new("nowhere").unwrap()).await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_failing_migration_takes_the_adoption_back() {
    let (_database, mut client) = original_with("CREATE VIEW payments_by_time AS SELECT 1 AS one").await;
    let before = names(&client).await;
    let error = adopt(&mut client, &public(), LONG).await.unwrap_err();
    assert!(matches!(error, Error::Migration { .. }), "{error:?}");
    assert!(chain(&error).iter().any(|text| text.contains("payments_by_time")), "{error:?}");
    assert_eq!(names(&client).await, before);
}

#[tokio::test]
async fn a_busy_table_is_waited_for_as_long_as_told() {
    let (database, mut client) = original_with("").await;
    let writer = connect(&database.url()).await;
    writer.batch_execute("BEGIN; UPDATE payments SET notes = 'x'").await.unwrap();
    let error = adopt(&mut client, &public(), Duration::from_millis(300)).await.unwrap_err();
    let Error::Busy { source: Some(source), .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.code().unwrap().code(), "55P03");
    assert!(matches!(inspect(&client, &public()).await.unwrap(), State::Original { .. }));
    writer.batch_execute("COMMIT").await.unwrap();
    assert_eq!(adopt(&mut client, &public(), LONG).await.unwrap().tables.len(), 8);
    assert_eq!(one::<String>(&client, "SELECT notes FROM legacy_payments").await, "x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_adopt_together_one_does_it() {
    for round in 0..8 {
        let pooler = round % 2 == 1;
        let (database, _client) = original_with("").await;
        let url = if pooler { pooled(&database) } else { database.url() };
        let clients = join_all((0..8).map(|_| connect(&url))).await;
        let runs = clients
            .into_iter()
            .map(|mut client| tokio::spawn(async move { adopt(&mut client, &public(), LONG).await.unwrap() }));
        let adopted: Vec<_> = join_all(runs).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(adopted.iter().filter(|adopted| !adopted.already()).count(), 1);
        assert!(adopted.iter().all(|adopted| adopted.tables.len() == 8));
    }
}
