//! Putting in what another system left, many records to a transaction, each decided by itself.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use storage_core::kernel::{Atom, Call};
use storage_core::{Applied, Error, ErrorKind, ImportOutcome, ImportRecord, Result, UserId};
use tokio::time::Instant;

use crate::attempts::Course;
use crate::fault::Fault;
use crate::pool::Pool;
use crate::queues::Lock;
use crate::statement::statements;
use crate::store::PgStorage;
use crate::tx::Tx;
use crate::wire::Value;

statements! {
    /// Statements of imports.
    ImportStatements {
        transaction() = "SELECT txid_current() AS transaction";
        /// Whether an earlier transaction is there. The server's history may have lost it, after a failover; then it knows
        /// only lower numbers.
        is_committed(INT8) =
            "SELECT coalesce(CASE WHEN $1 < txid_current() THEN txid_status($1) END = 'committed', false) AS committed";
    }
}

/// A record on its way, and its place among those that were given.
type Numbered = (usize, Atom);
/// What became of records, by their places.
type Outcomes = Vec<(usize, ImportOutcome)>;

/// An attempt that came to its end: its transaction, if it changed anything, and what it found.
type Sent = Arc<Mutex<Option<(i64, Outcomes)>>>;

impl PgStorage {
    /// Puts some records in, in their order, in one transaction. Each is decided by itself, and sees those before it.
    async fn import_some(&self, pool: &Pool, some: &[Numbered]) -> Result<Outcomes> {
        let Some((_, first)) = some.first() else { return Ok(Vec::new()) };
        let (sent, key) = (Sent::default(), first.asked_by());
        let course = Course::new(&key);
        self.write_on(Instant::now(), pool, (&course, Lock::Many), None, |tx| {
            let some: Vec<_> = some.iter().map(|(at, atom)| (*at, course.atom(atom))).collect();
            let sent = Arc::clone(&sent);
            Box::pin(async move {
                let mut outcomes = Vec::with_capacity(some.len());
                for (at, atom) in some {
                    let outcome = tx.decide(&atom).await?.try_into()?;
                    tx.flush().await?;
                    outcomes.push((at, outcome));
                }
                remember(tx, &sent, outcomes).await
            })
        })
        .await
    }

    async fn import_lane(&self, pool: &Pool, lane: Vec<Numbered>) -> Result<Outcomes> {
        let limit = self.limits().statement;
        let (mut outcomes, mut share, mut rest) = (Vec::with_capacity(lane.len()), Share::default(), lane.as_slice());
        while !rest.is_empty() {
            let (some, later) = rest.split_at(share.0.min(rest.len()));
            let begun = Instant::now();
            match self.import_some(pool, some).await {
                Ok(mut done) => {
                    outcomes.append(&mut done);
                    rest = later;
                    share.settle(begun.elapsed(), limit);
                }
                Err(error) if ran_out(&error) && some.len() > 1 => share.0 = some.len() / 2,
                Err(error) => return Err(error),
            }
        }
        Ok(outcomes)
    }

    pub(crate) async fn import_all(&self, records: Vec<ImportRecord>) -> Result<Vec<ImportOutcome>> {
        let pool = self.enter().await?;
        let count = records.len();
        // In their order, each with a moment and an id of its own.
        let atoms = records.into_iter().map(|record| Atom::new(Call::Import(record), self.environment()));
        let numbered = atoms.enumerate().map(|(at, atom)| Ok((at, atom?))).collect::<Result<Vec<_>>>()?;
        let (beside, ordered) = lanes(numbered, self.at_once());
        let mut outcomes: Vec<Option<ImportOutcome>> = vec![None; count];
        let working = beside.into_iter().map(|lane| self.import_lane(&pool, lane));
        for done in join_all(working).await {
            for (at, outcome) in done? {
                outcomes[at] = Some(outcome);
            }
        }
        for (at, outcome) in self.import_lane(&pool, ordered).await? {
            outcomes[at] = Some(outcome);
        }
        let all: Option<Vec<ImportOutcome>> = outcomes.into_iter().collect();
        all.ok_or_else(|| Error::internal("an imported record has no outcome"))
    }
}

/// Nothing was applied, and the time was up.
fn ran_out(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Busy { .. }) && error.applied() == Applied::No
}

/// How many records share a transaction and its commit. Each takes two round trips, and the transaction has the time of
/// one statement: over a slow line few do, and over a quick one many.
struct Share(usize);

impl Share {
    const MOST: usize = 64;

    /// Learns from how long the last ones took.
    fn settle(&mut self, took: Duration, limit: Duration) {
        if took * 4 < limit {
            self.0 = (self.0 * 2).min(Self::MOST);
        } else if took * 2 > limit {
            self.0 = (self.0 / 2).max(1);
        }
    }
}

impl Default for Share {
    fn default() -> Self {
        Self(8)
    }
}

fn imported(atom: &Atom) -> Option<&ImportRecord> {
    match atom.call() {
        Call::Import(record) => Some(record),
        _ => None,
    }
}

/// The ids of a record that no two users may have.
fn claims(record: &ImportRecord) -> Vec<(&'static str, String)> {
    match record {
        ImportRecord::Job(job) => {
            let task = job.external_task_id.iter().map(|task| ("task", task.to_string()));
            task.chain([("job", job.id.to_string())]).collect()
        }
        ImportRecord::Payment(payment) => {
            let provider = payment.provider_key.iter().map(|key| ("provider", key.to_string()));
            provider.chain([("payment", payment.id.to_string())]).collect()
        }
        _ => Vec::new(),
    }
}

