//! Balances.

use async_trait::async_trait;
use storage_core::{AddBalance, Balances, Money, Receipt, Result, SetBalance, SubtractBalance, UserId};

use crate::MemoryStorage;

#[async_trait]
impl Balances for MemoryStorage {
    async fn get_balance(&self, user: UserId) -> Result<Money> {
        self.read("get_balance", |state| Ok(state.balance(user)))
    }

    async fn set_balance(&self, set: SetBalance) -> Result<Receipt> {
        self.apply(set)
    }

    async fn add_balance(&self, add: AddBalance) -> Result<Receipt> {
        self.apply(add)
    }

    async fn subtract_balance(&self, subtract: SubtractBalance) -> Result<Receipt> {
        self.apply(subtract)
    }
}
