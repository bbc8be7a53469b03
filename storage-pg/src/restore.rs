//! Loading a dump: whole or not at all, into an empty store only.

use std::time::Duration;

use storage_core::{DumpReader, DumpRecord, DumpSummary, Error, ErrorKind, Place, Result, TaskId};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};
use tokio::time::timeout;
use tokio_postgres::Transaction;
use uuid::Uuid;

use crate::account;
use crate::codec::{Day, Micros, Moment};
use crate::fault::Fault;
use crate::pool::{Link, Parts};
use crate::statement::{Statement, statements};
use crate::store::PgStorage;
use crate::tx::{Param, borrowed, param};
use crate::{history, jobs, keys, payments, reserves};

/// Records that are sent without waiting for an answer.
const PIECE: usize = 500;
/// The longest that one piece may take.
const STEP: Duration = Duration::from_mins(1);

statements! {
    /// Statements of the restore.
    RestoreStatements {
        /// Whoever makes a user waits until the restore is over. Readers go on, and see an empty store.
        lock() = "LOCK TABLE {s}.users IN SHARE ROW EXCLUSIVE MODE";
        is_empty() =
            "SELECT NOT EXISTS (SELECT FROM {s}.users) AND NOT EXISTS (SELECT FROM {s}.id_routes) AS is_empty";
    }
}

/// Reads a whole dump; header, order and footer are checked before anything is written.
async fn read(from: &mut (dyn AsyncBufRead + Send + Unpin)) -> Result<(Vec<DumpRecord>, DumpReader)> {
    let (mut reader, mut records, mut line, mut lines) = (DumpReader::new(), Vec::new(), Vec::new(), 0);
    loop {
        line.clear();
        lines += 1;
        let longest = storage_core::dump::MAX_DUMP_LINE;
        let mut limited = (&mut *from).take(longest as u64 + 1);
        let count = limited
            .read_until(b'\n', &mut line)
            .await
            .map_err(|error| Error::new(ErrorKind::Unavailable).message("the dump cannot be read").caused_by(error))?;
        if count == 0 {
            return Ok((records, reader));
        }
        if line.len() > longest {
            return Err(Error::corrupt(Place::new("dump").at(lines, 1), "the line is longer than a dump's may be"));
        }
        records.extend(reader.line(&line)?);
    }
}

impl PgStorage {
    pub(crate) async fn restore_from(&self, from: &mut (dyn AsyncBufRead + Send + Unpin)) -> Result<DumpSummary> {
        let pool = self.enter().await?;
        let (records, reader) = read(from).await?;
        let (header, summary) = reader.finish()?;
        let policy = &self.environment().policy;
        if header.time_zone != policy.time_zone || header.history != policy.history {
            return Err(Error::schema(
                format!("a dump of the time zone {} with retention {:?}", header.time_zone, header.history),
                format!("{} with {:?}", policy.time_zone, policy.history),
                "storage restore with the dump's policy (STORAGE_TIME_ZONE, STORAGE_HISTORY)",
            ));
        }
        let mut link = pool.checkout(Duration::MAX).await?;
        self.load_in(&mut link, &records).await?;
        link.finished();
        Ok(summary)
    }

    async fn load_in(&self, link: &mut Link<'_>, records: &[DumpRecord]) -> Result<()> {
        let (client, parts) = link.split();
        let transaction = in_time(client.transaction()).await?;
        let loading = Loading { transaction, parts, storage: self };
        loading.begin().await?;
        loading.load(records).await?;
        // From here on nobody knows without its answer whether the commit took place.
        in_time(loading.transaction.commit()).await.map_err(|error| error.unknown(None))
    }
}

async fn in_time<T>(step: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T> {
    let answer = timeout(STEP, step).await.map_err(|_| Fault::Silent(STEP).into_error())?;
    answer.map_err(|error| Fault::from(error).into_error())
}

struct Loading<'l> {
    transaction: Transaction<'l>,
    parts: &'l Parts,
    storage: &'l PgStorage,
}

impl<'l> Loading<'l> {
    async fn begin(&self) -> Result<()> {
        let sql = self.storage.sql();
        let wire = self.parts.wire(self.transaction.client());
        in_time(wire.rows(&sql.store.by_step, &[])).await?;
        in_time(wire.rows(&sql.restore.lock, &[])).await?;
        let rows = in_time(wire.rows(&sql.restore.is_empty, &[])).await?;
        match rows.first().and_then(|row| row.try_get(0).ok()) {
            Some(true) => Ok(()),
            _ => Err(Error::conflict("store", self.storage.shown(), "it holds users; restore into an empty schema")),
        }
    }

