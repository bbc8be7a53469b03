//! One row that is being read: its columns as values, or why it is refused.

use std::borrow::Cow;
use std::error::Error as _;
use std::fmt::Display;
use std::sync::Arc;

use storage_core::legacy::rounded_money;
use storage_core::{ErrorKind, Money, Params, ResultUrls, TimeZone, Timestamp, UserId};
use tokio_postgres::Row;

use super::report::AdoptedRounding;
use super::tables::Table;

/// Why a row is refused.
pub(super) struct Reason(pub(super) String);

/// A column or a record, or why it is refused.
pub(super) type Read<T> = Result<T, Reason>;

/// A rule of a column that is broken.
pub(super) fn broken<T>(column: &str, rule: impl Display) -> Read<T> {
    Err(Reason(format!("{column}: {rule}")))
}

/// Names the column that breaks a rule of `storage-core`.
pub(super) fn ruled<T>(column: &str, value: storage_core::Result<T>) -> Read<T> {
    value.map_err(|error| {
        let cause = error.source().map_or_else(String::new, |cause| format!(" ({cause})"));
        match error.kind() {
            ErrorKind::InvalidInput { rule, .. } => Reason(format!("{column}: {rule}{cause}")),
            _ => Reason(format!("{column}: {error}{cause}")),
        }
    })
}

