//! Holds.

use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use storage_core::kernel::ReleaseExpired;
use storage_core::{
    CommitReserve, Hold, HoldName, HoldPlace, ListReserves, Newest, Page, PageSize, Receipt, ReleaseReserve,
    ReserveBalance, Reserves, Result, Sweep, Timestamp, UserId,
};

use crate::engine::JsonStorage;
use crate::lists::Start;

impl JsonStorage {
    async fn page_of_reserves(&self, list: ListReserves) -> Result<Page<Hold>> {
        let filter = list.filter();
        let after = list.page.position::<Newest<HoldPlace>>(filter)?.map(Newest::into_parts);
        let wanted = list.page.size.get() + 1;
        let rows: Vec<Arc<Hold>> = self
            .read("list_reserves", |state| {
                let stands = |status| list.status.is_none_or(|wanted| wanted == status);
                let found = |user: UserId, name: &HoldName| state.holds.get(&(user, name.clone())).cloned();
                match list.user {
                    Some(user) => {
                        let after = after.map(|(at, HoldPlace { name, user: _ })| (at, name));
                        let start = Start::behind(after).older_than(list.older_than);
                        let all = start.into_iter().flat_map(|start| state.holds_by_user.newest_of(user, start));
                        let mine = all.filter(|(.., status)| stands(**status));
                        mine.filter_map(|(_, name, _)| found(user, name)).take(wanted).collect()
                    }
                    None => {
                        let after = after.map(|(at, HoldPlace { name, user })| (at, (name, user)));
                        let start = Start::behind(after).older_than(list.older_than);
                        let all = start.into_iter().flat_map(|start| state.holds_by_time.newest(start, stands));
                        all.filter_map(|(_, (name, user))| found(*user, name)).take(wanted).collect()
                    }
                }
            })
            .await?;
        Ok(Page::from_surplus(rows, list.page.size, filter, Hold::position))
    }
}

#[async_trait]
impl Reserves for JsonStorage {
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
        self.read("find_reserve", |state| state.holds.get(&(user, name.clone())).cloned()).await
    }

    async fn list_reserves(&self, list: ListReserves) -> Result<Page<Hold>> {
        self.opened("list_reserves")?;
        self.page_of_reserves(list).await.map_err(|error| error.in_operation("list_reserves"))
    }

    async fn release_expired_reserves(&self, limit: PageSize) -> Result<Vec<Arc<Hold>>> {
        let now = self.env().clock.now();
        let (mut sweep, mut behind) = (Sweep::new(limit), None::<(Timestamp, UserId, HoldName)>);
        loop {
            let from = behind.take().map_or(Bound::Unbounded, Bound::Excluded);
            let lacks = sweep.lacks();
            let due: Result<Vec<(Timestamp, UserId, HoldName)>> = self
                .read("release_expired_reserves", |state| {
                    let expired =
                        state.holds_by_expiry.range((from, Bound::Unbounded)).take_while(|(at, ..)| *at <= now);
                    expired.take(lacks).cloned().collect()
                })
                .await;
            let due = due.unwrap_or_else(|error| {
                sweep.took(Err(error));
                Vec::new()
            });
            let Some(last) = due.last().cloned() else { return sweep.answer() };
            // Each in an atom of its own, side by side; another sweeper, a commit or a release may have been first.
            let releases = due.into_iter().map(|(_, user, name)| self.apply(ReleaseExpired { user, name }));
            let mut goes_on = true;
            for outcome in crate::store::join_all(releases.collect()).await {
                goes_on &= sweep.took(outcome);
            }
            if !goes_on {
                return sweep.answer();
            }
            // What could not be released is passed over.
            behind = Some(last);
        }
    }
}
