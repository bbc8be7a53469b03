//! Several handles on one directory.

use std::io::Cursor;

use super::*;

#[tokio::test]
async fn an_exclusive_handle_keeps_others_out_and_is_named() {
    let (_temp, dir) = closed_store().await;
    let alone = JsonStorage::open(JsonOptions { access: Access::Exclusive, ..options(&dir) }).await.unwrap();
    credit(&alone, 1, "5").await;
    let error = open(&dir).await.unwrap_err();
    let ErrorKind::Locked { pid, since } = error.kind() else { panic!("{error}") };
    assert_eq!(*pid, Some(std::process::id()));
    assert_eq!(since.map(|since| since.to_string()).as_deref(), Some("2026-01-15T10:00:00.000000Z"));
    alone.close().await.unwrap();
    let shared = open(&dir).await.unwrap();
    assert_eq!(shared.get_balance(user(1)).await.unwrap(), money("15"));
    let error = JsonStorage::open(JsonOptions { access: Access::Exclusive, ..options(&dir) }).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Locked { .. }), "{error}");
}

/// A batch that was made durable and not announced, because a look failed in between: its callers were told that this is
/// unknown, and what comes later must neither be written over it nor leave a part of it behind.
#[tokio::test]
async fn an_exclusive_handle_builds_on_what_it_left_unannounced() {
    let (temp, dir) = closed_store().await;
    let twin = temp.path().join("twin");
    copy(&dir, &twin);
    let storage = open(&twin).await.unwrap();
    credit(&storage, 1, "1").await;
    credit(&storage, 1, "1").await;
    let unannounced = fs::read(journal_of(&twin)).unwrap();
    let alone = JsonStorage::open(JsonOptions { access: Access::Exclusive, ..options(&dir) }).await.unwrap();
    put(&journal_of(&dir), &unannounced);
    // As long as the first of them: the second would be read back behind it.
    credit(&alone, 1, "1").await;
    let crashed = temp.path().join("crashed");
    copy(&dir, &crashed);
    let recovered = open(&crashed).await.unwrap();
    let shown = [alone.get_balance(user(1)).await.unwrap(), recovered.get_balance(user(1)).await.unwrap()];
    assert_eq!(shown, [money("13"), money("13")]);
    assert_audit_clean(&recovered).await;
}

#[tokio::test]
async fn handles_follow_each_other_through_checkpoints() {
    let (_temp, dir) = closed_store().await;
    let small = JsonOptions { checkpoint_bytes: 2_000, ..options(&dir) };
    let writer = JsonStorage::open(small.clone()).await.unwrap();
    let reader = JsonStorage::open(small).await.unwrap();
    let mut expected = 10;
    for round in 0..200 {
        credit(&writer, 1, "1").await;
        expected += 1;
        // Sometimes every change is followed, sometimes several checkpoints go by unseen.
        if round % 37 == 0 || round > 150 {
            assert_eq!(reader.get_balance(user(1)).await.unwrap(), money(&expected.to_string()), "round {round}");
        }
        if round % 41 == 0 {
            credit(&reader, 1, "1").await;
            expected += 1;
        }
    }
    assert_eq!(writer.get_balance(user(1)).await.unwrap(), money(&expected.to_string()));
    assert_audit_clean(&reader).await;
    writer.close().await.unwrap();
    credit(&reader, 1, "1").await;
    reader.close().await.unwrap();
    assert_audit_clean(&open(&dir).await.unwrap()).await;
}

#[tokio::test]
async fn a_restore_is_seen_by_a_handle_that_was_open_before() {
    let (temp, dir) = closed_store().await;
    let mut dump = Vec::new();
    open(&dir).await.unwrap().dump(&mut dump).await.unwrap();
    let empty = temp.path().join("empty");
    let (one, other) = (open(&empty).await.unwrap(), open(&empty).await.unwrap());
    assert_eq!(other.get_balance(user(1)).await.unwrap(), Money::ZERO);
    one.restore(&mut Cursor::new(dump.as_slice())).await.unwrap();
    assert_eq!(other.get_balance(user(1)).await.unwrap(), money("10"));
    credit(&other, 1, "1").await;
    assert_eq!(one.get_balance(user(1)).await.unwrap(), money("11"));
    assert_audit_clean(&one).await;
}

#[tokio::test]
async fn lists_on_a_closed_handle_answer_closed_whatever_the_cursor() {
    let (_temp, dir) = closed_store().await;
    let storage = open(&dir).await.unwrap();
    storage.close().await.unwrap();
    storage.close().await.unwrap();
    let page = PageRequest { after: Some("0123456789abcdef00".parse().unwrap()), ..PageRequest::default() };
    let error =
        storage.list_payments(ListPayments { page: page.clone(), ..ListPayments::default() }).await.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (&ErrorKind::Closed, Some("list_payments")));
    let error = storage.list_operations(ListOperations { user: user(1), page }).await.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (&ErrorKind::Closed, Some("list_operations")));
}