/// Parts the records into lanes that go side by side and one that goes behind them. All records of one user are in one
/// lane, in their order; and in the last one are all users of whom the order decides: those of a referral, and those who
/// claim one id.
fn lanes(records: Vec<Numbered>, at_once: usize) -> (Vec<Vec<Numbered>>, Vec<Numbered>) {
    let mut claimed: HashMap<(&'static str, String), UserId> = HashMap::new();
    let mut in_order: HashSet<UserId> = HashSet::new();
    for record in records.iter().filter_map(|(_, atom)| imported(atom)) {
        if let ImportRecord::Referral { user, referrer, .. } = record {
            in_order.extend([*user, *referrer]);
        }
        for id in claims(record) {
            let first = *claimed.entry(id).or_insert(record.user());
            if first != record.user() {
                in_order.extend([first, record.user()]);
            }
        }
    }
    let count = u64::try_from(at_once).unwrap_or(1).max(1);
    let (mut beside, mut ordered) = (vec![Vec::new(); at_once.max(1)], Vec::new());
    for numbered in records {
        let Some(user) = imported(&numbered.1).map(ImportRecord::user) else { continue };
        let lane = usize::try_from(user.get().unsigned_abs() % count).unwrap_or(0);
        let lane = if in_order.contains(&user) { &mut ordered } else { &mut beside[lane] };
        lane.push(numbered);
    }
    (beside, ordered)
}

/// Ends an attempt. When an earlier one was committed after all and only its answer was lost, this one saw what that one
/// added: then that one's outcomes count. By now this attempt has waited for every row that the other may have held.
async fn remember(tx: &mut Tx<'_>, sent: &Sent, mut outcomes: Outcomes) -> Result<Outcomes, Fault> {
    let earlier = sent.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some((transaction, before)) = earlier {
        let rows = tx.fetch(vec![(&tx.sql().import.is_committed, vec![&transaction as Value<'_>])]).await?;
        if flag(rows.first().and_then(|rows| rows.first()))? {
            for ((_, outcome), (_, before)) in outcomes.iter_mut().zip(before) {
                if before == ImportOutcome::Added {
                    *outcome = before;
                }
            }
            // Kept for the attempt after this one.
            *sent.lock().unwrap_or_else(PoisonError::into_inner) = Some((transaction, outcomes.clone()));
            return Ok(outcomes);
        }
    }
    if outcomes.iter().any(|(_, outcome)| *outcome == ImportOutcome::Added) {
        let rows = tx.fetch(vec![(&tx.sql().import.transaction, Vec::new())]).await?;
        let row = rows.first().and_then(|rows| rows.first()).ok_or_else(no_answer)?;
        let transaction = row.try_get(0).map_err(|error| no_answer().caused_by(error))?;
        *sent.lock().unwrap_or_else(PoisonError::into_inner) = Some((transaction, outcomes.clone()));
    }
    Ok(outcomes)
}

fn flag(row: Option<&tokio_postgres::Row>) -> Result<bool> {
    row.ok_or_else(no_answer)?.try_get(0).map_err(|error| no_answer().caused_by(error))
}

fn no_answer() -> Error {
    Error::internal("the server did not say which transaction this is")
}

#[cfg(test)]
mod tests {
    use storage_core::{AddPayment, Environment, Payment, Timestamp};

    use super::*;

    #[test]
    fn the_share_follows_the_line() {
        let (limit, mut share) = (Duration::from_secs(10), Share::default());
        let mut shares = Vec::new();
        for took in [100, 100, 100, 100, 4000, 5001, 9000, 100, 9000, 9000, 9000, 9000, 9000, 9000] {
            share.settle(Duration::from_millis(took), limit);
            shares.push(share.0);
        }
        assert_eq!(shares, [16, 32, 64, 64, 64, 32, 16, 32, 16, 8, 4, 2, 1, 1]);
    }

    fn user(id: i64) -> UserId {
        UserId::new(id).unwrap()
    }

    fn payment(of: i64, id: &str, provider: Option<&str>) -> ImportRecord {
        let add = AddPayment::new(user(of), "1".parse().unwrap(), "card".parse().unwrap());
        let add = AddPayment { provider_key: provider.map(|key| key.parse().unwrap()), ..add };
        ImportRecord::Payment(Payment::create(add, id.parse().unwrap(), Timestamp::MIN))
    }

    #[test]
    fn a_user_is_in_one_lane_and_whom_the_order_decides_is_in_the_last() {
        let gift = |id| ImportRecord::Gift { user: user(id) };
        let records = vec![
            gift(1),
            payment(1, "p-1", Some("c-1")),
            gift(2),
            payment(2, "p-2", None),
            gift(3),
            payment(3, "p-3", Some("c-1")),
            ImportRecord::Referral { user: user(4), referrer: user(5), since: None },
            gift(4),
            gift(5),
            payment(2, "p-2", None),
            payment(6, "c-1", None),
            gift(1),
        ];
        let atom = |record| Atom::new(Call::Import(record), &Environment::default()).unwrap();
        let numbered = records.into_iter().map(atom).enumerate().collect();
        let (beside, ordered) = lanes(numbered, 2);
        let places = |lane: &[Numbered]| lane.iter().map(|(at, ..)| *at).collect::<Vec<_>>();
        assert_eq!(beside.iter().map(|lane| places(lane)).collect::<Vec<_>>(), [vec![2, 3, 9, 10], vec![]]);
        assert_eq!(places(&ordered), [0, 1, 4, 5, 6, 7, 8, 11]);
    }
}
