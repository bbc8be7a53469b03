//! A checkpoint that stops nobody: changes go on in the next journal while the files are written.
//!
//! 1. A manifest that names a second journal, where writing goes on from now. From then on the store is the files, the
//!    first journal and the second one.
//! 2. The files as they were at that moment are staged, by a thread of its own, from [`crate::before`].
//! 3. The two manifests and the renames of [`crate::checkpoint`], between two batches. Now the store is the new files and
//!    the second journal.
//!
//! What changes the manifest runs on the writer thread under the writer lock, so that it never meets a batch. Whoever
//! dies on the way leaves a store of either form; another attempt begins a third journal, and takes the place of both.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use storage_core::{Error, ErrorKind, Result};

use crate::before::{Before, Moment, Walk};
use crate::checkpoint::{self, Base};
use crate::engine::{Applier, Shared, unpoisoned};
use crate::follow::catch_up;
use crate::index::{Frozen, Segment};
use crate::journal::Journal;
use crate::locks::{CHECKPOINT, LockFile, Try};
use crate::manifest::{MANIFEST, Manifest, Start};
use crate::options::Access;
use crate::queue::Work;
use crate::state::{FileId, FileSet};
use crate::watch::Trouble;
use crate::writer::locked;

/// What a handle knows of its checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Background {
    /// A thread is at it.
    pub(crate) running: AtomicBool,
    /// The store is being closed: the thread ends where it is.
    pub(crate) cancelled: AtomicBool,
    /// Held while files are staged and the ledger is synced. Never while waiting for the writer thread, which may wait for it.
    pub(crate) staging: Mutex<()>,
}

impl Background {
    fn go_on(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Acquire) { Err(Error::closed()) } else { Ok(()) }
    }
}

/// Begins a checkpoint when the journal has grown enough. One that cannot be made is reported and tried again later: the
/// journals hold everything.
pub(crate) fn when_due(shared: &Arc<Shared>, applier: &mut Applier) {
    let grown = shared.state().position.offset;
    let stored: u64 = applier.manifest.files.values().map(|sum| sum.bytes).sum();
    let due = shared.options.checkpoint_bytes.max(stored / 2);
    let wanted = grown >= due || applier.is_due;
    if !wanted || grown < applier.retry_at || shared.checkpoint.running.swap(true, Ordering::AcqRel) {
        return;
    }
    // A disk without room must not cost every batch a try.
    applier.retry_at = grown + due / 4;
    let own = Arc::clone(shared);
    let spawned = std::thread::Builder::new().name("storage-checkpoint".to_owned()).spawn(move || {
        let outcome = run(&own, grown);
        if let Err(error) = outcome
            && own.checkpoint.go_on().is_ok()
        {
            own.warn(format!("a checkpoint could not be made: {:#}", error.report()));
        }
        own.checkpoint.running.store(false, Ordering::Release);
    });
    if spawned.is_err() {
        shared.checkpoint.running.store(false, Ordering::Release);
    }
}

/// A checkpoint that was begun.
struct Begun {
    /// The manifest that names the second journal.
    manifest: Manifest,
    start: Start,
    files: FileSet,
    frozen: Arc<Frozen>,
}

fn run(shared: &Arc<Shared>, room: u64) -> Result<()> {
    // Files are staged under fixed names: by one process at a time. Whoever dies gives the lock up.
    let mut lock = None;
    if shared.options.access == Access::Shared {
        let lock = lock.insert(shared.open_lock(CHECKPOINT)?);
        if lock.try_exclusive()? == Try::Held {
            warn_of_standstill(shared, lock, room);
            return Ok(());
        }
        lock.sign(|| shared.options.environment.clock.now());
    }
    let (before, journal, also) = {
        let _staging = unpoisoned(shared.checkpoint.staging.lock());
        shared.checkpoint.go_on()?;
        // As it stands now that no other process can begin a checkpoint: one may have come and gone while this one waited,
        // and the next journal after the last one known here may be in use.
        let Some(before) = Manifest::read(&shared.dir)?.filter(|manifest| manifest.next.is_none()) else {
            return Ok(());
        };
        let also = checkpoint::set_aside_edits(shared, &before)?;
        // With the room that the last one needed: then no batch has to make any. Its name is durable before anything
        // is written to it.
        let journal = Journal::create(&shared.dir, before.current().generation + 1, room)?;
        shared.dir.sync()?;
        (before, journal, also)
    };
    let Some(begun) = on_writer(shared, move |shared, lock| begin(shared, lock, &before, journal, &also))? else {
        return Ok(());
    };
    let finished = ledger_synced(shared).and_then(|()| stage(shared, &begun)).and_then(|(pending, segments)| {
        on_writer(shared, move |shared, lock| finish(shared, lock, &begun, &pending, segments))
    });
    if !matches!(finished, Ok(true)) {
        let mut state = unpoisoned(shared.state.write());
        state.moments.checkpoint = None;
        state.keys.thaw();
    }
    finished.map(|_| ())
}

