//! What lies around the directory: it is renamed, replaced, removed; its files go missing, are cut or become others'.

use std::os::unix::fs::{MetadataExt as _, symlink};

use super::*;
use crate::away::{hard_link, remove, remove_dir, rename};

const LOCKS: [&str; 4] = ["opening.lock", "presence.lock", "writer.lock", "checkpoint.lock"];

/// An open store with one acknowledged credit of 5 to user 1, who has 15 then.
async fn running_store() -> (TempDir, PathBuf, JsonStorage) {
    let (temp, dir) = closed_store().await;
    let storage = open(&dir).await.unwrap();
    credit(&storage, 1, "5").await;
    (temp, dir, storage)
}

async fn refused(storage: &JsonStorage) -> Error {
    let error = storage.add_balance(AddBalance::new(user(1), "100".parse().unwrap())).await.unwrap_err();
    assert_eq!(error.applied(), Applied::No, "{error}");
    // For good, and for reads too.
    let read = storage.get_balance(user(1)).await.unwrap_err();
    assert_eq!(read.kind(), error.kind(), "{read}");
    error
}

async fn assert_holds(dir: &Path, expected: &str) {
    let storage = open(dir).await.unwrap();
    assert_eq!(storage.get_balance(user(1)).await.unwrap(), money(expected), "{}", dir.display());
    assert_audit_clean(&storage).await;
    storage.close().await.unwrap();
}

#[tokio::test]
async fn a_renamed_directory_goes_on_being_ours() {
    let (temp, dir, storage) = running_store().await;
    let elsewhere = temp.path().join("elsewhere");
    rename(&dir, &elsewhere);
    credit(&storage, 1, "7").await;
    let warnings = storage.backend().warnings.join("\n");
    assert!(warnings.contains("was renamed") && warnings.contains("elsewhere"), "{warnings}");
    assert!(!dir.exists());
    rename(&elsewhere, &dir);
    credit(&storage, 1, "1").await;
    storage.close().await.unwrap();
    assert_holds(&dir, "23").await;
}

#[tokio::test]
async fn a_replaced_directory_ends_the_handle_and_neither_is_touched() {
    for with in ["nothing in it", "a store in it", "a copy of this one"] {
        let (temp, dir, storage) = running_store().await;
        let (_other_temp, other) = closed_store().await;
        let ours = temp.path().join("ours");
        rename(&dir, &ours);
        match with {
            "nothing in it" => std::fs::create_dir(&dir).unwrap(),
            "a store in it" => copy(&other, &dir),
            _ => copy(&ours, &dir),
        }
        let (before, stranger) = (bytes_of(&ours), bytes_of(&dir));
        let error = refused(&storage).await;
        assert!(matches!(error.kind(), ErrorKind::Unavailable), "{with}: {error}");
        assert!(error.to_string().contains("another directory stands in its place"), "{error}");
        storage.close().await.unwrap();
        assert_eq!(bytes_of(&ours), before, "{with}");
        assert_eq!(bytes_of(&dir), stranger, "{with}");
        assert_holds(&ours, "15").await;
        match with {
            "nothing in it" => {}
            "a store in it" => assert_holds(&dir, "10").await,
            _ => assert_holds(&dir, "15").await,
        }
    }
}

#[tokio::test]
async fn a_removed_directory_ends_the_handle() {
    let (_temp, dir, storage) = running_store().await;
    remove_dir(&dir);
    let error = refused(&storage).await;
    assert!(error.to_string().contains("it was removed"), "{error}");
    assert!(!dir.exists());
    storage.close().await.unwrap();
    assert!(!dir.exists());
}

#[tokio::test]
async fn a_switched_symlink_above_it_ends_the_handle_and_switched_back_too() {
    let (temp, dir) = closed_store().await;
    let (_other_temp, other) = closed_store().await;
    let link = temp.path().join("current");
    symlink(dir.parent().unwrap(), &link).unwrap();
    let storage = open(&link.join("data")).await.unwrap();
    credit(&storage, 1, "5").await;
    remove(&link);
    symlink(other.parent().unwrap(), &link).unwrap();
    refused(&storage).await;
    remove(&link);
    symlink(dir.parent().unwrap(), &link).unwrap();
    refused(&storage).await;
    assert_holds(&dir, "15").await;
    assert_holds(&other, "10").await;
}

