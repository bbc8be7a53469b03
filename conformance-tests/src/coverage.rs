//! Which scenario proves which id of the contract, read from the contract itself: an id without a scenario fails a
//! test of this crate.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::scenario::scenarios;

const CONTRACT: &str = include_str!("../../docs/contract.md");

/// An id of the contract that one backend cannot show on its own, and where it is proven instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// The id.
    pub id: &'static str,
    /// Where it is proven.
    pub by: &'static str,
}

const DIRECTORY: &str = "tests of `storage-json` and the fault tools of `scripts/fault`: it speaks of files";
const POSTGRES: &str = "tests of `storage-pg` and `scripts/fault/pg_cut_enum.py`: it speaks of tables";
const CHOICE: &str = "tests of `storage-factory`: it speaks of choosing a backend";
const MIGRATIONS: &str = "tests of `migrations`: it speaks of schema versions";

/// The ids that are proven elsewhere.
const ELSEWHERE: &[Elsewhere] = &[
    Elsewhere { id: "E3", by: "tests of each backend: which code becomes which kind" },
    Elsewhere { id: "J1", by: DIRECTORY },
    Elsewhere { id: "J2", by: DIRECTORY },
    Elsewhere { id: "J3", by: DIRECTORY },
    Elsewhere { id: "J4", by: DIRECTORY },
    Elsewhere { id: "J5", by: DIRECTORY },
    Elsewhere { id: "J6", by: DIRECTORY },
    Elsewhere { id: "J7", by: DIRECTORY },
    Elsewhere { id: "J8", by: DIRECTORY },
    Elsewhere { id: "J9", by: DIRECTORY },
    Elsewhere { id: "J10", by: DIRECTORY },
    Elsewhere { id: "J11", by: DIRECTORY },
    Elsewhere { id: "P1", by: POSTGRES },
    Elsewhere { id: "P2", by: POSTGRES },
    Elsewhere { id: "P3", by: POSTGRES },
    Elsewhere { id: "P4", by: POSTGRES },
    Elsewhere { id: "P5", by: POSTGRES },
    Elsewhere { id: "P6", by: POSTGRES },
    Elsewhere { id: "F1", by: CHOICE },
    Elsewhere { id: "F2", by: CHOICE },
    Elsewhere { id: "F3", by: CHOICE },
    Elsewhere { id: "F4", by: CHOICE },
    Elsewhere { id: "W44", by: CHOICE },
    Elsewhere { id: "W45", by: POSTGRES },
    Elsewhere { id: "W46", by: CHOICE },
    Elsewhere { id: "W48", by: CHOICE },
    Elsewhere { id: "W49", by: MIGRATIONS },
    Elsewhere { id: "W50", by: MIGRATIONS },
    Elsewhere { id: "W51", by: MIGRATIONS },
];

/// The ids that are proven elsewhere, and where.
pub fn elsewhere() -> &'static [Elsewhere] {
    ELSEWHERE
}

/// Every id of the contract: the bold ones and each operation of its section 3, in the order of the page.
pub fn contract_ids() -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    let mut in_operations = false;
    for line in CONTRACT.lines() {
        if line.starts_with("## ") {
            in_operations = line.starts_with("## 3.");
        }
        ids.extend(between(line, "**").filter(|text| is_rule(text)).map(ToOwned::to_owned));
        if in_operations {
            ids.extend(operations(line));
        }
    }
    let mut seen = BTreeSet::new();
    ids.retain(|id| seen.insert(id.clone()));
    ids
}

/// A capital letter and a number: `W17`.
fn is_rule(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|first| first.is_ascii_uppercase())
        && text.len() > 1
        && letters.all(|rest| rest.is_ascii_digit())
}

/// The texts between pairs of a mark.
fn between<'a>(line: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    line.split(mark).skip(1).step_by(2)
}

