//! The name of the schema that a store lives in.

use std::fmt;
use std::str::FromStr;

/// The longest identifier that PostgreSQL keeps whole, in bytes.
pub(crate) const MAX_IDENTIFIER: usize = 63;

/// The name of a schema: small ASCII letters, digits and underscores, not starting with a digit, 63 bytes at most.
///
/// Narrower than what PostgreSQL takes, so that a name means the same quoted and unquoted, in a URL and in a shell.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Schema(String);

impl Schema {
    /// Takes a name that keeps the rules above. `pg_...` and `information_schema` belong to the server.
    pub fn new(name: &str) -> Result<Self, InvalidSchema> {
        let plain = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        let start = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
        let reserved = name.starts_with("pg_") || name == "information_schema";
        if plain && start && !reserved && name.len() <= MAX_IDENTIFIER {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidSchema { name: name.to_owned() })
        }
    }

    /// The bare name, to be bound as a value.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The name as SQL writes it.
    pub fn quoted(&self) -> String {
        quote(&self.0)
    }
}

impl Default for Schema {
    fn default() -> Self {
        Self("public".to_owned())
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Schema {
    type Err = InvalidSchema;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

/// A name that no store's schema can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSchema {
    name: String,
}

impl fmt::Display for InvalidSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} cannot be the schema of a store: use 1 to {MAX_IDENTIFIER} of a-z, 0-9 and _, not starting with a \
             digit or with pg_",
            self.name
        )
    }
}

impl std::error::Error for InvalidSchema {}

/// Any identifier as SQL writes it. The earlier system's tables bring names that keep no rules.
pub(crate) fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::{Schema, quote};

    #[test]
    fn a_schema_is_a_plain_small_identifier() {
        for name in ["public", "bot_2", "_x", &"s".repeat(63)] {
            assert_eq!(Schema::new(name).unwrap().name(), name);
        }
        for name in ["", "Public", "2nd", "a-b", "a b", "a\"b", "é", "pg_x", "information_schema", &"s".repeat(64)] {
            assert!(Schema::new(name).unwrap_err().to_string().contains("cannot be the schema"), "{name}");
        }
        assert_eq!(Schema::new("public").unwrap(), Schema::default());
    }

    #[test]
    fn a_quote_inside_an_identifier_is_doubled() {
        assert_eq!(quote("a\"b"), "\"a\"\"b\"");
    }
}
