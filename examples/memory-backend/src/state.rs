//! What a store holds, and how it is found, listed and put.

use std::collections::BTreeMap;
use std::sync::Arc;

use storage_core::dump::{GenerationRecord, JobRecord, KeyRecord, PaymentRecord};
use storage_core::kernel::{Account, Changes, Halt, Record, Trim, View};
use storage_core::serial::{Due, Founding, Unit};
use storage_core::{
    AccountRecord, Destination, DumpRecord, Generation, GenerationId, Hold, HoldName, HoldPlace, HoldStatus, Job,
    JobId, KeySpace, LedgerRow, ListJobs, ListPayments, ListReserves, MAX_REFERRAL_CHAIN, Newest, OperationKey,
    Payment, PaymentId, ProviderKey, Result, TaskId, Timestamp, UsedKey, UserId, height_below,
};

use crate::list::{ascending, descending};

/// Everything that a store knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) founding: Option<Founding>,
    /// Where the contents were moved to.
    pub(crate) moved: Option<Destination>,
    pub(crate) accounts: BTreeMap<UserId, AccountRecord>,
    pub(crate) ledger: BTreeMap<UserId, Vec<Arc<LedgerRow>>>,
    pub(crate) holds: BTreeMap<(UserId, HoldName), Arc<Hold>>,
    pub(crate) jobs: BTreeMap<JobId, Arc<Job>>,
    pub(crate) payments: BTreeMap<PaymentId, Arc<Payment>>,
    /// Newest first.
    pub(crate) history: BTreeMap<UserId, Vec<Arc<Generation>>>,
    pub(crate) keys: BTreeMap<(UserId, KeySpace, OperationKey), UsedKey>,
}