#[tokio::test]
async fn lock_files_that_are_removed_or_replaced_end_the_handle() {
    for name in LOCKS.into_iter().chain(["journal.head"]) {
        for how in ["removed", "replaced by a copy", "replaced by an empty file"] {
            let (temp, dir, storage) = running_store().await;
            let (file, aside) = (dir.join(name), temp.path().join("aside"));
            rename(&file, &aside);
            match how {
                "removed" => {}
                "replaced by a copy" => drop(std::fs::copy(&aside, &file).unwrap()),
                _ => put(&file, b""),
            }
            let error = refused(&storage).await;
            assert!(error.to_string().contains(name), "{name} {how}: {error}");
            assert!(matches!(error.kind(), ErrorKind::Unavailable), "{name} {how}: {error}");
            storage.close().await.unwrap();
            assert_holds(&dir, "15").await;
        }
    }
}

#[tokio::test]
async fn a_lock_file_under_another_name_too_is_refused_at_opening_with_the_way_out() {
    for name in LOCKS.into_iter().chain(["journal.head", "ledger.jsonl"]) {
        let (temp, dir) = closed_store().await;
        hard_link(&dir.join(name), &temp.path().join("other name"));
        let error = open(&dir).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Corrupt(place) if place.source == name), "{name}: {error}");
        let message = error.to_string();
        let command = message.split("bytes of its own: ").nth(1).unwrap();
        let done = std::process::Command::new("sh").args(["-c", command]).status().unwrap();
        assert!(done.success(), "{command}");
        assert_holds(&dir, "10").await;
    }
}

#[tokio::test]
async fn a_store_whose_every_file_is_linked_into_another_directory_keeps_the_other_out() {
    let (temp, dir, storage) = running_store().await;
    let twin = temp.path().join("twin");
    std::fs::create_dir(&twin).unwrap();
    for entry in std::fs::read_dir(&dir).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
        hard_link(&entry.path(), &twin.join(entry.file_name()));
    }
    let error = open(&twin).await.unwrap_err();
    assert!(error.to_string().contains("hard link"), "{error}");
    credit(&storage, 1, "1").await;
    remove_dir(&twin);
    storage.close().await.unwrap();
    assert_holds(&dir, "16").await;
}

#[tokio::test]
async fn a_ledger_that_is_removed_replaced_or_cut_ends_the_handle_and_can_be_saved() {
    let (_temp, dir, storage) = running_store().await;
    let ledger = dir.join("ledger.jsonl");
    remove(&ledger);
    let error = refused(&storage).await;
    assert!(matches!(error.kind(), ErrorKind::Corrupt(place) if place.source == "ledger.jsonl"), "{error}");
    let refusal = open(&dir).await.unwrap_err();
    assert!(matches!(refusal.kind(), ErrorKind::Corrupt(place) if place.source == "ledger.jsonl"), "{refusal}");
    assert!(!ledger.exists(), "an opening made an empty ledger");
    // The process still has it.
    let message = error.to_string();
    let command = message.split("still holds: ").nth(1).unwrap();
    let done = std::process::Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(done.success(), "{command}");
    storage.close().await.unwrap();
    assert_holds(&dir, "15").await;

    let (temp, dir, storage) = running_store().await;
    let (ledger, aside) = (dir.join("ledger.jsonl"), temp.path().join("aside"));
    rename(&ledger, &aside);
    std::fs::copy(&aside, &ledger).unwrap();
    let error = refused(&storage).await;
    assert!(error.to_string().contains("was replaced"), "{error}");
    drop(storage);
    let mut other = open(&dir).await;
    // The handle that was dropped ends on a thread of its own.
    while matches!(&other, Err(error) if matches!(error.kind(), ErrorKind::Locked { .. } | ErrorKind::Corrupt(_))) {
        tokio::task::yield_now().await;
        other = open(&dir).await;
    }
    other.unwrap().close().await.unwrap();
    assert_holds(&dir, "15").await;

    let (_temp, dir, storage) = running_store().await;
    let ledger = dir.join("ledger.jsonl");
    let bytes = fs::read(&ledger).unwrap();
    put(&ledger, &bytes[..bytes.len() / 2]);
    let error = refused(&storage).await;
    assert!(error.to_string().contains("was cut"), "{error}");
    storage.close().await.unwrap();
}

#[tokio::test]
async fn files_that_go_missing_under_a_running_store_are_written_anew_before_it_ends() {
    let names = || NINE.into_iter().chain(["users.json", "balance_reserves.json", "manifest.json"]);
    for name in names() {
        let (_temp, dir, storage) = running_store().await;
        remove(&dir.join(name));
        credit(&storage, 1, "1").await;
        let warnings = storage.backend().warnings.join("\n");
        assert!(warnings.contains(name), "{name}: {warnings}");
        storage.close().await.unwrap();
        assert_holds(&dir, "16").await;
    }
}

