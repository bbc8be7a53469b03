//! The methods that the storage asks for.

use std::sync::Arc;

use rusqlite::{Params, params};
use serde::de::DeserializeOwned;
use storage_core::dump::{GenerationRecord, JobRecord, KeyRecord, PaymentRecord};
use storage_core::kernel::{Account, Changes, Halt, View};
use storage_core::serial::{Due, Founding, Unit};
use storage_core::{
    AccountRecord, Destination, DumpRecord, Error, Generation, GenerationId, Hold, HoldName, HoldPlace, HoldStatus,
    Job, JobId, JobStatus, KeySpace, LedgerRow, ListJobs, ListPayments, ListReserves, MAX_REFERRAL_CHAIN, Newest,
    OperationKey, Payment, PaymentId, PaymentStatus, ProviderKey, Result, TaskId, Timestamp, UsedKey, UserId,
};

use crate::list::Before;
use crate::rows::{ACCOUNTS, HISTORY, HOLDS, JOBS, KEYS, LEDGER, PAYMENTS, Rows, Table, select, text_of, to_i64};

/// What the table `facts` knows of the store.
const FOUNDING: &str = "founding";
const MOVED_TO: &str = "moved_to";

/// Records as they are handed out.
fn shared<R, T: From<R>>(records: Vec<R>) -> Vec<Arc<T>> {
    records.into_iter().map(|record| Arc::new(record.into())).collect()
}

impl Rows<'_> {
    fn fact<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let damaged = || Error::corrupt(self.place("facts").key(name), "the value is not what this program writes");
        let value: Option<String> = self.value("SELECT value FROM facts WHERE name = ?1", [name])?;
        let read = |value: String| serde_json::from_str(&value).map_err(|error| damaged().caused_by(error));
        value.map(read).transpose()
    }

    fn set_fact(&self, name: &str, value: &impl serde::Serialize) -> Result<()> {
        let text = text_of(value)?;
        self.change("INSERT INTO facts (name, value) VALUES (?1, ?2)", params![name, text])
    }

    fn record<T: DeserializeOwned>(&self, table: Table, which: &str, values: impl Params) -> Result<Option<T>, Halt> {
        let records = self.records(table, &select(table, which), values);
        records.map(|mut records| records.pop()).map_err(Halt::Failed)
    }

    fn find_job(&self, which: &str, id: &str) -> Result<Option<Arc<Job>>, Halt> {
        Ok(self.record(JOBS, which, [id])?.map(|job: JobRecord| Arc::new(job.into())))
    }

    fn find_payment(&self, which: &str, id: &str) -> Result<Option<Arc<Payment>>, Halt> {
        Ok(self.record(PAYMENTS, which, [id])?.map(|payment: PaymentRecord| Arc::new(payment.into())))
    }
}

