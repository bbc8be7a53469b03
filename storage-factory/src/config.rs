//! The configuration, and how it is read from the environment.

use std::ffi::OsString;
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use storage_core::{Environment, Error, HistoryRetention, Policy, Result};

use crate::DatabaseUrl;

/// Which backend is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// PostgreSQL when there is a URL, else JSON.
    #[default]
    Auto,
    /// PostgreSQL.
    Postgres,
    /// The JSON directory.
    Json,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Postgres => "postgres",
            Self::Json => "json",
        })
    }
}

impl FromStr for Mode {
    type Err = Error;
    /// Any case.
    fn from_str(text: &str) -> Result<Self> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "auto" => Self::Auto,
            "postgres" => Self::Postgres,
            "json" => Self::Json,
            _ => return Err(Error::invalid("STORAGE_MODE", "must be auto, postgres or json")),
        })
    }
}

/// What [`Mode::Auto`] does when a PostgreSQL server cannot be reached.
///
/// A build without the PostgreSQL backend never falls back, whatever is chosen here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// Go on with JSON, with a warning.
    #[default]
    Allow,
    /// Fail.
    Never,
}

impl FromStr for Fallback {
    type Err = Error;
    /// Any case.
    fn from_str(text: &str) -> Result<Self> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "allow" => Self::Allow,
            "never" => Self::Never,
            _ => return Err(Error::invalid("STORAGE_FALLBACK", "must be allow or never")),
        })
    }
}

/// How statements reach a PostgreSQL server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatementMode {
    /// Prepared on connections that are proved to be direct, unnamed on others.
    #[default]
    Auto,
    /// Parsed at each use: right behind every pooler.
    Unnamed,
    /// Prepared once for each connection: faster, and for direct connections alone.
    Prepared,
}

impl FromStr for StatementMode {
    type Err = Error;
    /// Any case.
    fn from_str(text: &str) -> Result<Self> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "auto" => Self::Auto,
            "unnamed" => Self::Unnamed,
            "prepared" => Self::Prepared,
            _ => return Err(Error::invalid("STORAGE_STATEMENTS", "must be auto, unnamed or prepared")),
        })
    }
}

/// Settings of the PostgreSQL backend. They can be read, and mean nothing, where it is not compiled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresSettings {
    /// The schema that holds the store's tables. Default `public`.
    pub schema: String,
    /// Connections kept open. Default 1.
    pub pool_min: u32,
    /// The most connections. Default 10.
    pub pool_max: u32,
    /// How statements reach the server. Default: auto.
    pub statements: StatementMode,
    /// How long an operation waits for a connection of the pool. Default 5 s.
    pub pool_wait: Duration,
    /// How long one statement may take. Default 10 s.
    pub statement_timeout: Duration,
    /// How long a statement waits for a row lock. Default 5 s.
    pub lock_timeout: Duration,
    /// How long an operation may take, all its attempts together. Default 15 s.
    pub deadline: Duration,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self {
            schema: "public".to_owned(),
            pool_min: 1,
            pool_max: 10,
            statements: StatementMode::default(),
            pool_wait: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(5),
            deadline: Duration::from_secs(15),
        }
    }
}

/// Which backend to open, and how.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which backend is wanted. Default: PostgreSQL when there is a URL, else JSON.
    pub mode: Mode,
    /// Where the PostgreSQL database is. Default: none.
    pub database_url: Option<DatabaseUrl>,
    /// Settings of the PostgreSQL backend.
    pub postgres: PostgresSettings,
    /// The directory of the JSON backend, and of the file that remembers which backend was used. Default `./data`.
    pub data_dir: PathBuf,
    /// What to do when a PostgreSQL server cannot be reached.
    pub fallback: Fallback,
    /// Clock, ids and policy.
    pub environment: Environment,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            database_url: None,
            postgres: PostgresSettings::default(),
            data_dir: PathBuf::from("./data"),
            fallback: Fallback::default(),
            environment: Environment::default(),
        }
    }
}

impl Config {
    /// From the process's environment.
    ///
    /// # Errors
    /// `InvalidInput` naming the variable and what it may hold.
    pub fn from_env() -> Result<Self> {
        Self::from_lookup(|name| std::env::var_os(name))
    }

    /// From variables that `lookup` gives; an empty one counts as unset.
    ///
    /// ```
    /// use storage_factory::{Config, Mode};
    ///
    /// let config = Config::from_lookup(|name| (name == "STORAGE_MODE").then(|| "JSON".into()))?;
    /// assert_eq!(config.mode, Mode::Json);
    /// # Ok::<(), storage_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` naming the variable and what it may hold.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let variables = Variables(&lookup);
        let mode: Mode = variables.parsed("STORAGE_MODE", "auto, postgres or json")?.unwrap_or_default();
        // In JSON mode the variable may well belong to another program.
        let database_url = match mode {
            Mode::Json => None,
            Mode::Auto | Mode::Postgres => {
                variables.text("DATABASE_URL")?.map(|url| DatabaseUrl::new(&url)).transpose()?
            }
        };
        let defaults = Self::default();
        Ok(Self {
            mode,
            database_url,
            postgres: variables.postgres()?,
            data_dir: variables.raw("DATA_DIR").map_or(defaults.data_dir, PathBuf::from),
            fallback: variables.parsed("STORAGE_FALLBACK", "allow or never")?.unwrap_or_default(),
            environment: Environment { policy: variables.policy()?, ..defaults.environment },
        })
    }
}

