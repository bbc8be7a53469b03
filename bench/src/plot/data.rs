//! Figures of a run, as they were printed.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::Series;

/// A run of `json` or `pg`.
#[derive(Debug)]
pub(super) struct Run {
    name: String,
    /// How clients came to the server, where there is more than one way.
    way: Option<&'static str>,
    all: Value,
}

/// A table of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'a>(&'a Value);

/// A ratio: the median of the rounds, the least and the most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ratio {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Run {
    pub(super) fn read(path: &Path, way: Option<&'static str>) -> Result<Self, String> {
        let name = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
        let all = serde_json::from_str(&text).map_err(|error| format!("{name}: {error}"))?;
        Ok(Self { name, way, all })
    }

    /// The table of this name by so many tasks.
    pub(super) fn table(&self, name: &str, tasks: u64) -> Result<Table<'_>, String> {
        ["tables", "operations"]
            .iter()
            .filter_map(|list| self.all[list].as_array())
            .flatten()
            .find(|table| table["name"] == name && table["tasks"] == tasks && table["way"].as_str() == self.way)
            .map(Table)
            .ok_or_else(|| format!("{}: no table \"{name}\" by {tasks} tasks", self.name))
    }

    /// When it was measured and how: two lines, the details those of one table, which all have in common.
    pub(super) fn circumstances(&self, name: &str, tasks: u64) -> Result<[String; 2], String> {
        let Table(table) = self.table(name, tasks)?;
        let missing = |what: &str| format!("{}: \"{what}\" is missing", self.name);
        let number = |value: &Value, what: &str| value[what].as_f64().ok_or_else(|| missing(what));
        let began = &self.all["began"];
        let day = began["at"].as_str().and_then(|at| at.split('T').next()).ok_or_else(|| missing("at"))?;
        let connections = match table["connections"].as_u64() {
            Some(connections) => format!(", {connections} connections over {}", self.way.unwrap_or("the network")),
            None => String::new(),
        };
        Ok([
            format!(
                "{day}, a shared machine of {} cores, load {:.1} before it began",
                number(began, "cores")?,
                number(began, "load")?
            ),
            format!(
                "{} users{connections}; medians of {} rounds of {} s, in turns within one run",
                thousands(number(table, "users")?),
                number(table, "rounds")?,
                number(table, "seconds")?
            ),
        ])
    }
}

impl Table<'_> {
    fn figure(self, series: Series, column: &str) -> Option<f64> {
        self.0["contestants"][series.key][column].as_f64().filter(|figure| *figure > 0.0)
    }

    /// Calls a second.
    pub(super) fn rate(self, series: Series) -> Option<f64> {
        self.figure(series, "a_second")
    }

    /// The ratio in this column, of each who took part.
    pub(super) fn ratios(self, series: &[Series], column: &str) -> Vec<Option<Ratio>> {
        let ratio = |one: &Series| {
            Some(Ratio {
                median: self.figure(*one, column)?,
                least: self.figure(*one, "least")?,
                most: self.figure(*one, "most")?,
            })
        };
        series.iter().map(ratio).collect()
    }
}

/// `100,000`.
pub(super) fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
