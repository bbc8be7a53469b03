//! Holds.

use std::sync::Arc;

use async_trait::async_trait;

use super::page::page;
use super::{Due, Serial};
use crate::kernel::{Atom, Halt, ReleaseExpired};
use crate::{
    Applied, CommitReserve, Error, Hold, HoldName, ListReserves, Page, PageSize, Receipt, ReleaseReserve,
    ReserveBalance, Reserves, Result, Sweep, UserId,
};

impl Serial {
    /// Releases a hold that has expired. After an attempt of unknown outcome it asks once more, because no later sweep finds a hold that
    /// was released. Where that fails too, the outcome stays unknown.
    async fn release(&self, release: ReleaseExpired) -> Result<Option<Arc<Hold>>> {
        self.judge("release_expired_reserves", Ok(()))?;
        let released = async {
            let atom = Atom::new(release.into(), &self.environment)?;
            let again = atom.again();
            match self.attempt(atom).await {
                Err(unknown) if unknown.applied() == Applied::Unknown => {
                    self.attempt(again).await.map_err(|_| unknown)?
                }
                reply => reply?,
            }
            .try_into()
        };
        released.await.map_err(|error: Error| error.in_operation("release_expired_reserves"))
    }
}

#[async_trait]
impl Reserves for Serial {
    async fn reserve_balance(&self, reserve: ReserveBalance) -> Result<Receipt> {
        self.apply(reserve).await
    }

    async fn commit_reserve(&self, commit: CommitReserve) -> Result<Receipt> {
        self.apply(commit).await
    }

    async fn release_reserve(&self, release: ReleaseReserve) -> Result<Receipt> {
        self.apply(release).await
    }

    async fn find_reserve(&self, user: UserId, name: &HoldName) -> Result<Option<Arc<Hold>>> {
        let name = name.clone();
        self.look("find_reserve", move |unit, _| unit.hold(user, &name).map_err(Halt::into_error)).await
    }

    async fn list_reserves(&self, list: ListReserves) -> Result<Page<Hold>> {
        self.look("list_reserves", move |unit, _| {
            page(&list.page, list.filter(), |after, most| unit.holds(&list, after, most), Hold::position)
        })
        .await
    }

    async fn release_expired_reserves(&self, limit: PageSize) -> Result<Vec<Arc<Hold>>> {
        let (now, mut sweep) = (self.environment.clock.now(), Sweep::new(limit));
        let mut after: Option<Due> = None;
        loop {
            let (seen, most) = (after.clone(), sweep.lacks());
            let look = self.look("release_expired_reserves", move |unit, _| unit.due(now, seen.as_ref(), most));
            let due = match look.await {
                Ok(due) => due,
                Err(error) => {
                    // What was released before is answered all the same.
                    sweep.took(Err(error));
                    return sweep.answer();
                }
            };
            let was_last = due.len() < most;
            after = due.last().cloned();
            // One atom for each hold. What could not be released is passed over.
            for (_, user, name) in due {
                if !sweep.took(self.release(ReleaseExpired { user, name }).await) {
                    return sweep.answer();
                }
            }
            if was_last {
                return sweep.answer();
            }
        }
    }
}