/// The operations that a line of section 3 names: those in the first cell of a table's row, and in the paragraphs
/// of the domains that have no table.
fn operations(line: &str) -> Vec<String> {
    let text = match line.strip_prefix('|') {
        Some(row) => row.split('|').next().unwrap_or_default(),
        None => line,
    };
    let name = |text: &str| text.split('(').next().unwrap_or_default().to_owned();
    // `test_connection` is the name that `ping` replaced.
    let is_operation = |name: &String| {
        let word = name.contains('_') || ["ping", "backend", "close", "dump", "restore", "audit"].contains(&&**name);
        word && name != "test_connection" && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    between(text, "`").map(name).filter(is_operation).collect()
}

fn by_id() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut proofs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for scenario in scenarios() {
        for id in scenario.contract {
            proofs.entry(id).or_default().push(scenario.id);
        }
    }
    proofs
}

/// What is wrong with the lists: ids without a scenario, scenarios with an unknown id, names that come twice.
pub fn gaps() -> Vec<String> {
    let (ids, proofs) = (contract_ids(), by_id());
    let known: BTreeSet<&str> = ids.iter().map(String::as_str).collect();
    let listed: BTreeSet<&str> = ELSEWHERE.iter().map(|elsewhere| elsewhere.id).collect();
    let mut gaps = Vec::new();
    for id in &known {
        if !proofs.contains_key(id) && !listed.contains(id) {
            gaps.push(format!("{id}: no scenario"));
        }
    }
    for id in proofs.keys().chain(&listed).filter(|id| !known.contains(*id)) {
        gaps.push(format!("{id}: not in the contract"));
    }
    for id in listed.iter().filter(|id| proofs.contains_key(*id)) {
        gaps.push(format!("{id}: listed as proven elsewhere, and has a scenario"));
    }
    let mut names = BTreeSet::new();
    for scenario in scenarios() {
        if !names.insert(scenario.id) {
            gaps.push(format!("{}: listed twice", scenario.id));
        }
    }
    gaps
}

/// The page `docs/scenarios.md`: each id of the contract with what proves it.
pub fn table() -> String {
    let proofs = by_id();
    let mut page = format!(
        "# Which scenario proves what\n\nMade by `conformance-tests` from its lists and `contract.md`; a test of that \
         crate compares it, and `UPDATE_DOCS=1`\n`cargo test -p conformance-tests` writes it anew. {} scenarios.\n\n\
         | id | proven by |\n| --- | --- |\n",
        scenarios().len()
    );
    for id in contract_ids() {
        let proof = match (proofs.get(id.as_str()), ELSEWHERE.iter().find(|elsewhere| elsewhere.id == id)) {
            (Some(scenarios), _) => scenarios.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join("<br>"),
            (None, Some(elsewhere)) => elsewhere.by.to_owned(),
            (None, None) => "nothing".to_owned(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| {id} | {proof} |");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_of_the_contract_is_proven() {
        assert_eq!(gaps(), Vec::<String>::new());
    }

    #[test]
    fn the_contract_is_read_whole() {
        let ids = contract_ids();
        for id in ["V1", "V11", "V12", "R1", "R12", "E1", "W1", "W51", "J11", "M3", "P6", "F4"] {
            assert!(ids.iter().any(|known| known == id), "{id}");
        }
        for operation in ["get_user", "release_expired_reserves", "add_referral_bonus", "get_referrals", "restore"] {
            assert!(ids.iter().any(|known| known == operation), "{operation}");
        }
        assert_eq!(ids.iter().filter(|id| is_rule(id)).count(), 12 + 12 + 3 + 11 + 6 + 4 + 4 + 51);
    }

    #[test]
    fn the_table_in_docs_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/scenarios.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            let mut file = std::fs::File::create(path).unwrap();
            std::io::Write::write_all(&mut file, table().as_bytes()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap();
        assert!(
            written == table(),
            "docs/scenarios.md is out of date; run UPDATE_DOCS=1 cargo test -p conformance-tests"
        );
    }
}
