//! Paging: sizes and opaque cursors that remember which filter they belong to.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::{Error, Fingerprint, Result, Timestamp};

/// How many rows a page holds: 1 to 1,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSize(u16);

impl PageSize {
    /// 100, the default of every list but the history.
    pub const DEFAULT: Self = Self(100);
    /// 10, the default of the history.
    pub const HISTORY: Self = Self(10);
    /// 1,000.
    pub const MAX: Self = Self(1000);

    /// `InvalidInput` outside 1 to 1,000. Zero is an error, never "everything".
    pub fn new(rows: u32) -> Result<Self> {
        match u16::try_from(rows) {
            Ok(rows @ 1..=1000) => Ok(Self(rows)),
            _ => Err(Error::invalid("page size", "must be 1 to 1000")),
        }
    }
    /// The number of rows.
    pub fn get(self) -> usize {
        usize::from(self.0)
    }
}

impl Default for PageSize {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl FromStr for PageSize {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        text.parse().map_err(|_| Error::invalid("page size", "must be 1 to 1000")).and_then(Self::new)
    }
}

/// Where the next page begins. Opaque: handed out with a page, given back for the next one.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Cursor(String);

impl Cursor {
    /// For backends: a cursor behind `position`, valid for the list and filter of this fingerprint only.
    pub fn encode(filter: Fingerprint, position: &str) -> Self {
        let mut text = filter.to_string();
        text.truncate(16);
        for byte in position.bytes() {
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
        Self(text)
    }
    /// For backends: the position, `InvalidInput` when the cursor belongs to another list or filter.
    pub fn decode(&self, filter: Fingerprint) -> Result<String> {
        let damaged = || Error::invalid("cursor", "must come from a page of the same list");
        let (tag, hex) = self.0.split_at_checked(16).ok_or_else(damaged)?;
        if !filter.to_string().starts_with(tag) {
            return Err(Error::invalid("cursor", "belongs to another list or filter"));
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let bytes: Option<Vec<u8>> = hex
            .as_bytes()
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
                _ => None,
            })
            .collect();
        bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(damaged)
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl FromStr for Cursor {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        if text.len() < 16 || text.len() > 4096 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Error::invalid("cursor", "must come from a page of the same list"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Which page of a list is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// How many rows.
    pub size: PageSize,
    /// Behind which row; `None` is the first page.
    pub after: Option<Cursor>,
}

impl PageRequest {
    /// The first page, of this size.
    pub fn first(size: PageSize) -> Self {
        Self { size, after: None }
    }
    /// The page behind `cursor`, of this size.
    pub fn after(size: PageSize, cursor: Cursor) -> Self {
        Self { size, after: Some(cursor) }
    }
}

/// Some rows of a list, and where the next ones begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Page<T> {
    /// The rows, in the list's order.
    pub items: Vec<Arc<T>>,
    /// The cursor of the next page; `None` when this was the last.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// For backends: builds a page from up to `size + 1` rows; the surplus row only proves that there are more.
    pub fn from_surplus(
        mut rows: Vec<Arc<T>>,
        size: PageSize,
        filter: Fingerprint,
        position: impl FnOnce(&T) -> String,
    ) -> Self {
        let more = rows.len() > size.get();
        rows.truncate(size.get());
        let next = if more { rows.last().map(|row| Cursor::encode(filter, &position(row))) } else { None };
        Self { items: rows, next }
    }
}

/// A position in a list ordered newest first by creation time, ties by id in descending byte order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Newest {
    /// When the row was created.
    pub at: Timestamp,
    /// Its id.
    pub id: String,
}

impl Newest {
    /// The position of a row.
    pub fn new(at: Timestamp, id: impl Into<String>) -> Self {
        Self { at, id: id.into() }
    }
    /// As a cursor's text.
    pub fn to_text(&self) -> String {
        format!("{}:{}", self.at.micros(), self.id)
    }
    /// From a cursor's text.
    pub fn from_text(text: &str) -> Result<Self> {
        let damaged = || Error::invalid("cursor", "must come from a page of the same list");
        let (at, id) = text.split_once(':').ok_or_else(damaged)?;
        let at = at.parse().ok().and_then(|micros| Timestamp::from_micros(micros).ok()).ok_or_else(damaged)?;
        Ok(Self::new(at, id))
    }
    /// The position that a request starts behind.
    pub fn of_request(page: &PageRequest, filter: Fingerprint) -> Result<Option<Self>> {
        page.after.as_ref().map(|cursor| cursor.decode(filter).and_then(|text| Self::from_text(&text))).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_from_both_sides() {
        assert!(PageSize::new(0).is_err());
        assert!(PageSize::new(1).is_ok());
        assert!(PageSize::new(1000).is_ok());
        assert!(PageSize::new(1001).is_err());
    }

    #[test]
    fn a_cursor_of_another_filter_is_refused() {
        let (mine, other) = (Fingerprint::of("jobs", &["1"]), Fingerprint::of("jobs", &["2"]));
        let cursor = Cursor::encode(mine, "17:job-é");
        assert_eq!(cursor.to_string().parse::<Cursor>().unwrap().decode(mine).unwrap(), "17:job-é");
        assert!(cursor.decode(other).is_err());
        assert!("zz".parse::<Cursor>().is_err());
    }
}
