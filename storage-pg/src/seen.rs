//! What a decision sees of the tables: loaded under its locks, in one round trip.

use std::sync::Arc;

use storage_core::kernel::{self, Atom, Changes, Halt, Need, Party, Record, Reply, Route, Trim, View, decide};
use storage_core::{
    Error, Hold, HoldName, Job, JobId, KeySpace, OperationKey, Payment, PaymentId, ProviderKey, Stamp, TaskId, UsedKey,
    UserId,
};
use tokio_postgres::Row;

use crate::account::{self, Account};
use crate::fault::Fault;
use crate::referrals::{Joint, unanswered};
use crate::routes::leads_somewhere;
use crate::statement::Statement;
use crate::tx::{Param, Tx, borrowed, held, param};
use crate::{history, jobs, keys, payments, reserves};

/// A record that was looked for by its id. An id that leads to a user who has no such record is damage.
type Found<T> = Result<Option<Arc<T>>, Error>;

/// What was asked for, and what was found. They are a few.
type Answers<K, V> = Vec<(K, V)>;

/// What was loaded, with the needs that it answers.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    accounts: Vec<Account>,
    keys: Answers<(UserId, KeySpace, OperationKey), Option<UsedKey>>,
    holds: Answers<(UserId, HoldName), Option<Arc<Hold>>>,
    jobs: Answers<JobId, Found<Job>>,
    tasks: Answers<TaskId, Found<Job>>,
    payments: Answers<PaymentId, Found<Payment>>,
    providers: Answers<ProviderKey, Found<Payment>>,
    /// Where a new referral would go.
    joint: Option<Joint>,
}

fn seen<'l, K: PartialEq, V>(list: &'l [(K, V)], key: &K) -> Option<&'l V> {
    list.iter().find(|(known, _)| known == key).map(|(_, value)| value)
}

fn record<T>(found: Option<&Found<T>>, need: impl FnOnce() -> Need) -> Result<Option<Arc<T>>, Halt> {
    found.ok_or_else(|| Halt::Missing(need()))?.clone().map_err(Halt::Failed)
}

impl View for Seen {
    fn account(&self, user: UserId) -> Result<Option<kernel::Account>, Halt> {
        let seen = self.accounts.iter().find(|account| account.user() == user);
        let account = seen.ok_or(Halt::Missing(Need::Account(Party::User(user))))?;
        let Account { record, rows, .. } = account;
        Ok((!account.is_new()).then(|| kernel::Account { record: record.clone(), rows: *rows }))
    }
    fn key(&self, user: UserId, space: KeySpace, key: &OperationKey) -> Result<Option<UsedKey>, Halt> {
        let slot = (user, space, key.clone());
        let need = || Halt::Missing(Need::Key(Party::User(user), space, key.clone()));
        seen(&self.keys, &slot).cloned().ok_or_else(need)
    }
    fn hold(&self, user: UserId, name: &HoldName) -> Result<Option<Arc<Hold>>, Halt> {
        let slot = (user, name.clone());
        seen(&self.holds, &slot).cloned().ok_or_else(|| Halt::Missing(Need::Hold(user, name.clone())))
    }
    fn job(&self, job: &JobId) -> Result<Option<Arc<Job>>, Halt> {
        record(seen(&self.jobs, job), || Need::Job(job.clone()))
    }
    fn job_of(&self, task: &TaskId) -> Result<Option<Arc<Job>>, Halt> {
        record(seen(&self.tasks, task), || Need::JobOf(task.clone()))
    }
    fn payment(&self, payment: &PaymentId) -> Result<Option<Arc<Payment>>, Halt> {
        record(seen(&self.payments, payment), || Need::Payment(payment.clone()))
    }
    fn payment_of(&self, provider: &ProviderKey) -> Result<Option<Arc<Payment>>, Halt> {
        record(seen(&self.providers, provider), || Need::PaymentOf(provider.clone()))
    }
    fn chain(&self, user: UserId) -> Result<Vec<UserId>, Halt> {
        let joint = self.joint.as_ref().filter(|joint| joint.referrer == user);
        joint.map(Joint::chain).ok_or(Halt::Missing(Need::Chain(user)))
    }
    fn height(&self, user: UserId) -> Result<usize, Halt> {
        let joint = self.joint.as_ref().filter(|joint| joint.user == user);
        joint.map(Joint::below).ok_or(Halt::Missing(Need::Height(user)))
    }
}