#[tokio::test]
async fn a_journal_that_is_removed_replaced_or_cut_under_a_running_store_loses_nothing() {
    for how in ["removed", "replaced by a copy", "replaced by an empty file", "cut"] {
        let (temp, dir, storage) = running_store().await;
        let journal = journal_of(&dir);
        let aside = temp.path().join("aside");
        match how {
            "cut" => put(&journal, b""),
            _ => rename(&journal, &aside),
        }
        match how {
            "replaced by a copy" => drop(std::fs::copy(&aside, &journal).unwrap()),
            "replaced by an empty file" => put(&journal, b""),
            _ => {}
        }
        credit(&storage, 1, "1").await;
        let warnings = storage.backend().warnings.join("\n");
        assert!(warnings.contains("journal-"), "{how}: {warnings}");
        // As if the process were killed now.
        let crashed = temp.path().join("crashed");
        copy(&dir, &crashed);
        assert_holds(&crashed, "16").await;
        storage.close().await.unwrap();
        assert_holds(&dir, "16").await;
    }
}

#[tokio::test]
async fn a_journal_that_is_gone_when_the_store_closes_loses_nothing() {
    let (_temp, dir, storage) = running_store().await;
    remove(&journal_of(&dir));
    storage.close().await.unwrap();
    assert_holds(&dir, "15").await;
}

#[tokio::test]
async fn a_manifest_that_is_damaged_or_from_before_is_written_anew() {
    for how in ["damaged", "from before"] {
        let (_temp, dir) = closed_store().await;
        let manifest = dir.join("manifest.json");
        let before = fs::read(&manifest).unwrap();
        let storage = open(&dir).await.unwrap();
        credit(&storage, 1, "5").await;
        storage.close().await.unwrap();
        let storage = open(&dir).await.unwrap();
        credit(&storage, 1, "1").await;
        put(&manifest, if how == "damaged" { b"{" } else { &before });
        credit(&storage, 1, "1").await;
        let warnings = storage.backend().warnings.join("\n");
        assert!(warnings.contains("manifest.json.edited-1"), "{how}: {warnings}");
        storage.close().await.unwrap();
        assert_holds(&dir, "17").await;
    }
}

#[tokio::test]
async fn each_file_that_is_missing_from_a_closed_store_is_named_and_nothing_is_made() {
    for name in NINE.into_iter().chain(["users.json", "balance_reserves.json", "ledger.jsonl"]) {
        let (_temp, dir) = closed_store().await;
        remove(&dir.join(name));
        let before = bytes_of(&dir);
        let error = open(&dir).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Corrupt(place) if place.source == name), "{name}: {error}");
        assert_eq!(bytes_of(&dir), before, "{name}");
        let found = storage_json::examine(&dir, Timestamp::MIN);
        let bad = found.iter().find(|found| found.verdict == Verdict::Bad && found.found.contains(name));
        assert!(bad.is_some(), "{name}: {found:?}");
        // The nine have a copy, and the error says where.
        if let Some(command) = error.to_string().split("put its copy there: ").nth(1) {
            assert!(std::process::Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
            assert_holds(&dir, "10").await;
        } else {
            assert!(!NINE.contains(&name), "{error}");
        }
    }
    // What nothing stands in alone is made anew.
    for name in LOCKS.into_iter().chain(["journal.head"]) {
        let (_temp, dir) = closed_store().await;
        remove(&dir.join(name));
        assert_holds(&dir, "10").await;
    }
}

#[tokio::test]
async fn what_a_killed_store_lacks_is_named_by_opening_and_by_the_doctor() {
    let (temp, dir) = closed_store().await;
    let (crashed, journal, second, _) = crashed_store(&temp, &dir).await;
    let whole = bytes_of(&crashed);
    let named = |name: &str| {
        let found = storage_json::examine(&crashed, Timestamp::MIN);
        assert!(
            found.iter().any(|found| found.verdict == Verdict::Bad && found.found.contains(name)),
            "{name}: {found:?}"
        );
    };
    // The second change was promised.
    put(&journal, &whole[&journal][..second]);
    let error = open(&crashed).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Corrupt(_)), "{error}");
    named(journal.file_name().unwrap().to_str().unwrap());
    put(&journal, &whole[&journal]);
    // Cut, and written on behind the cut.
    let ledger = crashed.join("ledger.jsonl");
    let mut bytes = whole[&ledger].clone();
    bytes[10..200].fill(0);
    put(&ledger, &bytes);
    let error = open(&crashed).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Corrupt(_)), "{error}");
    named("ledger.jsonl");
    put(&ledger, &whole[&ledger]);
    assert_holds(&crashed, "21").await;
}

