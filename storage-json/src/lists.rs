//! Indexes for the lists: by user and by time, walked from the newest entry down.

use std::collections::BTreeMap;
use std::ops::Bound;

use storage_core::{Timestamp, UserId};

/// An id, or the place behind every id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Edge<Id> {
    Id(Id),
    Top,
}

/// Values by user, time and id, without a separate table for each user.
#[derive(Debug)]
pub(crate) struct UserMap<Id, V> {
    entries: BTreeMap<(UserId, Timestamp, Edge<Id>), V>,
}

/// An index by user, time and id.
pub(crate) type UserIndex<Id> = UserMap<Id, ()>;

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
    /// A user's entries from the newest down, starting behind `after`.
    pub(crate) fn newest_of(
        &self,
        user: UserId,
        after: Option<(Timestamp, Id)>,
    ) -> impl Iterator<Item = (Timestamp, &Id, &V)> {
        let upper = after.map_or((user, Timestamp::MAX, Edge::Top), |(at, id)| (user, at, Edge::Id(id)));
        let below = self.entries.range((Bound::Unbounded, Bound::Excluded(upper))).rev();
        below.take_while(move |(key, _)| key.0 == user).filter_map(|((_, at, id), value)| match id {
            Edge::Id(id) => Some((*at, id, value)),
            Edge::Top => None,
        })
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