/// The statements that answer one need.
struct Look<'c> {
    need: Need,
    statements: Vec<(&'c Statement, Vec<Param>)>,
}

/// Where a record is that is named without its user.
fn named(route: &Route) -> (&'static str, &str) {
    match route {
        Route::Job(job) => ("job", job.as_str()),
        Route::Payment(payment) => ("payment", payment.as_str()),
    }
}

fn text(text: &str) -> Param {
    param(text.to_owned())
}

impl<'c> Tx<'c> {
    /// Locks, loads and decides, and queues what changes.
    pub(crate) async fn decide(&mut self, atom: &Atom) -> Result<Reply, Fault> {
        let mut seen = match atom.lock() {
            kernel::Lock::User(user) => self.see_user(atom, user, atom.needs()).await?,
            kernel::Lock::Owner(route) => self.see_owner(atom, &route).await?,
            kernel::Lock::Chains(user, referrer) => self.see_chains(atom, user, referrer).await?,
        };
        let policy = &self.env().policy;
        let decision = loop {
            match decide(atom, &seen, policy) {
                Ok(decision) => break decision,
                // A record whose id a used key tells.
                Err(Halt::Missing(need @ (Need::Job(_) | Need::Payment(_)))) => {
                    let look = self.look(need, None);
                    let rows = self.fetch(statements(std::slice::from_ref(&look))).await?;
                    self.take_in(atom, &mut seen, look.need, &rows)?;
                }
                // Whoever appeared behind the lock is seen and not held.
                Err(Halt::Missing(_)) => return Err(Fault::Overtaken),
                Err(Halt::Refused(error) | Halt::Failed(error)) => return Err(error.into()),
            }
        };
        self.put(atom.stamp(), seen, decision.changes)?;
        Ok(decision.reply)
    }

    /// [`Tx::decide`] under the lock of one user, with that user's account and the key alone. `None` when that is not enough.
    pub(crate) async fn decide_alone(&mut self, atom: &Atom, user: UserId) -> Result<Option<Reply>, Fault> {
        let party = Party::User(user);
        let is_theirs = |need: &Need| match need {
            Need::Account(of) | Need::Key(of, ..) => *of == party,
            _ => false,
        };
        let seen = self.see_user(atom, user, atom.needs().into_iter().filter(is_theirs).collect()).await?;
        match decide(atom, &seen, &self.env().policy) {
            Ok(decision) => {
                self.put(atom.stamp(), seen, decision.changes)?;
                Ok(Some(decision.reply))
            }
            Err(Halt::Missing(_)) => Ok(None),
            Err(Halt::Refused(error) | Halt::Failed(error)) => Err(error.into()),
        }
    }

    /// Locks a user and loads. Each statement sees what was committed when the lock was granted.
    async fn see_user(&mut self, atom: &Atom, user: UserId, needs: Vec<Need>) -> Result<Seen, Fault> {
        let sql = self.sql();
        let lock = if self.may_wait() { &sql.account.lock } else { &sql.account.lock_now };
        let looks: Vec<Look<'c>> = needs.into_iter().map(|need| self.look(need, None)).collect();
        self.see(atom, (lock, vec![param(vec![user.get()])]), looks).await
    }

    /// Locks the user to whom a record leads, and loads.
    async fn see_owner(&mut self, atom: &Atom, route: &Route) -> Result<Seen, Fault> {
        let (sql, (kind, id)) = (self.sql(), named(route));
        let lock = if self.may_wait() { &sql.account.lock_routed } else { &sql.account.lock_routed_now };
        let looks: Vec<Look<'c>> = atom.needs().into_iter().map(|need| self.look(need, Some(route))).collect();
        self.see(atom, (lock, vec![param(kind), text(id)]), looks).await
    }

