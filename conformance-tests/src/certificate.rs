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

impl Proof {
    fn domain(&self) -> &'static str {
        self.scenario.id.split("::").next().unwrap_or_default()
    }
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

/// The groups of rules, and what each is about: each of `R1` to `R12`, then the others by their letter.
pub(crate) const GROUPS: [(&str, &str); 17] = [
    ("R1", "reads never write"),
    ("R2", "writes create the users they name; a call that fails creates nothing"),
    ("R3", "whole or not at all, also when the call is dropped"),
    ("R4", "one order of each user's operations, over every handle and process"),
    ("R5", "what was answered is there after a close, and after none"),
    ("R6", "exactly once: a repeated call changes nothing and answers the first receipt"),
    ("R7", "an error says whether something was applied"),
    ("R8", "the same answers, orders and errors on every backend"),
    ("R9", "every wait has a limit"),
    ("R10", "a closed store answers Closed and stays closed"),
    ("R11", "lists are newest first, pages without gap or repeat"),
    ("R12", "nothing is deleted or taken as empty; damage is refused by name"),
    ("V", "values: their limits, and that they come back as they were"),
    ("E", "errors: what they say and what they never show"),
    ("M", "moving data: dump, restore, import, the mark of a store that has moved"),
    ("W", "what went wrong in the earlier system, each defect by its number"),
    ("operations", "what each operation promises beyond the rules"),
];

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
            let mut groups: Vec<String> = proof.scenario.contract.iter().map(|id| group_of(id)).collect();
            groups.sort_unstable();
            groups.dedup();
            for group in groups {
                table.entry(proof.domain()).or_default().entry(group).or_default().add(&proof.verdict);
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
        for (domain, row) in certificate.table() {
            assert!(row.keys().all(|id| GROUPS.iter().any(|(group, _)| group == id)), "{domain}: {row:?}");
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

    /// What `docs/certificate.md` shows is what a run of this suite writes when everything passes. The notes, seeds and
    /// numbers of histories, are those of the run.
    #[test]
    fn the_one_in_docs_is_of_this_suite() {
        let read = |ending| {
            let path = format!("{}/../docs/certificate/json.{ending}", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(path).unwrap()
        };
        let kept: serde_json::Value = serde_json::from_str(&read("json")).unwrap();
        let proof = |scenario: Scenario| {
            let scenarios = kept["scenarios"].as_array().unwrap();
            let notes = scenarios.iter().find(|one| one["id"] == scenario.id).map(|one| one["notes"].clone());
            let notes = notes.map(|notes| serde_json::from_value(notes).unwrap()).unwrap_or_default();
            Proof { scenario, verdict: Verdict::Passed, notes }
        };
        let certificate =
            Certificate { backend: "json".to_owned(), proofs: scenarios().into_iter().map(proof).collect() };
        for (ending, text) in
            [("txt", certificate.text()), ("json", certificate.json()), ("html", page::html(&certificate))]
        {
            assert!(
                read(ending) == text,
                "docs/certificate/json.{ending} is out of date; run \
                 CONFORMANCE_CERTIFICATE=../docs/certificate cargo test -p storage-json --test conformance"
            );
        }
    }
}
