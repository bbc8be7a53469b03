//! Holds.

use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{
    Answer, CommitReserve, Error, Hold, HoldName, HoldStatus, HoldStep, ListReserves, Memo, Money, OperationKey,
    OperationKind, Page, PageSize, Receipt, Reference, ReleaseReserve, ReserveBalance, Reserves, Result, SignedMoney,
    Stamp, Sweep, UserId,
};

use crate::MemoryStorage;
use crate::state::{Order, Posting, State, page};

fn referring_to(name: &HoldName, memo: Memo) -> Result<Memo> {
    Ok(Memo { reference: Some(Reference::new(name.as_str())?), ..memo })
}

fn hold_of(state: &State, user: UserId, name: &HoldName) -> Result<Arc<Hold>> {
    let hold = state.holds.get(&(user, name.clone()));
    hold.cloned().ok_or_else(|| Error::not_found("hold", name))
}

/// Ends a hold: spends `spent` of it and gives the rest back.
fn end(state: &mut State, hold: &Hold, spent: Money, key: &OperationKey, stamp: Stamp) -> Result<Receipt> {
    let rest = Money::from_micros(hold.amount.money().micros() - spent.micros())?;
    let mut receipt = Receipt { operation: stamp.operation, balance_after: Money::ZERO, replayed: false };
    let parts =
        [(OperationKind::Commit, spent, SignedMoney::ZERO), (OperationKind::Release, rest, SignedMoney::plus(rest))];
    for (kind, part, balance) in parts {
        if !part.is_zero() {
            let memo = referring_to(&hold.name, Memo::default())?;
            let from_hold = SignedMoney::minus(part);
            receipt =
                state.post(hold.user, Posting { kind, balance, held: from_hold, key: key.clone(), memo }, stamp)?;
        }
    }
    let ended = Hold {
        status: if spent.is_zero() { HoldStatus::Released } else { HoldStatus::Committed },
        committed: spent,
        updated_at: stamp.now,
        ended: Some(receipt),
        ..hold.clone()
    };
    state.holds.insert((hold.user, hold.name.clone()), Arc::new(ended));
    Ok(receipt)
}

#[async_trait]
impl Reserves for MemoryStorage {
    async fn reserve_balance(&self, reserve: ReserveBalance) -> Result<Receipt> {
        self.write("reserve_balance", |state, stamp| {
            let arguments = reserve.fingerprint();
            if let Some(first) = state.replay_money(reserve.user, reserve.key.as_ref(), arguments)? {
                return Ok(first);
            }
            if let Some(hold) = state.holds.get(&(reserve.user, reserve.name.clone())) {
                let again = hold.judge_reserve(&reserve)?;
                state.settle_unchanged(reserve.user, reserve.key, arguments, Answer::Money(again), stamp);
                return Ok(again);
            }
            let ReserveBalance { user, name, amount, expires_at, memo, key } = reserve;
            let available = state.balance(user);
            if available < amount.money() {
                return Err(Error::insufficient_funds(available, amount.money()));
            }
            let key = key.unwrap_or_else(|| stamp.operation.to_key());
            let posting = Posting {
                kind: OperationKind::Hold,
                balance: SignedMoney::minus(amount.money()),
                held: SignedMoney::plus(amount.money()),
                key: key.clone(),
                memo: referring_to(&name, memo)?,
            };
            let receipt = state.post(user, posting, stamp)?;
            let hold = Hold {
                user,
                name: name.clone(),
                amount,
                status: HoldStatus::Open,
                committed: Money::ZERO,
                expires_at,
                created_at: stamp.now,
                updated_at: stamp.now,
                opened: receipt,
                ended: None,
            };
            state.holds.insert((user, name), Arc::new(hold));
            state.settle(user, Some(key), arguments, Answer::Money(receipt), stamp);
            Ok(receipt)
        })
    }

    async fn commit_reserve(&self, commit: CommitReserve) -> Result<Receipt> {
        self.write("commit_reserve", |state, stamp| {
            let arguments = commit.fingerprint();
            let CommitReserve { user, name, amount, key } = commit;
            if let Some(first) = state.replay_money(user, key.as_ref(), arguments)? {
                return Ok(first);
            }
            let hold = hold_of(state, user, &name)?;
            match hold.judge_commit(amount)? {
                HoldStep::Replay(first) => {
                    state.settle_unchanged(user, key, arguments, Answer::Money(first), stamp);
                    Ok(first)
                }
                HoldStep::Apply(spent) => {
                    let key = key.unwrap_or_else(|| stamp.operation.to_key());
                    let receipt = end(state, &hold, spent, &key, stamp)?;
                    state.settle(user, Some(key), arguments, Answer::Money(receipt), stamp);
                    Ok(receipt)
                }
            }
        })
    }

    async fn release_reserve(&self, release: ReleaseReserve) -> Result<Receipt> {
        self.write("release_reserve", |state, stamp| {
            let arguments = release.fingerprint();
            let ReleaseReserve { user, name, key } = release;
            if let Some(first) = state.replay_money(user, key.as_ref(), arguments)? {
                return Ok(first);
            }
            let hold = hold_of(state, user, &name)?;
            match hold.judge_release()? {
                HoldStep::Replay(first) => {
                    state.settle_unchanged(user, key, arguments, Answer::Money(first), stamp);
                    Ok(first)
                }
                HoldStep::Apply(_) => {
                    let key = key.unwrap_or_else(|| stamp.operation.to_key());
                    let receipt = end(state, &hold, Money::ZERO, &key, stamp)?;
                    state.settle(user, Some(key), arguments, Answer::Money(receipt), stamp);
                    Ok(receipt)
                }
            }
        })
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
            let outcome = self.write("release_expired_reserves", |state, stamp| {
                let Some(hold) = state.holds.get(&(user, name.clone())).cloned() else { return Ok(None) };
                if hold.status != HoldStatus::Open {
                    return Ok(None);
                }
                let receipt = end(state, &hold, Money::ZERO, &stamp.operation.to_key(), stamp)?;
                let arguments = ReleaseReserve::new(hold.user, hold.name.clone()).fingerprint();
                state.settle(hold.user, None, arguments, Answer::Money(receipt), stamp);
                Ok(state.holds.get(&(hold.user, hold.name.clone())).cloned())
            });
            if !sweep.took(outcome) {
                break;
            }
        }
        sweep.answer()
    }
}
