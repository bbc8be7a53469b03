//! Admin limits.

use async_trait::async_trait;
use storage_core::{Acknowledged, AdminLimit, AdminLimits, Error, Money, Result, SetAdminLimit, Total, UserId};

use crate::fields::Fields;
use crate::statement::statements;
use crate::store::PgStorage;

statements! {
    /// Statements of admin limits.
    AdminLimitStatements {
        get(INT8) =
            "SELECT u.id, u.spent, l.limit_amount FROM {s}.users u LEFT JOIN {s}.admin_limits l ON l.user_id = u.id
             WHERE u.id = $1";
    }
}

impl PgStorage {
    /// The limit and what was spent, in one look.
    async fn limit_and_spent(&self, operation: &'static str, user: UserId) -> Result<(AdminLimit, Total)> {
        let id = user.get();
        let rows = self.read(operation, &self.sql().admin_limits.get, &[&id]).await?;
        let read = |row| {
            let mut fields = Fields::of(row, "admin_limits");
            fields.user()?;
            Ok((fields.total()?, fields.opt_money()?))
        };
        let found = rows.first().map(read).transpose().map_err(|error: Error| error.in_operation(operation))?;
        let (spent, set): (Total, Option<Money>) = found.unwrap_or_default();
        let policy = &self.environment().policy;
        let limit = if policy.main_admin == Some(user) {
            AdminLimit::Unlimited
        } else {
            AdminLimit::Limited(set.unwrap_or(policy.default_admin_limit))
        };
        Ok((limit, spent))
    }
}

#[async_trait]
impl AdminLimits for PgStorage {
    async fn get_admin_limit(&self, user: UserId) -> Result<AdminLimit> {
        Ok(self.limit_and_spent("get_admin_limit", user).await?.0)
    }

    async fn set_admin_limit(&self, set: SetAdminLimit) -> Result<Acknowledged> {
        self.apply(set).await
    }

    async fn get_admin_spent(&self, user: UserId) -> Result<Total> {
        Ok(self.limit_and_spent("get_admin_spent", user).await?.1)
    }

    async fn get_admin_remaining(&self, user: UserId) -> Result<AdminLimit> {
        Ok(match self.limit_and_spent("get_admin_remaining", user).await? {
            (AdminLimit::Unlimited, _) => AdminLimit::Unlimited,
            (AdminLimit::Limited(limit), spent) => AdminLimit::Limited(spent.left_of(limit)),
        })
    }
}