    async fn see(
        &mut self,
        atom: &Atom,
        (lock, values): (&'c Statement, Vec<Param>),
        looks: Vec<Look<'c>>,
    ) -> Result<Seen, Fault> {
        let mut batch = vec![(lock, borrowed(&values))];
        batch.extend(statements(&looks));
        let mut rows = self.fetch(batch).await?.into_iter();
        let locked = rows.next().ok_or_else(unanswered)?;
        let mut seen = Seen::default();
        for Look { need, statements } in looks {
            let answers: Vec<Vec<Row>> = rows.by_ref().take(statements.len()).collect();
            if let (Need::Account(_), [rows]) = (&need, answers.as_slice()) {
                if let (false, true, Some(row)) = (self.may_wait(), locked.is_empty(), rows.first()) {
                    return Err(Fault::Held(account::record(row)?.0.user));
                }
                held(&locked, rows)?;
            }
            self.take_in(atom, &mut seen, need, &answers)?;
        }
        Ok(seen)
    }

    /// Locks all chains and both users, by ascending id, then loads. The chains' lock comes first, so that two who wait for each other's
    /// rows do not meet, and orders who writes heights.
    async fn see_chains(&mut self, atom: &Atom, user: UserId, referrer: UserId) -> Result<Seen, Fault> {
        let sql = self.sql();
        let is_here = |need: &Need| !matches!(need, Need::Chain(_) | Need::Height(_));
        let looks: Vec<Look<'c>> = atom.needs().into_iter().filter(is_here).map(|need| self.look(need, None)).collect();
        let (chains, both) = (vec![text(&self.storage().chain_lock())], vec![param(vec![user.get(), referrer.get()])]);
        let patience = if self.gives_way() { &sql.referrals.briefly } else { &sql.referrals.patiently };
        let joint = Joint::statements(sql, user, referrer);
        let mut batch = vec![
            (&sql.referrals.lock, borrowed(&chains)),
            (patience, Vec::new()),
            (&sql.account.lock, borrowed(&both)),
        ];
        batch.extend(statements(&looks));
        batch.extend(joint.iter().map(|(statement, values)| (*statement, borrowed(values))));
        let mut rows = self.fetch(batch).await?.into_iter().skip(2);
        let locked = rows.next().ok_or_else(unanswered)?;
        let (mut seen, mut users) = (Seen::default(), 0);
        for Look { need, statements } in looks {
            let answers: Vec<Vec<Row>> = rows.by_ref().take(statements.len()).collect();
            if matches!(need, Need::Account(_)) {
                users += answers.first().map_or(0, Vec::len);
            }
            self.take_in(atom, &mut seen, need, &answers)?;
        }
        // Whoever appeared behind the lock is seen and not held: what another adds to them meanwhile would be lost.
        if users > if user == referrer { 2 * locked.len() } else { locked.len() } {
            return Err(Fault::Overtaken);
        }
        seen.joint = Some(Joint::of(self, user, referrer, rows.collect()).await?);
        Ok(seen)
    }

    /// The statements for a need; `route` leads to the owner.
    fn look(&self, need: Need, route: Option<&Route>) -> Look<'c> {
        let sql = self.sql();
        let statements = match (&need, route.map(named)) {
            (Need::Account(Party::User(user)), _) => vec![(&sql.account.load, vec![param(user.get())])],
            (Need::Account(Party::Owner), route) => {
                let (kind, id) = route.unwrap_or_default();
                vec![(&sql.account.load_routed, vec![param(kind), text(id)])]
            }
            (Need::Key(Party::User(user), space, key), _) => {
                vec![(&sql.keys.find, vec![param(user.get()), param(space.as_str()), text(key.as_str())])]
            }
            (Need::Key(Party::Owner, _, key), route) => {
                let (kind, id) = route.unwrap_or_default();
                vec![(&sql.keys.find_routed, vec![param(kind), text(id), text(key.as_str())])]
            }
            (Need::Hold(user, name), _) => {
                let values = || vec![param(user.get()), text(name.as_str())];
                if self.may_wait() {
                    vec![(&sql.reserves.find_locked, values())]
                } else {
                    // Somebody who needs no user's lock may have the hold's row: a person.
                    vec![(&sql.reserves.find_locked_now, values()), (&sql.reserves.find, values())]
                }
            }
            (Need::Job(job), route) => {
                let find = match (route, self.may_wait()) {
                    (None, _) => &sql.jobs.find,
                    (Some(_), true) => &sql.jobs.find_locked,
                    (Some(_), false) => &sql.jobs.find_locked_now,
                };
                vec![(find, vec![text(job.as_str())]), (&sql.dangling.job, vec![text(job.as_str())])]
            }
            (Need::JobOf(task), _) => {
                let values = || vec![text(task.as_str())];
                vec![(&sql.jobs.find_by_task, values()), (&sql.dangling.task, values())]
            }
            (Need::Payment(payment), route) => {
                let find = match (route, self.may_wait()) {
                    (None, _) => &sql.payments.find,
                    (Some(_), true) => &sql.payments.find_locked,
                    (Some(_), false) => &sql.payments.find_locked_now,
                };
                vec![(find, vec![text(payment.as_str())]), (&sql.dangling.payment, vec![text(payment.as_str())])]
            }
            (Need::PaymentOf(provider), _) => {
                let values = || vec![text(provider.as_str())];
                vec![(&sql.payments.find_by_provider, values()), (&sql.dangling.provider, values())]
            }
            // A joint answers them, with the locks that it takes.
            (Need::Chain(_) | Need::Height(_), _) => Vec::new(),
        };
        Look { need, statements }
    }

