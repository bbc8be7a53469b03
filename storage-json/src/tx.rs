//! What an operation decides against: the published state, under it the batch's earlier operations, under them its own
//! changes. Nothing here is visible to readers, and an operation that fails leaves nothing behind.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use storage_core::dump::{GenerationRecord, JobRecord, KeyRecord, PaymentRecord};
use storage_core::kernel::{self, Changes, Halt, Record, Trim, View};
use storage_core::{
    AccountRecord, Environment, Error, Generation, GenerationId, Hold, HoldName, Job, JobId, KeySpace, LedgerRow,
    MAX_REFERRAL_CHAIN, OperationKey, Payment, PaymentId, ProviderKey, Result, TaskId, Timestamp, UsedKey, UserId,
};

use crate::ledger::{Ledger, Line, Row};
use crate::state::{Account, Change, LineMark, State};

/// More than the bytes of most ledger lines.
const USUAL_LINE: usize = 512;

/// Changes that are not published yet, for lookups.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    accounts: HashMap<UserId, Account>,
    keys: HashMap<(UserId, KeySpace, OperationKey), UsedKey>,
    rare: Rare,
}

/// The changes of one operation. It touches one or two accounts and keys: a list finds them sooner than a map.
#[derive(Debug, Default)]
pub(crate) struct Own {
    accounts: Vec<Account>,
    keys: Vec<((UserId, KeySpace, OperationKey), UsedKey)>,
    rare: Rare,
}

/// What most operations do not touch.
#[derive(Debug, Default)]
struct Rare {
    holds: HashMap<(UserId, HoldName), Arc<Hold>>,
    jobs: HashMap<JobId, Arc<Job>>,
    tasks: HashMap<TaskId, JobId>,
    payments: HashMap<PaymentId, Arc<Payment>>,
    providers: HashMap<ProviderKey, PaymentId>,
    generations: HashMap<UserId, Vec<(Timestamp, GenerationId)>>,
    trims: BTreeSet<(UserId, Timestamp, GenerationId)>,
    /// Trees that became higher, which the accounts themselves do not tell.
    heights: HashMap<UserId, usize>,
}

impl Overlay {
    /// Takes over what a successful operation changed.
    pub(crate) fn absorb(&mut self, own: Own) {
        self.accounts.extend(own.accounts.into_iter().map(|account| (account.record.user, account)));
        self.keys.extend(own.keys);
        let Rare { holds, jobs, tasks, payments, providers, generations, trims, heights } = own.rare;
        let all = &mut self.rare;
        all.holds.extend(holds);
        all.jobs.extend(jobs);
        all.tasks.extend(tasks);
        all.payments.extend(payments);
        all.providers.extend(providers);
        for (user, entries) in generations {
            all.generations.entry(user).or_default().extend(entries);
        }
        all.trims.extend(trims);
        all.heights.extend(heights);
    }
    /// The accounts, each as the last operation left it.
    pub(crate) fn into_accounts(self) -> impl Iterator<Item = AccountRecord> {
        self.accounts.into_values().map(|account| account.record)
    }
}

/// One operation being decided.
#[derive(Debug)]
pub(crate) struct Tx<'a> {
    state: &'a State,
    batch: &'a Overlay,
    own: Own,
    ledger: &'a Ledger,
    pub(crate) env: &'a Environment,
    /// For the journal, in order, less the accounts.
    changes: Vec<Change>,
    /// The texts of the new ledger lines, one behind the other, and what to remember of each.
    pub(crate) lines: Vec<u8>,
    pub(crate) marks: Vec<LineMark>,
    /// Where the next ledger line will stand.
    ledger_end: u64,
}

/// What a decided operation leaves: for the journal and for publication.
#[derive(Debug)]
pub(crate) struct Decided {
    pub(crate) own: Own,
    /// Less the accounts.
    pub(crate) changes: Vec<Change>,
    pub(crate) lines: Vec<u8>,
    pub(crate) marks: Vec<LineMark>,
}

impl Decided {
    /// Whether there is nothing to store.
    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.marks.is_empty() && self.own.accounts.is_empty()
    }
    /// The accounts it changed, as it leaves them.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = &AccountRecord> {
        self.own.accounts.iter().map(|account| &account.record)
    }
}

