//! The certificate as one HTML page that needs nothing else.

use std::fmt::Write as _;

use super::{Certificate, Proof, Tally, Verdict, groups};

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem}\
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}\
.scroll{overflow-x:auto}\
table{border-collapse:collapse}\
th,td{padding:.25rem .6rem;border-bottom:1px solid #8884;text-align:left;vertical-align:top}\
td.n{text-align:right;font-variant-numeric:tabular-nums}\
.passed{color:#1a7f37}.failed{color:#cf222e;font-weight:600}.ignored,.not-run{color:#9a6700}\
code{font-size:.9em}";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn cell(tally: Option<&Tally>) -> String {
    let Some(tally) = tally else { return "<td></td>".to_owned() };
    let class = match tally {
        Tally { failed: 1.., .. } => "failed",
        Tally { other: 1.., .. } => "not-run",
        Tally { .. } => "passed",
    };
    if tally.passed == tally.all() {
        format!("<td class=\"n {class}\">{}</td>", tally.passed)
    } else {
        format!("<td class=\"n {class}\">{} of {}</td>", tally.passed, tally.all())
    }
}

/// The page.
pub(crate) fn html(certificate: &Certificate) -> String {
    let title = format!("Conformance of {}", escaped(&certificate.backend));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n<h1>{title}</h1>\n<p>{}.</p>\n",
        escaped(&certificate.sentence())
    );
    // Writing to a String cannot fail.
    let _ = writeln!(
        page,
        "<h2>Domains and rules</h2>\n<p>How many scenarios of a domain passed, by rule of the contract.</p>"
    );
    let groups = groups();
    let head = groups.join("</th><th>");
    let _ = writeln!(page, "<div class=\"scroll\"><table>\n<tr><th>domain</th><th>{head}</th></tr>");
    for (domain, row) in certificate.table() {
        let cells: String = groups.iter().map(|group| cell(row.get(group))).collect();
        let _ = writeln!(page, "<tr><th>{domain}</th>{cells}</tr>");
    }
    let _ = writeln!(page, "</table></div>\n<h2>Scenarios</h2>\n<div class=\"scroll\"><table>");
    for Proof { scenario, verdict, notes } in &certificate.proofs {
        let class = match verdict {
            Verdict::Passed => "passed",
            Verdict::Failed(_) => "failed",
            Verdict::Ignored(_) => "ignored",
            Verdict::NotRun => "not-run",
        };
        let said: Vec<String> = notes
            .iter()
            .map(String::as_str)
            .chain(verdict.reason())
            .map(|text| escaped(text).replace('\n', "<br>"))
            .collect();
        let _ = writeln!(
            page,
            "<tr><td><code>{}</code></td><td class=\"{class}\">{}</td><td>{}</td><td>{}</td></tr>",
            scenario.id,
            verdict.word(),
            scenario.contract.join(" "),
            said.join("<br>"),
        );
    }
    page.push_str("</table></div>\n</html>\n");
    page
}
