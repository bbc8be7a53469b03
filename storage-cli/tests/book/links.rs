//! Where the links of the pages lead, and what a newcomer sees first.

use std::collections::BTreeMap;

use super::blocks::{blocks, pages, read, root};

/// The lines of a page that are not in a fenced block.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// The targets of the links in a text: `guide.md#refund`. What stands in a code span is no link.
fn targets(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        let plain: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        let links = plain.split("](").skip(1);
        found.extend(links.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()));
    }
    found
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let mut seen = BTreeMap::<String, usize>::new();
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let title = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || ['-', '_', ' '].contains(c));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let count = seen.entry(anchor.clone()).or_default();
        *count += 1;
        if *count == 1 { anchor } else { format!("{anchor}-{}", *count - 1) }
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for page in pages() {
        let file = root().join(&page);
        for target in targets(&read(&file)) {
            if target.contains("://") {
                continue;
            }
            seen += 1;
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let to = if path.is_empty() { file.clone() } else { file.parent().unwrap().join(path) };
            if !to.exists() {
                wrong.push(format!("{page}: there is no {path}"));
            } else if !anchor.is_empty() && !anchors(&read(&to)).iter().any(|known| known == anchor) {
                wrong.push(format!("{page}: {target}: there is no such heading"));
            }
        }
    }
    assert!(wrong.is_empty() && seen > 150, "{seen} seen\n{}", wrong.join("\n"));
}

#[test]
fn the_first_screen_is_short() {
    let text = read(&root().join("README.md"));
    let (first, _) = text.lines().nth(2).unwrap().split_once(". ").unwrap();
    let words = first.split_whitespace().count();
    assert!(words <= 15, "{words} words: {first}");

    let blocks = blocks("README.md");
    let kinds: Vec<&str> = blocks.iter().map(|block| &*block.kind).take(2).collect();
    assert_eq!(kinds, ["toml", "rust"]);
    assert!(blocks[1].line < 20, "the first line of Rust is line {}", blocks[1].line + 1);
    assert!(blocks[1].attributes.is_empty(), "it is run");

    let (_, index) = text.split_once("\n## Documentation\n").unwrap();
    let groups = index.split("\n**").skip(1).map(|group| {
        let (name, list) = group.split_once("**\n\n").unwrap();
        (name, list.lines().take_while(|line| line.starts_with("- [")).count())
    });
    let groups: Vec<_> = groups.collect();
    assert_eq!(groups.len(), 5, "{groups:?}");
    assert!(groups.iter().all(|(_, links)| (1..=8).contains(links)), "{groups:?}");
    println!("{words} words, Rust from line {}, {groups:?}", blocks[1].line + 1);
}

#[test]
fn links_and_headings_are_found() {
    let text = "# A page\n[a](b.md#c), `[no](link)` ![d](e.svg)\n```rust\n# [f](g)\n```\n## What `Ok` means, in short\n## A page\n";
    assert_eq!(targets(text), ["b.md#c", "e.svg"]);
    assert_eq!(anchors(text), ["a-page", "what-ok-means-in-short", "a-page-1"]);
}