impl View for Tx<'_> {
    fn account(&self, user: UserId) -> Result<Option<kernel::Account>, Halt> {
        let seen = |account: &Account| kernel::Account { record: account.record.clone(), rows: account.rows };
        Ok(self.account(user).map(seen))
    }
    fn key(&self, user: UserId, space: KeySpace, key: &OperationKey) -> Result<Option<UsedKey>, Halt> {
        self.used_key(user, space, key).map_err(Halt::Failed)
    }
    fn hold(&self, user: UserId, name: &HoldName) -> Result<Option<Arc<Hold>>, Halt> {
        let slot = (user, name.clone());
        let places = [self.own.rare.holds.get(&slot), self.batch.rare.holds.get(&slot), self.state.holds.get(&slot)];
        Ok(places.into_iter().flatten().next().cloned())
    }
    fn job(&self, job: &JobId) -> Result<Option<Arc<Job>>, Halt> {
        let places = [self.own.rare.jobs.get(job), self.batch.rare.jobs.get(job), self.state.jobs.get(job)];
        Ok(places.into_iter().flatten().next().cloned())
    }
    fn job_of(&self, task: &TaskId) -> Result<Option<Arc<Job>>, Halt> {
        let tasks = [self.own.rare.tasks.get(task), self.batch.rare.tasks.get(task), self.state.jobs_by_task.get(task)];
        // An entry further down may be out of date: the job it names has another external id by now.
        for id in tasks.into_iter().flatten() {
            if let Some(job) = self.job(id)?.filter(|job| job.external_task_id.as_ref() == Some(task)) {
                return Ok(Some(job));
            }
        }
        Ok(None)
    }
    fn payment(&self, payment: &PaymentId) -> Result<Option<Arc<Payment>>, Halt> {
        let (own, batch) = (&self.own.rare.payments, &self.batch.rare.payments);
        let places = [own.get(payment), batch.get(payment), self.state.payments.get(payment)];
        Ok(places.into_iter().flatten().next().cloned())
    }
    fn payment_of(&self, provider: &ProviderKey) -> Result<Option<Arc<Payment>>, Halt> {
        let (own, batch) = (&self.own.rare.providers, &self.batch.rare.providers);
        let ids = [own.get(provider), batch.get(provider), self.state.payments_by_provider.get(provider)];
        ids.into_iter().flatten().next().map_or(Ok(None), |id| self.payment(id))
    }
    fn chain(&self, user: UserId) -> Result<Vec<UserId>, Halt> {
        let above = std::iter::successors(self.referrer_of(user), |user| self.referrer_of(*user));
        Ok(above.take(MAX_REFERRAL_CHAIN).collect())
    }
    fn height(&self, user: UserId) -> Result<usize, Halt> {
        Ok(self.height_of(user))
    }
}

impl<'a> Tx<'a> {
    pub(crate) fn new(
        state: &'a State,
        batch: &'a Overlay,
        ledger: &'a Ledger,
        env: &'a Environment,
        ledger_end: u64,
    ) -> Self {
        let (own, changes, lines, marks) = Default::default();
        Self { state, batch, own, ledger, env, changes, lines, marks, ledger_end }
    }

    pub(crate) fn decided(self) -> Decided {
        Decided { own: self.own, changes: self.changes, lines: self.lines, marks: self.marks }
    }
    /// [`Tx::decided`], for who applies the changes at once: the accounts are among them.
    pub(crate) fn finish(self) -> Decided {
        let mut decided = self.decided();
        let accounts = std::mem::take(&mut decided.own.accounts);
        decided.changes.splice(0..0, accounts.into_iter().map(|account| Change::Account(Box::new(account.record))));
        decided
    }

    /// Writes down what a decision changes.
    pub(crate) fn put(&mut self, changes: Changes) -> Result<()> {
        let Changes { accounts, rows, key, record, trim } = changes;
        let mut brought = None;
        for account in accounts.into_iter().flatten() {
            let user = account.record.user;
            let account = match self.account(user) {
                Some(present) => {
                    let is_new = account.record.referrer.is_some() && present.record.referrer.is_none();
                    brought = brought.or(is_new.then_some(user));
                    present.becoming(account)
                }
                None => {
                    brought = brought.or(account.record.referrer.map(|_| user));
                    Account::new(account.record).with_rows(account.rows)
                }
            };
            self.put_account(account);
        }
        if let Some(user) = brought {
            self.raise_above(user);
        }
        match key {
            Some(key) => self.put_line(key, rows)?,
            None if rows.is_empty() => {}
            None => return Err(Error::internal("ledger rows without a key")),
        }
        match record {
            Some(Record::Hold(hold)) => self.put_hold(hold),
            Some(Record::Job(job)) => self.put_job(job),
            Some(Record::Payment(payment)) => self.put_payment(payment),
            Some(Record::Generation(user, generation)) => {
                if let Some(Trim::Before(kept)) = trim {
                    self.trim_history(user, kept);
                }
                self.put_generation(user, &generation);
                if let Some(Trim::After(kept)) = trim {
                    self.trim_history(user, kept);
                }
            }
            None => {}
        }
        Ok(())
    }

    /// Writes what a key remembers and the rows of its operation as one ledger line.
    fn put_line(&mut self, key: KeyRecord, rows: Vec<LedgerRow>) -> Result<()> {
        let KeyRecord { user, space, key, used } = key;
        let offset = self.ledger_end + self.lines.len() as u64;
        let UsedKey { arguments, operation, answer } = &used;
        let prev = self.account(user).and_then(|account| account.last).filter(|_| !rows.is_empty());
        let rows: Vec<Row> = rows.into_iter().map(Row::from).collect();
        let (arguments, operation, answer) = (*arguments, *operation, answer.clone());
        let line = Line { user, space, key: key.clone(), operation, arguments, answer, rows, prev };
        self.lines.reserve(USUAL_LINE);
        line.write(&mut self.lines)?;
        let last_row = line.rows.last().map(|row| row.seq);
        self.marks.push(LineMark { user, space, key: key.as_str().to_owned(), offset, last_row });
        if last_row.is_some()
            && let Some(account) = self.own.accounts.iter_mut().find(|account| account.record.user == user)
        {
            account.last = Some(offset);
        }
        self.own.keys.push(((user, space, key), used));
        Ok(())
    }

