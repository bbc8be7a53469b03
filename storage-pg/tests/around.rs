//! What is around the server, and not to be taken on trust: what stands in a table's place, who else answers, who stands in between.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a surprise is a failure")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use pg_test_server::{Database, Options, PgBouncer, Relay, RelayKind, Server};
use storage_core::{
    AddBalance, AuditScope, Balances as _, Error, ErrorKind, Operations as _, Store as _, UserId, Verdict,
};
use storage_pg::{OpenError, PgOptions, PgStorage, Statements};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn one() -> AddBalance {
    AddBalance::new(user(1), "1".parse().unwrap())
}

async fn open(url: &str) -> Result<PgStorage, OpenError> {
    PgStorage::open(PgOptions::new(url)).await
}

fn report(error: &Error) -> String {
    error.report().to_string()
}

/// Rows that are hidden are not rows that are missing.
#[tokio::test]
async fn row_security_is_refused_by_name_at_opening_in_the_doctor_and_in_an_audit() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    let (url, role) = support::least(server, &database).unwrap();
    let storage = open(&url).await.unwrap_or_else(|error| panic!("{}", report(error.error())));
    storage.add_balance(one()).await.unwrap();
    server.execute(database.name(), "ALTER TABLE users ENABLE ROW LEVEL SECURITY").unwrap();
    // Of a store that is open no call answers as if nobody were there.
    for error in [
        storage.get_balance(user(1)).await.unwrap_err(),
        storage.audit(AuditScope::Everyone).await.unwrap_err(),
        storage.add_balance(one()).await.unwrap_err(),
    ] {
        assert!(report(&error).contains("row-level security"), "{}", report(&error));
    }
    storage.close().await.unwrap();
    let error = open(&url).await.unwrap_err();
    assert!(matches!(error.error().kind(), ErrorKind::SchemaMismatch { .. }), "{error}");
    assert!(error.to_string().contains("row security hides rows of users"), "{error}");
    assert!(error.to_string().contains("DISABLE ROW LEVEL SECURITY"), "{error}");
    let found = storage_pg::examine(&PgOptions::new(&url)).await;
    let bad = found.iter().find(|found| found.verdict == Verdict::Bad && found.found.contains("row security"));
    assert!(bad.is_some(), "{found:?}");
    // Whoever owns the tables sees everything.
    open(&database.url()).await.unwrap().close().await.unwrap();
    server.execute(database.name(), &format!("DROP OWNED BY {role}; DROP ROLE {role}")).unwrap();
}

#[tokio::test]
async fn what_stands_in_a_tables_place_and_a_right_that_is_missing_are_refused_by_name() {
    let server = Server::shared().unwrap();
    for (sql, told) in [
        ("ALTER TABLE payments RENAME TO kept; CREATE VIEW payments AS SELECT * FROM kept", "payments is a view"),
        ("ALTER TABLE payments SET UNLOGGED", "payments is not logged"),
        ("DROP TABLE payments", "missing: table payments"),
        ("REVOKE INSERT, UPDATE ON operations, payments FROM ROLE", "this role may not INSERT operations"),
        ("REVOKE ALL ON referrals FROM ROLE", "this role may not SELECT, INSERT, UPDATE referrals"),
    ] {
        let database = support::database(server).unwrap();
        let (url, role) = support::least(server, &database).unwrap();
        server.execute(database.name(), &sql.replace("ROLE", &role)).unwrap();
        let error = open(&url).await.unwrap_err();
        assert!(error.to_string().contains(told), "{sql}: {error}");
        let found = storage_pg::examine(&PgOptions::new(&url)).await;
        assert!(found.iter().any(|found| found.verdict == Verdict::Bad && found.found.contains(told)), "{found:?}");
        server.execute(database.name(), &format!("DROP OWNED BY {role}; DROP ROLE {role}")).unwrap();
    }
}

#[tokio::test]
async fn the_doctor_names_strangers_on_our_tables() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    let strange = "GRANT CREATE ON SCHEMA public TO PUBLIC;
        CREATE FUNCTION public.nosy() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER nosy BEFORE INSERT ON payments FOR EACH ROW EXECUTE FUNCTION public.nosy();
        CREATE RULE deaf AS ON DELETE TO referrals DO INSTEAD NOTHING";
    server.execute(database.name(), strange).unwrap();
    let found = storage_pg::examine(&PgOptions::new(database.url())).await;
    for told in
        ["the trigger nosy on payments", "the rule deaf on referrals", "everybody may make things in the schema public"]
    {
        assert!(found.iter().any(|found| found.found.contains(told)), "{told}: {found:?}");
    }
}

