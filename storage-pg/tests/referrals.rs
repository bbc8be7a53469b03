//! The heights of the trees below users, which are kept so that setting a referrer reads no tree: whoever stores a referral,
//! they are what counting would find.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "helpers of tests: a surprise is a failure; a person with psql sends what this one does"
)]

mod support;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::time::Duration;

use pg_test_server::{Database, PgBouncer, Server};
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestCaseError, TestRunner};
use storage_core::{
    ErrorKind, ImportOutcome, ImportRecord, MAX_REFERRAL_CHAIN, Referrals as _, SetReferrer, Store as _, UserId,
};
use storage_pg::{Limits, PgOptions, PgStorage};
use tokio_postgres::{Client, NoTls};

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn open(url: String) -> PgStorage {
    PgStorage::open(PgOptions { max_connections: 2, ..PgOptions::new(url) }).await.unwrap()
}

/// A database with the store's tables, a handle on it, and a person with psql.
async fn store() -> (Database, PgStorage, Client) {
    let database = support::database(Server::shared().unwrap()).unwrap();
    let (storage, psql) = (open(database.url()).await, connect(&database.url()).await);
    (database, storage, psql)
}

async fn one(psql: &Client, sql: &str) -> i64 {
    psql.query_one(sql, &[]).await.unwrap().get(0)
}

/// What is kept.
async fn kept(psql: &Client) -> BTreeMap<i64, i64> {
    let rows = psql.query("SELECT user_id, height FROM referral_heights WHERE height <> 0", &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// What counting finds: everybody walks up, and says at each step how far it was.
async fn counted(psql: &Client) -> BTreeMap<i64, i64> {
    let rows = psql.query("SELECT user_id, referrer_id FROM referrals", &[]).await.unwrap();
    let referrers: BTreeMap<i64, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut heights: BTreeMap<i64, i64> = BTreeMap::new();
    for start in referrers.keys() {
        let mut at = *start;
        for steps in 1..=1001 {
            let Some(above) = referrers.get(&at) else { break };
            let height = heights.entry(*above).or_default();
            *height = steps.max(*height);
            at = *above;
        }
    }
    heights
}

async fn fill(psql: &Client, edges: &str) {
    psql.batch_execute(&format!(
        "CREATE TEMPORARY TABLE edges (user_id, referrer_id) AS {edges};
         INSERT INTO users (id) SELECT DISTINCT id FROM edges, LATERAL (VALUES (user_id), (referrer_id)) AS x (id)
             ON CONFLICT DO NOTHING;
         -- As a program of the version before does it.
         INSERT INTO referrals (user_id, referrer_id, created_at) SELECT user_id, referrer_id, now() FROM edges;
         DROP TABLE edges"
    ))
    .await
    .unwrap();
}

/// The same as a store that was filled by this version.
async fn fill_measured(psql: &Client, edges: &str) {
    fill(psql, edges).await;
    psql.batch_execute("SELECT storage_measure_referrals(); ANALYZE").await.unwrap();
}

/// Rows of the referrals and the heights that anybody has read so far.
async fn rows_read(psql: &Client) -> i64 {
    // A connection tells what it did when it ends, and all but ours have.
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    while one(psql, others).await > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let read = "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_user_tables
                WHERE relname IN ('referrals', 'referral_heights')";
    one(psql, read).await
}

#[tokio::test(flavor = "multi_thread")]
async fn setting_a_referrer_reads_no_tree() {
    let (database, storage, psql) = store().await;
    storage.close().await.unwrap();
    // 1 brought 200,000, of whom 2 brought 50,000 more; 900,000 stands below a chain of 20.
    fill_measured(
        &psql,
        "SELECT n AS user_id, 1 AS referrer_id FROM generate_series(2, 200001) AS n
         UNION ALL SELECT n, 2 FROM generate_series(300001, 350000) AS n
         UNION ALL SELECT n, n + 1 FROM generate_series(900000, 900019) AS n",
    )
    .await;
    // The statistics of this very connection must not come in between.
    drop(psql);
    let psql = connect(&database.url()).await;
    let before = rows_read(&psql).await;
    let storage = open(database.url()).await;
    assert!(!storage.set_referrer(SetReferrer::new(user(1), user(900_000))).await.unwrap().replayed);
    storage.close().await.unwrap();
    let read = rows_read(&psql).await - before;
    // The chain above twice, once as it is and once to be raised, and a few of each user.
    assert!((20..200).contains(&read), "{read} rows were read");
    assert_eq!(one(&psql, "SELECT height FROM referral_heights WHERE user_id = 900020").await, 23);

    // A repetition looks at the one row.
    let before = rows_read(&psql).await;
    let storage = open(database.url()).await;
    for key in [None, Some("k".parse().unwrap())] {
        let again = SetReferrer { key, ..SetReferrer::new(user(1), user(900_000)) };
        assert!(storage.set_referrer(again).await.unwrap().replayed);
    }
    storage.close().await.unwrap();
    let read = rows_read(&psql).await - before;
    assert!(read < 20, "{read} rows were read");
    assert_eq!(kept(&psql).await, counted(&psql).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repetition_waits_for_no_chain() {
    let (database, storage, mut psql) = store().await;
    let first = SetReferrer { key: Some("first".parse().unwrap()), ..SetReferrer::new(user(1), user(2)) };
    storage.set_referrer(first.clone()).await.unwrap();
    storage.close().await.unwrap();
    let limits = Limits { lock: Duration::from_millis(200), operation: Duration::from_secs(2), ..Limits::default() };
    let storage = PgStorage::open(PgOptions { limits, ..PgOptions::new(database.url()) }).await.unwrap();
    // Somebody else is at it.
    let transaction = psql.transaction().await.unwrap();
    transaction
        .execute("SELECT pg_advisory_xact_lock(hashtextextended('generation-storage referrals in public', 0))", &[])
        .await
        .unwrap();
    let keys = [None, Some("first".parse().unwrap()), Some("another".parse().unwrap())];
    for key in keys {
        let again = storage.set_referrer(SetReferrer { key, ..SetReferrer::new(user(1), user(2)) }).await.unwrap();
        assert!(again.replayed);
    }
    // What stands refuses too, and a key that was used for something else.
    let other = SetReferrer { key: Some("other".parse().unwrap()), ..SetReferrer::new(user(1), user(3)) };
    let error = storage.set_referrer(other).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Conflict { entity, .. } if entity.kind == "referrer of user"), "{error}");
    let error = storage.set_referrer(SetReferrer { referrer: user(3), ..first }).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Conflict { entity, .. } if entity.kind == "operation key"), "{error}");
    // Only a new referral waits.
    let error = storage.set_referrer(SetReferrer::new(user(4), user(2))).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Busy { .. }), "{}", error.report());
    transaction.rollback().await.unwrap();
    assert!(!storage.set_referrer(SetReferrer::new(user(4), user(2))).await.unwrap().replayed);
    // The second key of the repetition was used up by it.
    let another = SetReferrer { key: Some("another".parse().unwrap()), ..SetReferrer::new(user(1), user(4)) };
    let error = storage.set_referrer(another).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Conflict { entity, .. } if entity.kind == "operation key"), "{error}");
}

