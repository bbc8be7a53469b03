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
use crate::lists::{Start, UserMap};
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
    /// What dumps and audits may still have to look at, by their numbers.
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

/// A moment that is kept for as long as this lives.
pub(crate) struct Looked {
    pub(crate) shared: Arc<Shared>,
    number: u64,
    pub(crate) ledger_end: u64,
}

impl Looked {
    pub(crate) fn begin(shared: Arc<Shared>) -> Self {
        let number = shared.dumps.fetch_add(1, Ordering::Relaxed);
        let mut state = unpoisoned(shared.state.write());
        state.moments.dumps.insert(number, Before::default());
        let ledger_end = state.position.ledger;
        drop(state);
        Self { shared, number, ledger_end }
    }
    pub(crate) fn walk(&self) -> Walk<'_> {
        Walk(&self.shared, Moment::Dump(self.number))
    }
}

impl Drop for Looked {
    fn drop(&mut self) {
        // Taken out under the locks and dropped behind them: everything may have changed meanwhile.
        let kept = unpoisoned(self.shared.state.write()).moments.dumps.remove(&self.number);
        let retired = unpoisoned(self.shared.retired.lock()).remove(&self.number);
        drop((kept, retired));
    }
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
        let all = self.jobs_by_time.after(Bound::Unbounded);
        all.filter_map(|(_, id)| self.jobs.get(id)).try_for_each(|job| each(job))
    }
    fn payments(&self, each: &mut dyn FnMut(&Payment) -> Result<()>) -> Result<()> {
        let all = self.payments_by_time.after(Bound::Unbounded);
        all.filter_map(|(_, id)| self.payments.get(id)).try_for_each(|payment| each(payment))
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
            let records;
            (records, next) =
                self.look(|state, before| piece(live(state, after.clone()), kept(before), after.clone()))?;
            records.iter().try_for_each(|(key, value)| each(key, value))?;
        }
        Ok(())
    }

    /// Looks at the state for a moment, and at what it was before.
    fn look<T>(&self, look: impl Fn(&State, &Before) -> T) -> Result<T> {
        let look = |state: &State| {
            let before = match self.1 {
                Moment::Checkpoint => state.moments.checkpoint.as_ref(),
                Moment::Dump(number) => state.moments.dumps.get(&number),
            };
            before.map(|before| look(state, before))
        };
        let looked = match self.1 {
            Moment::Checkpoint if self.0.checkpoint.cancelled.load(Ordering::Acquire) => return Err(Error::closed()),
            Moment::Checkpoint => look(&self.0.state()),
            Moment::Dump(number) => {
                let live = look(&self.0.state());
                // Whoever was too far behind has read everything anew, and kept for dumps what was there before. The
                // state is let go of first: the exchange takes the two the other way round.
                live.or_else(|| unpoisoned(self.0.retired.lock()).get(&number).and_then(|state| look(state)))
            }
        };
        looked.ok_or_else(|| Error::internal("the moment that is looked at was given up"))
    }
}

/// One user's records.
impl Walk<'_> {
    pub(crate) fn account(&self, user: UserId) -> Result<Option<Account>> {
        self.look(|state, before| before.accounts.get(&user).map_or_else(|| state.account(user).cloned(), Clone::clone))
    }
    /// The newest first.
    pub(crate) fn holds_of(&self, user: UserId, each: &mut dyn FnMut(&Hold) -> Result<()>) -> Result<()> {
        let hold = |state: &State, before: &Before, _, name: &HoldName| {
            let key = (user, name.clone());
            before.holds.get(&key).map_or_else(|| state.holds.get(&key).cloned(), Clone::clone)
        };
        self.of_user(user, |state| &state.holds_by_user, hold, |hold| each(&hold))
    }
    /// The newest first.
    pub(crate) fn payments_of(&self, user: UserId, each: &mut dyn FnMut(&Payment) -> Result<()>) -> Result<()> {
        let payment = |state: &State, before: &Before, at, id: &PaymentId| {
            before.payments.get(&(at, id.clone())).map_or_else(|| state.payments.get(id).cloned(), Clone::clone)
        };
        self.of_user(user, |state| &state.payments_by_user, payment, |payment| each(&payment))
    }

    /// For records that keep their place for good: then whatever there was at the moment stands in the index.
    fn of_user<Id: Ord + Clone, S, V>(
        &self,
        user: UserId,
        index: impl Fn(&State) -> &UserMap<Id, S>,
        record: impl Fn(&State, &Before, Timestamp, &Id) -> Option<V>,
        mut each: impl FnMut(V) -> Result<()>,
    ) -> Result<()> {
        let mut after = None;
        loop {
            let piece: Vec<_> = self.look(|state, before| {
                let entries = index(state).newest_of(user, Start::behind(after.clone())).take(PIECE);
                entries.map(|(at, id, _)| (at, id.clone(), record(state, before, at, id))).collect()
            })?;
            let Some((at, id, _)) = piece.last() else { return Ok(()) };
            after = Some((*at, id.clone()));
            piece.into_iter().filter_map(|(.., record)| record).try_for_each(&mut each)?;
        }
    }
}

/// Records that are shared instead of copied, for whoever keeps many.
impl Walk<'_> {
    pub(crate) fn shared_jobs(&self, each: &mut dyn FnMut(&Arc<Job>) -> Result<()>) -> Result<()> {
        let live = |state: &State, after| {
            let rest = state.jobs_by_time.after(after).take(PIECE);
            rest.filter_map(|(at, id)| Some(((at, id.clone()), Arc::clone(state.jobs.get(id)?)))).collect()
        };
        self.walk(|before| &before.jobs, live, |_, job| each(job))
    }
    pub(crate) fn shared_payments(&self, each: &mut dyn FnMut(&Arc<Payment>) -> Result<()>) -> Result<()> {
        let live = |state: &State, after| {
            let rest = state.payments_by_time.after(after).take(PIECE);
            rest.filter_map(|(at, id)| Some(((at, id.clone()), Arc::clone(state.payments.get(id)?)))).collect()
        };
        self.walk(|before| &before.payments, live, |_, payment| each(payment))
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
        self.shared_jobs(&mut |job| each(job))
    }
    fn payments(&self, each: &mut dyn FnMut(&Payment) -> Result<()>) -> Result<()> {
        self.shared_payments(&mut |payment| each(payment))
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
