//! Indexes for the lists: by user and by time, walked from the newest entry down.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::marker::PhantomData;
use std::ops::Bound;

use storage_core::{HoldStatus, JobStatus, PaymentStatus, Timestamp, UserId};

/// An id, or the place behind every id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Edge<Id> {
    Id(Id),
    Top,
}

/// A place in time; of one moment, ids in their order.
type Place<Id> = (Timestamp, Edge<Id>);

/// Where a list begins that goes down in time: with what lies before this place.
#[derive(Clone, Debug)]
pub(crate) struct Start<Id>(Place<Id>);

impl<Id: Ord> Start<Id> {
    /// At the newest, or behind the last entry of the page before.
    pub(crate) fn behind(after: Option<(Timestamp, Id)>) -> Self {
        Self(after.map_or((Timestamp::MAX, Edge::Top), |(at, id)| (at, Edge::Id(id))))
    }
    /// Not before what is older than this; `None` when nothing can be.
    pub(crate) fn older_than(self, at: Option<Timestamp>) -> Option<Self> {
        let Some(at) = at else { return Some(self) };
        (at > Timestamp::MIN).then(|| Self(self.0.min((at.plus_micros(-1), Edge::Top))))
    }
}

/// The states of a kind of record.
pub(crate) trait Status: Copy + Eq + 'static {
    const COUNT: usize;
    /// Its number, below `COUNT`.
    fn number(self) -> usize;
    fn all() -> impl Iterator<Item = Self>;
}

macro_rules! statuses {
    ($($name:ident: $($state:ident)+;)+) => {$(
        impl Status for $name {
            const COUNT: usize = [$(Self::$state),+].len();
            fn number(self) -> usize {
                match self {
                    // All of them: the numbers leave none out.
                    $(Self::$state)|+ => self as usize,
                }
            }
            fn all() -> impl Iterator<Item = Self> {
                [$(Self::$state),+].into_iter()
            }
        }
    )+};
}

statuses! {
    PaymentStatus: Pending Approved Rejected Cancelled Refunded;
    JobStatus: Pending Running Completed Failed Cancelled;
    HoldStatus: Open Committed Released;
}

/// Ids by time, in a set for each status: a list of one status looks at nothing else, and all sets together are no larger
/// than one.
#[derive(Debug)]
pub(crate) struct StatusIndex<S, Id> {
    sets: Box<[BTreeSet<Place<Id>>]>,
    status: PhantomData<S>,
}

impl<S: Status, Id: Ord> Default for StatusIndex<S, Id> {
    fn default() -> Self {
        Self { sets: (0..S::COUNT).map(|_| BTreeSet::new()).collect(), status: PhantomData }
    }
}

impl<S: Status, Id: Ord> StatusIndex<S, Id> {
    /// Puts an id under its status, which was another one until now, or none for a new record.
    pub(crate) fn put(&mut self, at: Timestamp, id: Id, (old, new): (Option<S>, S)) {
        if old == Some(new) {
            return;
        }
        let place = (at, Edge::Id(id));
        if let Some(old) = old {
            self.sets[old.number()].remove(&place);
        }
        self.sets[new.number()].insert(place);
    }

    /// The ids of some statuses from the newest down.
    #[expect(clippy::needless_pass_by_value, reason = "what is answered would borrow it")]
    pub(crate) fn newest(
        &self,
        start: Start<Id>,
        wanted: impl Fn(S) -> bool,
    ) -> impl Iterator<Item = (Timestamp, &Id)> {
        let sets = S::all().filter(|status| wanted(*status)).map(|status| &self.sets[status.number()]);
        let parts = sets.map(|set| set.range(..&start.0).rev().peekable());
        Merged { parts: parts.collect(), first: |one, other| one > other }.filter_map(entry)
    }

    /// The ids of all statuses behind a place, in ascending order.
    pub(crate) fn after(&self, after: Bound<(Timestamp, Id)>) -> impl Iterator<Item = (Timestamp, &Id)> {
        let after = after.map(|(at, id)| (at, Edge::Id(id)));
        let parts = self.sets.iter().map(|set| set.range((after.as_ref(), Bound::Unbounded)).peekable());
        Merged { parts: parts.collect(), first: |one, other| one < other }.filter_map(entry)
    }
}

fn entry<Id>((at, id): &Place<Id>) -> Option<(Timestamp, &Id)> {
    match id {
        Edge::Id(id) => Some((*at, id)),
        Edge::Top => None,
    }
}

/// Sorted iterators as one.
struct Merged<'a, K: 'a, I: Iterator<Item = &'a K>> {
    parts: Vec<Peekable<I>>,
    /// Whether one comes before the other.
    first: fn(&K, &K) -> bool,
}

impl<'a, K: 'a, I: Iterator<Item = &'a K>> Iterator for Merged<'a, K, I> {
    type Item = &'a K;
    fn next(&mut self) -> Option<&'a K> {
        let first = self.first;
        let heads = self.parts.iter_mut().enumerate().filter_map(|(n, part)| Some((n, *part.peek()?)));
        let (n, _) = heads.reduce(|one, other| if first(other.1, one.1) { other } else { one })?;
        self.parts[n].next()
    }
}

/// Values by user, time and id, without a separate table for each user.
#[derive(Debug)]
pub(crate) struct UserMap<Id, V> {
    entries: BTreeMap<(UserId, Timestamp, Edge<Id>), V>,
}

impl<Id: Ord, V> Default for UserMap<Id, V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new() }
    }
}

