//! Holds.

use std::sync::Arc;

use async_trait::async_trait;
use storage_core::kernel::ReleaseExpired;
use storage_core::{
    CommitReserve, Hold, HoldName, HoldStatus, ListReserves, Page, PageSize, Receipt, ReleaseReserve, ReserveBalance,
    Reserves, Result, Sweep, UserId,
};

use crate::MemoryStorage;
use crate::state::{Order, page};

#[async_trait]
impl Reserves for MemoryStorage {
    async fn reserve_balance(&self, reserve: ReserveBalance) -> Result<Receipt> {
        self.apply(reserve)
    }

    async fn commit_reserve(&self, commit: CommitReserve) -> Result<Receipt> {
        self.apply(commit)
    }

    async fn release_reserve(&self, release: ReleaseReserve) -> Result<Receipt> {
        self.apply(release)
    }

    async fn find_reserve(&self, user: UserId, name: &HoldName) -> Result<Option<Arc<Hold>>> {
        self.read("find_reserve", |state| Ok(state.holds.get(&(user, name.clone())).cloned()))
    }

    async fn list_reserves(&self, list: ListReserves) -> Result<Page<Hold>> {
        self.read("list_reserves", |state| {
            let holds = state.holds.values().filter(|hold| list.matches(hold));
            page(holds, &list.page, list.filter(), Order::Descending, Hold::position)
        })
    }

    async fn release_expired_reserves(&self, limit: PageSize) -> Result<Vec<Arc<Hold>>> {
        let place = |hold: &Hold| (hold.expires_at, hold.user, hold.name.clone());
        let (now, mut sweep) = (self.environment.clock.now(), Sweep::new(limit));
        let mut due = self.read("release_expired_reserves", |state| {
            let expired = |hold: &Hold| hold.status == HoldStatus::Open && hold.expires_at.is_some_and(|at| at <= now);
            Ok(state.holds.values().filter(|hold| expired(hold)).map(|hold| place(hold)).collect::<Vec<_>>())
        })?;
        due.sort();
        // One atom for each hold. What could not be released is passed over.
        for (_, user, name) in due {
            if !sweep.took(self.apply(ReleaseExpired { user, name })) {
                break;
            }
        }
        sweep.answer()
    }
}
