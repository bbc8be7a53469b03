//! A small strict JSON reader that knows where everything stands.
//!
//! It differs from `serde_json` in what a money store needs of a reader: every value keeps its exact text and its
//! offset, numbers stay text, a key that stands twice is an error, an object of any size is handed out entry by
//! entry, and every error names file, line, column and key.

use std::borrow::Cow;
use std::collections::HashSet;

use storage_core::{Error, Place, Result};

/// The deepest nesting that is read: `[[1]]` has two levels.
pub(crate) const MAX_DEPTH: usize = 128;
/// The longest number that is read, in characters.
pub(crate) const MAX_NUMBER: usize = 4096;
/// Objects with more keys than this look for repeated ones in a hash set.
const FEW_KEYS: usize = 16;

/// How strict the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// RFC 8259.
    Strict,
    /// Also `NaN`, `Infinity` and `-Infinity`, as Python writes them.
    Legacy,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node<'a> {
    /// What it is.
    pub(crate) value: NodeValue<'a>,
    /// Where it begins, in bytes from the start of the text after a BOM.
    pub(crate) offset: usize,
    /// Its exact text.
    pub(crate) raw: &'a str,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(crate) enum NodeValue<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as its text.
    Number(&'a str),
    /// `NaN`, `Infinity` or `-Infinity`, only in [`Dialect::Legacy`].
    NotFinite(&'a str),
    /// A text, without its escapes.
    String(Cow<'a, str>),
    /// A list.
    Array(Vec<Node<'a>>),
    /// An object, in the order of its text.
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

impl<'a> Node<'a> {
    /// The value of a key, when this is an object that has it.
    pub(crate) fn field(&self, name: &str) -> Option<&Node<'a>> {
        match &self.value {
            NodeValue::Object(fields) => fields.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }
    /// What kind of value this is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            NodeValue::Null => "null",
            NodeValue::Bool(_) => "a truth value",
            NodeValue::Number(_) => "a number",
            NodeValue::NotFinite(text) if *text == "NaN" => "NaN",
            NodeValue::NotFinite(_) => "Infinity",
            NodeValue::String(_) => "a text",
            NodeValue::Array(_) => "a list",
            NodeValue::Object(_) => "an object",
        }
    }
}

/// One JSON text and the name it goes by in errors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

impl<'a> Source<'a> {
    /// Strips a BOM and checks UTF-8.
    pub(crate) fn new(file: &'a str, bytes: &'a [u8]) -> Result<Self> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self { file, text }),
            Err(error) => {
                let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
                Err(Error::corrupt(place_after(file, before), "not UTF-8"))
            }
        }
    }
    /// The text, without a BOM.
    pub(crate) fn text(&self) -> &'a str {
        self.text
    }
    /// Reads the text's one value whole.
    pub(crate) fn document(&self, dialect: Dialect) -> Result<Node<'a>> {
        let mut parser = Parser::new(*self, dialect);
        parser.not_empty()?;
        let node = parser.value(0)?;
        parser.end()?;
        Ok(node)
    }
    /// Hands out the entries of the text's one object, each with its key's offset, as they are read.
    pub(crate) fn entries(
        &self,
        dialect: Dialect,
        each: &mut dyn FnMut(Cow<'a, str>, usize, Node<'a>) -> Result<()>,
    ) -> Result<()> {
        let mut parser = Parser::new(*self, dialect);
        parser.not_empty()?;
        if parser.peek() != Some(b'{') {
            let node = parser.value(0)?;
            return Err(parser.fail_at(node.offset, format!("an object is expected, not {}", node.kind())));
        }
        let mut seen = HashSet::new();
        parser.object(0, &mut |parser, key, offset, node| {
            if !seen.insert(key.clone()) {
                return Err(parser.repeated(&key, offset));
            }
            each(key, offset, node)
        })?;
        parser.end()
    }
    /// The place of an offset, lines and columns counted from 1, columns in bytes.
    pub(crate) fn place(&self, offset: usize, key: Option<&str>) -> Place {
        let before = self.text.as_bytes().get(..offset).unwrap_or(self.text.as_bytes());
        let place = place_after(self.file, before);
        match key {
            Some(key) => place.key(key),
            None => place,
        }
    }
}

