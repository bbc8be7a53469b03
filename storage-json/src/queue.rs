//! What waits for the writer thread, and how its answers come back.
//!
//! An operation is one allocation that the caller's future and the writer share. A batch is answered in two steps: the
//! writer leaves every answer where its caller finds it and wakes one of them, and that caller wakes the others. Within
//! a runtime that costs almost nothing, while a wake from a foreign thread costs a system call and often a switch of
//! context. The writer does not rely on it: whoever is not woken by the time it would block, it wakes itself.
//!
//! The queue is bounded in calls and in bytes. A call that is given up gives back its arguments and its place at once: the
//! writer may be behind a lock for hours. What is left of it, an empty slot, goes when half of the queue is such slots.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use storage_core::{Applied, Error, ErrorKind, OperationKey, Result};

use crate::engine::{Shared, unpoisoned};
use crate::locks::LockFile;
use crate::options::JsonOptions;
use crate::tx::{Decided, Tx};

/// How long the caller who was woken may take before the writer, with nothing else to do, wakes the others.
const PATIENCE: Duration = Duration::from_micros(200);
/// How many calls are given up before the queue is looked through for them.
const GIVEN_UP: usize = 64;

/// How much the queue may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    calls: u64,
    bytes: u64,
}

impl Room {
    pub(crate) fn of(options: &JsonOptions) -> Self {
        Self { calls: options.queue_calls, bytes: options.queue_bytes }
    }
}

/// What the queue holds: everything that was neither answered nor given up.
#[derive(Debug, Default)]
struct Held {
    calls: AtomicU64,
    bytes: AtomicU64,
}

