//! Rates by number of tasks, a panel for each workload, both scales logarithmic.

use std::fmt::Write as _;

use super::Series;
use super::data::thousands;
use super::svg::{Anchor, Font, INK, QUIET, RULE, Svg, WIDTH};

/// A workload: for each of the series its rate by each number of tasks.
#[derive(Debug)]
pub(super) struct Panel {
    pub(super) label: &'static str,
    pub(super) rates: Vec<Vec<Option<f64>>>,
}

/// A plot.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    pub(super) title: &'a str,
    pub(super) notes: &'a [String],
    pub(super) series: &'a [Series],
    pub(super) tasks: &'a [u64],
    pub(super) panels: &'a [Panel],
}

const LEFT: f64 = 84.0;
const RIGHT: f64 = WIDTH - 24.0;
const GAP: f64 = 22.0;
const HEIGHT: f64 = 300.0;

impl Lines<'_> {
    pub(super) fn draw(&self) -> String {
        let mut svg = Svg::new(self.title, self.notes, self.description());
        svg.legend(self.series, |svg, (x, y), one| {
            svg.path(&[(x - 11.0, y), (x + 11.0, y)], one.colour);
            svg.mark((x, y), one);
        });
        svg.text(24.0, svg.y + 14.0, "calls a second, higher is better", Font::new(13.0, QUIET, Anchor::Start));
        let top = svg.y + 50.0;
        let rates = || self.panels.iter().flat_map(|panel| panel.rates.iter().flatten().flatten().copied());
        let least = rates().fold(f64::INFINITY, f64::min).log10() - 0.08;
        let most = rates().fold(0.0, f64::max).log10() + 0.08;
        let y_of = |rate: f64| top + HEIGHT * (most - rate.log10()) / (most - least);
        // 1, 2 and 5 of each power of ten.
        let ticks: Vec<f64> = (0..8)
            .flat_map(|power| [1.0, 2.0, 5.0].map(|times| times * 10_f64.powi(power)))
            .filter(|tick| (least..=most).contains(&tick.log10()))
            .collect();
        for tick in &ticks {
            svg.text(LEFT - 10.0, y_of(*tick) + 4.5, thousands(*tick), Font::new(13.0, INK, Anchor::End));
        }
        let count = f64::from(u32::try_from(self.panels.len()).unwrap_or(1));
        let width = (RIGHT - LEFT - GAP * (count - 1.0)) / count;
        let mut left = LEFT;
        for panel in self.panels {
            svg.text(left, top - 10.0, panel.label, Font::new(13.5, INK, Anchor::Start).bold());
            for tick in &ticks {
                svg.line((left, y_of(*tick)), (left + width, y_of(*tick)), RULE, 1.0);
            }
            svg.line((left, top + HEIGHT), (left + width, top + HEIGHT), INK, 1.0);
            let places = self.places(left + 20.0, width - 40.0);
            for (tasks, x) in self.tasks.iter().zip(&places) {
                svg.line((*x, top + HEIGHT), (*x, top + HEIGHT + 5.0), INK, 1.0);
                svg.text(*x, top + HEIGHT + 20.0, tasks, Font::new(13.0, INK, Anchor::Middle));
            }
            svg.text(left + width / 2.0, top + HEIGHT + 38.0, "tasks", Font::new(13.0, QUIET, Anchor::Middle));
            // Ours last, so that they lie on top.
            for (series, rates) in self.series.iter().zip(&panel.rates).rev() {
                let points: Vec<(f64, f64)> =
                    places.iter().zip(rates).filter_map(|(x, rate)| Some((*x, y_of((*rate)?)))).collect();
                svg.path(&points, series.colour);
                for point in points {
                    svg.mark(point, *series);
                }
            }
            left += width + GAP;
        }
        svg.y = top + HEIGHT + 54.0;
        svg.finish()
    }

    /// Where each number of tasks stands: by its logarithm, from the left end to the right one.
    fn places(&self, left: f64, width: f64) -> Vec<f64> {
        let logs: Vec<f64> =
            self.tasks.iter().map(|tasks| f64::from(u32::try_from(*tasks).unwrap_or(u32::MAX)).log2()).collect();
        let (Some(first), Some(last)) = (logs.first(), logs.last()) else { return Vec::new() };
        logs.iter().map(|log| left + width * (log - first) / (last - first)).collect()
    }

    /// The figures in words, for who does not see the lines.
    fn description(&self) -> String {
        let mut text = "Lines: calls a second by number of tasks.".to_owned();
        for Panel { label, rates } in self.panels {
            for (series, rates) in self.series.iter().zip(rates) {
                let figures: Vec<String> = (self.tasks.iter().zip(rates))
                    .filter_map(|(tasks, rate)| Some(format!("{tasks}: {}", thousands((*rate)?))))
                    .collect();
                // Writing to a String cannot fail.
                let _ = write!(text, " {label}, {}: {}.", series.label, figures.join(", "));
            }
        }
        text
    }
}
