//! What a crash, a power cut or damage leaves, and what is made of it.

use super::*;

#[tokio::test]
async fn a_copy_taken_while_open_recovers_with_everything_acknowledged() {
    let (temp, dir) = closed_store().await;
    let storage = open(&dir).await.unwrap();
    credit(&storage, 1, "5").await;
    credit(&storage, 4, "7").await;
    let crashed = temp.path().join("crashed");
    copy(&dir, &crashed);
    let recovered = open(&crashed).await.unwrap();
    assert_eq!(recovered.get_balance(user(1)).await.unwrap(), money("15"));
    assert_eq!(recovered.get_balance(user(4)).await.unwrap(), money("7"));
    assert_audit_clean(&recovered).await;
    // Recovery itself left a fresh checkpoint: a second crash finds it in the files.
    let text = fs::read_to_string(crashed.join("user_balances.json")).unwrap();
    assert!(text.contains("\"4\": 7.00"));
}

#[tokio::test]
async fn a_torn_last_line_is_dropped_and_all_before_it_kept() {
    let (temp, dir) = closed_store().await;
    let (crashed, journal, second, end) = crashed_store(&temp, &dir).await;
    let mut bytes = fs::read(&journal).unwrap();
    let line = bytes[second..end].to_vec();
    for torn in [1, line.len() / 2, line.len() - 1] {
        bytes[end..end + torn].copy_from_slice(&line[..torn]);
        put(&journal, &bytes);
        let again = temp.path().join(format!("torn-{torn}"));
        copy(&crashed, &again);
        let storage = open(&again).await.unwrap();
        assert_eq!(storage.get_balance(user(1)).await.unwrap(), money("21"));
        assert_audit_clean(&storage).await;
    }
}

#[tokio::test]
async fn a_torn_line_that_was_never_promised_is_dropped() {
    let (temp, dir) = closed_store().await;
    let (crashed, journal, second, end) = crashed_store(&temp, &dir).await;
    // A power cut may take the head with it; the line is then the very last and torn.
    put(&crashed.join("journal.head"), b"");
    let mut bytes = fs::read(&journal).unwrap();
    bytes[second + 20..end].fill(0);
    put(&journal, &bytes);
    let storage = open(&crashed).await.unwrap();
    assert_eq!(storage.get_balance(user(1)).await.unwrap(), money("15"));
}

#[tokio::test]
async fn a_bad_line_before_a_good_one_is_corrupt_and_nothing_is_cut() {
    let (temp, dir) = closed_store().await;
    let (crashed, journal, _, _) = crashed_store(&temp, &dir).await;
    for with_head in [true, false] {
        if !with_head {
            put(&crashed.join("journal.head"), b"");
        }
        let mut bytes = fs::read(&journal).unwrap();
        bytes[30] ^= 1;
        put(&journal, &bytes);
        let before = bytes_of(&crashed);
        let error = open(&crashed).await.unwrap_err();
        let ErrorKind::Corrupt(place) = error.kind() else { panic!("{error}") };
        assert_eq!(place.offset, Some(0));
        assert!(place.source.starts_with("journal-"), "{place}");
        assert_eq!(bytes_of(&crashed), before);
        bytes[30] ^= 1;
        put(&journal, &bytes);
    }
}

#[tokio::test]
async fn a_promised_line_that_is_gone_is_corrupt() {
    let (temp, dir) = closed_store().await;
    let (crashed, journal, second, end) = crashed_store(&temp, &dir).await;
    let mut bytes = fs::read(&journal).unwrap();
    bytes[second..end].fill(0);
    put(&journal, &bytes);
    let error = open(&crashed).await.unwrap_err();
    let ErrorKind::Corrupt(place) = error.kind() else { panic!("{error}") };
    assert_eq!(place.offset, Some(second as u64));
}

#[tokio::test]
async fn a_checkpoint_whose_process_died_before_announcing_it_is_noticed_before_the_next_change() {
    let (temp, dir) = closed_store().await;
    let other = open(&dir).await.unwrap();
    credit(&other, 1, "1").await;
    let head = fs::read(dir.join("journal.head")).unwrap();
    let dying = JsonStorage::open(JsonOptions { checkpoint_bytes: 1, ..options(&dir) }).await.unwrap();
    credit(&dying, 2, "7").await;
    drop(dying);
    // As if it had died between the last manifest and the head: the others believe that the old journal is in use.
    put(&dir.join("journal.head"), &head);
    credit(&other, 1, "100").await;
    let crashed = temp.path().join("crashed");
    copy(&dir, &crashed);
    for storage in [other, open(&crashed).await.unwrap()] {
        assert_eq!(storage.get_balance(user(1)).await.unwrap(), money("111"));
        assert_eq!(storage.get_balance(user(2)).await.unwrap(), money("27"));
        assert_audit_clean(&storage).await;
    }
}

#[tokio::test]
async fn a_damaged_head_is_made_anew_from_the_journal() {
    let (_temp, dir) = closed_store().await;
    let storage = open(&dir).await.unwrap();
    credit(&storage, 1, "1").await;
    put(&dir.join("journal.head"), b"");
    assert_eq!(storage.get_balance(user(1)).await.unwrap(), money("11"));
    credit(&storage, 1, "1").await;
    assert_eq!(storage.get_balance(user(1)).await.unwrap(), money("12"));
    assert_audit_clean(&storage).await;
}

#[tokio::test]
async fn a_damaged_newline_does_not_hide_the_good_line_behind_it() {
    for access in [Access::Shared, Access::Exclusive] {
        let (temp, dir) = closed_store().await;
        let storage = JsonStorage::open(JsonOptions { access, ..options(&dir) }).await.unwrap();
        for _ in 0..3 {
            credit(&storage, 1, "1").await;
        }
        let crashed = temp.path().join("crashed");
        copy(&dir, &crashed);
        put(&crashed.join("journal.head"), b"");
        let journal = journal_of(&crashed);
        let mut bytes = fs::read(&journal).unwrap();
        let second = (0..bytes.len()).filter(|at| bytes[*at] == b'\n').nth(1).unwrap();
        bytes[second] ^= 1;
        put(&journal, &bytes);
        let error = open(&crashed).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Corrupt(_)), "{access:?}: {error}");
    }
}
