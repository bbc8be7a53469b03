//! Choosing between a real PostgreSQL server and JSON files: when `auto` falls back, and when it refuses to switch.
//!
//! The runtimes have several threads: dropping a database blocks one, and a pool may be connecting meanwhile. Its half-made
//! connection would stand still with the only thread, and the server drops no database before it has moved on.
#![cfg(all(feature = "postgres", feature = "json"))]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that fails must stop, and it writes what it tests with"
)]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pg_test_server::{Database, Server};
use storage_core::{AddBalance, AddPayment, Error, ErrorKind, MarkPaymentStatus, PaymentStatus, SharedStorage, UserId};
use storage_factory::{
    Config, Fallback, Mode, SharedStore, adopt_policy, connect, connect_without_fallback, look, look_without_fallback,
};

/// Nothing listens there.
const DEAD: &str = "postgresql://bot:MARKED@127.0.0.1:1/bot";

/// A database with the store's tables.
fn database() -> Database {
    let template = format!("storage_v{}", storage_pg::migration_steps().len());
    Server::shared().unwrap().create_database_with(&template, migrate).unwrap()
}

fn migrate(url: &str) -> Result<(), String> {
    let url = url.to_owned();
    // The caller is inside a runtime.
    let migrating = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let options = storage_pg::PgOptions::new(url);
        runtime.block_on(storage_pg::migrate(&options, Duration::from_secs(30))).unwrap();
    });
    migrating.join().map_err(|_| "the migration panicked".to_owned())
}

/// A data directory that does not exist yet.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn dir(&self) -> PathBuf {
        self.0.path().join("data")
    }
    fn marker(&self) -> String {
        std::fs::read_to_string(self.dir().join("backend.json")).unwrap_or_default()
    }
    fn config(&self, mode: Mode, url: Option<&str>) -> Config {
        Config { mode, database_url: url.map(|url| url.parse().unwrap()), data_dir: self.dir(), ..Config::default() }
    }
    fn auto(&self, url: &str) -> Config {
        self.config(Mode::Auto, Some(url))
    }
}

async fn opened(config: Config) -> SharedStorage {
    connect(config).await.unwrap_or_else(|error| panic!("{}", error.report()))
}

async fn refused(config: Config) -> Error {
    let error = connect(config).await.unwrap_err();
    assert!(!format!("{} {error:?}", error.report()).contains("MARKED"), "{error}");
    error
}

/// The refusal to switch: over which backend, and in which words.
fn conflict(error: &Error) -> (&str, &str) {
    match error.kind() {
        ErrorKind::Conflict { entity, reason } if entity.kind == "backend" => (&entity.id, reason),
        _ => panic!("{}", error.report()),
    }
}

fn user() -> UserId {
    UserId::new(1001).unwrap()
}

async fn credit(storage: &SharedStorage) {
    storage.add_balance(AddBalance::new(user(), "5".parse().unwrap())).await.unwrap();
}

fn founded(database: &Database) -> bool {
    let rows =
        Server::shared().unwrap().query_text(database.name(), "SELECT FROM storage_meta WHERE name = 'store_id'");
    let rows = rows.unwrap();
    !rows.is_empty()
}

