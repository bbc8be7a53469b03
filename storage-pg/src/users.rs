//! Users.

use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{
    AccountRecord, Acknowledged, Answer, Fingerprint, GiftClaim, Language, Page, PageRequest, Policy, Result,
    SetGiftClaimed, SetUserLanguage, User, UserId, Users,
};

use crate::account::{self, account_columns, account_tables};
use crate::fields::Fields;
use crate::gather::Gatherer;
use crate::keys;
use crate::queues::Lock;
use crate::statement::statements;
use crate::store::PgStorage;
use crate::tx::Loaded;

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

fn shown(record: &AccountRecord, policy: &Policy) -> Arc<User> {
    Arc::new(User {
        id: record.user,
        balance: record.balance,
        language: record.language.clone().unwrap_or_else(|| policy.default_language.clone()),
        gift_claimed: record.gift_claimed,
        referrer: record.referrer,
        created_at: record.created_at,
        updated_at: record.updated_at,
    })
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
        let users = rows.iter().map(|row| Ok(shown(&account::record(row)?.0, policy))).collect::<Result<_>>()?;
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
            return Ok(shown(&record, &self.environment().policy));
        }
        self.write(
            "get_user",
            (Lock::User(user), None),
            |_| None,
            |tx| {
                Box::pin(async move {
                    let Loaded { mut account, .. } = tx.load(user, &tx.key(None), Vec::new()).await?;
                    account::put(tx, &mut account);
                    Ok(shown(&account.record, &tx.env().policy))
                })
            },
        )
        .await
    }

    async fn find_user(&self, user: UserId) -> Result<Option<Arc<User>>> {
        let id = user.get();
        let statement = &self.sql().account.load;
        let gathered = async |gatherer: &Gatherer, pool: &_| gatherer.user(pool, user).await;
        let rows = self.read_gathered("find_user", gathered, statement, &[&id]).await?;
        let record = rows.first().map(account::record).transpose();
        let record = record.map_err(|error| error.in_operation("find_user"))?;
        Ok(record.map(|(record, _)| shown(&record, &self.environment().policy)))
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
        let given = set.key.clone();
        self.write(
            "set_user_language",
            (Lock::User(set.user), given.as_ref()),
            |_| None,
            |tx| {
                let set = set.clone();
                Box::pin(async move {
                    let arguments = set.fingerprint();
                    let SetUserLanguage { user, language, key } = set;
                    let used_up = tx.key(key.as_ref());
                    let Loaded { mut account, used, .. } = tx.load(user, &used_up, Vec::new()).await?;
                    if let Some(replay) = keys::replay(tx, user, &used_up, arguments, used)? {
                        return Ok(Acknowledged { replayed: replay.replayed });
                    }
                    if account.record.language.as_ref() == Some(&language) {
                        keys::settle_unchanged(tx, &mut account, key.as_ref(), arguments, Answer::Record);
                    } else {
                        account.record.language = Some(language);
                        account.record.updated_at = tx.now();
                        keys::settle_operation(tx, &mut account, &used_up, arguments, Answer::Record);
                    }
                    Ok(Acknowledged { replayed: false })
                })
            },
        )
        .await
    }

    async fn has_claimed_gift(&self, user: UserId) -> Result<bool> {
        let id = user.get();
        let rows = self.read("has_claimed_gift", &self.sql().users.gift, &[&id]).await?;
        let claimed = rows.first().map(|row| Fields::of(row, "user_settings").flag()).transpose();
        Ok(claimed.map_err(|error| error.in_operation("has_claimed_gift"))?.unwrap_or(false))
    }

    async fn set_gift_claimed(&self, claim: SetGiftClaimed) -> Result<GiftClaim> {
        let given = claim.key.clone();
        self.write(
            "set_gift_claimed",
            (Lock::User(claim.user), given.as_ref()),
            |_| None,
            |tx| {
                let claim = claim.clone();
                Box::pin(async move {
                    let arguments = claim.fingerprint();
                    let SetGiftClaimed { user, key } = claim;
                    let used_up = tx.key(key.as_ref());
                    let Loaded { mut account, used, .. } = tx.load(user, &used_up, Vec::new()).await?;
                    if let Some(replay) = keys::replay(tx, user, &used_up, arguments, used)? {
                        let first = replay.used.answer == Answer::Gift(true);
                        return Ok(GiftClaim { first, replayed: replay.replayed });
                    }
                    let first = !account.record.gift_claimed;
                    if first {
                        account.record.gift_claimed = true;
                        account.record.updated_at = tx.now();
                        keys::settle_operation(tx, &mut account, &used_up, arguments, Answer::Gift(true));
                    } else {
                        keys::settle_unchanged(tx, &mut account, key.as_ref(), arguments, Answer::Gift(false));
                    }
                    Ok(GiftClaim { first, replayed: false })
                })
            },
        )
        .await
    }
}
