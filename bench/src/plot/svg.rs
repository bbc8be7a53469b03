//! The little of SVG that the plots need: no script, no style from elsewhere, a ground of their own, so that they look alike on a
//! light page and on a dark one.

use std::fmt::{Display, Write as _};

use super::{Mark, Series};

pub(super) const WIDTH: f64 = 700.0;
/// Text, quiet text, rules.
pub(super) const INK: &str = "#1f2328";
pub(super) const QUIET: &str = "#57606a";
pub(super) const RULE: &str = "#d8dee4";

/// Where a text begins, ends or has its middle.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Font {
    pub(super) size: f64,
    pub(super) colour: &'static str,
    pub(super) bold: bool,
    pub(super) anchor: Anchor,
}

impl Font {
    pub(super) const fn new(size: f64, colour: &'static str, anchor: Anchor) -> Self {
        Self { size, colour, bold: false, anchor }
    }
    pub(super) const fn bold(self) -> Self {
        Self { bold: true, ..self }
    }
}

/// A drawing that grows downwards.
#[derive(Debug)]
pub(super) struct Svg {
    title: String,
    description: String,
    body: String,
    /// How far down it is filled.
    pub(super) y: f64,
}

impl Svg {
    /// The title and the notes stand at the top.
    pub(super) fn new(title: &str, notes: &[String], description: String) -> Self {
        let mut svg = Self { title: title.to_owned(), description, body: String::new(), y: 34.0 };
        svg.text(24.0, svg.y, title, Font::new(19.0, INK, Anchor::Start).bold());
        for note in notes {
            svg.y += 20.0;
            svg.text(24.0, svg.y, note, Font::new(13.0, QUIET, Anchor::Start));
        }
        svg.y += 14.0;
        svg
    }

    // Writing to a String cannot fail.
    pub(super) fn text(&mut self, x: f64, y: f64, text: impl Display, font: Font) {
        let Font { size, colour, bold, anchor } = font;
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let weight = if bold { " font-weight=\"600\"" } else { "" };
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\"{weight} fill=\"{colour}\" text-anchor=\"{anchor}\">{}</text>",
            escaped(&text.to_string())
        );
    }

    pub(super) fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str, width: f64) {
        let _ = writeln!(
            self.body,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" stroke-width=\"{width}\"/>"
        );
    }

    pub(super) fn bar(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), colour: &str) {
        let _ = writeln!(
            self.body,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\" stroke=\"{INK}\" \
             stroke-width=\"0.6\"/>"
        );
    }

    pub(super) fn path(&mut self, points: &[(f64, f64)], colour: &str) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            self.body,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.2\" stroke-linejoin=\"round\"/>",
            points.join(" ")
        );
    }

    pub(super) fn mark(&mut self, (x, y): (f64, f64), series: Series) {
        let Series { colour, mark, .. } = series;
        let shape = |corners: &[(f64, f64)]| {
            let corners: Vec<String> = corners.iter().map(|(dx, dy)| format!("{:.1},{:.1}", x + dx, y + dy)).collect();
            format!("<polygon points=\"{}\" fill=\"{colour}\"", corners.join(" "))
        };
        let shape = match mark {
            Mark::Circle => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"{colour}\""),
            Mark::Ring => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\" fill=\"#ffffff\""),
            Mark::Square => shape(&[(-4.5, -4.5), (4.5, -4.5), (4.5, 4.5), (-4.5, 4.5)]),
            Mark::Diamond => shape(&[(0.0, -6.0), (6.0, 0.0), (0.0, 6.0), (-6.0, 0.0)]),
            Mark::Triangle => shape(&[(0.0, -6.0), (5.5, 4.5), (-5.5, 4.5)]),
            Mark::Cross => {
                let (left, right, top, bottom) = (x - 4.5, x + 4.5, y - 4.5, y + 4.5);
                let path =
                    format!("M{left:.1} {top:.1}L{right:.1} {bottom:.1}M{right:.1} {top:.1}L{left:.1} {bottom:.1}");
                let _ = writeln!(self.body, "<path d=\"{path}\" stroke=\"{colour}\" stroke-width=\"2.4\"/>");
                return;
            }
        };
        let (rim, width) = if matches!(mark, Mark::Ring) { (colour, 2.4) } else { (INK, 0.6) };
        let _ = writeln!(self.body, "{shape} stroke=\"{rim}\" stroke-width=\"{width}\"/>");
    }

    /// Names beside their samples, as many in a row as there is room for.
    pub(super) fn legend(&mut self, series: &[Series], sample: impl Fn(&mut Self, (f64, f64), Series)) {
        let mut x = 24.0;
        self.y += 14.0;
        for one in series {
            // A letter of this size is about 7 wide.
            let width = 50.0 + 7.0 * f64::from(u32::try_from(one.label.len()).unwrap_or(0));
            if x + width > WIDTH - 10.0 {
                (x, self.y) = (24.0, self.y + 22.0);
            }
            sample(self, (x + 11.0, self.y - 4.5), *one);
            self.text(x + 28.0, self.y, one.label, Font::new(13.5, INK, Anchor::Start));
            x += width;
        }
        self.y += 14.0;
    }

    /// The whole file.
    pub(super) fn finish(self) -> String {
        let Self { title, description, body, y } = self;
        let height = y.ceil();
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
             role=\"img\" aria-labelledby=\"title desc\" font-family=\"system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', Arial, \
             sans-serif\">\n<title id=\"title\">{}</title>\n<desc id=\"desc\">{}</desc>\n\
             <rect x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"6\" fill=\"#ffffff\" stroke=\"{RULE}\"/>\n{body}</svg>\n",
            escaped(&title),
            escaped(&description),
            WIDTH - 1.0,
            height - 1.0
        )
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