impl<Id: Ord, V> UserMap<Id, V> {
    pub(crate) fn insert(&mut self, user: UserId, at: Timestamp, id: Id, value: V) -> Option<V> {
        self.entries.insert((user, at, Edge::Id(id)), value)
    }
    pub(crate) fn remove(&mut self, user: UserId, at: Timestamp, id: Id) -> Option<V> {
        self.entries.remove(&(user, at, Edge::Id(id)))
    }
    /// A user's entries from the newest down.
    pub(crate) fn newest_of(&self, user: UserId, start: Start<Id>) -> impl Iterator<Item = (Timestamp, &Id, &V)> {
        let (at, id) = start.0;
        let below = self.entries.range((Bound::Unbounded, Bound::Excluded((user, at, id)))).rev();
        below.take_while(move |(key, _)| key.0 == user).filter_map(user_entry)
    }
    /// A user's entries from the oldest up.
    pub(crate) fn oldest_of(&self, user: UserId) -> impl Iterator<Item = (Timestamp, &Id, &V)> {
        // Behind all that the users before have; no user is 0.
        let before = user.get().checked_sub(1).and_then(|id| UserId::new(id).or_else(|_| UserId::new(-1)).ok());
        let floor = before.map_or(Bound::Unbounded, |user| Bound::Excluded((user, Timestamp::MAX, Edge::Top)));
        let above = self.entries.range((floor, Bound::Unbounded));
        above.take_while(move |(key, _)| key.0 == user).filter_map(user_entry)
    }
    /// The entries behind a place, in ascending order.
    pub(crate) fn after(
        &self,
        after: Bound<(UserId, Timestamp, Id)>,
    ) -> impl Iterator<Item = ((UserId, Timestamp, Id), &V)>
    where
        Id: Clone,
    {
        let after = after.map(|(user, at, id)| (user, at, Edge::Id(id)));
        self.entries.range((after, Bound::Unbounded)).filter_map(|((user, at, id), value)| match id {
            Edge::Id(id) => Some(((*user, *at, id.clone()), value)),
            Edge::Top => None,
        })
    }
    /// All entries, by ascending user.
    pub(crate) fn all(&self) -> impl Iterator<Item = (UserId, &V)> {
        self.entries.iter().map(|((user, ..), value)| (*user, value))
    }
}

fn user_entry<'a, Id, V>(
    ((_, at, id), value): (&'a (UserId, Timestamp, Edge<Id>), &'a V),
) -> Option<(Timestamp, &'a Id, &'a V)> {
    match id {
        Edge::Id(id) => Some((*at, id, value)),
        Edge::Top => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_numbers_of_statuses_are_places() {
        fn check<S: Status>() {
            assert_eq!(S::all().map(Status::number).collect::<Vec<_>>(), (0..S::COUNT).collect::<Vec<_>>());
        }
        check::<PaymentStatus>();
        check::<JobStatus>();
        check::<HoldStatus>();
    }

    #[test]
    fn the_first_user_and_the_one_behind_zero_have_their_oldest() {
        let mut map = UserMap::default();
        for user in [i64::MIN, -1, 1, 2, i64::MAX] {
            for at in [Timestamp::MIN, Timestamp::MAX] {
                map.insert(UserId::new(user).unwrap(), at, user, ());
            }
        }
        for user in [i64::MIN, -1, 1, 2, i64::MAX] {
            let of = UserId::new(user).unwrap();
            let oldest: Vec<_> = map.oldest_of(of).map(|(at, id, ())| (at, *id)).collect();
            assert_eq!(oldest, [(Timestamp::MIN, user), (Timestamp::MAX, user)]);
            let newest: Vec<_> = map.newest_of(of, Start::behind(None)).map(|(at, id, ())| (at, *id)).collect();
            assert_eq!(newest, [(Timestamp::MAX, user), (Timestamp::MIN, user)]);
        }
    }

    proptest! {
        /// A list of some statuses from a place on is what is left of all records, sorted.
        #[test]
        fn lists_of_statuses_are_what_a_scan_finds(
            puts in proptest::collection::vec((0_u8..40, 0_usize..3), 0..200),
            wanted in proptest::collection::vec(any::<bool>(), 3),
            after in proptest::option::of((0_i64..8, 0_u8..40)),
            older in proptest::option::of(0_i64..8),
        ) {
            let at = |micros: i64| Timestamp::from_micros(micros).unwrap();
            let state = |n: usize| HoldStatus::all().nth(n).unwrap();
            let (mut index, mut records) = (StatusIndex::default(), BTreeMap::new());
            for (id, number) in puts {
                // Few moments, so that ids stand side by side in one; a record's own never changes.
                let made = at(i64::from(id) % 8);
                let old = records.insert((made, id), state(number));
                index.put(made, id, (old, state(number)));
            }
            let all: Vec<_> = index.after(Bound::Unbounded).map(|(at, id)| (at, *id)).collect();
            prop_assert_eq!(&all, &records.keys().copied().collect::<Vec<_>>());
            let after = after.map(|(micros, id)| (at(micros), id));
            let matches = |status: HoldStatus| wanted[status.number()];
            let scanned: Vec<_> = records
                .iter()
                .rev()
                .filter(|(key, status)| {
                    matches(**status) && after.is_none_or(|after| **key < after) && older.is_none_or(|older| key.0 < at(older))
                })
                .map(|(key, _)| *key)
                .collect();
            let start = Start::behind(after).older_than(older.map(at));
            let listed: Vec<_> =
                start.into_iter().flat_map(|start| index.newest(start, matches)).map(|(at, id)| (at, *id)).collect();
            prop_assert_eq!(listed, scanned);
            if let Some(after) = after {
                let rest: Vec<_> = index.after(Bound::Excluded(after)).map(|(at, id)| (at, *id)).collect();
                prop_assert_eq!(rest, records.keys().copied().filter(|key| *key > after).collect::<Vec<_>>());
            }
        }
    }
}
