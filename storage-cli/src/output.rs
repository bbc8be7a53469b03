//! Printing: the only place that writes to stdout and stderr.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};

use serde::Serialize;
use storage_core::{Page, Timestamp};

use crate::exit::{Exit, Failure};

/// Where and how a command prints.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) json: bool,
    colour: bool,
}

impl Output {
    pub(crate) fn new(json: bool, environment: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let unwanted = environment("NO_COLOR").is_some_and(|value| !value.is_empty())
            || environment("TERM").is_some_and(|value| value == "dumb");
        Self { json, colour: !json && !unwanted && std::io::stdout().is_terminal() }
    }

    /// Answers: one JSON object, or the text.
    pub(crate) fn answer(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if !self.json {
            return to_stdout(&text());
        }
        let object = serde_json::to_string(value)
            .map_err(|error| Failure::io("the answer could not be written as JSON", error.into()))?;
        to_stdout(&object)
    }

    /// Prints a line of data that is complete in itself. Silent with `--json`, whose one object comes last.
    pub(crate) fn line(&self, text: &str) -> Result<(), Failure> {
        if self.json { Ok(()) } else { to_stdout(text) }
    }

    /// Answers a page of a list: one JSON object, or the table and how to go on.
    pub(crate) fn page<T: Serialize>(
        &self,
        page: &Page<T>,
        what: &str,
        table: impl FnOnce() -> Table,
    ) -> Result<(), Failure> {
        self.answer(page, || if page.items.is_empty() { format!("no {what}") } else { table().to_text("") })?;
        if !self.json {
            self.more(page.next.as_ref());
        }
        Ok(())
    }

    /// Says how to see the next page.
    pub(crate) fn more(&self, next: Option<&storage_core::Cursor>) {
        if let Some(next) = next {
            self.note(&format!("more: the same command with --after {next}"));
        }
    }

    /// Prints beside the data: plans, warnings. A stderr that is gone changes nothing.
    #[expect(clippy::unused_self, reason = "one way to print")]
    pub(crate) fn note(&self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// Prints a question, without a new line.
    #[expect(clippy::unused_self, reason = "one way to print")]
    pub(crate) fn question(&self, text: &str) {
        let mut stderr = std::io::stderr().lock();
        let _ = write!(stderr, "{text}").and_then(|()| stderr.flush());
    }

    /// Prints why a command failed, and gives its exit code.
    pub(crate) fn failure(&self, failure: &Failure) -> Exit {
        if matches!(failure, Failure::ReaderGone) {
            return failure.exit();
        }
        let report = failure.report();
        if self.json {
            let object = serde_json::json!({ "error": report });
            if self.answer(&object, String::new).is_err() {
                self.note(&object.to_string());
            }
        } else {
            self.note(&format!("error: {}\ntry: {}", report.message, report.advice));
        }
        failure.exit()
    }

    /// A word that is good news.
    pub(crate) fn good<'a>(&self, word: &'a str) -> Cow<'a, str> {
        self.painted(word, "32")
    }
    /// A word that is bad news.
    pub(crate) fn bad<'a>(&self, word: &'a str) -> Cow<'a, str> {
        self.painted(word, "1;31")
    }
    fn painted<'a>(&self, word: &'a str, colour: &str) -> Cow<'a, str> {
        if self.colour { format!("\u{1b}[{colour}m{word}\u{1b}[0m").into() } else { word.into() }
    }
}

fn to_stdout(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(stdout_failed)
}

/// Why stdout took no more.
pub(crate) fn stdout_failed(error: std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => Failure::ReaderGone,
        _ => Failure::io("stdout could not be written", error),
    }
}

/// A text that came from users, without what could steer a terminal.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    let steers = |c: char| {
        c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
    };
    if !text.contains(steers) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown.into()
}

/// A text on one line, cut where it gets long.
pub(crate) fn short(text: &str, width: usize) -> String {
    let text = clean(text);
    if text.chars().count() <= width {
        return text.into_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// A moment as people read it, in UTC, to the second.
pub(crate) fn when(at: Timestamp) -> String {
    let iso = at.to_naive_iso();
    iso.split('.').next().unwrap_or(&iso).replace('T', " ")
}

/// `value`, or a dash.
pub(crate) fn or_dash<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(|| "-".to_owned(), ToString::to_string)
}

/// How a column stands.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Amounts, one decimal point below the other.
    Decimal,
}

/// Rows of text in columns.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A column whose title ends in `>` holds amounts.
    pub(crate) fn new(titles: &[&'static str]) -> Self {
        let column = |title: &&'static str| match title.strip_suffix('>') {
            Some(title) => (title, Align::Decimal),
            None => (*title, Align::Left),
        };
        Self { columns: titles.iter().map(column).collect(), rows: Vec::new() }
    }
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into_iter().map(|cell| clean(&cell).into_owned()).collect());
    }
    /// The rows below their titles, without a new line at the end.
    pub(crate) fn to_text(&self, indent: &str) -> String {
        let columns: Vec<Vec<String>> =
            self.columns.iter().enumerate().map(|(at, (title, align))| self.column(at, title, *align)).collect();
        let lines = (0..=self.rows.len()).map(|line| {
            let cells: Vec<&str> = columns.iter().map(|column| column[line].as_str()).collect();
            format!("{indent}{}", cells.join("  ")).trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }
    /// One column's cells, title first, all of one width.
    fn column(&self, at: usize, title: &str, align: Align) -> Vec<String> {
        let cells = self.rows.iter().map(|row| row.get(at).map_or("", String::as_str));
        let decimals = |cell: &str| cell.split_once('.').map_or(0, |(_, decimals)| decimals.len() + 1);
        let most = match align {
            Align::Left => 0,
            Align::Decimal => cells.clone().map(decimals).max().unwrap_or(0),
        };
        let padded: Vec<String> = std::iter::once(title.to_owned())
            .chain(cells.map(|cell| match align {
                Align::Left => cell.to_owned(),
                Align::Decimal => format!("{cell}{}", " ".repeat(most - decimals(cell))),
            }))
            .collect();
        let width = padded.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
        let fill = |cell: String| match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Decimal => format!("{cell:>width$}"),
        };
        padded.into_iter().map(fill).collect()
    }
}

/// Names and values below each other.
pub(crate) fn facts(indent: &str, facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let lines = facts.iter().map(|(name, value)| format!("{indent}{name:<width$}  {}", clean(value)));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_stand_point_below_point() {
        let mut table = Table::new(&["kind", "change>", "note"]);
        table.row(["credit".to_owned(), "+1000.00".to_owned(), "x".to_owned()]);
        table.row(["debit".to_owned(), "-0.000001".to_owned(), String::new()]);
        assert_eq!(
            table.to_text("  "),
            "  kind          change  note\n  credit  +1000.00      x\n  debit      -0.000001"
        );
    }

    #[test]
    fn nothing_from_users_steers_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\nc\u{202e}"), "a\\u{1b}[2Jb\\nc\\u{202e}");
        assert_eq!(short("кот под дождём", 8), "кот под…");
    }
}
