//! Taking a connection URL apart. Nothing here ever repeats a part of the URL that could be a password.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// The words that are honoured, sorted: the list that an unknown word is answered with.
const KNOWN: [&str; 25] = [
    "application_name",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "dbname",
    "gssencmode",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "load_balance_hosts",
    "options",
    "password",
    "port",
    "sslcompression",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// Words of libpq, or of other drivers, that are refused by name because leaving them out would change what was asked for.
const UNSUPPORTED: [(&str, &str); 33] = [
    ("authtype", ""),
    ("fallback_application_name", "; write application_name"),
    ("gssdelegation", ""),
    ("gsslib", ""),
    ("krbsrvname", ""),
    ("max_protocol_version", ""),
    ("min_protocol_version", ""),
    ("oauth_client_id", ""),
    ("oauth_client_secret", ""),
    ("oauth_issuer", ""),
    ("oauth_scope", ""),
    ("passfile", "; write the password into the URL"),
    ("replication", ""),
    ("require_auth", ""),
    ("requirepeer", ""),
    ("requiressl", "; write sslmode=require"),
    ("scram_client_key", ""),
    ("scram_server_key", ""),
    ("service", "; write host, port, user and database into the URL"),
    ("servicefile", "; write host, port, user and database into the URL"),
    ("ssl", "; write sslmode=require"),
    ("ssl_max_protocol_version", ""),
    ("ssl_min_protocol_version", ""),
    ("sslcert", "; log in by password"),
    ("sslcertmode", "; log in by password"),
    ("sslcrl", ""),
    ("sslcrldir", ""),
    ("sslkey", "; log in by password"),
    ("sslkeylogfile", ""),
    ("sslpassword", "; log in by password"),
    ("statement_timeout", "; write options=-c%20statement_timeout=... with the value in milliseconds"),
    ("search_path", "; the schema is configuration of its own"),
    ("tty", ""),
];

/// What is wrong with a connection URL: names the parameter and the rule, never the URL or its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UrlError {
    word: Option<&'static str>,
    rule: Cow<'static, str>,
}

impl UrlError {
    /// A rule of the URL as a whole.
    pub(super) fn whole(rule: impl Into<Cow<'static, str>>) -> Self {
        Self { word: None, rule: rule.into() }
    }
    /// A rule of one parameter.
    pub(super) fn word(word: &'static str, rule: impl Into<Cow<'static, str>>) -> Self {
        Self { word: Some(word), rule: rule.into() }
    }
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(word) = self.word {
            write!(f, "{word} ")?;
        }
        f.write_str(&self.rule)
    }
}

impl std::error::Error for UrlError {}

/// A URL in pieces: everything decoded, nothing judged yet. No `Debug`: it holds the password.
pub(super) struct Parts {
    pub(super) scheme: &'static str,
    /// From the authority or from `host=`; one host or more when present.
    pub(super) hosts: Option<Vec<String>>,
    /// As many as were written: one for each host of the authority, or the list in `port=`.
    pub(super) ports: Option<Vec<Option<u16>>>,
    words: BTreeMap<&'static str, Vec<u8>>,
}

impl Parts {
    pub(super) fn read(url: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = match url.split_once("://") {
            Some(("postgresql", rest)) => ("postgresql", rest),
            Some(("postgres", rest)) => ("postgres", rest),
            _ => return Err(UrlError::whole("must be postgresql://user:password@host:port/database")),
        };
        if url.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(UrlError::whole(
                "must not contain white space or control characters; write them as %20 and the like",
            ));
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = place.split_once('/').unwrap_or((place, ""));
        let (login, hosts) = match authority.split_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        // A text that could be read in two ways is refused: part of the password would pass for a host and be shown.
        if rest.contains('#') || [hosts, database, query].iter().any(|part| part.contains('@')) {
            return Err(UrlError::whole(
                "must write @ : / ? # inside a name, password or value as %40 %3A %2F %3F %23",
            ));
        }
        if database.contains('/') {
            return Err(UrlError::whole("must name one database behind the host"));
        }
        let mut parts = Self { scheme, hosts: None, ports: None, words: BTreeMap::new() };
        if let Some(login) = login {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            parts.put("user", user)?;
            parts.put("password", password)?;
        }
        parts.put("dbname", database)?;
        parts.read_authority(hosts)?;
        parts.read_query(query)?;
        parts.read_host_words()?;
        Ok(parts)
    }

