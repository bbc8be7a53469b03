//! Ways to a server that are right, and what each wrong one is told.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests: a surprise is a failure")]

mod support;

use std::time::Duration;

use pg_test_server::{Certificate, Options, PgBouncer, Server, TestCa};
use storage_core::{AddBalance, Balances as _, ErrorKind, Store as _, UserId};
use storage_pg::{OpenError, PgOptions, PgStorage, Statements};

async fn open(url: &str) -> Result<PgStorage, OpenError> {
    PgStorage::open(PgOptions::new(url)).await
}

/// The whole report of what an opening was refused with.
async fn refusal(url: &str) -> String {
    let began = std::time::Instant::now();
    let error = open(url).await.unwrap_err();
    // Where the system tells the cause, nobody waits for a time-out: the connect limit is five seconds.
    assert!(began.elapsed().as_secs() < 4, "{error} took {:?}", began.elapsed());
    let report = error.error().report().to_string();
    assert!(!format!("{report} {error:?}").contains("MARKED"), "{report}");
    report
}

#[track_caller]
fn says(report: &str, words: &str) {
    assert!(report.contains(words), "{words:?} is missing from {report}");
}

async fn works(url: &str) {
    let storage = open(url).await.unwrap_or_else(|error| panic!("{}", error.error().report()));
    let user = UserId::new(1001).unwrap();
    storage.add_balance(AddBalance::new(user, "1".parse().unwrap())).await.unwrap();
    storage.close().await.unwrap();
}

#[tokio::test]
async fn tls_is_what_the_url_says() {
    let server = Server::start(Options { tls: Some(Certificate::Localhost), ..Options::default() }).unwrap();
    let database = support::database(&server).unwrap();
    let ca = server.tls().unwrap();
    let url = |host: &str, words: &str| {
        let url = database.url().replace("127.0.0.1", host);
        format!("{url}?hostaddr=127.0.0.1&{words}")
    };
    let trusting = |ca: &std::path::Path| format!("sslrootcert={}", ca.display());
    let right = trusting(ca.ca_file());
    for words in [
        "sslmode=disable".to_owned(),
        "sslmode=prefer".to_owned(),
        "sslmode=require".to_owned(),
        "sslmode=require&channel_binding=require".to_owned(),
        format!("sslmode=verify-ca&{right}"),
        format!("sslmode=verify-full&{right}"),
    ] {
        works(&url("localhost", &words)).await;
    }
    // The chain is right and the name is not: verify-ca takes it, verify-full does not.
    works(&url("other.example", &format!("sslmode=verify-ca&{right}"))).await;
    let wrong_host = refusal(&url("other.example", &format!("sslmode=verify-full&{right}"))).await;
    says(&wrong_host, "the server's certificate is for another host");
    let other = trusting(ca.other_ca_file());
    for mode in ["verify-ca", "verify-full"] {
        let wrong_ca = refusal(&url("localhost", &format!("sslmode={mode}&{other}"))).await;
        says(&wrong_ca, "the server's certificate is signed by nobody who is trusted");
    }
    let missing = refusal(&url("localhost", "sslmode=verify-full&sslrootcert=/no/such/file.pem")).await;
    says(&missing, "/no/such/file.pem");
}

#[tokio::test]
async fn a_certificate_that_is_no_good_is_named() {
    for (certificate, words) in [
        (Certificate::Expired, "the server's certificate has expired"),
        (Certificate::WrongHost, "the server's certificate is for another host"),
    ] {
        let server = Server::start(Options { tls: Some(certificate), ..Options::default() }).unwrap();
        let database = support::database(&server).unwrap();
        let url = database.url().replace("127.0.0.1", "localhost");
        let ca = server.tls().map(TestCa::ca_file).unwrap().display().to_string();
        let url = format!("{url}?hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert={ca}");
        says(&refusal(&url).await, words);
    }
}

#[tokio::test]
async fn each_wrong_way_is_told_its_cause() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    let at = format!("127.0.0.1:{}", server.port());
    says(
        &refusal(&format!("{}?sslmode=require", database.url())).await,
        "the URL demands TLS and the server offers none",
    );
    let wrong_password = format!("postgresql://storage_test:MARKED@{at}/{}", database.name());
    says(&refusal(&wrong_password).await, "the server did not accept user and password");
    let nobody = format!("postgresql://nobody_here:MARKED@{at}/{}", database.name());
    says(&refusal(&nobody).await, "the server did not accept user and password");
    let no_database = database.url().replace(database.name(), "no_such_database");
    says(&refusal(&no_database).await, "the database does not exist");
    says(&refusal("postgresql://u:MARKED@127.0.0.1:1/d").await, "the connection was refused");
    says(&refusal("postgresql://u:MARKED@no-such-host.invalid/d").await, "cannot be resolved");
    says(&refusal("postgresql://u:MARKED@%2Fno%2Fsuch%2Fdir/d").await, "socket's directory does not exist");
    for url in
        ["postgresql://u:MARKED@h/d?sslmod=require", "postgresql://u:MARKED@h/d?sslmode=MARKED", "mysql://MARKED"]
    {
        says(&refusal(url).await, "DATABASE_URL");
    }
    let unknown = refusal("postgresql://u@h/d?sslmod=require").await;
    says(&unknown, "known are: application_name");
}

#[tokio::test]
async fn a_socket_and_several_hosts_lead_there() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    works(&database.socket_url()).await;
    // The first host is down, the second one takes writes.
    let two = database.url().replace("@127.0.0.1", "@127.0.0.1:1,127.0.0.1");
    works(&two).await;
    let postgres = database.url().replacen("postgresql://", "postgres://", 1);
    works(&postgres).await;
}

