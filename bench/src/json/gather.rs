//! Work handed to one writer thread, which takes all that waits, makes it durable together and answers.

use std::sync::{Arc, Condvar, LockResult, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

/// What a task handed over, and where it waits for the answer.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    pub(super) work: T,
    reply: oneshot::Sender<Result<(), String>>,
}

/// How tasks hand work over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// A vector behind a mutex, which the writer swaps for an empty one.
    Swap,
    /// [`By::Swap`], and the writer lets the tasks that it just answered run before it takes their next work.
    SwapAfterYield,
    /// A channel of the standard library.
    Channel,
}

/// How much is made durable at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Batch {
    /// Whatever waits.
    Gathered,
    /// One operation.
    Each,
}

/// A lock that guards nothing that a panic could leave half-done.
pub(super) fn unpoisoned<T>(locked: LockResult<T>) -> T {
    locked.unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct Queue<T> {
    waiting: Mutex<(Vec<Waiting<T>>, bool)>,
    arrived: Condvar,
}

#[derive(Debug)]
enum Inbox<T> {
    Swap(Arc<Queue<T>>),
    /// `None` while it is being dropped.
    Channel(Option<mpsc::Sender<Waiting<T>>>),
}

/// The tasks' side. Dropping it ends the writer thread.
#[derive(Debug)]
pub(super) struct Gather<T> {
    inbox: Inbox<T>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Gather<T> {
    /// Starts the writer thread. `store` makes what it is given durable, all or nothing.
    pub(super) fn start(
        by: By,
        batch: Batch,
        store: impl FnMut(&[Waiting<T>]) -> Result<(), String> + Send + 'static,
    ) -> Result<Self, String> {
        let spawn = |run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name("gather".to_owned())
                .spawn(run)
                .map_err(|error| format!("the writer thread: {error}"))
        };
        let (inbox, thread) = match by {
            By::Swap | By::SwapAfterYield => {
                let queue = Arc::new(Queue { waiting: Mutex::default(), arrived: Condvar::new() });
                let inbox = Inbox::Swap(Arc::clone(&queue));
                let yields = by == By::SwapAfterYield;
                (inbox, spawn(Box::new(move || write(batch, store, |all| queue.take(all, yields))))?)
            }
            By::Channel => {
                let (sender, receiver) = mpsc::channel();
                let take = move |all: &mut Vec<_>| {
                    all.extend(receiver.recv());
                    all.extend(receiver.try_iter());
                };
                (Inbox::Channel(Some(sender)), spawn(Box::new(move || write(batch, store, take)))?)
            }
        };
        Ok(Self { inbox, thread: Some(thread) })
    }

    /// Hands work over and waits until it is durable.
    pub(super) async fn hand(&self, work: T) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { work, reply };
        match &self.inbox {
            Inbox::Swap(queue) => {
                unpoisoned(queue.waiting.lock()).0.push(waiting);
                queue.arrived.notify_one();
            }
            Inbox::Channel(sender) => {
                // Whoever finds the thread gone learns it from the answer that never comes.
                let _ = sender.as_ref().map(|sender| sender.send(waiting));
            }
        }
        answer.await.unwrap_or_else(|_| Err("the writer thread is gone".to_owned()))
    }
}

impl<T> Queue<T> {
    /// Nothing is taken only when the writer must end.
    fn take(&self, all: &mut Vec<Waiting<T>>, yields: bool) {
        if yields {
            std::thread::yield_now();
        }
        let mut waiting = unpoisoned(self.waiting.lock());
        while waiting.0.is_empty() && !waiting.1 {
            waiting = unpoisoned(self.arrived.wait(waiting));
        }
        std::mem::swap(&mut waiting.0, all);
    }
}

fn write<T>(
    batch: Batch,
    mut store: impl FnMut(&[Waiting<T>]) -> Result<(), String>,
    mut take: impl FnMut(&mut Vec<Waiting<T>>),
) {
    let mut all = Vec::new();
    loop {
        take(&mut all);
        if all.is_empty() {
            return;
        }
        match batch {
            Batch::Gathered => {
                let outcome = store(&all);
                for waiting in all.drain(..) {
                    // The task may have been given up.
                    let _ = waiting.reply.send(outcome.clone());
                }
            }
            Batch::Each => {
                for waiting in all.drain(..) {
                    let outcome = store(std::slice::from_ref(&waiting));
                    let _ = waiting.reply.send(outcome);
                }
            }
        }
    }
}

impl<T> Drop for Gather<T> {
    fn drop(&mut self) {
        match &mut self.inbox {
            Inbox::Swap(queue) => {
                unpoisoned(queue.waiting.lock()).1 = true;
                queue.arrived.notify_one();
            }
            Inbox::Channel(sender) => drop(sender.take()),
        }
        // It only ends badly when a contestant panicked, which its tasks have reported by now.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