impl Held {
    /// Takes a place. Two who come at once may both be refused the last one: that is no harm.
    fn enter(&self, room: Room, bytes: u64) -> Result<()> {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        let held = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        // Whatever the limits are and however large the call is: it fits into an empty queue.
        if calls == 0 || (calls < room.calls && held.saturating_add(bytes) <= room.bytes) {
            return Ok(());
        }
        self.leave(1, bytes);
        Err(Self::full(room, calls, held))
    }
    fn leave(&self, calls: u64, bytes: u64) {
        self.calls.fetch_sub(calls, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
    #[cold]
    fn full(room: Room, calls: u64, held: u64) -> Error {
        let full = if calls < room.calls {
            format!("{held} bytes of calls wait for the writer, and queue_bytes is {}", room.bytes)
        } else {
            format!("{calls} calls wait for the writer, and queue_calls is {}", room.calls)
        };
        Error::new(ErrorKind::Busy { waited: Duration::ZERO })
            .message(format!("the queue is full: {full}; repeat it later, with less at a time; where that does not help, see who keeps the writer lock (storage doctor)"))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    Taken,
    Cancelled,
    Answered,
}

/// An operation in the queue.
pub(crate) trait Op: Send + Sync {
    /// Claims the operation for a batch; `false` when its caller is gone.
    fn take(&self) -> bool;
    /// Decides it and keeps the answer. `Some` when there is something to store.
    fn decide(&self, tx: Tx<'_>) -> Option<Decided>;
    /// Puts a refusal in the place of what was decided.
    fn refuse(&self, error: Error);
    /// Leaves the answer for the caller, who is yet to be woken; `Err` replaces it for an operation that could not be
    /// stored. `None` when the caller had given it up.
    fn finish(&self, stored: Result<(), &Error>) -> Option<Finished>;
    /// Tells the caller that no answer will come, unless there is one.
    fn abandon(&self);
    /// Whether its caller still waits for the writer to take it.
    fn waits(&self) -> bool;
}

/// An operation that has its answer.
pub(crate) struct Finished {
    waker: Option<Waker>,
    bytes: u64,
}

/// The writer's side of an operation.
pub(crate) struct Queued(Arc<dyn Op>);

impl std::ops::Deref for Queued {
    type Target = dyn Op;
    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

struct Call<T, F> {
    /// What the store knows the operation by.
    key: OperationKey,
    /// What it counts for in the queue.
    bytes: u64,
    slot: Mutex<Slot<T, F>>,
}

struct Slot<T, F> {
    phase: Phase,
    decide: Option<F>,
    answer: Option<Result<T>>,
    wrote: bool,
    /// The writer's side is gone.
    abandoned: bool,
    waker: Option<Waker>,
}

impl<T, F> Slot<T, F> {
    /// The answer that the writer left.
    fn given(&mut self) -> Result<T> {
        self.answer.take().unwrap_or_else(|| Err(Error::internal("an answer was asked for twice")))
    }
}

impl<T, F> Call<T, F> {
    fn slot(&self) -> MutexGuard<'_, Slot<T, F>> {
        unpoisoned(self.slot.lock())
    }
}

impl<T, F> Op for Call<T, F>
where
    T: Send,
    F: FnOnce(&mut Tx<'_>) -> Result<T> + Send,
{
    fn take(&self) -> bool {
        let mut slot = self.slot();
        let waits = slot.phase == Phase::Waiting;
        if waits {
            slot.phase = Phase::Taken;
        }
        waits
    }
    fn decide(&self, mut tx: Tx<'_>) -> Option<Decided> {
        // Not under the slot's lock, which the caller takes in passing.
        let decide = self.slot().decide.take()?;
        let answer = decide(&mut tx);
        let decided = answer.is_ok().then(|| tx.decided()).filter(|decided| !decided.is_empty());
        let mut slot = self.slot();
        slot.answer = Some(answer);
        slot.wrote = decided.is_some();
        decided
    }
    fn refuse(&self, error: Error) {
        let mut slot = self.slot();
        slot.answer = Some(Err(error.not_applied()));
        slot.wrote = false;
    }
    fn finish(&self, stored: Result<(), &Error>) -> Option<Finished> {
        let mut slot = self.slot();
        if slot.phase == Phase::Cancelled {
            return None;
        }
        match stored {
            Ok(()) => {
                if slot.answer.is_none() {
                    slot.answer = Some(Err(Error::internal("an operation was never decided")));
                }
            }
            // Whatever was decided in a batch that failed, refusals included, may rest on a change that is gone.
            Err(error) => {
                let error = error.clone();
                let unknown = slot.wrote && error.applied() == Applied::Unknown;
                slot.answer =
                    Some(Err(if unknown { error.unknown(Some(self.key.clone())) } else { error.not_applied() }));
            }
        }
        slot.phase = Phase::Answered;
        Some(Finished { waker: slot.waker.take(), bytes: self.bytes })
    }
    fn abandon(&self) {
        let waker = {
            let mut slot = self.slot();
            if slot.phase == Phase::Answered {
                return;
            }
            slot.abandoned = true;
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
    fn waits(&self) -> bool {
        self.slot().phase == Phase::Waiting
    }
}

/// The caller's side of an operation. Dropping it takes the operation back, unless the writer has it already.
pub(crate) struct Answer<'a, T, F> {
    queue: &'a Queue,
    call: Arc<Call<T, F>>,
}

impl<T, F> Answer<'_, T, F> {
    /// Ends the caller's patience: takes the operation back, unless the writer has it already.
    pub(crate) fn give_up(&self, busy: Error, kept: impl FnOnce() -> String) -> Result<T> {
        self.take_back();
        let mut slot = self.call.slot();
        match slot.phase {
            Phase::Waiting | Phase::Cancelled => {
                // It looks at the disk, and the writer may want the slot.
                drop(slot);
                Err(busy.message(kept()))
            }
            Phase::Taken => Err(busy.message("the disk did not confirm in time").unknown(Some(self.call.key.clone()))),
            // In the very moment in which the time was up.
            Phase::Answered => slot.given(),
        }
    }

    /// Gives arguments and place back, unless the writer has the operation already.
    fn take_back(&self) {
        let decide = {
            let mut slot = self.call.slot();
            slot.waker = None;
            if slot.phase != Phase::Waiting {
                return;
            }
            slot.phase = Phase::Cancelled;
            slot.decide.take()
        };
        drop(decide);
        self.queue.given_up(self.call.bytes);
    }
}

impl<T, F> Future for Answer<'_, T, F> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let answer = {
            let mut slot = self.call.slot();
            match slot.phase {
                Phase::Answered => slot.given(),
                // The thread is gone: it was told to stop, or a defect ended it in the middle of a batch.
                Phase::Taken if slot.abandoned => {
                    let error = Error::internal("the writer thread ended in the middle of a batch");
                    Err(error.unknown(Some(self.call.key.clone())))
                }
                _ if slot.abandoned => Err(Error::closed()),
                _ => {
                    match &mut slot.waker {
                        Some(waker) => waker.clone_from(context.waker()),
                        none => *none = Some(context.waker().clone()),
                    }
                    return Poll::Pending;
                }
            }
        };
        self.queue.wake_rest();
        Poll::Ready(answer)
    }
}

impl<T, F> Drop for Answer<'_, T, F> {
    fn drop(&mut self) {
        self.take_back();
    }
}

/// Work that is not an operation of the contract, and that nobody takes back.
pub(crate) type Control = Box<dyn FnOnce(&Arc<Shared>, &mut LockFile) + Send>;

/// Such work of a caller who may give it up.
pub(crate) trait Step: Send + Sync {
    fn run(&self, shared: &Arc<Shared>, lock: &mut LockFile);
    /// Drops it, unless it has begun.
    fn abandon(&self);
    /// Whether its caller still waits for it to begin.
    fn waits(&self) -> bool;
}

/// The writer's side of a step.
pub(crate) struct QueuedStep(Arc<dyn Step>);

impl std::ops::Deref for QueuedStep {
    type Target = dyn Step;
    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl Drop for QueuedStep {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

struct StepOf<F> {
    /// What it counts for in the queue.
    bytes: u64,
    /// `None` once it has begun or was given up.
    step: Mutex<Option<F>>,
}

impl<F> StepOf<F> {
    fn take(&self) -> Option<F> {
        unpoisoned(self.step.lock()).take()
    }
}

impl<F: FnOnce(&Arc<Shared>, &mut LockFile) + Send> Step for StepOf<F> {
    fn run(&self, shared: &Arc<Shared>, lock: &mut LockFile) {
        if let Some(step) = self.take() {
            // Before its caller is told.
            shared.queue.held.leave(1, self.bytes);
            step(shared, lock);
        }
    }
    fn abandon(&self) {
        drop(self.take());
    }
    fn waits(&self) -> bool {
        unpoisoned(self.step.lock()).is_some()
    }
}

/// The caller's side of a step. Dropping it takes the step back, unless it has begun.
pub(crate) struct Waiting<'a, F> {
    queue: &'a Queue,
    step: Arc<StepOf<F>>,
}

impl<F> Waiting<'_, F> {
    /// Ends the caller's patience.
    pub(crate) fn give_up(&self, busy: Error, kept: impl FnOnce() -> String) -> Error {
        if self.take_back() { busy.message(kept()) } else { busy.unknown(None) }
    }
    fn take_back(&self) -> bool {
        let Some(step) = self.step.take() else { return false };
        drop(step);
        self.queue.given_up(self.step.bytes);
        true
    }
}

impl<F> Drop for Waiting<'_, F> {
    fn drop(&mut self) {
        self.take_back();
    }
}