fn place_of(generation: &Generation) -> Newest<GenerationId> {
    Newest::new(generation.at, generation.id.clone())
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
        Ok(self.jobs.values().find(|job| job.external_task_id.as_ref() == Some(task)).cloned())
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

impl Unit for State {
    fn put(&mut self, changes: Changes) -> Result<()> {
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
        Ok(())
    }

    fn lay(&mut self, record: DumpRecord) -> Result<()> {
        match record {
            DumpRecord::Account(account) => drop(self.accounts.insert(account.user, account)),
            DumpRecord::Generation(record) => {
                let (user, generation) = record.into_generation();
                self.put_generation(user, generation, None);
            }
            DumpRecord::Hold(hold) => drop(self.holds.insert((hold.user, hold.name.clone()), Arc::new(hold))),
            DumpRecord::Job(job) => drop(self.jobs.insert(job.id.clone(), Arc::new(job.into()))),
            DumpRecord::Key(KeyRecord { user, space, key, used }) => drop(self.keys.insert((user, space, key), used)),
            DumpRecord::Ledger(row) => self.ledger.entry(row.user).or_default().push(Arc::new(row)),
            DumpRecord::Payment(payment) => drop(self.payments.insert(payment.id.clone(), Arc::new(payment.into()))),
        }
        Ok(())
    }

    fn is_empty(&self) -> Result<bool> {
        let empty = self.accounts.is_empty() && self.jobs.is_empty() && self.payments.is_empty();
        Ok(empty && self.ledger.is_empty() && self.holds.is_empty() && self.history.is_empty() && self.keys.is_empty())
    }

    fn walk(&self, whose: Option<UserId>, each: &mut dyn FnMut(DumpRecord) -> Result<()>) -> Result<()> {
        let mut records: Vec<DumpRecord> = Vec::new();
        records.extend(self.accounts.values().cloned().map(DumpRecord::Account));
        for (user, entries) in &self.history {
            records.extend(entries.iter().map(|entry| DumpRecord::Generation(GenerationRecord::new(*user, entry))));
        }
        records.extend(self.holds.values().map(|hold| DumpRecord::Hold(hold.as_ref().clone())));
        records.extend(self.jobs.values().map(|job| DumpRecord::Job(JobRecord::from(job.as_ref().clone()))));
        for ((user, space, key), used) in &self.keys {
            let record = KeyRecord { user: *user, space: *space, key: key.clone(), used: used.clone() };
            records.push(DumpRecord::Key(record));
        }
        records.extend(self.ledger.values().flatten().map(|row| DumpRecord::Ledger(row.as_ref().clone())));
        let payments = self.payments.values().map(|payment| PaymentRecord::from(payment.as_ref().clone()));
        records.extend(payments.map(DumpRecord::Payment));
        records.retain(|record| whose.is_none_or(|user| record.user() == user));
        records.sort_by_cached_key(DumpRecord::place);
        records.into_iter().try_for_each(each)
    }

    fn users(&self, after: Option<UserId>, most: usize) -> Result<Vec<AccountRecord>> {
        Ok(ascending(self.accounts.values().cloned(), after.as_ref(), most, |account| account.user))
    }
    fn ledger(&self, user: UserId, after: Option<u64>, most: usize) -> Result<Vec<Arc<LedgerRow>>> {
        let rows = self.ledger.get(&user).into_iter().flatten();
        Ok(descending(rows, after.as_ref(), most, |row| row.seq))
    }
    fn history(&self, user: UserId, after: Option<&Newest<GenerationId>>, most: usize) -> Result<Vec<Arc<Generation>>> {
        Ok(descending(self.history.get(&user).into_iter().flatten(), after, most, place_of))
    }
    fn holds(&self, list: &ListReserves, after: Option<&Newest<HoldPlace>>, most: usize) -> Result<Vec<Arc<Hold>>> {
        let holds = self.holds.values().filter(|hold| list.matches(hold));
        Ok(descending(holds, after, most, Hold::position))
    }
    fn due(&self, now: Timestamp, after: Option<&Due>, most: usize) -> Result<Vec<Due>> {
        let place = |hold: &Arc<Hold>| Some((hold.expires_at?, hold.user, hold.name.clone()));
        let open = self.holds.values().filter(|hold| hold.status == HoldStatus::Open);
        let due = open.filter_map(place).filter(|(at, ..)| *at <= now);
        Ok(ascending(due, after, most, Due::clone))
    }
    fn jobs(&self, list: &ListJobs, after: Option<&Newest<JobId>>, most: usize) -> Result<Vec<Arc<Job>>> {
        let jobs = self.jobs.values().filter(|job| list.matches(job));
        Ok(descending(jobs, after, most, |job| Newest::new(job.created_at, job.id.clone())))
    }
    fn payments(
        &self,
        list: &ListPayments,
        after: Option<&Newest<PaymentId>>,
        most: usize,
    ) -> Result<Vec<Arc<Payment>>> {
        let payments = self.payments.values().filter(|payment| list.matches(payment));
        Ok(descending(payments, after, most, |payment| Newest::new(payment.created_at, payment.id.clone())))
    }
    fn referrals(&self, referrer: UserId, after: Option<&Newest<UserId>>, most: usize) -> Result<Vec<AccountRecord>> {
        let brought = self.accounts.values().filter(|account| account.referrer == Some(referrer)).cloned();
        let place = |account: &AccountRecord| account.referred_at.map(|since| Newest::new(since, account.user));
        Ok(ascending(brought, after.cloned().map(Some).as_ref(), most, place))
    }

    fn founding(&self) -> Result<Option<Founding>> {
        Ok(self.founding.clone())
    }
    fn found(&mut self, founding: &Founding) -> Result<()> {
        self.founding = Some(founding.clone());
        Ok(())
    }
    fn moved_to(&self) -> Result<Option<Destination>> {
        Ok(self.moved.clone())
    }
    fn set_moved(&mut self, to: Option<&Destination>) -> Result<()> {
        self.moved = to.cloned();
        Ok(())
    }
}

impl State {
    fn put_generation(&mut self, user: UserId, generation: Generation, trim: Option<Trim>) {
        let entries = self.history.entry(user).or_default();
        if let Some(Trim::Before(kept)) = trim {
            entries.truncate(kept);
        }
        entries.push(Arc::new(generation));
        entries.sort_by_cached_key(|entry| std::cmp::Reverse(place_of(entry)));
        if let Some(Trim::After(kept)) = trim {
            entries.truncate(kept);
        }
    }
}
