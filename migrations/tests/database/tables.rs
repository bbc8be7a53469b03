//! What the migrations create.

use std::collections::BTreeMap;

use migrations::{HISTORY_TABLE, Plan, migrate};

use crate::{LONG, all, connect, database, one, public};

#[tokio::test]
async fn the_list_of_the_shape_is_what_the_sql_creates() {
    let database = database();
    let mut client = connect(&database.url()).await;
    migrate(&mut client, &public(), LONG).await.unwrap();

    let sql = format!(
        "SELECT ARRAY[c.relname::text] || ARRAY(SELECT a.attname::text FROM pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum)
         FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
            AND c.relname <> '{HISTORY_TABLE}'"
    );
    let mut created: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for mut columns in all::<Vec<String>>(&client, &sql).await {
        created.insert(columns.remove(0), columns);
    }
    let mut listed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut unique: Vec<&str> = Vec::new();
    for addition in Plan::embedded().additions() {
        let columns = listed.entry(addition.table.to_owned()).or_default();
        columns.extend(addition.columns.iter().map(ToString::to_string));
        unique.extend(addition.unique);
    }
    assert_eq!(listed, created);

    let sql = format!(
        "SELECT i.relname::text FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
         WHERE i.relnamespace = 'public'::regnamespace AND x.indisunique AND x.indrelid <> '{HISTORY_TABLE}'::regclass
         ORDER BY i.relname::text COLLATE \"C\""
    );
    unique.sort_unstable();
    assert_eq!(unique, all::<String>(&client, &sql).await);
}

#[test]
fn no_migration_drops_anything() {
    for step in migrations::steps() {
        for line in step.sql.lines().filter(|line| !line.trim_start().starts_with("--")) {
            // What is made anew under its name is not gone.
            let words: Vec<&str> = line.split_whitespace().map(|word| word.trim_end_matches(',')).collect();
            if let ["DROP", kind @ ("CONSTRAINT" | "TRIGGER"), name, ..] = words[..] {
                let anew = if kind == "TRIGGER" { "CREATE" } else { "ADD" };
                assert!(step.sql.contains(&format!("{anew} {kind} {name} ")), "{}: {line}", step.name);
                continue;
            }
            let line = line.to_uppercase();
            for word in ["DROP", "TRUNCATE", "DELETE FROM", "CASCADE"] {
                assert!(!line.contains(word), "V{}__{}: {line}", step.version, step.name);
            }
        }
    }
}

#[test]
fn versions_count_up_from_one() {
    let versions: Vec<i32> = migrations::steps().iter().map(|step| step.version).collect();
    assert_eq!(versions, (1..=migrations::latest()).collect::<Vec<_>>());
}

/// People with psql do not write `updated_at`, and the store always does.
#[tokio::test]
async fn updated_at_moves_for_whoever_changes_a_row_by_hand() {
    let database = database();
    let mut client = connect(&database.url()).await;
    migrate(&mut client, &public(), LONG).await.unwrap();
    client
        .batch_execute(
            "INSERT INTO users (id, updated_at) VALUES (1, '2020-01-01');
             INSERT INTO user_settings (user_id, updated_at) VALUES (1, '2020-01-01');
             INSERT INTO daily_free_generations (user_id, updated_at) VALUES (1, '2020-01-01');
             INSERT INTO admin_limits (user_id, limit_amount, updated_at) VALUES (1, 5, '2020-01-01');
             INSERT INTO balance_reserves (user_id, name, amount, status, created_at, updated_at, opened_operation,
                opened_balance) VALUES (1, 'n', 1, 'open', '2020-01-01', '2020-01-01', gen_random_uuid(), 0);
             INSERT INTO generation_jobs (user_id, job_id, model_id, model_name, params, price, status, created_at,
                updated_at, created_with) VALUES (1, 'j', 'm', 'M', '{}', 1, 'pending', '2020-01-01', '2020-01-01',
                gen_random_uuid());
             INSERT INTO payments (user_id, payment_id, amount, payment_method, status, created_at, updated_at)
                VALUES (1, 'p', 1, 'sbp', 'pending', '2020-01-01', '2020-01-01');",
        )
        .await
        .unwrap();
    for (table, column, store, person) in [
        ("users", "balance", "7", "8"),
        ("user_settings", "language", "'en'", "'de'"),
        ("daily_free_generations", "bank", "3", "4"),
        ("admin_limits", "limit_amount", "7", "8"),
        ("balance_reserves", "expires_at", "now()", "NULL"),
        ("generation_jobs", "params", "'{\"a\": 1}'", "'{\"a\":1}'"),
        ("payments", "notes", "'x'", "'y'"),
    ] {
        let set = |assignments: &str| {
            let sql = format!("UPDATE {table} SET {assignments}");
            let client = &client;
            async move { client.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")) }
        };
        let year = format!("SELECT extract(year FROM updated_at)::int4 FROM {table}");
        set(&format!("{column} = {column}")).await;
        assert_eq!(one::<i32>(&client, &year).await, 2020, "{table}: nothing changed");
        set(&format!("{column} = {store}, updated_at = '2021-01-01', last_operation = gen_random_uuid()")).await;
        assert_eq!(one::<i32>(&client, &year).await, 2021, "{table}: the store's own time");
        set(&format!("{column} = {person}")).await;
        assert!(one::<i32>(&client, &year).await > 2021, "{table}: by hand");
    }
}
