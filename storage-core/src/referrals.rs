//! Referrals: who brought whom.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    AccountRecord, BonusCount, Error, Fingerprint, OperationKey, Page, PageRequest, Result, Stored, Timestamp, UserId,
};

/// The longest chain of referrers.
pub const MAX_REFERRAL_CHAIN: usize = 1000;

/// Who brought a user, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Referral {
    /// Who was brought.
    pub user: UserId,
    /// Who brought them.
    pub referrer: UserId,
    /// When that was stored.
    pub since: Timestamp,
    /// The bonus that was granted for bringing the user, 0 for none.
    pub bonus: u32,
}

impl Referral {
    /// The referral of an account, if somebody brought the user.
    pub fn of(account: &AccountRecord) -> Option<Self> {
        let (referrer, since) = account.referrer.zip(account.referred_at)?;
        Some(Self { user: account.user, referrer, since, bonus: account.referral_bonus })
    }
    /// Judges setting a referrer where this one stands: a replay, or `Conflict`.
    pub fn judge_set(&self, referrer: UserId) -> Result<()> {
        if self.referrer == referrer {
            return Ok(());
        }
        Err(Error::conflict("referrer of user", self.user, format!("user {} brought them", self.referrer)))
    }
}

/// Arguments of [`Referrals::set_referrer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetReferrer {
    /// Who was brought.
    pub user: UserId,
    /// Who brought them.
    pub referrer: UserId,
    /// Free generations for the referrer's bank, granted once, in the same atom.
    pub bonus: Option<BonusCount>,
    /// Makes the call repeatable.
    pub key: Option<OperationKey>,
}

impl SetReferrer {
    /// Without bonus and key.
    pub fn new(user: UserId, referrer: UserId) -> Self {
        Self { user, referrer, bonus: None, key: None }
    }
    /// The rule that no single value can keep: `InvalidInput` for oneself. Backends call it first of all.
    pub fn check(&self) -> Result<()> {
        if self.user == self.referrer {
            return Err(Error::invalid("referrer", "must not be the user"));
        }
        Ok(())
    }
    /// What a replay must repeat.
    pub fn fingerprint(&self) -> Fingerprint {
        let bonus = self.bonus.map_or_else(String::new, |bonus| bonus.get().to_string());
        Fingerprint::of("set_referrer", &[&self.referrer.to_string(), &bonus])
    }
}

/// The height of the tree of those whom a user brought, and whom those brought: the edges of its longest chain, found by
/// looking at everybody in it. Beyond [`MAX_REFERRAL_CHAIN`] it is not followed any further.
pub fn height_below(user: UserId, mut brought_by: impl FnMut(UserId) -> Vec<UserId>) -> usize {
    let (mut height, mut level) = (0, brought_by(user));
    while !level.is_empty() && height <= MAX_REFERRAL_CHAIN {
        height += 1;
        level = level.into_iter().flat_map(&mut brought_by).collect();
    }
    height
}

/// Judges the referrers of all users at once, by their numbers: no circle of any length, no chain longer than
/// [`MAX_REFERRAL_CHAIN`] edges. `referrer_of` answers the number of a user's referrer; `refuse` makes the error of a user
/// whose edge is too much, from what it does.
///
/// Each user is looked at once, whatever the chains look like. Memory: 2 bytes for each, and the longest way once.
pub fn judge_chains<E>(
    users: usize,
    mut referrer_of: impl FnMut(usize) -> std::result::Result<Option<usize>, E>,
    refuse: impl Fn(usize, &'static str) -> E,
) -> std::result::Result<(), E> {
    const ON_THE_WAY: u16 = u16::MAX;
    // How many referrers stand above each user, plus one; 0 where that is not known yet.
    let mut above = vec![0_u16; users];
    let mut way: Vec<usize> = Vec::new();
    for start in 0..users {
        let mut at = start;
        let mut edges = loop {
            match above[at] {
                0 => {}
                ON_THE_WAY => return Err(refuse(way.last().copied().unwrap_or(at), "closes a circle of referrers")),
                known => break known - 1,
            }
            let Some(next) = referrer_of(at)? else {
                above[at] = 1;
                break 0;
            };
            above[at] = ON_THE_WAY;
            way.push(at);
            at = next;
        };
        for below in way.drain(..).rev() {
            edges += 1;
            if usize::from(edges) > MAX_REFERRAL_CHAIN {
                return Err(refuse(below, "ends a chain of more than 1000 referrers"));
            }
            above[below] = edges + 1;
        }
    }
    Ok(())
}

/// Arguments of [`Referrals::get_referrals`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetReferrals {
    /// Whose referrals.
    pub referrer: UserId,
    /// Which page.
    pub page: PageRequest,
}