#[tokio::test]
async fn a_pooler_is_noticed_and_refuses_options() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    let url = PgBouncer::shared().unwrap().url(database.name());
    let storage = open(&url).await.unwrap();
    let info = storage.backend();
    assert!(info.warnings.iter().any(|warning| warning.contains("pooler")), "{info:?}");
    let refused = refusal(&format!("{url}?options=-c%20statement_timeout%3D1")).await;
    says(&refused, "startup options are refused");
    says(&refused, "ALTER ROLE");
    let prepared = PgOptions { statements: Statements::Prepared, ..PgOptions::new(url) };
    let error = PgStorage::open(prepared).await.unwrap_err();
    assert_eq!(error.error().kind().name(), "InvalidInput", "{error}");
}

#[tokio::test]
async fn a_schema_that_is_not_ours_says_what_to_run() {
    let server = Server::shared().unwrap();
    let empty = server.create_empty_database().unwrap();
    says(&refusal(&empty.url()).await, "run: storage migrate");
    server.execute(empty.name(), "CREATE TABLE public.payments (x text)").unwrap();
    says(&refusal(&empty.url()).await, "tables of somebody else (payments)");

    let database = support::database(server).unwrap();
    let newer = "INSERT INTO storage_migrations (version, name, applied_on, checksum)
                 SELECT 999, 'later', applied_on, checksum FROM storage_migrations LIMIT 1";
    server.execute(database.name(), newer).unwrap();
    says(&refusal(&database.url()).await, "version 999, of a newer program");

    let database = support::database(server).unwrap();
    server.execute(database.name(), "ALTER TABLE payments DROP COLUMN notes").unwrap();
    says(&refusal(&database.url()).await, "payments.notes");
}

/// Several bots in one database: each in a schema of its own, and neither knows of the other.
#[tokio::test]
async fn stores_share_a_database_by_their_schemas() {
    let server = Server::shared().unwrap();
    let database = server.create_empty_database().unwrap();
    let user = UserId::new(1001).unwrap();
    let of = |schema: &str| PgOptions { schema: schema.to_owned(), ..PgOptions::new(database.url()) };
    for (schema, amount) in [("shop_a", "1"), ("shop_b", "2"), ("public", "3")] {
        storage_pg::migrate(&of(schema), std::time::Duration::from_secs(10)).await.unwrap();
        let storage = PgStorage::open(of(schema)).await.unwrap();
        storage.add_balance(AddBalance::new(user, amount.parse().unwrap())).await.unwrap();
        storage.close().await.unwrap();
    }
    for (schema, amount) in [("shop_a", "1.00"), ("shop_b", "2.00"), ("public", "3.00")] {
        let storage = PgStorage::open(of(schema)).await.unwrap();
        assert_eq!(storage.get_balance(user).await.unwrap().to_string(), amount, "{schema}");
        let shown = storage.backend().location;
        assert_eq!(shown.contains(schema), schema != "public", "{shown}");
        storage.close().await.unwrap();
    }
    let error = PgStorage::open(of("Shop; DROP TABLE users")).await.unwrap_err();
    assert_eq!(error.error().kind().name(), "InvalidInput", "{error}");
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_told_from_one_that_is_gone() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    let storage = open(&database.url()).await.unwrap();
    let user = UserId::new(1001).unwrap();
    storage.add_balance(AddBalance::new(user, "1".parse().unwrap())).await.unwrap();
    storage.close().await.unwrap();
    let read_only = format!("ALTER DATABASE {} SET default_transaction_read_only = on", database.name());
    server.execute("postgres", &read_only).unwrap();
    for word in ["", "?target_session_attrs=any", "?target_session_attrs=read-write"] {
        let refused = refusal(&format!("{}{word}", database.url())).await;
        says(&refused, "the server takes no writes");
        says(&refused, "default_transaction_read_only off");
    }
}

#[tokio::test]
async fn a_role_without_rights_is_told_which() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    let role = format!("reader_{}", database.name());
    server
        .execute(
            database.name(),
            &format!("CREATE ROLE {role} LOGIN PASSWORD 'MARKED'; GRANT USAGE ON SCHEMA public TO {role}"),
        )
        .unwrap();
    let url = database.url();
    let (_, place) = url.split_once('@').unwrap();
    let url = format!("postgresql://{role}:MARKED@{place}");
    let refused = refusal(&url).await;
    says(&refused, "this role may not SELECT, INSERT, UPDATE admin_limits");
    says(&refused, "storage migrate --grants");
    // It may read and not write.
    server.execute(database.name(), &format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")).unwrap();
    says(&refusal(&url).await, "this role may not INSERT, UPDATE admin_limits");
    server.execute(database.name(), &format!("DROP OWNED BY {role}; DROP ROLE {role}")).unwrap();
}

/// A database that cannot hold every text is refused before anything is in it.
#[tokio::test]
async fn a_database_of_another_encoding_is_refused() {
    let server = Server::shared().unwrap();
    let name = format!("latin_{}", std::process::id());
    let create = format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'");
    server.execute("postgres", &create).unwrap();
    let migrated = storage_pg::migrate(&PgOptions::new(server.url(&name)), Duration::from_secs(5)).await;
    let opened = PgStorage::open(PgOptions::new(server.url(&name))).await;
    server.execute("postgres", &format!("DROP DATABASE {name} WITH (FORCE)")).unwrap();
    for error in [migrated.unwrap_err(), opened.unwrap_err()] {
        let text = error.error().to_string();
        assert!(matches!(error.error().kind(), ErrorKind::SchemaMismatch { .. }), "{text}");
        assert!(text.contains("LATIN1") && text.contains("UTF8") && text.contains("createdb"), "{text}");
    }
}
