//! The attempts of one operation: what became of each, whether there is another, and what is told in the end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use storage_core::kernel::Atom;
use storage_core::{Applied, Error, ErrorKind, OperationKey, Result, UserId};
use tokio::time::{Instant, sleep, timeout};

use crate::fault::{Fault, Remedy};
use crate::pool::{Link, Pool};
use crate::queues::{Lock, Turn, Waiting};
use crate::store::PgStorage;

/// Tries again after this long at first, then after twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// So often may the server ask for another try before the caller is asked.
const MOST_JUDGEMENTS: u32 = 100;
/// So often may somebody else have been first. The next judgement sees them, unless the tables contradict each other.
const MOST_TWINS: u32 = 8;

/// What is said of a row that others kept for too long.
pub(crate) const ROW_IS_HELD: &str = "earlier changes of the same user did not end in time: somebody holds the row, or every connection is in use; look into \
     pg_stat_activity";

/// Of a row that somebody holds and that was not to be waited for.
fn not_waited_for() -> Error {
    Error::new(ErrorKind::Busy { waited: Duration::ZERO }).message(ROW_IS_HELD)
}

/// Whether an error is about such a row.
pub(crate) fn was_not_waited_for(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Busy { waited: Duration::ZERO }) && error.applied() == Applied::No
}

/// At most two users, and the chains.
pub(crate) type Turns = [Option<Turn>; 3];

/// What an operation knows of its attempts.
pub(crate) struct Course<'k> {
    key: &'k OperationKey,
    /// Whether something was sent that may have been applied, and no answer came.
    unsure: AtomicBool,
}

impl<'k> Course<'k> {
    /// Of the operation that has this key.
    pub(crate) fn new(key: &'k OperationKey) -> Self {
        Self { key, unsure: AtomicBool::new(false) }
    }

    /// Whether something that was sent may have been applied.
    fn is_unsure(&self) -> bool {
        self.unsure.load(Ordering::Acquire)
    }

    /// The atom for the next attempt. An earlier one may stand: then its key tells.
    pub(crate) fn atom(&self, atom: &Atom) -> Atom {
        if self.is_unsure() { atom.again() } else { atom.clone() }
    }

    /// Something was applied whose answer is of no use.
    pub(crate) fn doubt(&self) {
        self.unsure.store(true, Ordering::Release);
    }

    /// Waits for something that applies a change. Until its answer is there, nobody knows whether it did.
    pub(crate) async fn sent<T>(
        &self,
        sending: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Fault> {
        let was_unsure = self.unsure.swap(true, Ordering::AcqRel);
        let answer = sending.await.map_err(Fault::from);
        let doubtful = answer.as_ref().is_err_and(Fault::leaves_doubt);
        self.unsure.store(was_unsure || doubtful, Ordering::Release);
        answer
    }

    /// Says whether anything may have been applied.
    pub(crate) fn mark(&self, error: Error) -> Error {
        if self.is_unsure() { error.unknown(Some(self.key.clone())) } else { error.not_applied() }
    }
}

/// The attempts of one operation.
pub(crate) struct Attempts<'s, 'c> {
    storage: &'s PgStorage,
    pool: &'s Pool,
    course: Option<&'c Course<'c>>,
    begun: Instant,
    lock: Option<Lock>,
    /// To whom the id leads whose owner is locked, once somebody else was seen to hold the row.
    owner: Option<UserId>,
    /// Whether it stood behind others of its user.
    behind: bool,
    pause: Duration,
    judgements: u32,
    twins: u32,
    /// Whether a connection was given up for its prepared statements.
    anew: bool,
    /// Why there is another attempt.
    before: Option<Error>,
}

impl<'s, 'c> Attempts<'s, 'c> {
    /// Of an operation that began at a moment: what it waited for before is a part of its time.
    pub(crate) fn new(
        storage: &'s PgStorage,
        pool: &'s Pool,
        changes: Option<(&'c Course<'c>, Lock)>,
        begun: Instant,
    ) -> Self {
        let (course, lock) = changes.unzip();
        let (owner, behind, pause) = (None, false, FIRST_PAUSE);
        Self {
            storage,
            pool,
            course,
            begun,
            lock,
            owner,
            behind,
            pause,
            judgements: 0,
            twins: 0,
            anew: false,
            before: None,
        }
    }

    /// How this attempt waits for rows that somebody holds.
    pub(crate) fn waiting(&self) -> Waiting {
        let waits = self.lock.is_none_or(|lock| lock.may_wait(self.owner));
        Waiting { waits, gives_way: matches!(self.lock, Some(Lock::Chains(..))) }
    }

    /// The turns at what is going to be locked; waits for them without a connection.
    pub(crate) async fn turns(&mut self) -> Result<Turns> {
        let queues = self.storage.queues();
        let mut turns = Turns::default();
        let Some(lock) = self.lock else { return Ok(turns) };
        for (queue, turn) in lock.queues(self.owner).into_iter().zip(&mut turns) {
            let Some(queue) = queue else { continue };
            *turn = queues.try_take(queue);
            if turn.is_none() && matches!(lock, Lock::Free(_)) {
                return Err(self.marked(not_waited_for()));
            }
            if turn.is_none() {
                self.behind = true;
                *turn =
                    timeout(self.storage.limits().for_turn(self.left()), queues.take(queue)).await.unwrap_or_default();
            }
            if turn.is_none() {
                let late = self.pool.late(self.begun.elapsed(), ROW_IS_HELD);
                let error = self.before.take().unwrap_or(late);
                return Err(self.ended(error));
            }
        }
        Ok(turns)
    }

