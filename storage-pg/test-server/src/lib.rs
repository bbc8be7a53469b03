//! Throw-away PostgreSQL servers for tests.
//!
//! A [`Server`] is a cluster of its own, made in about a second in a fresh directory and listening on a free port of
//! `127.0.0.1`. It and its directory are gone when the value is dropped, and equally when the process panics, exits
//! without running destructors or is killed: a small guard process waits for the end of ours and cleans up.
//!
//! ```no_run
//! # fn main() -> Result<(), String> {
//! let server = pg_test_server::Server::shared()?;
//! let database = server.create_database_with("my_schema", |url| {
//!     // Bring the schema to the newest version, once per server.
//!     let _ = url;
//!     Ok(())
//! })?;
//! println!("{}", database.url());
//! # Ok(())
//! # }
//! ```
//!
//! - Many databases: [`Server::create_database_with`] copies a template that is migrated once per server, also when
//!   several processes share the server.
//! - Many test programs: the program `pg-test-server run -- COMMAND` starts one server for all of them; they find it
//!   through the variable [`SERVER_VARIABLE`], which [`Server::shared`] reads.
//! - Failures: [`Server::stop_immediate`], [`Server::start_again`], [`Server::pause`] and [`Server::resume`].
//! - A pooler between: [`PgBouncer`]; other programs between: [`Relay`]. Encryption: [`Options::tls`] and [`TestCa`].
//!
//! Every call blocks and may be made from any thread, inside an async runtime too. Nothing here skips: a missing
//! program is an error that says what to install. Errors are plain text, meant to be shown by a failing test.
//!
//! When the process runs as root, PostgreSQL and `PgBouncer`, which both refuse root, run as the user `postgres`.

mod account;
mod database;
mod guard;
mod pgbouncer;
mod ports;
mod process;
mod programs;
mod relay;
mod server;
mod sql;
mod tls;

pub use database::Database;
pub use pgbouncer::{PGBOUNCER_VARIABLE, PgBouncer};
pub use relay::{Relay, RelayKind};
pub use server::{Options, SERVER_VARIABLE, Server};
pub use tls::{Certificate, TestCa};