    pub(crate) fn account(&self, user: UserId) -> Option<&Account> {
        let own = self.own.accounts.iter().find(|account| account.record.user == user);
        own.or_else(|| self.batch.accounts.get(&user)).or_else(|| self.state.account(user))
    }
    fn put_account(&mut self, account: Account) {
        // An account may be put several times in one operation; its last value says it all.
        match self.own.accounts.iter_mut().find(|present| present.record.user == account.record.user) {
            Some(present) => *present = account,
            None => self.own.accounts.push(account),
        }
    }
    fn referrer_of(&self, user: UserId) -> Option<UserId> {
        self.account(user).and_then(|account| account.record.referrer)
    }

    fn put_hold(&mut self, hold: Arc<Hold>) {
        self.changes.push(Change::Hold(Box::new((*hold).clone())));
        self.own.rare.holds.insert((hold.user, hold.name.clone()), hold);
    }
    fn put_job(&mut self, job: Arc<Job>) {
        self.changes.push(Change::Job(Box::new(JobRecord::from((*job).clone()))));
        if let Some(task) = &job.external_task_id {
            self.own.rare.tasks.insert(task.clone(), job.id.clone());
        }
        self.own.rare.jobs.insert(job.id.clone(), job);
    }
    fn put_payment(&mut self, payment: Arc<Payment>) {
        self.changes.push(Change::Payment(Box::new(PaymentRecord::from((*payment).clone()))));
        if let Some(provider) = &payment.provider_key {
            self.own.rare.providers.insert(provider.clone(), payment.id.clone());
        }
        self.own.rare.payments.insert(payment.id.clone(), payment);
    }

    /// Adds a history entry.
    fn put_generation(&mut self, user: UserId, generation: &Generation) {
        self.changes.push(Change::Generation(Box::new(GenerationRecord::new(user, generation))));
        self.own.rare.generations.entry(user).or_default().push((generation.at, generation.id.clone()));
        if let Some(mut account) = self.account(user).cloned() {
            account.history += 1;
            self.put_account(account);
        }
    }
    /// Drops the oldest history entries beyond this number.
    fn trim_history(&mut self, user: UserId, kept: usize) {
        let Some(account) = self.account(user) else { return };
        let surplus = usize::try_from(account.history).unwrap_or(usize::MAX).saturating_sub(kept);
        if surplus == 0 {
            return;
        }
        let mut account = account.clone();
        for (at, id) in self.oldest_generations(user, surplus) {
            self.own.rare.trims.insert((user, at, id.clone()));
            self.changes.push(Change::Trim { user, at, id });
            account.history -= 1;
        }
        self.put_account(account);
    }
    fn oldest_generations(&self, user: UserId, count: usize) -> Vec<(Timestamp, GenerationId)> {
        let of_user = |rare: &'_ Rare| rare.generations.get(&user).cloned().unwrap_or_default();
        let published = self.state.history.oldest_of(user).map(|(at, id, _)| (at, id.clone()));
        let stays = |(at, id): &(Timestamp, GenerationId)| {
            let key = (user, *at, id.clone());
            !self.batch.rare.trims.contains(&key) && !self.own.rare.trims.contains(&key)
        };
        // Not the whole history: no more of it can go than are wanted.
        let published = published.filter(stays).take(count);
        let pending = of_user(&self.batch.rare).into_iter().chain(of_user(&self.own.rare)).filter(stays);
        let present: BTreeSet<_> = published.chain(pending).collect();
        present.into_iter().take(count).collect()
    }

    /// The height of the tree of those whom a user brought.
    fn height_of(&self, user: UserId) -> usize {
        let heights = [self.own.rare.heights.get(&user), self.batch.rare.heights.get(&user)];
        heights.into_iter().flatten().next().copied().unwrap_or_else(|| self.state.height(user))
    }
    /// Notes that a user has a referrer now: the trees of all above may have become higher. The accounts must be put
    /// before.
    fn raise_above(&mut self, user: UserId) {
        let mut height = self.height_of(user);
        let mut above = self.referrer_of(user);
        while let Some(user) = above {
            height += 1;
            if self.height_of(user) >= height {
                return;
            }
            self.own.rare.heights.insert(user, height);
            above = self.referrer_of(user);
        }
    }

    /// What a key was used for.
    fn used_key(&self, user: UserId, space: KeySpace, key: &OperationKey) -> Result<Option<UsedKey>> {
        let slot = (user, space, key.clone());
        let own = self.own.keys.iter().find(|(used, _)| *used == slot).map(|(_, used)| used);
        if let Some(used) = own.or_else(|| self.batch.keys.get(&slot)) {
            return Ok(Some(used.clone()));
        }
        Ok(self.state.keys.find(self.ledger, user, space, key)?.map(|line| line.used()))
    }
}
