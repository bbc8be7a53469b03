//! Free generations.

use async_trait::async_trait;
use storage_core::kernel::{Atom, Reply};
use storage_core::{
    AddReferralBonus, CivilDate, Error, FreeGenerations, IncrementFreeGenerations, Quota, QuotaReceipt, QuotaSource,
    Result, ReturnFreeGeneration, UserId,
};

use tokio_postgres::Row;
use uuid::Uuid;

use crate::codec::{Day, Moment};
use crate::express::key_is_unused;
use crate::fields::Fields;
use crate::statement::statements;
use crate::store::PgStorage;
use crate::tx::{Express, param, uuid};

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
    pub(crate) fn express_take(&self, atom: &Atom, user: UserId) -> Express<'_, Reply> {
        let (policy, stamp) = (&self.environment().policy, atom.stamp());
        let (today, daily) = (policy.today(stamp.now), policy.daily_free_generations);
        let values = vec![
            param(user.get()),
            param(Day(today)),
            param(i64::from(daily)),
            param(atom.key().as_str().to_owned()),
            param(uuid(stamp.operation)),
            param(Moment::At(stamp.now)),
            param(Uuid::from_bytes(atom.arguments().to_bytes())),
        ];
        let answer = Box::new(move |row: &Row| {
            let mut fields = Fields::of(row, "daily_free_generations");
            fields.user()?;
            let quota = Quota { date: Some(today), used: fields.count()?, bank: fields.count()? };
            let remaining_after = quota.remaining_on(today, daily);
            let source = QuotaSource::Day(today);
            Ok(QuotaReceipt { operation: stamp.operation, source, remaining_after, replayed: false }.into())
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
        self.apply(take).await
    }

    async fn return_free_generation(&self, give_back: ReturnFreeGeneration) -> Result<QuotaReceipt> {
        self.apply(give_back).await
    }

    async fn add_referral_bonus(&self, bonus: AddReferralBonus) -> Result<QuotaReceipt> {
        self.apply(bonus).await
    }
}
