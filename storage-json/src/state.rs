//! What the store knows, in memory: typed maps, and the absolute changes that journal records are made of.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use storage_core::dump::{GenerationRecord, JobRecord, PaymentRecord};
use storage_core::{
    AccountRecord, Generation, GenerationId, Hold, HoldName, HoldStatus, Job, JobId, KeySpace, Payment, PaymentId,
    ProviderKey, TaskId, Timestamp, UserId,
};

use crate::before::Moments;
use crate::index::KeyIndex;
use crate::lists::{UserIndex, UserMap};

/// A user: the record, and where the user's ledger ends.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) record: AccountRecord,
    /// Ledger rows so far.
    pub(crate) rows: u64,
    /// Offset of the last ledger line with rows.
    pub(crate) last: Option<u64>,
    /// History entries kept.
    pub(crate) history: u32,
}

impl Account {
    pub(crate) fn new(record: AccountRecord) -> Self {
        Self { record, rows: 0, last: None, history: 0 }
    }
}

/// One absolute change: applying it twice is applying it once.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    Account(Box<AccountRecord>),
    Hold(Box<Hold>),
    Job(Box<JobRecord>),
    Payment(Box<PaymentRecord>),
    Generation(Box<GenerationRecord>),
    Trim { user: UserId, at: Timestamp, id: GenerationId },
}

/// What applying a journal record needs of one of its ledger lines.
#[derive(Clone, Debug)]
pub(crate) struct LineMark {
    pub(crate) user: UserId,
    pub(crate) space: KeySpace,
    pub(crate) key: String,
    pub(crate) offset: u64,
    /// The number of the line's last row; none for a line without rows.
    pub(crate) last_row: Option<u64>,
}

/// How far the state has come: journal generation, offset in that journal, next sequence number, ledger length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) generation: u64,
    pub(crate) offset: u64,
    pub(crate) seq: u64,
    pub(crate) ledger: u64,
}

impl Position {
    /// Whether a state here knows everything that stands before `other`.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        (self.generation, self.offset) >= (other.generation, other.offset)
    }
}

/// The files that a checkpoint writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum FileId {
    Balances,
    Languages,
    Gifts,
    Quotas,
    AdminLimits,
    History,
    Payments,
    Referrals,
    Jobs,
    Users,
    Holds,
}

impl FileId {
    pub(crate) const ALL: [Self; 11] = [
        Self::Balances,
        Self::Languages,
        Self::Gifts,
        Self::Quotas,
        Self::AdminLimits,
        Self::History,
        Self::Payments,
        Self::Referrals,
        Self::Jobs,
        Self::Users,
        Self::Holds,
    ];
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Balances => "user_balances.json",
            Self::Languages => "user_languages.json",
            Self::Gifts => "gift_claimed.json",
            Self::Quotas => "daily_free_generations.json",
            Self::AdminLimits => "admin_limits.json",
            Self::History => "generations_history.json",
            Self::Payments => "payments.json",
            Self::Referrals => "referrals.json",
            Self::Jobs => "generation_jobs.json",
            Self::Users => "users.json",
            Self::Holds => "balance_reserves.json",
        }
    }
    /// Whether the file tells of users, one entry for each.
    pub(crate) fn is_of_accounts(self) -> bool {
        !matches!(self, Self::Holds | Self::Payments | Self::Jobs | Self::History)
    }
    /// Whether the file has the original's shape, and a hand edit of it is honoured.
    pub(crate) fn is_original(self) -> bool {
        !matches!(self, Self::Users | Self::Holds)
    }
}

/// A set of files.
#[derive(Clone, Debug, Default)]
pub(crate) struct FileSet(BTreeSet<FileId>);

