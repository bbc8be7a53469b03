//! redb with its own default, immediate durability: a commit is on the disk.

use std::path::Path;

use redb::{Database, ReadableDatabase as _, ReadableTable as _, Table, TableDefinition, WriteTransaction};

use super::bytes::{job_bytes, ledger_row, now, payment_bytes, settings};
use super::gather::{Batch, By, Gather, Waiting};
use super::op::{MICROS, Op, UNITS, seen};

/// Balance and the number of ledger rows.
const ACCOUNTS: TableDefinition<'_, i64, (i64, u64)> = TableDefinition::new("accounts");
const SETTINGS: TableDefinition<'_, i64, &[u8]> = TableDefinition::new("settings");
const LEDGER: TableDefinition<'_, (i64, u64), &[u8]> = TableDefinition::new("ledger");
const JOBS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("jobs");
const JOBS_BY_USER: TableDefinition<'_, (i64, i64, &str), ()> = TableDefinition::new("jobs_by_user");
const PAYMENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("payments");

#[derive(Debug)]
pub(super) struct Redb {
    database: std::sync::Arc<Database>,
    writer: Gather<Op>,
}

fn of_redb(error: impl Into<redb::Error>) -> String {
    format!("redb: {}", error.into())
}

impl Redb {
    pub(super) fn open(path: &Path, batch: Batch, users: u32) -> Result<Self, String> {
        let database = std::sync::Arc::new(create(path, users).map_err(of_redb)?);
        let mine = std::sync::Arc::clone(&database);
        let writer = Gather::start(By::Swap, batch, move |batch| {
            let store = || {
                let transaction = mine.begin_write()?;
                write(&transaction, batch.iter().map(|waiting: &Waiting<Op>| &waiting.work))?;
                transaction.commit()?;
                Ok::<_, redb::Error>(())
            };
            store().map_err(of_redb)
        })?;
        Ok(Self { database, writer })
    }

    pub(super) fn add_payments(&self, payments: impl Iterator<Item = (String, i64)>) -> Result<(), String> {
        let add = || {
            let transaction = self.database.begin_write()?;
            {
                let mut table = transaction.open_table(PAYMENTS)?;
                for (payment, user) in payments {
                    table.insert(payment.as_str(), payment_bytes(user, MICROS).as_slice())?;
                }
            }
            transaction.commit()?;
            Ok::<_, redb::Error>(())
        };
        add().map_err(of_redb)
    }

    pub(super) async fn run(&self, op: Op) -> Result<(), String> {
        match op {
            Op::Balance { user } => self.balance(user).map(seen),
            Op::User { user } => self.user(user).map(seen),
            write => self.writer.hand(write).await,
        }
    }

    fn balance(&self, user: i64) -> Result<Option<i64>, String> {
        let read = || {
            let table = self.database.begin_read()?.open_table(ACCOUNTS)?;
            Ok::<_, redb::Error>(table.get(user)?.map(|account| account.value().0))
        };
        read().map_err(of_redb)
    }

    fn user(&self, user: i64) -> Result<Option<(i64, Vec<u8>)>, String> {
        let read = || {
            let transaction = self.database.begin_read()?;
            let balance = transaction.open_table(ACCOUNTS)?.get(user)?.map(|account| account.value().0);
            let settings = transaction.open_table(SETTINGS)?.get(user)?.map(|settings| settings.value().to_vec());
            Ok::<_, redb::Error>(balance.zip(settings))
        };
        read().map_err(of_redb)
    }
}

fn create(path: &Path, users: u32) -> Result<Database, redb::Error> {
    let database = Database::create(path)?;
    let transaction = database.begin_write()?;
    {
        let mut accounts = transaction.open_table(ACCOUNTS)?;
        let mut others = transaction.open_table(SETTINGS)?;
        let balance = i64::try_from(UNITS).unwrap_or(0) * 1_000_000;
        for user in 1..=i64::from(users) {
            accounts.insert(user, (balance, 0))?;
            others.insert(user, settings().as_slice())?;
        }
        transaction.open_table(LEDGER)?;
        transaction.open_table(JOBS)?;
        transaction.open_table(JOBS_BY_USER)?;
        transaction.open_table(PAYMENTS)?;
    }
    transaction.commit()?;
    Ok(database)
}

fn missing(what: &str) -> redb::Error {
    redb::Error::Corrupted(format!("{what} is missing or in another state"))
}

fn change(
    accounts: &mut Table<'_, i64, (i64, u64)>,
    ledger: &mut Table<'_, (i64, u64), &'static [u8]>,
    user: i64,
    change: i64,
    key: &str,
) -> Result<(), redb::Error> {
    let (balance, seq) = accounts.get(user)?.ok_or_else(|| missing("a user"))?.value();
    let after = balance.checked_add(change).filter(|after| *after >= 0).ok_or_else(|| missing("money"))?;
    accounts.insert(user, (after, seq + 1))?;
    ledger.insert((user, seq + 1), ledger_row(change, after, key).as_slice())?;
    Ok(())
}

/// Puts a state into the first byte of what is stored in the state 0.
fn step(table: &mut Table<'_, &'static str, &'static [u8]>, id: &str) -> Result<(), redb::Error> {
    let mut bytes = table.get(id)?.ok_or_else(|| missing(id))?.value().to_vec();
    match bytes.first_mut() {
        Some(state) if *state == 0 => *state = 1,
        _ => return Err(missing(id)),
    }
    table.insert(id, bytes.as_slice())?;
    Ok(())
}

fn write<'a>(transaction: &WriteTransaction, batch: impl Iterator<Item = &'a Op>) -> Result<(), redb::Error> {
    let mut accounts = transaction.open_table(ACCOUNTS)?;
    // A table costs when it is opened: only those that this batch needs.
    let (mut ledger, mut jobs, mut payments) = (None, None, None);
    for op in batch {
        match op {
            Op::Balance { .. } | Op::User { .. } => {}
            Op::Credit { user } => {
                let (balance, seq) = accounts.get(user)?.ok_or_else(|| missing("a user"))?.value();
                accounts.insert(user, (balance + MICROS, seq))?;
            }
            Op::Debit { user, key } => {
                let ledger = opened(&mut ledger, || Ok(transaction.open_table(LEDGER)?))?;
                change(&mut accounts, ledger, *user, -MICROS, key)?;
            }
            Op::AddJob { user, job } => {
                let open = || Ok((transaction.open_table(JOBS)?, transaction.open_table(JOBS_BY_USER)?));
                let (jobs, by_user) = opened(&mut jobs, open)?;
                let at = now();
                jobs.insert(job.as_str(), job_bytes(*user, at).as_slice())?;
                by_user.insert((*user, at, job.as_str()), ())?;
            }
            Op::Run { job } => {
                let open = || Ok((transaction.open_table(JOBS)?, transaction.open_table(JOBS_BY_USER)?));
                step(&mut opened(&mut jobs, open)?.0, job)?;
            }
            Op::Approve { user, payment } => {
                step(opened(&mut payments, || Ok(transaction.open_table(PAYMENTS)?))?, payment)?;
                let ledger = opened(&mut ledger, || Ok(transaction.open_table(LEDGER)?))?;
                change(&mut accounts, ledger, *user, MICROS, payment)?;
            }
        }
    }
    Ok(())
}

fn opened<T>(table: &mut Option<T>, open: impl FnOnce() -> Result<T, redb::Error>) -> Result<&mut T, redb::Error> {
    match table {
        Some(table) => Ok(table),
        None => Ok(table.insert(open()?)),
    }
}
