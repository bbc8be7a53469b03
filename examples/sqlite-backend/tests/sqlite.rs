//! What the suite cannot ask: files of others, damage, kills, locks that somebody keeps.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, with its line")]

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier};
use std::task::{self, Poll};

use rusqlite::Connection;
use sqlite_backend::open;
use storage_core::serial::Serial;
use storage_core::{
    AddBalance, Applied, AuditScope, Balances as _, Environment, Error, ErrorKind, ListOperations, ManualClock,
    Operations as _, PageRequest, PageSize, ReserveBalance, Reserves as _, Result, Store as _, Timestamp, UserId,
    Users as _,
};

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn credit(id: i64, key: &str) -> AddBalance {
    AddBalance::new(user(id), "1".parse().unwrap()).with_key(key.parse().unwrap())
}

/// A directory with the path that a store may have in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    (dir, path)
}

fn refusal(path: &Path) -> Error {
    run(open(path, Environment::default())).unwrap_err()
}

/// The bytes of every file that has any.
fn bytes_in(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let files =
        paths.filter(|path| !path.ends_with("store.db-shm")).map(|path| (path.clone(), fs::read(path).unwrap()));
    files.filter(|(_, bytes)| !bytes.is_empty()).collect()
}

#[test]
fn a_file_of_another_program_is_refused_and_left_as_it_is() {
    let makings = [
        "CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1)",
        "PRAGMA application_id = 7; PRAGMA user_version = 1",
        "PRAGMA journal_mode = WAL; CREATE TABLE theirs (a)",
    ];
    for making in makings {
        let (dir, path) = place();
        Connection::open(&path).unwrap().execute_batch(making).unwrap();
        let before = bytes_in(dir.path());
        let error = refusal(&path);
        assert!(matches!(error.kind(), ErrorKind::SchemaMismatch { .. }), "{error}");
        assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
        assert_eq!(bytes_in(dir.path()), before, "{making}");
    }
}

#[test]
fn the_log_of_another_program_that_was_killed_is_left_as_it_is() {
    let (theirs, path) = place();
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE theirs (a)").unwrap();
    let (dir, copy) = place();
    for file in bytes_in(theirs.path()).keys() {
        fs::copy(file, dir.path().join(file.file_name().unwrap())).unwrap();
    }
    let before = bytes_in(dir.path());
    assert_eq!(before.len(), 2, "a database and its log");
    assert!(matches!(refusal(&copy).kind(), ErrorKind::SchemaMismatch { .. }));
    assert_eq!(bytes_in(dir.path()), before);
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_left_as_it_is() {
    let (dir, path) = place();
    run(async { open(&path, Environment::default()).await.unwrap().close().await.unwrap() });
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 2").unwrap();
    let before = bytes_in(dir.path());
    let error = refusal(&path);
    let said = error.to_string();
    assert!(matches!(error.kind(), ErrorKind::SchemaMismatch { .. }), "{said}");
    assert!(said.contains("version 2") && said.contains("newer release"), "{said}");
    assert_eq!(bytes_in(dir.path()), before);
}

#[test]
fn what_is_no_database_is_refused_by_name() {
    let (dir, path) = place();
    fs::copy(file!().strip_prefix("examples/sqlite-backend/").unwrap(), &path).unwrap();
    let before = bytes_in(dir.path());
    let error = refusal(&path);
    assert!(matches!(error.kind(), ErrorKind::Corrupt(place) if place.source == path.to_string_lossy()), "{error}");
    assert_eq!(bytes_in(dir.path()), before);
    let error = refusal(&dir.path().join("nowhere/store.db"));
    assert_eq!(error.kind(), &ErrorKind::Unavailable);
}

#[test]
fn a_new_file_is_founded_once_by_many_at_once() {
    for _ in 0..8 {
        let (_dir, path) = place();
        let (threads, calls) = (8, 5);
        let together = Arc::new(Barrier::new(threads));
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let (path, together) = (path.clone(), Arc::clone(&together));
                std::thread::spawn(move || {
                    together.wait();
                    run(async {
                        let store = open(&path, Environment::default()).await?;
                        for call in 0..calls {
                            store.add_balance(credit(1, &format!("{worker}-{call}"))).await?;
                        }
                        store.close().await
                    })
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap().unwrap();
        }
        run(async {
            let store = open(&path, Environment::default()).await.unwrap();
            assert_eq!(store.get_balance(user(1)).await.unwrap().to_string(), format!("{}.00", threads * calls));
            assert!(store.audit(AuditScope::Everyone).await.unwrap().findings.is_empty());
        });
        let mode: String =
            Connection::open(&path).unwrap().query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
    }
}

const CHILD: &str = "SQLITE_BACKEND_TEST_CHILD";
const USER: &str = "SQLITE_BACKEND_TEST_USER";

/// What a child of the next test does: it writes until it is killed, and says what was acknowledged.
#[test]
fn child_that_writes() {
    let (Ok(path), Ok(id)) = (std::env::var(CHILD), std::env::var(USER)) else { return };
    let id: i64 = id.parse().unwrap();
    run(async {
        let store = open(path, Environment::default()).await.unwrap();
        let seen =
            store.list_operations(ListOperations { user: user(id), page: PageRequest::default() }).await.unwrap();
        let first = seen.items.first().map_or(1, |row| row.seq + 1);
        for call in first.. {
            let key = call.to_string();
            // Two users by one transaction.
            let (one, two) = tokio::join!(store.add_balance(credit(id, &key)), store.add_balance(credit(-id, &key)));
            one.and(two).unwrap();
            println!("acknowledged {call}");
        }
    });
}

#[test]
fn what_was_acknowledged_outlives_a_kill() {
    let (_dir, path) = place();
    let mut acknowledged: Vec<(i64, String)> = Vec::new();
    for round in 1..=6 {
        // Two processes at a time: in the first round both find no file.
        let children = [1, 2].map(|id: i64| {
            let child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "child_that_writes", "--nocapture"])
                .envs([(CHILD, path.as_os_str()), (USER, id.to_string().as_ref())])
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn();
            (id, child.unwrap())
        });
        for (id, mut child) in children {
            let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
            let mut calls = lines.filter_map(|line| Some((id, line.split_once("acknowledged ")?.1.to_owned())));
            let before = acknowledged.len();
            acknowledged.extend(calls.by_ref().take(round * 7));
            assert_eq!(acknowledged.len(), before + round * 7, "child {id} ended by itself");
            child.kill().unwrap();
            // What it said before it died counts as well.
            acknowledged.extend(calls);
            child.wait().unwrap();
        }
    }
    run(async {
        let store = open(&path, Environment::default()).await.unwrap();
        assert!(store.audit(AuditScope::Everyone).await.unwrap().findings.is_empty());
        for (id, call) in acknowledged {
            for id in [id, -id] {
                let again = store.add_balance(credit(id, &call)).await.unwrap();
                assert!(again.replayed, "call {call} of user {id} was lost");
            }
        }
    });
}