struct Variables<'a>(&'a dyn Fn(&str) -> Option<OsString>);

impl Variables<'_> {
    fn raw(&self, name: &'static str) -> Option<OsString> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    fn text(&self, name: &'static str) -> Result<Option<String>> {
        self.raw(name)
            .map(|value| value.into_string().map_err(|_| Error::invalid(name, "must be UTF-8 text")))
            .transpose()
    }

    /// A value with rules. The error never repeats the value: whoever mixes two variables up must not see a
    /// password in a log.
    fn parsed<T: FromStr>(&self, name: &'static str, words: &str) -> Result<Option<T>> {
        self.text(name)?
            .map(|text| text.parse().map_err(|_| Error::invalid(name, format!("must be {words}"))))
            .transpose()
    }

    /// A number of seconds, 1 at least.
    fn seconds(&self, name: &'static str) -> Result<Option<Duration>> {
        let seconds: Option<NonZeroU32> = self.parsed(name, "a whole number of seconds from 1")?;
        Ok(seconds.map(|seconds| Duration::from_secs(seconds.get().into())))
    }

    fn postgres(&self) -> Result<PostgresSettings> {
        let standard = PostgresSettings::default();
        let pool_max =
            self.parsed("STORAGE_POOL_MAX", "a whole number from 1")?.map_or(standard.pool_max, NonZeroU32::get);
        let pool_min = self.parsed("STORAGE_POOL_MIN", "a whole number from 0 to STORAGE_POOL_MAX")?;
        if pool_min.is_some_and(|pool_min: u32| pool_min > pool_max) {
            let rule = format!("must be a whole number from 0 to STORAGE_POOL_MAX, which is {pool_max}");
            return Err(Error::invalid("STORAGE_POOL_MIN", rule));
        }
        Ok(PostgresSettings {
            schema: self.text("STORAGE_SCHEMA")?.unwrap_or(standard.schema),
            pool_min: pool_min.unwrap_or(standard.pool_min),
            pool_max,
            statements: self.parsed("STORAGE_STATEMENTS", "auto, unnamed or prepared")?.unwrap_or_default(),
            pool_wait: self.seconds("STORAGE_POOL_WAIT")?.unwrap_or(standard.pool_wait),
            statement_timeout: self.seconds("STORAGE_STATEMENT_TIMEOUT")?.unwrap_or(standard.statement_timeout),
            lock_timeout: self.seconds("STORAGE_LOCK_TIMEOUT")?.unwrap_or(standard.lock_timeout),
            deadline: self.seconds("STORAGE_DEADLINE")?.unwrap_or(standard.deadline),
        })
    }

    fn policy(&self) -> Result<Policy> {
        let standard = Policy::default();
        Ok(Policy {
            default_language: self
                .parsed("STORAGE_DEFAULT_LANGUAGE", "a language tag such as ru or pt-br")?
                .unwrap_or(standard.default_language),
            daily_free_generations: self
                .parsed("STORAGE_DAILY_FREE", "a whole number such as 5")?
                .unwrap_or(standard.daily_free_generations),
            default_admin_limit: self
                .parsed("STORAGE_ADMIN_LIMIT", "an amount such as 100.00")?
                .unwrap_or(standard.default_admin_limit),
            main_admin: self.parsed("STORAGE_MAIN_ADMIN", "the id of a user, a whole number other than 0")?,
            history: self
                .parsed("STORAGE_HISTORY", "a whole number from 1, or everything")?
                .map_or(standard.history, |Retention(history)| history),
            time_zone: self
                .parsed("STORAGE_TIME_ZONE", "an IANA name such as Europe/Kyiv")?
                .unwrap_or(standard.time_zone),
        })
    }
}

struct Retention(HistoryRetention);

