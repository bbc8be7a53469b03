//! The certificate as one HTML page that needs nothing else.

use std::fmt::Write as _;

use super::{Certificate, GROUPS, Proof, Tally, Verdict};

/// Readable on a light ground and on a dark one, on a wide window, a narrow one and on paper.
const STYLE: &str = "
:root{color-scheme:light dark;--ground:#fff;--ink:#1f2328;--quiet:#57606a;--rule:#d8dee4;--band:#f6f8fa;--good:#116329;--bad:#b3141d;--open:#7d4e00}
@media(prefers-color-scheme:dark){:root{--ground:#161b22;--ink:#e6edf3;--quiet:#9da7b1;--rule:#30363d;--band:#1f262e;--good:#56d364;--bad:#ff7b72;--open:#e3b341}}
*{box-sizing:border-box}
body{background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:74rem;padding:1.5rem 1rem 4rem}
h1{font-size:1.6rem;line-height:1.2;margin:0 0 .5rem}h2{font-size:1.2rem;margin:2.5rem 0 .5rem}h3{font-size:1rem;margin:1.8rem 0 .4rem}
.quiet{color:var(--quiet)}
.counts{display:flex;flex-wrap:wrap;gap:.6rem;list-style:none;margin:1.2rem 0;padding:0}
.counts li{background:var(--band);border:1px solid var(--rule);border-radius:6px;min-width:7rem;padding:.5rem .9rem}
.counts b{display:block;font-size:1.5rem;line-height:1.2}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.93em}
th,td{border-bottom:1px solid var(--rule);padding:.3rem .5rem;text-align:left;vertical-align:top}
thead th{background:var(--band);color:var(--quiet);font-weight:600;white-space:nowrap}
.table th,.table td.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.table tbody th,.table thead th:first-child{background:var(--ground);left:0;position:sticky;text-align:left}
.table thead th:first-child{background:var(--band)}
.list{table-layout:fixed;width:100%}.list td{overflow-wrap:break-word}
.list th:nth-child(1){width:60%}.list th:nth-child(2){width:6.2rem}
.passed{color:var(--good)}.failed{color:var(--bad);font-weight:600}.ignored,.not-run{color:var(--open)}
code{font-size:.92em}a{color:inherit}
dl{display:grid;gap:.15rem .9rem;grid-template-columns:max-content 1fr;margin:.5rem 0 1rem}dt{font-weight:600}dd{margin:0}
@media(max-width:40rem){.list th:nth-child(1){width:50%}.list th:nth-child(2){width:5.6rem}th,td{padding:.3rem .35rem}}
@media print{body{max-width:none;font-size:11px}.table tbody th{position:static}}
";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A name that a narrow window may break where its words meet.
fn breakable(name: &str) -> String {
    name.replace('_', "_<wbr>").replace("::", "::<wbr>")
}

fn class(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed(_) => "failed",
        Verdict::Ignored(_) => "ignored",
        Verdict::NotRun => "not-run",
    }
}

/// A sign beside the colour, for who cannot tell the colours apart.
fn sign(class: &str) -> &'static str {
    match class {
        "passed" => "\u{2713}",
        "failed" => "\u{2717}",
        _ => "\u{25cb}",
    }
}

fn cell(tally: Option<&Tally>) -> String {
    let Some(tally) = tally else { return "<td></td>".to_owned() };
    let class = match tally {
        Tally { failed: 1.., .. } => "failed",
        Tally { other: 1.., .. } => "not-run",
        Tally { .. } => "passed",
    };
    let sign = sign(class);
    if tally.passed == tally.all() {
        format!("<td class=\"n {class}\">{sign} {}</td>", tally.passed)
    } else {
        format!("<td class=\"n {class}\">{sign} {} of {}</td>", tally.passed, tally.all())
    }
}