/// A store that was migrated when somebody had made an operator that fits `numeric >= integer` better than the server's own.
#[tokio::test]
async fn nothing_of_the_schema_is_bound_to_a_strangers_function() {
    let server = Server::shared().unwrap();
    let database = support::among_strangers(server).unwrap();
    let made = support::decoys::count(server, database.name()).unwrap();
    println!("functions and operators of strangers: {made:?}");
    let bound = server.query_text(
        database.name(),
        "SET search_path = pg_catalog; SELECT pg_describe_object(d.classid, d.objid, 0), pg_describe_object(d.refclassid, d.refobjid, 0)
         FROM pg_depend d
         WHERE d.classid <> 'pg_operator'::regclass AND (
             d.refclassid = 'pg_operator'::regclass
                 AND d.refobjid IN (SELECT oid FROM pg_operator WHERE oprnamespace = 'public'::regnamespace)
             OR d.refclassid = 'pg_proc'::regclass AND d.refobjid IN (SELECT oid FROM pg_proc
                 WHERE pronamespace IN ('public'::regnamespace, 'decoy'::regnamespace)
                     AND proname NOT IN ('storage_fill_updated_at', 'storage_refuse_moved')))",
    );
    assert_eq!(bound.unwrap(), Vec::<Vec<_>>::new());
}

/// One end of a sum is not enough: NaN is above every number.
#[tokio::test]
async fn no_sum_is_nan() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    open(&database.url()).await.unwrap().add_balance(one()).await.unwrap();
    let columns = server.query_text(
        database.name(),
        "SELECT c.relname || ' ' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.atttypid = 'numeric'::regtype
             AND a.attnum > 0 ORDER BY 1",
    );
    let columns = columns.unwrap();
    assert_eq!(columns.len(), 16, "{columns:?}");
    for column in columns.iter().flatten().flatten() {
        let (table, column) = column.split_once(' ').unwrap();
        // By hand: a row that a statement can change has to be there.
        let checks = server.query_text(
            database.name(),
            &format!(
                "SELECT count(*) FROM pg_constraint k WHERE k.conrelid = '{table}'::regclass AND k.contype = 'c'
                     AND pg_get_constraintdef(k.oid) ~ '[( ]{column} (OPERATOR\\(pg_catalog\\.)?<'"
            ),
        );
        assert_ne!(checks.unwrap(), [[Some("0".to_owned())]], "{table}.{column} has no upper end");
    }
    let error = server.execute(database.name(), "UPDATE users SET balance = 'NaN'").unwrap_err();
    assert!(error.contains("users_balance_check"), "{error}");
}

/// What a connection was found to be.
fn shown(storage: &PgStorage) -> (Statements, bool) {
    let noticed = storage.backend().warnings.iter().any(|warning| warning.contains("behind a pooler"));
    (storage.statements(), noticed)
}

#[tokio::test]
async fn a_direct_connection_is_proved_and_prepares_statements() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    for url in [
        database.url(),
        database.socket_url(),
        format!("{}?options=-c%20work_mem%3D8MB%20-c%20lock_timeout%3D7s", database.url()),
        format!("{}?options=-c%20search_path%3Dpublic", database.url()),
    ] {
        let storage = open(&url).await.unwrap();
        assert_eq!(shown(&storage), (Statements::Prepared, false), "{url}");
        storage.add_balance(one()).await.unwrap();
        storage.close().await.unwrap();
    }
    let tls =
        Server::start(Options { tls: Some(pg_test_server::Certificate::Localhost), ..Options::default() }).unwrap();
    let database = support::database(&tls).unwrap();
    let storage = open(&format!("{}?sslmode=require", database.url())).await.unwrap();
    assert_eq!(shown(&storage), (Statements::Prepared, false));
    storage.close().await.unwrap();
}