    /// Keeps what the statements of a need answered.
    fn take_in(&self, atom: &Atom, seen: &mut Seen, need: Need, answers: &[Vec<Row>]) -> Result<(), Fault> {
        let row = |at: usize| answers.get(at).and_then(|rows| rows.first());
        // Of a record that was removed by hand the key tells that made it, which is its user's. Otherwise an id that still leads there is
        // damage.
        let is_used = |((_, space, key), used): &((UserId, KeySpace, OperationKey), Option<UsedKey>)| {
            used.is_some() && (*space, key) == (atom.space(), atom.key())
        };
        let was_made = matches!(atom.lock(), kernel::Lock::User(_)) && seen.keys.iter().any(is_used);
        let dangling = answers.get(1).filter(|_| !was_made);
        let now = atom.stamp().now;
        match need {
            Need::Account(Party::User(user)) => seen.accounts.push(Account::of(user, row(0), now)?),
            Need::Account(Party::Owner) => seen.accounts.extend(row(0).map(Account::found).transpose()?),
            Need::Key(party, space, key) => {
                let used = row(0).map(keys::used_key).transpose()?.map(|(.., used)| used);
                let owner = match party {
                    Party::User(user) => Some(user),
                    Party::Owner => seen.accounts.first().map(Account::user),
                };
                seen.keys.extend(owner.map(|owner| ((owner, space, key), used)));
            }
            Need::Hold(user, name) => {
                if row(0).is_none() && row(1).is_some() {
                    return Err(Fault::Held(user));
                }
                let hold = row(0).map(reserves::hold).transpose()?.map(Arc::new);
                seen.holds.push(((user, name), hold));
            }
            Need::Job(job) => {
                let found = self.found(seen, atom, row(0).map(jobs::job).transpose()?)?;
                let found = found_unless_dangling(found, dangling, ("job", job.as_str()));
                seen.jobs.push((job, found));
            }
            Need::JobOf(task) => {
                let found = row(0).map(jobs::job).transpose()?.map(Arc::new);
                let found = found_unless_dangling(found, dangling, ("task", task.as_str()));
                seen.tasks.push((task, found));
            }
            Need::Payment(payment) => {
                let found = self.found(seen, atom, row(0).map(payments::payment).transpose()?)?;
                let found = found_unless_dangling(found, dangling, ("payment", payment.as_str()));
                seen.payments.push((payment, found));
            }
            Need::PaymentOf(provider) => {
                let found = row(0).map(payments::payment).transpose()?.map(Arc::new);
                let found = found_unless_dangling(found, dangling, ("provider", provider.as_str()));
                seen.providers.push((provider, found));
            }
            Need::Chain(_) | Need::Height(_) => return Err(unanswered().into()),
        }
        Ok(())
    }

