//! What happens beside a checkpoint.

use super::*;
use crate::{JsonOptions, JsonStorage};
use storage_core::{
    AddBalance, AuditScope, Balances as _, ListOperations, Money, Operations as _, PageRequest, PageSize, Store as _,
    UserId,
};

async fn checkpoint_of(storage: &JsonStorage) {
    let shared = Arc::clone(&storage.shared);
    tokio::task::spawn_blocking(move || run(&shared, 0)).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_slept_through_a_checkpoint_spares_the_journal_in_use() {
    let temp = tempfile::tempdir().unwrap();
    let options = JsonOptions::new(temp.path().join("data"));
    let (sleeper, other) =
        (JsonStorage::open(options.clone()).await.unwrap(), JsonStorage::open(options.clone()).await.unwrap());
    let user = UserId::new(1).unwrap();
    for n in 1..=3 {
        other.add_balance(AddBalance::new(user, "1".parse().unwrap())).await.unwrap();
        checkpoint_of(&other).await;
        other.add_balance(AddBalance::new(user, "1".parse().unwrap())).await.unwrap();
        // It knows of none of this yet.
        checkpoint_of(&sleeper).await;
        let expected = Money::from_units(2 * n).unwrap();
        assert_eq!(other.get_balance(user).await.unwrap(), expected);
        assert_eq!(JsonStorage::open(options.clone()).await.unwrap().get_balance(user).await.unwrap(), expected);
    }
    sleeper.close().await.unwrap();
    other.close().await.unwrap();
    let again = JsonStorage::open(options).await.unwrap();
    assert_eq!(again.get_balance(user).await.unwrap(), Money::from_units(6).unwrap());
}

/// Each reading of the files takes as much memory as the state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_are_too_far_behind_read_the_files_once_together() {
    let temp = tempfile::tempdir().unwrap();
    let options = JsonOptions::new(temp.path().join("data"));
    let behind = Arc::new(JsonStorage::open(options.clone()).await.unwrap());
    let other = JsonStorage::open(options).await.unwrap();
    let user = UserId::new(1).unwrap();
    for _ in 0..3 {
        other.add_balance(AddBalance::new(user, "1".parse().unwrap())).await.unwrap();
        checkpoint_of(&other).await;
    }
    let readers: Vec<_> = (0..16)
        .map(|_| {
            let behind = Arc::clone(&behind);
            tokio::spawn(async move { behind.get_balance(user).await })
        })
        .collect();
    for reader in readers {
        assert_eq!(reader.await.unwrap().unwrap(), Money::from_units(3).unwrap());
    }
    assert_eq!(*unpoisoned(behind.shared.rejoining.lock()), 1);
}