#[cfg(unix)]
fn mode_of(path: &Path) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions()) & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_database_is_taken_and_remembered() {
    let (place, database) = (Place::new(), database());
    let storage = opened(place.auto(&database.url())).await;
    let shown = storage.backend().location;
    assert_eq!(
        storage.backend().to_string(),
        format!("postgres at {shown} (STORAGE_MODE is auto and DATABASE_URL is set)")
    );
    assert!(shown.ends_with(&format!("/{}", database.name())) && !shown.contains('@'), "{shown}");
    // Before anybody could use it.
    let marker = place.marker();
    assert!(marker.contains(&shown) && marker.contains("store_id") && !marker.contains("fallback"), "{marker}");
    #[cfg(unix)]
    assert_eq!((mode_of(&place.dir()), mode_of(&place.dir().join("backend.json"))), (0o700, 0o600));
    credit(&storage).await;
    storage.close().await.unwrap();
    let storage = opened(place.auto(&database.url())).await;
    assert_eq!(storage.get_balance(user()).await.unwrap().to_string(), "5.00");
    storage.close().await.unwrap();
    assert_eq!(place.marker(), marker);
    let names: Vec<_> = std::fs::read_dir(place.dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["backend.json"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_falls_back_at_once_and_says_so() {
    let place = Place::new();
    let began = Instant::now();
    let storage = opened(place.auto(DEAD)).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let info = storage.backend();
    assert_eq!(info.name, "json");
    assert!(info.reason.contains("cannot be reached"), "{info}");
    let warning = info.warnings.join("\n");
    assert!(warning.contains("connection was refused") && warning.contains("storage merge"), "{warning}");
    assert!(!warning.contains("MARKED"), "{warning}");
    assert!(
        place.marker().contains("\"fallback\"") && place.marker().contains("127.0.0.1:1/bot"),
        "{}",
        place.marker()
    );
    storage.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_accepts_and_never_answers_is_given_up_within_the_connect_limit() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgresql://bot:MARKED@{}/bot?connect_timeout=1", listener.local_addr().unwrap());
    let began = Instant::now();
    let storage = opened(place.auto(&url)).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(storage.backend().name, "json");
    assert!(storage.backend().warnings[0].contains("not answered within 1 s"), "{:?}", storage.backend());
    storage.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_has_to_put_right_never_falls_back() {
    let (server, database) = (Server::shared().unwrap(), database());
    let at = format!("127.0.0.1:{}", server.port());
    let empty = server.create_empty_database().unwrap();
    for (url, kind, words) in [
        (format!("postgresql://{}:MARKED@{at}/{}", server.user(), database.name()), "Unavailable", "did not accept"),
        (database.url().replace(database.name(), "no_such_database"), "Unavailable", "does not exist"),
        (format!("{}?sslmode=require", database.url()), "Unavailable", "offers none"),
        (format!("{}?sslmod=MARKED", database.url()), "InvalidInput", "DATABASE_URL"),
        (empty.url(), "SchemaMismatch", "storage migrate"),
    ] {
        let place = Place::new();
        let error = refused(place.auto(&url)).await;
        assert_eq!(error.kind().name(), kind, "{}", error.report());
        assert!(error.to_string().contains(words), "{}", error.report());
        assert!(!place.dir().exists(), "{words}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_can_be_forbidden() {
    let place = Place::new();
    let error = refused(Config { fallback: Fallback::Never, ..place.auto(DEAD) }).await;
    assert_eq!(error.kind(), &ErrorKind::Unavailable);
    let text = error.to_string();
    assert!(text.contains("connection was refused") && text.contains("STORAGE_FALLBACK is never"), "{text}");
    let error = refused(place.config(Mode::Postgres, Some(DEAD))).await;
    assert_eq!(error.kind(), &ErrorKind::Unavailable);
    assert!(!place.dir().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_remembers_and_makes_nothing() {
    let (place, database) = (Place::new(), database());
    look(place.auto(&database.url())).await.unwrap().close().await.unwrap();
    assert!(!place.dir().exists());
    let error = look(place.auto(DEAD)).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unavailable);
    assert!(error.to_string().contains("empty JSON store"), "{error}");
    assert!(!place.dir().exists());
    // It refuses as a start would.
    opened(place.auto(&database.url())).await.close().await.unwrap();
    conflict(&look(place.auto(DEAD)).await.unwrap_err());
    conflict(&look(place.config(Mode::Auto, None)).await.unwrap_err());
}

/// Every file below a directory with its bytes.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut found, mut directories) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = directories.pop() {
        for path in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                directories.push(path);
            } else {
                found.push((path.clone(), std::fs::read(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// The server's own error, with these words about what stays as it is.
fn unavailable(error: &Error, words: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), &ErrorKind::Unavailable, "{text}");
    for words in [&["connection was refused"], words].concat() {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!format!("{} {error:?}", error.report()).contains("MARKED"), "{text}");
}

/// No money into a store that was never this server's.
#[tokio::test(flavor = "multi_thread")]
async fn json_stands_in_nowhere_but_in_a_directory_of_this_database() {
    let (place, mine) = (Place::new(), place_of_another());
    for (found, what) in [(mine.dir(), "another store"), (legacy(&place), "another store")] {
        let config = Config { data_dir: found.clone(), ..place.auto(DEAD) };
        let before = files(&found);
        unavailable(&refused(config.clone()).await, &[what, &found.display().to_string(), "STORAGE_MODE=json"]);
        unavailable(&look(config).await.unwrap_err(), &[what, "STORAGE_MODE=json"]);
        assert_eq!(files(&found), before);
    }
    // A store without users is one too.
    let empty = Place::new();
    opened(empty.config(Mode::Json, None)).await.close().await.unwrap();
    unavailable(&refused(empty.auto(DEAD)).await, &["another store"]);
    // What nobody uses for a store is no store.
    let other = Place::new();
    std::fs::create_dir(other.dir()).unwrap();
    std::fs::write(other.dir().join("notes.txt"), "mine").unwrap();
    opened(other.auto(DEAD)).await.close().await.unwrap();
    // Once it stands in it goes on standing in, for this database and for no other.
    let storage = opened(other.auto(DEAD)).await;
    credit(&storage).await;
    storage.close().await.unwrap();
    let before = files(&other.dir());
    for elsewhere in [DEAD.replace("/bot", "/shop"), DEAD.replace("127.0.0.1", "127.0.0.2")] {
        unavailable(&refused(other.auto(&elsewhere)).await, &["127.0.0.1:1/bot", "STORAGE_MODE=json"]);
    }
    let mut schema = other.auto(DEAD);
    schema.postgres.schema = "shop_a".to_owned();
    unavailable(&refused(schema).await, &["127.0.0.1:1/bot", "shop_a"]);
    assert_eq!(files(&other.dir()), before);
    let storage = look(other.auto(DEAD)).await.unwrap();
    assert_eq!(storage.get_balance(user()).await.unwrap().to_string(), "5.00");
    let info = storage.backend();
    assert!(info.warnings[0].contains("JSON at ") && info.warnings[0].contains("stands in for"), "{info:?}");
    assert!(info.warnings[0].contains(&other.dir().display().to_string()), "{info:?}");
    storage.close().await.unwrap();
}

/// A JSON directory with money in it that no server has to do with.
fn place_of_another() -> Place {
    let place = Place::new();
    let config = place.config(Mode::Json, None);
    let founding = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let storage = opened(config).await;
            credit(&storage).await;
            storage.close().await.unwrap();
        });
    });
    founding.join().unwrap();
    place
}

/// Files of the earlier system.
fn legacy(place: &Place) -> PathBuf {
    std::fs::create_dir(place.dir()).unwrap();
    std::fs::write(place.dir().join("user_balances.json"), r#"{"1001": 12.5}"#).unwrap();
    place.dir()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_without_a_store_binds_nobody() {
    let place = Place::new();
    // A start that was killed before it founded the store.
    opened(place.auto(&DEAD.replace("/bot", "/shop"))).await.close().await.unwrap();
    let marker = place.marker();
    std::fs::remove_dir_all(place.dir()).unwrap();
    std::fs::create_dir(place.dir()).unwrap();
    std::fs::write(place.dir().join("backend.json"), marker).unwrap();
    opened(place.auto(DEAD)).await.close().await.unwrap();
    assert!(place.marker().contains("127.0.0.1:1/bot") && !place.marker().contains("/shop"), "{}", place.marker());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_fallback_nothing_takes_the_servers_place() {
    let place = Place::new();
    for stands_in in [false, true] {
        if stands_in {
            opened(place.auto(DEAD)).await.close().await.unwrap();
        }
        let before = if stands_in { files(&place.dir()) } else { Vec::new() };
        let mut zone = place.auto(DEAD);
        zone.environment.policy.time_zone = "Europe/Kyiv".parse().unwrap();
        for opened in [
            connect_without_fallback(place.auto(DEAD)).await,
            look_without_fallback(place.auto(DEAD)).await,
            adopt_policy(zone).await,
        ] {
            unavailable(&opened.unwrap_err(), &["STORAGE_MODE=json", &place.dir().display().to_string()]);
        }
        assert_eq!(place.dir().exists(), stands_in);
        if stands_in {
            assert_eq!(files(&place.dir()), before);
        }
    }
    // Where nothing else is meant they open it, and the one remembers what the other does not.
    let (place, database) = (Place::new(), database());
    look_without_fallback(place.auto(&database.url())).await.unwrap().close().await.unwrap();
    assert!(!place.dir().exists());
    connect_without_fallback(place.auto(&database.url())).await.unwrap().close().await.unwrap();
    assert!(place.marker().contains("store_id"), "{}", place.marker());
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_refused_where_postgres_was_used() {
    let (place, database) = (Place::new(), database());
    // The directory remembers in every mode.
    opened(place.config(Mode::Postgres, Some(&database.url()))).await.close().await.unwrap();
    let marker = place.marker();
    let error = refused(place.config(Mode::Auto, None)).await;
    let (over, reason) = conflict(&error);
    assert_eq!(over, "json");
    let merge = format!("storage merge --from json:{} --to DATABASE_URL", place.dir().display());
    assert!(reason.contains(&merge) && reason.contains("STORAGE_MODE=json"), "{reason}");
    assert!(reason.contains(&format!("/{}", database.name())) && !reason.contains('@'), "{reason}");
    let error = refused(place.auto(DEAD)).await;
    assert_eq!(conflict(&error).0, "json");
    assert!(error.report().to_string().contains("connection was refused"), "{}", error.report());
    assert_eq!(std::fs::read_dir(place.dir()).unwrap().count(), 1);
    assert_eq!(place.marker(), marker);
    // By name it goes.
    opened(place.config(Mode::Json, None)).await.close().await.unwrap();
}

/// W48: what was paid during a fallback is not forgotten when the server is back.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_refused_where_users_paid_during_a_fallback() {
    let (place, database) = (Place::new(), database());
    let storage = opened(place.auto(DEAD)).await;
    let payment = "p-1".parse().unwrap();
    let pay = AddPayment {
        payment: Some(payment),
        ..AddPayment::new(user(), "25".parse().unwrap(), "card".parse().unwrap())
    };
    storage.add_payment(pay).await.unwrap();
    storage.mark_payment_status(MarkPaymentStatus::new("p-1".parse().unwrap(), PaymentStatus::Approved)).await.unwrap();
    // While the program that fell back still runs, and after it has ended.
    for running in [true, false] {
        let error = refused(place.auto(&database.url())).await;
        let (over, reason) = conflict(&error);
        assert_eq!(over, "postgres");
        let merge = format!("storage merge --from json:{} --to DATABASE_URL", place.dir().display());
        assert!(reason.contains(&merge) && reason.contains("STORAGE_MODE=postgres"), "{reason}");
        assert!(!founded(&database), "opened although refused");
        if running {
            storage.close().await.unwrap();
        }
    }
    // A server that is still away: JSON goes on, with the money in it.
    let storage = opened(place.auto(DEAD)).await;
    assert_eq!(storage.get_balance(user()).await.unwrap().to_string(), "25.00");
    storage.close().await.unwrap();
    // Chosen by name PostgreSQL opens, and the mark stands.
    opened(place.config(Mode::Postgres, Some(&database.url()))).await.close().await.unwrap();
    assert!(place.marker().contains("fallback") && place.marker().contains("store_id"), "{}", place.marker());
    assert_eq!(conflict(&refused(place.auto(&database.url())).await).0, "postgres");
    assert_eq!(conflict(&refused(place.auto(DEAD)).await).0, "json");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_in_which_nothing_was_written_is_forgotten() {
    let (place, database) = (Place::new(), database());
    let storage = opened(place.auto(DEAD)).await;
    assert_eq!(storage.get_balance(user()).await.unwrap().to_string(), "0.00");
    // As long as a program has it open it may be written at any moment.
    assert_eq!(conflict(&refused(place.auto(&database.url())).await).0, "postgres");
    storage.close().await.unwrap();
    opened(place.auto(&database.url())).await.close().await.unwrap();
    assert!(!place.marker().contains("fallback") && place.marker().contains("store_id"), "{}", place.marker());
    assert_eq!(conflict(&refused(place.auto(DEAD)).await).0, "json");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_database_than_before_is_refused() {
    let (place, before, after) = (Place::new(), database(), database());
    opened(place.auto(&before.url())).await.close().await.unwrap();
    let error = refused(place.auto(&after.url())).await;
    let (over, reason) = conflict(&error);
    assert_eq!(over, "other-postgres");
    assert!(reason.contains(before.name()) && reason.contains(after.name()), "{reason}");
    assert!(reason.contains("STORAGE_MODE=postgres"), "{reason}");
    opened(place.config(Mode::Postgres, Some(&after.url()))).await.close().await.unwrap();
    opened(place.auto(&after.url())).await.close().await.unwrap();
    assert_eq!(conflict(&refused(place.auto(&before.url())).await).0, "other-postgres");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_database_by_another_name_is_the_same() {
    let (place, database) = (Place::new(), database());
    opened(place.auto(&database.url())).await.close().await.unwrap();
    opened(place.auto(&database.socket_url())).await.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marker_that_cannot_be_understood_stops_auto() {
    let (place, database) = (Place::new(), database());
    std::fs::create_dir(place.dir()).unwrap();
    for text in ["", "{", r#"{"format": 2}"#, r#"{"format": 1, "postgres": {}}"#] {
        std::fs::write(place.dir().join("backend.json"), text).unwrap();
        for url in [Some(database.url()), Some(DEAD.to_owned()), None] {
            let error = refused(place.config(Mode::Auto, url.as_deref())).await;
            let ErrorKind::Corrupt(at) = error.kind() else { panic!("{}", error.report()) };
            assert!(at.source.ends_with("data/backend.json"), "{at}");
        }
        // Chosen by name it opens, says so, and leaves the file to whoever repairs it.
        let storage = opened(place.config(Mode::Postgres, Some(&database.url()))).await;
        assert!(storage.backend().warnings[0].contains("data/backend.json"), "{:?}", storage.backend());
        storage.close().await.unwrap();
        assert_eq!(place.marker(), text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_written_is_a_warning() {
    let (place, database) = (Place::new(), database());
    // A file in place of a directory; permissions would not stop root.
    std::fs::write(place.dir(), "").unwrap();
    for mode in [Mode::Auto, Mode::Postgres] {
        let storage = opened(place.config(mode, Some(&database.url()))).await;
        let warnings = storage.backend().warnings;
        assert!(warnings.iter().any(|text| text.contains("nothing here remembers this database")), "{warnings:?}");
        credit(&storage).await;
        storage.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_json_store_beside_the_database_is_named() {
    let (place, database) = (Place::new(), database());
    let storage = opened(place.config(Mode::Json, None)).await;
    credit(&storage).await;
    storage.close().await.unwrap();
    assert_eq!(place.marker(), "");
    let storage = opened(place.auto(&database.url())).await;
    let info = storage.backend();
    assert!(info.name == "postgres" && info.warnings[0].contains("storage copy"), "{info:?}");
    assert!(info.warnings[0].contains(&place.dir().display().to_string()), "{info:?}");
    storage.close().await.unwrap();
    // At each start, for nothing else would tell.
    let storage = opened(place.auto(&database.url())).await;
    assert!(storage.backend().warnings[0].contains("storage copy"), "{:?}", storage.backend());
    storage.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_first_calls_build_one_pool() {
    let (place, database) = (Place::new(), database());
    let store = Arc::new(SharedStore::new());
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let (store, mut config) = (store.clone(), place.auto(&database.url()));
            // Then a pool has the one connection that it was opened with.
            config.postgres.pool_min = 0;
            tokio::spawn(async move { store.get(|| Ok(config)).await.unwrap() })
        })
        .collect();
    let mut handles = Vec::new();
    for call in calls {
        handles.push(call.await.unwrap());
    }
    assert!(handles.iter().all(|handle| Arc::ptr_eq(handle, &handles[0])));
    let connections = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'", database.name());
    let count = Server::shared().unwrap().query_text("postgres", &connections).unwrap();
    assert_eq!(count[0][0].as_deref(), Some("1"), "one pool, one connection");
    handles[0].close().await.unwrap();
    let again = store.get(|| Ok(place.auto(&database.url()))).await.unwrap();
    assert_eq!(again.get_balance(user()).await.unwrap_err().kind(), &ErrorKind::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_adopted_only_when_asked() {
    let (place, database) = (Place::new(), database());
    opened(place.auto(&database.url())).await.close().await.unwrap();
    let mut other = place.auto(&database.url());
    other.environment.policy.time_zone = "Europe/Kyiv".parse().unwrap();
    assert_eq!(refused(other.clone()).await.kind().name(), "SchemaMismatch");
    adopt_policy(other.clone()).await.unwrap().close().await.unwrap();
    opened(other).await.close().await.unwrap();
    assert_eq!(refused(place.auto(&database.url())).await.kind().name(), "SchemaMismatch");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_settings_reach_the_backend() {
    let (place, database) = (Place::new(), database());
    let mut config = place.auto(&database.url());
    config.postgres.schema = "shop_a".to_owned();
    assert_eq!(refused(config.clone()).await.kind().name(), "SchemaMismatch");
    let options = storage_factory::pg_options(&config).unwrap();
    storage_pg::migrate(&options, Duration::from_secs(30)).await.unwrap();
    let storage = opened(config).await;
    assert!(storage.backend().location.ends_with("schema shop_a"), "{}", storage.backend());
    storage.close().await.unwrap();
}
