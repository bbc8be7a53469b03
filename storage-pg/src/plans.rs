//! The plans of every list and look-up on a large store, kept as a golden file: a list that stops using its index is a
//! change that somebody has to look at.
//!
//! `GOLDEN=write cargo test -p storage-pg plans` writes the file anew.

use std::fmt::Write as _;
use std::time::Duration;

use migrations::Schema;
use pg_test_server::{Database, Server};
use storage_core::{CivilDate, Timestamp};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::codec::{Day, Micros, Moment};
use crate::options::PgOptions;
use crate::statement::Statement;
use crate::store::Sql;
use crate::wire::Value;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/plans.txt");

/// 100,000 users, 1,000,000 jobs, 300,000 payments, 100,000 holds, 500,000 ledger rows, as a bot would leave them: almost
/// every job is done, few wait.
const FILL: &str = "
    SET session_replication_role = replica;
    INSERT INTO users (id, balance, ledger_rows, created_at, updated_at)
        SELECT n, 100, 5, t, t FROM generate_series(1, 100000) n, LATERAL (SELECT '2026-01-01Z'::timestamptz + n * interval '1 s') x (t);
    INSERT INTO user_settings (user_id, language) SELECT n, 'ru' FROM generate_series(1, 100000, 2) n;
    INSERT INTO daily_free_generations (user_id, date, used) SELECT n, '2026-01-01', 1 FROM generate_series(1, 100000, 3) n;
    INSERT INTO admin_limits (user_id, limit_amount) SELECT n, 100 FROM generate_series(1, 1000) n;
    INSERT INTO referrals (user_id, referrer_id, created_at, measured)
        SELECT n, n / 10 + 1, '2026-01-01Z'::timestamptz + n * interval '1 s', TRUE FROM generate_series(11, 100000) n;
    SELECT storage_measure_referrals();
    INSERT INTO operations (user_id, seq, operation_id, kind, balance_change, held_change, balance_after, held_after, key, created_at)
        SELECT u, s, gen_random_uuid(), 'credit', 20, 0, 20 * s, 0, 'k-' || s, '2026-01-01Z'::timestamptz + s * interval '1 s'
        FROM generate_series(1, 100000) u, generate_series(1, 5) s;
    INSERT INTO operation_keys (user_id, space, key, arguments, operation_id, answer)
        SELECT u, 'operation', 'k-' || s, gen_random_uuid(), gen_random_uuid(), 'record'
        FROM generate_series(1, 100000) u, generate_series(1, 5) s;
    INSERT INTO generation_jobs (user_id, job_id, model_id, model_name, params, price, status, external_task_id, created_at, updated_at, created_with)
        SELECT n % 100000 + 1, 'job-' || n, 'm', 'M', '{}', 1,
            CASE WHEN n % 1000 = 0 THEN 'pending' WHEN n % 1000 = 1 THEN 'running' WHEN n % 20 = 2 THEN 'failed' ELSE 'completed' END,
            'task-' || n, t, t, gen_random_uuid()
        FROM generate_series(1, 1000000) n, LATERAL (SELECT '2026-01-01Z'::timestamptz + n * interval '1 s') x (t);
    INSERT INTO payments (user_id, payment_id, amount, payment_method, provider_key, status, created_at, updated_at)
        SELECT n % 100000 + 1, 'p-' || n, 10, 'card', 'c-' || n, CASE WHEN n % 500 = 0 THEN 'pending' ELSE 'approved' END, t, t
        FROM generate_series(1, 300000) n, LATERAL (SELECT '2026-01-01Z'::timestamptz + n * interval '1 s') x (t);
    INSERT INTO balance_reserves (user_id, name, amount, status, expires_at, created_at, updated_at, opened_operation, opened_balance)
        SELECT n % 100000 + 1, 'h-' || n, 1, CASE WHEN n % 100 = 0 THEN 'open' ELSE 'committed' END, t + interval '1 h', t, t,
            gen_random_uuid(), 1
        FROM generate_series(1, 100000) n, LATERAL (SELECT '2026-01-01Z'::timestamptz + n * interval '1 s') x (t);
    INSERT INTO generation_history (user_id, generation_id, model_id, model_name, params, price, created_at)
        SELECT n % 100000 + 1, 'g-' || n, 'm', 'M', '{}', 1, '2026-01-01Z'::timestamptz + n * interval '1 s'
        FROM generate_series(1, 500000) n;
    INSERT INTO id_routes SELECT 'job', job_id, user_id FROM generation_jobs;
    INSERT INTO id_routes SELECT 'task', external_task_id, user_id FROM generation_jobs;
    INSERT INTO id_routes SELECT 'payment', payment_id, user_id FROM payments;
    INSERT INTO id_routes SELECT 'provider', provider_key, user_id FROM payments;
    SET session_replication_role = DEFAULT;
    SET default_statistics_target = 1000;
    ANALYZE;";

