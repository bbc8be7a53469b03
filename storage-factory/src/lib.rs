//! Chooses and opens a backend.
//!
//! ```
//! use storage_factory::{Config, Mode, connect};
//!
//! # async fn example() -> storage_core::Result<()> {
//! let config = Config { mode: Mode::Json, data_dir: "./data".into(), ..Config::default() };
//! let storage = connect(config).await?;
//! println!("{}", storage.backend()); // which backend, where, and why
//! # Ok(()) }
//! ```
//!
//! A program that is configured by its environment calls [`get_storage`]: one store for the whole process.
//!
//! | variable | meaning | default |
//! | --- | --- | --- |
//! | `STORAGE_MODE` | `auto`, `postgres` or `json`, any case | `auto` |
//! | `DATABASE_URL` | `postgresql://user:password@host:port/database` | none |
//! | `STORAGE_SCHEMA` | the PostgreSQL schema that holds the store's tables | `public` |
//! | `STORAGE_POOL_MIN` | connections kept open, a whole number from 0 | 1 |
//! | `STORAGE_POOL_MAX` | the most connections, a whole number from 1 | 10 |
//! | `STORAGE_STATEMENTS` | `auto`: prepared where the connection is proved to be direct; or `unnamed`, `prepared` | `auto` |
//! | `STORAGE_POOL_WAIT` | seconds that an operation waits for a connection, a whole number from 1 | 5 |
//! | `STORAGE_STATEMENT_TIMEOUT` | seconds that a statement may take, a whole number from 1 | 10 |
//! | `STORAGE_LOCK_TIMEOUT` | seconds that a statement waits for a lock, a whole number from 1 | 5 |
//! | `STORAGE_DEADLINE` | seconds that an operation may take with all its attempts, a whole number from 1 | 15 |
//! | `DATA_DIR` | directory of the JSON backend and of the file `backend.json` | `./data` |
//! | `STORAGE_FALLBACK` | `allow` or `never` | `allow` |
//! | `STORAGE_TIME_ZONE` | where a day begins, an IANA name | `UTC` |
//! | `STORAGE_DAILY_FREE` | free generations a day | 5 |
//! | `STORAGE_MAIN_ADMIN` | the admin without a limit | none |
//! | `STORAGE_ADMIN_LIMIT` | the limit of an admin for whom none was set | 100 |
//! | `STORAGE_DEFAULT_LANGUAGE` | the language of a user who chose none | `ru` |
//! | `STORAGE_HISTORY` | entries kept of a user, or `everything` | 100 |
//!
//! An empty variable counts as unset. How long connecting may take is the word `connect_timeout` of the URL, 5 s when it
//! is not there.
//!
//! # How `auto` decides
//!
//! Without a `DATABASE_URL` it is JSON. With one it is PostgreSQL when that connects. A server that cannot be *reached*
//! (refused, no route, no answer in time, starting, no connections left) is replaced by JSON, with a warning, in a
//! directory that is empty or where JSON stood in for this very database before; never in one of another store.
//! `STORAGE_FALLBACK=never` makes it an error, and so does [`connect_without_fallback`]. Everything that somebody has to put right stays an error: a URL that
//! cannot be read, a wrong password, no such database, refused TLS, a schema that is not migrated, a backend that is not
//! compiled in.
//!
//! # What a directory remembers
//!
//! The two stores know nothing of each other, so `auto` never switches unasked. The file `backend.json` in `DATA_DIR`
//! remembers the database that was used, and that JSON stood in for one. Then `auto` refuses JSON where PostgreSQL was
//! used, PostgreSQL where users were written during a fallback, and a database that is not the one used before. The
//! refusal is a `Conflict` over a `backend`; it names the way out, which is `storage merge` or an explicit
//! `STORAGE_MODE`. Nothing is judged in the modes `json` and `postgres`.

