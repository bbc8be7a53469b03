//! What waits for the writer thread, and how its answers come back.
//!
//! An operation is one allocation that the caller's future and the writer share. A batch is answered in two steps: the
//! writer leaves every answer where its caller finds it and wakes one of them, and that caller wakes the others. Within
//! a runtime that costs almost nothing, while a wake from a foreign thread costs a system call and often a switch of
//! context. The writer does not rely on it: whoever is not woken by the time it would block, it wakes itself.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use storage_core::{Applied, Error, OperationKey, Result, Stamp};

use crate::engine::{Shared, unpoisoned};
use crate::locks::LockFile;
use crate::tx::{Decided, Tx};

/// How long the caller who was woken may take before the writer, with nothing else to do, wakes the others.
const PATIENCE: Duration = Duration::from_micros(200);

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
    fn stamp(&self) -> Stamp;
    /// Leaves the answer for the caller, who is yet to be woken; `Err` replaces it for an operation that could not be
    /// stored.
    fn finish(&self, stored: Result<(), &Error>) -> Option<Waker>;
    /// Tells the caller that no answer will come, unless there is one.
    fn abandon(&self);
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
    stamp: Stamp,
    key: Option<OperationKey>,
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
    /// The key that the store knows the operation by.
    fn key(&self) -> OperationKey {
        self.key.clone().unwrap_or_else(|| self.stamp.operation.to_key())
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
    fn stamp(&self) -> Stamp {
        self.stamp
    }
    fn finish(&self, stored: Result<(), &Error>) -> Option<Waker> {
        let mut slot = self.slot();
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
                slot.answer = Some(Err(if unknown { error.unknown(Some(self.key())) } else { error.not_applied() }));
            }
        }
        slot.phase = Phase::Answered;
        slot.waker.take()
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
}

/// The caller's side of an operation. Dropping it takes the operation back, unless the writer has it already.
pub(crate) struct Answer<'a, T, F> {
    queue: &'a Queue,
    call: Arc<Call<T, F>>,
}

impl<T, F> Answer<'_, T, F> {
    /// Ends the caller's patience: takes the operation back, unless the writer has it already.
    pub(crate) fn give_up(&self, busy: Error) -> Result<T> {
        let mut slot = self.call.slot();
        match slot.phase {
            Phase::Waiting | Phase::Cancelled => {
                slot.phase = Phase::Cancelled;
                Err(busy.message("another process keeps the writer lock; end it or repeat"))
            }
            Phase::Taken => Err(busy.message("the disk did not confirm in time").unknown(Some(self.call.key()))),
            // In the very moment in which the time was up.
            Phase::Answered => slot.given(),
        }
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
                    Err(error.unknown(Some(self.call.key())))
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
        let mut slot = self.call.slot();
        slot.waker = None;
        if slot.phase == Phase::Waiting {
            slot.phase = Phase::Cancelled;
        }
    }
}

/// Work that is not an operation of the contract.
pub(crate) type Control = Box<dyn FnOnce(&Arc<Shared>, &mut LockFile) + Send>;

pub(crate) enum Work {
    Op(Queued),
    Control(Control),
    /// The last handle is gone.
    Stop,
}

#[derive(Default)]
struct Inbox {
    work: Vec<Work>,
    /// The writer waits, and must be told of what comes.
    asleep: bool,
    /// The writer thread is gone: what is queued now is dropped, so that nobody waits for it.
    ended: bool,
}

/// What waits for the writer thread, and whom it answered without waking.
#[derive(Default)]
pub(crate) struct Queue {
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
    /// Queues an operation.
    pub(crate) fn call<T, F>(&self, stamp: Stamp, key: Option<OperationKey>, decide: F) -> Answer<'_, T, F>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let slot = Slot {
            phase: Phase::Waiting,
            decide: Some(decide),
            answer: None,
            wrote: false,
            abandoned: false,
            waker: None,
        };
        let call = Arc::new(Call { stamp, key, slot: Mutex::new(slot) });
        let op: Arc<dyn Op> = Arc::<Call<T, F>>::clone(&call);
        self.push(Work::Op(Queued(op)));
        Answer { queue: self, call }
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

    /// Waits for work and takes all of it into an empty vector.
    pub(crate) fn take(&self, all: &mut Vec<Work>) {
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
                inbox = unpoisoned(self.arrived.wait(inbox));
            }
        }
        inbox.asleep = false;
        std::mem::swap(&mut inbox.work, all);
    }

    /// Answers a batch.
    pub(crate) fn answer(&self, batch: impl Iterator<Item = Queued>, stored: Result<(), &Error>) {
        let mut first = None;
        let mut rest = unpoisoned(self.rest.lock());
        for op in batch {
            let waker = op.finish(stored);
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
