//! Free generations.

use async_trait::async_trait;
use storage_core::{
    AddReferralBonus, Answer, CivilDate, Error, Fingerprint, FreeGenerations, IncrementFreeGenerations, KeySpace,
    OperationKey, Quota, QuotaReceipt, QuotaSource, Result, ReturnFreeGeneration, Stamp, UserId, check_key,
};

use tokio_postgres::Row;
use uuid::Uuid;

use crate::account::Account;
use crate::codec::{Day, Moment};
use crate::express::key_is_unused;
use crate::fault::Fault;
use crate::fields::Fields;
use crate::keys::{self, Replay};
use crate::queues::Lock;
use crate::statement::statements;
use crate::store::PgStorage;
use crate::tx::{Express, Loaded, Tx, param, uuid};

statements! {
    /// Statements of free generations.
    FreeGenerationStatements {
        get(INT8) = "SELECT user_id, date, used, bank FROM {s}.daily_free_generations WHERE user_id = $1";
        /// Takes one of the quota `$3` of the day `$2`, while there is one. The bank is judged, and so is a clock that went
        /// back behind a day that was counted. The user's row is locked first, as everywhere.
        take(INT8, DATE, INT8, TEXT, UUID, TIMESTAMPTZ, UUID) = concat!(
            "WITH owner AS (
                 SELECT id FROM {s}.users WHERE id = $1 FOR NO KEY UPDATE
             ), taken AS (
                 INSERT INTO {s}.daily_free_generations AS d
                     (user_id, date, used, bank, created_at, updated_at, last_operation)
                 SELECT o.id, $2, 1, 0, $6, $6, $5 FROM owner o WHERE $3 >= 1 AND ", key_is_unused!("$1", "$4"), "
                 ON CONFLICT (user_id) DO UPDATE SET date = excluded.date,
                     used = CASE WHEN d.date = excluded.date THEN d.used + 1 ELSE 1 END,
                     updated_at = excluded.updated_at, last_operation = excluded.last_operation
                     WHERE d.date IS NULL OR d.date < excluded.date OR (d.date = excluded.date AND d.used < $3)
                 RETURNING d.user_id, d.used, d.bank
             ), key AS (
                 INSERT INTO {s}.operation_keys (user_id, space, key, arguments, operation_id, answer,
                     answer_operation, answer_day, answer_remaining)
                 SELECT t.user_id, 'operation', $4, $7, $5, 'quota', $5, $2, $3 - t.used + t.bank FROM taken t
             )
             SELECT t.user_id, t.used, t.bank FROM taken t"
        );
    }
}

/// The receipt of this operation, from the account as it is after it.
fn receipt(tx: &Tx<'_>, account: &Account, source: QuotaSource) -> QuotaReceipt {
    let policy = &tx.env().policy;
    QuotaReceipt {
        operation: tx.stamp.operation,
        source,
        remaining_after: account.record.quota().remaining_on(policy.today(tx.now()), policy.daily_free_generations),
        replayed: false,
    }
}

fn first_answer(replay: &Replay) -> Result<QuotaReceipt> {
    match replay.used.answer {
        Answer::Quota(first) => Ok(QuotaReceipt { replayed: replay.replayed, ..first }),
        _ => Err(Error::internal("a quota operation's key answers something else")),
    }
}

/// What a key was used for in the space of given-back takes.
fn given_back(more: &[Vec<Row>]) -> Result<Option<storage_core::UsedKey>> {
    let row = more.first().and_then(|rows| rows.first());
    Ok(row.map(keys::used_key).transpose()?.map(|(.., used)| used))
}

async fn judge_take(tx: &mut Tx<'_>, take: IncrementFreeGenerations) -> Result<QuotaReceipt, Fault> {
    let arguments = take.fingerprint();
    let IncrementFreeGenerations { user, key } = take;
    let used_up = tx.key(key.as_ref());
    let (id, space, word) = (user.get(), KeySpace::Return.as_str(), used_up.as_str());
    let find = (&tx.sql().keys.find, vec![&id as _, &space as _, &word as _]);
    let Loaded { mut account, used, more } = tx.load(user, &used_up, vec![find]).await?;
    if let Some(replay) = keys::replay(tx, user, &used_up, arguments, used)? {
        if given_back(&more)?.is_some() {
            return Err(Error::transition("operation key", &used_up, "returned", "taken").into());
        }
        return Ok(first_answer(&replay)?);
    }
    let policy = &tx.env().policy;
    let (quota, source) = account.record.quota().take(policy.today(tx.now()), policy.daily_free_generations)?;
    account.record.set_quota(quota);
    let receipt = receipt(tx, &account, source);
    keys::settle_operation(tx, &mut account, &used_up, arguments, Answer::Quota(receipt));
    Ok(receipt)
}

