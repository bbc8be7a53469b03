//! Exactly once: how a repeated call is told from a new one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::digits::Digits;
use crate::{Error, Money, OperationId, Result};

/// A digest of an operation's kind and arguments: the first 128 bits of their SHA-256.
///
/// Two calls are the same when their fingerprints are equal. Stored with each receipt, so that a key used
/// again with other arguments is a `Conflict` for as long as the store lives.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// Digests an operation's name and its arguments, each preceded by its length so that no two lists of
    /// arguments read alike.
    pub fn of(operation: &str, arguments: &[&str]) -> Self {
        let mut digest = Sha256::new();
        for part in std::iter::once(&operation).chain(arguments) {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part.as_bytes());
        }
        let mut head = [0; 16];
        head.copy_from_slice(&digest.finalize()[..16]);
        Self(head)
    }
    /// The digest as it was given out by [`Fingerprint::to_bytes`].
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
    fn text(self) -> Digits<32> {
        let mut text = Digits::new();
        self.0.iter().rev().for_each(|byte| text.push_hex(*byte));
        text
    }
    /// The digest, for backends that store bytes.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let form = || Error::invalid("fingerprint", "must be 32 hexadecimal digits");
        if text.len() != 32 || !text.is_ascii() {
            return Err(form());
        }
        u128::from_str_radix(text, 16).map(|bits| Self(bits.to_be_bytes())).map_err(|_| form())
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text().as_str())
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a change of money answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The operation that made the change.
    pub operation: OperationId,
    /// What could be spent right after this very operation, whatever came later.
    pub balance_after: Money,
    /// Whether this call only repeated one that had succeeded.
    pub replayed: bool,
}

/// What a change without a figure answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Acknowledged {
    /// Whether this call only repeated one that had succeeded.
    pub replayed: bool,
}

/// A record as it stands after a write, and whether the write was a replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stored<T> {
    /// The record as it stands.
    pub record: Arc<T>,
    /// Whether this call only repeated one that had succeeded.
    pub replayed: bool,
}

/// What a store remembers of a key that was used up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedKey {
    /// Kind and arguments of the operation.
    pub arguments: Fingerprint,
    /// The operation, whose id is also the id of a record that was minted for it.
    pub operation: OperationId,
    /// What it answered.
    pub answer: Answer,
}

/// The first answer of an operation, kept for its replays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// A money operation.
    Money(Receipt),
    /// A quota operation.
    Quota(crate::QuotaReceipt),
    /// A gift claim: whether it was the first.
    Gift(bool),
    /// An operation that answers the record as it stands, or nothing at all.
    Record,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_lists_of_arguments_read_alike() {
        let all = [
            Fingerprint::of("a", &["b", "c"]),
            Fingerprint::of("a", &["bc"]),
            Fingerprint::of("a", &["bc", ""]),
            Fingerprint::of("ab", &["c"]),
            Fingerprint::of("a", &["c", "b"]),
        ];
        for (n, one) in all.iter().enumerate() {
            assert!(all[..n].iter().all(|other| other != one));
            assert_eq!(one.to_string().parse::<Fingerprint>().unwrap(), *one);
        }
    }
}