    /// A record of the owner. Whoever may not wait passes over what somebody holds.
    fn found<T>(&self, seen: &Seen, atom: &Atom, record: Option<T>) -> Result<Option<Arc<T>>, Fault> {
        match (record, seen.accounts.first()) {
            (None, Some(owner)) if !self.may_wait() && matches!(atom.lock(), kernel::Lock::Owner(_)) => {
                Err(Fault::Held(owner.user()))
            }
            (record, _) => Ok(record.map(Arc::new)),
        }
    }

    /// Queues what a decision changes.
    fn put(&mut self, stamp: Stamp, mut seen: Seen, changes: Changes) -> Result<(), Fault> {
        let (sql, Changes { accounts, rows, key, record, trim }) = (self.sql(), changes);
        // Who brought somebody is there before the referral that says so.
        for kernel::Account { record, rows } in accounts.into_iter().flatten().rev() {
            let known = seen.accounts.iter_mut().find(|known| known.user() == record.user);
            let account = known.ok_or_else(|| Error::internal("a decision changed a user whom it had not seen"))?;
            if record.referrer.is_some() && account.record.referrer.is_none() {
                seen.joint.as_ref().ok_or_else(unanswered)?.raise(self);
            }
            (account.record, account.rows) = (record, rows);
            account::put(self, stamp, account);
        }
        for row in &rows {
            self.queue_child(&sql.account.post, account::ledger_values(row));
        }
        if let Some(used) = key {
            self.queue_child(&sql.keys.put, keys::values(used.user, used.space, &used.key, &used.used));
        }
        match record {
            Some(Record::Hold(hold)) => {
                let known = seen.holds.iter().any(|(_, known)| known.is_some());
                reserves::put(self, stamp, &hold, known);
            }
            Some(Record::Job(job)) => {
                let before = seen.jobs.into_iter().find(|(id, _)| *id == job.id);
                jobs::put(self, stamp, &job, before.and_then(|(_, found)| found.ok().flatten()).as_deref());
            }
            Some(Record::Payment(payment)) => {
                let known = seen.payments.iter().any(|(id, known)| *id == payment.id && matches!(known, Ok(Some(_))));
                payments::put(self, stamp, &payment, known);
            }
            Some(Record::Generation(user, generation)) => {
                if let Some(Trim::Before(kept)) = trim {
                    history::trim(self, user, kept);
                }
                self.queue_child(&sql.history.put, history::values(user, &generation));
                if let Some(Trim::After(kept)) = trim {
                    history::trim(self, user, kept);
                }
            }
            None => {}
        }
        Ok(())
    }
}

fn statements<'l>(looks: &'l [Look<'_>]) -> Vec<(&'l Statement, Vec<crate::wire::Value<'l>>)> {
    let all = looks.iter().flat_map(|look| &look.statements);
    all.map(|(statement, values)| (*statement, borrowed(values))).collect()
}

/// The record, if there is one. `Corrupt` when there is none and the id leads to a user.
fn found_unless_dangling<T>(found: Option<Arc<T>>, dangling: Option<&Vec<Row>>, id: (&str, &str)) -> Found<T> {
    if found.is_none() {
        leads_somewhere(dangling, id)?;
    }
    Ok(found)
}
