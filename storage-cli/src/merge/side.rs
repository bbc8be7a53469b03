//! What each side of a merge knows, read from its dump.

use std::collections::{BTreeMap, HashMap, HashSet};

use storage_core::dump::{DumpRecord, KeyRecord};
use storage_core::{
    AccountRecord, Error, Fingerprint, Generation, Hold, HoldName, Job, JobId, KeySpace, LedgerRow, Money,
    OperationKey, OperationKind, Payment, PaymentId, ProviderKey, Storage, Timestamp, UserId,
};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};

use crate::compare::piped;
use crate::exit::Failure;

/// Everything of the side that is merged into the other. It stood in for that one for a while, so it fits into memory.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) accounts: BTreeMap<UserId, AccountRecord>,
    pub(super) generations: Vec<(UserId, Generation)>,
    pub(super) holds: HashMap<(UserId, HoldName), Hold>,
    pub(super) jobs: Vec<Job>,
    pub(super) keys: Vec<KeyRecord>,
    pub(super) rows: Vec<LedgerRow>,
    pub(super) payments: BTreeMap<PaymentId, Payment>,
}

/// What the other side knows of the users and names that the source has.
#[derive(Debug, Default)]
pub(super) struct Target {
    pub(super) accounts: HashMap<UserId, AccountRecord>,
    pub(super) holds: HashMap<(UserId, HoldName), Hold>,
    pub(super) jobs: HashMap<JobId, Job>,
    pub(super) keys: HashMap<(UserId, KeySpace, OperationKey), Fingerprint>,
    /// Times of the ledger rows of the source's users.
    pub(super) rows: HashMap<UserId, Vec<Timestamp>>,
    pub(super) openings: HashMap<UserId, Money>,
    pub(super) payments: HashMap<PaymentId, Payment>,
    pub(super) providers: HashMap<ProviderKey, PaymentId>,
}

async fn each(storage: &dyn Storage, mut take: impl FnMut(DumpRecord) -> Result<(), Error>) -> Result<(), Failure> {
    piped(storage, async |lines| records(lines, &mut take).await).await.map(|_| ())
}

async fn records(
    mut lines: impl AsyncBufRead + Unpin,
    take: &mut impl FnMut(DumpRecord) -> Result<(), Error>,
) -> Result<(), Failure> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = lines.read_until(b'\n', &mut line).await;
        if count.map_err(|error| Failure::io("a dump could not be read", error))? == 0 {
            return Ok(());
        }
        if line.starts_with(b"{\"record\"") {
            let record = serde_json::from_slice(&line)
                .map_err(|error| Error::internal("a dump that was just written cannot be read").caused_by(error))?;
            take(record)?;
        }
    }
}

impl Source {
    pub(super) async fn read(storage: &dyn Storage) -> Result<Self, Failure> {
        let mut source = Self::default();
        each(storage, |record| {
            match record {
                DumpRecord::Account(account) => drop(source.accounts.insert(account.user, account)),
                DumpRecord::Generation(entry) => source.generations.push(entry.into_generation()),
                DumpRecord::Hold(hold) => drop(source.holds.insert((hold.user, hold.name.clone()), hold)),
                DumpRecord::Job(job) => source.jobs.push(job.into()),
                DumpRecord::Key(key) => source.keys.push(key),
                DumpRecord::Ledger(row) => source.rows.push(row),
                DumpRecord::Payment(payment) => {
                    source.payments.insert(payment.id.clone(), payment.into());
                }
            }
            Ok(())
        })
        .await?;
        Ok(source)
    }
}

impl Target {
    /// Reads what concerns the source.
    pub(super) async fn read(storage: &dyn Storage, source: &Source) -> Result<Self, Failure> {
        let jobs: HashSet<&JobId> = source.jobs.iter().map(|job| &job.id).collect();
        let keys: HashSet<(UserId, KeySpace, &OperationKey)> =
            source.keys.iter().map(|key| (key.user, key.space, &key.key)).collect();
        let providers: HashSet<&ProviderKey> =
            source.payments.values().filter_map(|payment| payment.provider_key.as_ref()).collect();
        let mut target = Self::default();
        each(storage, |record| {
            let concerned = source.accounts.contains_key(&record.user());
            match record {
                DumpRecord::Account(account) if concerned => drop(target.accounts.insert(account.user, account)),
                DumpRecord::Hold(hold) => {
                    let key = (hold.user, hold.name.clone());
                    if source.holds.contains_key(&key) {
                        target.holds.insert(key, hold);
                    }
                }
                DumpRecord::Job(job) if jobs.contains(&job.id) => {
                    target.jobs.insert(job.id.clone(), job.into());
                }
                DumpRecord::Key(key) if keys.contains(&(key.user, key.space, &key.key)) => {
                    target.keys.insert((key.user, key.space, key.key), key.used.arguments);
                }
                DumpRecord::Ledger(row) if concerned => {
                    if row.kind == OperationKind::Opening {
                        target.openings.insert(row.user, row.balance_after);
                    }
                    target.rows.entry(row.user).or_default().push(row.at);
                }
                DumpRecord::Payment(payment) => {
                    let provider = payment.provider_key.clone().filter(|key| providers.contains(key));
                    if let Some(provider) = provider {
                        target.providers.insert(provider, payment.id.clone());
                    }
                    if source.payments.contains_key(&payment.id) {
                        target.payments.insert(payment.id.clone(), payment.into());
                    }
                }
                DumpRecord::Account(_)
                | DumpRecord::Generation(_)
                | DumpRecord::Job(_)
                | DumpRecord::Key(_)
                | DumpRecord::Ledger(_) => {}
            }
            Ok(())
        })
        .await?;
        Ok(target)
    }
}