impl FromStr for Retention {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        str::parse::<HistoryRetention>(text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage_core::ErrorKind;

    fn read(variables: &[(&str, &str)]) -> Result<Config> {
        Config::from_lookup(|name| variables.iter().find(|(given, _)| *given == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn nothing_set_gives_the_defaults() {
        for variables in
            [&[][..], &[("STORAGE_MODE", ""), ("DATABASE_URL", ""), ("DATA_DIR", ""), ("STORAGE_HISTORY", "")]]
        {
            let config = read(variables).unwrap();
            assert_eq!((config.mode, config.fallback), (Mode::Auto, Fallback::Allow));
            assert_eq!(config.database_url, None);
            assert_eq!(config.data_dir, PathBuf::from("./data"));
            assert_eq!(config.environment.policy, Policy::default());
            assert_eq!(config.postgres, PostgresSettings::default());
        }
    }

    #[test]
    fn everything_set_is_read() {
        let config = read(&[
            ("STORAGE_MODE", "PostGres"),
            ("DATABASE_URL", "postgres://h/d"),
            ("DATA_DIR", "/srv/bot"),
            ("STORAGE_FALLBACK", "Never"),
            ("STORAGE_TIME_ZONE", "Europe/Kyiv"),
            ("STORAGE_DAILY_FREE", "3"),
            ("STORAGE_MAIN_ADMIN", "77"),
            ("STORAGE_ADMIN_LIMIT", "12.5"),
            ("STORAGE_DEFAULT_LANGUAGE", "en"),
            ("STORAGE_HISTORY", "Everything"),
            ("STORAGE_SCHEMA", "shop_a"),
            ("STORAGE_POOL_MIN", "0"),
            ("STORAGE_POOL_MAX", "3"),
            ("STORAGE_STATEMENTS", "Prepared"),
            ("STORAGE_POOL_WAIT", "1"),
            ("STORAGE_STATEMENT_TIMEOUT", "2"),
            ("STORAGE_LOCK_TIMEOUT", "3"),
            ("STORAGE_DEADLINE", "4"),
        ])
        .unwrap();
        assert_eq!((config.mode, config.fallback), (Mode::Postgres, Fallback::Never));
        assert_eq!(config.database_url.unwrap().to_string(), "postgres://h/d");
        assert_eq!(config.data_dir, PathBuf::from("/srv/bot"));
        let [pool_wait, statement_timeout, lock_timeout, deadline] = [1, 2, 3, 4].map(Duration::from_secs);
        let (schema, statements) = ("shop_a".to_owned(), StatementMode::Prepared);
        let (pool_min, pool_max) = (0, 3);
        let expected = PostgresSettings {
            schema,
            pool_min,
            pool_max,
            statements,
            pool_wait,
            statement_timeout,
            lock_timeout,
            deadline,
        };
        assert_eq!(config.postgres, expected);
        let policy = config.environment.policy;
        assert_eq!(policy.time_zone.name(), "Europe/Kyiv");
        assert_eq!(policy.daily_free_generations, 3);
        assert_eq!(policy.main_admin.unwrap().get(), 77);
        assert_eq!(policy.default_admin_limit.to_string(), "12.50");
        assert_eq!(policy.default_language.as_str(), "en");
        assert_eq!(policy.history, HistoryRetention::Everything);
        let config = read(&[("STORAGE_HISTORY", "250")]).unwrap();
        assert_eq!(config.environment.policy.history.limit(), 250);
    }

    #[test]
    fn a_wrong_word_names_the_variable_and_the_words() {
        for (name, value, words) in [
            ("STORAGE_MODE", "sqlite", "auto, postgres or json"),
            ("STORAGE_MODE", " json", "auto, postgres or json"),
            ("STORAGE_FALLBACK", "no", "allow or never"),
            ("STORAGE_HISTORY", "0", "everything"),
            ("STORAGE_HISTORY", "-1", "everything"),
            ("STORAGE_TIME_ZONE", "Mars/Olympus", "IANA"),
            ("STORAGE_DAILY_FREE", "many", "whole number"),
            ("STORAGE_MAIN_ADMIN", "0", "other than 0"),
            ("STORAGE_ADMIN_LIMIT", "-1", "amount"),
            ("STORAGE_DEFAULT_LANGUAGE", "?", "tag"),
            ("STORAGE_POOL_MIN", "11", "STORAGE_POOL_MAX, which is 10"),
            ("STORAGE_POOL_MIN", "-1", "whole number from 0"),
            ("STORAGE_POOL_MAX", "0", "whole number from 1"),
            ("STORAGE_STATEMENTS", "named", "auto, unnamed or prepared"),
            ("STORAGE_POOL_WAIT", "0", "seconds from 1"),
            ("STORAGE_STATEMENT_TIMEOUT", "1.5", "seconds from 1"),
            ("STORAGE_LOCK_TIMEOUT", "5s", "seconds from 1"),
            ("STORAGE_DEADLINE", "forever", "seconds from 1"),
            ("DATABASE_URL", "mysql://root:pw-in-the-clear@h/d", "postgresql://"),
        ] {
            let error = read(&[(name, value)]).unwrap_err();
            let ErrorKind::InvalidInput { field, rule } = error.kind() else { panic!("{error}") };
            assert_eq!(field, name);
            assert!(rule.contains(words), "{rule}");
            assert!(!format!("{error} {error:?}").contains("pw-in-the-clear"));
        }
    }

    #[test]
    fn in_json_mode_the_url_is_not_looked_at() {
        let config = read(&[("STORAGE_MODE", "json"), ("DATABASE_URL", "mysql://elsewhere")]).unwrap();
        assert_eq!(config.database_url, None);
    }
}
