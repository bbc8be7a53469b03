//! What the kernel needs is what it says it needs, and an attempt whose answer was lost is answered once more.

use std::collections::HashMap;
use std::sync::Arc;

use super::*;
use crate::*;

/// A store of maps.
#[derive(Clone, Debug, Default, PartialEq)]
struct Table {
    accounts: HashMap<UserId, Account>,
    keys: HashMap<(UserId, KeySpace, OperationKey), UsedKey>,
    holds: HashMap<(UserId, HoldName), Arc<Hold>>,
    jobs: HashMap<JobId, Arc<Job>>,
    payments: HashMap<PaymentId, Arc<Payment>>,
    history: Vec<(UserId, Generation)>,
}

/// The part of it that was loaded.
struct Loaded<'t> {
    table: &'t Table,
    needs: Vec<Need>,
    owner: Option<UserId>,
}

impl Loaded<'_> {
    fn has(&self, need: Need) -> Result<(), Halt> {
        if self.needs.contains(&need) { Ok(()) } else { Err(Halt::Missing(need)) }
    }
    fn party(&self, user: UserId) -> Party {
        if self.owner == Some(user) { Party::Owner } else { Party::User(user) }
    }
    fn referrer_of(&self, user: UserId) -> Option<UserId> {
        self.table.accounts.get(&user).and_then(|account| account.record.referrer)
    }
}

impl View for Loaded<'_> {
    fn account(&self, user: UserId) -> Result<Option<Account>, Halt> {
        self.has(Need::Account(self.party(user)))?;
        Ok(self.table.accounts.get(&user).cloned())
    }
    fn key(&self, user: UserId, space: KeySpace, key: &OperationKey) -> Result<Option<UsedKey>, Halt> {
        self.has(Need::Key(self.party(user), space, key.clone()))?;
        Ok(self.table.keys.get(&(user, space, key.clone())).cloned())
    }
    fn hold(&self, user: UserId, name: &HoldName) -> Result<Option<Arc<Hold>>, Halt> {
        self.has(Need::Hold(user, name.clone()))?;
        Ok(self.table.holds.get(&(user, name.clone())).cloned())
    }
    fn job(&self, job: &JobId) -> Result<Option<Arc<Job>>, Halt> {
        self.has(Need::Job(job.clone()))?;
        Ok(self.table.jobs.get(job).cloned())
    }
    fn job_of(&self, task: &TaskId) -> Result<Option<Arc<Job>>, Halt> {
        self.has(Need::JobOf(task.clone()))?;
        Ok(self.table.jobs.values().find(|job| job.external_task_id.as_ref() == Some(task)).cloned())
    }
    fn payment(&self, payment: &PaymentId) -> Result<Option<Arc<Payment>>, Halt> {
        self.has(Need::Payment(payment.clone()))?;
        Ok(self.table.payments.get(payment).cloned())
    }
    fn payment_of(&self, provider: &ProviderKey) -> Result<Option<Arc<Payment>>, Halt> {
        self.has(Need::PaymentOf(provider.clone()))?;
        Ok(self.table.payments.values().find(|payment| payment.provider_key.as_ref() == Some(provider)).cloned())
    }
    fn chain(&self, user: UserId) -> Result<Vec<UserId>, Halt> {
        self.has(Need::Chain(user))?;
        Ok(std::iter::successors(self.referrer_of(user), |user| self.referrer_of(*user))
            .take(MAX_REFERRAL_CHAIN)
            .collect())
    }
    fn height(&self, user: UserId) -> Result<usize, Halt> {
        self.has(Need::Height(user))?;
        let brought_by = |of| {
            let all = self.table.accounts.values();
            all.filter(|account| account.record.referrer == Some(of)).map(|account| account.record.user).collect()
        };
        Ok(height_below(user, brought_by))
    }
}

