//! Commands that are not run here, each with the reason, and what is looked at instead.

use super::blocks::{read, root};

/// A command that is not run here.
struct Otherwise {
    /// What its line begins with.
    prefix: &'static str,
    /// Why it is not run.
    reason: &'static str,
    /// What is wrong with the words after the prefix.
    check: fn(&[&str]) -> Result<(), String>,
}

const OTHERWISE: &[Otherwise] = &[
    Otherwise {
        prefix: "scripts/quickstart",
        reason: "the step `quickstart` of scripts/test runs it",
        check: quickstart,
    },
    Otherwise { prefix: "scripts/newcomer", reason: "the step `newcomer` of scripts/test runs it", check: newcomer },
    Otherwise { prefix: "scripts/test", reason: "it runs this test", check: steps },
    Otherwise { prefix: "scripts/prove", reason: "a proof takes minutes or hours", check: proof },
    Otherwise { prefix: "scripts/gates", reason: "a gate builds everything anew, and installs tools", check: gates },
    Otherwise {
        prefix: "scripts/book",
        reason: "it may install mdbook; the step `documentation` checks pages and links",
        check: book,
    },
    Otherwise { prefix: "cargo build --release", reason: "an optimised build takes minutes", check: packages },
    Otherwise {
        prefix: "cargo build --example",
        reason: "the program is the reader's; the page has its text, which is compiled",
        check: |words| expect(words.len() == 1, || "which example?".to_owned()),
    },
    Otherwise {
        prefix: "python3",
        reason: "the program that the tool breaks is the reader's; the step `faults` of scripts/test takes ours",
        check: fault_tool,
    },
    Otherwise { prefix: "cargo test", reason: "the step `tests` of scripts/test runs every test", check: packages },
    Otherwise { prefix: "cargo clippy", reason: "the step `clippy` of scripts/test runs it", check: clippy },
    Otherwise {
        prefix: "target/release/storage-bench",
        reason: "a measurement takes minutes; a test of bench gives these lines to the program's own parser",
        check: bench,
    },
];

