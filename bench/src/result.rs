//! Figures, printed as a table or as JSON.

use std::fmt::Write as _;
use std::fs;
use std::num::NonZero;

use serde_json::{Map, Value, json};
use storage_core::{Clock as _, SystemClock};

/// What a measurement found, for people and for programs.
pub(crate) trait Report {
    /// As a table.
    fn to_text(&self) -> String;
    /// As one JSON object.
    fn to_json(&self) -> Value;
}

/// An error of a store, with its causes.
pub(crate) fn told(error: &storage_core::Error) -> String {
    error.report().to_string()
}

/// Figures in the order in which they were added.
#[derive(Debug)]
pub(crate) struct Figures {
    title: String,
    rows: Vec<(&'static str, f64, &'static str)>,
}

impl Figures {
    /// No figures yet.
    pub(crate) fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), rows: Vec::new() }
    }
    /// Adds a figure with its unit.
    pub(crate) fn add(&mut self, name: &'static str, value: f64, unit: &'static str) {
        self.rows.push((name, value, unit));
    }
    /// Adds the most memory that this process ever had, where the system tells.
    pub(crate) fn add_peak_memory(&mut self) {
        if let Some(kib) = peak_kib() {
            self.add("peak memory", kib / 1024.0, "MiB");
        }
    }
}

impl Report for Figures {
    fn to_text(&self) -> String {
        let width = self.rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
        let rows = self.rows.iter().map(|(name, value, unit)| format!("  {name:<width$}  {value:>12.3}  {unit}\n"));
        std::iter::once(format!("{}\n", self.title)).chain(rows).collect()
    }
    fn to_json(&self) -> Value {
        let figures: Map<String, Value> =
            self.rows.iter().map(|(name, value, _)| (json_name(name), (*value).into())).collect();
        json!({ "title": self.title, "figures": figures })
    }
}

/// A name with `_` for spaces.
fn json_name(name: &str) -> String {
    name.replace([' ', '-'], "_")
}

/// A column: its name, and how many digits stand behind the point.
#[derive(Debug)]
pub(crate) struct Column(pub(crate) &'static str, pub(crate) usize);

/// The same figures of several contestants, a line for each.
#[derive(Debug)]
pub(crate) struct Grid {
    name: &'static str,
    title: String,
    columns: Vec<Column>,
    facts: Map<String, Value>,
    rows: Vec<(&'static str, Vec<Option<f64>>)>,
}

impl Grid {
    /// No lines yet.
    pub(crate) fn new(name: &'static str, title: String, columns: Vec<Column>) -> Self {
        Self { name, title, columns, facts: Map::new(), rows: Vec::new() }
    }
    /// Says something of the title once more, for programs.
    pub(crate) fn say(&mut self, name: &'static str, fact: impl Into<Value>) {
        self.facts.insert(name.to_owned(), fact.into());
    }
    /// Adds a contestant's figures, in the order of the columns.
    pub(crate) fn add(&mut self, name: &'static str, figures: Vec<Option<f64>>) {
        self.rows.push((name, figures));
    }
}

impl Report for Grid {
    fn to_text(&self) -> String {
        let width = self.rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let mut text = format!("{}\n  {:width$}", self.title, "");
        for Column(name, _) in &self.columns {
            let _ = write!(text, "  {name:>13}");
        }
        text.push('\n');
        for (name, figures) in &self.rows {
            let _ = write!(text, "  {name:<width$}");
            for (figure, Column(_, digits)) in figures.iter().zip(&self.columns) {
                let _ = match figure {
                    Some(figure) => write!(text, "  {figure:>13.digits$}"),
                    None => write!(text, "  {:>13}", "-"),
                };
            }
            text.push('\n');
        }
        text
    }
    fn to_json(&self) -> Value {
        let rows: Map<String, Value> = self
            .rows
            .iter()
            .map(|(name, figures)| {
                let names = self.columns.iter().map(|Column(name, _)| json_name(name));
                let figures: Map<String, Value> = names.zip(figures.iter().map(|figure| (*figure).into())).collect();
                (json_name(name), figures.into())
            })
            .collect();
        let mut grid = json!({ "name": self.name, "title": self.title, "contestants": rows });
        for (name, fact) in &self.facts {
            grid[name] = fact.clone();
        }
        grid
    }
}

fn peak_kib() -> Option<f64> {
    of_status("VmHWM:")
}

/// The memory that this process has, where the system tells.
pub(crate) fn resident_kib() -> Option<f64> {
    of_status("VmRSS:")
}

fn of_status(name: &str) -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// When this is, on how many cores, and how much else they do: what a plot says beside its figures.
pub(crate) fn circumstances() -> Value {
    let load = fs::read_to_string("/proc/loadavg").ok();
    json!({
        "at": SystemClock.now().to_string(),
        "cores": std::thread::available_parallelism().map_or(0, NonZero::get),
        "load": load.and_then(|load| load.split(' ').next()?.parse::<f64>().ok()),
    })
}

/// The middle of some values, 0 of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_some_values() {
        for (values, middle) in [(vec![], 0.0), (vec![3.0], 3.0), (vec![5.0, 1.0, 2.0], 2.0), (vec![4.0, 1.0], 2.5)] {
            assert!((median(values) - middle).abs() < f64::EPSILON);
        }
    }

    #[test]
    fn the_same_figures_twice() {
        let mut figures = Figures::new("a title");
        figures.add("one task", 12.5, "a second");
        assert!(figures.to_text().contains("one task        12.500  a second"));
        assert_eq!(figures.to_json()["figures"]["one_task"], 12.5);
    }

    #[test]
    fn a_line_for_each_contestant() {
        let mut grid = Grid::new("reading", "a title".to_owned(), vec![Column("a second", 0), Column("p50 us", 1)]);
        grid.say("tasks", 8);
        grid.add("storage-pg", vec![Some(1000.4), None]);
        assert!(grid.to_text().ends_with("  storage-pg           1000              -\n"), "{}", grid.to_text());
        assert_eq!(grid.to_json()["contestants"]["storage_pg"]["a_second"], 1000.4);
        assert!(grid.to_json()["contestants"]["storage_pg"]["p50_us"].is_null());
        assert_eq!(grid.to_json()["tasks"], 8);
    }
}