pub(crate) enum Work {
    Op(Queued),
    Step(QueuedStep),
    Control(Control),
    /// The last handle is gone.
    Stop,
}

impl Work {
    /// Whether nobody waits for it any more.
    fn is_given_up(&self) -> bool {
        match self {
            Self::Op(op) => !op.waits(),
            Self::Step(step) => !step.waits(),
            Self::Control(_) | Self::Stop => false,
        }
    }
}

#[derive(Default)]
struct Inbox {
    work: Vec<Work>,
    /// How many were given up since somebody looked for such work here. The writer may have had some of them already.
    given_up: usize,
    /// The writer waits, and must be told of what comes.
    asleep: bool,
    /// The writer thread is gone: what is queued now is dropped, so that nobody waits for it.
    ended: bool,
}

/// What waits for the writer thread, and whom it answered without waking.
#[derive(Default)]
pub(crate) struct Queue {
    held: Held,
    inbox: Mutex<Inbox>,
    arrived: Condvar,
    rest: Mutex<Vec<Waker>>,
    /// Whether there is anybody in `rest`; spares everyone else the lock.
    any_rest: AtomicBool,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl Queue {
    /// Queues an operation whose arguments keep so many bytes on the heap.
    ///
    /// # Errors
    /// `Busy` when there is no room.
    pub(crate) fn call<T, F>(&self, room: Room, key: OperationKey, heap: usize, decide: F) -> Result<Answer<'_, T, F>>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let bytes = (heap + size_of::<Call<T, F>>()) as u64;
        self.held.enter(room, bytes)?;
        let slot = Slot {
            phase: Phase::Waiting,
            decide: Some(decide),
            answer: None,
            wrote: false,
            abandoned: false,
            waker: None,
        };
        let call = Arc::new(Call { key, bytes, slot: Mutex::new(slot) });
        let op: Arc<dyn Op> = Arc::<Call<T, F>>::clone(&call);
        self.push(Work::Op(Queued(op)));
        Ok(Answer { queue: self, call })
    }