/// Names a process that keeps others from making checkpoints while the journal grows to many times what it should be.
fn warn_of_standstill(shared: &Shared, lock: &LockFile, grown: u64) {
    let stored: u64 = shared.applier().manifest.files.values().map(|sum| sum.bytes).sum();
    if grown >= 2 * shared.options.checkpoint_bytes.max(stored / 2) {
        shared.warn(format!(
            "the journal grows and no checkpoint can be made: {} is held by {}",
            shared.dir.join(CHECKPOINT).display(),
            lock.holder()
        ));
    }
}

/// Runs a step between two batches and waits for it.
fn on_writer<T: Send + 'static>(
    shared: &Arc<Shared>,
    step: impl FnOnce(&Arc<Shared>, &mut LockFile) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (reply, answer) = mpsc::sync_channel(1);
    shared.queue.push(Work::Control(Box::new(move |shared, lock| {
        let _ = reply.send(step(shared, lock));
    })));
    answer.recv().map_err(|_| Error::closed())?
}

/// Lets writing go on in a new journal, and keeps the state of this moment. `None` when somebody else made a checkpoint
/// meanwhile, or there is nothing to write.
fn begin(
    shared: &Arc<Shared>,
    lock: &mut LockFile,
    before: &Manifest,
    journal: Journal,
    also: &FileSet,
) -> Result<Option<Begun>> {
    shared.checkpoint.go_on()?;
    locked(shared, lock, |shared| {
        let mut applier = shared.applier();
        catch_up(shared, &mut applier)?;
        if let Some(refusal) = shared.read_only() {
            return Err(refusal);
        }
        let (position, mut files) = {
            let state = shared.state();
            (state.position, state.dirty.before(None))
        };
        files.join(also);
        let nothing_new = position.offset == 0 && files.is_empty();
        if applier.manifest != *before || before.moved_to.is_some() || nothing_new {
            return Ok(None);
        }
        // What follows in the next journal must not outlive what stands in this one; another process may write to it with
        // relaxed durability.
        applier.journal.sync().inspect_err(|error| shared.die_at(error, position))?;
        let start = Start { generation: journal.generation, ..Start::of(position) };
        let manifest = Manifest { writing: Some(start), ..before.clone() };
        shared.dir.stage(MANIFEST, &manifest.to_bytes()?)?;
        if let Err(error) = shared.dir.publish(MANIFEST) {
            if !checkpoint::may_be_repeated(&error) {
                shared.die_at(&error, position);
            }
            return Err(error);
        }
        // Visible and perhaps not durable: nobody may write to a journal that a power cut could make nameless.
        shared.dir.sync().inspect_err(|error| shared.die_at(error, position))?;
        *applier = Applier::new(journal, manifest.clone());
        let mut state = unpoisoned(shared.state.write());
        state.position = start.position();
        state.moments.checkpoint = Some(Before::default());
        let frozen = state.keys.freeze();
        shared.head.write(shared.mark(state.position)).inspect_err(|error| shared.die_at(error, state.position))?;
        Ok(Some(Begun { manifest, start, files, frozen }))
    })
}

