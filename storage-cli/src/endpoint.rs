//! Stores that a command is told of on its line, two of them: where from and where to.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use storage_core::{Destination, SharedStorage};
use storage_factory::{Config, DatabaseUrl, Mode, choose, look};

use crate::context::Context;
use crate::exit::{Failure, quoted};

/// A store, as it is written on a command line: `json:DIR`, a PostgreSQL URL, or the variable that holds one.
#[derive(Clone)]
pub(crate) enum Endpoint {
    Json(PathBuf),
    Postgres(String),
    /// A variable whose value is a URL: nobody sees it in the list of processes.
    Variable(&'static str),
}

/// The variables that may stand for a URL.
const VARIABLES: [&str; 2] = ["DATABASE_URL", "MIGRATION_DATABASE_URL"];

impl FromStr for Endpoint {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(dir) = text.strip_prefix("json:").filter(|dir| !dir.is_empty()) {
            return Ok(Self::Json(dir.into()));
        }
        if let Some(variable) = VARIABLES.into_iter().find(|variable| *variable == text) {
            return Ok(Self::Variable(variable));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            DatabaseUrl::new(text).map_err(|error| error.to_string())?;
            return Ok(Self::Postgres(text.to_owned()));
        }
        Err("a store is json:DIR, postgresql://user:password@host:port/database, or the word DATABASE_URL for the value \
             of that variable"
            .to_owned())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(dir) => write!(f, "json:{}", dir.display()),
            Self::Postgres(_) => f.write_str("postgresql://(hidden)"),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// A store that a command works with besides the one of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) config: Config,
    /// What it is called: the mark of a moved store holds these words.
    pub(crate) name: Destination,
    /// As a shell takes it.
    word: String,
    /// Whether opening it would make it.
    pub(crate) exists: bool,
}

impl Place {
    pub(crate) fn of(
        context: &Context,
        endpoint: &Endpoint,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Failure> {
        let base = Config { database_url: None, ..context.config.clone() };
        let (config, name, word) = match endpoint {
            Endpoint::Json(dir) => {
                // A name that means the same from every directory.
                let full = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
                let full = full.canonicalize().unwrap_or(full);
                let name = format!("json:{}", full.display());
                let word = format!("json:{}", dir.display());
                (Config { mode: Mode::Json, data_dir: dir.clone(), ..base }, name, quoted(&word))
            }
            Endpoint::Postgres(url) => {
                let url = DatabaseUrl::new(url)?;
                let (name, word) = (named(&url, &base), quoted(&url.to_string()));
                (Config { mode: Mode::Postgres, database_url: Some(url), ..base }, name, word)
            }
            Endpoint::Variable(variable) => {
                let value = environment(variable).filter(|value| !value.is_empty()).ok_or_else(|| {
                    Failure::Usage(format!("error: {variable} is not set, and it is to name a store"))
                })?;
                let text = value.into_string().map_err(|_| Failure::Usage(format!("error: {variable} is no text")))?;
                let url = DatabaseUrl::new(&text).map_err(|error| Failure::from(error).naming_url(variable))?;
                let name = named(&url, &base);
                (Config { mode: Mode::Postgres, database_url: Some(url), ..base }, name, (*variable).to_owned())
            }
        };
        let exists = choose(&config)?.exists();
        Ok(Self { config, name: Destination::new(name)?, word, exists })
    }

    /// As the command line takes it.
    pub(crate) fn word(&self) -> &str {
        &self.word
    }
    /// The data directory, of a JSON store.
    pub(crate) fn dir(&self) -> Option<&Path> {
        (self.config.mode == Mode::Json).then_some(&*self.config.data_dir)
    }
    /// The flags that choose this store.
    pub(crate) fn flags(&self) -> String {
        match self.dir() {
            Some(dir) => format!("--mode json --data-dir {}", quoted(&dir.display().to_string())),
            None => "--mode postgres".to_owned(),
        }
    }

    /// Opens it without anybody remembering that; a JSON store that is not there is made.
    pub(crate) async fn open(&self, context: &Context) -> Result<SharedStorage, Failure> {
        let storage = look(self.config.clone()).await?;
        for warning in storage.backend().warnings {
            context.out.note(&format!("warning: {}: {warning}", self.name));
        }
        Ok(storage)
    }
}

fn named(url: &DatabaseUrl, base: &Config) -> String {
    let schema = &base.postgres.schema;
    if schema == "public" { url.to_string() } else { format!("{url} schema {schema}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_a_directory_a_url_or_a_variable() {
        for (text, shown) in [
            ("json:./data", "json:./data"),
            ("postgresql://bot:s3cret@h/d", "postgresql://(hidden)"),
            ("postgres://h/d", "postgresql://(hidden)"),
            ("DATABASE_URL", "DATABASE_URL"),
        ] {
            assert_eq!(format!("{:?}", text.parse::<Endpoint>().unwrap()), shown);
        }
        for wrong in ["", "json:", "./data", "mysql://h/d", "HOME", "postgresql://a b"] {
            let error = wrong.parse::<Endpoint>().unwrap_err();
            assert!(!error.contains("a b"), "{error}");
        }
    }
}