async fn judge_return(tx: &mut Tx<'_>, user: UserId, take: OperationKey) -> Result<QuotaReceipt, Fault> {
    let (id, space, word) = (user.get(), KeySpace::Return.as_str(), take.as_str());
    let find = (&tx.sql().keys.find, vec![&id as _, &space as _, &word as _]);
    let Loaded { mut account, used, more } = tx.load(user, &take, vec![find]).await?;
    if let Some(used) = given_back(&more)? {
        return Ok(first_answer(&Replay { replayed: used.operation != tx.stamp.operation, used })?);
    }
    let taken = IncrementFreeGenerations { user, key: Some(take.clone()) }.fingerprint();
    let Some(Answer::Quota(taken)) = check_key(user, &take, taken, used)?.map(|used| used.answer) else {
        return Err(Error::not_found("operation key", &take).into());
    };
    account.record.set_quota(account.record.quota().give_back(taken.source)?);
    let receipt = receipt(tx, &account, taken.source);
    let arguments = Fingerprint::of("return_free_generation", &[]);
    keys::settle(tx, &mut account, (KeySpace::Return, &take), arguments, Answer::Quota(receipt));
    Ok(receipt)
}

async fn judge_bonus(tx: &mut Tx<'_>, bonus: AddReferralBonus) -> Result<QuotaReceipt, Fault> {
    let arguments = bonus.fingerprint();
    let AddReferralBonus { referrer, count, key } = bonus;
    let used_up = tx.key(key.as_ref());
    let Loaded { mut account, used, .. } = tx.load(referrer, &used_up, Vec::new()).await?;
    if let Some(replay) = keys::replay(tx, referrer, &used_up, arguments, used)? {
        return Ok(first_answer(&replay)?);
    }
    account.record.set_quota(account.record.quota().add_bonus(count)?);
    let receipt = receipt(tx, &account, QuotaSource::Bank);
    keys::settle_operation(tx, &mut account, &used_up, arguments, Answer::Quota(receipt));
    Ok(receipt)
}

impl PgStorage {
    /// The user's quota, and the date of today.
    async fn quota(&self, operation: &'static str, user: UserId) -> Result<(Quota, CivilDate)> {
        let today = self.environment().policy.today(self.environment().clock.now());
        let id = user.get();
        let rows = self.read(operation, &self.sql().free_generations.get, &[&id]).await?;
        let quota = rows.first().map(|row| {
            let mut fields = Fields::of(row, "daily_free_generations");
            fields.user()?;
            Ok(Quota { date: fields.opt_day()?, used: fields.count()?, bank: fields.count()? })
        });
        let quota = quota.transpose().map_err(|error: Error| error.in_operation(operation))?;
        Ok((quota.unwrap_or_default(), today))
    }
}

impl PgStorage {
    /// The express form of a take from the day.
    fn express_take(&self, take: &IncrementFreeGenerations, stamp: Stamp) -> Express<'_, QuotaReceipt> {
        let policy = &self.environment().policy;
        let (today, daily) = (policy.today(stamp.now), policy.daily_free_generations);
        let key = take.key.clone().unwrap_or_else(|| stamp.operation.to_key());
        let values = vec![
            param(take.user.get()),
            param(Day(today)),
            param(i64::from(daily)),
            param(key.as_str().to_owned()),
            param(uuid(stamp.operation)),
            param(Moment::At(stamp.now)),
            param(Uuid::from_bytes(take.fingerprint().to_bytes())),
        ];
        let answer = Box::new(move |row: &Row| {
            let mut fields = Fields::of(row, "daily_free_generations");
            fields.user()?;
            let quota = Quota { date: Some(today), used: fields.count()?, bank: fields.count()? };
            let remaining_after = quota.remaining_on(today, daily);
            Ok(QuotaReceipt {
                operation: stamp.operation,
                source: QuotaSource::Day(today),
                remaining_after,
                replayed: false,
            })
        });
        Express::new(&self.sql().free_generations.take, values, answer)
    }
}

#[async_trait]
impl FreeGenerations for PgStorage {
    async fn get_user_free_generations_today(&self, user: UserId) -> Result<u32> {
        let (quota, today) = self.quota("get_user_free_generations_today", user).await?;
        Ok(quota.used_on(today))
    }

    async fn get_user_free_generations_remaining(&self, user: UserId) -> Result<u64> {
        let (quota, today) = self.quota("get_user_free_generations_remaining", user).await?;
        Ok(quota.remaining_on(today, self.environment().policy.daily_free_generations))
    }

    async fn increment_free_generations(&self, take: IncrementFreeGenerations) -> Result<QuotaReceipt> {
        let given = take.key.clone();
        let express = |stamp| Some(self.express_take(&take, stamp));
        self.write("increment_free_generations", (Lock::User(take.user), given.as_ref()), express, |tx| {
            let take = take.clone();
            Box::pin(judge_take(tx, take))
        })
        .await
    }

    async fn return_free_generation(&self, give_back: ReturnFreeGeneration) -> Result<QuotaReceipt> {
        let ReturnFreeGeneration { user, take } = give_back;
        self.write(
            "return_free_generation",
            (Lock::User(user), Some(&take)),
            |_| None,
            |tx| {
                let take = take.clone();
                Box::pin(judge_return(tx, user, take))
            },
        )
        .await
    }

    async fn add_referral_bonus(&self, bonus: AddReferralBonus) -> Result<QuotaReceipt> {
        let given = bonus.key.clone();
        self.write(
            "add_referral_bonus",
            (Lock::User(bonus.referrer), given.as_ref()),
            |_| None,
            |tx| {
                let bonus = bonus.clone();
                Box::pin(judge_bonus(tx, bonus))
            },
        )
        .await
    }
}