/// What may befall the referrals of a store.
#[derive(Clone, Debug)]
enum Step {
    Set {
        edge: (i64, i64),
        keyed: bool,
    },
    Import(Vec<(i64, i64)>),
    /// By a program of the version before, which knows no heights.
    Older(Vec<(i64, i64)>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let edge = || (1..=14_i64, 1..=14_i64);
    let step = prop_oneof![
        6 => (edge(), any::<bool>()).prop_map(|(edge, keyed)| Step::Set { edge, keyed }),
        2 => prop::collection::vec(edge(), 1..6).prop_map(Step::Import),
        1 => prop::collection::vec(edge(), 1..4).prop_map(Step::Older),
    ];
    prop::collection::vec(step, 1..25)
}

async fn closes_a_circle(psql: &Client, (user, referrer): (i64, i64)) -> bool {
    let above = "WITH RECURSIVE a (id) AS (SELECT $1::bigint UNION SELECT r.referrer_id FROM a JOIN referrals r ON r.user_id = a.id)
                 SELECT count(*) FROM a WHERE id = $2";
    let found: i64 = psql.query_one(above, &[&referrer, &user]).await.unwrap().get(0);
    found > 0
}

async fn play(storage: &PgStorage, psql: &Client, step: Step) {
    match step {
        Step::Set { edge: (one, other), keyed } => {
            let key = keyed.then(|| format!("{one} by {other}").parse().unwrap());
            match storage.set_referrer(SetReferrer { key, ..SetReferrer::new(user(one), user(other)) }).await {
                Err(error) if !matches!(error.kind(), ErrorKind::InvalidInput { .. } | ErrorKind::Conflict { .. }) => {
                    panic!("{}", error.report())
                }
                _ => {}
            }
        }
        Step::Import(edges) => {
            let record = |(one, other)| ImportRecord::Referral { user: user(one), referrer: user(other), since: None };
            storage.import_records(edges.into_iter().map(record).collect()).await.unwrap();
        }
        Step::Older(edges) => {
            for (one, other) in edges {
                if closes_a_circle(psql, (one, other)).await {
                    continue;
                }
                let insert = "INSERT INTO users (id) VALUES ($1), ($2) ON CONFLICT DO NOTHING";
                psql.execute(insert, &[&one, &other]).await.unwrap();
                let insert = "INSERT INTO referrals (user_id, referrer_id, created_at) VALUES ($1, $2, now())
                              ON CONFLICT DO NOTHING";
                psql.execute(insert, &[&one, &other]).await.unwrap();
            }
        }
    }
}

const EMPTY: &str = "TRUNCATE users CASCADE; TRUNCATE referral_heights, id_routes";

#[test]
fn the_heights_are_what_counting_finds() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (here, there) = (runtime.block_on(store()), runtime.block_on(store()));
    let pooled = runtime.block_on(open(PgBouncer::shared().unwrap().url(there.0.name())));
    let mut runner = TestRunner::new(Cases { cases: 48, failure_persistence: None, ..Cases::default() });
    let outcome = runner.run(&steps(), |steps| {
        runtime.block_on(async {
            let (_, storage, psql) = &here;
            psql.batch_execute(EMPTY).await.unwrap();
            for step in steps {
                play(storage, psql, step).await;
                // A refusal and a repetition leave what the older program stored to the next one.
                if one(psql, "SELECT count(*) FROM referrals WHERE NOT measured").await == 0 {
                    prop_assert_eq!(kept(psql).await, counted(psql).await);
                }
            }
            // The last one takes it up.
            storage.set_referrer(SetReferrer::new(user(100), user(101))).await.unwrap();
            prop_assert_eq!(one(psql, "SELECT count(*) FROM referrals WHERE NOT measured").await, 0);
            prop_assert_eq!(kept(psql).await, counted(psql).await);

            let mut dump = Vec::new();
            storage.dump(&mut dump).await.unwrap();
            // By COPY, and by statements.
            for restored in [&there.1, &pooled] {
                let psql = &there.2;
                psql.batch_execute(EMPTY).await.unwrap();
                restored.restore(&mut Cursor::new(&dump[..])).await.unwrap();
                prop_assert_eq!(one(psql, "SELECT count(*) FROM referrals WHERE NOT measured").await, 0);
                prop_assert_eq!(kept(psql).await, kept(&here.2).await);
            }
            Ok::<(), TestCaseError>(())
        })
    });
    if let Err(error) = outcome {
        panic!("{error}\n{runner}");
    }
}