fn change(path: &Path, sql: &str) {
    assert_eq!(Connection::open(path).unwrap().execute(sql, []).unwrap(), 1, "{sql}");
}

#[test]
fn a_damaged_record_is_named() {
    let (_dir, path) = place();
    run(async {
        let store = open(&path, Environment::default()).await.unwrap();
        store.add_balance(credit(1, "k-1")).await.unwrap();
        store.add_balance(credit(2, "k-2")).await.unwrap();
        let named = |error: Error, table: &str, key: &str| match error.kind() {
            ErrorKind::Corrupt(place) => {
                assert!(place.source.contains(&format!("table {table} ")), "{error}");
                assert_eq!(place.key.as_deref(), Some(key), "{error}");
            }
            _ => panic!("{error}"),
        };
        change(&path, "UPDATE accounts SET record = substr(record, 2) WHERE user = 1");
        named(store.get_balance(user(1)).await.unwrap_err(), "accounts", "1");
        named(store.add_balance(credit(1, "k-3")).await.unwrap_err(), "accounts", "1");
        named(store.list_users(PageRequest::default()).await.unwrap_err(), "accounts", "1");
        change(&path, "UPDATE ledger SET record = '' WHERE user = 2");
        named(store.audit(AuditScope::User(user(2))).await.unwrap_err(), "ledger", "2/1");
        change(&path, "UPDATE keys SET record = '{}' WHERE id = 'operation/k-2'");
        named(store.add_balance(credit(2, "k-2")).await.unwrap_err(), "keys", "2/operation/k-2");
        change(&path, "UPDATE facts SET value = 'x'");
        named(open(&path, Environment::default()).await.unwrap_err(), "facts", "founding");
        // Nobody else is kept from anything.
        assert_eq!(store.get_balance(user(2)).await.unwrap().to_string(), "1.00");
        store.add_balance(credit(3, "k-4")).await.unwrap();
    });
}

