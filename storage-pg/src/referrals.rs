//! Referrals.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use storage_core::kernel::Atom;
use storage_core::{
    Error, GetReferrals, MAX_REFERRAL_CHAIN, Newest, Page, Referral, Referrals, Result, SetReferrer, Stored, UserId,
};
use tokio::time::Instant;
use tokio_postgres::Row;

use crate::attempts::Course;
use crate::codec::Moment;
use crate::fault::Fault;
use crate::fields::Fields;
use crate::queues::Lock;
use crate::statement::{Statement, statements};
use crate::store::{PgStorage, Sql};
use crate::tx::{Param, Tx, borrowed, param};
use crate::users::surplus;

statements! {
    /// Statements of referrals.
    ReferralStatements {
        get(INT8) = "SELECT user_id, referrer_id, created_at, bonus FROM {s}.referrals WHERE user_id = $1";
        list(INT8, TIMESTAMPTZ, INT8, INT8) =
            "SELECT user_id, referrer_id, created_at, bonus FROM {s}.referrals
             WHERE referrer_id = $1 AND (created_at, user_id) > ($2, $3)
             ORDER BY created_at ASC, user_id ASC LIMIT $4";
        /// One chain is joined at a time: two that race to close a circle see each other.
        lock(TEXT) = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))::text";
        /// Whoever waits for a user's row has all chains meanwhile: not for long, and then again.
        briefly() = "SELECT set_config('lock_timeout', '50', true)";
        /// In its place where a transaction does much besides.
        patiently() = "SELECT current_setting('lock_timeout')";
        /// The chain above `$1`, as far as it may matter, with the height of the tree of each who brought one of it.
        above(INT8, INT8) =
            "WITH RECURSIVE chain (user_id, referrer_id, depth) AS (
                 SELECT user_id, referrer_id, 1::bigint FROM {s}.referrals WHERE user_id = $1
                 UNION ALL
                 SELECT r.user_id, r.referrer_id, c.depth + 1::bigint FROM chain c
                     JOIN {s}.referrals r ON r.user_id = c.referrer_id WHERE c.depth <= $2
             ) SELECT c.user_id, c.referrer_id, coalesce(h.height, 0::bigint) AS height
               FROM chain c LEFT JOIN {s}.referral_heights h ON h.user_id = c.referrer_id";
        /// The height of the tree below `$1`. It is kept, because the tree may be the whole store.
        height(INT8) = "SELECT user_id, height FROM {s}.referral_heights WHERE user_id = $1";
        raise(INT8_ARRAY, INT8_ARRAY) =
            "INSERT INTO {s}.referral_heights AS h (user_id, height)
             SELECT a.user_id, a.height FROM unnest($1, $2) AS a (user_id, height)
             ON CONFLICT (user_id) DO UPDATE SET height = excluded.height";
        /// What was stored by somebody who keeps no heights: a program of an earlier version, or a person.
        unmeasured(INT8) =
            "SELECT user_id, referrer_id FROM {s}.referrals WHERE NOT measured ORDER BY user_id ASC LIMIT $1";
        mark(INT8) = "UPDATE {s}.referrals SET measured = TRUE WHERE user_id = $1";
        /// All heights anew, and nothing is unmeasured.
        measure() = "SELECT {s}.storage_measure_referrals()::text AS measured";
    }
}

/// The height of every tree that is higher than a chain may be.
const TALL: usize = MAX_REFERRAL_CHAIN + 1;

/// Of so many referrals that somebody else stored each is taken up by itself; of more, all trees are measured anew.
const FEW: usize = 32;

fn referral(row: &Row) -> Result<Referral> {
    let mut fields = Fields::of(row, "referrals");
    Ok(Referral { user: fields.user()?, referrer: fields.user()?, since: fields.at()?, bonus: fields.count()? })
}

fn edge(row: &Row) -> Result<(UserId, UserId)> {
    let mut fields = Fields::of(row, "referrals");
    Ok((fields.user()?, fields.user()?))
}

fn height(row: Option<&Row>) -> Result<usize> {
    let Some(row) = row else { return Ok(0) };
    let mut fields = Fields::of(row, "referral_heights");
    fields.user()?;
    fields.count()
}

