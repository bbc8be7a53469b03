//! A connection URL that cannot be printed by accident.

use std::fmt;
use std::str::FromStr;

use storage_core::{Error, Result};

/// A connection URL. `Debug` and `Display` show scheme, host, port and database; never user, password or options.
///
/// ```
/// use storage_factory::DatabaseUrl;
///
/// let url = DatabaseUrl::new("postgresql://bot:s3cret@db.example.org:5432/bot?sslmode=require")?;
/// assert_eq!(url.to_string(), "postgresql://db.example.org:5432/bot");
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    secret: String,
    shown: String,
}

impl DatabaseUrl {
    /// Takes a URL that begins with `postgresql://` or `postgres://`.
    ///
    /// # Errors
    /// `InvalidInput` that names the rule and repeats nothing of the URL. A text that could be read in two ways,
    /// such as a password with a bare `@` or `/` in it, is refused: part of it would pass for a host and be shown.
    pub fn new(text: &str) -> Result<Self> {
        let refuse = |rule: &'static str| Err(Error::invalid("DATABASE_URL", rule));
        let Some((scheme @ ("postgresql" | "postgres"), rest)) = text.split_once("://") else {
            return refuse("must be postgresql://user:password@host:port/database");
        };
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return refuse("must not contain white space or control characters; write them as %20 and the like");
        }
        let (place, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = place.split_once('/').unwrap_or((place, ""));
        let hosts = authority.split_once('@').map_or(authority, |(_, hosts)| hosts);
        if rest.contains('#') || [hosts, database, options].iter().any(|part| part.contains('@')) {
            return refuse("must write @ : / ? # inside a name or password as %40 %3A %2F %3F %23");
        }
        if database.contains('/') {
            return refuse("must name one database behind the host");
        }
        for host in hosts.split(',') {
            let port = match host.rsplit_once(':') {
                // An IPv6 address has colons of its own, inside brackets.
                Some((name, port)) if !port.ends_with(']') => {
                    let bracketed = name.starts_with('[') && name.ends_with(']');
                    (!bracketed && name.contains(':')).then_some("").or(Some(port))
                }
                _ => None,
            };
            if port.is_some_and(|port| port.parse::<u16>().is_err()) {
                return refuse("must have a port of 1 to 65535 behind the host");
            }
        }
        let slash = if database.is_empty() { "" } else { "/" };
        Ok(Self { secret: text.to_owned(), shown: format!("{scheme}://{hosts}{slash}{database}") })
    }

    /// The whole URL, password included: for a backend that connects, never for printing.
    pub fn expose(&self) -> &str {
        &self.secret
    }
}

impl FromStr for DatabaseUrl {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.shown)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_where_and_nothing_else() {
        for (url, shown) in [
            ("postgres://h", "postgres://h"),
            ("postgres://h/", "postgres://h"),
            ("postgresql://u:S3@h/d", "postgresql://h/d"),
            ("postgresql://u@h:5433/d?password=S3", "postgresql://h:5433/d"),
            ("postgresql://u:S3@[::1]:5432/d", "postgresql://[::1]:5432/d"),
            ("postgresql://u:S3@[::1]/d", "postgresql://[::1]/d"),
            ("postgresql://u:S3@a:1,b:2/d", "postgresql://a:1,b:2/d"),
            ("postgresql://u:S3%40%2F@h/d", "postgresql://h/d"),
            ("postgresql:///d?host=%2Frun", "postgresql:///d"),
        ] {
            let parsed = DatabaseUrl::new(url).unwrap();
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(format!("{parsed:?}"), shown);
            assert_eq!(parsed.expose(), url);
        }
    }

    #[test]
    fn what_could_leak_a_password_is_refused_without_repeating_it() {
        for url in [
            "postgresql://u:S3/S3@h/d",
            "postgresql://u:S3@S3@h/d",
            "postgresql://u:S3?S3@h/d",
            "postgresql://u:7?S3@h/d",
            "postgresql://u:S3#S3@h/d",
            "postgresql://u:S3",
            "postgresql://S3:S3:5432/d",
            "postgresql://u:S3@h:99999/d",
            "postgresql://u:S3@h:/d",
            "postgresql://u:S3@h/d/e",
            "postgresql://u:S3@h/d e",
            "mysql://u:S3@h/d",
            "host=h password=S3",
            "S3",
        ] {
            let error = DatabaseUrl::new(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("S3"), "{url}: {error}");
        }
    }
}
