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
//! | `DATA_DIR` | directory of the JSON backend | `./data` |
//! | `STORAGE_FALLBACK` | `allow` or `never` | `allow` |
//! | `STORAGE_TIME_ZONE` | where a day begins, an IANA name | `UTC` |
//! | `STORAGE_DAILY_FREE` | free generations a day | 5 |
//! | `STORAGE_MAIN_ADMIN` | the admin without a limit | none |
//! | `STORAGE_ADMIN_LIMIT` | the limit of an admin for whom none was set | 100 |
//! | `STORAGE_DEFAULT_LANGUAGE` | the language of a user who chose none | `ru` |
//! | `STORAGE_HISTORY` | entries kept of a user, or `everything` | 100 |
//!
//! An empty variable counts as unset.
//!
//! # How `auto` decides
//!
//! With a `DATABASE_URL` it is PostgreSQL, without one JSON. A URL that is wrong never falls back: that a backend
//! is not compiled in, or does not exist yet in this release, is an error that says so and nothing else.

mod choose;
mod config;
mod database_url;
mod global;
#[cfg(feature = "json")]
mod json;
mod postgres;

pub use choose::{Backend, Choice, choose};
pub use config::{Config, Fallback, Mode, parse_history};
pub use database_url::DatabaseUrl;
pub use global::{SharedStore, get_storage};

use storage_core::{Result, SharedStorage};

/// Opens the store that the configuration names. Which one it became, why and where is in
/// [`storage_core::Store::backend`].
///
/// # Errors
/// `InvalidInput` for a configuration that contradicts itself, `BackendDisabled` for a backend that is not compiled
/// in, and whatever the backend's opening answers.
pub async fn connect(config: Config) -> Result<SharedStorage> {
    let choice = choose(&config)?;
    match choice.backend {
        Backend::Json => open_json(config, choice.reason).await,
        Backend::Postgres(url) => postgres::open(&url),
    }
}

/// Opens the store that the configuration names and makes the configuration's time zone and history retention its
/// own, from now on. Nobody else may have it open.
///
/// # Errors
/// Those of [`connect`]; `Locked` while another process has the store.
pub async fn adopt_policy(config: Config) -> Result<SharedStorage> {
    let choice = choose(&config)?;
    match choice.backend {
        #[cfg(feature = "json")]
        Backend::Json => json::adopt_policy(config, choice.reason).await,
        #[cfg(not(feature = "json"))]
        Backend::Json => open_json(config, choice.reason).await,
        Backend::Postgres(url) => postgres::open(&url),
    }
}

#[cfg(feature = "json")]
async fn open_json(config: Config, reason: String) -> Result<SharedStorage> {
    json::open(config, reason).await
}

#[cfg(not(feature = "json"))]
fn open_json(_: Config, _: String) -> std::future::Ready<Result<SharedStorage>> {
    std::future::ready(Err(storage_core::Error::new(storage_core::ErrorKind::BackendDisabled { feature: "json" })))
}
