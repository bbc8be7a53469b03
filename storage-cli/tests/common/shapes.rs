//! What is in JSON objects, learned from objects, and told as a document.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use regex::Regex;
use serde_json::Value;

/// What was seen in one place.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    /// How often.
    times: usize,
    null: bool,
    scalars: std::collections::BTreeSet<&'static str>,
    fields: BTreeMap<String, Shape>,
    /// The names of an object's fields are data.
    names: Option<&'static str>,
    items: Option<Box<Shape>>,
    values: Option<Box<Shape>>,
}

/// Objects whose fields are named by what they count.
const MAPS: [(&str, &str); 3] = [("counts", "kind of record"), ("steps", "kind of step"), ("plan", "what it is about")];

fn scalar(text: &str) -> &'static str {
    let is = |pattern: &str| Regex::new(pattern).unwrap().is_match(text);
    if is(r"^[+-]\d+\.\d{2,6}$") {
        "change of money"
    } else if is(r"^\d+\.\d{2,6}$") {
        "money"
    } else if is(r"^\d{4}-\d\d-\d\dT[\d:.]+Z$") {
        "time"
    } else if is(r"^\d{4}-\d\d-\d\d$") {
        "day"
    } else {
        "text"
    }
}

impl Shape {
    pub(crate) fn see(&mut self, value: &Value) {
        self.see_as("", value);
    }

    fn see_as(&mut self, name: &str, value: &Value) {
        self.times += 1;
        match value {
            Value::Null => self.null = true,
            Value::Bool(_) => drop(self.scalars.insert("yes or no")),
            Value::Number(number) => {
                assert!(number.is_i64() || number.is_u64(), "{name}: {number} is not whole");
                self.scalars.insert("number");
            }
            Value::String(text) => drop(self.scalars.insert(scalar(text))),
            Value::Array(items) => {
                let shape = self.items.get_or_insert_default();
                for item in items {
                    shape.see_as("", item);
                }
            }
            Value::Object(fields) => {
                let map = MAPS.iter().find(|(map, _)| *map == name);
                if let Some((_, of)) = map {
                    self.names = Some(of);
                    let shape = self.values.get_or_insert_default();
                    fields.values().for_each(|value| shape.see_as("", value));
                } else if name == "params" {
                    self.scalars.insert("any JSON");
                } else {
                    for (name, value) in fields {
                        self.fields.entry(name.clone()).or_default().see_as(name, value);
                    }
                    // What is told of an object without fields is that it is one.
                    self.values.get_or_insert_default();
                }
            }
        }
    }

    fn word(&self) -> String {
        let mut words: Vec<String> = self.scalars.iter().map(|word| (*word).to_owned()).collect();
        if let Some(items) = &self.items {
            let of = if items.times == 0 { "…".to_owned() } else { items.word() };
            words.push(format!("list of {of}"));
        }
        if let (Some(of), Some(values)) = (self.names, &self.values) {
            words.push(format!("object: {of} → {}", if values.times == 0 { "…".to_owned() } else { values.word() }));
        } else if !self.fields.is_empty() {
            words.push("object".to_owned());
        }
        if self.null {
            words.push("null".to_owned());
        }
        words.join(" or ")
    }

    fn rows(&self, path: &str, page: &mut String) {
        for (name, shape) in &self.fields {
            let path = format!("{path}{name}");
            let rare = if shape.times < self.objects() { ", or not there" } else { "" };
            let _ = writeln!(page, "| `{path}` | {}{rare} |", shape.word());
            shape.rows(&format!("{path}."), page);
            if let Some(items) = &shape.items {
                items.rows(&format!("{path}[]."), page);
            }
        }
    }

    /// How many of the values seen here were objects.
    fn objects(&self) -> usize {
        self.times - usize::from(self.null).min(self.times)
    }
}

/// The document.
pub(crate) fn document(seen: &BTreeMap<String, Shape>) -> String {
    let mut page = "# What `--json` answers

Made by `storage-cli/tests/transcripts.rs` from what the commands answered in its transcripts; a test compares it, and
`UPDATE_DOCS=1 cargo test -p storage-cli --test transcripts` writes it anew.

Stdout gets exactly one object on one line. Fields may be added in later versions; none is renamed, removed or given another type within a major
version. *Money* is text with 2 to 6 decimals, a *change of money* has its sign before it, a *time* is RFC 3339 in UTC, a *day* is a date, a
*number* is whole; users are numbers of 64 bits. *Null* is there and says nothing; *not there* is left out. `a.b` is the field `b` of the object `a`, `a[].b`
that of each item of the list `a`. The records in a list of `payments`, `jobs`, `history` or a statement are those of a dump ([moving-data.md](moving-data.md)).
"
    .to_owned();
    for (command, shape) in seen {
        let _ = writeln!(page, "\n## {command}\n\n| field | |\n| --- | --- |");
        shape.rows("", &mut page);
    }
    page
}
