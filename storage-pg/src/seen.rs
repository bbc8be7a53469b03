//! What a decision sees of the tables: loaded under the user's lock, in one round trip.

use storage_core::kernel::{self, Atom, Changes, Halt, Need, Record, Reply, Trim, View, decide};
use storage_core::{Error, KeySpace, OperationKey, UsedKey, UserId};

use crate::account::{self, Account};
use crate::fault::Fault;
use crate::statement::Statement;
use crate::tx::{Param, Tx, borrowed, held, param};
use crate::{history, keys};

/// What was loaded, with the needs that it answers.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    accounts: Vec<Account>,
    keys: Vec<((UserId, KeySpace, OperationKey), Option<UsedKey>)>,
}

impl View for Seen {
    fn account(&self, user: UserId) -> Result<Option<kernel::Account>, Halt> {
        let seen = self.accounts.iter().find(|account| account.user() == user);
        let account = seen.ok_or(Halt::Missing(Need::Account(user)))?;
        let Account { record, rows, .. } = account;
        Ok((!account.is_new()).then(|| kernel::Account { record: record.clone(), rows: *rows }))
    }
    fn key(&self, user: UserId, space: KeySpace, key: &OperationKey) -> Result<Option<UsedKey>, Halt> {
        let slot = (user, space, key.clone());
        let seen = self.keys.iter().find(|(known, _)| *known == slot);
        seen.map(|(_, used)| used.clone()).ok_or(Halt::Missing(Need::Key(user, space, slot.2)))
    }
}

impl<'c> Tx<'c> {
    /// Locks, loads and decides, and queues what changes.
    pub(crate) async fn decide(&mut self, atom: &Atom) -> Result<Reply, Fault> {
        let mut seen = self.see(atom).await?;
        let policy = &self.env().policy;
        let decision = loop {
            match decide(atom, &seen, policy) {
                Ok(decision) => break decision,
                Err(Halt::Missing(need)) => self.look(&mut seen, vec![need]).await?,
                Err(Halt::Refused(error) | Halt::Failed(error)) => return Err(error.into()),
            }
        };
        self.put(seen, decision.changes)?;
        Ok(decision.reply)
    }

    /// Locks what the atom locks and loads what it needs. One round trip; each statement sees what was committed when the lock
    /// was granted.
    async fn see(&mut self, atom: &Atom) -> Result<Seen, Fault> {
        let kernel::Lock::User(user) = atom.lock();
        let (ids, sql) = ([user.get()], self.sql());
        let ids = &ids[..];
        let lock = if self.may_wait() { &sql.account.lock } else { &sql.account.lock_now };
        let needs = atom.needs();
        let looks: Vec<_> = needs.iter().map(|need| self.look_for(need)).collect();
        let mut batch = vec![(lock, vec![&ids as _])];
        batch.extend(looks.iter().map(|(statement, values)| (*statement, borrowed(values))));
        let mut rows = self.fetch(batch).await?;
        let locked = rows.remove(0);
        let mut seen = Seen::default();
        for (need, rows) in needs.into_iter().zip(rows) {
            if need == Need::Account(user) {
                if !self.may_wait() && locked.is_empty() && !rows.is_empty() {
                    return Err(Fault::Held(user));
                }
                held(&locked, &rows)?;
            }
            self.take_in(&mut seen, need, rows.first())?;
        }
        Ok(seen)
    }

    /// Looks for more, under the locks that are held.
    async fn look(&mut self, seen: &mut Seen, needs: Vec<Need>) -> Result<(), Fault> {
        let looks: Vec<_> = needs.iter().map(|need| self.look_for(need)).collect();
        let batch = looks.iter().map(|(statement, values)| (*statement, borrowed(values))).collect();
        let rows = self.fetch(batch).await?;
        needs.into_iter().zip(rows).try_for_each(|(need, rows)| self.take_in(seen, need, rows.first()))
    }

    fn look_for(&self, need: &Need) -> (&'c Statement, Vec<Param>) {
        let sql = self.sql();
        match need {
            Need::Account(user) => (&sql.account.load, vec![param(user.get())]),
            Need::Key(user, space, key) => {
                (&sql.keys.find, vec![param(user.get()), param(space.as_str()), param(key.as_str().to_owned())])
            }
        }
    }

    fn take_in(&self, seen: &mut Seen, need: Need, row: Option<&tokio_postgres::Row>) -> Result<(), Fault> {
        match need {
            Need::Account(user) => seen.accounts.push(Account::of(user, row, self.now())?),
            Need::Key(user, space, key) => {
                let used = row.map(keys::used_key).transpose()?.map(|(.., used)| used);
                seen.keys.push(((user, space, key), used));
            }
        }
        Ok(())
    }

    /// Queues what a decision changes.
    fn put(&mut self, mut seen: Seen, changes: Changes) -> Result<(), Fault> {
        let Changes { accounts, key, record, trim } = changes;
        for kernel::Account { record, rows } in accounts.into_iter().flatten() {
            let known = seen.accounts.iter_mut().find(|known| known.user() == record.user);
            let account = known.ok_or_else(|| Error::internal("a decision changed a user whom it had not seen"))?;
            (account.record, account.rows) = (record, rows);
            account::put(self, account);
        }
        if let Some(used) = key {
            self.queue_child(&self.sql().keys.put, keys::values(used.user, used.space, &used.key, &used.used));
        }
        match record {
            Some(Record::Generation(user, generation)) => {
                if let Some(Trim::Before(kept)) = trim {
                    history::trim(self, user, kept);
                }
                self.queue_child(&self.sql().history.put, history::values(user, &generation));
                if let Some(Trim::After(kept)) = trim {
                    history::trim(self, user, kept);
                }
            }
            None => {}
        }
        Ok(())
    }
}
