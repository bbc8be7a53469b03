//! The thread that an engine lives on, and the calls that wait for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::{Engine, Unit};
use crate::kernel::Halt;
use crate::{Applied, Error, ErrorKind, OperationKey, Result};

/// So many calls may wait; the next ones wait for room.
const ROOM: usize = 1024;
/// So many calls share a transaction at most.
const BATCH: usize = 256;

/// What fails concerns this look alone.
type Look<T> = dyn FnMut(&dyn Unit) -> Result<T> + Send;
/// It halts as `Failed` where a part of it may have been put: then nothing of the transaction stands, and it is run again.
type Change<T> = dyn FnMut(&mut dyn Unit) -> Result<T, Halt> + Send;

/// What a call does on the engine's thread.
pub(super) enum Work<T> {
    Look(Box<Look<T>>),
    Change(Box<Change<T>>),
}

impl<T> Work<T> {
    pub(super) fn look(look: impl FnMut(&dyn Unit) -> Result<T> + Send + 'static) -> Self {
        Self::Look(Box::new(look))
    }
    pub(super) fn change(change: impl FnMut(&mut dyn Unit) -> Result<T, Halt> + Send + 'static) -> Self {
        Self::Change(Box::new(change))
    }
}

/// How far a call is.
const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const GIVEN_UP: u8 = 2;

/// A call with its answer.
struct Task<T> {
    work: Work<T>,
    answer: Option<Result<T>>,
    to: oneshot::Sender<Result<T>>,
    stage: Arc<AtomicU8>,
}

/// [`Task`], whatever it answers.
trait Queued: Send {
    fn is_look(&self) -> bool;
    /// Whether somebody still waits for it. From then on its caller cannot say that it was not applied.
    fn begin(&self) -> bool;
    /// Runs it and keeps its answer. It fails when nothing of the transaction may stand.
    fn run(&mut self, unit: &mut dyn Unit) -> Result<()>;
    /// Runs a look and keeps its answer.
    fn look(&mut self, unit: &dyn Unit);
    /// Gives the answer that was kept, or says why the transaction failed.
    fn answer(self: Box<Self>, committed: Result<()>);
}

impl<T: Send> Queued for Task<T> {
    fn is_look(&self) -> bool {
        matches!(self.work, Work::Look(_))
    }
    fn begin(&self) -> bool {
        let begun = self.stage.compare_exchange(WAITING, BEGUN, Ordering::SeqCst, Ordering::SeqCst);
        begun != Err(GIVEN_UP) && !self.to.is_closed()
    }
    fn run(&mut self, unit: &mut dyn Unit) -> Result<()> {
        self.answer = Some(match &mut self.work {
            Work::Look(look) => look(unit),
            Work::Change(change) => match change(unit) {
                Ok(answer) => Ok(answer),
                Err(Halt::Failed(error)) => return Err(error),
                Err(halt) => Err(halt.into_error()),
            },
        });
        Ok(())
    }
    fn look(&mut self, unit: &dyn Unit) {
        if let Work::Look(look) = &mut self.work {
            self.answer = Some(look(unit));
        }
    }
    fn answer(self: Box<Self>, committed: Result<()>) {
        let missing = || Err(Error::internal("a transaction ended without having run what it was for"));
        let Self { answer, to, .. } = *self;
        // Whoever asked may be gone.
        let _ = to.send(committed.and_then(|()| answer.unwrap_or_else(missing)));
    }
}

/// What comes to the thread.
enum Message {
    Task { task: Box<dyn Queued>, is_alone: bool },
    Close(oneshot::Sender<()>),
}

/// The way to the thread.
#[derive(Debug)]
pub(super) struct Queue {
    sender: mpsc::Sender<Message>,
    deadline: Duration,
    closed: AtomicBool,
}

impl Queue {
    pub(super) fn start(engine: impl Engine, deadline: Duration) -> Result<Self> {
        let (sender, receiver) = mpsc::channel(ROOM);
        let thread = std::thread::Builder::new().name("storage".to_owned());
        thread
            .spawn(move || live(engine, receiver))
            .map_err(|error| Error::internal("the store has no thread").caused_by(error))?;
        Ok(Self { sender, deadline, closed: AtomicBool::new(false) })
    }