/// Whoever reads the files for longer than checkpoints take would lose every race against them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handle_follows_through_checkpoints_that_went_by_while_it_read() {
    let temp = tempfile::tempdir().unwrap();
    let options = JsonOptions::new(temp.path().join("data"));
    let other = JsonStorage::open(options.clone()).await.unwrap();
    let user = UserId::new(1).unwrap();
    other.add_balance(AddBalance::new(user, "1".parse().unwrap())).await.unwrap();
    let behind = JsonStorage::open(options).await.unwrap();
    let generation = behind.shared.state().position.generation;
    let ahead = crate::ahead::Ahead::of(&behind.shared.dir, generation).unwrap().unwrap();
    for n in 1..=3 {
        other.add_balance(AddBalance::new(user, "1".parse().unwrap())).await.unwrap();
        checkpoint_of(&other).await;
        while ahead.waiting() < n {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
    other.add_balance(AddBalance::new(user, "1".parse().unwrap())).await.unwrap();
    // As it is when the files have been read.
    let applier = Arc::clone(&behind.shared);
    tokio::task::spawn_blocking(move || applier.applier().ahead = Some(ahead)).await.unwrap();
    assert_eq!(behind.get_balance(user).await.unwrap(), Money::from_units(5).unwrap());
    assert_eq!(*unpoisoned(behind.shared.rejoining.lock()), 0, "it read the files again");
    assert!(behind.shared.applier().ahead.is_none(), "nothing is held open any more");
}

/// A checkpoint that was begun and whose files are not staged yet, after one credit.
async fn begun(storage: &JsonStorage) -> Begun {
    storage.add_balance(AddBalance::new(UserId::new(1).unwrap(), "1".parse().unwrap())).await.unwrap();
    let shared = Arc::clone(&storage.shared);
    let begin = move || {
        let before = Manifest::read(&shared.dir).unwrap().unwrap();
        let journal = Journal::create(&shared.dir, before.current().generation + 1, 0).unwrap();
        on_writer(&shared, move |shared, lock| begin(shared, lock, &before, journal, &FileSet::default()))
    };
    tokio::task::spawn_blocking(begin).await.unwrap().unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manifest_that_began_a_checkpoint_is_from_before_once_it_is_done() {
    let temp = tempfile::tempdir().unwrap();
    let storage = JsonStorage::open(JsonOptions::new(temp.path().join("data"))).await.unwrap();
    let begun = begun(&storage).await;
    let done = begun.start.generation;
    let shared = Arc::clone(&storage.shared);
    let before = shared.dir.read(MANIFEST).unwrap().unwrap();
    let rest = move || {
        let (pending, segments) = stage(&shared, &begun).unwrap();
        on_writer(&shared, move |shared, lock| finish(shared, lock, &begun, &pending, segments)).unwrap()
    };
    assert!(tokio::task::spawn_blocking(rest).await.unwrap());
    // Somebody puts it back.
    let dir = &storage.shared.dir;
    dir.stage(MANIFEST, &before).unwrap();
    dir.publish(MANIFEST).unwrap();
    storage.add_balance(AddBalance::new(UserId::new(1).unwrap(), "1".parse().unwrap())).await.unwrap();
    let manifest = Manifest::read(dir).unwrap().unwrap();
    assert_eq!((manifest.generation, manifest.writing), (done, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_of_a_handle_that_ended_writes_nothing_more() {
    let temp = tempfile::tempdir().unwrap();
    let storage = JsonStorage::open(JsonOptions::new(temp.path().join("data"))).await.unwrap();
    let begun = begun(&storage).await;
    storage.shared.dir.rename("writer.lock", "elsewhere").unwrap();
    storage.shared.prove_place().unwrap_err();
    let names = storage.shared.dir.names().unwrap();
    assert_eq!(stage(&storage.shared, &begun).err().unwrap().kind(), &ErrorKind::Closed);
    assert_eq!(storage.shared.dir.names().unwrap(), names);
}

/// What stands in the way of the copies is no damage of the ledger: the store goes on without a checkpoint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_cannot_put_its_copies_down_leaves_the_store_open() {
    let temp = tempfile::tempdir().unwrap();
    let storage = JsonStorage::open(JsonOptions::new(temp.path().join("data"))).await.unwrap();
    let user = UserId::new(1).unwrap();
    storage.add_balance(AddBalance::new(user, "1".parse().unwrap())).await.unwrap();
    storage.shared.dir.rename(checkpoint::COPIES, "elsewhere").unwrap();
    std::os::unix::fs::symlink("elsewhere", storage.shared.dir.path().join(checkpoint::COPIES)).unwrap();
    let shared = Arc::clone(&storage.shared);
    let outcome = tokio::task::spawn_blocking(move || run(&shared, 0)).await.unwrap();
    let error = outcome.unwrap_err();
    let told = error.report().to_string();
    assert!(told.contains(checkpoint::COPIES) && !told.contains("ledger"), "{told}");
    storage.add_balance(AddBalance::new(user, "1".parse().unwrap())).await.unwrap();
    assert_eq!(storage.get_balance(user).await.unwrap(), Money::from_units(2).unwrap());
}

/// While a checkpoint is made the store is its files and two journals; whoever dies then leaves both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_looks_at_both_journals_of_a_checkpoint_under_way() {
    let temp = tempfile::tempdir().unwrap();
    let storage = JsonStorage::open(JsonOptions::new(temp.path().join("data"))).await.unwrap();
    let user = UserId::new(1).unwrap();
    for _ in 0..4 {
        storage.add_balance(AddBalance::new(user, "1".parse().unwrap())).await.unwrap();
    }
    let begun = begun(&storage).await;
    storage.add_balance(AddBalance::new(user, "1".parse().unwrap())).await.unwrap();
    // As it is when the process dies now.
    let left = temp.path().join("left");
    let copied = std::process::Command::new("cp").arg("-a").arg(storage.shared.dir.path()).arg(&left).status();
    assert!(copied.unwrap().success());
    let told = || {
        let found = crate::examine(&left, storage_core::Timestamp::MIN);
        let journal = found.into_iter().find(|found| found.subject == "journal").unwrap();
        (journal.verdict, journal.found)
    };
    let (verdict, found) = told();
    assert!(verdict == storage_core::Verdict::Notice && found.starts_with("6 changes"), "{found}");
    let first = left.join(crate::journal::name(begun.start.generation - 1));
    let bytes = std::fs::read(&first).unwrap();
    let end = bytes.iter().rposition(|byte| *byte == b'\n').unwrap();
    for kept in [end / 2, 0] {
        std::fs::OpenOptions::new().write(true).open(&first).unwrap().set_len(kept as u64).unwrap();
        let (verdict, found) = told();
        assert!(verdict == storage_core::Verdict::Bad && found.contains("journal-00000001"), "{found}");
    }
    assert!(std::process::Command::new("rm").arg(&first).status().unwrap().success());
    let (verdict, found) = told();
    assert!(verdict == storage_core::Verdict::Bad && found.contains("journal-00000001"), "{found}");
}

/// A ledger that is cut between two looks at its length, and grows again behind the hole: the checkpoint would drop the
/// journal that has what is missing, and call the hole whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_drops_no_journal_that_has_what_the_ledger_lost() {
    let temp = tempfile::tempdir().unwrap();
    let options = JsonOptions::new(temp.path().join("data"));
    let storage = JsonStorage::open(options.clone()).await.unwrap();
    let user = UserId::new(1).unwrap();
    for _ in 0..20 {
        storage.add_balance(AddBalance::new(user, "1".parse().unwrap())).await.unwrap();
    }
    let ledger = storage.shared.ledger.clone();
    let length = ledger.length().unwrap();
    ledger.file.set_len(length / 2).unwrap();
    ledger.file.set_len(length).unwrap();
    let shared = Arc::clone(&storage.shared);
    let error = tokio::task::spawn_blocking(move || run(&shared, 0)).await.unwrap().unwrap_err();
    assert!(error.report().to_string().contains("ledger.jsonl"), "{error}");
    let refused = storage.add_balance(AddBalance::new(user, "1".parse().unwrap())).await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Corrupt(_)), "{refused}");
    let _ = storage.close().await;
    drop(storage);
    let again = JsonStorage::open(options).await.unwrap();
    let list = ListOperations { user, page: PageRequest::first(PageSize::MAX) };
    assert_eq!(again.list_operations(list).await.unwrap().items.len(), 20);
    assert!(again.audit(AuditScope::Everyone).await.unwrap().is_clean());
}