    /// Keeps a value; an empty one says nothing, as with libpq.
    fn put(&mut self, word: &'static str, raw: &str) -> Result<(), UrlError> {
        let value = decode(word, raw)?;
        if value.is_empty() {
            return Ok(());
        }
        match self.words.insert(word, value) {
            None => Ok(()),
            Some(_) => Err(UrlError::word(word, "is given twice")),
        }
    }

    fn read_authority(&mut self, text: &str) -> Result<(), UrlError> {
        if text.is_empty() {
            return Ok(());
        }
        let (mut hosts, mut ports) = (Vec::new(), Vec::new());
        for entry in text.split(',') {
            let (host, port) = match entry.strip_prefix('[') {
                Some(rest) => {
                    let (inside, port) = rest.split_once(']').ok_or_else(|| {
                        UrlError::word("host", "must close the bracket of an IPv6 address, as in [::1]:5432")
                    })?;
                    if inside.parse::<std::net::Ipv6Addr>().is_err() {
                        return Err(UrlError::word("host", "must hold an IPv6 address between brackets"));
                    }
                    let port = match port {
                        "" => None,
                        _ => Some(port.strip_prefix(':').ok_or_else(port_rule)?),
                    };
                    (inside.to_owned(), port)
                }
                None => {
                    let (host, port) = match entry.split_once(':') {
                        Some((host, port)) => (host, Some(port)),
                        None => (entry, None),
                    };
                    (text_of("host", &decode("host", host)?)?, port)
                }
            };
            hosts.push(host);
            ports.push(port.map(read_port).transpose()?);
        }
        // `postgresql://:5433/bot` gives a port only; the host may stand behind the question mark.
        if hosts.iter().any(|host| !host.is_empty()) {
            self.hosts = Some(hosts);
        } else if hosts.len() > 1 {
            return Err(UrlError::word("host", "must name each host of a list"));
        }
        if ports.iter().any(Option::is_some) {
            self.ports = Some(ports);
        }
        Ok(())
    }

    fn read_query(&mut self, query: &str) -> Result<(), UrlError> {
        if query.is_empty() {
            return Ok(());
        }
        let mut seen = Vec::new();
        for (index, pair) in query.split('&').enumerate() {
            let number = index + 1;
            let Some((key, value)) = pair.split_once('=') else {
                return Err(UrlError::whole(format!("has no = in parameter {number}; write word=value, joined by &")));
            };
            if let Some((word, instead)) = UNSUPPORTED.iter().find(|(word, _)| *word == key) {
                return Err(UrlError::word(word, format!("is not supported{instead}")));
            }
            let Some(word) = KNOWN.iter().copied().find(|word| *word == key) else {
                return Err(unknown(key, number, &seen));
            };
            if seen.contains(&word) {
                return Err(UrlError::word(word, "is given twice"));
            }
            seen.push(word);
            self.put(word, value)?;
            if value.is_empty()
                && !matches!(
                    word,
                    "user" | "password" | "dbname" | "host" | "hostaddr" | "port" | "options" | "application_name"
                )
            {
                return Err(UrlError::word(word, "must have a value"));
            }
        }
        Ok(())
    }

    /// `host=` and `port=` may stand behind the question mark instead, as lists of their own.
    fn read_host_words(&mut self) -> Result<(), UrlError> {
        if let Some(hosts) = self.text("host")? {
            if self.hosts.is_some() {
                return Err(UrlError::word("host", "is given twice: before and behind the question mark"));
            }
            self.hosts = Some(hosts.split(',').map(str::to_owned).collect());
        }
        if let Some(ports) = self.text("port")? {
            if self.ports.is_some() {
                return Err(UrlError::word("port", "is given twice: behind the host and behind the question mark"));
            }
            self.ports = Some(ports.split(',').map(|port| read_port(port).map(Some)).collect::<Result<_, _>>()?);
        }
        Ok(())
    }