/// Why a line is not run here, when it is not; `Err` when it cannot be right.
pub(crate) fn why_not(line: &str) -> Result<Option<&'static str>, String> {
    let line = line.split(" #").next().unwrap_or_default().trim();
    let is_setting = |word: &&str| word.split_once('=').is_some_and(|(name, _)| is_variable(name));
    let settings: Vec<&str> = line.split(' ').take_while(is_setting).collect();
    let words: Vec<&str> = line.split_whitespace().skip(settings.len()).collect();
    let command = words.join(" ");
    let Some(known) = OTHERWISE
        .iter()
        .find(|known| command.strip_prefix(known.prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')))
    else {
        return Ok(None);
    };
    // What is set for a script must be something that it reads.
    if let Some(script) = words.first().filter(|word| word.starts_with("scripts/")) {
        let text = script_text(script);
        for (name, _) in settings.iter().filter_map(|setting| setting.split_once('=')) {
            expect(text.contains(name), || format!("{script} knows no {name}"))?;
        }
    }
    (known.check)(&words[known.prefix.split(' ').count()..])?;
    Ok(Some(known.reason))
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn script_text(name: &str) -> String {
    read(&root().join(name))
}

/// What a script's variable lists: `steps=(python postgres ...)`.
fn listed(script: &str, list: &str) -> Vec<String> {
    let text = script_text(script);
    let begin = format!("\n{list}=(");
    let (_, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{script} has no list {list}"));
    rest.split(')').next().unwrap().split_whitespace().map(str::to_owned).collect()
}

fn all_of(words: &[&str], known: &[String], what: &str) -> Result<(), String> {
    match words.iter().find(|word| !known.iter().any(|name| name == *word)) {
        Some(word) => Err(format!("{word} is no {what}: there are {}", known.join(" "))),
        None => Ok(()),
    }
}

fn quickstart(words: &[&str]) -> Result<(), String> {
    expect(words.len() <= 1, || "it takes one directory".to_owned())?;
    all_of(&["quickstart"], &listed("scripts/test", "steps"), "step of scripts/test")
}

fn newcomer(words: &[&str]) -> Result<(), String> {
    expect(words.is_empty(), || "it takes no words".to_owned())?;
    step_runs("newcomer", "docs/first-sale.md")
}

/// A step of scripts/test runs the script of that name, and that one reads the page.
pub(crate) fn step_runs(step: &str, page: &str) -> Result<(), String> {
    all_of(&[step], &listed("scripts/test", "steps"), "step of scripts/test")?;
    let script = format!("scripts/{step}");
    expect(script_text("scripts/test").contains(&format!(" {script}\n")), || {
        format!("scripts/test does not run {script}")
    })?;
    expect(script_text(&script).contains(page), || format!("{script} does not read {page}"))
}

fn steps(words: &[&str]) -> Result<(), String> {
    match words {
        ["--long", runs @ ..] => all_of(runs, &listed("scripts/test", "long_runs"), "long run of scripts/test"),
        _ => all_of(words, &listed("scripts/test", "steps"), "step of scripts/test"),
    }
}

fn gates(words: &[&str]) -> Result<(), String> {
    let mut known = listed("scripts/gates", "gates");
    known.push("advisories".to_owned());
    all_of(words, &known, "gate")
}

fn book(words: &[&str]) -> Result<(), String> {
    all_of(words, &["--check".to_owned()], "argument of scripts/book")
}

/// The first word has a line in the usage; each other one is known to the script.
fn proof(words: &[&str]) -> Result<(), String> {
    let text = script_text("scripts/prove");
    let (name, rest) = words.split_first().ok_or("which proof?")?;
    let usage = format!("\n#   scripts/prove {name} ");
    expect(text.contains(&usage), || format!("scripts/prove has no {name}"))?;
    let known = |word: &str| {
        word.bytes().all(|byte| byte.is_ascii_digit())
            || text.split(|c: char| !c.is_alphanumeric() && c != '-').any(|one| one == word)
    };
    match rest.iter().find(|word| !known(word)) {
        Some(word) => Err(format!("scripts/prove {name} knows no {word}")),
        None => Ok(()),
    }
}

/// `-p PACKAGE` is a member of the workspace, and `--test NAME` one of its tests.
fn packages(words: &[&str]) -> Result<(), String> {
    let mut dir = root();
    for pair in words.windows(2) {
        match pair {
            ["-p" | "--package", package] => dir = member(package)?,
            ["--test", test] => {
                let there = [format!("tests/{test}.rs"), format!("tests/{test}/main.rs")];
                expect(there.iter().any(|file| dir.join(file).exists()), || {
                    format!("{} has no test {test}", dir.display())
                })?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The directory of a package.
fn member(package: &str) -> Result<std::path::PathBuf, String> {
    let manifest = read(&root().join("Cargo.toml"));
    let (_, members) = manifest.split_once("members = [").ok_or("no members")?;
    let (members, _) = members.split_once(']').ok_or("no end of members")?;
    let paths = members.split(',').map(|path| path.trim().trim_matches('"')).filter(|path| !path.is_empty());
    let named = format!("\nname = \"{package}\"\n");
    paths
        .map(|path| root().join(path))
        .find(|dir| read(&dir.join("Cargo.toml")).contains(&named))
        .ok_or_else(|| format!("no package {package}"))
}

/// A tool of scripts/fault, and options that it has.
fn fault_tool(words: &[&str]) -> Result<(), String> {
    let (tool, options) = words.split_first().ok_or("which tool?")?;
    expect(tool.starts_with("scripts/fault/") && root().join(tool).exists(), || format!("there is no {tool}"))?;
    let text = script_text(tool) + &script_text("scripts/fault/faultlib.py");
    match options.iter().find(|word| word.starts_with("--") && !text.contains(&format!("add_argument('{word}'"))) {
        Some(word) => Err(format!("{tool} has no {word}")),
        None => Ok(()),
    }
}

fn clippy(words: &[&str]) -> Result<(), String> {
    let line = format!("cargo_for clippy {}", words.join(" "));
    expect(script_text("scripts/test").contains(&line), || "scripts/test has no such line".to_owned())
}

fn bench(words: &[&str]) -> Result<(), String> {
    let test = "target/release/storage-bench";
    expect(!words.is_empty() && script_text("bench/src/documented.rs").contains(test), || {
        "bench does not test it".to_owned()
    })
}

#[test]
fn what_is_not_run_is_looked_at() {
    for right in [
        "scripts/test",
        "scripts/test clippy   # one step",
        "scripts/test --long",
        "scripts/test --long cuts",
        "JOBS=4 scripts/prove pg-cut",
        "scripts/prove json 300",
        "scripts/prove pg-cut --quick",
        "cargo test -p storage-json --test conformance payments",
        "scripts/gates typos",
        "cargo build --example probe",
        "python3 scripts/fault/crash_enum.py --probe target/debug/examples/probe --store store.db --nested 1",
    ] {
        assert!(why_not(right).unwrap().is_some(), "{right}");
    }
    for wrong in [
        "scripts/test everything",
        "scripts/test --long clippy",
        "scripts/test clippy --long",
        "scripts/prove",
        "scripts/prove nonsense",
        "scripts/prove pg-cut --slow",
        "NO_SUCH=4 scripts/prove pg-cut",
        "cargo build --release -p nonsense",
        "cargo test -p storage-json --test nonsense",
        "cargo clippy --nonsense",
        "scripts/gates none",
        "python3 scripts/fault/nonsense.py --probe x",
        "python3 scripts/fault/crash_enum.py --nonsense x",
    ] {
        assert!(why_not(wrong).is_err(), "{wrong}");
    }
    for other in ["storage status", "scripts/tester", "echo scripts/test", "A=1 storage status"] {
        assert_eq!(why_not(other), Ok(None), "{other}");
    }
}