/// Long values are shown by their beginning.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(60) {
        Some((end, _)) => Cow::Owned(format!("{}...", text.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

/// A row that is being read, and what reading it brought up.
pub(super) struct Entry<'r> {
    pub(super) table: &'static Table,
    pub(super) row: &'r Row,
    pub(super) key: Arc<str>,
    pub(super) zone: &'r TimeZone,
    pub(super) now: Timestamp,
    pub(super) roundings: Vec<AdoptedRounding>,
    pub(super) notes: Vec<Cow<'static, str>>,
}

impl<'r> Entry<'r> {
    pub(super) fn new(table: &'static Table, row: &'r Row, zone: &'r TimeZone, now: Timestamp) -> Self {
        let part = |at| row.try_get::<_, Option<&str>>(at).map(|part| part.unwrap_or("NULL"));
        let parts: Vec<&str> = (0..table.key.len()).map(|at| part(at).unwrap_or("?")).collect();
        Self { table, row, key: parts.join("/").into(), zone, now, roundings: Vec::new(), notes: Vec::new() }
    }
    /// Something that an operator should know if the record is good.
    pub(super) fn note(&mut self, note: impl Into<Cow<'static, str>>) {
        self.notes.push(note.into());
    }

    /// A column; NULL and the empty text stand for nothing.
    pub(super) fn text(&self, column: &str) -> Read<Option<&'r str>> {
        let at = self.table.columns().position(|known| known == column).unwrap_or(usize::MAX);
        match self.row.try_get::<_, Option<&str>>(at) {
            Ok(text) => Ok(text.filter(|text| !text.is_empty())),
            Err(_) => broken(column, "cannot be read as text"),
        }
    }
    pub(super) fn needed(&self, column: &str) -> Read<&'r str> {
        self.text(column)?.map_or_else(|| broken(column, "is missing"), Ok)
    }
    pub(super) fn user(&self, column: &str) -> Read<UserId> {
        let text = self.needed(column)?;
        let user: UserId = ruled(column, text.parse())?;
        // A fork's column may be text, in which one user could stand twice.
        if user.to_string() == text { Ok(user) } else { broken(column, "must have no sign and no zeros in front") }
    }
    pub(super) fn flag(&self, column: &str) -> Read<Option<bool>> {
        match self.text(column)? {
            None => Ok(None),
            Some("true" | "t" | "1") => Ok(Some(true)),
            Some("false" | "f" | "0") => Ok(Some(false)),
            Some(other) => broken(column, format_args!("must be true or false, not {:?}", shown(other))),
        }
    }
    /// A count; one that is missing is 0.
    pub(super) fn whole(&self, column: &str) -> Read<u64> {
        match self.text(column)?.map_or(Ok(0), str::parse::<i64>) {
            Ok(number) => u64::try_from(number).or_else(|_| broken(column, "must not be negative")),
            Err(_) => broken(column, "must be a whole number"),
        }
    }
    /// Money as it stands, rounded to six decimals where there are more.
    pub(super) fn money_of(&mut self, column: &str, text: &str) -> Read<Money> {
        if matches!(text, "NaN" | "Infinity" | "-Infinity") {
            return broken(column, format_args!("must be a finite number, not {text}"));
        }
        let (money, rounded) = ruled(column, rounded_money(text))?;
        if rounded {
            let (table, key, from) = (self.table.name, self.key.to_string(), shown(text).into_owned());
            self.roundings.push(AdoptedRounding { table, key, from, to: money });
        }
        Ok(money)
    }
    pub(super) fn money(&mut self, column: &str) -> Read<Option<Money>> {
        self.text(column)?.map(|text| self.money_of(column, text)).transpose()
    }
    /// A price; a row without one was free.
    pub(super) fn price(&mut self, price: Option<Money>) -> Money {
        if price.is_none() {
            self.note("no price: 0 was put in");
        }
        price.unwrap_or_default()
    }
    /// A time that may be missing.
    pub(super) fn time(&self, column: &str) -> Read<Option<Timestamp>> {
        let Some(text) = self.text(column)? else { return Ok(None) };
        let naive = |text: &str| text.replacen(' ', "T", 1);
        let time = match text.strip_suffix("+00") {
            Some(utc) => Timestamp::from_naive_iso(&naive(utc)),
            // A sign or a Z behind the date is a zone.
            None if text.get(10..).is_some_and(|time| time.contains(['Z', '+', '-'])) => text.parse(),
            None => self.zone.moment_of(&naive(text)),
        };
        match time {
            Ok(time) => Ok(Some(time)),
            Err(_) => broken(column, format_args!("must be a time in the years 1970 to 9999, not {:?}", shown(text))),
        }
    }
    /// The moment of a row: when it was made, else when it changed, else the present.
    pub(super) fn created(&mut self, changed: Option<Timestamp>) -> Read<Timestamp> {
        if let Some(created) = self.time("created_at")? {
            return Ok(created);
        }
        self.note(match changed {
            Some(_) => "no created_at: updated_at was taken",
            None => "no created_at: the time of this reading was taken",
        });
        Ok(changed.unwrap_or(self.now))
    }
    /// The results of a row: a list as JSON, or a single plain URL.
    pub(super) fn urls(&self, column: &str) -> Read<ResultUrls> {
        let Some(text) = self.text(column)? else { return Ok(ResultUrls::default()) };
        // A list that was put into JSON twice is a text that holds it.
        let inner = if text.starts_with('"') { json_text(text) } else { None };
        let text = inner.as_deref().unwrap_or(text);
        let urls = if text.starts_with('[') {
            json_texts(text)
        } else if text.is_empty() || text == "null" {
            Some(Vec::new())
        } else {
            // No URL is JSON; a number or an object is neither a list nor a URL.
            Params::from_json(text).is_err().then(|| vec![text.to_owned()])
        };
        match urls {
            Some(urls) => ruled(column, ResultUrls::new(urls)),
            None => broken(column, "must be a list of texts"),
        }
    }
}

/// A text in JSON.
pub(super) fn json_text(json: &str) -> Option<String> {
    Params::from_json(json).ok()?.to_value().ok()?.as_str().map(str::to_owned)
}

/// A list of texts in JSON. Text by text: a whole list may be longer than parameters may.
pub(super) fn json_texts(json: &str) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    let mut rest = json.trim().strip_prefix('[')?.trim_start();
    if rest == "]" {
        return Some(texts);
    }
    loop {
        let mut escaped = false;
        let end = rest.bytes().skip(1).position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        })?;
        let (text, behind) = rest.split_at_checked(end + 2)?;
        texts.push(json_text(text)?);
        let behind = behind.trim_start();
        if behind == "]" {
            return Some(texts);
        }
        rest = behind.strip_prefix(',')?.trim_start();
    }
}

/// The parameters that a text holds: an object, whole and within the limits.
pub(super) fn json_object(text: &str) -> Option<Params> {
    text.trim_start().starts_with('{').then(|| Params::from_json(text).ok()).flatten()
}