/// Where a new edge `user -> referrer` would go: how high the tree below it is, and the chain above it.
#[derive(Debug)]
pub(crate) struct Joint {
    pub(crate) user: UserId,
    pub(crate) referrer: UserId,
    /// Of the user's tree, and of the referrer's.
    heights: [usize; 2],
    /// Who brought whom above the referrer, and how high the tree of that one is.
    above: HashMap<UserId, (UserId, usize)>,
}

fn most() -> i64 {
    i64::try_from(MAX_REFERRAL_CHAIN).unwrap_or(i64::MAX)
}

impl Joint {
    /// What tells a joint, behind what tells whether all trees are measured.
    pub(crate) fn statements(sql: &Sql, user: UserId, referrer: UserId) -> Vec<(&Statement, Vec<Param>)> {
        let some = i64::try_from(FEW + 1).unwrap_or(i64::MAX);
        let mut all = vec![(&sql.referrals.unmeasured, vec![param(some)])];
        all.extend(Self::look(sql, user, referrer));
        all
    }

    fn look(sql: &Sql, user: UserId, referrer: UserId) -> [(&Statement, Vec<Param>); 3] {
        [
            (&sql.referrals.height, vec![param(user.get())]),
            (&sql.referrals.height, vec![param(referrer.get())]),
            (&sql.referrals.above, vec![param(referrer.get()), param(most())]),
        ]
    }

    /// Reads what [`Joint::statements`] answered. What somebody stored who keeps no heights is taken up first.
    pub(crate) async fn of(
        tx: &mut Tx<'_>,
        user: UserId,
        referrer: UserId,
        answers: Vec<Vec<Row>>,
    ) -> Result<Self, Fault> {
        let (unmeasured, rest) = answers.split_first().ok_or_else(unanswered)?;
        if unmeasured.is_empty() {
            return Ok(Self::read(user, referrer, rest)?);
        }
        take_up(tx, unmeasured).await?;
        Self::again(tx, user, referrer).await
    }

    fn read(user: UserId, referrer: UserId, answers: &[Vec<Row>]) -> Result<Self> {
        let [theirs, own, chain] = answers else { return Err(unanswered()) };
        let above = chain.iter().map(|row| {
            let mut fields = Fields::of(row, "referrals");
            Ok((fields.user()?, (fields.user()?, fields.count()?)))
        });
        let heights = [height(theirs.first())?, height(own.first())?];
        Ok(Self { user, referrer, heights, above: above.collect::<Result<_>>()? })
    }

    /// Looks again, at what the transaction has changed since.
    async fn again(tx: &mut Tx<'_>, user: UserId, referrer: UserId) -> Result<Self, Fault> {
        let look = Self::look(tx.sql(), user, referrer);
        let rows = tx.fetch(look.iter().map(|(statement, values)| (*statement, borrowed(values))).collect()).await?;
        Ok(Self::read(user, referrer, &rows)?)
    }

    /// Those above the referrer, from below.
    pub(crate) fn chain(&self) -> Vec<UserId> {
        let next = |of: &UserId| self.above.get(of).map(|(referrer, _)| *referrer);
        std::iter::successors(next(&self.referrer), next).take(MAX_REFERRAL_CHAIN).collect()
    }

    /// How high the tree below the user is.
    pub(crate) fn below(&self) -> usize {
        self.heights[0]
    }

    /// Whose trees the edge makes higher, and how high: upwards as far as it is more than what they have below already.
    fn raised(&self) -> BTreeMap<UserId, usize> {
        let mut raised = BTreeMap::new();
        let [below, mut theirs] = self.heights;
        let (mut at, mut height) = (self.referrer, below);
        loop {
            height = TALL.min(height + 1);
            // In a circle, which only a hand can have made, everybody comes by again.
            if raised.get(&at).copied().unwrap_or(theirs) >= height {
                return raised;
            }
            raised.insert(at, height);
            let Some((referrer, height)) = self.above.get(&at) else { return raised };
            (at, theirs) = (*referrer, *height);
        }
    }

