//! What an operation decides against: the published state, under it the batch's earlier operations, under them its own
//! changes. Nothing here is visible to readers, and an operation that fails leaves nothing behind.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use storage_core::dump::{GenerationRecord, JobRecord, KeyRecord, PaymentRecord};
use storage_core::kernel::{self, Changes, Halt, Record, Trim, View};
use storage_core::{
    AccountRecord, Answer, Environment, Fingerprint, Generation, GenerationId, Hold, HoldName, Job, JobId, KeySpace,
    Memo, Money, OperationKey, OperationKind, Payment, PaymentId, ProviderKey, Receipt, Reference, Result, Stamp,
    TaskId, Timestamp, UsedKey, UserId, check_key,
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
    pub(crate) stamp: Stamp,
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

/// A change of a user's money, before it has its place in the ledger.
#[derive(Debug)]
pub(crate) struct Posting {
    pub(crate) kind: OperationKind,
    pub(crate) balance: Money,
    pub(crate) held: Money,
    pub(crate) memo: Memo,
}

impl View for Tx<'_> {
    fn account(&self, user: UserId) -> Result<Option<kernel::Account>, Halt> {
        let seen = |account: &Account| kernel::Account { record: account.record.clone(), rows: account.rows };
        Ok(self.account(user).map(seen))
    }
    fn key(&self, user: UserId, space: KeySpace, key: &OperationKey) -> Result<Option<UsedKey>, Halt> {
        self.used_key(user, space, key).map_err(Halt::Failed)
    }
}

