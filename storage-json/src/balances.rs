//! Balances.

use async_trait::async_trait;
use storage_core::{AddBalance, Balances, Money, Receipt, Result, SetBalance, SubtractBalance, UserId};

use crate::engine::JsonStorage;

#[async_trait]
impl Balances for JsonStorage {
    async fn get_balance(&self, user: UserId) -> Result<Money> {
        self.read("get_balance", |state| state.account(user).map_or(Money::ZERO, |account| account.record.balance))
            .await
    }

    async fn set_balance(&self, set: SetBalance) -> Result<Receipt> {
        self.apply(set).await
    }

    async fn add_balance(&self, add: AddBalance) -> Result<Receipt> {
        self.apply(add).await
    }

    async fn subtract_balance(&self, subtract: SubtractBalance) -> Result<Receipt> {
        self.apply(subtract).await
    }
}