    /// What is left of the operation's time. One limit for each wait, cut to this, is one timer less than a second one
    /// around them all.
    fn left(&self) -> Duration {
        self.storage.limits().operation.saturating_sub(self.begun.elapsed())
    }

    /// A connection. What cannot be reached may be back in a moment: a server that restarts, a standby that takes over, a name that
    /// leads to the primary again.
    pub(crate) async fn link(&mut self) -> Result<Link<'s>> {
        loop {
            // Whoever may have to wait for a row goes on only when there is time for that.
            let limit = match self.lock {
                Some(Lock::User(_) | Lock::Owner | Lock::Chains(..)) => self.storage.limits().for_turn(self.left()),
                _ => self.left(),
            };
            match self.pool.checkout(limit).await {
                Ok(link) => return Ok(link),
                Err(error) if self.may_come_back(&error) => {
                    if !self.was_standby() {
                        self.before = Some(error);
                    }
                    self.rest().await;
                }
                // That the time is over says less than what used it up.
                Err(error) => {
                    let error = self.before.take().unwrap_or(error);
                    return Err(self.ended(error));
                }
            }
        }
    }

    /// Whether it is worth trying again to connect. A server that takes no writes may be promoted, and is waited for until the
    /// operation's time is over; one that cannot be reached at all, for as long as for a connection.
    fn may_come_back(&self, error: &Error) -> bool {
        match error.kind() {
            ErrorKind::ReadOnly => !self.left().is_zero(),
            ErrorKind::Unavailable if self.was_standby() => !self.left().is_zero(),
            ErrorKind::Unavailable => self.begun.elapsed() < self.storage.limits().pool,
            _ => false,
        }
    }

    fn was_standby(&self) -> bool {
        self.before.as_ref().is_some_and(|before| matches!(before.kind(), ErrorKind::ReadOnly))
    }

    /// One attempt, as long as the server may take and the operation has.
    pub(crate) async fn bounded<T>(&self, attempt: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let limit = self.storage.limits().statement.min(self.left());
        timeout(limit, attempt).await.unwrap_or(Err(Fault::Silent(limit)))
    }

    /// What an attempt's outcome comes to; `None`: another attempt.
    pub(crate) async fn settled<T>(
        &mut self,
        (turns, mut link): (Turns, Link<'s>),
        outcome: Result<T, Fault>,
    ) -> Option<Result<T>> {
        let fault = match outcome {
            Ok(answer) => {
                link.finished();
                return Some(Ok(answer));
            }
            Err(fault) => fault,
        };
        let remedy = fault.remedy();
        let has_tries = match remedy {
            Remedy::Report | Remedy::InTurn => false,
            Remedy::Again if fault.is_twin() || matches!(fault, Fault::Overtaken) => {
                self.twins += 1;
                self.twins < MOST_TWINS
            }
            Remedy::Again => {
                self.judgements += 1;
                // A wait for a row begins when the server can end it.
                let has_time = !fault.is_lock_timeout() || !self.storage.limits().for_turn(self.left()).is_zero();
                has_time && self.judgements < MOST_JUDGEMENTS
            }
            Remedy::Reconnect | Remedy::Elsewhere => true,
            Remedy::Anew => !std::mem::replace(&mut self.anew, true),
        };
        if matches!(remedy, Remedy::Reconnect | Remedy::Elsewhere) {
            link.lost();
        } else {
            link.finished();
        }
        drop(link);
        drop(turns);
        if let Fault::Held(user) = fault {
            if self.lock == Some(Lock::Owner) {
                self.owner = Some(user);
                return None;
            }
            return Some(Err(self.marked(not_waited_for())));
        }
        if remedy == Remedy::Anew {
            // Those of every other connection are as old.
            self.pool.forget_prepared();
        }
        if remedy == Remedy::Elsewhere || matches!(fault, Fault::Silent(_)) {
            self.pool.doubt();
        }
        // An attempt that the operation's own end cut short says nothing; the one before it knows why there was another.
        let cut_short = matches!(fault, Fault::Silent(limit) if limit < self.storage.limits().statement);
        // What had next to no time was not silent: what came before it took the time.
        let had_no_time = matches!(fault, Fault::Silent(limit) if limit < self.begun.elapsed() / 4);
        let error = match self.before.take() {
            Some(before) if cut_short => before,
            None if cut_short && self.behind => self.pool.late(self.begun.elapsed(), ROW_IS_HELD),
            None if had_no_time => self.pool.busy(),
            _ => fault.into_error(),
        };
        if has_tries && !self.left().is_zero() {
            self.before = Some(error);
            self.rest().await;
            return None;
        }
        Some(Err(self.ended(error)))
    }

    /// The operation's last word: whatever was given up, the caller waited all the while.
    fn ended(&self, error: Error) -> Error {
        let waited = self.begun.elapsed();
        let error = match error.kind() {
            ErrorKind::Busy { .. } => error.with_kind(ErrorKind::Busy { waited }),
            _ => error,
        };
        self.marked(error)
    }

    /// A read applies nothing.
    fn marked(&self, error: Error) -> Error {
        match self.course {
            Some(course) => course.mark(error),
            None => error.not_applied(),
        }
    }

    /// Pauses for a time that no two wait alike.
    async fn rest(&mut self) {
        sleep(self.pause * self.storage.jitter() / 1024).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}
