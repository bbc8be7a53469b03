//! One record of a file: its fields, read strictly, each error naming file, line, column and key.

use std::borrow::Cow;
use std::str::FromStr;

use storage_core::{Error, Money, Params, Result, ResultUrls, Timestamp, UserId};

use crate::json_text::{Node, NodeValue, Source};

/// Where a record stands, for errors.
#[derive(Clone, Copy)]
pub(super) struct At<'s, 'a> {
    pub(super) source: &'s Source<'a>,
    pub(super) key: &'s str,
}

impl<'s, 'a> At<'s, 'a> {
    pub(super) fn fail(&self, offset: usize, problem: impl Into<Cow<'static, str>>) -> Error {
        Error::corrupt(self.source.place(offset, Some(self.key)), problem)
    }
    fn rule(&self, offset: usize, error: &Error) -> Error {
        self.fail(offset, error.to_string())
    }
    /// The record's key as a user.
    pub(super) fn user(&self, offset: usize) -> Result<UserId> {
        let user: UserId = self.key.parse().map_err(|error: Error| self.rule(offset, &error))?;
        // Written in two ways, a user could stand twice, and one of the two entries would be lost.
        if user.to_string() != self.key {
            return Err(self.fail(offset, format!("the user must be written as {user}")));
        }
        Ok(user)
    }
    pub(super) fn text<'n>(&self, node: &'n Node<'a>) -> Result<&'n str> {
        match &node.value {
            NodeValue::String(text) => Ok(text),
            _ => Err(self.fail(node.offset, format!("text is expected, not {}", node.kind()))),
        }
    }
    pub(super) fn number(&self, node: &Node<'a>) -> Result<&'a str> {
        match node.value {
            NodeValue::Number(text) => Ok(text),
            _ => Err(self.fail(node.offset, format!("a number is expected, not {}", node.kind()))),
        }
    }
    pub(super) fn parsed<T: FromStr<Err = Error>>(&self, node: &Node<'a>) -> Result<T> {
        self.text(node)?.parse().map_err(|error: Error| self.rule(node.offset, &error))
    }
    pub(super) fn counted<T: FromStr>(&self, node: &Node<'a>) -> Result<T> {
        let problem = "a whole number in range is expected";
        self.number(node)?.parse().map_err(|_| self.fail(node.offset, problem))
    }
    pub(super) fn numeric<T: FromStr<Err = Error>>(&self, node: &Node<'a>) -> Result<T> {
        self.number(node)?.parse().map_err(|error: Error| self.rule(node.offset, &error))
    }
    pub(super) fn money(&self, node: &Node<'a>) -> Result<Money> {
        self.numeric(node)
    }
    pub(super) fn time(&self, node: &Node<'a>) -> Result<Timestamp> {
        Timestamp::from_naive_iso(self.text(node)?).map_err(|error| self.rule(node.offset, &error))
    }
    pub(super) fn urls(&self, node: &Node<'a>) -> Result<ResultUrls> {
        let NodeValue::Array(items) = &node.value else {
            return Err(self.fail(node.offset, format!("a list is expected, not {}", node.kind())));
        };
        let texts = items.iter().map(|item| self.text(item)).collect::<Result<Vec<_>>>()?;
        ResultUrls::new(texts).map_err(|error| self.rule(node.offset, &error))
    }
    pub(super) fn params(&self, node: &Node<'a>) -> Result<Params> {
        Params::from_json(node.raw).map_err(|error| self.rule(node.offset, &error))
    }
    /// The record's fields; a field that nobody knows is an error, because it would be lost.
    pub(super) fn fields<'n>(&self, node: &'n Node<'a>, known: &[&str]) -> Result<Fields<'s, 'n, 'a>> {
        let NodeValue::Object(fields) = &node.value else {
            return Err(self.fail(node.offset, format!("an object is expected, not {}", node.kind())));
        };
        if let Some((name, field)) = fields.iter().find(|(name, _)| !known.contains(&name.as_ref())) {
            return Err(self.fail(field.offset, format!("the field {name:?} is unknown here; remove it")));
        }
        Ok(Fields { at: *self, node })
    }
}

/// The fields of one record.
pub(super) struct Fields<'s, 'n, 'a> {
    at: At<'s, 'a>,
    node: &'n Node<'a>,
}

impl<'s, 'n, 'a> Fields<'s, 'n, 'a> {
    pub(super) fn needed<T>(&self, name: &str, read: impl FnOnce(&At<'s, 'a>, &'n Node<'a>) -> Result<T>) -> Result<T> {
        match self.node.field(name) {
            Some(node) => read(&self.at, node),
            None => Err(self.at.fail(self.node.offset, format!("the field {name:?} is missing"))),
        }
    }
    /// Where a field stands; `None` when it is absent.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.node.field(name).map(|node| node.offset)
    }
    pub(super) fn fail(&self, offset: usize, problem: impl Into<Cow<'static, str>>) -> Error {
        self.at.fail(offset, problem)
    }
    /// `None` when the field is absent or null.
    pub(super) fn optional<T>(
        &self,
        name: &str,
        read: impl FnOnce(&At<'s, 'a>, &'n Node<'a>) -> Result<T>,
    ) -> Result<Option<T>> {
        match self.node.field(name).filter(|node| !matches!(node.value, NodeValue::Null)) {
            Some(node) => read(&self.at, node).map(Some),
            None => Ok(None),
        }
    }
}
