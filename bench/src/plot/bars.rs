//! Groups of bars on a scale of powers of two that begin at 1: to the right is faster, to the left slower, and twice and half are
//! equally long.

use std::fmt::Write as _;

use super::Series;
use super::data::Ratio;
use super::svg::{Anchor, Font, INK, QUIET, RULE, Svg, WIDTH};

/// The bars of one measurement, in the order of the series; none for who did not take part.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) label: [String; 2],
    pub(super) bars: Vec<Option<Ratio>>,
}

/// A plot.
#[derive(Debug)]
pub(super) struct Bars<'a> {
    pub(super) title: &'a str,
    pub(super) notes: &'a [String],
    pub(super) axis: &'a str,
    pub(super) series: &'a [Series],
    pub(super) groups: &'a [Group],
}

const LEFT: f64 = 210.0;
const RIGHT: f64 = WIDTH - 60.0;
const BAR: f64 = 15.0;

/// From ratio to place.
#[derive(Clone, Copy, Debug)]
struct Scale {
    /// Powers of two.
    least: f64,
    most: f64,
}

impl Scale {
    fn new(groups: &[Group]) -> Self {
        let all = || groups.iter().flat_map(|group| group.bars.iter().flatten());
        let least = all().map(|ratio| ratio.least).fold(0.5, f64::min);
        let most = all().map(|ratio| ratio.most).fold(2.0, f64::max);
        // Room before the first tick for a bar that ends between two of them.
        Self { least: least.log2() - 0.12, most: most.log2() + 0.12 }
    }
    fn x(self, ratio: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (ratio.log2() - self.least) / (self.most - self.least)
    }
    /// The powers of two that are within it.
    fn ticks(self) -> impl Iterator<Item = f64> {
        (-8..=8).map(f64::from).filter(move |power| (self.least..=self.most).contains(power)).map(f64::exp2)
    }
}

impl Bars<'_> {
    pub(super) fn draw(&self) -> String {
        let mut svg = Svg::new(self.title, self.notes, self.description());
        svg.legend(self.series, |svg, (x, y), one| svg.bar((x - 9.0, y - 6.0), (18.0, 12.0), one.colour));
        let scale = Scale::new(self.groups);
        svg.text(24.0, svg.y + 14.0, self.axis, Font::new(13.0, QUIET, Anchor::Start));
        let top = svg.y + 42.0;
        let bottom = top + self.groups.iter().map(Group::height).sum::<f64>();
        for tick in scale.ticks() {
            let x = scale.x(tick);
            svg.line((x, top - 4.0), (x, bottom), RULE, 1.0);
            for y in [top - 10.0, bottom + 18.0] {
                svg.text(x, y, format_args!("{tick}\u{d7}"), Font::new(13.0, INK, Anchor::Middle));
            }
        }
        svg.y = top;
        for group in self.groups {
            self.group(&mut svg, group, scale);
        }
        svg.line((scale.x(1.0), top - 4.0), (scale.x(1.0), bottom), INK, 1.6);
        svg.y = bottom + 32.0;
        svg.finish()
    }

    fn group(&self, svg: &mut Svg, group: &Group, scale: Scale) {
        let one = scale.x(1.0);
        let middle = svg.y + group.height() / 2.0;
        let [work, tasks] = &group.label;
        svg.text(LEFT - 14.0, middle - 2.0, work, Font::new(13.0, INK, Anchor::End).bold());
        svg.text(LEFT - 14.0, middle + 15.0, tasks, Font::new(13.0, QUIET, Anchor::End));
        let mut y = svg.y + 7.0;
        for (series, ratio) in self.series.iter().zip(&group.bars) {
            let Some(Ratio { median, least, most }) = *ratio else { continue };
            let end = scale.x(median);
            svg.bar((one.min(end), y + 1.0), ((end - one).abs().max(1.0), BAR - 2.0), series.colour);
            let centre = y + BAR / 2.0;
            svg.line((scale.x(least), centre), (scale.x(most), centre), INK, 1.2);
            let figure = if median < 9.95 { format!("{median:.2}") } else { format!("{median:.1}") };
            let beyond = one.max(end).max(scale.x(most)) + 5.0;
            svg.text(beyond, centre + 4.5, figure, Font::new(13.0, INK, Anchor::Start));
            y += BAR;
        }
        svg.y += group.height();
        svg.line((24.0, svg.y), (RIGHT, svg.y), RULE, 1.0);
    }

    /// The figures in words, for who does not see the bars.
    fn description(&self) -> String {
        let mut text = format!("Bars: {}.", self.axis);
        for Group { label: [work, tasks], bars } in self.groups {
            let figures: Vec<String> = (self.series.iter().zip(bars))
                .filter_map(|(series, ratio)| Some(format!("{} {:.2}", series.label, (*ratio)?.median)))
                .collect();
            // Writing to a String cannot fail.
            let _ = write!(text, " {work}, {tasks}: {}.", figures.join(", "));
        }
        text
    }
}

impl Group {
    fn height(&self) -> f64 {
        14.0 + BAR * f64::from(u32::try_from(self.bars.iter().flatten().count()).unwrap_or(0))
    }
}
