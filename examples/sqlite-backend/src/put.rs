//! What an atom changes, and how a record is put.

use rusqlite::params;
use storage_core::dump::{GenerationRecord, JobRecord, KeyRecord, PaymentRecord};
use storage_core::kernel::{Changes, Record, Trim};
use storage_core::{AccountRecord, DumpRecord, Hold, LedgerRow, ProviderKey, Result, TaskId, Timestamp, UserId};

use crate::rows::{Rows, text_of, to_i64};

impl Rows<'_> {
    pub(crate) fn put_changes(&self, changes: Changes) -> Result<()> {
        let Changes { accounts, rows, key, record, trim } = changes;
        accounts.iter().flatten().try_for_each(|account| self.put_account(&account.record))?;
        rows.iter().try_for_each(|row| self.add_ledger_row(row))?;
        key.iter().try_for_each(|key| self.add_key(key))?;
        match record {
            Some(Record::Hold(hold)) => self.put_hold(&hold),
            Some(Record::Job(job)) => self.put_job(&job.as_ref().clone().into()),
            Some(Record::Payment(payment)) => self.put_payment(&payment.as_ref().clone().into()),
            Some(Record::Generation(user, generation)) => {
                self.add_generation(&GenerationRecord::new(user, &generation), trim)
            }
            None => Ok(()),
        }
    }

    pub(crate) fn put_record(&self, record: &DumpRecord) -> Result<()> {
        match record {
            DumpRecord::Account(account) => self.put_account(account),
            DumpRecord::Generation(generation) => self.add_generation(generation, None),
            DumpRecord::Hold(hold) => self.put_hold(hold),
            DumpRecord::Job(job) => self.put_job(job),
            DumpRecord::Key(key) => self.add_key(key),
            DumpRecord::Ledger(row) => self.add_ledger_row(row),
            DumpRecord::Payment(payment) => self.put_payment(payment),
        }
    }

    fn put_account(&self, account: &AccountRecord) -> Result<()> {
        let (referrer, since) = (account.referrer.map(UserId::get), account.referred_at.map(Timestamp::micros));
        self.change(
            "INSERT INTO accounts (user, referrer, referred_at, record) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (user) DO UPDATE SET referrer = ?2, referred_at = ?3, record = ?4",
            params![account.user.get(), referrer, since, text_of(account)?],
        )
    }

    fn put_hold(&self, hold: &Hold) -> Result<()> {
        let (created_at, expires_at) = (hold.created_at.micros(), hold.expires_at.map(Timestamp::micros));
        let (user, name, status) = (hold.user.get(), hold.name.as_str(), hold.status.as_str());
        self.change(
            "INSERT INTO holds (user, name, status, created_at, expires_at, record) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (user, name) DO UPDATE SET status = ?3, created_at = ?4, expires_at = ?5, record = ?6",
            params![user, name, status, created_at, expires_at, text_of(hold)?],
        )
    }

    // The kernel puts no second job of one id or external id, and no second payment. The indexes refuse one all the same.
    fn put_job(&self, job: &JobRecord) -> Result<()> {
        let (user, id, status, at) = (job.user.get(), job.id.as_str(), job.status.as_str(), job.created_at.micros());
        let task = job.external_task_id.as_ref().map(TaskId::as_str);
        self.change(
            "INSERT INTO jobs (user, id, status, created_at, external_task_id, record) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (user, id) DO UPDATE SET status = ?3, created_at = ?4, external_task_id = ?5, record = ?6",
            params![user, id, status, at, task, text_of(job)?],
        )
    }

    fn put_payment(&self, payment: &PaymentRecord) -> Result<()> {
        let (user, id, status) = (payment.user.get(), payment.id.as_str(), payment.status.as_str());
        let (at, provider) = (payment.created_at.micros(), payment.provider_key.as_ref().map(ProviderKey::as_str));
        self.change(
            "INSERT INTO payments (user, id, status, created_at, provider_key, record) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (user, id) DO UPDATE SET status = ?3, created_at = ?4, provider_key = ?5, record = ?6",
            params![user, id, status, at, provider, text_of(payment)?],
        )
    }

    // What follows is added and never replaced.
    fn add_key(&self, key: &KeyRecord) -> Result<()> {
        let (user, id) = (key.user.get(), format!("{}/{}", key.space.as_str(), key.key));
        self.change("INSERT INTO keys (user, id, record) VALUES (?1, ?2, ?3)", params![user, id, text_of(key)?])
    }

    fn add_ledger_row(&self, row: &LedgerRow) -> Result<()> {
        let (user, seq) = (row.user.get(), to_i64(row.seq));
        self.change("INSERT INTO ledger (user, seq, record) VALUES (?1, ?2, ?3)", params![user, seq, text_of(row)?])
    }

    fn add_generation(&self, generation: &GenerationRecord, trim: Option<Trim>) -> Result<()> {
        let (user, id, at) = (generation.user.get(), generation.id.as_str(), generation.at.micros());
        if let Some(Trim::Before(kept)) = trim {
            self.trim_history(user, kept)?;
        }
        let sql = "INSERT INTO history (user, id, at, record) VALUES (?1, ?2, ?3, ?4)";
        self.change(sql, params![user, id, at, text_of(generation)?])?;
        if let Some(Trim::After(kept)) = trim {
            self.trim_history(user, kept)?;
        }
        Ok(())
    }

    /// Keeps the newest entries of a user.
    fn trim_history(&self, user: i64, kept: usize) -> Result<()> {
        // Who keeps everything keeps more than there can be, and need not count.
        let Ok(kept) = i64::try_from(kept) else { return Ok(()) };
        self.change(
            "DELETE FROM history WHERE user = ?1 AND (at, id) <= (
             SELECT at, id FROM history WHERE user = ?1 ORDER BY at DESC, id DESC LIMIT 1 OFFSET ?2)",
            params![user, kept],
        )
    }
}