impl View for Rows<'_> {
    fn account(&self, user: UserId) -> Result<Option<Account>, Halt> {
        let Some(record) = self.record(ACCOUNTS, "WHERE user = ?1", [user.get()])? else { return Ok(None) };
        // A user's ledger is numbered from 1 without a gap.
        let last = "SELECT seq FROM ledger WHERE user = ?1 ORDER BY seq DESC LIMIT 1";
        let rows: Option<i64> = self.value(last, [user.get()]).map_err(Halt::Failed)?;
        Ok(Some(Account { record, rows: rows.unwrap_or_default().unsigned_abs() }))
    }
    fn key(&self, user: UserId, space: KeySpace, key: &OperationKey) -> Result<Option<UsedKey>, Halt> {
        let id = format!("{}/{key}", space.as_str());
        let record = self.record(KEYS, "WHERE user = ?1 AND id = ?2", params![user.get(), id])?;
        Ok(record.map(|key: KeyRecord| key.used))
    }
    fn hold(&self, user: UserId, name: &HoldName) -> Result<Option<Arc<Hold>>, Halt> {
        let hold = self.record(HOLDS, "WHERE user = ?1 AND name = ?2", params![user.get(), name.as_str()])?;
        Ok(hold.map(Arc::new))
    }
    fn job(&self, job: &JobId) -> Result<Option<Arc<Job>>, Halt> {
        self.find_job("WHERE id = ?1", job.as_str())
    }
    fn job_of(&self, task: &TaskId) -> Result<Option<Arc<Job>>, Halt> {
        self.find_job("WHERE external_task_id = ?1", task.as_str())
    }
    fn payment(&self, payment: &PaymentId) -> Result<Option<Arc<Payment>>, Halt> {
        self.find_payment("WHERE id = ?1", payment.as_str())
    }
    fn payment_of(&self, provider: &ProviderKey) -> Result<Option<Arc<Payment>>, Halt> {
        self.find_payment("WHERE provider_key = ?1", provider.as_str())
    }
    fn chain(&self, user: UserId) -> Result<Vec<UserId>, Halt> {
        let (mut chain, mut last) = (Vec::new(), user);
        while chain.len() < MAX_REFERRAL_CHAIN {
            let account: Option<AccountRecord> = self.record(ACCOUNTS, "WHERE user = ?1", [last.get()])?;
            let Some(referrer) = account.and_then(|account| account.referrer) else { break };
            chain.push(referrer);
            last = referrer;
        }
        Ok(chain)
    }
    fn height(&self, user: UserId) -> Result<usize, Halt> {
        // One level more than is allowed says that it is too many, and ends the search in a circle that somebody made by hand.
        let sql = "WITH RECURSIVE below (user, height) AS (
                       VALUES (?1, 0) UNION ALL
                       SELECT accounts.user, height + 1 FROM below JOIN accounts ON accounts.referrer = below.user
                       WHERE height <= ?2
                   ) SELECT max(height) FROM below";
        let height = self.value(sql, params![user.get(), to_i64(MAX_REFERRAL_CHAIN)]).map_err(Halt::Failed)?;
        Ok(height.and_then(|height: i64| usize::try_from(height).ok()).unwrap_or_default())
    }
}