    pub(super) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::SeqCst) { Err(Error::closed()) } else { Ok(()) }
    }

    /// Runs work on the thread, beside others, and waits for its answer, at most for the deadline. `key`: what settles a change
    /// whose answer is lost.
    pub(super) async fn call<T: Send + 'static>(&self, work: Work<T>, key: Option<OperationKey>) -> Result<T> {
        let stage = Arc::new(AtomicU8::new(WAITING));
        let is_look = matches!(work, Work::Look(_));
        let answer = tokio::time::timeout(self.deadline, self.send(work, false, Arc::clone(&stage))).await;
        let answer = answer.unwrap_or_else(|_| {
            let busy = Error::new(ErrorKind::Busy { waited: self.deadline });
            let given_up = stage.compare_exchange(WAITING, GIVEN_UP, Ordering::SeqCst, Ordering::SeqCst);
            Err(if given_up.is_ok() { busy } else { busy.unknown(None) })
        });
        answer.map_err(|error| match error.applied() {
            Applied::Unknown if is_look => error.not_applied(),
            Applied::Unknown => error.unknown(key),
            Applied::No => error,
        })
    }

    /// Runs work with nothing beside it, for as long as it takes.
    pub(super) async fn call_alone<T: Send + 'static>(&self, work: Work<T>) -> Result<T> {
        self.send(work, true, Arc::default()).await
    }

    async fn send<T: Send + 'static>(&self, work: Work<T>, is_alone: bool, stage: Arc<AtomicU8>) -> Result<T> {
        let (to, answer) = oneshot::channel();
        let task = Box::new(Task { work, answer: None, to, stage: Arc::clone(&stage) });
        if self.sender.send(Message::Task { task, is_alone }).await.is_err() {
            return Err(self.ended());
        }
        answer.await.unwrap_or_else(|_| {
            let ended = self.ended();
            Err(if stage.load(Ordering::SeqCst) == BEGUN { ended.unknown(None) } else { ended })
        })
    }

    /// Why there is no thread any more.
    fn ended(&self) -> Error {
        let panicked = || Error::internal("the store's thread ended; open the store again");
        self.check_open().err().unwrap_or_else(panicked)
    }

    /// Lets what began before end, and then the engine.
    pub(super) async fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let (to, done) = oneshot::channel();
        if self.sender.send(Message::Close(to)).await.is_ok() {
            // An error says that the thread is gone, and with it the engine.
            let _ = done.await;
        }
    }
}

/// The thread. When serving has ended, also by a panic, the engine is gone. Then every call that is left is dropped, one that is being
/// sent at this moment too, so that no caller waits for an answer that never comes.
fn live(engine: impl Engine, mut receiver: mpsc::Receiver<Message>) {
    // The panic hook has reported it, and nobody joins this thread.
    let _ = catch_unwind(AssertUnwindSafe(|| serve(engine, &mut receiver)));
    receiver.close();
    while receiver.blocking_recv().is_some() {}
}

/// Serves calls in their order, those that wait in one transaction.
fn serve(mut engine: impl Engine, receiver: &mut mpsc::Receiver<Message>) {
    let mut next = receiver.blocking_recv();
    while let Some(message) = next.take() {
        match message {
            Message::Close(done) => {
                drop(engine);
                // Whoever closed may be gone.
                let _ = done.send(());
                return;
            }
            Message::Task { task, is_alone: true } => serve_batch(&mut engine, vec![task]),
            Message::Task { task, is_alone: false } => {
                let mut batch = vec![task];
                while batch.len() < BATCH {
                    match receiver.try_recv() {
                        Ok(Message::Task { task, is_alone: false }) => batch.push(task),
                        Ok(other) => {
                            next = Some(other);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                serve_batch(&mut engine, batch);
            }
        }
        next = next.or_else(|| receiver.blocking_recv());
    }
}

/// Serves calls by one transaction. Nothing is answered before it is committed: whoever looked has seen what others in it put.
fn serve_batch(engine: &mut impl Engine, mut batch: Vec<Box<dyn Queued>>) {
    let mut was_stopped = false;
    let committed = if batch.iter().all(|task| task.is_look()) {
        engine.look(&mut |unit| {
            // Only now: until the transaction has begun a call can be given up without a doubt.
            for task in batch.iter_mut().filter(|task| task.begin()) {
                task.look(unit);
            }
            Ok(())
        })
    } else {
        engine.together(&mut |unit| {
            let outcome = batch.iter_mut().filter(|task| task.begin()).try_for_each(|task| task.run(unit));
            was_stopped = outcome.is_err();
            outcome
        })
    };
    if was_stopped && batch.len() > 1 {
        // One of them cannot be written. Alone it stops nobody else.
        for task in batch {
            serve_batch(engine, vec![task]);
        }
        return;
    }
    let (looks, changes): (Vec<_>, Vec<_>) = batch.into_iter().partition(|task| task.is_look());
    let must_look_again = committed.is_err() && !changes.is_empty() && !looks.is_empty();
    for task in changes {
        task.answer(committed.clone());
    }
    if must_look_again {
        // They saw changes that do not stand. A look may succeed where a change cannot.
        serve_batch(engine, looks);
    } else {
        for task in looks {
            task.answer(committed.clone());
        }
    }
}
