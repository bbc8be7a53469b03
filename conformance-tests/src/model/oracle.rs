//! The oracle: what a store must answer, written from the contract as plainly as possible and shared with no backend.
//!
//! It judges statuses, keys, quotas and sums by itself; of `storage-core` it takes only the shapes of the values.

mod lists;
mod money;
mod payments;
mod quota;
mod records;
mod referrals;

use std::collections::BTreeMap;

use storage_core::{
    Entity, ErrorKind, Generation, Hold, Job, Language, LedgerRow, Money, OperationId, OperationKey, Payment, Policy,
    QuotaReceipt, QuotaSource, Receipt, Timestamp, User, UserId,
};

use super::ask::{Answer, ok, refusal};
use super::build::Call;

/// A user.
#[derive(Clone, Debug)]
struct Account {
    created_at: Timestamp,
    updated_at: Timestamp,
    balance: i64,
    held: i64,
    language: Option<Language>,
    gift: bool,
    referrer: Option<(UserId, Timestamp, u32)>,
    day: Option<i64>,
    used: u32,
    bank: u64,
    limit: Option<i64>,
    spent: i128,
    rows: Vec<LedgerRow>,
    history: Vec<Generation>,
}

/// What a key's first call answered.
#[derive(Clone, Debug)]
enum First {
    Money(Receipt),
    Quota(QuotaReceipt),
    Gift(bool),
    /// A job's or payment's id: replays answer the record as it stands.
    Record(String),
    Nothing,
}

/// A key that was used up: by which call, and what that answered.
#[derive(Clone, Debug)]
struct Used {
    /// Kind and arguments, without the key.
    call: String,
    first: First,
}

/// The refusals of an operation.
type Judged<T> = Result<T, ErrorKind>;

/// When a call is made, and the ids that the store would mint for it, in order.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Timestamp,
    pub(crate) ids: Vec<OperationId>,
}

impl Moment {
    fn id(&self) -> OperationId {
        self.nth(0)
    }
    fn nth(&self, place: usize) -> OperationId {
        self.ids.get(place).copied().unwrap_or_else(|| OperationId::from_u128(0))
    }
}

/// The oracle.
#[derive(Clone, Debug)]
pub(crate) struct Oracle {
    policy: Policy,
    /// Seconds that the zone's clocks are ahead of UTC.
    ahead: i64,
    accounts: BTreeMap<UserId, Account>,
    holds: BTreeMap<(UserId, String), Hold>,
    jobs: BTreeMap<String, Job>,
    /// What each job was created with.
    creations: BTreeMap<String, String>,
    payments: BTreeMap<String, Payment>,
    keys: BTreeMap<(UserId, String), Used>,
    /// Takes that were given back, by user and key.
    returned: BTreeMap<(UserId, String), QuotaReceipt>,
    /// Ids of generations, with their arguments.
    generations: BTreeMap<(UserId, String), String>,
}

fn conflict<T>(kind: &'static str, id: impl std::fmt::Display) -> Judged<T> {
    Err(ErrorKind::Conflict { entity: Entity::new(kind, id), reason: "".into() })
}

fn not_found<T>(kind: &'static str, id: impl std::fmt::Display) -> Judged<T> {
    Err(ErrorKind::NotFound(Entity::new(kind, id)))
}

fn invalid<T>(field: &'static str) -> Judged<T> {
    Err(ErrorKind::InvalidInput { field: field.into(), rule: "".into() })
}

fn no_way<T>(kind: &'static str, id: impl std::fmt::Display, from: &'static str, to: &'static str) -> Judged<T> {
    Err(ErrorKind::InvalidTransition { entity: Entity::new(kind, id), from: from.into(), to: to.into() })
}

/// Money of which the oracle knows that it is within its limits.
fn money(micros: i64) -> Money {
    Money::from_micros(micros).unwrap_or(Money::MAX)
}

impl Oracle {
    /// An empty store with this policy, whose zone's clocks are so many seconds ahead of UTC.
    pub(crate) fn new(policy: Policy, ahead: i64) -> Self {
        Self {
            policy,
            ahead,
            accounts: BTreeMap::new(),
            holds: BTreeMap::new(),
            jobs: BTreeMap::new(),
            creations: BTreeMap::new(),
            payments: BTreeMap::new(),
            keys: BTreeMap::new(),
            returned: BTreeMap::new(),
            generations: BTreeMap::new(),
        }
    }

    /// What the call must answer; what it changes is changed.
    pub(crate) fn answer(&mut self, call: &Call, at: &Moment) -> Answer {
        // A call that fails changes nothing at all.
        let before = (!call.is_read()).then(|| self.clone());
        match self.judge(call, at) {
            Ok(answer) => answer,
            Err(kind) => {
                if let Some(before) = before {
                    *self = before;
                }
                refusal(&kind)
            }
        }
    }

