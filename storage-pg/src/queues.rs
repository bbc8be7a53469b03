//! Changes of one user wait for each other here, before they take a connection: a user whose row somebody holds costs one
//! connection, and everybody else has the others.
//!
//! This orders nothing that counts. Other programs have queues of their own, and what keeps two changes apart is the row's lock.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use storage_core::UserId;
use storage_core::kernel::{self, Atom};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a change locks, as far as its arguments tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    User(UserId),
    /// A user who is passed over when somebody else holds the row or waits for it.
    Free(UserId),
    /// The user to whom an id leads. Who that is shows when the row is seen.
    Owner,
    /// The lock of all referral chains, and two users.
    Chains(UserId, UserId),
    /// Many users, one after the other: an import, which nobody waits for.
    Many,
}

impl Lock {
    /// What an atom locks.
    pub(crate) fn of(atom: &Atom) -> Self {
        match atom.lock() {
            kernel::Lock::User(user) => Self::User(user),
            kernel::Lock::Owner(_) => Self::Owner,
            kernel::Lock::Chains(user, referrer) => Self::Chains(user, referrer),
        }
    }

    /// The queues to stand in, in their order; `owner` is whoever was found to be the owner.
    pub(crate) fn queues(self, owner: Option<UserId>) -> [Option<Queue>; 3] {
        let user = |user| Some(Queue::User(user));
        match self {
            Self::User(one) | Self::Free(one) => [user(one), None, None],
            Self::Owner => [owner.and_then(user), None, None],
            Self::Chains(one, other) if one == other => [user(one), None, Some(Queue::Chains)],
            Self::Chains(one, other) => [user(one.min(other)), user(one.max(other)), Some(Queue::Chains)],
            Self::Many => [None; 3],
        }
    }

    /// Whether the one who holds the turns may wait for the rows. Not while the owner is unknown: many may come for one.
    pub(crate) fn may_wait(self, owner: Option<UserId>) -> bool {
        match self {
            Self::User(_) | Self::Chains(..) | Self::Many => true,
            Self::Owner => owner.is_some(),
            Self::Free(_) => false,
        }
    }
}

/// How a transaction waits for rows that somebody else holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Whether it waits for them at all.
    pub(crate) waits: bool,
    /// Whether it does one thing alone, and lets everything go rather than wait long while it has the lock of all chains.
    pub(crate) gives_way: bool,
}

/// What is waited for. Whoever needs several takes them in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Queue {
    User(UserId),
    /// The lock of all referral chains.
    Chains,
}

#[derive(Debug)]
struct Line {
    /// Those who wait, and the one whose turn it is.
    people: usize,
    /// One permit, first come, first served.
    turn: Arc<Semaphore>,
}

/// The queues in which somebody is.
#[derive(Debug, Default)]
pub(crate) struct Queues(Mutex<HashMap<Queue, Line>>);

impl Queues {
    fn lines(&self) -> MutexGuard<'_, HashMap<Queue, Line>> {
        // Every change of the map is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether whoever came now would have to wait.
    pub(crate) fn is_taken(&self, queue: Queue) -> bool {
        self.lines().contains_key(&queue)
    }

    /// The turn, if nobody is there.
    pub(crate) fn try_take(self: &Arc<Self>, queue: Queue) -> Option<Turn> {
        let turn = match self.lines().entry(queue) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(vacant) => {
                let turn = Arc::new(Semaphore::new(1));
                vacant.insert(Line { people: 1, turn: Arc::clone(&turn) });
                turn
            }
        };
        let person = Person { queues: Arc::clone(self), queue };
        // It is new, so there is a permit.
        turn.try_acquire_owned().ok().map(|permit| Turn { _permit: permit, _person: person })
    }

    /// The turn, behind those who came before. Whoever is dropped while waiting leaves.
    pub(crate) async fn take(self: &Arc<Self>, queue: Queue) -> Option<Turn> {
        let turn = {
            let mut lines = self.lines();
            let line = lines.entry(queue).or_insert_with(|| Line { people: 0, turn: Arc::new(Semaphore::new(1)) });
            line.people += 1;
            Arc::clone(&line.turn)
        };
        let person = Person { queues: Arc::clone(self), queue };
        // Nobody closes the semaphore.
        turn.acquire_owned().await.ok().map(|permit| Turn { _permit: permit, _person: person })
    }
}

/// Somebody in a queue.
#[derive(Debug)]
struct Person {
    queues: Arc<Queues>,
    queue: Queue,
}

impl Drop for Person {
    fn drop(&mut self) {
        let mut lines = self.queues.lines();
        if let Entry::Occupied(mut line) = lines.entry(self.queue) {
            line.get_mut().people -= 1;
            if line.get().people == 0 {
                line.remove();
            }
        }
    }
}

/// A turn. The next one has it when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _permit: OwnedSemaphorePermit,
    _person: Person,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt as _;
    use storage_core::{Result, UserId};

    use super::{Queue, Queues};

    #[tokio::test]
    async fn turns_are_given_in_order_and_nothing_is_left_behind() -> Result<()> {
        let (queues, one) = (Arc::new(Queues::default()), Queue::User(UserId::new(1)?));
        let first = queues.try_take(one);
        assert!(first.is_some() && queues.try_take(one).is_none() && queues.is_taken(one));
        assert!(queues.try_take(Queue::Chains).is_some(), "another queue is free");
        let mut second = Box::pin(queues.take(one));
        assert!(second.as_mut().now_or_never().is_none());
        {
            let mut gone = Box::pin(queues.take(one));
            assert!(gone.as_mut().now_or_never().is_none());
        }
        let mut third = Box::pin(queues.take(one));
        assert!(third.as_mut().now_or_never().is_none());
        drop(first);
        assert!(third.as_mut().now_or_never().is_none(), "it is the second's turn");
        let second = second.await;
        assert!(second.is_some() && queues.try_take(one).is_none());
        drop(second);
        assert!(third.await.is_some());
        assert!(queues.lines().is_empty());
        Ok(())
    }
}