/// A second sync of the ledger would report success where the first one failed: whoever closes waits for the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_is_synced_where_a_close_waits_for_it() {
    let temp = tempfile::tempdir().unwrap();
    let storage = JsonStorage::open(JsonOptions::new(temp.path().join("data"))).await.unwrap();
    let shared = Arc::clone(&storage.shared);
    let closing = unpoisoned(storage.shared.checkpoint.staging.lock());
    let (started, starts) = mpsc::sync_channel(0);
    let syncing = std::thread::spawn(move || {
        started.send(()).unwrap();
        ledger_synced(&shared)
    });
    starts.recv().unwrap();
    storage.shared.checkpoint.cancelled.store(true, Ordering::Release);
    drop(closing);
    let outcome = syncing.join().unwrap();
    assert_eq!(outcome.unwrap_err().kind(), &ErrorKind::Closed);
}

/// A dump goes on while its handle falls so far behind that it reads everything anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_is_of_one_moment_whatever_happens_meanwhile() {
    let temp = tempfile::tempdir().unwrap();
    let options = JsonOptions::new(temp.path().join("data"));
    let (dumping, other) =
        (JsonStorage::open(options.clone()).await.unwrap(), JsonStorage::open(options.clone()).await.unwrap());
    let user = |n| UserId::new(n).unwrap();
    let balance = |n| storage_core::ImportRecord::Balance {
        user: user(n),
        balance: Money::from_micros(n * 1_000_000).unwrap(),
        created_at: None,
    };
    other.import_records((1..=5000).map(balance).collect()).await.unwrap();
    let mut expected = Vec::new();
    dumping.dump(&mut expected).await.unwrap();
    let (mut write, mut read) = tokio::io::duplex(64 * 1024);
    let mut dumped = vec![0; 300 * 1024];
    let reading = async {
        use tokio::io::AsyncReadExt as _;
        read.read_exact(&mut dumped).await.unwrap();
        for n in 1..=3 {
            for changed in [1, 2500, 5000, 5000 + n] {
                other.add_balance(AddBalance::new(user(changed), "1".parse().unwrap())).await.unwrap();
            }
            checkpoint_of(&other).await;
        }
        // Two checkpoints behind: there is no journal any more that leads from its state to this one.
        let raised = Money::from_units(5003).unwrap();
        assert_eq!(dumping.get_balance(user(5000)).await.unwrap(), raised);
        dumping.add_balance(AddBalance::new(user(1), "1".parse().unwrap())).await.unwrap();
        read.read_to_end(&mut dumped).await.unwrap();
    };
    let writing = async {
        dumping.dump(&mut write).await.unwrap();
        drop(write);
    };
    tokio::join!(writing, reading);
    assert!(dumped == expected);
    assert!(dumping.shared.state().moments.dumps.is_empty());
    assert!(unpoisoned(dumping.shared.retired.lock()).is_empty());
}
