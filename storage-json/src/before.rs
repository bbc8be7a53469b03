//! A look at the whole store as it was at one moment, taken piece by piece while writing goes on.
//!
//! From that moment on, whoever changes a record first keeps what it was before (copy on write, as a snapshot of a
//! block device does it). The walker reads a few hundred records at a time under the state's lock, takes those that
//! changed from what was kept, and never sees what came later.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use storage_core::{
    Error, Generation, GenerationId, Hold, HoldName, Job, JobId, Payment, PaymentId, Result, Timestamp, UserId,
};

use crate::engine::{Shared, unpoisoned};
use crate::state::{Account, State};

/// What records were; `None` for one that was not there.
type Kept<K, V> = BTreeMap<K, Option<V>>;

/// Records as they were at the moment, those that changed since.
#[derive(Debug, Default)]
pub(crate) struct Before {
    pub(crate) accounts: Kept<UserId, Account>,
    pub(crate) holds: Kept<(UserId, HoldName), Arc<Hold>>,
    pub(crate) jobs: Kept<(Timestamp, JobId), Arc<Job>>,
    pub(crate) payments: Kept<(Timestamp, PaymentId), Arc<Payment>>,
    pub(crate) history: Kept<(UserId, Timestamp, GenerationId), Arc<Generation>>,
}

/// The moments that somebody looks at.
#[derive(Debug, Default)]
pub(crate) struct Moments {
    /// What a checkpoint that is being written may still have to write.
    pub(crate) checkpoint: Option<Before>,
    /// What dumps may still have to write, by their numbers.
    pub(crate) dumps: BTreeMap<u64, Before>,
}

impl Moments {
    /// Those for which what changes now has to be kept.
    pub(crate) fn all(&mut self) -> impl Iterator<Item = &mut Before> {
        self.checkpoint.iter_mut().chain(self.dumps.values_mut())
    }
}

/// Which moment a walk looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Checkpoint,
    Dump(u64),
}

/// Hands out all records of a kind, in the order of the files.
pub(crate) trait Records {
    fn accounts(&self, each: &mut dyn FnMut(&Account) -> Result<()>) -> Result<()>;
    fn holds(&self, each: &mut dyn FnMut(&Hold) -> Result<()>) -> Result<()>;
    fn jobs(&self, each: &mut dyn FnMut(&Job) -> Result<()>) -> Result<()>;
    fn payments(&self, each: &mut dyn FnMut(&Payment) -> Result<()>) -> Result<()>;
    fn history(&self, each: &mut dyn FnMut(UserId, &Generation) -> Result<()>) -> Result<()>;
}

impl Records for State {
    fn accounts(&self, each: &mut dyn FnMut(&Account) -> Result<()>) -> Result<()> {
        self.accounts.values().try_for_each(each)
    }
    fn holds(&self, each: &mut dyn FnMut(&Hold) -> Result<()>) -> Result<()> {
        self.holds.values().try_for_each(|hold| each(hold))
    }
    fn jobs(&self, each: &mut dyn FnMut(&Job) -> Result<()>) -> Result<()> {
        self.jobs_by_time.iter().filter_map(|(_, id)| self.jobs.get(id)).try_for_each(|job| each(job))
    }
    fn payments(&self, each: &mut dyn FnMut(&Payment) -> Result<()>) -> Result<()> {
        self.payments_by_time.iter().filter_map(|(_, id)| self.payments.get(id)).try_for_each(|payment| each(payment))
    }
    fn history(&self, each: &mut dyn FnMut(UserId, &Generation) -> Result<()>) -> Result<()> {
        self.history.all().try_for_each(|(user, generation)| each(user, generation))
    }
}

/// How many records are taken under one hold of the lock: enough to make the lock cheap, too few for a writer to notice.
const PIECE: usize = 256;

/// The store as it was at a moment of [`State::moments`].
pub(crate) struct Walk<'a>(pub(crate) &'a Shared, pub(crate) Moment);

/// The live records of a piece, those that changed replaced by what they were. Answers where the next piece begins.
fn piece<K: Ord + Clone, V: Clone>(
    live: Vec<(K, V)>,
    kept: &Kept<K, V>,
    after: Bound<K>,
) -> (Vec<(K, V)>, Option<Bound<K>>) {
    let last = live.last().filter(|_| live.len() == PIECE).map(|(key, _)| key.clone());
    let upto = last.clone().map_or(Bound::Unbounded, Bound::Included);
    let range = (after, upto);
    let mut changed = kept.range(range.clone()).filter(|(key, _)| range.contains(key)).peekable();
    let was = |(key, old): (&K, &Option<V>)| Some((key.clone(), old.clone()?));
    let mut records = Vec::with_capacity(live.len());
    for (key, value) in live {
        while let Some(gone) = changed.next_if(|(changed, _)| **changed < key) {
            records.extend(was(gone));
        }
        match changed.next_if(|(changed, _)| **changed == key) {
            Some(old) => records.extend(was(old)),
            None => records.push((key, value)),
        }
    }
    records.extend(changed.filter_map(was));
    (records, last.map(Bound::Excluded))
}

