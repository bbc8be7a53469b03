//! What the pages tell people to type is what this program understands.

use std::path::Path;

use clap::Parser as _;

use crate::Arguments;

const PROGRAM: &str = "target/release/storage-bench";

#[test]
fn the_commands_of_the_pages_are_understood() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut seen = 0;
    for entry in std::fs::read_dir(root.join("docs")).unwrap() {
        let page = entry.unwrap().path();
        if page.extension().is_none_or(|ending| ending != "md") {
            continue;
        }
        let text = std::fs::read_to_string(&page).unwrap();
        for line in text.lines().filter(|line| line.starts_with(PROGRAM)) {
            let command = line.split(" #").next().unwrap_or_default();
            // Where the shell puts what is printed is not the program's.
            let words = command.split_whitespace().take_while(|word| !word.starts_with('>'));
            let understood = Arguments::try_parse_from(words);
            assert!(understood.is_ok(), "{}: {line}\n{}", page.display(), understood.unwrap_err());
            seen += 1;
        }
    }
    assert!(seen > 0, "no page shows this program");
}