/// The place right behind `before`.
fn place_after(file: &str, before: &[u8]) -> Place {
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let mut line = 1;
    for byte in before {
        line += u64::from(*byte == b'\n');
    }
    let column = u64::try_from(before.len() - line_start).unwrap_or(u64::MAX).saturating_add(1);
    Place::new(file).at(line, column)
}

/// Bytes that end a run of plain characters in a string.
const STOPS: [bool; 256] = {
    let mut stops = [false; 256];
    let mut control = 0;
    while control < 0x20 {
        stops[control] = true;
        control += 1;
    }
    stops[b'"' as usize] = true;
    stops[b'\\' as usize] = true;
    stops
};

/// What [`Parser::object`] does with each entry: parser, key, the key's offset, value.
type EachEntry<'e, 'a> = dyn FnMut(&Parser<'a>, Cow<'a, str>, usize, Node<'a>) -> Result<()> + 'e;

struct Parser<'a> {
    source: Source<'a>,
    bytes: &'a [u8],
    at: usize,
    dialect: Dialect,
    /// The key of the outermost object that is being read, for errors.
    key: Option<Cow<'a, str>>,
}

impl<'a> Parser<'a> {
    fn new(source: Source<'a>, dialect: Dialect) -> Self {
        let mut parser = Self { source, bytes: source.text.as_bytes(), at: 0, dialect, key: None };
        parser.space();
        parser
    }
    fn fail_at(&self, offset: usize, problem: impl Into<Cow<'static, str>>) -> Error {
        Error::corrupt(self.source.place(offset, self.key.as_deref()), problem)
    }
    fn fail(&self, expected: &str) -> Error {
        let found = match self.source.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            None => "the text ends".to_owned(),
            Some(found) => format!("{found:?} stands"),
        };
        self.fail_at(self.at, format!("{found} where {expected} is expected"))
    }
    fn repeated(&self, key: &str, offset: usize) -> Error {
        self.fail_at(offset, format!("the key {key:?} stands twice"))
    }
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
    fn slice(&self, from: usize) -> &'a str {
        self.source.text.get(from..self.at).unwrap_or_default()
    }
    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }
    fn not_empty(&self) -> Result<()> {
        if self.peek().is_none() { Err(self.fail_at(0, "the file is empty")) } else { Ok(()) }
    }
    fn end(&mut self) -> Result<()> {
        self.key = None;
        self.space();
        if self.peek().is_some() { Err(self.fail("the end of the file")) } else { Ok(()) }
    }

    fn value(&mut self, depth: usize) -> Result<Node<'a>> {
        let offset = self.at;
        let value = match self.peek() {
            Some(b'"') => NodeValue::String(self.string()?),
            Some(b'{') => {
                let mut fields: Vec<(Cow<'a, str>, Node<'a>)> = Vec::new();
                let mut many = HashSet::new();
                self.object(depth, &mut |parser, key, offset, node| {
                    if fields.len() == FEW_KEYS {
                        many.extend(fields.iter().map(|(key, _)| key.clone()));
                    }
                    let fresh = if fields.len() < FEW_KEYS {
                        fields.iter().all(|(known, _)| *known != key)
                    } else {
                        many.insert(key.clone())
                    };
                    if !fresh {
                        return Err(parser.repeated(&key, offset));
                    }
                    fields.push((key, node));
                    Ok(())
                })?;
                NodeValue::Object(fields)
            }
            Some(b'[') => NodeValue::Array(self.array(depth)?),
            Some(b'-' | b'0'..=b'9') if !(self.lenient() && self.starts("-Infinity")) => {
                NodeValue::Number(self.number()?)
            }
            Some(b't') => self.word("true", |_| NodeValue::Bool(true))?,
            Some(b'f') => self.word("false", |_| NodeValue::Bool(false))?,
            Some(b'n') => self.word("null", |_| NodeValue::Null)?,
            Some(b'N') if self.lenient() => self.word("NaN", NodeValue::NotFinite)?,
            Some(b'I') if self.lenient() => self.word("Infinity", NodeValue::NotFinite)?,
            Some(b'-') => self.word("-Infinity", NodeValue::NotFinite)?,
            _ => return Err(self.fail("a value")),
        };
        Ok(Node { value, offset, raw: self.slice(offset) })
    }

    fn lenient(&self) -> bool {
        self.dialect == Dialect::Legacy
    }
    fn starts(&self, word: &str) -> bool {
        self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes()))
    }
    fn word(&mut self, word: &'static str, make: impl FnOnce(&'a str) -> NodeValue<'a>) -> Result<NodeValue<'a>> {
        if !self.starts(word) {
            return Err(self.fail("a value"));
        }
        let from = self.at;
        self.at += word.len();
        Ok(make(self.slice(from)))
    }

    fn deeper(&self, depth: usize) -> Result<usize> {
        if depth < MAX_DEPTH { Ok(depth + 1) } else { Err(self.fail_at(self.at, "nested more than 128 levels deep")) }
    }

    fn array(&mut self, depth: usize) -> Result<Vec<Node<'a>>> {
        let depth = self.deeper(depth)?;
        let mut items = Vec::new();
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(items);
        }
        loop {
            items.push(self.value(depth)?);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(items);
                }
                _ => return Err(self.fail("a comma or ]")),
            }
            self.space();
        }
    }

    fn object(&mut self, depth: usize, each: &mut EachEntry<'_, 'a>) -> Result<()> {
        let depth = self.deeper(depth)?;
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            let offset = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.fail("a key"));
            }
            let key = self.string()?;
            if depth == 1 {
                self.key = Some(key.clone());
            }
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.fail("a colon"));
            }
            self.at += 1;
            self.space();
            let node = self.value(depth)?;
            each(self, key, offset, node)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.fail("a comma or }")),
            }
            self.space();
        }
    }

    fn digits(&mut self) -> Result<()> {
        let from = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == from { Err(self.fail("a digit")) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<&'a str> {
        let from = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = self.slice(from);
        if text.len() > MAX_NUMBER {
            Err(self.fail_at(from, "a number of more than 4096 characters"))
        } else {
            Ok(text)
        }
    }

    /// Moves on to the next byte that is not a plain character of a string.
    fn plain(&mut self) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at += rest.iter().position(|byte| STOPS[usize::from(*byte)]).unwrap_or(rest.len());
    }

    fn string(&mut self) -> Result<Cow<'a, str>> {
        self.at += 1;
        let mut from = self.at;
        self.plain();
        if self.peek() == Some(b'"') {
            let text = self.slice(from);
            self.at += 1;
            return Ok(Cow::Borrowed(text));
        }
        let mut owned = String::new();
        loop {
            owned.push_str(self.slice(from));
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(owned));
                }
                Some(b'\\') => owned.push(self.escape()?),
                Some(_) => return Err(self.fail_at(self.at, "a control character stands unescaped in a text")),
                None => return Err(self.fail_at(self.at, "the file ends inside a text")),
            }
            from = self.at;
            self.plain();
        }
    }

    fn escape(&mut self) -> Result<char> {
        let from = self.at;
        let letter = self.bytes.get(self.at + 1).copied();
        self.at += 2;
        Ok(match letter {
            Some(plain @ (b'"' | b'\\' | b'/')) => char::from(plain),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.hex(from)?;
                let code = if (0xD800..0xDC00).contains(&first) && self.starts("\\u") {
                    self.at += 2;
                    let second = self.hex(from)?;
                    if !(0xDC00..0xE000).contains(&second) {
                        return Err(self.fail_at(from, "half a surrogate pair stands alone in a text"));
                    }
                    0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)
                } else {
                    first
                };
                char::from_u32(code)
                    .ok_or_else(|| self.fail_at(from, "half a surrogate pair stands alone in a text"))?
            }
            _ => return Err(self.fail_at(from, "a text holds an escape that JSON does not have")),
        })
    }

    fn hex(&mut self, escape: usize) -> Result<u32> {
        let digits =
            self.source.text.get(self.at..self.at + 4).filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
        let code = digits.and_then(|text| u32::from_str_radix(text, 16).ok());
        self.at += 4;
        code.ok_or_else(|| self.fail_at(escape, "a text holds \\u without four hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests;