/// In its three modes, whether it refuses startup options or swallows them, with options in the URL or without.
#[tokio::test]
async fn a_pooler_is_always_noticed() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    let bouncer = PgBouncer::start(server).unwrap();
    let console = support::console(&bouncer).await.unwrap();
    let url = bouncer.url(database.name());
    let with_options = format!("{url}?options=-c%20work_mem%3D8MB");
    for mode in ["transaction", "session"] {
        console.simple_query(&format!("SET pool_mode = '{mode}'")).await.unwrap();
        for swallowed in ["extra_float_digits", "options"] {
            console.simple_query(&format!("SET ignore_startup_parameters = '{swallowed}'")).await.unwrap();
            let storage = open(&url).await.unwrap_or_else(|error| panic!("{mode}: {}", report(error.error())));
            assert_eq!(shown(&storage), (Statements::Unnamed, true), "{mode}, {swallowed}");
            storage.add_balance(one()).await.unwrap();
            storage.close().await.unwrap();
            let opened = open(&with_options).await;
            if swallowed == "options" {
                let storage = opened.unwrap();
                assert_eq!(shown(&storage), (Statements::Unnamed, true), "{mode}, {swallowed}, with options");
                storage.add_balance(one()).await.unwrap();
                storage.close().await.unwrap();
            } else {
                let error = opened.unwrap_err();
                assert!(error.to_string().contains("startup options are refused"), "{error}");
            }
        }
    }
    console.simple_query("SET pool_mode = 'statement'").await.unwrap();
    let error = open(&url).await.unwrap_err();
    let told = report(error.error());
    assert!(matches!(error.error().kind(), ErrorKind::InvalidInput { .. }), "{told}");
    assert!(told.contains("statement mode") && told.contains("pool_mode = transaction"), "{told}");
}

/// What moves the bytes alone is none, nor is what gives a session of the server to one client until that client ends, and then
/// clears it: its next client finds nothing prepared.
#[tokio::test]
async fn other_programs_in_between_are_told_apart() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    for kind in [RelayKind::Haproxy, RelayKind::Pgpool] {
        let relay = Relay::start(kind, server).unwrap();
        for _ in 0..3 {
            let storage = open(&relay.url(database.name())).await;
            let storage = storage.unwrap_or_else(|error| panic!("{kind:?}: {}", report(error.error())));
            assert_eq!(shown(&storage), (Statements::Prepared, false), "{kind:?}");
            let calls = (0..20).map(|_| storage.add_balance(one()));
            let called = futures_util::future::try_join_all(calls).await;
            called.unwrap_or_else(|error| panic!("{kind:?}: {}", report(&error)));
            storage.close().await.unwrap();
        }
    }
    let storage = open(&database.url()).await.unwrap();
    assert_eq!(storage.get_balance(user(1)).await.unwrap().to_string(), "120.00");
    storage.close().await.unwrap();
}

/// A name that leads now here and now there: a connection to the port is one to whichever server is set.
struct Name {
    address: SocketAddr,
    to: Arc<AtomicU16>,
}

impl Name {
    async fn of(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, to) = (listener.local_addr().unwrap(), Arc::new(AtomicU16::new(port)));
        let leads = Arc::clone(&to);
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let port = leads.load(Ordering::SeqCst);
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    // Whoever ends it ends both.
                    drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
                });
            }
        });
        Self { address, to }
    }
    fn leads_to(&self, port: u16) {
        self.to.store(port, Ordering::SeqCst);
    }
    fn url(&self, database: &Database) -> String {
        let url = database.url();
        let (login, rest) = url.rsplit_once('@').unwrap();
        let (_, name) = rest.split_once('/').unwrap();
        format!("{login}@{}/{name}", self.address)
    }
}

/// An address behind which a server logs everybody in, and hears nothing any more once somebody says one of these words.
async fn falls_silent_at(words: &'static [&'static str], port: u16) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                    (near.into_split(), far.into_split());
                let answers = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
                let (mut bytes, mut heard) = (vec![0; 65_536], true);
                while let Ok(count) = from_client.read(&mut bytes).await {
                    let said = String::from_utf8_lossy(&bytes[..count]);
                    heard &= !words.iter().any(|word| said.contains(word));
                    if count == 0 || heard && to_server.write_all(&bytes[..count]).await.is_err() {
                        break;
                    }
                }
                answers.abort();
            });
        }
    });
    address
}