/// One parameter, as plausible as it gets.
fn plausible(statement: &Statement, at: usize) -> Box<dyn tokio_postgres::types::ToSql + Sync + Send> {
    use tokio_postgres::types::Type;
    let name = statement.name;
    let later = Moment::At(Timestamp::MIN.plus_micros(1_767_800_000_000_000));
    match statement.types[at] {
        // Behind the first users, and by hundreds.
        Type::INT8 => Box::new(if at == 0 { 5_000_i64 } else { 100 }),
        Type::INT8_ARRAY => Box::new(vec![5_000_i64, 6_000]),
        Type::NUMERIC_ARRAY => Box::new(vec![Micros(1_000_000); 2]),
        Type::TIMESTAMPTZ_ARRAY => Box::new(vec![later; 2]),
        Type::UUID_ARRAY => Box::new(vec![Uuid::nil(); 2]),
        Type::TEXT if name.ends_with("gather::post") => Box::new("100"),
        Type::TIMESTAMPTZ => Box::new(later),
        Type::DATE => Box::new(Day(CivilDate::from_days(20_460))),
        Type::NUMERIC => Box::new(Micros(1_000_000)),
        Type::UUID => Box::new(Uuid::nil()),
        Type::TEXT_ARRAY => Box::new(vec!["pending", "running"]),
        Type::BOOL => Box::new(true),
        Type::TEXT if name.contains("reserves::list_by_status") && at == 5 => Box::new("open"),
        Type::TEXT if name.contains("list_by_status") && at == 3 => Box::new("pending"),
        Type::TEXT if name.ends_with("jobs::add") && at == 4 => Box::new("{}"),
        Type::TEXT if name.ends_with("find_by_task") => Box::new("task-77"),
        Type::TEXT if name.ends_with("find_by_provider") => Box::new("c-77"),
        Type::TEXT if name.contains("payments::find") || name.ends_with("approve") => Box::new("p-77"),
        Type::TEXT if name.contains("jobs::find") => Box::new("job-77"),
        Type::TEXT if name.ends_with("routed") && at == 0 => Box::new("job"),
        Type::TEXT if name.contains("keys::find") && at == 1 => Box::new("operation"),
        Type::TEXT if name.contains("operation_keys") || name.contains("dump::keys") => Box::new("k-1"),
        Type::TEXT => Box::new("job-77"),
        ref other => panic!("{name} has a parameter of type {other}"),
    }
}

/// The nodes of a plan without their figures.
fn nodes(lines: &[String]) -> String {
    let is_node = |line: &&String| {
        let line = line.trim_start().trim_start_matches("->").trim_start();
        ![
            "Index Cond",
            "Filter",
            "Sort Key",
            "Recheck",
            "Output",
            "Rows",
            "Join",
            "Hash Cond",
            "Merge Cond",
            "Group",
            "One-Time",
            "Cache",
            "Conflict",
            "Presorted",
            "Order By",
            "Heap",
        ]
        .iter()
        .any(|word| line.starts_with(word))
    };
    lines.iter().filter(is_node).fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "    {line}");
        text
    })
}