impl Unit for Rows<'_> {
    fn put(&mut self, changes: Changes) -> Result<()> {
        self.put_changes(changes)
    }
    fn lay(&mut self, record: DumpRecord) -> Result<()> {
        self.put_record(&record)
    }
    fn is_empty(&self) -> Result<bool> {
        for table in [ACCOUNTS, HISTORY, HOLDS, JOBS, KEYS, LEDGER, PAYMENTS] {
            if self.value::<i64>(&format!("SELECT 1 FROM {} LIMIT 1", table.name), [])?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }
    fn walk(&self, whose: Option<UserId>, each: &mut dyn FnMut(DumpRecord) -> Result<()>) -> Result<()> {
        self.each_of_all(whose, each)
    }

    fn users(&self, after: Option<UserId>, most: usize) -> Result<Vec<AccountRecord>> {
        // Every number may be a user's, also the least: there is none that the first page could begin behind.
        let first = after.map_or(Some(i64::MIN), |user| user.get().checked_add(1));
        let Some(first) = first else { return Ok(Vec::new()) };
        let sql = select(ACCOUNTS, "WHERE user >= ?1 ORDER BY user LIMIT ?2");
        self.records(ACCOUNTS, &sql, params![first, to_i64(most)])
    }
    fn ledger(&self, user: UserId, after: Option<u64>, most: usize) -> Result<Vec<Arc<LedgerRow>>> {
        let before = to_i64(after.unwrap_or(u64::MAX));
        let sql = select(LEDGER, "WHERE user = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3");
        self.records(LEDGER, &sql, params![user.get(), before, to_i64(most)]).map(shared)
    }
    fn history(&self, user: UserId, after: Option<&Newest<GenerationId>>, most: usize) -> Result<Vec<Arc<Generation>>> {
        let Before(moment, id, _) = Before::last(after, |id| (id.as_str(), None));
        let sql = select(HISTORY, "WHERE user = ?1 AND (at, id) < (?2, ?3) ORDER BY at DESC, id DESC LIMIT ?4");
        let records = self.records(HISTORY, &sql, params![user.get(), moment, id, to_i64(most)])?;
        Ok(records.into_iter().map(|record: GenerationRecord| Arc::new(record.into_generation().1)).collect())
    }
    fn holds(&self, list: &ListReserves, after: Option<&Newest<HoldPlace>>, most: usize) -> Result<Vec<Arc<Hold>>> {
        let before = Before::last(after, |place| (place.name.as_str(), Some(place.user)));
        let before = list.older_than.map_or(before, |moment| before.min(Before::moment(moment)));
        let wanted = |status: &HoldStatus| list.status.is_none_or(|wanted| wanted == *status);
        let statuses = HoldStatus::ALL.into_iter().filter(wanted).map(HoldStatus::as_str);
        self.newest(HOLDS, list.user, statuses, before, most).map(shared)
    }
    fn due(&self, now: Timestamp, after: Option<&Due>, most: usize) -> Result<Vec<Due>> {
        let (at, user, name) = after.map_or((-1, 0, ""), |(at, user, name)| (at.micros(), user.get(), name.as_str()));
        // Without the index's name SQLite would take all open holds and sort them.
        let sql = "SELECT expires_at, user, name FROM holds INDEXED BY due_holds
                   WHERE status = 'open' AND expires_at <= ?1 AND (expires_at, user, name) > (?2, ?3, ?4)
                   ORDER BY expires_at, user, name";
        let mut due = Vec::new();
        self.each_while(sql, params![now.micros(), at, user, name], |row| {
            let place = || {
                let name = row.get_ref(2).ok()?.as_str().ok()?.parse().ok()?;
                Some((Timestamp::from_micros(row.get(0).ok()?).ok()?, UserId::new(row.get(1).ok()?).ok()?, name))
            };
            // What names no place is passed over; an audit tells of it.
            due.extend(place());
            Ok(due.len() < most)
        })?;
        Ok(due)
    }
    fn jobs(&self, list: &ListJobs, after: Option<&Newest<JobId>>, most: usize) -> Result<Vec<Arc<Job>>> {
        let before = Before::last(after, |id| (id.as_str(), None));
        let wanted = |status: &JobStatus| list.statuses.is_empty() || list.statuses.contains(status);
        let statuses = JobStatus::ALL.into_iter().filter(wanted).map(JobStatus::as_str);
        self.newest(JOBS, list.user, statuses, before, most).map(shared::<JobRecord, Job>)
    }
    fn payments(
        &self,
        list: &ListPayments,
        after: Option<&Newest<PaymentId>>,
        most: usize,
    ) -> Result<Vec<Arc<Payment>>> {
        let before = Before::last(after, |id| (id.as_str(), None));
        let wanted = |status: &PaymentStatus| list.status.is_none_or(|wanted| wanted == *status);
        let statuses = PaymentStatus::ALL.into_iter().filter(wanted).map(PaymentStatus::as_str);
        self.newest(PAYMENTS, list.user, statuses, before, most).map(shared::<PaymentRecord, Payment>)
    }
    fn referrals(&self, referrer: UserId, after: Option<&Newest<UserId>>, most: usize) -> Result<Vec<AccountRecord>> {
        let (since, user) = after.map_or((-1, 0), |last| (last.at.micros(), last.id.get()));
        let which = "WHERE referrer = ?1 AND (referred_at, user) > (?2, ?3) ORDER BY referred_at, user LIMIT ?4";
        self.records(ACCOUNTS, &select(ACCOUNTS, which), params![referrer.get(), since, user, to_i64(most)])
    }

    fn founding(&self) -> Result<Option<Founding>> {
        let founding: Option<(_, _)> = self.fact(FOUNDING)?;
        Ok(founding.map(|(time_zone, history)| Founding { time_zone, history }))
    }
    fn found(&mut self, founding: &Founding) -> Result<()> {
        let Founding { time_zone, history } = founding;
        self.set_fact(FOUNDING, &(time_zone, history))
    }
    fn moved_to(&self) -> Result<Option<Destination>> {
        self.fact(MOVED_TO)
    }
    fn set_moved(&mut self, to: Option<&Destination>) -> Result<()> {
        self.change("DELETE FROM facts WHERE name = ?1", [MOVED_TO])?;
        to.map_or(Ok(()), |to| self.set_fact(MOVED_TO, to))
    }
}
