//! Referrals.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{
    Answer, Error, GetReferrals, MAX_REFERRAL_CHAIN, Newest, OperationKey, Page, Referral, Referrals, Result,
    SetReferrer, Stored, UsedKey, UserId, judge_chain, made_by_key,
};
use tokio_postgres::Row;

use crate::account::{self, Account};
use crate::codec::Moment;
use crate::fault::Fault;
use crate::fields::Fields;
use crate::keys;
use crate::queues::Lock;
use crate::statement::statements;
use crate::store::PgStorage;
use crate::tx::{Loaded, Tx, param};
use crate::users::surplus;
use crate::wire::Value;

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
struct Joint {
    referrer: UserId,
    /// Of the user's tree, and of the referrer's.
    heights: [usize; 2],
    /// Who brought whom above the referrer, and how high the tree of that one is.
    above: HashMap<UserId, (UserId, usize)>,
}

/// What a joint is read from: one row at most for the height of either, and the rows of the chain.
type JointRows = [Vec<Row>; 3];

/// The statements of [`JointRows`].
macro_rules! joint {
    ($sql:expr, $user:expr, $referrer:expr, $most:expr) => {
        [
            (&$sql.referrals.height, vec![$user as Value<'_>]),
            (&$sql.referrals.height, vec![$referrer as Value<'_>]),
            (&$sql.referrals.above, vec![$referrer as Value<'_>, $most as Value<'_>]),
        ]
    };
}

fn most() -> i64 {
    i64::try_from(MAX_REFERRAL_CHAIN).unwrap_or(i64::MAX)
}

impl Joint {
    fn read(referrer: UserId, [user, own, chain]: &JointRows) -> Result<Self> {
        let above = chain.iter().map(|row| {
            let mut fields = Fields::of(row, "referrals");
            Ok((fields.user()?, (fields.user()?, fields.count()?)))
        });
        let heights = [height(user.first())?, height(own.first())?];
        Ok(Self { referrer, heights, above: above.collect::<Result<_>>()? })
    }

    /// Looks again, at what the transaction has changed since.
    async fn look(tx: &mut Tx<'_>, user: UserId, referrer: UserId) -> Result<Self, Fault> {
        let (sql, most) = (tx.sql(), most());
        let (one, other) = (user.get(), referrer.get());
        let rows = tx.fetch(joint!(sql, &one, &other, &most).into()).await?;
        Ok(Self::read(referrer, &JointRows::try_from(rows).map_err(|_| unanswered())?)?)
    }

    /// Judges the edge against all that stand.
    fn judge(&self, user: UserId) -> Result<()> {
        let referrer_of = |of| self.above.get(&of).map(|(referrer, _)| *referrer);
        judge_chain(user, self.referrer, referrer_of, |_| self.heights[0])
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
    fn raise(&self, tx: &mut Tx<'_>) {
        let raised = self.raised();
        if raised.is_empty() {
            return;
        }
        let heights: Vec<i64> = raised.values().map(|height| i64::try_from(*height).unwrap_or(i64::MAX)).collect();
        let users: Vec<i64> = raised.keys().map(|user| user.get()).collect();
        tx.queue_child(&tx.sql().referrals.raise, vec![param(users), param(heights)]);
    }
}

fn unanswered() -> Error {
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
        Joint::look(tx, user, referrer).await?.raise(tx);
        tx.queue(&sql.referrals.mark, vec![param(user.get())]);
        // The next one is to see it.
        tx.flush().await?;
    }
    Ok(())
}

/// What an edge `user -> referrer` is decided on.
pub(crate) struct Look {
    pub(crate) account: Account,
    /// The referrer's.
    pub(crate) above: Account,
    /// What the key was used for.
    pub(crate) used: Option<UsedKey>,
    joint: Joint,
}

/// Locks all chains and both users, by ascending id, then looks. One round trip: each statement sees what was committed
/// when the locks before it were granted. The chains' lock comes first, so that two who wait for each other's rows do
/// not meet, and orders who writes heights.
pub(crate) async fn look(tx: &mut Tx<'_>, user: UserId, referrer: UserId, key: &OperationKey) -> Result<Look, Fault> {
    let (sql, name) = (tx.sql(), tx.storage().chain_lock());
    let (most, some) = (most(), i64::try_from(FEW + 1).unwrap_or(i64::MAX));
    let (ids, one, other) = ([user.get(), referrer.get()], user.get(), referrer.get());
    let (ids, space, word) = (&ids[..], "operation", key.as_str());
    let mut batch: Vec<(_, Vec<Value<'_>>)> = vec![
        (&sql.referrals.lock, vec![&name]),
        (if tx.gives_way() { &sql.referrals.briefly } else { &sql.referrals.patiently }, Vec::new()),
        (&sql.account.lock, vec![&ids]),
        (&sql.account.load, vec![&one]),
        (&sql.account.load, vec![&other]),
        (&sql.keys.find, vec![&one, &space, &word]),
        (&sql.referrals.unmeasured, vec![&some]),
    ];
    batch.extend(joint!(sql, &one, &other, &most));
    let rows = tx.fetch(batch).await?;
    let [_, _, locked, account, above, used, unmeasured, low, high, chain] =
        <[Vec<Row>; 10]>::try_from(rows).map_err(|_| unanswered())?;
    // Whoever appeared behind the lock is seen and not held: what another adds to them meanwhile would be lost.
    let seen = account.len() + if one == other { 0 } else { above.len() };
    if seen > locked.len() {
        return Err(Fault::Overtaken);
    }
    let joint = if unmeasured.is_empty() {
        Joint::read(referrer, &[low, high, chain])?
    } else {
        take_up(tx, &unmeasured).await?;
        Joint::look(tx, user, referrer).await?
    };
    Ok(Look {
        account: Account::of(user, account.first(), tx.now())?,
        above: Account::of(referrer, above.first(), tx.now())?,
        used: used.first().map(keys::used_key).transpose()?.map(|(.., used)| used),
        joint,
    })
}

impl Look {
    /// Judges the new edge against all that stand.
    pub(crate) fn judge_edge(&self) -> Result<()> {
        self.joint.judge(self.account.user())
    }

    /// Writes down what the new edge does to the heights above it.
    pub(crate) fn raise(&self, tx: &mut Tx<'_>) {
        self.joint.raise(tx);
    }
}

fn standing(account: &Account) -> Option<Referral> {
    let record = &account.record;
    let (referrer, since) = record.referrer.zip(record.referred_at)?;
    Some(Referral { user: record.user, referrer, since, bonus: record.referral_bonus })
}

/// What setting a referrer answers where one stands.
fn repeated(standing: Referral, referrer: UserId) -> Result<Stored<Referral>> {
    standing.judge_set(referrer)?;
    Ok(Stored { record: Arc::new(standing), replayed: true })
}

/// What a call is answered whose key was used, or whose user has a referrer: the trees have no part in it.
fn answered(
    tx: &mut Tx<'_>,
    account: &mut Account,
    used: Option<UsedKey>,
    set: &SetReferrer,
) -> Result<Option<Stored<Referral>>> {
    let (arguments, key) = (set.fingerprint(), set.key.as_ref());
    let standing = standing(account);
    if let Some(replay) = keys::replay(tx, set.user, &tx.key(key), arguments, used)? {
        let record = made_by_key(key, "referral", standing)?;
        // A hand edit may have named another one since.
        record.judge_set(set.referrer)?;
        return Ok(Some(Stored { record: Arc::new(record), replayed: replay.replayed }));
    }
    let Some(record) = standing else { return Ok(None) };
    let answer = repeated(record, set.referrer)?;
    keys::settle_unchanged(tx, account, key, arguments, Answer::Record);
    Ok(Some(answer))
}

/// Judges a call that repeats what stands, under the lock of its user alone. `None` when it stands no more.
async fn judge_repeated(tx: &mut Tx<'_>, set: SetReferrer) -> Result<Option<Stored<Referral>>, Fault> {
    let key = tx.key(set.key.as_ref());
    let Loaded { mut account, used, .. } = tx.load(set.user, &key, Vec::new()).await?;
    Ok(answered(tx, &mut account, used, &set)?)
}

async fn judge_set(tx: &mut Tx<'_>, set: SetReferrer) -> Result<Stored<Referral>, Fault> {
    let used_up = tx.key(set.key.as_ref());
    let mut look = look(tx, set.user, set.referrer, &used_up).await?;
    let used = look.used.take();
    if let Some(answer) = answered(tx, &mut look.account, used, &set)? {
        return Ok(answer);
    }
    look.judge_edge()?;
    let arguments = set.fingerprint();
    let SetReferrer { user, referrer, bonus, key: _ } = set;
    if let Some(count) = look.account.record.refer(referrer, tx.now(), bonus, tx.now()) {
        look.above.record.set_quota(look.above.record.quota().add_bonus(count)?);
    }
    account::put(tx, &mut look.above);
    look.raise(tx);
    keys::settle_operation(tx, &mut look.account, &used_up, arguments, Answer::Record);
    let record = Referral { user, referrer, since: tx.now(), bonus: look.account.record.referral_bonus };
    Ok(Stored { record: Arc::new(record), replayed: false })
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

#[async_trait]
impl Referrals for PgStorage {
    async fn set_referrer(&self, set: SetReferrer) -> Result<Stored<Referral>> {
        self.opened("set_referrer")?;
        set.check().map_err(|error| error.in_operation("set_referrer"))?;
        // The usual call is a repetition, by a user who follows the same link again. It is answered without the lock of
        // all chains and without a look at them; a referral that stands never changes.
        let id = set.user.get();
        let rows = self.read("set_referrer", &self.sql().referrals.get, &[&id]).await?;
        let standing = rows.first().map(referral).transpose().map_err(|error| error.in_operation("set_referrer"))?;
        if let Some(record) = standing {
            let Some(key) = &set.key else {
                let repeated = repeated(record, set.referrer);
                return repeated.map_err(|error| error.not_applied().in_operation("set_referrer"));
            };
            let answer = self
                .write(
                    "set_referrer",
                    (Lock::User(set.user), Some(key)),
                    |_| None,
                    |tx| {
                        let set = set.clone();
                        Box::pin(judge_repeated(tx, set))
                    },
                )
                .await?;
            // Without one it was taken away by hand a moment ago.
            if let Some(answer) = answer {
                return Ok(answer);
            }
        }
        let given = set.key.clone();
        self.write(
            "set_referrer",
            (Lock::Chains(set.user, set.referrer), given.as_ref()),
            |_| None,
            |tx| {
                let set = set.clone();
                Box::pin(judge_set(tx, set))
            },
        )
        .await
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
