//! Referrals.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{
    Answer, Error, GetReferrals, Newest, OperationKey, Page, Referral, Referrals, Result, SetReferrer, Stored, UsedKey,
    UserId, height_below, judge_chain, made_by_key,
};
use tokio_postgres::Row;

use crate::account::{self, Account};
use crate::codec::Moment;
use crate::fault::Fault;
use crate::fields::Fields;
use crate::keys;
use crate::statement::statements;
use crate::store::PgStorage;
use crate::tx::Tx;
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
        /// The chain above `$1`, as far as it may matter.
        above(INT8, INT8) =
            "WITH RECURSIVE chain (user_id, referrer_id, depth) AS (
                 SELECT user_id, referrer_id, 1::bigint FROM {s}.referrals WHERE user_id = $1
                 UNION ALL
                 SELECT r.user_id, r.referrer_id, c.depth + 1 FROM chain c
                     JOIN {s}.referrals r ON r.user_id = c.referrer_id WHERE c.depth <= $2
             ) SELECT user_id, referrer_id FROM chain";
        /// Everybody below `$1`, as deep as it may matter.
        below(INT8, INT8) =
            "WITH RECURSIVE tree (user_id, referrer_id, depth) AS (
                 SELECT user_id, referrer_id, 1::bigint FROM {s}.referrals WHERE referrer_id = $1
                 UNION ALL
                 SELECT r.user_id, r.referrer_id, t.depth + 1 FROM tree t
                     JOIN {s}.referrals r ON r.referrer_id = t.user_id WHERE t.depth <= $2
             ) SELECT user_id, referrer_id FROM tree";
    }
}

fn referral(row: &Row) -> Result<Referral> {
    let mut fields = Fields::of(row, "referrals");
    Ok(Referral { user: fields.user()?, referrer: fields.user()?, since: fields.at()?, bonus: fields.count()? })
}

fn edge(row: &Row) -> Result<(UserId, UserId)> {
    let mut fields = Fields::of(row, "referrals");
    Ok((fields.user()?, fields.user()?))
}

/// What an edge `user -> referrer` is decided on.
pub(crate) struct Look {
    pub(crate) account: Account,
    /// The referrer's.
    pub(crate) above: Account,
    /// What the key was used for.
    pub(crate) used: Option<UsedKey>,
    /// Who brought whom, above the referrer and below the user.
    edges: [Vec<Row>; 2],
}

/// Locks all chains and both users, by ascending id, then looks. One round trip: each statement sees what was committed
/// when the locks before it were granted. The chains' lock comes first, so that two who wait for each other's rows do
/// not meet.
pub(crate) async fn look(tx: &mut Tx<'_>, user: UserId, referrer: UserId, key: &OperationKey) -> Result<Look, Fault> {
    let (sql, name) = (tx.sql(), tx.storage().chain_lock());
    let most = i64::try_from(storage_core::MAX_REFERRAL_CHAIN).unwrap_or(i64::MAX);
    let (ids, one, other) = ([user.get(), referrer.get()], user.get(), referrer.get());
    let (ids, space, word) = (&ids[..], "operation", key.as_str());
    let batch: Vec<(_, Vec<Value<'_>>)> = vec![
        (&sql.referrals.lock, vec![&name]),
        (&sql.account.lock, vec![&ids]),
        (&sql.account.load, vec![&one]),
        (&sql.account.load, vec![&other]),
        (&sql.keys.find, vec![&one, &space, &word]),
        (&sql.referrals.above, vec![&other, &most]),
        (&sql.referrals.below, vec![&one, &most]),
    ];
    let rows = tx.fetch(batch).await?;
    let [_, locked, account, above, used, up, down] =
        <[Vec<Row>; 7]>::try_from(rows).map_err(|_| Error::internal("the statements of a chain did not all answer"))?;
    // Whoever appeared behind the lock is seen and not held: what another adds to them meanwhile would be lost.
    let seen = account.len() + if one == other { 0 } else { above.len() };
    if seen > locked.len() {
        return Err(Fault::Overtaken);
    }
    Ok(Look {
        account: Account::of(user, account.first(), tx.now())?,
        above: Account::of(referrer, above.first(), tx.now())?,
        used: used.first().map(keys::used_key).transpose()?.map(|(.., used)| used),
        edges: [up, down],
    })
}

impl Look {
    /// Judges the new edge against all that stand.
    pub(crate) fn judge_edge(&self) -> Result<()> {
        let [up, down] = &self.edges;
        let above: HashMap<UserId, UserId> = up.iter().map(edge).collect::<Result<_>>()?;
        let mut brought: HashMap<UserId, Vec<UserId>> = HashMap::new();
        for row in down {
            let (below, by) = edge(row)?;
            brought.entry(by).or_default().push(below);
        }
        let brought_by = |of: UserId| brought.get(&of).cloned().unwrap_or_default();
        let height_of = |of| height_below(of, brought_by);
        judge_chain(self.account.user(), self.above.user(), |of| above.get(&of).copied(), height_of)
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

async fn judge_set(tx: &mut Tx<'_>, set: SetReferrer) -> Result<Stored<Referral>, Fault> {
    let arguments = set.fingerprint();
    let SetReferrer { user, referrer, bonus, key } = set;
    let used_up = tx.key(key.as_ref());
    let mut look = look(tx, user, referrer, &used_up).await?;
    let used = look.used.take();
    let standing = standing(&look.account);
    if let Some(replay) = keys::replay(tx, user, &used_up, arguments, used)? {
        let record = made_by_key(key.as_ref(), "referral", standing)?;
        // A hand edit may have named another one since.
        record.judge_set(referrer)?;
        return Ok(Stored { record: Arc::new(record), replayed: replay.replayed });
    }
    if let Some(record) = standing {
        let answer = repeated(record, referrer)?;
        keys::settle_unchanged(tx, &mut look.account, key.as_ref(), arguments, Answer::Record);
        return Ok(answer);
    }
    look.judge_edge()?;
    if let Some(count) = look.account.record.refer(referrer, tx.now(), bonus, tx.now()) {
        look.above.record.set_quota(look.above.record.quota().add_bonus(count)?);
    }
    account::put(tx, &mut look.above);
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
        if set.user == set.referrer {
            return Err(Error::invalid("referrer", "must not be the user").in_operation("set_referrer"));
        }
        // The usual call is a repetition, by a user who follows the same link again. It is answered without the lock of
        // all chains; a referral that stands never changes.
        if set.key.is_none() {
            let id = set.user.get();
            let rows = self.read("set_referrer", &self.sql().referrals.get, &[&id]).await?;
            let standing =
                rows.first().map(referral).transpose().map_err(|error| error.in_operation("set_referrer"))?;
            if let Some(record) = standing {
                let repeated = repeated(record, set.referrer);
                return repeated.map_err(|error| error.not_applied().in_operation("set_referrer"));
            }
        }
        let given = set.key.clone();
        self.write(
            "set_referrer",
            given.as_ref(),
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
