//! What a store holds, and the few steps that several operations share.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use storage_core::dump::KeyRecord;
use storage_core::kernel::{Account, Changes, Halt, Record, Trim, View};
use storage_core::{
    AccountRecord, Answer, Destination, Fingerprint, Generation, HistoryRetention, Hold, HoldName, Job, JobId,
    KeySpace, LedgerRow, Memo, Money, OperationKey, OperationKind, Page, PageRequest, Payment, PaymentId, Receipt,
    Result, SignedMoney, Stamp, TimeZone, Timestamp, UsedKey, UserId, check_key,
};

/// Everything that a store knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    /// Where the contents were moved to; nothing changes any more then.
    pub(crate) moved: Option<Destination>,
    pub(crate) founded: Option<(TimeZone, HistoryRetention)>,
    pub(crate) accounts: BTreeMap<UserId, AccountRecord>,
    pub(crate) ledger: BTreeMap<UserId, Vec<Arc<LedgerRow>>>,
    pub(crate) holds: BTreeMap<(UserId, HoldName), Arc<Hold>>,
    pub(crate) jobs: BTreeMap<JobId, Arc<Job>>,
    pub(crate) payments: BTreeMap<PaymentId, Arc<Payment>>,
    /// Newest first.
    pub(crate) history: BTreeMap<UserId, Vec<Arc<Generation>>>,
    pub(crate) keys: BTreeMap<(UserId, KeySpace, OperationKey), UsedKey>,
}

/// One change of a user's money.
pub(crate) struct Posting {
    pub(crate) kind: OperationKind,
    pub(crate) balance: SignedMoney,
    pub(crate) held: SignedMoney,
    pub(crate) key: OperationKey,
    pub(crate) memo: Memo,
}

impl View for State {
    fn account(&self, user: UserId) -> Result<Option<Account>, Halt> {
        let rows = self.ledger.get(&user).map_or(0, |rows| rows.len() as u64);
        Ok(self.accounts.get(&user).map(|record| Account { record: record.clone(), rows }))
    }
    fn key(&self, user: UserId, space: KeySpace, key: &OperationKey) -> Result<Option<UsedKey>, Halt> {
        Ok(self.keys.get(&(user, space, key.clone())).cloned())
    }
}

impl State {
    /// Writes down what an atom changes.
    pub(crate) fn put(&mut self, changes: Changes) {
        let Changes { accounts, key, record, trim } = changes;
        self.accounts.extend(accounts.into_iter().flatten().map(|account| (account.record.user, account.record)));
        self.keys.extend(key.map(|KeyRecord { user, space, key, used }| ((user, space, key), used)));
        match record {
            Some(Record::Generation(user, generation)) => self.put_generation(user, generation, trim),
            None => {}
        }
    }

    fn put_generation(&mut self, user: UserId, generation: Generation, trim: Option<Trim>) {
        let entries = self.history.entry(user).or_default();
        if let Some(Trim::Before(kept)) = trim {
            entries.truncate(kept);
        }
        entries.push(Arc::new(generation));
        entries.sort_by(|one, other| (other.at, &other.id).cmp(&(one.at, &one.id)));
        if let Some(Trim::After(kept)) = trim {
            entries.truncate(kept);
        }
    }

    /// The account, created when missing.
    pub(crate) fn account(&mut self, user: UserId, now: Timestamp) -> &mut AccountRecord {
        self.accounts.entry(user).or_insert_with(|| AccountRecord::new(user, now))
    }

    /// What the user can spend.
    pub(crate) fn balance(&self, user: UserId) -> Money {
        self.accounts.get(&user).map_or(Money::ZERO, |account| account.balance)
    }

