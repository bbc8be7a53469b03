//! Balances.

use async_trait::async_trait;

use super::Serial;
use crate::{AccountRecord, AddBalance, Balances, Money, Receipt, Result, SetBalance, SubtractBalance, UserId};

#[async_trait]
impl Balances for Serial {
    async fn get_balance(&self, user: UserId) -> Result<Money> {
        let balance = |account: AccountRecord| account.balance;
        self.look("get_balance", move |unit, _| Ok(unit.known(user)?.map_or(Money::ZERO, balance))).await
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
