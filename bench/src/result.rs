//! Figures, printed as a table or as JSON.

use std::fs;

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
    /// As a table.
    pub(crate) fn to_text(&self) -> String {
        let width = self.rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
        let rows = self.rows.iter().map(|(name, value, unit)| format!("  {name:<width$}  {value:>12.3}  {unit}\n"));
        std::iter::once(format!("{}\n", self.title)).chain(rows).collect()
    }
    /// As one JSON object: the names with `_` for spaces.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let figures: serde_json::Map<String, serde_json::Value> =
            self.rows.iter().map(|(name, value, _)| (name.replace([' ', '-'], "_"), (*value).into())).collect();
        serde_json::json!({ "title": self.title, "figures": figures })
    }
}

fn peak_kib() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
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
}
