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
///
/// It holds a position, the list and filter that it belongs to, and a seal over both: whatever was cut or changed on the
/// way is noticed here, and no backend sees it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Cursor(String);

impl Cursor {
    /// For backends: a cursor behind `position`, valid for the list and filter of this fingerprint only.
    pub fn encode(filter: Fingerprint, position: &str) -> Self {
        let mut text = head(filter) + &head(seal(filter, position));
        for byte in position.bytes() {
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
        Self(text)
    }
    /// For backends: the position, `InvalidInput` when the cursor is damaged or belongs to another list or filter.
    /// [`PageRequest::position`] reads it, too.
    pub fn decode(&self, filter: Fingerprint) -> Result<String> {
        let (tag, rest) = self.0.split_at_checked(HEAD).ok_or_else(damaged)?;
        if head(filter) != tag {
            return Err(Error::invalid("cursor", "belongs to another list or filter"));
        }
        let (sealed, hex) = rest.split_at_checked(HEAD).ok_or_else(damaged)?;
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let bytes: Option<Vec<u8>> = hex
            .as_bytes()
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
                _ => None,
            })
            .collect();
        let position = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(damaged)?;
        if head(seal(filter, &position)) == sealed { Ok(position) } else { Err(damaged()) }
    }
}

/// Digits of a fingerprint that a cursor holds.
const HEAD: usize = 16;

fn head(fingerprint: Fingerprint) -> String {
    let mut text = fingerprint.to_string();
    text.truncate(HEAD);
    text
}

/// No secret: against accidents, not against whoever wants to make a cursor up.
fn seal(filter: Fingerprint, position: &str) -> Fingerprint {
    Fingerprint::of("cursor", &[&filter.to_string(), position])
}

fn damaged() -> Error {
    Error::invalid("cursor", "must come from a page of the same list")
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
            return Err(damaged());
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
    /// For backends: the position that the page begins behind, `None` for the first page. `InvalidInput` for a cursor of
    /// another list or filter, and for one that holds anything but a position as this list writes it.
    pub fn position<P: FromStr + fmt::Display>(&self, filter: Fingerprint) -> Result<Option<P>> {
        let read = |cursor: &Cursor| {
            let text = cursor.decode(filter)?;
            // Read and written again it must be the same: `+1` is no number of ours.
            text.parse().ok().filter(|position: &P| position.to_string() == text).ok_or_else(damaged)
        };
        self.after.as_ref().map(read).transpose()
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
    pub fn from_surplus<P: fmt::Display>(
        mut rows: Vec<Arc<T>>,
        size: PageSize,
        filter: Fingerprint,
        position: impl FnOnce(&T) -> P,
    ) -> Self {
        let more = rows.len() > size.get();
        rows.truncate(size.get());
        let next = if more { rows.last().map(|row| Cursor::encode(filter, &position(row).to_string())) } else { None };
        Self { items: rows, next }
    }
}

/// A position in a list that goes by time, ties by id in byte order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Newest<Id> {
    /// When the row was created.
    pub at: Timestamp,
    /// Its id.
    pub id: Id,
}

impl<Id> Newest<Id> {
    /// The position of a row.
    pub fn new(at: Timestamp, id: Id) -> Self {
        Self { at, id }
    }
    /// Time and id.
    pub fn into_parts(self) -> (Timestamp, Id) {
        (self.at, self.id)
    }
}

impl<Id: fmt::Display> fmt::Display for Newest<Id> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.at.micros(), self.id)
    }
}

impl<Id: FromStr> FromStr for Newest<Id> {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let (at, id) = text.split_once(':').ok_or_else(damaged)?;
        let at = at.parse().ok().and_then(|micros| Timestamp::from_micros(micros).ok()).ok_or_else(damaged)?;
        Ok(Self::new(at, id.parse().map_err(|_| damaged())?))
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

    #[test]
    fn only_what_a_list_writes_is_a_position() {
        let filter = Fingerprint::of("jobs", &["1"]);
        let read = |text: &str| {
            let request = PageRequest::after(PageSize::DEFAULT, Cursor::encode(filter, text));
            request.position::<Newest<crate::JobId>>(filter).map(|position| position.unwrap().into_parts())
        };
        let (at, id) = read("17:a:b").unwrap();
        assert_eq!((at.micros(), id.as_str()), (17, "a:b"));
        for text in ["", "17", "17:", "+17:a", "017:a", "-1:a", "17: a", "17:a\0", "253402300800000000:a"] {
            assert_eq!(read(text).unwrap_err().kind(), damaged().kind(), "{text:?}");
        }
    }

    #[test]
    fn a_cursor_with_any_digit_changed_or_cut_is_refused() {
        let filter = Fingerprint::of("jobs", &["1"]);
        let text = Cursor::encode(filter, "17:job").to_string();
        for at in 0..text.len() {
            assert!(text[..at].parse::<Cursor>().and_then(|cursor| cursor.decode(filter)).is_err(), "cut at {at}");
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            let changed: Cursor = String::from_utf8(changed).unwrap().parse().unwrap();
            assert!(changed.decode(filter).is_err(), "changed at {at}");
        }
        assert!(Cursor(text.to_uppercase()).decode(filter).is_err());
    }
}
