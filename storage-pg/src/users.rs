//! Users.

use std::sync::Arc;

use async_trait::async_trait;
use storage_core::kernel::Call;
use storage_core::{
    Acknowledged, Fingerprint, GiftClaim, Language, Page, PageRequest, Result, SetGiftClaimed, SetUserLanguage, User,
    UserId, Users,
};

use crate::account::{self, account_columns, account_tables};
use crate::fields::Fields;
use crate::gather::Gatherer;
use crate::statement::statements;
use crate::store::PgStorage;

statements! {
    /// Statements of users.
    UserStatements {
        list(INT8, INT8) = concat!(
            "SELECT ", account_columns!(), " FROM ", account_tables!(), " WHERE u.id >= $1 ORDER BY u.id ASC LIMIT $2"
        );
        language(INT8) = "SELECT language FROM {s}.user_settings WHERE user_id = $1";
        gift(INT8) = "SELECT gift_claimed FROM {s}.user_settings WHERE user_id = $1";
    }
}

impl PgStorage {
    async fn page_of_users(&self, page: PageRequest) -> Result<Page<User>> {
        let filter = Fingerprint::of("list_users", &[]);
        // The lowest id of the page; behind the highest there is none.
        let lowest = match page.position::<UserId>(filter)? {
            None => Some(i64::MIN),
            Some(after) => after.get().checked_add(1),
        };
        let Some(lowest) = lowest else { return Ok(Page { items: Vec::new(), next: None }) };
        let limit = surplus(page.size);
        let rows = self.read("list_users", &self.sql().users.list, &[&lowest, &limit]).await?;
        let policy = &self.environment().policy;
        let users =
            rows.iter().map(|row| Ok(Arc::new(User::of(&account::record(row)?.0, policy)))).collect::<Result<_>>()?;
        Ok(Page::from_surplus(users, page.size, filter, |user| user.id))
    }
}

/// One row more than the page holds: it proves that there are more.
pub(crate) fn surplus(size: storage_core::PageSize) -> i64 {
    i64::try_from(size.get()).unwrap_or(i64::MAX - 1) + 1
}

#[async_trait]
impl Users for PgStorage {
    async fn get_user(&self, user: UserId) -> Result<Arc<User>> {
        // Almost every call finds the user there; only the first one is a write.
        let id = user.get();
        let statement = &self.sql().account.load;
        let gathered = async |gatherer: &Gatherer, pool: &_| gatherer.user(pool, user).await;
        let rows = self.read_gathered("get_user", gathered, statement, &[&id]).await?;
        if let Some(row) = rows.first() {
            let (record, _) = account::record(row).map_err(|error| error.in_operation("get_user"))?;
            return Ok(Arc::new(User::of(&record, &self.environment().policy)));
        }
        self.apply(Call::GetUser(user)).await
    }

    async fn find_user(&self, user: UserId) -> Result<Option<Arc<User>>> {
        let id = user.get();
        let statement = &self.sql().account.load;
        let gathered = async |gatherer: &Gatherer, pool: &_| gatherer.user(pool, user).await;
        let rows = self.read_gathered("find_user", gathered, statement, &[&id]).await?;
        let record = rows.first().map(account::record).transpose();
        let record = record.map_err(|error| error.in_operation("find_user"))?;
        Ok(record.map(|(record, _)| Arc::new(User::of(&record, &self.environment().policy))))
    }

    async fn list_users(&self, page: PageRequest) -> Result<Page<User>> {
        self.opened("list_users")?;
        self.page_of_users(page).await.map_err(|error| error.in_operation("list_users"))
    }

    async fn get_user_language(&self, user: UserId) -> Result<Language> {
        let id = user.get();
        let rows = self.read("get_user_language", &self.sql().users.language, &[&id]).await?;
        let chosen = rows.first().map(|row| Fields::of(row, "user_settings").opt_text()).transpose();
        let chosen: Option<Language> = chosen.map_err(|error| error.in_operation("get_user_language"))?.flatten();
        Ok(chosen.unwrap_or_else(|| self.environment().policy.default_language.clone()))
    }

    async fn set_user_language(&self, set: SetUserLanguage) -> Result<Acknowledged> {
        self.apply(set).await
    }

    async fn has_claimed_gift(&self, user: UserId) -> Result<bool> {
        let id = user.get();
        let rows = self.read("has_claimed_gift", &self.sql().users.gift, &[&id]).await?;
        let claimed = rows.first().map(|row| Fields::of(row, "user_settings").flag()).transpose();
        Ok(claimed.map_err(|error| error.in_operation("has_claimed_gift"))?.unwrap_or(false))
    }

    async fn set_gift_claimed(&self, claim: SetGiftClaimed) -> Result<GiftClaim> {
        self.apply(claim).await
    }
}