/// A program of the version before goes on while the schema is migrated, and stores what this one builds on.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_older_program_stored_counts() {
    let (_database, storage, psql) = store().await;
    let chain = |first: i64, edges: i64| {
        format!("SELECT n AS user_id, n - 1 AS referrer_id FROM generate_series({first} + 1, {first} + {edges}) AS n")
    };
    // 500 edges above, one between them, 500 below: the last is one too many.
    fill(&psql, &chain(1, 500)).await;
    fill(&psql, &chain(10_001, 500)).await;
    let joined = storage.set_referrer(SetReferrer::new(user(10_001), user(501))).await.unwrap_err();
    assert!(matches!(joined.kind(), ErrorKind::InvalidInput { field, .. } if field == "referrer"), "{joined}");
    assert!(!storage.set_referrer(SetReferrer::new(user(10_001), user(500))).await.unwrap().replayed);
    assert_eq!(one(&psql, "SELECT height FROM referral_heights WHERE user_id = 1").await, 1000);
    assert_eq!(one(&psql, "SELECT count(*) FROM referrals WHERE NOT measured").await, 0);
    assert_eq!(kept(&psql).await, counted(&psql).await);
    // A few are taken up one by one, in whatever order their users come.
    fill(&psql, "VALUES (20003::bigint, 20002::bigint), (20001, 20003), (20005, 20001), (20002, 499)").await;
    assert!(!storage.set_referrer(SetReferrer::new(user(20_006), user(20_005))).await.unwrap().replayed);
    assert_eq!(kept(&psql).await, counted(&psql).await);
}

/// Only a hand makes one: nothing may hang on it.
#[tokio::test(flavor = "multi_thread")]
async fn a_circle_made_by_hand_ends() {
    let (_database, storage, psql) = store().await;
    fill(&psql, "VALUES (1::bigint, 2::bigint), (2, 3), (3, 1), (4, 1)").await;
    let below = storage.set_referrer(SetReferrer::new(user(5), user(4))).await.unwrap_err();
    assert!(matches!(below.kind(), ErrorKind::InvalidInput { field, .. } if field == "referrer"), "{below}");
    assert!(!storage.set_referrer(SetReferrer::new(user(6), user(7))).await.unwrap().replayed);
    let kept = kept(&psql).await;
    assert_eq!(kept, counted(&psql).await);
    assert_eq!(kept, [(1, 1001), (2, 1001), (3, 1001), (7, 1)].into());
    psql.batch_execute("SELECT storage_measure_referrals()").await.unwrap();
    assert_eq!(self::kept(&psql).await, kept);
    // A person takes it apart and measures anew.
    psql.batch_execute("DELETE FROM referrals WHERE user_id = 3; SELECT storage_measure_referrals()").await.unwrap();
    assert_eq!(self::kept(&psql).await, counted(&psql).await);
    assert!(!storage.set_referrer(SetReferrer::new(user(5), user(4))).await.unwrap().replayed);
}

