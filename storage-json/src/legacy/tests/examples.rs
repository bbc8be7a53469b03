//! Every example of `docs/legacy.md`, as it stands in its table: what becomes of each shape of each file.

use std::fmt::Write as _;

use storage_core::ImportRecord;

use super::NOW;
use crate::legacy::{Legacy, ReadOptions, read};

/// What becomes of each row of the table, in its order.
const EXPECTED: &str = include_str!("examples.txt");

/// A row: the file's name, the first word of its shape, the example.
fn rows() -> Vec<(String, String, String)> {
    let page = include_str!("../../../../docs/legacy.md");
    let mut rows: Vec<(String, String, String)> = Vec::new();
    let lines = page.lines().skip_while(|line| !line.starts_with("| File | Shape | Example")).skip(2);
    for line in lines.take_while(|line| line.starts_with('|')) {
        // No bar stands inside a cell.
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(|cell| cell.trim_matches(['|', ' '])).collect();
        let name = if cells[0].is_empty() { rows.last().unwrap().0.clone() } else { cells[0].to_owned() };
        rows.push((name, cells[1].to_owned(), cells[2].trim_matches('`').to_owned()));
    }
    rows
}

fn kind(record: &ImportRecord) -> &'static str {
    match record {
        ImportRecord::Balance { .. } => "balance",
        ImportRecord::Language { .. } => "language",
        ImportRecord::Gift { .. } => "gift",
        ImportRecord::Quota { .. } => "quota",
        ImportRecord::AdminLimit { .. } => "limit",
        ImportRecord::Spent { .. } => "spent",
        ImportRecord::Generation { .. } => "generation",
        ImportRecord::Job(_) => "job",
        ImportRecord::Payment(_) => "payment",
        ImportRecord::Referral { .. } => "referral",
        _ => "other",
    }
}

fn became(Legacy { records, report }: &Legacy) -> String {
    let mut words: Vec<String> = records.iter().map(|record| kind(&record.record).to_owned()).collect();
    words.extend(report.unsettled.iter().map(|unsettled| {
        let amount = unsettled.amount.map_or_else(String::new, |amount| format!(" of {amount}"));
        format!("listed{amount}: {}", unsettled.what)
    }));
    words.extend(report.refused.iter().map(|refused| format!("refused: {}", refused.reason)));
    words.extend(report.left_alone.iter().map(|left| format!("left alone: {}", left.reason)));
    words.join(", ")
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it writes the directories that are read")]
fn every_shape_is_brought_in_listed_or_left_alone_for_a_reason() {
    let mut found = String::new();
    for (names, shape, example) in rows() {
        if names.contains("ui_actions.json") {
            assert_eq!(example, "-");
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let name = names.split([' ', ',']).next().unwrap();
        let name = name.strip_prefix("data/").unwrap_or(name);
        let file = dir.path().join(name.replace('*', "one"));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &example).unwrap();
        let legacy = read(dir.path(), &ReadOptions::new(NOW.parse().unwrap()), &mut |_| {}).unwrap();
        let letter = shape.split(')').next().filter(|letter| letter.len() == 1).unwrap_or("-");
        let _ = writeln!(found, "{name} {letter}: {}", became(&legacy));
    }
    if std::env::var("GOLDEN").is_ok_and(|value| value == "write") {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/legacy/tests/examples.txt"), &found).unwrap();
    }
    assert_eq!(found, EXPECTED, "GOLDEN=write renews it: look at what changed");
}
