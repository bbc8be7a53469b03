//! The pages that are read by people, and their fenced blocks.

use std::path::{Path, PathBuf};

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A fenced block.
#[derive(Debug)]
pub(crate) struct Block {
    /// The page below the root, `docs/guide.md`.
    pub(crate) page: String,
    /// The heading that it stands below.
    pub(crate) heading: String,
    /// The line of its fence, from 1.
    pub(crate) line: usize,
    /// The first word behind the fence: `rust`, `sh`, ...
    pub(crate) kind: String,
    /// The words after it: `no_run`, ...
    pub(crate) attributes: Vec<String>,
    /// The line before the fence.
    pub(crate) above: String,
    pub(crate) text: String,
}

impl Block {
    /// Where it stands, as an editor finds it.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.page, self.line)
    }
}

/// The pages, by their paths below the root: those that everybody meets first, then the book's.
pub(crate) fn pages() -> Vec<String> {
    let mut pages: Vec<String> = ["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(str::to_owned).to_vec();
    let files = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let book = files.filter(|file| file.extension().is_some_and(|ending| ending == "md"));
    let mut book: Vec<String> =
        book.map(|file| format!("docs/{}", file.file_name().unwrap().to_string_lossy())).collect();
    book.sort_unstable();
    pages.extend(book);
    pages
}

/// The blocks of a page, in their order.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    blocks_of(page, &read(&root().join(page)))
}

fn blocks_of(page: &str, text: &str) -> Vec<Block> {
    let (mut found, mut open): (Vec<Block>, Option<(String, Block)>) = (Vec::new(), None);
    let (mut heading, mut above) = (String::new(), String::new());
    for (number, line) in text.lines().enumerate() {
        if let Some((fence, mut block)) = open.take() {
            if line.trim() == fence {
                found.push(block);
            } else {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some((fence, block));
            }
            continue;
        }
        let marks: String = line.trim_start().chars().take_while(|c| ['`', '~'].contains(c)).collect();
        if marks.len() >= 3 && (marks.starts_with("```") || marks.starts_with("~~~")) {
            let info = line.trim_start()[marks.len()..].trim();
            let mut words = info.split([',', ' ']).filter(|word| !word.is_empty()).map(str::to_owned);
            let block = Block {
                page: page.to_owned(),
                heading: heading.clone(),
                line: number + 1,
                kind: words.next().unwrap_or_default(),
                attributes: words.collect(),
                above: above.clone(),
                text: String::new(),
            };
            open = Some((marks, block));
        } else if let Some(title) = line.strip_prefix('#') {
            title.trim_start_matches('#').trim().clone_into(&mut heading);
        }
        line.clone_into(&mut above);
    }
    assert!(open.is_none(), "{page}: a block is never closed: {open:?}");
    found
}

/// What a page says in code within its sentences, one line each: `storage audit`.
pub(crate) fn spans(page: &str) -> Vec<String> {
    spans_of(&read(&root().join(page)))
}

fn spans_of(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut prose = String::new();
    for line in text.lines() {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        if !fenced && !fence {
            prose.push_str(line);
            // A span goes on over a line's end, and not over a paragraph's.
            prose.push(if line.is_empty() || line.starts_with('|') { '\n' } else { ' ' });
        }
    }
    let lines = prose.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    lines.map(str::to_owned).collect()
}

#[test]
fn a_block_is_found_with_its_heading_and_its_words() {
    let text = "# Page\n\n## One\nabove\n```rust,no_run\nlet a = \"# no heading\";\n```\n\n## Two\n~~~~\n```\n~~~~\n";
    let blocks = blocks_of("page.md", text);
    let seen: Vec<_> = blocks.iter().map(|block| (&*block.heading, &*block.kind, block.line)).collect();
    assert_eq!(seen, [("One", "rust", 5), ("Two", "", 10)]);
    assert_eq!((&*blocks[0].above, &*blocks[0].attributes), ("above", &["no_run".to_owned()][..]));
    assert_eq!((&*blocks[1].text, &*blocks[0].place()), ("```\n", "page.md:5"));
}

#[test]
fn code_in_a_sentence_is_found_over_a_lines_end() {
    let text = "Say `storage\naudit`, then\n\n```sh\n`not this`\n```\n| `a` | b |\n| c | `d` |\n";
    assert_eq!(spans_of(text), ["storage audit", "a", "d"]);
}
