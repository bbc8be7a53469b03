//! The PostgreSQL backend of the generation storage.
//!
//! Every rule of the contract is kept by the database itself: a row of `users` orders the changes of its user, unique
//! constraints make keys and ids unique, and each operation is one statement or one transaction. Nothing depends on a
//! session, so that a pooler may stand in between (`docs/postgres.md`).
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use storage_core::{AddBalance, Balances, Result, UserId};
//! use storage_pg::{PgOptions, PgStorage, migrate};
//!
//! # async fn example() -> Result<()> {
//! let options = PgOptions::new("postgresql://bot:secret@db.example.org/bot?sslmode=verify-full");
//! // Once, by whoever owns the tables: `storage migrate` does the same.
//! migrate(&options, Duration::from_secs(60)).await?;
//!
//! let storage = PgStorage::open(options).await?;
//! let credit = AddBalance::new(UserId::new(1001)?, "12.50".parse()?).with_key("charge-17".parse()?);
//! let receipt = storage.add_balance(credit).await?; // one round trip
//! println!("{} after it", receipt.balance_after);
//! # Ok(()) }
//! ```
//!
//! A program that does not know its backend beforehand opens it with `storage-factory`.
//!
//! # The words of a URL
//!
//! `postgresql://user:password@host:port/database?word=value&...`, `postgres://` alike. Names and passwords are
//! percent-encoded where they hold `@ : / ? #`. A host that begins with `/` (`%2F`) is the directory of a Unix socket;
//! several hosts are separated by commas. Only a server that takes writes is used. Words are those of libpq:
//! `host hostaddr port user password dbname connect_timeout keepalives keepalives_idle keepalives_interval
//! keepalives_retries tcp_user_timeout application_name options target_session_attrs load_balance_hosts sslmode
//! sslrootcert sslnegotiation channel_binding client_encoding`. An unknown word is an error that lists the known ones.
//!
//! # Time limits
//!
//! Connecting 5 s, waiting for a connection 5 s, one statement 10 s, a lock 5 s, an operation 15 s with all its
//! attempts ([`Limits`]). Direct connections get the server's limits as startup options; behind a pooler, which refuses
//! those, each transaction sets its own.

mod account;
mod admin_limits;
mod adopted;
mod attempts;
mod balances;
mod codec;
mod connect;
mod copy;
mod doctor;
mod dump;
mod express;
mod fault;
mod fields;
mod free_generations;
mod gather;
mod history;
mod import;
mod jobs;
mod keys;
mod migrate;
mod moved;
mod open;
mod operations;
mod options;
mod payments;
#[cfg(test)]
mod plans;
mod pool;
mod queues;
mod referrals;
mod release;
mod reserves;
mod restore;
mod routes;
mod scratch;
mod seen;
mod snapshot;
mod statement;
mod store;
mod tx;
mod users;
mod wire;

pub use adopted::{
    Adopted, AdoptedLeftAlone, AdoptedNote, AdoptedRecord, AdoptedRefusal, AdoptedReport, AdoptedRounding,
    AdoptedTable, UncertainAdoptedPayment, read_adopted,
};
pub use doctor::examine;
pub use migrate::{Migrated, Placed, Placement, SchemaReport, SchemaState, Sharding};
pub use migrate::{
    adopt_tables, grants, migrate, migrated_tables, migration_steps, reach, schema_report, shard, sharding, works_since,
};
pub use open::OpenError;
pub use options::{FastForms, Gather, Limits, PgOptions, PolicyMismatch, Statements};
pub use pool::PoolState;
pub use scratch::drop_scratch_schema;
pub use store::PgStorage;