/// The page.
pub(crate) fn html(certificate: &Certificate) -> String {
    let title = format!("Conformance of {}", escaped(&certificate.backend));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n<p>{}.</p>\n<ul class=\"counts\">\n",
        escaped(&certificate.sentence())
    );
    let counts = [
        ("passed", "passed", certificate.count(|verdict| *verdict == Verdict::Passed)),
        ("failed", "failed", certificate.count(|verdict| matches!(verdict, Verdict::Failed(_)))),
        ("ignored", "ignored", certificate.count(|verdict| matches!(verdict, Verdict::Ignored(_)))),
        ("not-run", "not run", certificate.count(|verdict| *verdict == Verdict::NotRun)),
    ];
    for (class, word, count) in counts {
        let class = if count == 0 { "quiet" } else { class };
        // Writing to a String cannot fail.
        let _ = writeln!(page, "<li class=\"{class}\"><b>{count}</b>{word}</li>");
    }
    page.push_str("</ul>\n");
    table(&mut page, certificate);
    page.push_str("<h2>Scenarios</h2>\n");
    for (domain, proofs) in domains(certificate) {
        list(&mut page, domain, &proofs);
    }
    page.push_str("</body>\n</html>\n");
    page
}

/// The proofs of each domain, in the order of the suite.
fn domains(certificate: &Certificate) -> Vec<(&'static str, Vec<&Proof>)> {
    let mut domains: Vec<(&str, Vec<&Proof>)> = Vec::new();
    for proof in &certificate.proofs {
        match domains.iter_mut().find(|(domain, _)| *domain == proof.domain()) {
            Some((_, proofs)) => proofs.push(proof),
            None => domains.push((proof.domain(), vec![proof])),
        }
    }
    domains
}

/// How many scenarios of each domain passed, by rule, and what each column is about.
fn table(page: &mut String, certificate: &Certificate) {
    let head: String = GROUPS.iter().fold(String::new(), |head, (group, _)| head + "<th>" + group + "</th>");
    let _ = writeln!(
        page,
        "<h2>Domains and rules</h2>\n<p class=\"quiet\">How many scenarios of a domain passed, by rule of the contract. A scenario \
         that proves several rules counts for each; an empty field has none.</p>\n<div class=\"scroll\"><table class=\"table\">\n\
         <thead><tr><th>domain</th><th>all</th>{head}</tr></thead>\n<tbody>"
    );
    let rows = certificate.table();
    for (domain, proofs) in domains(certificate) {
        let mut all = Tally::default();
        for proof in &proofs {
            all.add(&proof.verdict);
        }
        let row = rows.get(domain);
        let cells: String = GROUPS.iter().map(|(group, _)| cell(row.and_then(|row| row.get(*group)))).collect();
        let _ = writeln!(page, "<tr><th><a href=\"#{domain}\">{domain}</a></th>{}{cells}</tr>", cell(Some(&all)));
    }
    page.push_str("</tbody></table></div>\n<dl>\n");
    for (group, says) in GROUPS {
        let _ = writeln!(page, "<dt>{group}</dt><dd>{says}</dd>");
    }
    page.push_str("</dl>\n");
}

/// The scenarios of a domain: what each proves, what became of it, and below its name what it noted.
fn list(page: &mut String, domain: &str, proofs: &[&Proof]) {
    let _ = writeln!(
        page,
        "<h3 id=\"{domain}\">{domain}</h3>\n<table class=\"list\">\n\
         <thead><tr><th>scenario</th><th>verdict</th><th>proves</th></tr></thead>\n<tbody>"
    );
    for Proof { scenario, verdict, notes } in proofs {
        let said: Vec<String> = (notes.iter().map(String::as_str).chain(verdict.reason()))
            .map(|text| format!("<br><span class=\"quiet\">{}</span>", escaped(text).replace('\n', "<br>")))
            .collect();
        let class = class(verdict);
        let _ = writeln!(
            page,
            "<tr><td><code>{}</code>{}</td><td class=\"{class}\">{} {}</td><td>{}</td></tr>",
            breakable(scenario.id),
            said.concat(),
            sign(class),
            verdict.word(),
            breakable(&scenario.contract.join(" ")),
        );
    }
    page.push_str("</tbody></table>\n");
}
