//! What the store knows, in memory: typed maps, and the absolute changes that journal records are made of.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use storage_core::dump::{GenerationRecord, JobRecord, PaymentRecord};
use storage_core::{
    AccountRecord, Generation, GenerationId, Hold, HoldName, HoldStatus, Job, JobId, JobStatus, KeySpace,
    MAX_REFERRAL_CHAIN, Payment, PaymentId, PaymentStatus, ProviderKey, TaskId, Timestamp, UserId, height_below,
    kernel,
};

use crate::before::Moments;
use crate::index::KeyIndex;
use crate::lists::{StatusIndex, UserMap};
use crate::spread::Spread;

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
    /// The height of the tree of those whom the user brought, as far as [`State::height`] is concerned; [`TALL`] for all
    /// that are higher.
    height: u16,
}

/// Higher than any chain of referrers may be.
#[expect(clippy::cast_possible_truncation, reason = "a thousand and one")]
const TALL: u16 = MAX_REFERRAL_CHAIN as u16 + 1;

impl Account {
    pub(crate) fn new(record: AccountRecord) -> Self {
        Self { record, rows: 0, last: None, history: 0, height: 0 }
    }
    pub(crate) fn with_rows(self, rows: u64) -> Self {
        Self { rows, ..self }
    }
    /// The same user as a decision leaves them.
    pub(crate) fn becoming(&self, account: kernel::Account) -> Self {
        let Self { record: _, rows: _, last, history, height } = *self;
        Self { record: account.record, rows: account.rows, last, history, height }
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

/// Everything the store knows, with an index for every list. The indexes by user hold the status too, so that a list of
/// one status passes over the others without a look at the records.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) accounts: BTreeMap<UserId, Account>,
    pub(crate) referred: BTreeSet<(UserId, Timestamp, UserId)>,
    pub(crate) jobs: Spread<JobId, Arc<Job>>,
    pub(crate) jobs_by_task: Spread<TaskId, JobId>,
    pub(crate) jobs_by_user: UserMap<JobId, JobStatus>,
    pub(crate) jobs_by_time: StatusIndex<JobStatus, JobId>,
    pub(crate) payments: Spread<PaymentId, Arc<Payment>>,
    pub(crate) payments_by_provider: Spread<ProviderKey, PaymentId>,
    pub(crate) payments_by_user: UserMap<PaymentId, PaymentStatus>,
    pub(crate) payments_by_time: StatusIndex<PaymentStatus, PaymentId>,
    pub(crate) holds: BTreeMap<(UserId, HoldName), Arc<Hold>>,
    pub(crate) holds_by_user: UserMap<HoldName, HoldStatus>,
    pub(crate) holds_by_time: StatusIndex<HoldStatus, (HoldName, UserId)>,
    pub(crate) holds_by_expiry: BTreeSet<(Timestamp, UserId, HoldName)>,
    pub(crate) history: UserMap<GenerationId, Arc<Generation>>,
    pub(crate) keys: KeyIndex,
    /// Whether the accounts have their heights. While a store is put together they come in any order, and each might raise
    /// a thousand others.
    heights: bool,
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
        let is_new = match self.accounts.entry(user) {
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                entry.get_mut().record = record;
                false
            }
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(Account::new(record));
                true
            }
        };
        if self.heights && before.is_some() && before != after {
            // A referrer stays for good; only a hand edit could take one away.
            self.keep_heights();
        } else if self.heights && (is_new || before != after) {
            if is_new {
                // Of one batch, those who were brought may come before who brought them.
                let brought = crate::referrals::brought_by(self, user);
                self.raise(user, brought.map(|(_, brought)| self.height(brought) + 1).max().unwrap_or(0));
            }
            if let Some((referrer, _)) = after {
                self.raise(referrer, self.height(user) + 1);
            }
        }
    }

    /// The height of the tree of those whom a user brought: the edges of the longest chain below. Exact up to the longest
    /// that is allowed, and more than that for all that are higher.
    pub(crate) fn height(&self, user: UserId) -> usize {
        if self.heights {
            return self.accounts.get(&user).map_or(0, |account| usize::from(account.height));
        }
        height_below(user, |of| crate::referrals::brought_by(self, of).map(|(_, user)| user).collect())
    }

    /// Gives every account its height, and keeps the heights from now on.
    pub(crate) fn keep_heights(&mut self) {
        self.heights = true;
        self.accounts.values_mut().for_each(|account| account.height = 0);
        // Most have brought nobody: only those who have are looked at one by one.
        let mut waiting: HashMap<UserId, u32> = self.referred.iter().map(|(referrer, ..)| (*referrer, 0)).collect();
        for (referrer, _, user) in &self.referred {
            if waiting.contains_key(user)
                && let Some(count) = waiting.get_mut(referrer)
            {
                *count += 1;
            }
        }
        // From below: whoever waits for nobody any more has a height.
        let mut ready: Vec<UserId> = waiting.iter().filter(|(_, count)| **count == 0).map(|(user, _)| *user).collect();
        for user in &ready {
            waiting.remove(user);
        }
        while let Some(user) = ready.pop() {
            let Some(account) = self.accounts.get_mut(&user) else { continue };
            account.height = account.height.max(1);
            let (height, referrer) = (account.height, account.record.referrer);
            let Some(referrer) = referrer else { continue };
            if let Some(above) = self.accounts.get_mut(&referrer) {
                above.height = above.height.max((height + 1).min(TALL));
            }
            if let Some(count) = waiting.get_mut(&referrer) {
                *count -= 1;
                if *count == 0 {
                    waiting.remove(&referrer);
                    ready.push(referrer);
                }
            }
        }
        // A circle, which nothing lets in, has no end.
        for user in waiting.keys() {
            if let Some(account) = self.accounts.get_mut(user) {
                account.height = TALL;
            }
        }
    }

    /// A user has a chain of so many edges below, and everybody above has one that is longer by their distance.
    fn raise(&mut self, user: UserId, height: usize) {
        let mut height = u16::try_from(height).unwrap_or(TALL).min(TALL);
        let mut above = Some(user);
        while let Some(account) = above.and_then(|user| self.accounts.get_mut(&user)) {
            // Ends in a circle too: there everybody is tall.
            if account.height >= height {
                return;
            }
            account.height = height;
            height = (height + 1).min(TALL);
            above = account.record.referrer;
        }
    }

    pub(crate) fn put_hold(&mut self, hold: Arc<Hold>) {
        self.touch(FileId::Holds);
        let (user, name, at, status) = (hold.user, hold.name.clone(), hold.created_at, hold.status);
        if let Some(expires_at) = hold.expires_at {
            let expiry = (expires_at, user, name.clone());
            if status == HoldStatus::Open {
                self.holds_by_expiry.insert(expiry);
            } else {
                self.holds_by_expiry.remove(&expiry);
            }
        }
        let old = self.holds.insert((user, name.clone()), hold);
        for before in self.moments.all() {
            before.holds.entry((user, name.clone())).or_insert_with(|| old.clone());
        }
        let was = old.map(|old| old.status);
        if was != Some(status) {
            self.holds_by_user.insert(user, at, name.clone(), status);
            self.holds_by_time.put(at, (name, user), (was, status));
        }
    }

    pub(crate) fn put_job(&mut self, job: Arc<Job>) {
        self.touch(FileId::Jobs);
        let (user, id, at, status) = (job.user, job.id.clone(), job.created_at, job.status);
        let task = job.external_task_id.clone();
        let old = self.jobs.insert(id.clone(), job);
        for before in self.moments.all() {
            before.jobs.entry((at, id.clone())).or_insert_with(|| old.clone());
        }
        if let Some(old) = &old
            && old.external_task_id != task
            && let Some(task) = &old.external_task_id
        {
            self.jobs_by_task.remove(task);
        }
        if let Some(task) = task {
            self.jobs_by_task.insert(task, id.clone());
        }
        let was = old.map(|old| old.status);
        if was != Some(status) {
            self.jobs_by_user.insert(user, at, id.clone(), status);
            self.jobs_by_time.put(at, id, (was, status));
        }
    }

    pub(crate) fn put_payment(&mut self, payment: Arc<Payment>) {
        self.touch(FileId::Payments);
        let (user, id, at, status) = (payment.user, payment.id.clone(), payment.created_at, payment.status);
        if let Some(provider) = &payment.provider_key {
            self.payments_by_provider.insert(provider.clone(), id.clone());
        }
        let old = self.payments.insert(id.clone(), payment);
        for before in self.moments.all() {
            before.payments.entry((at, id.clone())).or_insert_with(|| old.clone());
        }
        let was = old.map(|old| old.status);
        if was != Some(status) {
            self.payments_by_user.insert(user, at, id.clone(), status);
            self.payments_by_time.put(at, id, (was, status));
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn user(id: i64) -> UserId {
        UserId::new(id).unwrap()
    }

    fn put(state: &mut State, of: i64, referrer: Option<i64>) {
        let mut record = AccountRecord::new(user(of), Timestamp::MIN);
        record.referrer = referrer.map(user);
        record.referred_at = referrer.map(|_| Timestamp::MIN);
        state.put_account(record);
    }

    fn check(state: &State) {
        for of in state.accounts.keys().copied() {
            let brought_by = |of| crate::referrals::brought_by(state, of).map(|(_, user)| user).collect();
            assert_eq!(state.height(of), height_below(of, brought_by), "user {of}");
        }
    }

    proptest! {
        /// Edges come in any order, users before and after those who brought them, and one may be taken away by hand.
        #[test]
        fn heights_are_those_of_the_trees(
            above in proptest::collection::vec(0_i64..40, 1..40),
            order in any::<proptest::sample::Index>(),
            gone in any::<proptest::sample::Index>(),
        ) {
            let users = i64::try_from(above.len()).unwrap();
            // Whoever has a smaller number may have brought one: no circles. 0 is nobody.
            let referrer_of = |of: i64| {
                let above = above[usize::try_from(of - 1).unwrap()] % of;
                (above > 0).then_some(above)
            };
            let mut orders: Vec<i64> = (1..=users).collect();
            orders.rotate_left(order.index(above.len()));
            let mut kept = State::default();
            kept.keep_heights();
            for of in orders.iter().rev() {
                put(&mut kept, *of, referrer_of(*of));
                check(&kept);
            }
            let mut counted = State::default();
            for of in 1..=users {
                put(&mut counted, of, referrer_of(of));
            }
            check(&counted);
            counted.keep_heights();
            check(&counted);
            put(&mut counted, 1 + i64::try_from(gone.index(above.len())).unwrap(), None);
            check(&counted);
        }
    }

    #[test]
    fn a_tree_may_be_higher_than_is_allowed_and_a_circle_ends() {
        let mut state = State::default();
        for of in 1..=1500 {
            put(&mut state, of, (of > 1).then(|| of - 1));
        }
        state.keep_heights();
        assert_eq!((state.height(user(1500)), state.height(user(500)), state.height(user(499))), (0, 1000, 1001));
        assert_eq!(state.height(user(1)), 1001);
        let mut circle = State::default();
        for of in 1..=3 {
            put(&mut circle, of, Some(of % 3 + 1));
        }
        circle.keep_heights();
        assert_eq!(circle.height(user(2)), 1001);
        let mut circle = State::default();
        circle.keep_heights();
        for of in 1..=3 {
            put(&mut circle, of, Some(of % 3 + 1));
        }
        assert_eq!(circle.height(user(2)), 1001);
    }
}