    /// Writes them down. With many below and many above they are up to a thousand; as a rule one or none.
    pub(crate) fn raise(&self, tx: &mut Tx<'_>) {
        let raised = self.raised();
        if raised.is_empty() {
            return;
        }
        let heights: Vec<i64> = raised.values().map(|height| i64::try_from(*height).unwrap_or(i64::MAX)).collect();
        let users: Vec<i64> = raised.keys().map(|user| user.get()).collect();
        tx.queue_child(&tx.sql().referrals.raise, vec![param(users), param(heights)]);
    }
}

pub(crate) fn unanswered() -> Error {
    Error::internal("the statements of a chain did not all answer")
}

/// Takes up what somebody stored who keeps no heights.
async fn take_up(tx: &mut Tx<'_>, unmeasured: &[Row]) -> Result<(), Fault> {
    let sql = tx.sql();
    if unmeasured.len() > FEW {
        tx.queue(&sql.referrals.measure, Vec::new());
        return tx.flush().await;
    }
    for row in unmeasured {
        let (user, referrer) = edge(row)?;
        Joint::again(tx, user, referrer).await?.raise(tx);
        tx.queue(&sql.referrals.mark, vec![param(user.get())]);
        // The next one is to see it.
        tx.flush().await?;
    }
    Ok(())
}

impl PgStorage {
    async fn page_of_referrals(&self, list: GetReferrals) -> Result<Page<Referral>> {
        let filter = list.filter();
        let GetReferrals { referrer, page } = list;
        let (at, behind) = match page.position::<Newest<UserId>>(filter)? {
            // Not the first moment and the lowest user: that is somebody's place.
            None => (Moment::NegativeInfinity, i64::MIN),
            Some(Newest { at, id }) => (Moment::At(at), id.get()),
        };
        let (referrer, limit) = (referrer.get(), surplus(page.size));
        let rows = self.read("get_referrals", &self.sql().referrals.list, &[&referrer, &at, &behind, &limit]).await?;
        let referrals = rows.iter().map(|row| Ok(Arc::new(referral(row)?))).collect::<Result<_>>()?;
        Ok(Page::from_surplus(referrals, page.size, filter, |referral| Newest::new(referral.since, referral.user)))
    }
}

impl PgStorage {
    async fn refer(&self, set: SetReferrer) -> Result<Stored<Referral>> {
        let begun = Instant::now();
        let pool = self.enter().await?;
        // The usual call is a repetition, by a user who follows the same link again. It is answered without the lock of
        // all chains and without a look at them; a referral that stands never changes.
        let rows = self.read_at(&pool, &self.sql().referrals.get, &[&set.user.get()]).await?;
        let standing = rows.first().map(referral).transpose()?;
        let (user, stands) = (set.user, standing.is_some());
        if let Some(record) = standing.filter(|_| set.key.is_none()) {
            record.judge_set(set.referrer).map_err(Error::not_applied)?;
            return Ok(Stored { record: Arc::new(record), replayed: true });
        }
        let atom = Atom::new(set.into(), self.environment())?;
        let course = Course::new(atom.key());
        if stands {
            let alone = self.write_on(begun, &pool, (&course, Lock::User(user)), None, |tx| {
                let atom = course.atom(&atom);
                Box::pin(async move { tx.decide_alone(&atom, user).await })
            });
            // Without an answer it was taken away by hand a moment ago.
            if let Some(reply) = alone.await? {
                return reply.try_into();
            }
        }
        self.judge(begun, &pool, &course, &atom, Lock::of(&atom), None).await?.try_into()
    }
}

#[async_trait]
impl Referrals for PgStorage {
    async fn set_referrer(&self, set: SetReferrer) -> Result<Stored<Referral>> {
        self.opened("set_referrer")?;
        set.check().map_err(|error| error.in_operation("set_referrer"))?;
        self.refer(set).await.map_err(|error| error.in_operation("set_referrer"))
    }

    async fn get_referrer(&self, user: UserId) -> Result<Option<UserId>> {
        let id = user.get();
        let rows = self.read("get_referrer", &self.sql().referrals.get, &[&id]).await?;
        let found = rows.first().map(referral).transpose().map_err(|error| error.in_operation("get_referrer"))?;
        Ok(found.map(|referral| referral.referrer))
    }

    async fn get_referrals(&self, list: GetReferrals) -> Result<Page<Referral>> {
        self.opened("get_referrals")?;
        self.page_of_referrals(list).await.map_err(|error| error.in_operation("get_referrals"))
    }
}