/// A store without anything, and a superuser's connection to it.
async fn new_store() -> (Database, Client) {
    let server = Server::shared().unwrap();
    let database = server.create_empty_database().unwrap();
    crate::migrate::migrate(&PgOptions::new(database.url()), Duration::from_secs(30)).await.unwrap();
    let url = server.superuser_url(database.name());
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    (database, client)
}

/// A statement without the comment that names it.
fn body(statement: &Statement) -> &str {
    statement.text.split_once('\n').unwrap().1.trim_start()
}

async fn explained(client: &Client, statement: &Statement) -> Vec<String> {
    let values: Vec<_> = (0..statement.types.len()).map(|at| plausible(statement, at)).collect();
    let values: Vec<(Value<'_>, _)> =
        values.iter().zip(&statement.types).map(|(value, of)| (&**value as Value<'_>, of.clone())).collect();
    let explain = format!("EXPLAIN (COSTS OFF) {}", body(statement));
    let rows =
        client.query_typed(&explain, &values).await.unwrap_or_else(|error| panic!("{}: {error:?}", statement.name));
    rows.iter().map(|row| row.get(0)).collect()
}

/// A connection keeps the plans that it made while a new store was empty. An index of states is small then and fills with what has
/// left the state since.
#[tokio::test]
async fn what_changes_one_record_goes_by_its_user_also_on_an_empty_store() {
    let (_database, client) = new_store().await;
    let sql = Sql::new(&Schema::default());
    let (jobs, payments, reserves) = (&sql.jobs, &sql.payments, &sql.reserves);
    let records = [&jobs.add, &jobs.change, &jobs.update, &payments.add, &payments.change, &payments.approve];
    for statement in records.into_iter().chain([&reserves.reserve, &reserves.commit, &reserves.release, &reserves.end])
    {
        let lines = explained(&client, statement).await;
        let is_its_users =
            |line: &str| !line.contains("Seq Scan on") && (line.contains("_by_user") || !line.contains("_by_"));
        let by_another = lines.iter().find(|line| !is_its_users(line));
        assert!(by_another.is_none(), "{} goes by {by_another:?}: {lines:#?}", statement.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_list_and_look_up_uses_its_index_at_a_million_jobs() {
    let (_database, client) = new_store().await;
    client.batch_execute(FILL).await.unwrap();
    let sql = Sql::new(&Schema::default());
    let mut text = String::from("# The plan of every list and look-up at 1,000,000 jobs and 100,000 users.\n");
    for statement in sql.all() {
        let body = body(statement);
        // What only writes has no plan worth looking at; what takes no parameter looks at no table of size.
        let looks = body.starts_with("SELECT") || body.starts_with("WITH");
        if !looks
            || statement.types.is_empty()
            || statement.name.contains("store::")
            || statement.name.ends_with("referrals::lock")
        {
            continue;
        }
        let lines = explained(&client, statement).await;
        for table in [
            "users",
            "operations",
            "operation_keys",
            "generation_jobs",
            "payments",
            "generation_history",
            "id_routes",
            "balance_reserves",
            "referrals",
            "referral_heights",
        ] {
            let scan = format!("Seq Scan on {table}");
            // An audit reads everything of five hundred users; its ranges are narrow where it matters.
            assert!(
                !lines.iter().any(|line| line.contains(&scan)),
                "{} reads all of {table}: {lines:#?}",
                statement.name
            );
        }
        let short = statement.name.trim_start_matches("storage_pg::");
        let _ = write!(text, "\n{short}\n{}", nodes(&lines));
    }
    if std::env::var("GOLDEN").is_ok_and(|word| word == "write") {
        #[expect(clippy::disallowed_methods, reason = "the golden file is no part of a store")]
        std::fs::write(GOLDEN, &text).unwrap();
    }
    let golden = std::fs::read_to_string(GOLDEN).unwrap();
    let parts = |text: &str| text.split("\n\n").map(ToOwned::to_owned).collect::<Vec<_>>();
    for (found, kept) in parts(&text).iter().zip(parts(&golden)) {
        assert_eq!(*found, kept, "a plan changed: look at it, then GOLDEN=write");
    }
    assert_eq!(text.len(), golden.len(), "a statement came or went: look at it, then GOLDEN=write");
}