    /// The bytes of a value; only a password need not be UTF-8.
    pub(super) fn bytes(&self, word: &'static str) -> Option<&[u8]> {
        self.words.get(word).map(Vec::as_slice)
    }

    pub(super) fn text(&self, word: &'static str) -> Result<Option<String>, UrlError> {
        self.bytes(word).map(|value| text_of(word, value)).transpose()
    }

    /// A whole number between two limits.
    pub(super) fn number(
        &self,
        word: &'static str,
        limits: std::ops::RangeInclusive<u64>,
        unit: &str,
    ) -> Result<Option<u64>, UrlError> {
        let Some(text) = self.text(word)? else { return Ok(None) };
        match text.parse::<u64>() {
            Ok(number) if limits.contains(&number) => Ok(Some(number)),
            _ => {
                let rule = format!("must be a whole number{unit} from {} to {}", limits.start(), limits.end());
                Err(UrlError::word(word, rule))
            }
        }
    }

    /// One word out of several.
    pub(super) fn choice<T: Copy>(
        &self,
        word: &'static str,
        choices: &[(&str, Result<T, &'static str>)],
    ) -> Result<Option<T>, UrlError> {
        let Some(text) = self.text(word)? else { return Ok(None) };
        match choices.iter().find(|(name, _)| *name == text) {
            Some((_, Ok(value))) => Ok(Some(*value)),
            Some((name, Err(reason))) => Err(UrlError::word(word, format!("cannot be {name}: {reason}"))),
            None => {
                let mut names = choices.iter().filter(|(_, value)| value.is_ok()).map(|(name, _)| *name);
                let first = names.next().unwrap_or_default();
                let list = names.fold(first.to_owned(), |list, name| list + ", " + name);
                Err(UrlError::word(word, format!("must be one of: {list}")))
            }
        }
    }
}

/// The unknown word itself is repeated only where it cannot be the tail of a password with a bare `&` in it.
fn unknown(key: &str, number: usize, seen: &[&str]) -> UrlError {
    let plain = (1..=40).contains(&key.len()) && key.bytes().all(|c| c.is_ascii_lowercase() || c == b'_');
    let name = if plain && !seen.contains(&"password") { format!(" `{key}`") } else { String::new() };
    UrlError::whole(format!("has an unknown parameter{name} in place {number}; known are: {}", KNOWN.join(", ")))
}

fn port_rule() -> UrlError {
    UrlError::word("port", "must be a number from 1 to 65535")
}

fn read_port(text: &str) -> Result<u16, UrlError> {
    // `u16::from_str` takes a leading plus sign.
    let digits = text.bytes().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0).ok_or_else(port_rule)
}

fn text_of(word: &'static str, value: &[u8]) -> Result<String, UrlError> {
    match std::str::from_utf8(value) {
        Ok(text) if !text.chars().any(char::is_control) => Ok(text.to_owned()),
        _ => Err(UrlError::word(word, "must be UTF-8 without control characters")),
    }
}

fn decode(word: &'static str, raw: &str) -> Result<Vec<u8>, UrlError> {
    let mut value = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    let digit = |byte: Option<u8>| byte.and_then(|c| char::from(c).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            value.push(byte);
            continue;
        }
        match (digit(bytes.next()), digit(bytes.next())) {
            (Some(0), Some(0)) => return Err(UrlError::word(word, "must not contain %00")),
            (Some(high), Some(low)) => value.push(high << 4 | low),
            _ => return Err(UrlError::word(word, "must have two hexadecimal digits behind %; write % itself as %25")),
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted_and_disjoint() {
        assert!(KNOWN.is_sorted());
        assert!(UNSUPPORTED.iter().all(|(word, _)| !KNOWN.contains(word)));
    }

    #[test]
    fn percent_signs_are_decoded_or_refused() {
        assert_eq!(decode("user", "a%20%2Fb+c%C3%A4").unwrap(), "a /b+cä".as_bytes());
        for raw in ["%", "%4", "%zz", "%4g", "a%0"] {
            let error = decode("user", raw).unwrap_err();
            assert_eq!(error.to_string(), "user must have two hexadecimal digits behind %; write % itself as %25");
        }
        assert_eq!(decode("password", "a%00").unwrap_err().to_string(), "password must not contain %00");
    }
}