    fn judge(&mut self, call: &Call, at: &Moment) -> Judged<Answer> {
        Ok(match call {
            Call::GetUser(user) => {
                self.account(*user, at);
                self.shown(*user).map(ok).unwrap_or_default()
            }
            Call::FindUser(user) => ok(self.shown(*user)),
            Call::GetLanguage(user) => ok(self.language(*user)),
            Call::SetLanguage(set) => self.set_language(set, at)?,
            Call::HasGift(user) => ok(self.accounts.get(user).is_some_and(|account| account.gift)),
            Call::ClaimGift(claim) => self.claim_gift(claim, at)?,
            Call::GetBalance(user) => ok(money(self.balance(*user))),
            Call::SetBalance(set) => ok(self.set_balance(set, at)?),
            Call::Credit(add) => ok(self.credit(add, at)?),
            Call::Debit(subtract) => ok(self.debit(subtract, at)?),
            Call::Reserve(reserve) => ok(self.reserve(reserve, at)?),
            Call::Commit(commit) => ok(self.commit(commit, at)?),
            Call::Release(release) => ok(self.release(release, at)?),
            Call::FindHold(user, name) => ok(self.holds.get(&(*user, name.to_string()))),
            Call::Sweep(limit) => ok(self.sweep(limit.get(), at)),
            Call::TakenToday(user) => ok(self.taken(*user, at)),
            Call::Remaining(user) => ok(self.remaining(*user, at)),
            Call::Take(take) => ok(self.take(take, at)?),
            Call::GiveBack(give_back) => ok(self.give_back(give_back, at)?),
            Call::Bonus(bonus) => ok(self.bonus(bonus, at)?),
            Call::GetLimit(_) | Call::SetLimit(_) | Call::Spent(_) | Call::LimitLeft(_) => self.limits(call, at)?,
            Call::AddJob(add) => self.add_job(add, at)?,
            Call::UpdateJob(update) => self.update_job(update, at)?,
            Call::GetJob(id) => ok(self.jobs.get(id.as_str())),
            Call::FindTask(task) => ok(self.jobs.values().find(|job| job.external_task_id.as_ref() == Some(task))),
            Call::Record(add) => self.record(add, at)?,
            Call::AddPayment(add) => self.add_payment(add, at)?,
            Call::Mark(mark) => self.mark(mark, at)?,
            Call::Refund(refund) => self.mark(&refund.clone().into(), at)?,
            Call::GetPayment(id) => ok(self.payments.get(id.as_str())),
            Call::Refer(set) => self.refer(set, at)?,
            Call::GetReferrer(user) => ok(self.referrer(*user)),
            Call::Import(record) => ok([self.import(record, at)]),
            Call::ForeignCursor(_) => {
                let refused = refusal(&ErrorKind::InvalidInput { field: "cursor".into(), rule: "".into() });
                [const { "" }; 7].map(|_| refused.clone()).join("; ")
            }
            Call::Ping => ok(()),
            call => self.list(call),
        })
    }

    /// The account, new when the user was never named before.
    fn account(&mut self, user: UserId, at: &Moment) -> &mut Account {
        self.accounts.entry(user).or_insert_with(|| Account {
            created_at: at.now,
            updated_at: at.now,
            balance: 0,
            held: 0,
            language: None,
            gift: false,
            referrer: None,
            day: None,
            used: 0,
            bank: 0,
            limit: None,
            spent: 0,
            rows: Vec::new(),
            history: Vec::new(),
        })
    }

    fn language(&self, user: UserId) -> Language {
        let chosen = self.accounts.get(&user).and_then(|account| account.language.clone());
        chosen.unwrap_or_else(|| self.policy.default_language.clone())
    }

    fn shown(&self, user: UserId) -> Option<User> {
        let account = self.accounts.get(&user)?;
        Some(User {
            id: user,
            balance: money(account.balance),
            language: self.language(user),
            gift_claimed: account.gift,
            referrer: self.referrer(user),
            created_at: account.created_at,
            updated_at: account.updated_at,
        })
    }

    fn referrer(&self, user: UserId) -> Option<UserId> {
        self.accounts.get(&user).and_then(|account| account.referrer).map(|(referrer, ..)| referrer)
    }

    /// What the key's first call answered; `Conflict` for a key that was used for something else.
    fn replay(&self, user: UserId, key: Option<&OperationKey>, call: &str) -> Judged<Option<First>> {
        let Some(key) = key else { return Ok(None) };
        match self.keys.get(&(user, key.to_string())) {
            None => Ok(None),
            Some(used) if used.call == call => Ok(Some(used.first.clone())),
            Some(_) => conflict("operation key", key),
        }
    }

    /// Uses a key up: the caller's, else, for a call that changed something, the minted one.
    fn settle(
        &mut self,
        user: UserId,
        key: Option<&OperationKey>,
        changed: bool,
        used: (String, First),
        id: OperationId,
    ) {
        let minted = || changed.then(|| id.to_string());
        if let Some(key) = key.map(ToString::to_string).or_else(minted) {
            let (call, first) = used;
            self.keys.insert((user, key), Used { call, first });
        }
    }
}

/// Where a free generation came from, by the number of its day.
fn source(day: Option<i64>) -> QuotaSource {
    day.map_or(QuotaSource::Bank, |day| QuotaSource::Day(storage_core::CivilDate::from_days(day)))
}