    /// Queues a step between two batches; without `room`, whatever is queued already.
    ///
    /// # Errors
    /// `Busy` when there is no room.
    pub(crate) fn step<F>(&self, room: Option<Room>, step: F) -> Result<Waiting<'_, F>>
    where
        F: FnOnce(&Arc<Shared>, &mut LockFile) + Send + 'static,
    {
        let bytes = size_of::<StepOf<F>>() as u64;
        self.held.enter(room.unwrap_or(Room { calls: u64::MAX, bytes: u64::MAX }), bytes)?;
        let step = Arc::new(StepOf { bytes, step: Mutex::new(Some(step)) });
        let queued: Arc<dyn Step> = Arc::<StepOf<F>>::clone(&step);
        self.push(Work::Step(QueuedStep(queued)));
        Ok(Waiting { queue: self, step })
    }

    /// Calls that were neither answered nor given up, and their bytes.
    pub(crate) fn held(&self) -> (u64, u64) {
        (self.held.calls.load(Ordering::Relaxed), self.held.bytes.load(Ordering::Relaxed))
    }

    /// Takes out of the accounts what was given up, and the empty slots out of the queue when they are many.
    fn given_up(&self, bytes: u64) {
        self.held.leave(1, bytes);
        let empty: Vec<Work> = {
            let mut inbox = unpoisoned(self.inbox.lock());
            inbox.given_up += 1;
            // So each look at a place in the queue is paid for by a call that was given up.
            if inbox.given_up < GIVEN_UP.max(inbox.work.len() / 2) {
                return;
            }
            inbox.given_up = 0;
            inbox.work.extract_if(.., |work| work.is_given_up()).collect()
        };
        // Not under the lock.
        drop(empty);
    }

    pub(crate) fn push(&self, work: Work) {
        let asleep = {
            let mut inbox = unpoisoned(self.inbox.lock());
            if inbox.ended {
                // Its caller is told when it is dropped, which is not done under the lock.
                drop(inbox);
                drop(work);
                return;
            }
            inbox.work.push(work);
            std::mem::take(&mut inbox.asleep)
        };
        if asleep {
            self.arrived.notify_one();
        }
    }
    /// Drops what waits and whatever comes.
    pub(crate) fn end(&self) {
        let dropped = {
            let mut inbox = unpoisoned(self.inbox.lock());
            inbox.ended = true;
            std::mem::take(&mut inbox.work)
        };
        drop(dropped);
    }

    /// Waits for work and takes all of it into an empty vector, which stays empty when none came for so long.
    pub(crate) fn take(&self, all: &mut Vec<Work>, idle: Duration) {
        let mut inbox = unpoisoned(self.inbox.lock());
        while inbox.work.is_empty() {
            inbox.asleep = true;
            if self.any_rest.load(Ordering::Acquire) {
                inbox = unpoisoned(self.arrived.wait_timeout(inbox, PATIENCE)).0;
                if inbox.work.is_empty() {
                    drop(inbox);
                    self.wake_rest();
                    inbox = unpoisoned(self.inbox.lock());
                }
            } else {
                let waited;
                (inbox, waited) = unpoisoned(self.arrived.wait_timeout(inbox, idle));
                if waited.timed_out() {
                    break;
                }
            }
        }
        inbox.asleep = false;
        std::mem::swap(&mut inbox.work, all);
    }

    /// Answers a batch.
    pub(crate) fn answer(&self, batch: impl Iterator<Item = Queued>, stored: Result<(), &Error>) {
        let mut first = None;
        let (mut calls, mut bytes) = (0, 0);
        let mut rest = unpoisoned(self.rest.lock());
        for op in batch {
            let Some(Finished { waker, bytes: of_call }) = op.finish(stored) else { continue };
            calls += 1;
            bytes += of_call;
            if first.is_none() {
                first = waker;
            } else {
                rest.extend(waker);
            }
        }
        if !rest.is_empty() {
            self.any_rest.store(true, Ordering::Release);
        }
        drop(rest);
        self.held.leave(calls, bytes);
        if let Some(first) = first {
            first.wake();
        }
    }

    /// Wakes everyone who was answered and not woken yet.
    pub(crate) fn wake_rest(&self) {
        if self.any_rest.load(Ordering::Acquire) && self.any_rest.swap(false, Ordering::AcqRel) {
            let rest = std::mem::take(&mut *unpoisoned(self.rest.lock()));
            rest.into_iter().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests;