impl Table {
    fn owner(&self, atom: &Atom) -> Option<UserId> {
        match atom.lock() {
            Lock::User(_) | Lock::Chains(..) => None,
            Lock::Owner(Route::Job(job)) => self.jobs.get(&job).map(|job| job.user),
            Lock::Owner(Route::Payment(payment)) => self.payments.get(&payment).map(|payment| payment.user),
        }
    }
    /// Decides with what the atom said it needs, and keeps what changes.
    fn apply(&mut self, atom: &Atom, policy: &Policy) -> Result<Reply> {
        let mut needs = atom.needs();
        let decision = loop {
            let loaded = Loaded { table: self, needs: needs.clone(), owner: self.owner(atom) };
            match decide(atom, &loaded, policy) {
                Ok(decision) => break decision,
                // The id that the used key tells.
                Err(Halt::Missing(need)) if is_minted(atom, &need) && !needs.contains(&need) => needs.push(need),
                Err(Halt::Missing(need)) => panic!("{atom:?} needs {need:?} and did not say so"),
                Err(halt) => return Err(halt.into_error()),
            }
        };
        let Changes { accounts, rows, key, record, trim: _ } = decision.changes;
        assert!(rows.iter().all(|row| key.as_ref().is_some_and(|key| key.user == row.user)), "{atom:?}");
        for account in accounts.into_iter().flatten() {
            self.accounts.insert(account.record.user, account);
        }
        if let Some(key) = key {
            assert!(self.accounts.contains_key(&key.user), "{atom:?} leaves a key whose user does not exist");
            self.keys.insert((key.user, key.space, key.key), key.used);
        }
        match record {
            Some(Record::Hold(hold)) => drop(self.holds.insert((hold.user, hold.name.clone()), hold)),
            Some(Record::Job(job)) => drop(self.jobs.insert(job.id.clone(), job)),
            Some(Record::Payment(payment)) => drop(self.payments.insert(payment.id.clone(), payment)),
            Some(Record::Generation(user, generation)) => self.history.push((user, generation)),
            None => {}
        }
        Ok(decision.reply)
    }
}

fn is_minted(atom: &Atom, need: &Need) -> bool {
    match (atom.call(), need) {
        (Call::AddGenerationJob(add), Need::Job(_)) => add.job.is_none() && add.external_task_id.is_none(),
        (Call::AddPayment(add), Need::Payment(_)) => add.payment.is_none(),
        _ => false,
    }
}

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn money(units: u64) -> Money {
    Money::from_units(units).unwrap()
}

/// Every call: with a key and without one where it may have one, with ids of its own and without.
fn calls() -> Vec<Call> {
    let mut calls = vec![Call::GetUser(user(1)), ReleaseExpired { user: user(1), name: "h".parse().unwrap() }.into()];
    for key in [None, Some("k"), Some("other")] {
        let given: Option<OperationKey> = key.map(|key| key.parse().unwrap());
        let amount: Amount = "2".parse().unwrap();
        let name: HoldName = "h".parse().unwrap();
        let memo = Memo::default;
        calls.extend([
            SetUserLanguage { key: given.clone(), ..SetUserLanguage::new(user(1), "en".parse().unwrap()) }.into(),
            SetGiftClaimed { key: given.clone(), ..SetGiftClaimed::new(user(1)) }.into(),
            SetBalance { user: user(1), balance: money(9), memo: memo(), key: given.clone() }.into(),
            AddBalance { user: user(1), amount, memo: memo(), key: given.clone() }.into(),
            SubtractBalance { user: user(1), amount, memo: memo(), key: given.clone() }.into(),
            ReserveBalance { key: given.clone(), ..ReserveBalance::new(user(1), name.clone(), amount) }
                .expiring_at(Timestamp::MIN)
                .into(),
            CommitReserve { key: given.clone(), ..CommitReserve::new(user(1), name.clone()) }.into(),
            ReleaseReserve { key: given.clone(), ..ReleaseReserve::new(user(1), name) }.into(),
            SetAdminLimit { key: given.clone(), ..SetAdminLimit::new(user(1), money(7)) }.into(),
            IncrementFreeGenerations { user: user(1), key: given.clone() }.into(),
            AddReferralBonus { key: given.clone(), ..AddReferralBonus::new(user(1)) }.into(),
            SetReferrer {
                key: given.clone(),
                bonus: Some(BonusCount::default()),
                ..SetReferrer::new(user(1), user(2))
            }
            .into(),
            SetReferrer { key: given.clone(), ..SetReferrer::new(user(2), user(1)) }.into(),
            AddGenerationToHistory {
                user: user(1),
                id: key.map(|id| id.parse().unwrap()),
                model_id: "m".parse().unwrap(),
                model_name: "M".parse().unwrap(),
                params: Params::from_json("{}").unwrap(),
                result_urls: ResultUrls::default(),
                price: money(1),
            }
            .into(),
        ]);
        for (id, task) in [(None, None), (Some("j"), None), (None, Some("t")), (Some("i"), Some("t"))] {
            calls.push(
                AddGenerationJob {
                    user: user(1),
                    job: id.map(|id| id.parse().unwrap()),
                    external_task_id: task.map(|task| task.parse().unwrap()),
                    model_id: "m".parse().unwrap(),
                    model_name: "M".parse().unwrap(),
                    params: Params::from_json("{}").unwrap(),
                    price: money(1),
                    key: given.clone(),
                }
                .into(),
            );
        }
        for (id, status) in [("j", JobStatus::Running), ("i", JobStatus::Completed), ("unknown", JobStatus::Failed)] {
            let update = UpdateJobStatus::new(id.parse().unwrap(), status);
            calls.push(UpdateJobStatus { key: given.clone(), ..update.clone() }.into());
            calls.push(
                UpdateJobStatus { external_task_id: Some("t".parse().unwrap()), key: given.clone(), ..update }.into(),
            );
        }
        for (id, provider) in [(None, None), (Some("p"), None), (None, Some("v")), (Some("q"), Some("v"))] {
            calls.push(
                AddPayment {
                    payment: id.map(|id| id.parse().unwrap()),
                    provider_key: provider.map(|provider| provider.parse().unwrap()),
                    key: given.clone(),
                    ..AddPayment::new(user(1), amount, "card".parse().unwrap())
                }
                .into(),
            );
        }
        for (id, status) in
            [("p", PaymentStatus::Approved), ("q", PaymentStatus::Rejected), ("n", PaymentStatus::Approved)]
        {
            let mark = MarkPaymentStatus::new(id.parse().unwrap(), status);
            calls.push(MarkPaymentStatus { key: given.clone(), ..mark }.into());
        }
        calls.push(RefundPayment { key: given.clone(), ..RefundPayment::new("p".parse().unwrap()) }.into());
        calls.extend(given.map(|take| ReturnFreeGeneration { user: user(1), take }.into()));
    }
    calls.extend(imports().into_iter().map(Call::Import));
    calls
}

