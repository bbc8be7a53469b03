//! SQLite in WAL mode with `synchronous=FULL`: a commit is on the disk. Every statement is prepared once; a reader has a
//! connection of its own.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::bytes::now;
use super::gather::{Batch, By, Gather, Waiting, unpoisoned};
use super::op::{MICROS, Op, UNITS, job, seen};

const SCHEMA: &str = "
    CREATE TABLE users (
        id INTEGER PRIMARY KEY, balance INTEGER NOT NULL, seq INTEGER NOT NULL, language TEXT NOT NULL,
        gift INTEGER NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL
    );
    CREATE TABLE ledger (
        user INTEGER NOT NULL, seq INTEGER NOT NULL, change INTEGER NOT NULL, after INTEGER NOT NULL,
        key TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (user, seq)
    ) WITHOUT ROWID;
    CREATE TABLE jobs (
        id TEXT PRIMARY KEY, user INTEGER NOT NULL, model_id TEXT NOT NULL, model_name TEXT NOT NULL,
        params TEXT NOT NULL, price INTEGER NOT NULL, status TEXT NOT NULL, created INTEGER NOT NULL,
        updated INTEGER NOT NULL
    );
    CREATE INDEX newest_jobs ON jobs (user, created DESC, id DESC);
    CREATE TABLE payments (
        id TEXT PRIMARY KEY, user INTEGER NOT NULL, amount INTEGER NOT NULL, status TEXT NOT NULL,
        created INTEGER NOT NULL, updated INTEGER NOT NULL
    );
    CREATE INDEX newest_payments ON payments (user, created DESC, id DESC);";
const ADD_JOB: &str = "INSERT INTO jobs VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'pending', ?7, ?7)";

#[derive(Debug)]
pub(super) struct Sqlite {
    path: PathBuf,
    /// As many as ever read at once.
    readers: Mutex<Vec<Connection>>,
    writer: Gather<Op>,
}

/// A job as a caller gets it.
#[derive(Debug)]
#[expect(dead_code, reason = "what a caller would read")]
pub(super) struct Job {
    id: String,
    user: i64,
    model_id: String,
    model_name: String,
    params: String,
    price: i64,
    status: String,
    created: i64,
    updated: i64,
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn of_sqlite(error: rusqlite::Error) -> String {
    format!("SQLite: {error}")
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    // 64 MiB: nothing of these stores is read from the disk twice.
    connection.pragma_update(None, "cache_size", -65_536)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

impl Sqlite {
    pub(super) fn open(path: &Path, batch: Batch, users: u32) -> Result<Self, String> {
        let mut connection = create(path, users).map_err(of_sqlite)?;
        let writer = Gather::start(By::Swap, batch, move |batch| {
            write(&mut connection, batch.iter().map(|waiting: &Waiting<Op>| &waiting.work))
        })?;
        Ok(Self { path: path.to_owned(), readers: Mutex::default(), writer })
    }

    pub(super) fn add_payments(&self, payments: impl Iterator<Item = (String, i64)>) -> Result<(), String> {
        let add = || {
            let mut connection = connect(&self.path)?;
            let transaction = connection.transaction()?;
            let sql = "INSERT INTO payments VALUES (?1, ?2, ?3, 'pending', ?4, ?4)";
            for (payment, user) in payments {
                transaction.prepare_cached(sql)?.execute(params![payment, user, MICROS, now()])?;
            }
            transaction.commit()
        };
        add().map_err(of_sqlite)
    }

    pub(super) fn add_jobs(&self, jobs: impl Iterator<Item = (String, i64, i64)>) -> Result<(), String> {
        let add = || {
            let mut connection = connect(&self.path)?;
            let transaction = connection.transaction()?;
            for (id, user, at) in jobs {
                let job = params![id, user, job::MODEL_ID, job::MODEL_NAME, job::PARAMS, job::PRICE_MICROS, at];
                transaction.prepare_cached(ADD_JOB)?.execute(job)?;
            }
            transaction.commit()
        };
        add().map_err(of_sqlite)
    }

    pub(super) async fn run(&self, op: Op) -> Result<(), String> {
        match op {
            Op::Balance { user } => {
                let read = |connection: &Connection| {
                    let mut statement = connection.prepare_cached("SELECT balance FROM users WHERE id = ?1")?;
                    statement.query_row([user], |row| row.get::<_, i64>(0))
                };
                self.read(read).map(seen)
            }
            Op::User { user } => {
                let read = |connection: &Connection| {
                    let sql = "SELECT balance, language, gift, created, updated FROM users WHERE id = ?1";
                    let mut statement = connection.prepare_cached(sql)?;
                    statement.query_row([user], |row| {
                        let times = (row.get::<_, i64>(3)?, row.get::<_, i64>(4)?);
                        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, bool>(2)?, times))
                    })
                };
                self.read(read).map(seen)
            }
            write => self.writer.hand(write).await,
        }
    }