impl FileSet {
    pub(crate) fn all() -> Self {
        Self(FileId::ALL.into_iter().collect())
    }
    pub(crate) fn add(&mut self, file: FileId) {
        self.0.insert(file);
    }
    pub(crate) fn has(&self, file: FileId) -> bool {
        self.0.contains(&file)
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub(crate) fn join(&mut self, other: &Self) {
        self.0.extend(&other.0);
    }
}

/// The files that changed, by the journal in which they did.
#[derive(Debug, Default)]
pub(crate) struct Dirty(BTreeMap<u64, FileSet>);

impl Dirty {
    /// What changed before a journal began, or at all.
    pub(crate) fn before(&self, generation: Option<u64>) -> FileSet {
        let sets = self.0.iter().filter(|(changed, _)| generation.is_none_or(|generation| **changed < generation));
        FileSet(sets.flat_map(|(_, set)| set.0.iter().copied()).collect())
    }
    /// Forgets what the files contain by now.
    pub(crate) fn forget_before(&mut self, generation: u64) {
        self.0.retain(|changed, _| *changed >= generation);
    }
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Everything the store knows, with an index for every list.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) accounts: BTreeMap<UserId, Account>,
    pub(crate) referred: BTreeSet<(UserId, Timestamp, UserId)>,
    pub(crate) jobs: HashMap<JobId, Arc<Job>>,
    pub(crate) jobs_by_task: HashMap<TaskId, JobId>,
    pub(crate) jobs_by_user: UserIndex<JobId>,
    pub(crate) jobs_by_time: BTreeSet<(Timestamp, JobId)>,
    pub(crate) payments: HashMap<PaymentId, Arc<Payment>>,
    pub(crate) payments_by_provider: HashMap<ProviderKey, PaymentId>,
    pub(crate) payments_by_user: UserIndex<PaymentId>,
    pub(crate) payments_by_time: BTreeSet<(Timestamp, PaymentId)>,
    pub(crate) holds: BTreeMap<(UserId, HoldName), Arc<Hold>>,
    pub(crate) holds_by_user: UserIndex<HoldName>,
    pub(crate) holds_by_time: BTreeSet<(Timestamp, HoldName, UserId)>,
    pub(crate) holds_by_expiry: BTreeSet<(Timestamp, UserId, HoldName)>,
    pub(crate) history: UserMap<GenerationId, Arc<Generation>>,
    pub(crate) keys: KeyIndex,
    pub(crate) position: Position,
    pub(crate) dirty: Dirty,
    /// While a checkpoint or a dump is being written: what it may still have to write and has changed since.
    pub(crate) moments: Moments,
}

impl State {
    fn touch(&mut self, file: FileId) {
        self.dirty.0.entry(self.position.generation).or_default().add(file);
    }

    pub(crate) fn account(&self, user: UserId) -> Option<&Account> {
        self.accounts.get(&user)
    }

    pub(crate) fn apply(&mut self, change: Change) {
        match change {
            Change::Account(record) => self.put_account(*record),
            Change::Hold(hold) => self.put_hold(Arc::new(*hold)),
            Change::Job(job) => self.put_job(Arc::new(Job::from(*job))),
            Change::Payment(payment) => self.put_payment(Arc::new(Payment::from(*payment))),
            Change::Generation(record) => {
                let (user, generation) = record.into_generation();
                self.put_generation(user, Arc::new(generation));
            }
            Change::Trim { user, at, id } => self.trim(user, at, &id),
        }
    }

