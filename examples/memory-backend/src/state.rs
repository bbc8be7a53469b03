//! What a store holds, and the few steps that several operations share.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use storage_core::dump::KeyRecord;
use storage_core::kernel::{Account, Changes, Halt, Record, Trim, View};
use storage_core::{
    AccountRecord, Destination, Fingerprint, Generation, HistoryRetention, Hold, HoldName, Job, JobId, KeySpace,
    LedgerRow, MAX_REFERRAL_CHAIN, Money, OperationKey, Page, PageRequest, Payment, PaymentId, ProviderKey, Result,
    TaskId, TimeZone, UsedKey, UserId, height_below,
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

impl View for State {
    fn account(&self, user: UserId) -> Result<Option<Account>, Halt> {
        let rows = self.ledger.get(&user).map_or(0, |rows| rows.len() as u64);
        Ok(self.accounts.get(&user).map(|record| Account { record: record.clone(), rows }))
    }
    fn key(&self, user: UserId, space: KeySpace, key: &OperationKey) -> Result<Option<UsedKey>, Halt> {
        Ok(self.keys.get(&(user, space, key.clone())).cloned())
    }
    fn hold(&self, user: UserId, name: &HoldName) -> Result<Option<Arc<Hold>>, Halt> {
        Ok(self.holds.get(&(user, name.clone())).cloned())
    }
    fn job(&self, job: &JobId) -> Result<Option<Arc<Job>>, Halt> {
        Ok(self.jobs.get(job).cloned())
    }
    fn job_of(&self, task: &TaskId) -> Result<Option<Arc<Job>>, Halt> {
        Ok(self.by_task(task).cloned())
    }
    fn payment(&self, payment: &PaymentId) -> Result<Option<Arc<Payment>>, Halt> {
        Ok(self.payments.get(payment).cloned())
    }
    fn payment_of(&self, provider: &ProviderKey) -> Result<Option<Arc<Payment>>, Halt> {
        Ok(self.payments.values().find(|payment| payment.provider_key.as_ref() == Some(provider)).cloned())
    }
    fn chain(&self, user: UserId) -> Result<Vec<UserId>, Halt> {
        let referrer_of = |user: &UserId| self.accounts.get(user).and_then(|account| account.referrer);
        Ok(std::iter::successors(referrer_of(&user), referrer_of).take(MAX_REFERRAL_CHAIN).collect())
    }
    fn height(&self, user: UserId) -> Result<usize, Halt> {
        let brought_by = |of| self.accounts.values().filter(|a| a.referrer == Some(of)).map(|a| a.user).collect();
        Ok(height_below(user, brought_by))
    }
}

impl State {
    /// Writes down what an atom changes.
    pub(crate) fn put(&mut self, changes: Changes) {
        let Changes { accounts, rows, key, record, trim } = changes;
        for row in rows {
            self.ledger.entry(row.user).or_default().push(Arc::new(row));
        }
        self.accounts.extend(accounts.into_iter().flatten().map(|account| (account.record.user, account.record)));
        self.keys.extend(key.map(|KeyRecord { user, space, key, used }| ((user, space, key), used)));
        match record {
            Some(Record::Hold(hold)) => drop(self.holds.insert((hold.user, hold.name.clone()), hold)),
            Some(Record::Job(job)) => drop(self.jobs.insert(job.id.clone(), job)),
            Some(Record::Payment(payment)) => drop(self.payments.insert(payment.id.clone(), payment)),
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

    /// The job that has this external task id.
    pub(crate) fn by_task(&self, task: &TaskId) -> Option<&Arc<Job>> {
        self.jobs.values().find(|job| job.external_task_id.as_ref() == Some(task))
    }

    /// What the user can spend.
    pub(crate) fn balance(&self, user: UserId) -> Money {
        self.accounts.get(&user).map_or(Money::ZERO, |account| account.balance)
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
