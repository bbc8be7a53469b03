//! Which backend a configuration means, decided without touching anything.

use std::fmt;
use std::path::{Path, PathBuf};

use storage_core::{Error, Result};

use crate::marker::Marker;
use crate::{Config, DatabaseUrl, Mode};

/// A backend that can be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The JSON directory.
    Json,
    /// The PostgreSQL database.
    Postgres(DatabaseUrl),
}

/// What a configuration means: which backend, why, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Which.
    pub backend: Backend,
    /// Why.
    pub reason: String,
    data_dir: PathBuf,
    judged: bool,
}

impl Choice {
    /// The directory of the JSON backend, when that was chosen.
    pub fn data_dir(&self) -> Option<&Path> {
        match self.backend {
            Backend::Json => Some(&self.data_dir),
            Backend::Postgres(_) => None,
        }
    }
    /// Whether something is there to be opened. `false` only for a data directory without a store's or the earlier
    /// system's files: opening would create a store there. In mode `auto` a directory that remembers a backend is
    /// something too: opening tells what. Changes nothing.
    pub fn exists(&self) -> bool {
        let remembers = |dir: &Path| self.judged && !Marker::read(dir).is_ok_and(|marker| marker.is_empty());
        self.data_dir().is_none_or(|dir| found(dir) || remembers(dir))
    }
    /// Where the data is, without secrets.
    pub fn location(&self) -> String {
        match &self.backend {
            Backend::Json => self.data_dir.display().to_string(),
            Backend::Postgres(url) => url.to_string(),
        }
    }
}

#[cfg(feature = "json")]
fn found(dir: &Path) -> bool {
    // What cannot be listed is there, and opening it tells why it cannot be read.
    storage_json::inspect(dir).map_or(true, |found| found != storage_json::Found::Nothing)
}

#[cfg(not(feature = "json"))]
fn found(_: &Path) -> bool {
    true
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.backend {
            Backend::Json => "json",
            Backend::Postgres(_) => "postgres",
        };
        write!(f, "{name} at {} ({})", self.location(), self.reason)
    }
}

/// Decides which backend a configuration means.
///
/// # Errors
/// `InvalidInput` for [`Mode::Postgres`] without a URL.
pub fn choose(config: &Config) -> Result<Choice> {
    let (backend, reason) = match (config.mode, &config.database_url) {
        (Mode::Json, _) => (Backend::Json, "STORAGE_MODE is json"),
        (Mode::Postgres, Some(url)) => (Backend::Postgres(url.clone()), "STORAGE_MODE is postgres"),
        (Mode::Postgres, None) => {
            return Err(Error::invalid("DATABASE_URL", "must be set when STORAGE_MODE is postgres"));
        }
        (Mode::Auto, Some(url)) => (Backend::Postgres(url.clone()), "STORAGE_MODE is auto and DATABASE_URL is set"),
        (Mode::Auto, None) => (Backend::Json, "STORAGE_MODE is auto and DATABASE_URL is not set"),
    };
    Ok(Choice {
        backend,
        reason: reason.to_owned(),
        data_dir: config.data_dir.clone(),
        judged: config.mode == Mode::Auto,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage_core::ErrorKind;

    fn config(mode: Mode, url: Option<&str>) -> Config {
        Config { mode, database_url: url.map(|url| url.parse().unwrap()), ..Config::default() }
    }

    #[test]
    fn the_mode_and_the_url_decide() {
        let url = "postgresql://bot:s3cret@db.example.org:5432/bot";
        for (mode, given, postgres) in [
            (Mode::Auto, None, false),
            (Mode::Auto, Some(url), true),
            (Mode::Json, None, false),
            (Mode::Json, Some(url), false),
            (Mode::Postgres, Some(url), true),
        ] {
            let choice = choose(&config(mode, given)).unwrap();
            assert_eq!(matches!(choice.backend, Backend::Postgres(_)), postgres, "{mode} {given:?}");
            assert_eq!(choice.data_dir().is_none(), postgres);
            assert!(!choice.to_string().contains("s3cret") && !format!("{choice:?}").contains("s3cret"));
        }
        let error = choose(&config(Mode::Postgres, None)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::InvalidInput { field, .. } if field == "DATABASE_URL"));
    }

    #[cfg(feature = "json")]
    #[test]
    fn a_missing_and_an_empty_directory_hold_no_store() {
        let dir = tempfile::tempdir().unwrap();
        let choice = |name: &str| {
            choose(&Config { mode: Mode::Json, data_dir: dir.path().join(name), ..Config::default() }).unwrap()
        };
        assert!(!choice("missing").exists());
        assert!(!choice("").exists());
        assert!(!dir.path().join("missing").exists());
        // A file of the earlier system, here in the shape of a directory, is something: opening says what.
        std::fs::create_dir(dir.path().join("user_balances.json")).unwrap();
        assert!(choice("").exists());
    }
}