    pub(crate) fn put_account(&mut self, record: AccountRecord) {
        let user = record.user;
        for before in self.moments.all() {
            before.accounts.entry(user).or_insert_with(|| self.accounts.get(&user).cloned());
        }
        let old = self.accounts.get(&user).map(|account| &account.record);
        let dirty = self.dirty.0.entry(self.position.generation).or_default();
        let mut touch = |file, differs: bool| {
            if differs {
                dirty.add(file);
            }
        };
        touch(FileId::Users, old != Some(&record));
        touch(FileId::Balances, old.is_none_or(|old| old.balance != record.balance));
        touch(FileId::Languages, old.and_then(|old| old.language.as_ref()) != record.language.as_ref());
        touch(FileId::Gifts, old.is_some_and(|old| old.gift_claimed) != record.gift_claimed);
        touch(FileId::Quotas, old.map(AccountRecord::quota).unwrap_or_default() != record.quota());
        let limits = |record: &AccountRecord| record.admin_limit.map(|limit| (limit, record.spent));
        touch(FileId::AdminLimits, old.and_then(limits) != limits(&record));
        let referral = |record: &AccountRecord| record.referrer.zip(record.referred_at);
        let (before, after) = (old.and_then(referral), referral(&record));
        touch(FileId::Referrals, before != after);
        if before != after {
            if let Some((referrer, since)) = before {
                self.referred.remove(&(referrer, since, user));
            }
            if let Some((referrer, since)) = after {
                self.referred.insert((referrer, since, user));
            }
        }
        match self.accounts.entry(user) {
            std::collections::btree_map::Entry::Occupied(mut entry) => entry.get_mut().record = record,
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(Account::new(record));
            }
        }
    }

    pub(crate) fn put_hold(&mut self, hold: Arc<Hold>) {
        self.touch(FileId::Holds);
        for before in self.moments.all() {
            let key = (hold.user, hold.name.clone());
            let old = self.holds.get(&key).cloned();
            before.holds.entry(key).or_insert(old);
        }
        if let Some(at) = hold.expires_at {
            let expiry = (at, hold.user, hold.name.clone());
            if hold.status == HoldStatus::Open {
                self.holds_by_expiry.insert(expiry);
            } else {
                self.holds_by_expiry.remove(&expiry);
            }
        }
        self.holds_by_user.insert(hold.user, hold.created_at, hold.name.clone(), ());
        self.holds_by_time.insert((hold.created_at, hold.name.clone(), hold.user));
        self.holds.insert((hold.user, hold.name.clone()), hold);
    }

    pub(crate) fn put_job(&mut self, job: Arc<Job>) {
        self.touch(FileId::Jobs);
        for before in self.moments.all() {
            let old = self.jobs.get(&job.id).cloned();
            before.jobs.entry((job.created_at, job.id.clone())).or_insert(old);
        }
        if let Some(old) = self.jobs.get(&job.id)
            && old.external_task_id != job.external_task_id
            && let Some(task) = &old.external_task_id
        {
            self.jobs_by_task.remove(task);
        }
        if let Some(task) = &job.external_task_id {
            self.jobs_by_task.insert(task.clone(), job.id.clone());
        }
        self.jobs_by_user.insert(job.user, job.created_at, job.id.clone(), ());
        self.jobs_by_time.insert((job.created_at, job.id.clone()));
        self.jobs.insert(job.id.clone(), job);
    }

    pub(crate) fn put_payment(&mut self, payment: Arc<Payment>) {
        self.touch(FileId::Payments);
        for before in self.moments.all() {
            let old = self.payments.get(&payment.id).cloned();
            before.payments.entry((payment.created_at, payment.id.clone())).or_insert(old);
        }
        if let Some(provider) = &payment.provider_key {
            self.payments_by_provider.insert(provider.clone(), payment.id.clone());
        }
        self.payments_by_user.insert(payment.user, payment.created_at, payment.id.clone(), ());
        self.payments_by_time.insert((payment.created_at, payment.id.clone()));
        self.payments.insert(payment.id.clone(), payment);
    }

    pub(crate) fn put_generation(&mut self, user: UserId, generation: Arc<Generation>) {
        self.touch(FileId::History);
        let (at, id) = (generation.at, generation.id.clone());
        let old = self.history.insert(user, at, id.clone(), generation);
        if old.is_none()
            && let Some(account) = self.accounts.get_mut(&user)
        {
            account.history += 1;
        }
        for before in self.moments.all() {
            before.history.entry((user, at, id.clone())).or_insert_with(|| old.clone());
        }
    }

    fn trim(&mut self, user: UserId, at: Timestamp, id: &GenerationId) {
        if let Some(old) = self.history.remove(user, at, id.clone()) {
            self.touch(FileId::History);
            for before in self.moments.all() {
                before.history.entry((user, at, id.clone())).or_insert_with(|| Some(Arc::clone(&old)));
            }
            if let Some(account) = self.accounts.get_mut(&user) {
                account.history -= 1;
            }
        }
    }

    /// Notes a ledger line that is on disk.
    pub(crate) fn mark_line(&mut self, mark: &LineMark) {
        self.keys.insert(mark.user, mark.space, &mark.key, mark.offset);
        let Some(rows) = mark.last_row else { return };
        for before in self.moments.all() {
            before.accounts.entry(mark.user).or_insert_with(|| self.accounts.get(&mark.user).cloned());
        }
        if let Some(account) = self.accounts.get_mut(&mark.user) {
            (account.rows, account.last) = (rows, Some(mark.offset));
            self.touch(FileId::Users);
        }
    }
}
