//! The book and the pages at the root, as they stand there: every command is run, every other block is looked at. A block of a
//! kind that is not known here fails, and so does a command that cannot be run and is not on the list of those with a reason
//! (`otherwise.rs`).
//!
//! Commands run in an empty directory, page after page, with an empty database `bot` (`stage.rs`). A page whose commands need
//! more has an entry in [`preparations`]: the heading above the block, and what to do first.
#![cfg(all(feature = "postgres", unix))]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that fails must stop, and it writes what it tests with"
)]

mod blocks;
#[path = "../common/mod.rs"]
mod common;
mod kinds;
mod links;
mod otherwise;
mod stage;

use std::collections::BTreeMap;

use blocks::{Block, blocks, pages, spans};
use common::{Place, Ran};
use stage::{Hosted, Stage};

/// What happens before the first block of commands below a heading of a page, and what is looked at after it.
struct Preparation {
    page: &'static str,
    heading: &'static str,
    before: fn(&mut Stage<'_>),
    after: fn(&Stage<'_>, &Ran),
}

impl Preparation {
    const fn new(page: &'static str, heading: &'static str, before: fn(&mut Stage<'_>)) -> Self {
        Self { page, heading, before, after: |_, _| {} }
    }
    const fn after(mut self, after: fn(&Stage<'_>, &Ran)) -> Self {
        self.after = after;
        self
    }
}

/// Pages whose commands a script runs, which is a step of scripts/test.
const ELSEWHERE: [(&str, &str); 1] = [("docs/first-sale.md", "newcomer")];

const URL: &str = "postgresql://bot:secret@localhost/bot";

fn preparations() -> Vec<Preparation> {
    vec![
        Preparation::new("README.md", "From the earlier system's files to PostgreSQL", |stage| {
            stage.begin_anew();
            stage.in_the_workspace();
            stage.must("scripts/legacy/make_legacy.py legacy --users 200 --seed 5 --shape mixed");
        })
        .after(everything_is_in_postgresql),
        Preparation::new("docs/operations.md", "Repeating a command", |stage| stage.imported()),
        Preparation::new("docs/postgres.md", "Start", |stage| stage.sql("postgres", "DROP DATABASE bot")),
        Preparation::new("docs/performance.md", "How to measure", |stage| {
            stage.in_the_workspace();
            stage.replace("/var/tmp/legacy --users 100000", "DIR/legacy --users 100");
        }),
        Preparation::new("docs/moving-data.md", "Importing what the earlier system left", |stage| stage.legacy("DIR")),
        Preparation::new("docs/moving-data.md", "Copy", |stage| {
            stage.export("DATABASE_URL", URL);
            stage.must("storage migrate");
        }),
        Preparation::new("docs/moving-data.md", "Merge", |stage| {
            // What was done while JSON stood in for the server.
            stage.begin_anew();
            stage.must("mkdir empty; storage import empty --mode json; storage user credit 1001 50 --mode json");
            stage.export("DATABASE_URL", URL);
            stage.must("storage migrate");
        }),
        Preparation::new("docs/moving-data.md", "Backup", |stage| {
            stage.begin_anew();
            stage.imported();
            stage.must("mkdir backups");
            stage.replace("/var/backups/bot", "DIR/backups");
        }),
        Preparation::new("docs/backup.md", "Each night", |stage| {
            stage.imported();
            stage.replace("/var/backups/bot", "DIR/backups");
        }),
        Preparation::new("docs/deployment.md", "systemd", |stage| {
            let settings = blocks("docs/deployment.md").into_iter().find(|block| block.kind == "env").unwrap();
            stage.replace("/var/lib/bot/data", "DIR/data");
            stage.replace("/etc/bot/storage.env", "DIR/storage.env");
            stage.file("storage.env", &settings.text);
            let legacy = blocks::root().join("examples/legacy-data");
            stage.must(&format!("set -a; . /etc/bot/storage.env; storage import '{}'", legacy.display()));
        }),
        Preparation::new("docs/deployment.md", "A hosted PostgreSQL with a pooler", |_| {}).after(|_, ran| {
            assert!(ran.stdout.contains("there is one, or something like it: statements are unnamed"), "{ran:#?}");
        }),
    ]
}

fn everything_is_in_postgresql(stage: &Stage<'_>, ran: &Ran) {
    assert!(ran.stdout.contains("copied, and proved equal"), "{ran:#?}");
    let status = stage.must("storage status --json").json();
    assert_eq!(status["backend"]["name"], "postgres");
    let moved = stage.must("STORAGE_MODE=json storage status --json").json();
    assert_eq!((&moved["users"], &moved["balance_sum"]), (&status["users"], &status["balance_sum"]));
    assert!(moved["backend"]["warnings"].to_string().contains("were moved to postgresql://"), "{moved}");
}

#[test]
fn every_block_is_of_a_kind_that_is_looked_at() {
    let (mut wrong, mut seen) = (Vec::new(), BTreeMap::<String, usize>::new());
    for page in pages() {
        let blocks = blocks(&page);
        for block in &blocks {
            *seen.entry(block.kind.clone()).or_default() += 1;
            if let Err(why) = kinds::check(block) {
                wrong.push(format!("{}: {why}", block.place()));
            }
        }
        let units: Vec<&Block> = blocks.iter().filter(|block| block.kind == "ini").collect();
        if wrong.is_empty() && !units.is_empty() {
            kinds::units(&units);
        }
    }
    println!("{seen:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_command_of_every_page_runs() {
    let hosted = Hosted::start();
    let (mut ran, mut looked_at) = (0, BTreeMap::<&str, usize>::new());
    let mut preparations = preparations();
    for page in pages() {
        let commands: Vec<Block> = blocks(&page).into_iter().filter(|block| block.kind == "sh").collect();
        if let Some((_, step)) = ELSEWHERE.iter().find(|(elsewhere, _)| *elsewhere == page) {
            otherwise::step_runs(step, &page).unwrap();
            *looked_at.entry("a step of scripts/test runs the page").or_default() +=
                commands.iter().map(|block| block.text.lines().count()).sum::<usize>();
            continue;
        }
        if commands.is_empty() {
            continue;
        }
        let mut stage = Stage::new(&hosted);
        for block in commands {
            let mut script = String::new();
            for line in block.text.lines() {
                match otherwise::why_not(line).unwrap_or_else(|why| panic!("{}: {line}: {why}", block.place())) {
                    Some(reason) => *looked_at.entry(reason).or_default() += 1,
                    None => {
                        ran += usize::from(!line.is_empty());
                        script.push_str(line);
                        script.push('\n');
                    }
                }
            }
            if script.trim().is_empty() {
                continue;
            }
            let place = preparations.iter().position(|known| (known.page, known.heading) == (&*page, &*block.heading));
            let preparation = place.map(|at| preparations.remove(at));
            if let Some(preparation) = &preparation {
                (preparation.before)(&mut stage);
            }
            let began = std::time::Instant::now();
            let result = stage.run(&script);
            assert_eq!(result.code, 0, "{}: {script}\n{result:#?}", block.place());
            println!("{} {:.1?}", block.place(), began.elapsed());
            if let Some(preparation) = &preparation {
                (preparation.after)(&stage, &result);
            }
        }
    }
    println!("{ran} lines run; not run: {looked_at:#?}");
    let unused: Vec<_> = preparations.iter().map(|unused| (unused.page, unused.heading)).collect();
    assert!(unused.is_empty(), "prepared for blocks that are not there: {unused:?}");
}

#[test]
fn the_way_to_postgresql_takes_five_commands_or_fewer() {
    let heading = "From the earlier system's files to PostgreSQL";
    let block = blocks("README.md").into_iter().find(|block| block.heading == heading).unwrap();
    let commands = block.text.lines().filter(|line| line.starts_with("storage ")).count();
    assert!((1..=5).contains(&commands), "{}", block.text);
}

#[test]
fn a_command_that_a_sentence_names_is_there_with_its_flags() {
    let place = Place::new();
    let helps: BTreeMap<String, String> = common::commands(&place)
        .into_iter()
        .map(|name| {
            let words: Vec<&str> = name.split(' ').chain(["--help"]).collect();
            let help = place.run(&words).exits(0).stdout;
            (name, help)
        })
        .collect();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for page in pages() {
        for span in spans(&page) {
            // What is in brackets stands for something.
            if span.starts_with("scripts/") && span.contains(' ') && !span.contains(['[', '<', '=']) {
                wrong.extend(otherwise::why_not(&span).err().map(|why| format!("{page}: `{span}`: {why}")));
            }
            let Some(line) = span.strip_prefix("storage ") else { continue };
            let words: Vec<&str> = line.split_whitespace().collect();
            // `storage COMMAND --help` and `storage --help` name none.
            if words[0].starts_with("--") || words[0].chars().all(|c| c.is_ascii_uppercase()) {
                continue;
            }
            seen += 1;
            let named = |name: &&String| *name == words[0] || words.len() > 1 && **name == words[..2].join(" ");
            let help = helps.keys().find(named).map(|name| &helps[name]);
            let flag = |word: &&&str| word.starts_with("--") && help.is_some_and(|help| !help.contains(**word));
            match (help, words.iter().find(flag)) {
                (None, _) => wrong.push(format!("{page}: there is no `{span}`")),
                (_, Some(flag)) => wrong.push(format!("{page}: `{span}`: there is no {flag}")),
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty() && seen > 100, "{seen} seen\n{}", wrong.join("\n"));
}