fn imports() -> Vec<ImportRecord> {
    let at = Timestamp::MIN;
    let job = AddGenerationJob {
        user: user(1),
        job: None,
        external_task_id: Some("t".parse().unwrap()),
        model_id: "m".parse().unwrap(),
        model_name: "M".parse().unwrap(),
        params: Params::from_json("{}").unwrap(),
        price: money(1),
        key: None,
    };
    let payment = AddPayment {
        provider_key: Some("v".parse().unwrap()),
        ..AddPayment::new(user(1), "2".parse().unwrap(), "card".parse().unwrap())
    };
    let generation = Generation {
        id: "k".parse().unwrap(),
        model_id: "m".parse().unwrap(),
        model_name: "M".parse().unwrap(),
        params: Params::from_json("{}").unwrap(),
        result_urls: ResultUrls::default(),
        price: money(1),
        at,
    };
    vec![
        ImportRecord::Balance { user: user(1), balance: money(5), created_at: None },
        ImportRecord::Language { user: user(1), language: "en".parse().unwrap() },
        ImportRecord::Gift { user: user(1) },
        ImportRecord::Quota { user: user(1), date: None, used: 0, bank: 3 },
        ImportRecord::AdminLimit { user: user(1), limit: money(7) },
        ImportRecord::Spent { user: user(1), spent: Total::from(money(1)) },
        ImportRecord::Generation { user: user(1), generation },
        ImportRecord::Job(Job::create(job.clone(), "j".parse().unwrap(), at)),
        ImportRecord::Job(Job::create(job, "i".parse().unwrap(), at)),
        ImportRecord::Payment(Payment::create(payment.clone(), "p".parse().unwrap(), at)),
        ImportRecord::Payment(Payment::create(payment, "q".parse().unwrap(), at)),
        ImportRecord::Referral { user: user(1), referrer: user(2), since: None },
        ImportRecord::Referral { user: user(2), referrer: user(1), since: None },
    ]
}

/// Applies a call as a new atom, which draws its own id and its own minted key.
fn apply_new(table: &mut Table, call: &Call, environment: &Environment) -> (Atom, Result<Reply>) {
    let atom = Atom::new(call.clone(), environment).unwrap();
    let reply = table.apply(&atom, &environment.policy);
    (atom, reply)
}

