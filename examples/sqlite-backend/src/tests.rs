//! How SQLite goes about each statement, and what becomes of a transaction that it gives up.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;
use rusqlite::trace::{TraceEvent, TraceEventCodes};
use storage_core::dump::KeyRecord;
use storage_core::kernel::{Account, Changes, Record, Trim, View};
use storage_core::serial::{Engine, Unit};
use storage_core::{
    Applied, Error, ErrorKind, Generation, HoldStatus, JobStatus, KeySpace, ListJobs, ListPayments, ListReserves,
    Money, Params, PaymentStatus, ResultUrls, Timestamp, UserId,
};

use crate::engine::Sqlite;
use crate::found::{IfMissing, connect};
use crate::rows::Rows;

static STATEMENTS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn note(event: TraceEvent<'_>) {
    if let TraceEvent::Stmt(statement, _) = event {
        STATEMENTS.lock().unwrap_or_else(PoisonError::into_inner).insert(statement.sql().into_owned());
    }
}

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn account(id: i64) -> Account {
    Account::new(user(id), Timestamp::MIN)
}

fn changes(id: i64) -> Changes {
    Changes { accounts: [Some(account(id)), None], ..Changes::default() }
}

fn generation(id: &str, trim: Trim) -> Changes {
    let generation = Generation {
        id: id.parse().unwrap(),
        model_id: "z-image".parse().unwrap(),
        model_name: "Z Image".parse().unwrap(),
        params: Params::from_json("{}").unwrap(),
        result_urls: ResultUrls::default(),
        price: Money::ZERO,
        at: Timestamp::MIN,
    };
    Changes { record: Some(Record::Generation(user(1), generation)), trim: Some(trim), ..Changes::default() }
}

/// Asks for every list and every record, with and without each filter.
fn ask_everything(rows: &mut Rows<'_>) {
    let first = || "a".parse().unwrap();
    for list_user in [None, Some(user(1))] {
        rows.walk(list_user, &mut |_| Ok(())).unwrap();
        for statuses in [vec![], vec![JobStatus::Pending], JobStatus::ALL.to_vec()] {
            rows.jobs(&ListJobs { user: list_user, statuses, ..ListJobs::default() }, None, 9).unwrap();
        }
        for status in [None, Some(PaymentStatus::Approved)] {
            rows.payments(&ListPayments { user: list_user, status, ..ListPayments::default() }, None, 9).unwrap();
        }
        for status in [None, Some(HoldStatus::Open)] {
            rows.holds(&ListReserves { user: list_user, status, ..ListReserves::default() }, None, 9).unwrap();
        }
    }
    rows.users(None, 9).unwrap();
    rows.ledger(user(1), None, 9).unwrap();
    rows.history(user(1), None, 9).unwrap();
    rows.due(Timestamp::MAX, None, 9).unwrap();
    rows.referrals(user(1), None, 9).unwrap();
    rows.account(user(1)).unwrap();
    rows.key(user(1), KeySpace::Operation, &first()).unwrap();
    rows.hold(user(1), &"a".parse().unwrap()).unwrap();
    rows.job(&"a".parse().unwrap()).unwrap();
    rows.job_of(&"a".parse().unwrap()).unwrap();
    rows.payment(&"a".parse().unwrap()).unwrap();
    rows.payment_of(&"a".parse().unwrap()).unwrap();
    rows.chain(user(1)).unwrap();
    rows.moved_to().unwrap();
    rows.put(generation("g-1", Trim::Before(99))).unwrap();
    rows.put(generation("g-2", Trim::After(100))).unwrap();
}

#[test]
fn every_statement_searches_by_an_index_in_its_own_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let connection = connect(&path, IfMissing::Create).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut rows = Rows::new(&connection, &path);
    rows.put(changes(1)).unwrap();
    connection.trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, Some(note));
    ask_everything(&mut rows);
    connection.trace_v2(TraceEventCodes::empty(), None);

    let statements = std::mem::take(&mut *STATEMENTS.lock().unwrap());
    assert!(statements.len() > 30, "only {} statements were seen", statements.len());
    for sql in statements {
        let mut explained = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = explained.raw_query().mapped(|row| row.get::<_, String>(3)).collect::<Result<Vec<_>, _>>().unwrap();
        let bad = steps.iter().find(|step| step.contains("SCAN") || step.contains("TEMP B-TREE"));
        assert_eq!(bad, None, "{sql}\n{steps:#?}");
    }
}