mod choose;
#[cfg(feature = "postgres")]
mod claims;
mod config;
mod database_url;
mod global;
/// The code of the pages, compiled and run as documentation tests. A page with Rust gets a line here.
#[cfg(all(doctest, feature = "json"))]
mod pages {
    #[doc = include_str!("../../README.md")]
    struct Readme;
    #[doc = include_str!("../../docs/guide.md")]
    struct Guide;
    #[doc = include_str!("../../docs/concepts.md")]
    struct Concepts;
    #[doc = include_str!("../../docs/deployment.md")]
    struct Deployment;
}
#[cfg(feature = "json")]
mod json;
mod marker;
#[cfg(any(feature = "tracing", feature = "metrics"))]
mod observe;
mod open;
#[cfg_attr(not(feature = "postgres"), path = "postgres_disabled.rs")]
mod postgres;

pub use choose::{Backend, Choice, choose};
pub use config::{Config, Fallback, Mode, PostgresSettings, StatementMode};
pub use database_url::DatabaseUrl;
pub use global::{SharedStore, get_storage};
#[cfg(any(feature = "tracing", feature = "metrics"))]
pub use observe::{Observed, observed};
#[cfg(feature = "postgres")]
pub use postgres::pg_options;

use storage_core::{Result, SharedStorage};

use open::{Manner, StandIn};

/// Examines where the configured store lives: the server or the disk, and what the store needs of it. Nothing is opened,
/// created or changed, and a store that is in use goes on.
///
/// # Errors
/// `InvalidInput` for a configuration that names no store, `BackendDisabled` for one that is not compiled in. What an
/// examination cannot look at is one of its findings.
pub async fn examine(config: Config) -> Result<Vec<storage_core::Diagnosis>> {
    match choose(&config)?.backend {
        Backend::Json => open::examine_json(config).await,
        Backend::Postgres(url) => Box::pin(postgres::examine(config, &url)).await,
    }
}

/// Opens the store that the configuration names. Which one it became, why and where is in
/// [`storage_core::Store::backend`].
///
/// # Errors
/// `InvalidInput` for a configuration that contradicts itself, `BackendDisabled` for a backend that is not compiled
/// in, `Conflict` over a `backend` where `auto` would switch between two stores, `Moved` where `auto` finds a store whose
/// contents are elsewhere by now, `Corrupt` for a `backend.json` that cannot be understood, and whatever the backend's
/// opening answers.
pub async fn connect(config: Config) -> Result<SharedStorage> {
    open::open(config, Manner::WORK).await
}

/// As [`connect`], and nothing takes the place of a server that cannot be reached: for a person who changes something, and
/// would not know where.
///
/// # Errors
/// Those of [`connect`]; the server's own error also where JSON would stand in.
pub async fn connect_without_fallback(config: Config) -> Result<SharedStorage> {
    open::open(config, Manner::CHOSEN).await
}

/// As [`connect`], and the directory does not remember it: for looking, and for scratch stores. A JSON store takes the
/// place of a server only where it does already, and the warnings of [`storage_core::BackendInfo`] say so.
///
/// # Errors
/// Those of [`connect`].
pub async fn look(config: Config) -> Result<SharedStorage> {
    open::open(config, Manner { stand_in: StandIn::Find, remember: false, ..Manner::WORK }).await
}

/// As [`look`], and nothing takes the place of a server: for a look before a change, and for what is kept of a look.
///
/// # Errors
/// Those of [`connect_without_fallback`].
pub async fn look_without_fallback(config: Config) -> Result<SharedStorage> {
    open::open(config, Manner { remember: false, ..Manner::CHOSEN }).await
}

/// Opens the store that the configuration names and makes the configuration's time zone and history retention its
/// own, from now on. Nobody else may have a JSON store open; programs that have a PostgreSQL store open keep the old
/// policy until they open it anew. Nothing takes the place of a server.
///
/// # Errors
/// Those of [`connect_without_fallback`]; `Locked` while another process has the store.
pub async fn adopt_policy(config: Config) -> Result<SharedStorage> {
    open::open(config, Manner { adopt: true, ..Manner::CHOSEN }).await
}