impl<'a> Tx<'a> {
    pub(crate) fn new(
        state: &'a State,
        batch: &'a Overlay,
        ledger: &'a Ledger,
        env: &'a Environment,
        stamp: Stamp,
        ledger_end: u64,
    ) -> Self {
        let (own, changes, lines, marks) = Default::default();
        Self { state, batch, own, ledger, env, stamp, changes, lines, marks, ledger_end }
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

    pub(crate) fn now(&self) -> Timestamp {
        self.stamp.now
    }

    /// Writes down what a decision changes.
    pub(crate) fn put(&mut self, changes: Changes) -> Result<()> {
        let Changes { accounts, key, record, trim } = changes;
        for account in accounts.into_iter().flatten() {
            let account = match self.account(account.record.user) {
                Some(present) => present.becoming(account),
                None => Account::new(account.record),
            };
            self.put_account(account);
        }
        if let Some(KeyRecord { user, space, key, used }) = key {
            self.put_line(Line::of(user, (space, key), used))?;
        }
        match record {
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

    pub(crate) fn account(&self, user: UserId) -> Option<&Account> {
        let own = self.own.accounts.iter().find(|account| account.record.user == user);
        own.or_else(|| self.batch.accounts.get(&user)).or_else(|| self.state.account(user))
    }
    /// The account, a new one when there is none. Nothing is created before [`Tx::put_account`].
    pub(crate) fn account_or_new(&self, user: UserId) -> Account {
        self.account(user).cloned().unwrap_or_else(|| Account::new(AccountRecord::new(user, self.now())))
    }
    pub(crate) fn put_account(&mut self, account: Account) {
        // An account may be put several times in one operation; its last value says it all.
        match self.own.accounts.iter_mut().find(|present| present.record.user == account.record.user) {
            Some(present) => *present = account,
            None => self.own.accounts.push(account),
        }
    }
    /// Creates the user when missing.
    pub(crate) fn ensure_account(&mut self, user: UserId) {
        if self.account(user).is_none() {
            let account = self.account_or_new(user);
            self.put_account(account);
        }
    }

    pub(crate) fn hold(&self, user: UserId, name: &HoldName) -> Option<Arc<Hold>> {
        let key = (user, name.clone());
        self.own
            .rare
            .holds
            .get(&key)
            .or_else(|| self.batch.rare.holds.get(&key))
            .or_else(|| self.state.holds.get(&key))
            .cloned()
    }
    pub(crate) fn put_hold(&mut self, hold: Hold) -> Arc<Hold> {
        let hold = Arc::new(hold);
        self.changes.push(Change::Hold(Box::new((*hold).clone())));
        self.own.rare.holds.insert((hold.user, hold.name.clone()), Arc::clone(&hold));
        hold
    }

    pub(crate) fn job(&self, id: &JobId) -> Option<Arc<Job>> {
        self.own.rare.jobs.get(id).or_else(|| self.batch.rare.jobs.get(id)).or_else(|| self.state.jobs.get(id)).cloned()
    }
    /// The job that has this external task id now.
    pub(crate) fn job_by_task(&self, task: &TaskId) -> Option<Arc<Job>> {
        let tasks = [self.own.rare.tasks.get(task), self.batch.rare.tasks.get(task), self.state.jobs_by_task.get(task)];
        // An entry further down may be out of date: the job it names has another external id by now.
        tasks
            .into_iter()
            .flatten()
            .find_map(|id| self.job(id).filter(|job| job.external_task_id.as_ref() == Some(task)))
    }
    pub(crate) fn put_job(&mut self, job: Job) -> Arc<Job> {
        let job = Arc::new(job);
        self.changes.push(Change::Job(Box::new(JobRecord::from((*job).clone()))));
        if let Some(task) = &job.external_task_id {
            self.own.rare.tasks.insert(task.clone(), job.id.clone());
        }
        self.own.rare.jobs.insert(job.id.clone(), Arc::clone(&job));
        job
    }

    pub(crate) fn payment(&self, id: &PaymentId) -> Option<Arc<Payment>> {
        let payments = [self.own.rare.payments.get(id), self.batch.rare.payments.get(id), self.state.payments.get(id)];
        payments.into_iter().flatten().next().cloned()
    }
    pub(crate) fn payment_by_provider(&self, provider: &ProviderKey) -> Option<Arc<Payment>> {
        let ids = [
            self.own.rare.providers.get(provider),
            self.batch.rare.providers.get(provider),
            self.state.payments_by_provider.get(provider),
        ];
        ids.into_iter().flatten().next().and_then(|id| self.payment(id))
    }
    pub(crate) fn put_payment(&mut self, payment: Payment) -> Arc<Payment> {
        let payment = Arc::new(payment);
        self.changes.push(Change::Payment(Box::new(PaymentRecord::from((*payment).clone()))));
        if let Some(provider) = &payment.provider_key {
            self.own.rare.providers.insert(provider.clone(), payment.id.clone());
        }
        self.own.rare.payments.insert(payment.id.clone(), Arc::clone(&payment));
        payment
    }

    /// Adds a history entry.
    pub(crate) fn put_generation(&mut self, user: UserId, generation: &Generation) {
        self.changes.push(Change::Generation(Box::new(GenerationRecord::new(user, generation))));
        self.own.rare.generations.entry(user).or_default().push((generation.at, generation.id.clone()));
        let mut account = self.account_or_new(user);
        account.history += 1;
        self.put_account(account);
    }
    /// Drops the oldest history entries beyond this number.
    pub(crate) fn trim_history(&mut self, user: UserId, kept: usize) {
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
    pub(crate) fn height(&self, user: UserId) -> usize {
        let heights = [self.own.rare.heights.get(&user), self.batch.rare.heights.get(&user)];
        heights.into_iter().flatten().next().copied().unwrap_or_else(|| self.state.height(user))
    }
    /// Notes that a user has a referrer now: the trees of all above may have become higher. The accounts must be put
    /// before.
    pub(crate) fn raise_above(&mut self, user: UserId) {
        let mut height = self.height(user);
        let referrer_of = |tx: &Self, user| tx.account(user).and_then(|account| account.record.referrer);
        let mut above = referrer_of(self, user);
        while let Some(user) = above {
            height += 1;
            if self.height(user) >= height {
                return;
            }
            self.own.rare.heights.insert(user, height);
            above = referrer_of(self, user);
        }
    }

    /// What a key was used for.
    pub(crate) fn used_key(&self, user: UserId, space: KeySpace, key: &OperationKey) -> Result<Option<UsedKey>> {
        let slot = (user, space, key.clone());
        let own = self.own.keys.iter().find(|(used, _)| *used == slot).map(|(_, used)| used);
        if let Some(used) = own.or_else(|| self.batch.keys.get(&slot)) {
            return Ok(Some(used.clone()));
        }
        Ok(self.state.keys.find(self.ledger, user, space, key)?.map(|line| line.used()))
    }
    /// Whether a call only repeats one that had succeeded; `Conflict` when its key was used for something else.
    pub(crate) fn replayed(
        &self,
        user: UserId,
        key: Option<&OperationKey>,
        arguments: Fingerprint,
    ) -> Result<Option<UsedKey>> {
        let Some(key) = key else { return Ok(None) };
        check_key(user, key, arguments, self.used_key(user, KeySpace::Operation, key)?)
    }
    /// [`Tx::replayed`], for an operation that answers a money receipt.
    pub(crate) fn replayed_receipt(
        &self,
        user: UserId,
        key: Option<&OperationKey>,
        arguments: Fingerprint,
    ) -> Result<Option<Receipt>> {
        Ok(match self.replayed(user, key, arguments)?.map(|used| used.answer) {
            Some(Answer::Money(receipt)) => Some(Receipt { replayed: true, ..receipt }),
            _ => None,
        })
    }
    /// The key of the operation: the caller's, else its own id.
    pub(crate) fn key_or_minted(&self, key: Option<OperationKey>) -> OperationKey {
        key.unwrap_or_else(|| self.stamp.operation.to_key())
    }
    /// The receipt of this operation.
    pub(crate) fn receipt(&self, balance_after: Money) -> Receipt {
        Receipt { operation: self.stamp.operation, balance_after, replayed: false }
    }

    /// Changes an account's money and gives the row that records it.
    pub(crate) fn post(&self, account: &mut Account, posting: Posting) -> Result<Row> {
        let Posting { kind, balance, held, memo } = posting;
        // The most that balance and held money may come to together.
        balance.checked_add(held)?;
        let record = &mut account.record;
        let row = Row {
            seq: account.rows + 1,
            kind,
            balance_change: balance.change_since(record.balance),
            held_change: held.change_since(record.held),
            balance_after: balance,
            held_after: held,
            reference: memo.reference,
            reason: memo.reason,
            actor: memo.actor,
            at: self.stamp.now,
        };
        if balance != record.balance {
            record.updated_at = self.stamp.now;
        }
        (record.balance, record.held) = (balance, held);
        account.rows += 1;
        Ok(row)
    }

    /// Uses a key up: writes the receipt and the rows as one ledger line, and stores the account.
    pub(crate) fn settle(
        &mut self,
        mut account: Account,
        (space, key): (KeySpace, OperationKey),
        arguments: Fingerprint,
        answer: Answer,
        rows: Vec<Row>,
    ) -> Result<()> {
        let used = UsedKey { arguments, operation: self.stamp.operation, answer };
        let line = Line::of(account.record.user, (space, key), used);
        let prev = account.last.filter(|_| !rows.is_empty());
        let has_rows = !rows.is_empty();
        let offset = self.put_line(Line { rows, prev, ..line })?;
        if has_rows {
            account.last = Some(offset);
        }
        self.put_account(account);
        Ok(())
    }
    /// Writes a ledger line, and answers where it will stand.
    fn put_line(&mut self, line: Line) -> Result<u64> {
        let offset = self.ledger_end + self.lines.len() as u64;
        self.lines.reserve(USUAL_LINE);
        line.write(&mut self.lines)?;
        let last_row = line.rows.last().map(|row| row.seq);
        let Line { user, space, key, operation, arguments, answer, rows: _, prev: _ } = line;
        self.marks.push(LineMark { user, space, key: key.as_str().to_owned(), offset, last_row });
        self.own.keys.push(((user, space, key), UsedKey { arguments, operation, answer }));
        Ok(offset)
    }
    /// [`Tx::settle`] for an operation's key; the caller's, else the minted one.
    pub(crate) fn settle_operation(
        &mut self,
        account: Account,
        key: Option<OperationKey>,
        arguments: Fingerprint,
        answer: Answer,
        rows: Vec<Row>,
    ) -> Result<()> {
        let key = self.key_or_minted(key);
        self.settle(account, (KeySpace::Operation, key), arguments, answer, rows)
    }
    /// Uses an explicit key up for a call that changed nothing. Without a key there is nothing to remember.
    pub(crate) fn settle_unchanged(
        &mut self,
        user: UserId,
        key: Option<OperationKey>,
        arguments: Fingerprint,
        answer: Answer,
    ) -> Result<()> {
        match key {
            None => Ok(()),
            Some(key) => {
                let account = self.account_or_new(user);
                self.settle_operation(account, Some(key), arguments, answer, Vec::new())
            }
        }
    }
}

/// What a ledger row refers to, from an id that keeps the same rules.
pub(crate) fn reference(id: &str) -> Result<Option<Reference>> {
    Reference::new(id).map(Some)
}