#[test]
fn a_longest_chain_below_a_user_is_found_by_an_index() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let connection = connect(&path, IfMissing::Create).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut rows = Rows::new(&connection, &path);
    for id in 1..=1002 {
        let mut new = account(id);
        new.record.referrer = (id > 1).then(|| user(id - 1));
        new.record.referred_at = (id > 1).then_some(Timestamp::MIN);
        rows.put(Changes { accounts: [Some(new), None], ..Changes::default() }).unwrap();
    }
    assert_eq!(rows.height(user(1002)).unwrap(), 0);
    assert_eq!(rows.height(user(2)).unwrap(), 1000);
    assert_eq!(rows.height(user(1)).unwrap(), 1001);
    assert_eq!(rows.chain(user(1002)).unwrap().len(), 1000);
    assert_eq!(rows.chain(user(3)).unwrap(), [user(2), user(1)]);
}

fn store(path: &Path) -> Sqlite {
    Sqlite::new(path.to_owned())
}

fn known(store: &mut Sqlite, id: i64) -> bool {
    let mut known = false;
    let look = &mut |unit: &dyn Unit| {
        known = !unit.users(None, 100)?.iter().all(|account| account.user != user(id));
        Ok(())
    };
    store.look(look).unwrap();
    known
}

#[test]
fn what_fails_leaves_nothing_and_the_next_transaction_runs() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(&dir.path().join("store.db"));
    let fail = &mut |unit: &mut dyn Unit| {
        unit.put(changes(1))?;
        Err(Error::internal("no"))
    };
    assert_eq!(store.together(fail).unwrap_err().detail(), Some("no"));
    assert!(!known(&mut store, 1));
    // A key that is used up twice is an error of a statement.
    let used = |used: storage_core::UsedKey| KeyRecord {
        user: user(1),
        space: KeySpace::Operation,
        key: "k".parse().unwrap(),
        used,
    };
    let answer = storage_core::UsedKey {
        arguments: storage_core::Fingerprint::of("x", &[]),
        operation: storage_core::OperationId::from_u128(1),
        answer: storage_core::Answer::Record,
    };
    let fail = &mut |unit: &mut dyn Unit| {
        for _ in 0..2 {
            unit.put(Changes { key: Some(used(answer.clone())), ..changes(1) })?;
        }
        Ok(())
    };
    assert_eq!(store.together(fail).unwrap_err().kind(), &ErrorKind::Internal);
    assert!(!known(&mut store, 1));
    store.together(&mut |unit| unit.put(changes(1))).unwrap();
    assert!(known(&mut store, 1));
}

#[test]
fn nothing_is_written_behind_a_transaction_that_sqlite_gave_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let mut store = store(&path);
    store.together(&mut |unit| unit.put(changes(1))).unwrap();
    let pages = |connection: &Connection, sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let connection = store.connection.as_ref().unwrap();
    let now = pages(connection, "PRAGMA page_count");
    pages(connection, &format!("PRAGMA max_page_count = {now}"));
    // One call fills the disk, and the next one of the same transaction does not notice.
    let mut second = None;
    let fill = &mut |unit: &mut dyn Unit| {
        let first = (2..10_000).map(|id| unit.put(changes(id))).find(Result::is_err).unwrap();
        assert_eq!(first.unwrap_err().kind(), &ErrorKind::StorageFull);
        second = Some(unit.put(changes(-1)));
        Ok(())
    };
    let error = store.together(fill).unwrap_err();
    assert!(second.unwrap().is_err(), "it would have been a transaction of its own");
    assert_eq!(error.applied(), Applied::No);
    assert!(known(&mut store, 1) && !known(&mut store, 2) && !known(&mut store, -1));
    pages(store.connection.as_ref().unwrap(), "PRAGMA max_page_count = 1000000");
    store.together(&mut |unit| unit.put(changes(2))).unwrap();
    assert!(known(&mut store, 2));
}

#[test]
fn a_panic_rolls_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(&dir.path().join("store.db"));
    let fail = &mut |unit: &mut dyn Unit| {
        unit.put(changes(1))?;
        panic!("a defect")
    };
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| store.together(fail)));
    assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"a defect"));
    assert!(!known(&mut store, 1), "by a new connection");
}

#[test]
fn an_empty_file_in_the_place_of_a_store_is_not_founded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    drop(std::fs::File::create(&path).unwrap());
    let error = connect(&path, IfMissing::Fail).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unavailable, "{error}");
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    connect(&path, IfMissing::Create).unwrap();
}
