//! Ids that are not text: users and operations.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use crate::{Error, OperationKey, Result};

/// A Telegram user (positive) or group (negative); never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(i64);

impl UserId {
    /// `InvalidInput` for 0.
    pub fn new(id: i64) -> Result<Self> {
        if id == 0 { Err(Error::invalid("user id", "must not be 0")) } else { Ok(Self(id)) }
    }
    /// The number.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for UserId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        text.parse().map_err(|_| Error::invalid("user id", "must be a whole number other than 0")).and_then(Self::new)
    }
}

impl Serialize for UserId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0)
    }
}

impl<'de> Deserialize<'de> for UserId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(i64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// The id that a store mints for each write: a `UUIDv7`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(Uuid);

impl OperationId {
    /// From the 128 bits of a UUID.
    pub fn from_u128(bits: u128) -> Self {
        Self(Uuid::from_u128(bits))
    }
    /// The 128 bits of the UUID.
    pub fn as_u128(self) -> u128 {
        self.0.as_u128()
    }
    fn text(self, buffer: &mut [u8; Hyphenated::LENGTH]) -> &str {
        self.0.hyphenated().encode_lower(buffer)
    }
    /// The id as the operation's key, for a caller who gave none.
    pub fn to_key(self) -> OperationKey {
        // The text of a UUID keeps every rule of a key.
        OperationKey::new(self.text(&mut [0; Hyphenated::LENGTH]))
            .unwrap_or_else(|_| unreachable!("a UUID is a valid key"))
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for OperationId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Uuid::parse_str(text).map(Self).map_err(|_| Error::invalid("operation id", "must be a UUID"))
    }
}

impl Serialize for OperationId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text(&mut [0; Hyphenated::LENGTH]))
    }
}

impl<'de> Deserialize<'de> for OperationId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_no_user() {
        assert!(UserId::new(0).is_err());
        for good in [1, -1, i64::MIN, i64::MAX] {
            assert_eq!(UserId::new(good).unwrap().get(), good);
        }
        for bad in ["0", "", "1.5", "9223372036854775808", "x"] {
            assert!(bad.parse::<UserId>().is_err(), "{bad}");
        }
    }
}
