//! Reading the fields of one record: money, times, ids, texts. Everything strict, and everything by name.

use std::borrow::Cow;
use std::error::Error as _;

use storage_core::legacy::rounded_money;
use storage_core::{Error, ErrorKind, Money, Params, ResultUrls, TimeZone, Timestamp, UserId};

use super::report::RoundedMoney;
use super::source_files::LegacyFile;
use crate::json_text::{Node, NodeValue};

/// Why a record is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reason(pub(super) String);

/// A field or a record, or why it is refused.
pub(super) type Read<T> = std::result::Result<T, Reason>;

/// A rule of a field that is broken.
pub(super) fn broken<T>(field: &str, rule: impl std::fmt::Display) -> Read<T> {
    Err(Reason(format!("{field}: {rule}")))
}

/// Names the field that breaks a rule of `storage-core`.
pub(super) fn ruled<T>(field: &str, value: Result<T, Error>) -> Read<T> {
    value.map_err(|error| {
        let cause = error.source().map_or_else(String::new, |cause| format!(" ({cause})"));
        match error.kind() {
            ErrorKind::InvalidInput { rule, .. } => Reason(format!("{field}: {rule}{cause}")),
            _ => Reason(format!("{field}: {error}{cause}")),
        }
    })
}

/// A user's id as it stands in a key: decimal digits and nothing else.
pub(super) fn user_from(field: &str, text: &str) -> Read<UserId> {
    let user = ruled(field, text.parse::<UserId>())?;
    if user.to_string() == text {
        Ok(user)
    } else {
        broken(field, "must be a whole number without a sign or zeros in front")
    }
}

