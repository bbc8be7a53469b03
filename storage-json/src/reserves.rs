//! Holds.

use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{
    Answer, CommitReserve, Error, Fingerprint, HeapSize as _, Hold, HoldName, HoldPlace, HoldStatus, HoldStep,
    ListReserves, Memo, Money, Newest, OperationKey, OperationKind, Page, PageSize, Receipt, ReleaseReserve,
    ReserveBalance, Reserves, Result, Sweep, Timestamp, UserId,
};

use crate::engine::JsonStorage;
use crate::lists::Start;
use crate::tx::{Posting, Tx, reference};

/// Ends an open hold: spends `spent` of it and gives the rest back.
fn end_hold(
    tx: &mut Tx<'_>,
    hold: &Hold,
    spent: Money,
    key: Option<OperationKey>,
    fingerprint: Fingerprint,
) -> Result<Receipt> {
    let broken = || Error::internal("an open hold is larger than the held money");
    let mut account = tx.account_or_new(hold.user);
    let rest = hold.amount.money().checked_sub(spent).ok_or_else(broken)?;
    let memo = Memo { reference: reference(hold.name.as_str())?, ..Memo::default() };
    let mut rows = Vec::new();
    if !spent.is_zero() {
        let (balance, held) = (account.record.balance, account.record.held.checked_sub(spent).ok_or_else(broken)?);
        let memo = memo.clone();
        rows.push(tx.post(&mut account, Posting { kind: OperationKind::Commit, balance, held, memo })?);
    }
    if !rest.is_zero() {
        let balance = account.record.balance.checked_add(rest)?;
        let held = account.record.held.checked_sub(rest).ok_or_else(broken)?;
        rows.push(tx.post(&mut account, Posting { kind: OperationKind::Release, balance, held, memo })?);
    }
    let receipt = tx.receipt(account.record.balance);
    let status = if spent.is_zero() { HoldStatus::Released } else { HoldStatus::Committed };
    tx.put_hold(Hold { status, committed: spent, updated_at: tx.now(), ended: Some(receipt), ..hold.clone() });
    tx.settle_operation(account, key, fingerprint, Answer::Money(receipt), rows)?;
    Ok(receipt)
}

/// Replays a receipt under a new key, which it uses up.
fn replay(
    tx: &mut Tx<'_>,
    user: UserId,
    key: Option<OperationKey>,
    fingerprint: Fingerprint,
    receipt: Receipt,
) -> Result<Receipt> {
    tx.settle_unchanged(user, key, fingerprint, Answer::Money(Receipt { replayed: false, ..receipt }))?;
    Ok(receipt)
}

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
        self.write("reserve_balance", reserve.key.clone(), reserve.heap_size(), move |tx| {
            let fingerprint = reserve.fingerprint();
            let user = reserve.user;
            if let Some(receipt) = tx.replayed_receipt(user, reserve.key.as_ref(), fingerprint)? {
                return Ok(receipt);
            }
            if let Some(hold) = tx.hold(user, &reserve.name) {
                let receipt = hold.judge_reserve(&reserve)?;
                return replay(tx, user, reserve.key, fingerprint, receipt);
            }
            let ReserveBalance { user, name, amount, expires_at, memo, key } = reserve;
            let mut account = tx.account_or_new(user);
            let available = account.record.balance;
            let balance = available
                .checked_sub(amount.money())
                .ok_or_else(|| Error::insufficient_funds(available, amount.money()))?;
            let held = account.record.held.checked_add(amount.money())?;
            let memo = Memo { reference: reference(name.as_str())?, ..memo };
            let row = tx.post(&mut account, Posting { kind: OperationKind::Hold, balance, held, memo })?;
            let receipt = tx.receipt(balance);
            let now = tx.now();
            tx.put_hold(Hold {
                user,
                name,
                amount,
                status: HoldStatus::Open,
                committed: Money::ZERO,
                expires_at,
                created_at: now,
                updated_at: now,
                opened: receipt,
                ended: None,
            });
            tx.settle_operation(account, key, fingerprint, Answer::Money(receipt), vec![row])?;
            Ok(receipt)
        })
        .await
    }

    async fn commit_reserve(&self, commit: CommitReserve) -> Result<Receipt> {
        self.write("commit_reserve", commit.key.clone(), commit.heap_size(), move |tx| {
            let fingerprint = commit.fingerprint();
            let CommitReserve { user, name, amount, key } = commit;
            if let Some(receipt) = tx.replayed_receipt(user, key.as_ref(), fingerprint)? {
                return Ok(receipt);
            }
            let hold = tx.hold(user, &name).ok_or_else(|| Error::not_found("hold", &name))?;
            match hold.judge_commit(amount)? {
                HoldStep::Apply(spent) => end_hold(tx, &hold, spent, key, fingerprint),
                HoldStep::Replay(receipt) => replay(tx, user, key, fingerprint, receipt),
            }
        })
        .await
    }

    async fn release_reserve(&self, release: ReleaseReserve) -> Result<Receipt> {
        self.write("release_reserve", release.key.clone(), release.heap_size(), move |tx| {
            let fingerprint = release.fingerprint();
            let ReleaseReserve { user, name, key } = release;
            if let Some(receipt) = tx.replayed_receipt(user, key.as_ref(), fingerprint)? {
                return Ok(receipt);
            }
            let hold = tx.hold(user, &name).ok_or_else(|| Error::not_found("hold", &name))?;
            match hold.judge_release()? {
                HoldStep::Apply(_) => end_hold(tx, &hold, Money::ZERO, key, fingerprint),
                HoldStep::Replay(receipt) => replay(tx, user, key, fingerprint, receipt),
            }
        })
        .await
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
            let releases = due.into_iter().map(|(_, user, name)| {
                self.write("release_expired_reserves", None, name.heap_size(), move |tx| {
                    let Some(hold) = tx.hold(user, &name).filter(|hold| hold.status == HoldStatus::Open) else {
                        return Ok(None);
                    };
                    let fingerprint = ReleaseReserve::new(user, name.clone()).fingerprint();
                    end_hold(tx, &hold, Money::ZERO, None, fingerprint)?;
                    Ok(tx.hold(user, &name))
                })
            });
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