impl GetReferrals {
    /// The first page, of the default size.
    pub fn of(referrer: UserId) -> Self {
        Self { referrer, page: PageRequest::default() }
    }
    /// Which list a cursor belongs to.
    pub fn filter(&self) -> Fingerprint {
        Fingerprint::of("get_referrals", &[&self.referrer.to_string()])
    }
}

/// Referrals: who brought whom.
#[async_trait]
pub trait Referrals {
    /// Stores who brought a user.
    ///
    /// # Contract
    /// - The first referrer stays: the same again is a replay, also with another bonus, which is not granted; another one
    ///   is a `Conflict`, also where it would close a cycle.
    /// - The bonus is granted to the referrer's bank once, in the same atom: for each user one at the most, also where
    ///   the referrer was removed by hand since and is set again, or another one is.
    /// - Creates both users when missing.
    ///
    /// # Errors
    /// `Conflict` naming the referrer that stands there, or over a key whose referral was removed by hand; `InvalidInput` for oneself, a cycle of any length (also
    /// when two calls race to close one) or a chain over 1,000.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage, user: UserId, referrer: UserId) -> Result<()> {
    /// let mut set = SetReferrer::new(user, referrer);
    /// set.bonus = Some(BonusCount::default());
    /// storage.set_referrer(set).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `referrals::*`.
    async fn set_referrer(&self, set: SetReferrer) -> Result<Stored<Referral>>;

    /// Who brought the user.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage, user: UserId) -> Result<()> {
    /// let referrer = storage.get_referrer(user).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `referrals::*`.
    async fn get_referrer(&self, user: UserId) -> Result<Option<UserId>>;

    /// Whom a referrer brought, in order of arrival (time, then user id).
    ///
    /// # Errors
    /// `InvalidInput` for a cursor of another referrer's list.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage, referrer: UserId) -> Result<()> {
    /// let brought = storage.get_referrals(GetReferrals::of(referrer)).await?.items;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `referrals::*`.
    async fn get_referrals(&self, list: GetReferrals) -> Result<Page<Referral>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: i64) -> UserId {
        UserId::new(id).unwrap()
    }

    #[test]
    fn a_tree_is_as_high_as_its_longest_chain() {
        let down_to = |last| move |of: UserId| if of.get() < last { vec![user(of.get() + 1)] } else { vec![] };
        assert_eq!(height_below(user(1), down_to(1)), 0);
        assert_eq!(height_below(user(1), down_to(1001)), 1000);
        assert_eq!(height_below(user(1), down_to(i64::MAX)), 1001, "and no further");
        // 1 brought 2, 3 and 4; 3 brought 5, who brought 6.
        let bushy = |of: UserId| match of.get() {
            1 => vec![user(2), user(3), user(4)],
            3 => vec![user(5)],
            5 => vec![user(6)],
            _ => vec![],
        };
        assert_eq!(height_below(user(1), bushy), 3);
    }

    #[test]
    fn all_chains_from_both_sides() {
        let judged = |referrers: &[Option<usize>]| {
            judge_chains(referrers.len(), |at| Ok(referrers[at]), |at, what| (at, what)).map_err(|(at, what)| {
                let words = ["circle", "chain"].into_iter().find(|word| what.contains(word));
                (at, words.unwrap_or_default())
            })
        };
        // The referrer of n is n - 1, or n + 1: from either end so many edges.
        let up = |count: usize| (0..count).map(|n| n.checked_sub(1)).collect::<Vec<_>>();
        let down = |count: usize| (0..count).map(|n| Some(n + 1).filter(|next| *next < count)).collect::<Vec<_>>();
        assert_eq!(judged(&up(1001)), Ok(()));
        assert_eq!(judged(&down(1001)), Ok(()));
        assert_eq!(judged(&up(1002)), Err((1001, "chain")));
        assert_eq!(judged(&down(1002)), Err((0, "chain")));
        for length in [1, 2, 3, 1000, 1001, 5000] {
            let mut circle = up(length);
            circle[0] = Some(length - 1);
            assert!(judged(&circle).is_err_and(|(_, what)| what == "circle"), "{length}");
        }
        // Two branches of one tree, and a user who points into a circle.
        assert_eq!(judged(&[None, Some(0), Some(0), Some(1), Some(1)]), Ok(()));
        assert_eq!(judged(&[Some(1), Some(2), Some(1)]), Err((2, "circle")));
        assert_eq!(judged(&[]), Ok(()));
    }
}