/// Any two calls one behind the other, each as a new one and as another attempt of the same: so a key is new, was used by this very
/// operation, by an equal one, by another one.
#[test]
fn no_call_looks_at_more_than_it_says() {
    let environment = Environment::default();
    let calls = calls();
    for first in &calls {
        for second in &calls {
            let mut table = Table::default();
            apply_new(&mut table, &AddBalance::new(user(1), "3".parse().unwrap()).into(), &environment).1.unwrap();
            for call in [first, second] {
                let (atom, _) = apply_new(&mut table, call, &environment);
                let _ = table.apply(&atom.again(), &environment.policy);
            }
        }
    }
}

/// An attempt whose answer was lost is answered by the next one as if nothing had been lost, and changes nothing more.
#[test]
fn another_attempt_answers_as_the_first_one() {
    let environment = Environment::default();
    let calls = calls();
    let mut answered = 0;
    for before in &calls {
        for call in &calls {
            let mut table = Table::default();
            apply_new(&mut table, &AddBalance::new(user(1), "3".parse().unwrap()).into(), &environment).1.unwrap();
            let _ = apply_new(&mut table, before, &environment);
            let untouched = table.clone();
            let (atom, first) = apply_new(&mut table, call, &environment);
            // What left no key an engine settles by itself.
            let has_key = table.keys.values().any(|used| used.operation == atom.stamp().operation);
            let Some(first) = first.ok().filter(|_| table != untouched && has_key) else { continue };
            if matches!(call, Call::Import(_)) {
                continue;
            }
            let kept = table.clone();
            let again = table.apply(&atom.again(), &environment.policy).unwrap();
            assert_eq!(again, unreplayed(first), "{before:?}, {call:?}");
            assert_eq!(table, kept, "{before:?}, {call:?}");
            answered += 1;
        }
    }
    assert!(answered > 1000, "{answered}");
}

/// The same answer, of the call that had it first. A call that only repeated another one under a new key has that key now, and a
/// record does not say so.
fn unreplayed(reply: Reply) -> Reply {
    match reply {
        Reply::Job(stored) => Reply::Job(Stored { replayed: false, ..stored }),
        Reply::Payment(stored) => Reply::Payment(Stored { replayed: false, ..stored }),
        Reply::Referral(stored) => Reply::Referral(Stored { replayed: false, ..stored }),
        other => other,
    }
}

/// Chains from both sides of their limit.
#[test]
fn a_chain_has_at_most_a_thousand_edges() {
    let chain = |count: i64| -> Vec<UserId> { (1..=count).map(|n| user(n + 10_000)).collect() };
    let judged = |of: UserId, referrer: UserId, above: Vec<UserId>, height: usize| {
        let mut table = Table::default();
        let mut below = referrer;
        for above in above {
            let mut account = Account::new(below, Timestamp::MIN);
            account.record.referrer = Some(above);
            table.accounts.insert(below, account);
            below = above;
        }
        for n in 0..i64::try_from(height).unwrap() {
            let (of, by) = (user(n + 20_001), if n == 0 { of } else { user(n + 20_000) });
            let mut account = Account::new(of, Timestamp::MIN);
            account.record.referrer = Some(by);
            table.accounts.insert(of, account);
        }
        let needs = vec![Need::Chain(referrer), Need::Height(of)];
        super::referrals::may_bring(of, referrer, &Loaded { table: &table, needs, owner: None })
            .map_err(Halt::into_error)
    };
    let (of, referrer) = (user(1), user(2));
    assert!(judged(of, referrer, chain(999), 0).is_ok(), "1000 edges");
    assert!(judged(of, referrer, chain(1000), 0).is_err(), "1001 edges");
    assert!(judged(of, of, chain(0), 0).is_err(), "oneself");
    assert!(judged(of, referrer, vec![user(3), of], 0).is_err(), "a circle of three");
    assert!(judged(of, referrer, chain(0), 999).is_ok(), "999 edges below and one above");
    assert!(judged(of, referrer, chain(0), 1000).is_err(), "1000 edges below and one above");
    assert!(judged(of, referrer, chain(499), 500).is_ok(), "500 on either side");
    assert!(judged(of, referrer, chain(499), 501).is_err(), "501 below and 500 above");
}
