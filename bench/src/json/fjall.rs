//! fjall, batched: one write batch for all that waits, made durable with `fdatasync`.

use std::collections::HashMap;
use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch as WriteBatch, PersistMode};

use super::bytes::{job_bytes, ledger_row, now, payment_bytes, settings};
use super::gather::{Batch, By, Gather, Waiting};
use super::op::{MICROS, Op, UNITS, seen};

/// Users go in together.
const FILL: usize = 10_000;

#[derive(Clone)]
struct Spaces {
    database: Database,
    /// Balance and the number of ledger rows.
    accounts: Keyspace,
    settings: Keyspace,
    ledger: Keyspace,
    jobs: Keyspace,
    jobs_by_user: Keyspace,
    payments: Keyspace,
}

pub(super) struct Fjall {
    spaces: Spaces,
    writer: Gather<Op>,
}

impl std::fmt::Debug for Fjall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fjall").field("writer", &self.writer).finish_non_exhaustive()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn of_fjall(error: fjall::Error) -> String {
    format!("fjall: {error}")
}

type Account = (i64, u64);

fn account(bytes: &[u8]) -> Option<Account> {
    let (balance, seq) = bytes.split_at_checked(8)?;
    Some((i64::from_le_bytes(balance.try_into().ok()?), u64::from_le_bytes(seq.try_into().ok()?)))
}

fn account_bytes((balance, seq): Account) -> Vec<u8> {
    [balance.to_le_bytes(), seq.to_le_bytes()].concat()
}

impl Fjall {
    pub(super) fn open(path: &Path, users: u32) -> Result<Self, String> {
        let spaces = Spaces::create(path, users).map_err(of_fjall)?;
        let mine = spaces.clone();
        let writer = Gather::start(By::Swap, Batch::Gathered, move |batch| {
            mine.write(batch.iter().map(|waiting: &Waiting<Op>| &waiting.work))
        })?;
        Ok(Self { spaces, writer })
    }

    pub(super) fn add_payments(&self, payments: impl Iterator<Item = (String, i64)>) -> Result<(), String> {
        let mut batch = self.spaces.database.batch().durability(Some(PersistMode::SyncData));
        for (payment, user) in payments {
            batch.insert(&self.spaces.payments, payment, payment_bytes(user, MICROS));
        }
        batch.commit().map_err(of_fjall)
    }

    pub(super) async fn run(&self, op: Op) -> Result<(), String> {
        match op {
            Op::Balance { user } => self.spaces.account(user).map(seen),
            Op::User { user } => {
                let account = self.spaces.account(user)?;
                let settings = self.spaces.settings.get(user.to_be_bytes()).map_err(of_fjall)?;
                seen((account, settings.map(|settings| settings.to_vec())));
                Ok(())
            }
            write => self.writer.hand(write).await,
        }
    }
}

impl Spaces {
    fn create(path: &Path, users: u32) -> Result<Self, fjall::Error> {
        let database = Database::builder(path).open()?;
        let space = |name: &str| database.keyspace(name, KeyspaceCreateOptions::default);
        let spaces = Self {
            accounts: space("accounts")?,
            settings: space("settings")?,
            ledger: space("ledger")?,
            jobs: space("jobs")?,
            jobs_by_user: space("jobs_by_user")?,
            payments: space("payments")?,
            database,
        };
        let everyone: Vec<i64> = (1..=i64::from(users)).collect();
        let balance = i64::try_from(UNITS).unwrap_or(0) * 1_000_000;
        for some in everyone.chunks(FILL) {
            let mut batch = spaces.database.batch();
            for user in some {
                batch.insert(&spaces.accounts, user.to_be_bytes(), account_bytes((balance, 0)));
                batch.insert(&spaces.settings, user.to_be_bytes(), settings());
            }
            batch.commit()?;
        }
        spaces.database.persist(PersistMode::SyncAll)?;
        Ok(spaces)
    }

    fn account(&self, user: i64) -> Result<Account, String> {
        let bytes = self.accounts.get(user.to_be_bytes()).map_err(of_fjall)?;
        bytes.and_then(|bytes| account(&bytes)).ok_or_else(|| "fjall: no such user".to_owned())
    }

    fn write<'a>(&self, ops: impl Iterator<Item = &'a Op>) -> Result<(), String> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        // A batch cannot be read before it is committed, and one user may come twice in it. Jobs and payments do not:
        // whoever moves one has waited for what went before.
        let mut moved = HashMap::new();
        for op in ops {
            match op {
                Op::Balance { .. } | Op::User { .. } => {}
                Op::Credit { user } => {
                    let (balance, seq) = self.moved(&moved, *user)?;
                    moved.insert(*user, (balance + MICROS, seq));
                }
                Op::Debit { user, key } => self.change(&mut batch, &mut moved, *user, -MICROS, key)?,
                Op::AddJob { user, job } => {
                    let at = now();
                    let place = [&user.to_be_bytes()[..], &at.to_be_bytes(), job.as_bytes()].concat();
                    batch.insert(&self.jobs, job.as_str(), job_bytes(*user, at));
                    batch.insert(&self.jobs_by_user, place, []);
                }
                Op::Run { job } => step(&mut batch, &self.jobs, job)?,
                Op::Approve { user, payment } => {
                    step(&mut batch, &self.payments, payment)?;
                    self.change(&mut batch, &mut moved, *user, MICROS, payment)?;
                }
            }
        }
        for (user, account) in moved {
            batch.insert(&self.accounts, user.to_be_bytes(), account_bytes(account));
        }
        batch.commit().map_err(of_fjall)
    }

    fn moved(&self, moved: &HashMap<i64, Account>, user: i64) -> Result<Account, String> {
        moved.get(&user).copied().map_or_else(|| self.account(user), Ok)
    }

    fn change(
        &self,
        batch: &mut WriteBatch,
        moved: &mut HashMap<i64, Account>,
        user: i64,
        change: i64,
        key: &str,
    ) -> Result<(), String> {
        let (balance, seq) = self.moved(moved, user)?;
        let after = balance.checked_add(change).filter(|after| *after >= 0).ok_or("fjall: no money")?;
        moved.insert(user, (after, seq + 1));
        let place = [user.to_be_bytes(), (seq + 1).to_be_bytes()].concat();
        batch.insert(&self.ledger, place, ledger_row(change, after, key));
        Ok(())
    }
}

/// Puts a state into the first byte of what is stored in the state 0.
fn step(batch: &mut WriteBatch, space: &Keyspace, id: &str) -> Result<(), String> {
    let mut bytes = space.get(id).map_err(of_fjall)?.map(|bytes| bytes.to_vec()).unwrap_or_default();
    match bytes.first_mut() {
        Some(state) if *state == 0 => *state = 1,
        _ => return Err(format!("fjall: {id} is missing or in another state")),
    }
    batch.insert(space, id, bytes);
    Ok(())
}
