//! Text with rules: ids, names, notes, URLs. A value that breaks a rule cannot be built.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Error, Result};

/// The most bytes in an id or key (V3).
pub const MAX_ID_BYTES: usize = 200;
/// The most bytes in a name (V4).
pub const MAX_NAME_BYTES: usize = 512;
/// The most bytes in a note or an error message (V5).
pub const MAX_NOTE_BYTES: usize = 8 * 1024;
/// The most result URLs of one record (V6).
pub const MAX_URLS: usize = 64;
/// The most bytes in one result URL (V6).
pub const MAX_URL_BYTES: usize = 2048;

fn check_id(field: &'static str, text: &str) -> Result<()> {
    // Nearly every id is of visible ASCII and needs no look at what its characters are.
    if (1..=MAX_ID_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    let rule = if text.is_empty() || text.len() > MAX_ID_BYTES {
        "must be 1 to 200 bytes of UTF-8"
    } else if text.chars().any(char::is_control) {
        "must not contain control characters"
    } else if text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace) {
        "must not begin or end with white space"
    } else {
        return Ok(());
    };
    Err(Error::invalid(field, rule))
}

fn check_name(field: &'static str, text: &str) -> Result<()> {
    let rule = if text.is_empty() || text.len() > MAX_NAME_BYTES {
        "must be 1 to 512 bytes"
    } else if text.contains('\0') {
        "must not contain NUL"
    } else {
        return Ok(());
    };
    Err(Error::invalid(field, rule))
}

fn check_note(field: &'static str, text: &str) -> Result<()> {
    let rule = if text.len() > MAX_NOTE_BYTES {
        "must be at most 8 KiB"
    } else if text.contains('\0') {
        "must not contain NUL"
    } else {
        return Ok(());
    };
    Err(Error::invalid(field, rule))
}

fn check_language(field: &'static str, text: &str) -> Result<()> {
    let well_formed = (2..=35).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if well_formed {
        Ok(())
    } else {
        Err(Error::invalid(field, "must be a tag of 2 to 35 ASCII letters, digits, hyphens"))
    }
}

macro_rules! text_types {
    ($($(#[$doc:meta])* $name:ident: $field:literal, $check:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// `InvalidInput` naming the rule that the text breaks.
            pub fn new(text: impl AsRef<str> + Into<Arc<str>>) -> Result<Self> {
                $check($field, text.as_ref())?;
                Ok(Self(text.into()))
            }
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                Self::new(text)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::new(&*text).map_err(serde::de::Error::custom)
            }
        }
    )+};
}

text_types! {
    /// The id of a generation job: 1 to 200 bytes, no control characters, no white space at either end.
    JobId: "job id", check_id;
    /// The id that the generation provider gave a job: rules as [`JobId`].
    TaskId: "external task id", check_id;
    /// The id of a payment: rules as [`JobId`].
    PaymentId: "payment id", check_id;
    /// The id of one entry of the history, which makes recording it idempotent: rules as [`JobId`].
    GenerationId: "generation id", check_id;
    /// The idempotency key of an operation, scoped to one user: rules as [`JobId`].
    OperationKey: "operation key", check_id;
    /// The name of a hold, usually the job's id, scoped to one user: rules as [`JobId`].
    HoldName: "hold name", check_id;
    /// What the payment provider calls a payment (charge id, screenshot): rules as [`JobId`].
    ProviderKey: "provider key", check_id;
    /// What a ledger row refers to (a job, a payment, a hold): rules as [`JobId`].
    Reference: "reference", check_id;
    /// Who ordered a change, for the ledger: rules as [`JobId`].
    Actor: "actor", check_id;
    /// The id of a model: 1 to 512 bytes, no NUL.
    ModelId: "model id", check_name;
    /// The name of a model as people see it: 1 to 512 bytes, no NUL.
    ModelName: "model name", check_name;
    /// How a payment was made (`"card"`, `"sbp"`, `"stars"`, ...): 1 to 512 bytes, no NUL.
    PaymentMethod: "payment method", check_name;
    /// The file id of a payment's screenshot: 1 to 512 bytes, no NUL.
    FileId: "screenshot file id", check_name;
    /// A place that the contents of a store were moved to, as people read it and without secrets: 1 to 512 bytes, no NUL.
    Destination: "destination", check_name;
    /// A note: at most 8 KiB, no NUL. Longer is an error, never a cut.
    Note: "note", check_note;
    /// Why a job failed: at most 8 KiB, no NUL. Longer is an error, never a cut.
    ErrorMessage: "error message", check_note;
    /// A language: an IETF tag of 2 to 35 ASCII letters, digits, hyphens.
    Language: "language", check_language;
}