/// Makes the ledger durable. Where that fails nothing more is promised, which is told between two batches: a mark that was
/// written beside one could be written over.
fn ledger_synced(shared: &Arc<Shared>) -> Result<()> {
    let error = {
        // Whoever closes waits here, and then knows: a second sync of the same file would report success.
        let _staging = unpoisoned(shared.checkpoint.staging.lock());
        shared.checkpoint.go_on()?;
        let Err(error) = checkpoint::sync_ledger(shared) else { return Ok(()) };
        shared.promise_no_more(&error);
        error
    };
    on_writer(shared, |shared, lock| {
        locked(shared, lock, |shared| {
            let position = shared.state().position;
            shared.tell_others(position);
            Ok(())
        })
    })?;
    Err(error)
}

/// Writes the files as they were when the checkpoint began.
fn stage(shared: &Shared, begun: &Begun) -> Result<(Manifest, Vec<Arc<Segment>>)> {
    let _staging = unpoisoned(shared.checkpoint.staging.lock());
    shared.checkpoint.go_on()?;
    let now = shared.options.environment.clock.now();
    let base = Base { dir: &shared.dir, ledger: &shared.ledger, manifest: &begun.manifest, now };
    let prepared =
        checkpoint::prepare(&base, begun.start, &begun.files, &Walk(shared, Moment::Checkpoint), &begun.frozen)
            .map_err(|error| ends_on_damage(shared, error));
    if prepared.is_err() {
        // A full disk has better use for the room.
        let copies = shared.dir.sub(checkpoint::COPIES).ok().flatten();
        for file in FileId::ALL {
            let staged = crate::disk::staged(file.name());
            let _ = shared.dir.remove(&staged);
            let _ = copies.as_ref().map(|copies| copies.remove(&staged));
        }
        let _ = shared.dir.remove(&crate::index::name(begun.start.generation));
    }
    prepared
}

/// Ends the handle where the ledger is not as it was written: somebody changed it while the store is open.
fn ends_on_damage(shared: &Shared, error: Error) -> Error {
    let ledger = shared.dir.join(crate::ledger::LEDGER).display().to_string();
    if !matches!(error.kind(), ErrorKind::Corrupt(place) if place.source == ledger) {
        return error;
    }
    let found = error.message(format!(
        "{ledger} was changed while the store is open; this handle ended and changes nothing more: close every process and open the \
         store again, the journal holds what is damaged"
    ));
    shared.judged::<()>(Err(Trouble::Final(found.clone()))).err().unwrap_or(found)
}

/// Puts the staged files in place. `false` when somebody else made a checkpoint meanwhile.
fn finish(
    shared: &Arc<Shared>,
    lock: &mut LockFile,
    begun: &Begun,
    pending: &Manifest,
    segments: Vec<Arc<Segment>>,
) -> Result<bool> {
    shared.checkpoint.go_on()?;
    locked(shared, lock, |shared| {
        let mut applier = shared.applier();
        catch_up(shared, &mut applier)?;
        if let Some(refusal) = shared.read_only() {
            return Err(refusal);
        }
        if applier.manifest != begun.manifest {
            return Ok(false);
        }
        let synced = || shared.dir.sync().inspect_err(|error| shared.die(error));
        let named = shared.dir.publish(MANIFEST).and_then(|()| synced());
        let finished = named.and_then(|()| checkpoint::finish_own(shared, pending));
        let (_, manifest) = finished.inspect_err(|error| {
            // With a full disk the next batch finishes it; anything else leaves uncertain what the disk has.
            if !checkpoint::may_be_repeated(error) {
                shared.die(error);
            }
        })?;
        checkpoint::drop_old(&shared.dir, &begun.manifest, &manifest);
        {
            let mut state = unpoisoned(shared.state.write());
            state.moments.checkpoint = None;
            state.keys.settle(segments);
            state.dirty.forget_before(manifest.generation);
        }
        applier.manifest = manifest;
        applier.manifest_stamp = None;
        applier.is_due = false;
        Ok(true)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{JsonOptions, JsonStorage};
    use storage_core::{
        AddBalance, AuditScope, Balances as _, ListOperations, Money, Operations as _, PageRequest, PageSize,
        Store as _, UserId,
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
        assert!(outcome.is_err());
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
}