/// Long values are shown by their beginning.
fn shown(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(60) {
        Some((end, _)) => Cow::Owned(format!("{}...", text.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

fn not<T>(field: &str, expected: &str, node: &Node<'_>) -> Read<T> {
    broken(field, format_args!("must be {expected}, not {}", node.kind()))
}

/// A record that is being read, and what reading it brought up.
pub(super) struct Attempt<'f> {
    pub(super) file: &'f LegacyFile,
    pub(super) key: &'f str,
    pub(super) zone: &'f TimeZone,
    pub(super) roundings: Vec<RoundedMoney>,
    pub(super) notes: Vec<Cow<'static, str>>,
}

impl<'f> Attempt<'f> {
    pub(super) fn new(file: &'f LegacyFile, key: &'f str, zone: &'f TimeZone) -> Self {
        Self { file, key, zone, roundings: Vec::new(), notes: Vec::new() }
    }
    /// Something that an operator should know if the record is good.
    pub(super) fn note(&mut self, note: impl Into<Cow<'static, str>>) {
        self.notes.push(note.into());
    }

    /// Money from a number or from text that is one, rounded to six decimals.
    pub(super) fn money(&mut self, field: &str, node: &Node<'_>) -> Read<Money> {
        let text: &str = match &node.value {
            NodeValue::Number(text) => text,
            NodeValue::String(text) if !text.starts_with("--") => text,
            NodeValue::NotFinite(text) => return broken(field, format_args!("must be a finite number, not {text}")),
            _ => return not(field, "a number", node),
        };
        let (money, rounded) = ruled(field, rounded_money(text))?;
        if rounded {
            let (file, key) = (self.file.name.to_string(), self.key.to_owned());
            self.roundings.push(RoundedMoney { file, key, from: shown(text).into_owned(), to: money });
        }
        Ok(money)
    }
    /// Money that may be missing.
    pub(super) fn optional_money(&mut self, record: &Node<'_>, field: &str) -> Read<Option<Money>> {
        present(record, field).map(|node| self.money(field, node)).transpose()
    }
    /// The price of a record; one without a price was free.
    pub(super) fn price(&mut self, record: &Node<'_>) -> Read<Money> {
        let price = self.optional_money(record, "price")?;
        if price.is_none() {
            self.note("no price: 0 was put in");
        }
        Ok(price.unwrap_or_default())
    }
    /// The parameters of a record; one without gets an empty object.
    pub(super) fn params(&mut self, record: &Node<'_>) -> Read<Params> {
        if let Some(node) = present(record, "params") {
            return ruled("params", Params::from_json(node.raw));
        }
        let from_prompt = match present(record, "prompt").map(|node| &node.value) {
            Some(NodeValue::String(prompt)) => Some(serde_json::json!({ "prompt": prompt })),
            _ => None,
        };
        self.note(if from_prompt.is_some() { "no params: the prompt was put in" } else { "no params: {} was put in" });
        ruled("params", Params::new(&from_prompt.unwrap_or_else(|| serde_json::json!({}))))
    }

    /// The moment of a record: the first of its `primary` times, else one of its `other` ones, else the file's.
    pub(super) fn moment(&mut self, record: &Node<'_>, primary: &[&str], other: &[&str]) -> Read<Timestamp> {
        let mut missing = primary.iter().find(|field| record.field(field).is_some_and(is_nothing)).copied();
        for (position, field) in primary.iter().chain(other).enumerate() {
            let Some(moment) = self.time(record, field)? else { continue };
            if position >= primary.len() {
                missing = missing.or(primary.first().copied());
            }
            if let Some(missing) = missing {
                self.note(format!("no {missing}: {field} was taken"));
            }
            return Ok(moment);
        }
        let missing = missing.or(primary.first().copied()).unwrap_or("time");
        self.note(format!("no {missing}: the file's own time was taken"));
        Ok(self.file.modified)
    }
    /// A time that may be missing. Numbers count seconds since 1970, in fields named `*_ms` milliseconds.
    pub(super) fn time(&self, record: &Node<'_>, field: &str) -> Read<Option<Timestamp>> {
        let Some(node) = present(record, field) else { return Ok(None) };
        match &node.value {
            NodeValue::Number(text) if field.ends_with("_ms") && !text.contains(['e', 'E']) => {
                since_1970(field, &format!("{text}e-3"))
            }
            NodeValue::Number(text) => since_1970(field, text),
            NodeValue::String(text) if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => {
                since_1970(field, text)
            }
            NodeValue::String(text) => {
                // A sign or a Z behind the date is a zone; without this look it would be passed over.
                let zoned = text.get(10..).is_some_and(|time| time.contains(['Z', 'z', '+', '-']));
                ruled(field, if zoned { text.parse() } else { self.zone.moment_of(text) })
            }
            _ => not(field, "a time", node),
        }
        .map(Some)
    }
}

/// Decimal seconds since 1970. Money has the same six decimals and more than enough range.
fn since_1970(field: &str, seconds: &str) -> Read<Timestamp> {
    match rounded_money(seconds) {
        Ok((seconds, _)) => ruled(field, Timestamp::from_micros(seconds.micros())),
        Err(_) => broken(field, "must be in the years 1970 to 9999"),
    }
}

/// `null` and the empty text stand for nothing.
pub(super) fn is_nothing(node: &Node<'_>) -> bool {
    match &node.value {
        NodeValue::Null => true,
        NodeValue::String(text) => text.is_empty(),
        _ => false,
    }
}

/// A field that is there and is not nothing.
pub(super) fn present<'n, 'a>(record: &'n Node<'a>, field: &str) -> Option<&'n Node<'a>> {
    record.field(field).filter(|node| !is_nothing(node))
}

/// The record is an object, or refused.
pub(super) fn object(node: &Node<'_>) -> Read<()> {
    match &node.value {
        NodeValue::Object(_) => Ok(()),
        _ => not("record", "an object", node),
    }
}

/// The entries of a list.
pub(super) fn list<'n, 'a>(field: &str, node: &'n Node<'a>) -> Read<&'n [Node<'a>]> {
    match &node.value {
        NodeValue::Array(items) => Ok(items),
        _ => not(field, "a list", node),
    }
}

/// A text; a number counts as its text.
fn as_text<'n>(field: &str, node: &'n Node<'_>) -> Read<&'n str> {
    match &node.value {
        NodeValue::String(text) => Ok(text),
        NodeValue::Number(text) => Ok(text),
        _ => not(field, "a text", node),
    }
}

/// A text that may be missing.
pub(super) fn text<'n>(record: &'n Node<'_>, field: &str) -> Read<Option<&'n str>> {
    present(record, field).map(|node| as_text(field, node)).transpose()
}

/// The first of several texts that is there.
pub(super) fn first_text<'n>(record: &'n Node<'_>, fields: &[&str]) -> Read<Option<&'n str>> {
    for field in fields {
        if let Some(found) = text(record, field)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// A user's id, from a number or a text.
pub(super) fn user_of(field: &str, node: &Node<'_>) -> Read<UserId> {
    as_text(field, node).and_then(|text| user_from(field, text))
}

/// The user whom a record names.
pub(super) fn owner(record: &Node<'_>) -> Read<UserId> {
    match present(record, "user_id") {
        Some(node) => user_of("user_id", node),
        None => broken("user_id", "is missing"),
    }
}

/// A count: a whole number, `5.0` included.
pub(super) fn whole(field: &str, node: &Node<'_>) -> Read<u64> {
    let text: &str = match &node.value {
        NodeValue::Number(text) => text,
        NodeValue::String(text) if !text.starts_with("--") => text,
        _ => return not(field, "a whole number", node),
    };
    if let Ok(count) = text.parse() {
        return Ok(count);
    }
    let (count, residue) = ruled(field, rounded_money(text))?;
    match u64::try_from(count.micros()) {
        Ok(micros) if !residue && micros % 1_000_000 == 0 => Ok(micros / 1_000_000),
        _ => broken(field, "must be a whole number"),
    }
}

/// The URLs of a record: a list, or a single one under `result_url`.
pub(super) fn urls(record: &Node<'_>) -> Read<ResultUrls> {
    let mut urls = Vec::new();
    if let Some(node) = present(record, "result_urls") {
        for item in list("result_urls", node)? {
            match &item.value {
                NodeValue::String(url) => urls.push(url.to_string()),
                _ => return not("result_urls", "a list of texts", item),
            }
        }
    }
    if urls.is_empty() {
        urls.extend(text(record, "result_url")?.map(str::to_owned));
    }
    ruled("result_urls", ResultUrls::new(urls))
}

/// Refuses a record whose own id is not the key it stands under: it would come in once under each.
pub(super) fn same_id(key: &str, node: &Node<'_>, name: &'static str) -> Read<()> {
    match text(node, name)? {
        Some(id) if id != key => broken(name, format_args!("is {id:?}, but the record stands under {key:?}")),
        _ => Ok(()),
    }
}