    /// Sends every record; accounts come first in a dump, so that what refers to them finds them.
    async fn load(&self, records: &[DumpRecord]) -> Result<()> {
        let mut rows_of = std::collections::HashMap::new();
        for record in records {
            if let DumpRecord::Ledger(row) = record {
                let rows = rows_of.entry(row.user).or_insert(0);
                *rows = row.seq.max(*rows);
            }
        }
        let mut queued: Vec<(&'l Statement, Vec<Param>)> = Vec::new();
        for record in records {
            self.queue(record, &|user| rows_of.get(&user).copied().unwrap_or(0), &mut queued);
            if queued.len() >= PIECE {
                self.send(std::mem::take(&mut queued)).await?;
            }
        }
        self.send(queued).await
    }

    async fn send(&self, queued: Vec<(&'l Statement, Vec<Param>)>) -> Result<()> {
        let batch: Vec<_> = queued.iter().map(|(statement, values)| (*statement, borrowed(values))).collect();
        in_time(self.parts.wire(self.transaction.client()).pipeline(&batch)).await?;
        Ok(())
    }

    fn queue(
        &self,
        record: &DumpRecord,
        rows_of: &dyn Fn(storage_core::UserId) -> u64,
        queued: &mut Vec<(&'l Statement, Vec<Param>)>,
    ) {
        let sql = self.storage.sql();
        let claim = |kind: &'static str, id: &str, user: storage_core::UserId| {
            (&sql.account.claim, vec![param(kind), param(id.to_owned()), param(user.get())])
        };
        match record {
            DumpRecord::Account(record) => {
                let user = record.user.get();
                let (updated, nobody) = (Moment::At(record.updated_at), None::<Uuid>);
                queued.push((
                    &sql.account.create,
                    vec![
                        param(user),
                        param(Moment::At(record.created_at)),
                        param(updated),
                        param(Micros::from(record.balance)),
                        param(Micros::from(record.held)),
                        param(i64::try_from(rows_of(record.user)).unwrap_or(i64::MAX)),
                        param(Micros::from(record.spent)),
                        param(nobody),
                    ],
                ));
                if record.language.is_some() || record.gift_claimed {
                    let language = record.language.as_ref().map(|language| language.as_str().to_owned());
                    let values =
                        vec![param(user), param(language), param(record.gift_claimed), param(updated), param(nobody)];
                    queued.push((&sql.account.settings, values));
                }
                if record.quota() != storage_core::Quota::default() {
                    let values = vec![
                        param(user),
                        param(record.quota_date.map(Day)),
                        param(i64::from(record.quota_used)),
                        param(i64::try_from(record.bank).unwrap_or(i64::MAX)),
                        param(updated),
                        param(nobody),
                    ];
                    queued.push((&sql.account.quota, values));
                }
                if let Some(limit) = record.admin_limit {
                    let values = vec![param(user), param(Micros::from(limit)), param(updated), param(nobody)];
                    queued.push((&sql.account.limit, values));
                }
                if let Some(referrer) = record.referrer {
                    let since = Moment::At(record.referred_at.unwrap_or(record.created_at));
                    let bonus = i64::from(record.referral_bonus);
                    queued.push((
                        &sql.account.refer,
                        vec![param(user), param(referrer.get()), param(bonus), param(since)],
                    ));
                }
            }
            DumpRecord::Generation(entry) => {
                let (user, generation) = entry.clone().into_generation();
                queued.push((&sql.history.put, history::values(user, &generation)));
            }
            DumpRecord::Hold(hold) => queued.push((&sql.reserves.create, reserves::values(hold, None))),
            DumpRecord::Job(record) => {
                let job = storage_core::Job::from(record.clone());
                queued.push(claim("job", job.id.as_str(), job.user));
                queued
                    .extend(job.external_task_id.as_ref().map(|task: &TaskId| claim("task", task.as_str(), job.user)));
                queued.push((&sql.jobs.create, jobs::values(&job, None)));
            }
            DumpRecord::Key(record) => {
                queued.push((&sql.keys.put, keys::values(record.user, record.space, &record.key, &record.used)));
            }
            DumpRecord::Ledger(row) => queued.push((&sql.account.post, account::ledger_values(row))),
            DumpRecord::Payment(record) => {
                let payment = storage_core::Payment::from(record.clone());
                queued.push(claim("payment", payment.id.as_str(), payment.user));
                queued.extend(payment.provider_key.as_ref().map(|key| claim("provider", key.as_str(), payment.user)));
                queued.push((&sql.payments.create, payments::values(&payment, None)));
            }
        }
    }
}
