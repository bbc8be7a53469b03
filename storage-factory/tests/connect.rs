//! Opening by configuration, and the one store of a process.
#![cfg(feature = "json")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use storage_core::{AddBalance, ErrorKind, HistoryRetention, UserId};
use storage_factory::{Config, Mode, SharedStore, adopt_policy, connect};

fn json(dir: &Path) -> Config {
    Config { mode: Mode::Json, data_dir: dir.join("data"), ..Config::default() }
}

#[tokio::test]
async fn the_start_line_says_which_why_and_where() {
    let dir = tempfile::tempdir().unwrap();
    let storage = connect(json(dir.path())).await.unwrap();
    let line = storage.backend().to_string();
    let expected = format!("json at {} (STORAGE_MODE is json)", dir.path().join("data").display());
    assert_eq!(line, expected);
    storage.close().await.unwrap();
    let auto = Config { mode: Mode::Auto, ..json(dir.path()) };
    let storage = connect(auto).await.unwrap();
    assert!(storage.backend().reason.contains("DATABASE_URL is not set"), "{}", storage.backend());
    storage.close().await.unwrap();
}

#[cfg(not(feature = "postgres"))]
#[tokio::test]
async fn a_database_is_never_replaced_by_files() {
    let dir = tempfile::tempdir().unwrap();
    for mode in [Mode::Auto, Mode::Postgres] {
        let url = Some("postgresql://bot:s3cret@127.0.0.1:1/bot".parse().unwrap());
        let error = connect(Config { mode, database_url: url, ..json(dir.path()) }).await.unwrap_err();
        assert_eq!(error.kind(), &storage_core::ErrorKind::BackendDisabled { feature: "postgres" });
        assert!(error.to_string().contains("127.0.0.1:1/bot") && !format!("{error:?}").contains("s3cret"), "{error}");
    }
    assert!(!dir.path().join("data").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_first_calls_build_one() {
    let dir = tempfile::tempdir().unwrap();
    let (store, asked) = (Arc::new(SharedStore::new()), Arc::new(AtomicU32::new(0)));
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (store, asked, config) = (store.clone(), asked.clone(), json(dir.path()));
            tokio::spawn(async move {
                store
                    .get(|| {
                        asked.fetch_add(1, Ordering::SeqCst);
                        Ok(config)
                    })
                    .await
                    .unwrap()
            })
        })
        .collect();
    let mut handles = Vec::new();
    for task in tasks {
        handles.push(task.await.unwrap());
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert!(handles.iter().all(|handle| Arc::ptr_eq(handle, &handles[0])));
    handles[0].close().await.unwrap();
    let again = store.get(|| Ok(json(dir.path()))).await.unwrap();
    let error = again.get_balance(UserId::new(1).unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Closed);
}

#[tokio::test]
async fn a_failed_first_call_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = SharedStore::new();
    let wrong = Config { mode: Mode::Postgres, ..json(dir.path()) };
    store.get(|| Ok(wrong)).await.unwrap_err();
    store.get(|| Config::from_lookup(|name| (name == "STORAGE_MODE").then(|| "x".into()))).await.unwrap_err();
    let storage = store.get(|| Ok(json(dir.path()))).await.unwrap();
    storage.ping().await.unwrap();
    storage.close().await.unwrap();
}

#[tokio::test]
async fn a_policy_is_adopted_only_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let storage = connect(json(dir.path())).await.unwrap();
    let user = UserId::new(1001).unwrap();
    storage.add_balance(AddBalance::new(user, "5".parse().unwrap())).await.unwrap();
    storage.close().await.unwrap();
    let mut other = json(dir.path());
    other.environment.policy.time_zone = "Europe/Kyiv".parse().unwrap();
    other.environment.policy.history = HistoryRetention::Everything;
    let error = connect(other.clone()).await.unwrap_err();
    assert_eq!(error.kind().name(), "SchemaMismatch");
    adopt_policy(other.clone()).await.unwrap().close().await.unwrap();
    let storage = connect(other).await.unwrap();
    assert_eq!(storage.get_balance(user).await.unwrap().to_string(), "5.00");
    storage.close().await.unwrap();
    assert_eq!(connect(json(dir.path())).await.unwrap_err().kind().name(), "SchemaMismatch");
}