#[tokio::test]
async fn nothing_waits_for_ever_on_a_server_that_falls_silent() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    let address = falls_silent_at(&["BEGIN READ ONLY"], server.port()).await;
    let url = database.url().replace(&format!("127.0.0.1:{}", server.port()), &address.to_string());
    let options = PgOptions::new(&url);
    let begun = std::time::Instant::now();
    let (report_of_schema, migrated, sharding, opened, doctor) = tokio::join!(
        storage_pg::schema_report(&options),
        storage_pg::migrate(&options, Duration::from_secs(1)),
        storage_pg::sharding(&options),
        open(&url),
        storage_pg::examine(&options),
    );
    let errors = [report_of_schema.err(), migrated.err(), sharding.err(), opened.err()];
    for error in errors {
        let error = error.unwrap();
        assert!(matches!(error.error().kind(), ErrorKind::Busy { .. }), "{}", report(error.error()));
        assert!(report(error.error()).contains("did not answer"), "{}", report(error.error()));
    }
    assert!(doctor.iter().any(|found| found.found.contains("did not answer")), "{doctor:?}");
    assert!(begun.elapsed() < Duration::from_mins(1));
}

#[tokio::test]
async fn only_the_owner_marks_and_others_are_told_before_anything_is_done() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    let (url, role) = support::least(server, &database).unwrap();
    let storage = open(&url).await.unwrap();
    storage.add_balance(one()).await.unwrap();
    for error in [
        storage.mark_moved("elsewhere".parse().unwrap()).await.unwrap_err(),
        storage.lift_moved("elsewhere".parse().unwrap()).await.unwrap_err(),
    ] {
        let told = report(&error);
        assert!(matches!(error.kind(), ErrorKind::ReadOnly) && told.contains(&role), "{told}");
        assert!(told.contains("nothing was changed: do it as"), "{told}");
    }
    storage.add_balance(one()).await.unwrap();
    let owner = open(&database.url()).await.unwrap();
    owner.mark_moved("elsewhere".parse().unwrap()).await.unwrap();
    assert!(matches!(storage.add_balance(one()).await.unwrap_err().kind(), ErrorKind::Moved { .. }));
    owner.lift_moved("elsewhere".parse().unwrap()).await.unwrap();
    storage.close().await.unwrap();
    owner.close().await.unwrap();
    support::least_is_over(server, &database).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_primary_answers_and_a_promotion_is_ridden_out() {
    let primary = Server::start(Options::replicated()).unwrap();
    let database = support::database(&primary).unwrap();
    let standby = primary.standby().unwrap();
    let name = Name::of(primary.port()).await;
    let url = name.url(&database);
    let storage = Arc::new(PgStorage::open(PgOptions { max_connections: 2, ..PgOptions::new(&url) }).await.unwrap());
    storage.add_balance(one()).await.unwrap();
    // Nobody opens what the name leads to now, and nobody reads from it.
    name.leads_to(standby.port());
    let error = open(&url).await.unwrap_err();
    assert!(matches!(error.error().kind(), ErrorKind::ReadOnly), "{error}");
    // The one with two names is not misled, in whichever order.
    let both = url
        .replace(&format!("@{}", name.address), &format!("@127.0.0.1:{},127.0.0.1:{}", standby.port(), primary.port()));
    let with_two = Arc::new(open(&both).await.unwrap_or_else(|error| panic!("{}", report(error.error()))));
    assert_eq!(with_two.get_balance(user(1)).await.unwrap().to_string(), "1.00");
    // What was acknowledged is on the standby before the primary is gone.
    let caught_up = "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_lsn()";
    for _ in 0..600 {
        if primary.query_text("postgres", caught_up).unwrap() == [[Some("1".to_owned())]] {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    primary.stop_immediate().unwrap();
    let calls: Vec<_> = [&storage, &with_two]
        .map(|storage| {
            let storage = Arc::clone(storage);
            tokio::spawn(async move { storage.add_balance(one()).await })
        })
        .into();
    // Both find a standby first, and it takes over while they wait.
    tokio::time::sleep(Duration::from_secs(2)).await;
    standby.execute("postgres", "SELECT pg_promote()").unwrap();
    for call in calls {
        let answer = call.await.unwrap();
        assert!(answer.is_ok(), "{}", report(&answer.unwrap_err()));
    }
    assert_eq!(storage.get_balance(user(1)).await.unwrap().to_string(), "3.00");
    assert!(with_two.audit(AuditScope::Everyone).await.unwrap().is_clean());
}
