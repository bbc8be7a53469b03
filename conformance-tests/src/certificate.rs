//! The certificate of a run: what was proven, with which suite and which seeds; as text, as JSON and as one HTML page.
//!
//! It holds neither time nor place, so that two runs of one suite on one backend give the same bytes.

mod page;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use crate::scenario::Scenario;

/// The version of the contract that the suite proves.
pub(crate) const CONTRACT_VERSION: u32 = 1;

/// What became of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It passed.
    Passed,
    /// It failed, and how.
    Failed(String),
    /// The backend does not have what it needs.
    Ignored(String),
    /// It was left out by a filter.
    NotRun,
}

impl Verdict {
    fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed(_) => "failed",
            Self::Ignored(_) => "ignored",
            Self::NotRun => "not run",
        }
    }
    fn reason(&self) -> Option<&str> {
        match self {
            Self::Failed(reason) | Self::Ignored(reason) => Some(reason),
            Self::Passed | Self::NotRun => None,
        }
    }
}

/// A scenario, what became of it, and what it noted on the way.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    pub(crate) scenario: Scenario,
    pub(crate) verdict: Verdict,
    pub(crate) notes: Vec<String>,
}

/// The certificate.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    /// The backend's name.
    pub(crate) backend: String,
    /// Every scenario of the suite, in its order.
    pub(crate) proofs: Vec<Proof>,
}

/// Proofs of one domain that share a group of rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) other: usize,
}

impl Tally {
    fn add(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::Failed(_) => self.failed += 1,
            Verdict::Ignored(_) | Verdict::NotRun => self.other += 1,
        }
    }
    pub(crate) fn all(self) -> usize {
        self.passed + self.failed + self.other
    }
}

/// The groups of rules: each of `R1` to `R12`, then the others by their letter.
pub(crate) fn groups() -> Vec<String> {
    let rules = (1..=12).map(|number| format!("R{number}"));
    rules.chain(["V", "E", "M", "W", "operations"].map(ToOwned::to_owned)).collect()
}

fn group_of(id: &str) -> String {
    let is_rule = id.len() > 1 && id.starts_with(char::is_uppercase);
    match id.chars().next() {
        Some('R') if is_rule => id.to_owned(),
        Some(letter) if is_rule => letter.to_string(),
        _ => "operations".to_owned(),
    }
}

impl Certificate {
    pub(crate) fn count(&self, is: impl Fn(&Verdict) -> bool) -> usize {
        self.proofs.iter().filter(|proof| is(&proof.verdict)).count()
    }
    fn passed(&self) -> usize {
        self.count(|verdict| *verdict == Verdict::Passed)
    }
    /// Whether every scenario of the suite passed: none failed, was ignored or left out.
    pub(crate) fn is_whole(&self) -> bool {
        self.passed() == self.proofs.len()
    }

    /// By domain and group of rules.
    pub(crate) fn table(&self) -> BTreeMap<&'static str, BTreeMap<String, Tally>> {
        let mut table: BTreeMap<&str, BTreeMap<String, Tally>> = BTreeMap::new();
        for proof in &self.proofs {
            let domain = proof.scenario.id.split("::").next().unwrap_or_default();
            let mut groups: Vec<String> = proof.scenario.contract.iter().map(|id| group_of(id)).collect();
            groups.sort_unstable();
            groups.dedup();
            for group in groups {
                table.entry(domain).or_default().entry(group).or_default().add(&proof.verdict);
            }
        }
        table
    }

    /// One sentence.
    pub(crate) fn sentence(&self) -> String {
        let (failed, ignored) = (
            self.count(|verdict| matches!(verdict, Verdict::Failed(_))),
            self.count(|verdict| matches!(verdict, Verdict::Ignored(_))),
        );
        let not_run = self.count(|verdict| *verdict == Verdict::NotRun);
        format!(
            "{} passed {} of {} scenarios of suite {}, contract {CONTRACT_VERSION}; {failed} failed, {ignored} ignored, \
             {not_run} not run",
            self.backend,
            self.passed(),
            self.proofs.len(),
            env!("CARGO_PKG_VERSION"),
        )
    }

    /// The sentence, what was noted, and whatever did not pass.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}\n", self.sentence());
        for Proof { scenario, verdict, notes } in &self.proofs {
            for note in notes {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "  {}: {note}", scenario.id);
            }
            if let Some(reason) = verdict.reason() {
                let _ = writeln!(text, "  {} {}: {reason}", scenario.id, verdict.word());
            }
        }
        text
    }

    /// For programs.
    pub(crate) fn json(&self) -> String {
        let scenarios: Vec<_> = (self.proofs.iter())
            .map(|Proof { scenario, verdict, notes }| {
                json!({
                    "id": scenario.id,
                    "contract": scenario.contract,
                    "verdict": verdict.word(),
                    "reason": verdict.reason(),
                    "notes": notes,
                })
            })
            .collect();
        let certificate = json!({
            "backend": self.backend,
            "suite": env!("CARGO_PKG_VERSION"),
            "contract": CONTRACT_VERSION,
            "whole": self.is_whole(),
            "passed": self.passed(),
            "scenarios": scenarios,
        });
        format!("{certificate:#}\n")
    }

    /// Writes `NAME.txt`, `NAME.json` and `NAME.html` into a directory, which is made when missing.
    pub(crate) fn write(&self, directory: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(directory)?;
        let words = self.backend.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        let name = words.collect::<Vec<_>>().join("-").to_lowercase();
        for (ending, text) in [("txt", self.text()), ("json", self.json()), ("html", page::html(self))] {
            let mut file = std::fs::File::create(directory.join(format!("{name}.{ending}")))?;
            std::io::Write::write_all(&mut file, text.as_bytes())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::scenarios;

    fn certificate(verdict: &Verdict) -> Certificate {
        let proof = |scenario| Proof { scenario, verdict: verdict.clone(), notes: vec!["seed <1>".to_owned()] };
        Certificate { backend: "mine & others".to_owned(), proofs: scenarios().into_iter().map(proof).collect() }
    }

    #[test]
    fn every_scenario_stands_in_the_table() {
        let certificate = certificate(&Verdict::Passed);
        assert!(certificate.is_whole());
        let groups = groups();
        for (domain, row) in certificate.table() {
            assert!(row.keys().all(|group| groups.contains(group)), "{domain}: {row:?}");
            assert!(row.values().all(|tally| tally.passed == tally.all() && tally.passed > 0), "{domain}");
        }
    }

    #[test]
    fn what_is_missing_is_said_in_every_form() {
        let certificate = certificate(&Verdict::Ignored("mine has no reopening".to_owned()));
        assert!(!certificate.is_whole());
        for form in [certificate.text(), certificate.json(), page::html(&certificate)] {
            assert!(form.contains("mine has no reopening"), "{form}");
        }
        assert!(page::html(&certificate).contains("seed &lt;1&gt;"), "texts are escaped");
        serde_json::from_str::<serde_json::Value>(&certificate.json()).unwrap();
    }
}