#[tokio::test]
async fn a_relative_path_means_the_directory_that_was_opened() {
    let (_temp, dir) = closed_store().await;
    let here = std::env::current_dir().unwrap();
    let steps = here.components().count() - 1;
    let relative = std::iter::repeat_n("..", steps).collect::<PathBuf>().join(dir.strip_prefix("/").unwrap());
    let storage = open(&relative).await.unwrap();
    // The operator sees the path as it was given.
    assert_eq!(storage.backend().location, relative.display().to_string());
    credit(&storage, 1, "5").await;
    storage.close().await.unwrap();
    assert_holds(&dir, "15").await;
}

#[tokio::test]
async fn files_that_root_makes_belong_to_the_owner_of_the_directory() {
    // Only root can give files away, and only root can take a bot's from it.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (temp, dir) = closed_store().await;
    let own = |path: &Path| std::os::unix::fs::chown(path, Some(1234), Some(2345)).unwrap();
    own(&dir);
    for entry in std::fs::read_dir(&dir).unwrap().map(Result::unwrap) {
        own(&entry.path());
    }
    for entry in std::fs::read_dir(dir.join(".checkpoint")).unwrap().map(Result::unwrap) {
        own(&entry.path());
    }
    let assert_owned = |dir: &Path| {
        for file in std::fs::read_dir(dir).unwrap().chain(std::fs::read_dir(dir.join(".checkpoint")).unwrap()) {
            let meta = file.as_ref().unwrap().metadata().unwrap();
            assert_eq!((meta.uid(), meta.gid()), (1234, 2345), "{:?}", file.unwrap().path());
        }
    };
    let storage = open(&dir).await.unwrap();
    credit(&storage, 1, "5").await;
    // A killed store, which a mere look recovers.
    let killed = temp.path().join("killed");
    let copied = std::process::Command::new("cp").arg("-a").args([&dir, &killed]).status().unwrap();
    assert!(copied.success());
    storage.close().await.unwrap();
    assert_owned(&dir);
    let storage = open(&killed).await.unwrap();
    assert_eq!(storage.get_balance(user(1)).await.unwrap(), money("15"));
    drop(storage);
    assert_owned(&killed);
    // One that stays behind as another's is told of.
    std::os::unix::fs::chown(dir.join("payments.json"), Some(0), Some(0)).unwrap();
    let found = storage_json::examine(&dir, Timestamp::MIN);
    let owners = found.iter().find(|found| found.subject == "owners").unwrap();
    assert!(owners.found.contains("payments.json"), "{owners:?}");
    assert!(owners.remedy.as_ref().unwrap().contains("chown -R --reference="), "{owners:?}");
}

#[tokio::test]
async fn opening_alone_waits_for_a_handle_that_was_dropped() {
    let (_temp, dir, storage) = running_store().await;
    drop(storage);
    let patient =
        JsonOptions { access: Access::Exclusive, lock_wait: std::time::Duration::from_secs(10), ..options(&dir) };
    let alone = JsonStorage::open(patient).await.unwrap();
    assert_eq!(alone.get_balance(user(1)).await.unwrap(), money("15"));
    alone.close().await.unwrap();
}

/// A process that ends lets go of its two locks one after the other; whoever comes in between waits for it.
#[tokio::test]
async fn opening_in_the_middle_of_somebodys_end_waits_for_the_end() {
    for kept in ["ledger.jsonl", "presence.lock"] {
        let (_temp, dir) = closed_store().await;
        let ending = fs::File::open(dir.join(kept)).unwrap();
        ending.lock_shared().unwrap();
        let opening = dir.join("opening.lock");
        let options = JsonOptions { lock_wait: std::time::Duration::from_secs(10), ..options(&dir) };
        let opened = tokio::spawn(JsonStorage::open(options));
        // It signs under the lock: the second time after it was refused once.
        for _ in 0..2 {
            put(&opening, b"");
            while fs::read(&opening).unwrap().is_empty() && !opened.is_finished() {
                tokio::task::yield_now().await;
            }
        }
        drop(ending);
        let storage = opened.await.unwrap().unwrap();
        assert_eq!(storage.get_balance(user(1)).await.unwrap(), money("10"), "{kept}");
        storage.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_keeps_a_journal_from_being_written_anew_may_pass() {
    let (_temp, dir, storage) = running_store().await;
    remove(&journal_of(&dir));
    let obstacle = dir.join("user_balances.json.tmp");
    fs::create_dir(&obstacle).unwrap();
    let error = storage.add_balance(AddBalance::new(user(1), "100".parse().unwrap())).await.unwrap_err();
    assert_eq!((error.kind(), error.applied()), (&ErrorKind::Unavailable, Applied::No), "{error}");
    remove_dir(&obstacle);
    credit(&storage, 1, "1").await;
    storage.close().await.unwrap();
    assert_holds(&dir, "16").await;
}