/// Ids keep the same rules, so one may be taken for another.
macro_rules! taken_for {
    ($($one:ident as $other:ident)+) => {$(
        impl From<&$one> for $other {
            fn from(id: &$one) -> Self {
                Self(Arc::clone(&id.0))
            }
        }
    )+};
}

taken_for! {
    GenerationId as OperationKey
    OperationKey as GenerationId
    OperationKey as JobId
    OperationKey as PaymentId
    TaskId as JobId
    HoldName as Reference
    PaymentId as Reference
}

/// The URLs of a generation's results: at most 64, each 1 to 2,048 bytes without control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct ResultUrls(Arc<[String]>);

impl ResultUrls {
    /// `InvalidInput` naming the rule that the list breaks.
    pub fn new<I, T>(urls: I) -> Result<Self>
    where
        I: IntoIterator<Item = T>,
        T: Into<String>,
    {
        let urls: Vec<String> = urls.into_iter().map(Into::into).collect();
        if urls.len() > MAX_URLS {
            return Err(Error::invalid("result urls", "must be at most 64"));
        }
        for url in &urls {
            if url.is_empty() || url.len() > MAX_URL_BYTES {
                return Err(Error::invalid("result urls", "each must be 1 to 2048 bytes"));
            }
            if url.chars().any(char::is_control) {
                return Err(Error::invalid("result urls", "must not contain control characters"));
            }
        }
        Ok(Self(urls.into()))
    }
    /// The URLs, in the order given.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for ResultUrls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Vec::<String>::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_from_both_sides() {
        assert!(JobId::new("x".repeat(200)).is_ok());
        assert!(JobId::new("é".repeat(100)).is_ok());
        for bad in ["", &"x".repeat(201), &"é".repeat(101), " a", "a ", "a\nb", "a\0b", "\u{85}a", "\u{a0}a", "a\u{7f}"]
        {
            assert!(JobId::new(bad).is_err(), "{bad:?}");
        }
        assert!(JobId::new("a b").is_ok());
        assert!(JobId::new("план-7").is_ok());
    }

    #[test]
    fn names_notes_languages_from_both_sides() {
        assert!(ModelId::new("m".repeat(512)).is_ok());
        assert!(ModelId::new(" a\n").is_ok());
        for bad in ["", &"m".repeat(513), "a\0"] {
            assert!(ModelId::new(bad).is_err(), "{bad:?}");
        }
        assert!(Note::new("").is_ok());
        assert!(Note::new("n".repeat(8192)).is_ok());
        assert!(Note::new("n".repeat(8193)).is_err());
        assert!(Note::new("n\0").is_err());
        for good in ["ru", "pt-br", &"a".repeat(35)] {
            assert!(Language::new(good).is_ok(), "{good}");
        }
        for bad in ["", "r", &"a".repeat(36), "ру", "a_b", "ru "] {
            assert!(Language::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn urls_from_both_sides() {
        assert!(ResultUrls::new(vec!["u"; 64]).is_ok());
        assert!(ResultUrls::new(vec!["u"; 65]).is_err());
        assert!(ResultUrls::new(["u".repeat(2048)]).is_ok());
        for bad in ["", &"u".repeat(2049), "a\nb"] {
            assert!(ResultUrls::new([bad]).is_err(), "{bad:?}");
        }
    }
}