impl Walk<'_> {
    fn walk<K: Ord + Clone, V: Clone>(
        &self,
        kept: impl Fn(&Before) -> &Kept<K, V>,
        live: impl Fn(&State, Bound<K>) -> Vec<(K, V)>,
        mut each: impl FnMut(&K, &V) -> Result<()>,
    ) -> Result<()> {
        let mut next = Some(Bound::Unbounded);
        while let Some(after) = next {
            let look = |state: &State| {
                let before = match self.1 {
                    Moment::Checkpoint => state.moments.checkpoint.as_ref(),
                    Moment::Dump(number) => state.moments.dumps.get(&number),
                };
                before.map(|before| piece(live(state, after.clone()), kept(before), after.clone()))
            };
            let looked = match self.1 {
                Moment::Checkpoint if self.0.checkpoint.cancelled.load(Ordering::Acquire) => {
                    return Err(Error::closed());
                }
                Moment::Checkpoint => look(&self.0.state()),
                Moment::Dump(number) => {
                    let live = look(&self.0.state());
                    // Whoever was too far behind has read everything anew, and kept for dumps what was there before. The
                    // state is let go of first: the exchange takes the two the other way round.
                    live.or_else(|| unpoisoned(self.0.retired.lock()).get(&number).and_then(|state| look(state)))
                }
            };
            let records;
            (records, next) = looked.ok_or_else(|| Error::internal("the moment that is looked at was given up"))?;
            records.iter().try_for_each(|(key, value)| each(key, value))?;
        }
        Ok(())
    }
}

/// Records that are shared instead of copied, for whoever keeps many.
impl Walk<'_> {
    pub(crate) fn shared_jobs(&self, each: &mut dyn FnMut(&Arc<Job>)) -> Result<()> {
        let live = |state: &State, after| {
            let rest = state.jobs_by_time.range((after, Bound::Unbounded)).take(PIECE);
            rest.filter_map(|key| Some((key.clone(), Arc::clone(state.jobs.get(&key.1)?)))).collect()
        };
        self.walk(
            |before| &before.jobs,
            live,
            |_, job| {
                each(job);
                Ok(())
            },
        )
    }
    pub(crate) fn shared_payments(&self, each: &mut dyn FnMut(&Arc<Payment>)) -> Result<()> {
        let live = |state: &State, after| {
            let rest = state.payments_by_time.range((after, Bound::Unbounded)).take(PIECE);
            rest.filter_map(|key| Some((key.clone(), Arc::clone(state.payments.get(&key.1)?)))).collect()
        };
        self.walk(
            |before| &before.payments,
            live,
            |_, payment| {
                each(payment);
                Ok(())
            },
        )
    }
}

impl Records for Walk<'_> {
    fn accounts(&self, each: &mut dyn FnMut(&Account) -> Result<()>) -> Result<()> {
        let live = |state: &State, after| {
            let rest = state.accounts.range((after, Bound::Unbounded));
            rest.take(PIECE).map(|(user, account)| (*user, account.clone())).collect()
        };
        self.walk(|before| &before.accounts, live, |_, account| each(account))
    }
    fn holds(&self, each: &mut dyn FnMut(&Hold) -> Result<()>) -> Result<()> {
        let live = |state: &State, after| {
            let rest = state.holds.range((after, Bound::Unbounded));
            rest.take(PIECE).map(|(key, hold)| (key.clone(), Arc::clone(hold))).collect()
        };
        self.walk(|before| &before.holds, live, |_, hold| each(hold))
    }
    fn jobs(&self, each: &mut dyn FnMut(&Job) -> Result<()>) -> Result<()> {
        let live = |state: &State, after| {
            let rest = state.jobs_by_time.range((after, Bound::Unbounded)).take(PIECE);
            rest.filter_map(|key| Some((key.clone(), Arc::clone(state.jobs.get(&key.1)?)))).collect()
        };
        self.walk(|before| &before.jobs, live, |_, job| each(job))
    }
    fn payments(&self, each: &mut dyn FnMut(&Payment) -> Result<()>) -> Result<()> {
        let live = |state: &State, after| {
            let rest = state.payments_by_time.range((after, Bound::Unbounded)).take(PIECE);
            rest.filter_map(|key| Some((key.clone(), Arc::clone(state.payments.get(&key.1)?)))).collect()
        };
        self.walk(|before| &before.payments, live, |_, payment| each(payment))
    }
    fn history(&self, each: &mut dyn FnMut(UserId, &Generation) -> Result<()>) -> Result<()> {
        let live = |state: &State, after: Bound<(UserId, Timestamp, GenerationId)>| {
            let rest = state.history.after(after).take(PIECE);
            rest.map(|(key, generation)| (key, Arc::clone(generation))).collect()
        };
        self.walk(|before| &before.history, live, |(user, ..), generation| each(*user, generation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Records change, come and go between the pieces of a walk, and what is seen is what was there at its beginning.
        #[test]
        fn a_walk_sees_the_moment_of_its_beginning(
            first in proptest::collection::btree_map(0_u16..2000, any::<u8>(), 0..1500),
            changes in proptest::collection::vec((0_u16..2000, any::<Option<u8>>()), 0..400),
            at_a_time in 1_usize..60,
        ) {
            let (mut live, mut kept) = (first.clone(), Kept::new());
            let (mut seen, mut next) = (Vec::new(), Some(Bound::Unbounded));
            let mut changes = changes.chunks(at_a_time);
            while let Some(after) = next {
                let ahead = live.range((after, Bound::Unbounded)).take(PIECE).map(|(key, value)| (*key, *value)).collect();
                let (records, then) = piece(ahead, &kept, after);
                seen.extend(records);
                next = then;
                for (key, value) in changes.next().unwrap_or_default() {
                    kept.entry(*key).or_insert_with(|| live.get(key).copied());
                    match value {
                        Some(value) => live.insert(*key, *value),
                        None => live.remove(key),
                    };
                }
            }
            prop_assert_eq!(seen, first.into_iter().collect::<Vec<_>>());
        }
    }
}