    /// The newest jobs of a user.
    pub(super) fn newest_jobs(&self, user: i64, limit: u32) -> Result<Vec<Job>, String> {
        self.read(|connection| {
            let sql = "SELECT id, user, model_id, model_name, params, price, status, created, updated FROM jobs \
                       WHERE user = ?1 ORDER BY created DESC, id DESC LIMIT ?2";
            let mut statement = connection.prepare_cached(sql)?;
            let job = |row: &Row<'_>| {
                Ok(Job {
                    id: row.get(0)?,
                    user: row.get(1)?,
                    model_id: row.get(2)?,
                    model_name: row.get(3)?,
                    params: row.get(4)?,
                    price: row.get(5)?,
                    status: row.get(6)?,
                    created: row.get(7)?,
                    updated: row.get(8)?,
                })
            };
            statement.query_map([user, i64::from(limit)], job)?.collect()
        })
    }

    fn read<T>(&self, look: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, String> {
        let spare = unpoisoned(self.readers.lock()).pop();
        let connection = spare.map_or_else(|| connect(&self.path), Ok).map_err(of_sqlite)?;
        let found = look(&connection).map_err(of_sqlite);
        unpoisoned(self.readers.lock()).push(connection);
        found
    }
}

fn create(path: &Path, users: u32) -> rusqlite::Result<Connection> {
    let mut connection = connect(path)?;
    connection.execute_batch(SCHEMA)?;
    let transaction = connection.transaction()?;
    {
        let mut insert = transaction.prepare("INSERT INTO users VALUES (?1, ?2, 0, 'en', 1, ?3, ?3)")?;
        let balance = i64::try_from(UNITS).unwrap_or(0) * 1_000_000;
        for user in 1..=i64::from(users) {
            insert.execute(params![user, balance, now()])?;
        }
    }
    transaction.commit()?;
    Ok(connection)
}

fn write<'a>(connection: &mut Connection, batch: impl Iterator<Item = &'a Op>) -> Result<(), String> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(of_sqlite)?;
    for op in batch {
        apply(&transaction, op).map_err(of_sqlite)?;
    }
    transaction.commit().map_err(of_sqlite)
}

/// An error is a row that should be there and is not.
fn apply(transaction: &Connection, op: &Op) -> rusqlite::Result<()> {
    match op {
        Op::Balance { .. } | Op::User { .. } => {}
        Op::Credit { user } => {
            let sql = "UPDATE users SET balance = balance + ?2 WHERE id = ?1 RETURNING balance";
            transaction.prepare_cached(sql)?.query_row([*user, MICROS], |row| row.get::<_, i64>(0))?;
        }
        Op::Debit { user, key } => change(transaction, *user, -MICROS, key)?,
        Op::AddJob { user, job } => {
            let job = params![job, user, job::MODEL_ID, job::MODEL_NAME, job::PARAMS, job::PRICE_MICROS, now()];
            transaction.prepare_cached(ADD_JOB)?.execute(job)?;
        }
        Op::Run { job } => {
            let sql =
                "UPDATE jobs SET status = 'running', updated = ?2 WHERE id = ?1 AND status = 'pending' RETURNING 1";
            transaction.prepare_cached(sql)?.query_row(params![job, now()], |_| Ok(()))?;
        }
        Op::Approve { user, payment } => {
            let sql = "UPDATE payments SET status = 'approved', updated = ?2 WHERE id = ?1 AND status = 'pending' \
                       RETURNING amount";
            let amount: i64 = transaction.prepare_cached(sql)?.query_row(params![payment, now()], |row| row.get(0))?;
            change(transaction, *user, amount, payment)?;
        }
    }
    Ok(())
}

fn change(transaction: &Connection, user: i64, change: i64, key: &str) -> rusqlite::Result<()> {
    let sql = "UPDATE users SET balance = balance + ?2, seq = seq + 1 WHERE id = ?1 AND balance + ?2 >= 0 \
               RETURNING balance, seq";
    let moved: Option<(i64, i64)> =
        transaction.prepare_cached(sql)?.query_row([user, change], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let (after, seq) = moved.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    let row = params![user, seq, change, after, key, now()];
    transaction.prepare_cached("INSERT INTO ledger VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(row)?;
    Ok(())
}