#[test]
fn a_damaged_hold_keeps_no_other_one_from_being_released() {
    let (_dir, path) = place();
    run(async {
        let clock = Arc::new(ManualClock::at(Timestamp::MIN));
        let store = open(&path, Environment { clock: clock.clone(), ..Environment::default() }).await.unwrap();
        for id in 1..=3 {
            store.add_balance(credit(id, "k")).await.unwrap();
            let mut hold = ReserveBalance::new(user(id), "h".parse().unwrap(), "1".parse().unwrap());
            hold.expires_at = Some(Timestamp::MIN.plus_micros(id));
            store.reserve_balance(hold).await.unwrap();
        }
        change(&path, "UPDATE holds SET record = '' WHERE user = 1");
        // The first that is due has a name that is none.
        change(
            &path,
            "INSERT INTO holds SELECT user, ' ' || name || ' ', status, created_at, expires_at - 1, record FROM holds WHERE user = 1",
        );
        clock.advance_secs(1);
        let released = store.release_expired_reserves(PageSize::DEFAULT).await.unwrap();
        assert_eq!(released.iter().map(|hold| hold.user.get()).collect::<Vec<_>>(), [2, 3]);
        let error = store.release_expired_reserves(PageSize::DEFAULT).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Corrupt(_)), "{error}");
    });
}

#[test]
fn a_writer_that_does_not_end_makes_others_busy_and_no_look_wait() {
    let (_dir, path) = place();
    run(async {
        let store: Serial = open(&path, Environment::default()).await.unwrap();
        store.add_balance(credit(1, "k-1")).await.unwrap();
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert_eq!(store.get_balance(user(1)).await.unwrap().to_string(), "1.00");
        let error = store.add_balance(credit(1, "k-2")).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Busy { .. }), "{error}");
        assert_eq!(error.applied(), Applied::No);
        other.execute_batch("COMMIT").unwrap();
        assert!(!store.add_balance(credit(1, "k-2")).await.unwrap().replayed);
    });
}

#[test]
fn a_look_beside_a_change_that_cannot_begin_is_answered() {
    let (_dir, path) = place();
    run(async {
        let store = open(&path, Environment::default()).await.unwrap();
        store.add_balance(credit(1, "k-1")).await.unwrap();
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        // While the first one waits for the lock, the others gather into one batch.
        let calls = tokio::join!(
            store.add_balance(credit(1, "k-2")),
            store.get_balance(user(1)),
            store.add_balance(credit(1, "k-3")),
            store.get_balance(user(1)),
        );
        assert!(matches!(calls.0.unwrap_err().kind(), ErrorKind::Busy { .. }));
        assert!(matches!(calls.2.unwrap_err().kind(), ErrorKind::Busy { .. }));
        for balance in [calls.1, calls.3] {
            assert_eq!(balance.unwrap().to_string(), "1.00");
        }
    });
}

#[test]
fn a_refusal_leaves_the_handle_at_work_beside_a_reader() {
    let (_dir, path) = place();
    run(async {
        let store = open(&path, Environment::default()).await.unwrap();
        store.add_balance(credit(1, "k-1")).await.unwrap();
        let mut dump = Vec::new();
        store.dump(&mut dump).await.unwrap();
        let reader = Connection::open(&path).unwrap();
        reader.execute_batch("BEGIN; SELECT * FROM accounts").unwrap();
        let error = store.restore(&mut std::io::Cursor::new(dump)).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Conflict { .. }), "{error}");
        assert_eq!(store.get_balance(user(1)).await.unwrap().to_string(), "1.00");
        assert!(!store.add_balance(credit(1, "k-2")).await.unwrap().replayed);
    });
}

/// Takes nothing.
struct Full;

impl tokio::io::AsyncWrite for Full {
    fn poll_write(self: Pin<&mut Self>, _: &mut task::Context<'_>, _: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Err(std::io::ErrorKind::StorageFull.into()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_dump_that_cannot_be_written_names_the_cause_and_walks_no_further() {
    let (_dir, path) = place();
    run(async {
        let store = open(&path, Environment::default()).await.unwrap();
        for id in 1..=2000 {
            store.get_user(user(id)).await.unwrap();
        }
        // The walk would end in this, when it came so far.
        change(&path, "UPDATE accounts SET record = '' WHERE user = 2000");
        let error = store.dump(&mut Full).await.unwrap_err();
        assert!(error.report().to_string().contains("no storage space"), "{}", error.report());
    });
}

#[test]
fn the_least_and_the_greatest_number_are_users() {
    let (_dir, path) = place();
    run(async {
        let store = open(&path, Environment::default()).await.unwrap();
        let ids = [i64::MIN, -1, 1, i64::MAX];
        for id in ids {
            store.get_user(user(id)).await.unwrap();
        }
        let (mut seen, mut page) = (Vec::new(), PageRequest::first(PageSize::new(1).unwrap()));
        loop {
            let users = store.list_users(page.clone()).await.unwrap();
            seen.extend(users.items.iter().map(|user| user.id.get()));
            page.after = users.next;
            if page.after.is_none() {
                break;
            }
        }
        assert_eq!(seen, ids);
    });
}