    /// Changes the user's money and writes the row that says so. `InvalidInput` above the maximum.
    pub(crate) fn post(&mut self, user: UserId, posting: Posting, stamp: Stamp) -> Result<Receipt> {
        let Posting { kind, balance, held, key, memo } = posting;
        let account = self.account(user, stamp.now);
        account.balance = Money::from_micros(account.balance.micros() + balance.micros())?;
        account.held = Money::from_micros(account.held.micros() + held.micros())?;
        account.balance.checked_add(account.held)?;
        if balance != SignedMoney::ZERO {
            account.updated_at = stamp.now;
        }
        let (balance_after, held_after) = (account.balance, account.held);
        let rows = self.ledger.entry(user).or_default();
        rows.push(Arc::new(LedgerRow {
            user,
            seq: rows.len() as u64 + 1,
            operation: stamp.operation,
            kind,
            balance_change: balance,
            held_change: held,
            balance_after,
            held_after,
            key,
            reference: memo.reference,
            reason: memo.reason,
            actor: memo.actor,
            at: stamp.now,
        }));
        Ok(Receipt { operation: stamp.operation, balance_after, replayed: false })
    }

    /// What the key's first call answered, `None` for a new key, `Conflict` for one of another call.
    pub(crate) fn replay(
        &self,
        user: UserId,
        key: Option<&OperationKey>,
        arguments: Fingerprint,
    ) -> Result<Option<UsedKey>> {
        let Some(key) = key else { return Ok(None) };
        check_key(user, key, arguments, self.keys.get(&(user, KeySpace::Operation, key.clone())).cloned())
    }

    /// The first receipt of a money operation, marked as a replay.
    pub(crate) fn replay_money(
        &self,
        user: UserId,
        key: Option<&OperationKey>,
        arguments: Fingerprint,
    ) -> Result<Option<Receipt>> {
        Ok(match self.replay(user, key, arguments)?.map(|used| used.answer) {
            Some(Answer::Money(first)) => Some(Receipt { replayed: true, ..first }),
            _ => None,
        })
    }

    /// Uses the key of a change up, minting one when the caller gave none.
    pub(crate) fn settle(
        &mut self,
        user: UserId,
        key: Option<OperationKey>,
        arguments: Fingerprint,
        answer: Answer,
        stamp: Stamp,
    ) {
        self.settle_unchanged(user, key.or_else(|| Some(stamp.operation.to_key())), arguments, answer, stamp);
    }

    /// Uses the caller's key up, for a call that changed nothing. The first answer is kept as it was, not as the replay it may have been.
    pub(crate) fn settle_unchanged(
        &mut self,
        user: UserId,
        key: Option<OperationKey>,
        arguments: Fingerprint,
        answer: Answer,
        stamp: Stamp,
    ) {
        let answer = match answer {
            Answer::Money(receipt) => Answer::Money(Receipt { replayed: false, ..receipt }),
            other => other,
        };
        if let Some(key) = key {
            let place = (user, KeySpace::Operation, key);
            self.keys.insert(place, UsedKey { arguments, operation: stamp.operation, answer });
        }
    }
}

/// Which way a list goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Ascending,
    Descending,
}

/// One page of a list, in the order of its rows' positions.
pub(crate) fn page<'a, T: 'a, P: Ord + Display + FromStr>(
    rows: impl Iterator<Item = &'a Arc<T>>,
    request: &PageRequest,
    filter: Fingerprint,
    order: Order,
    position: impl Fn(&T) -> P,
) -> Result<Page<T>> {
    let after: Option<P> = request.position(filter)?;
    let mut rows: Vec<(P, Arc<T>)> = rows.map(|row| (position(row), Arc::clone(row))).collect();
    rows.sort_by(|one, other| one.0.cmp(&other.0));
    if order == Order::Descending {
        rows.reverse();
    }
    let is_behind = |place: &P| match (&after, order) {
        (None, _) => true,
        (Some(after), Order::Ascending) => place > after,
        (Some(after), Order::Descending) => place < after,
    };
    let rows = rows.into_iter().filter(|(place, _)| is_behind(place)).map(|(_, row)| row);
    let rows = rows.take(request.size.get() + 1).collect();
    Ok(Page::from_surplus(rows, request.size, filter, position))
}
