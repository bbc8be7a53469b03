//! Checkpoints beside writing, and the index of the ledger that they leave.

use super::*;

/// The journals that stand in a directory.
fn journals(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let mut journals: Vec<String> = names.filter(|name| name.starts_with("journal-")).collect();
    journals.sort();
    journals
}

/// The files of the ledger's index.
fn index_files(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "index")).collect()
}

async fn keyed(storage: &JsonStorage, id: i64, key: &str) -> bool {
    let add = AddBalance::new(user(id), "1".parse().unwrap()).with_key(key.parse().unwrap());
    storage.add_balance(add).await.unwrap().replayed
}

async fn dump_of(storage: &JsonStorage) -> Vec<u8> {
    let mut dump = Vec::new();
    storage.dump(&mut dump).await.unwrap();
    dump
}

/// Waits until the checkpoint that is due has come this far.
async fn until(done: impl Fn() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(done(), "the checkpoint never came this far");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_or_doubled_while_checkpoints_go_by() {
    let (_temp, dir) = closed_store().await;
    let small = JsonOptions { checkpoint_bytes: 1_000, ..options(&dir) };
    let (one, other) = (JsonStorage::open(small.clone()).await.unwrap(), JsonStorage::open(small).await.unwrap());
    let (one, other) = (Arc::new(one), Arc::new(other));
    let tasks: Vec<_> = (1..=8_i64)
        .map(|task| {
            let storage = Arc::clone(if task % 3 == 0 { &other } else { &one });
            tokio::spawn(async move {
                for n in 0..150 {
                    assert!(!keyed(&storage, 1 + n % 5, &format!("{task}/{n}")).await);
                    let language = if n % 2 == 0 { "en" } else { "de" };
                    let set = SetUserLanguage { user: user(task), language: language.parse().unwrap(), key: None };
                    storage.set_user_language(set).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_audit_clean(&one).await;
    let dump = dump_of(&other).await;
    // Begun at the third change at the latest, and finished while others came.
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(dir.join("manifest.json")).unwrap()).unwrap();
    assert!(manifest["generation"].as_u64().unwrap() > 5, "{manifest}");
    one.close().await.unwrap();
    other.close().await.unwrap();
    assert_eq!(journals(&dir).len(), 1);
    assert!(!index_files(&dir).is_empty());
    let again = open(&dir).await.unwrap();
    assert_eq!(dump_of(&again).await, dump);
    for task in 1..=8_i64 {
        assert!(keyed(&again, 1 + 149 % 5, &format!("{task}/149")).await, "the key of task {task} was forgotten");
    }
}

#[tokio::test]
async fn changes_of_a_checkpoint_that_came_to_nothing_are_kept_and_the_next_one_takes_its_place() {
    let (temp, dir) = closed_store().await;
    let small = JsonOptions { checkpoint_bytes: 1_000, ..options(&dir) };
    let (storage, other) = (JsonStorage::open(small.clone()).await.unwrap(), open(&dir).await.unwrap());
    // What cannot be removed stands where a file is to be staged.
    let obstacle = dir.join("user_balances.json.tmp");
    fs::create_dir(&obstacle).unwrap();
    for (n, journals_then) in [(0, 2), (1, 3)] {
        let mut key = 0;
        while journals(&dir).len() < journals_then {
            keyed(&storage, 1, &format!("{n}/{key}")).await;
            key += 1;
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            assert!(key < 2000, "no checkpoint was tried");
        }
        keyed(&storage, 2, &format!("{n}/last")).await;
    }
    until(|| storage.backend().warnings.iter().any(|warning| warning.contains("checkpoint"))).await;
    keyed(&other, 3, "of the other").await;
    let dump = dump_of(&storage).await;
    assert_eq!(dump_of(&other).await, dump);
    let late = open(&dir).await.unwrap();
    assert_eq!(dump_of(&late).await, dump);

    let crashed = temp.path().join("crashed");
    fs::remove_dir(&obstacle).unwrap();
    copy(&dir, &crashed);
    let recovered = open(&crashed).await.unwrap();
    assert_eq!(dump_of(&recovered).await, dump);
    assert!(keyed(&recovered, 2, "0/last").await && keyed(&recovered, 2, "1/last").await);
    assert_eq!(journals(&crashed).len(), 1);
    assert_audit_clean(&recovered).await;

    // The first journal of the three is needed: without its end nothing is opened.
    let cut = temp.path().join("cut");
    copy(&dir, &cut);
    let first = cut.join(&journals(&cut)[0]);
    let bytes = fs::read(&first).unwrap();
    let last_line =
        bytes.windows(8).rposition(|window| window == b"{\"seq\":1" || window.starts_with(b"{\"seq\":")).unwrap();
    put(&first, &bytes[..last_line]);
    let error = open(&cut).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Corrupt(_)), "{error}");

    let mut key = 0;
    while journals(&dir).len() > 1 {
        keyed(&storage, 1, &format!("after/{key}")).await;
        key += 1;
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        assert!(key < 500, "no checkpoint was made: {:?}", storage.backend().warnings);
    }
    for handle in [&other, &late] {
        assert_eq!(dump_of(handle).await, dump_of(&storage).await);
    }
    assert_audit_clean(&storage).await;
}

#[tokio::test]
async fn what_a_handle_read_from_the_journal_when_it_opened_is_in_its_checkpoint() {
    let (_temp, dir) = closed_store().await;
    let one = open(&dir).await.unwrap();
    one.set_admin_limit(SetAdminLimit::new(user(1), money("12"))).await.unwrap();
    let limit = one.get_admin_limit(user(1)).await.unwrap();
    let other = JsonStorage::open(JsonOptions { checkpoint_bytes: 1, ..options(&dir) }).await.unwrap();
    let before = journals(&dir);
    credit(&other, 2, "1").await;
    until(|| journals(&dir).len() == 1 && journals(&dir) != before).await;
    one.close().await.unwrap();
    other.close().await.unwrap();
    let again = open(&dir).await.unwrap();
    assert_eq!(again.get_admin_limit(user(1)).await.unwrap(), limit);
}

#[tokio::test]
async fn a_missing_or_damaged_index_costs_time_alone() {
    let (temp, dir) = closed_store().await;
    let storage = open(&dir).await.unwrap();
    keyed(&storage, 1, "a key").await;
    let dump = dump_of(&storage).await;
    storage.close().await.unwrap();
    for damage in ["gone", "cut", "flipped"] {
        let copied = temp.path().join(damage);
        copy(&dir, &copied);
        for file in index_files(&copied) {
            let mut bytes = fs::read(&file).unwrap();
            match damage {
                "gone" => remove(&file),
                "cut" => put(&file, &bytes[..bytes.len() / 2]),
                _ => {
                    bytes[0] ^= 1;
                    put(&file, &bytes);
                }
            }
        }
        let storage = open(&copied).await.unwrap();
        assert_eq!(dump_of(&storage).await, dump, "{damage}");
        assert!(keyed(&storage, 1, "a key").await, "{damage}: the key was forgotten");
        storage.close().await.unwrap();
        assert!(keyed(&open(&copied).await.unwrap(), 1, "a key").await, "{damage}: the key was forgotten later");
    }
}

#[tokio::test]
async fn a_flipped_bit_anywhere_in_the_ledger_is_found_at_opening() {
    let (temp, dir) = closed_store().await;
    let whole = fs::read(dir.join("ledger.jsonl")).unwrap();
    for at in (0..whole.len()).step_by(whole.len() / 12) {
        let copied = temp.path().join(at.to_string());
        copy(&dir, &copied);
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        put(&copied.join("ledger.jsonl"), &bytes);
        let error = open(&copied).await.unwrap_err();
        let ErrorKind::Corrupt(place) = error.kind() else { panic!("{error}") };
        assert!(place.offset.is_some_and(|offset| offset <= at as u64), "{place:?}");
    }
}

#[expect(clippy::disallowed_methods, reason = "the test plays the damage")]
fn remove(file: &Path) {
    fs::remove_file(file).unwrap();
}
