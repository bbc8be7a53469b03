//! Loading a dump: whole or not at all, into an empty store only.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::join;
use storage_core::dump::{DumpSource, ProvedDump};
use storage_core::{DumpRecord, DumpSummary, Error, Result, TaskId};
use tokio::time::timeout;
use tokio_postgres::{IsolationLevel, Transaction};
use uuid::Uuid;

use crate::account;
use crate::codec::{Day, Micros, Moment};
use crate::copy::Target;
use crate::fault::Fault;
use crate::pool::{Link, Parts};
use crate::statement::{Statement, statements};
use crate::store::PgStorage;
use crate::tx::{Param, borrowed, param};
use crate::{history, jobs, keys, payments, reserves};

/// Statements that are sent without waiting for an answer.
const PIECE: usize = 500;
/// Rows that go by COPY at once.
const COPIED: usize = 8000;
/// Bytes of the dump after which a piece ends: records may be large.
const MOST: usize = 8 * 1024 * 1024;
/// The longest that one piece may take.
const STEP: Duration = Duration::from_mins(1);
/// The longest that a statement may take that is about all that was loaded.
const WHOLE: Duration = Duration::from_mins(10);

statements! {
    /// Statements of the restore.
    RestoreStatements {
        /// Whoever makes a user waits until the restore is over. Readers go on, and see an empty store.
        lock() = "LOCK TABLE {s}.users IN SHARE ROW EXCLUSIVE MODE";
        is_empty() =
            "SELECT NOT EXISTS (SELECT FROM {s}.users) AND NOT EXISTS (SELECT FROM {s}.id_routes) AS is_empty";
        /// The last statement is one for the whole store.
        for_all() = "SELECT set_config('statement_timeout'::text, '600000'::text, true)";
    }
}

/// What waits to be written: statements with their values, in the order in which they have to be.
type Queued<'l> = Vec<(&'l Statement, Vec<Param>)>;

impl PgStorage {
    pub(crate) async fn restore_from(&self, from: &mut dyn DumpSource) -> Result<DumpSummary> {
        let pool = self.enter().await?;
        let mut dump = ProvedDump::prove(from).await?;
        dump.check_policy(&self.environment().policy)?;
        self.knows_all_of_it(&pool).await?;
        let mut link = pool.checkout(Duration::MAX).await?;
        self.load_in(&mut link, &mut dump).await?;
        link.finished();
        Ok(dump.summary().clone())
    }

    async fn load_in(&self, link: &mut Link<'_>, dump: &mut ProvedDump<'_>) -> Result<()> {
        let (client, parts) = link.split();
        // By name: under a stricter default of the database the look at whether the store is empty would not see what was
        // committed while it waited for the lock.
        let begun = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start();
        let transaction = in_time(begun).await?;
        // A pooler lends a connection to others, who might have a statement of the same name.
        let by_copy = self.is_whole() && !parts.behind_pooler();
        let mut loading = Loading { transaction, parts, storage: self, targets: by_copy.then(HashMap::new) };
        loading.begin().await?;
        loading.load(dump).await?;
        loading.measure().await?;
        // From here on nobody knows without its answer whether the commit took place.
        in_time(loading.transaction.commit()).await.map_err(|error| error.unknown(None))
    }
}

async fn in_time<T>(step: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T> {
    within(STEP, step).await
}

async fn within<T>(limit: Duration, step: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T> {
    let answer = timeout(limit, step).await.map_err(|_| Fault::Silent(limit).into_error())?;
    answer.map_err(|error| Fault::from(error).into_error())
}

struct Loading<'l> {
    transaction: Transaction<'l>,
    parts: &'l Parts,
    storage: &'l PgStorage,
    /// Where each statement's rows go by COPY; none where they go by the statements themselves.
    targets: Option<HashMap<&'static str, Target>>,
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

    /// Writes every record; accounts come first in a dump, so that what refers to them finds them. While the server takes
    /// one piece the next one is read.
    async fn load(&mut self, dump: &mut ProvedDump<'_>) -> Result<()> {
        let size = if self.targets.is_some() { COPIED } else { PIECE };
        let mut ready = self.piece(dump, size).await?;
        while !ready.is_empty() {
            for (statement, _) in &ready {
                self.aim(statement)?;
            }
            let (read, sent) = join(self.piece(dump, size), self.send(ready)).await;
            sent?;
            ready = read?;
        }
        Ok(())
    }

    /// Users come in the order of their ids, and a tree is as high as it is only when all of it is there.
    async fn measure(&self) -> Result<()> {
        let sql = self.storage.sql();
        let wire = self.parts.wire(self.transaction.client());
        in_time(wire.rows(&sql.restore.for_all, &[])).await?;
        within(WHOLE, wire.rows(&sql.referrals.measure, &[])).await?;
        Ok(())
    }

    async fn piece(&self, dump: &mut ProvedDump<'_>, size: usize) -> Result<Queued<'l>> {
        let mut queued = Vec::with_capacity(size + 8);
        let mut bytes = 0;
        while queued.len() < size && bytes < MOST {
            let Some(record) = dump.next().await? else { break };
            bytes += dump.line_bytes();
            self.queue(&record, &|user| dump.ledger_rows(user), &mut queued);
        }
        Ok(queued)
    }

    /// Makes sure that it is known where the rows of a statement go.
    fn aim(&mut self, statement: &Statement) -> Result<()> {
        if let Some(targets) = &mut self.targets
            && !targets.contains_key(statement.name)
        {
            let target = Target::of(statement)
                .ok_or_else(|| Error::internal(format!("{} does not insert a row of its values", statement.name)))?;
            targets.insert(statement.name, target);
        }
        Ok(())
    }

    async fn send(&self, queued: Queued<'l>) -> Result<()> {
        let Some(targets) = &self.targets else {
            let batch: Vec<_> = queued.iter().map(|(statement, values)| (*statement, borrowed(values))).collect();
            in_time(self.parts.wire(self.transaction.client()).pipeline(&batch)).await?;
            return Ok(());
        };
        // Tables in the order in which they first come: parents before children, routes before what they lead to.
        let mut tables: Vec<(&'static str, Vec<Vec<Param>>)> = Vec::new();
        for (statement, values) in queued {
            match tables.iter_mut().find(|(name, _)| *name == statement.name) {
                Some((_, rows)) => rows.push(values),
                None => tables.push((statement.name, vec![values])),
            }
        }
        for (name, rows) in &tables {
            if let Some(target) = targets.get(name) {
                in_time(target.put(self.transaction.client(), rows)).await?;
            }
        }
        Ok(())
    }

    fn queue(&self, record: &DumpRecord, rows_of: &dyn Fn(storage_core::UserId) -> u64, queued: &mut Queued<'l>) {
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
                        param(i64::from(record.referral_bonus)),
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
                        vec![param(user), param(referrer.get()), param(bonus), param(since), param(true)],
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