/// Stores that were there before the heights were.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_the_version_before_is_measured_when_it_is_migrated() {
    let server = Server::shared().unwrap();
    let database = server.create_empty_database().unwrap();
    let mut psql = connect(&database.url()).await;
    let steps = storage_pg::migration_steps();
    let (before, here): (Vec<_>, Vec<_>) = steps.into_iter().partition(|(_, name, _)| name != "referral_heights");
    for (version, _, sql) in before.iter().filter(|(version, ..)| *version < here[0].0) {
        psql.batch_execute(sql).await.unwrap_or_else(|error| panic!("{version}: {error:?}"));
    }
    let longest = i64::try_from(MAX_REFERRAL_CHAIN).unwrap();
    psql.batch_execute(&format!(
        "INSERT INTO users (id) SELECT n FROM generate_series(1, 20000) AS n;
         -- A longest chain, one that is longer, a circle, one with many children, a bushy tree.
         INSERT INTO referrals (user_id, referrer_id, created_at)
             SELECT n, n - 1, now() FROM generate_series(2, {longest} + 1) AS n
             UNION ALL SELECT n, n - 1, now() FROM generate_series(2002, 3500) AS n
             UNION ALL SELECT n, CASE WHEN n = 4003 THEN 4001 ELSE n + 1 END, now() FROM generate_series(4001, 4003) AS n
             UNION ALL SELECT n, 4001, now() FROM generate_series(4004, 4010) AS n
             UNION ALL SELECT n, 5000, now() FROM generate_series(5001, 9000) AS n
             UNION ALL SELECT n, 9001 + (n - 9001) / 3, now() FROM generate_series(9002, 20000) AS n"
    ))
    .await
    .unwrap();
    let role = format!("worker_{}", database.name());
    let admin = connect(&server.superuser_url(database.name())).await;
    admin.batch_execute(&format!("CREATE ROLE \"{role} '\"")).await.unwrap();
    psql.batch_execute(&format!(
        "GRANT SELECT, INSERT, UPDATE ON referrals TO \"{role} '\"; GRANT SELECT ON referrals TO PUBLIC"
    ))
    .await
    .unwrap();
    let transaction = psql.transaction().await.unwrap();
    transaction.batch_execute("SET LOCAL search_path = public, pg_temp").await.unwrap();
    transaction.batch_execute(&here[0].2).await.unwrap();
    transaction.commit().await.unwrap();
    let kept = kept(&psql).await;
    let found = counted(&psql).await;
    assert_eq!((kept[&1], kept[&2001], kept[&3499], kept[&4001], kept[&5000]), (1000, 1001, 1, 1001, 1));
    assert_eq!(kept, found);
    assert_eq!(one(&psql, "SELECT count(*) FROM referrals WHERE NOT measured").await, 0);
    let may = |role: &str, right: &str| {
        let sql = format!("SELECT has_table_privilege('{role}', 'referral_heights', '{right}')::int::bigint");
        let admin = &admin;
        async move { one(admin, &sql).await == 1 }
    };
    let role_as_text = format!("{role} ''");
    for (right, expected) in [("SELECT", true), ("INSERT", true), ("UPDATE", true), ("DELETE", false)] {
        assert_eq!(may(&role_as_text, right).await, expected, "{right}");
    }
    assert!(may("public", "SELECT").await && !may("public", "INSERT").await);
    admin.batch_execute(&format!("DROP OWNED BY \"{role} '\"; DROP ROLE \"{role} '\"")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_keeps_the_heights() {
    let (_database, storage, psql) = store().await;
    // From both ends and from the middle.
    let edges: Vec<(i64, i64)> = (1..300).map(|n| (n * 7 % 300 + 1, n * 7 % 300 + 2)).collect();
    let record =
        |(one, other): &(i64, i64)| ImportRecord::Referral { user: user(*one), referrer: user(*other), since: None };
    for (again, expected) in [(false, ImportOutcome::Added), (true, ImportOutcome::Same)] {
        let outcomes = storage.import_records(edges.iter().map(record).collect()).await.unwrap();
        assert!(outcomes.iter().all(|outcome| *outcome == expected), "{again}: {outcomes:?}");
        assert_eq!(kept(&psql).await, counted(&psql).await);
    }
    assert!(kept(&psql).await.values().any(|height| *height > 200));
}
