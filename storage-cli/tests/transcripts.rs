//! Every command as somebody types it, with all that it prints: `tests/transcripts/*.txt`. The same lines run on a JSON
//! directory and on PostgreSQL, and answer the same; files that begin with `# only json` or `# only postgres` on one.
//! `GOLDEN=write cargo test -p storage-cli --test transcripts` renews them: look at what changed.
//!
//! The objects that `--json` answers are gathered on the way: `docs/command-json.md` says what is in them, and is made from
//! what was seen here. `UPDATE_DOCS=1` with the same command writes it.
//!
//! In a file, `$` begins a command, `!` a line of stderr, `=>` an exit code that is not 0. `| head -N` shows so many lines.
#![cfg(all(feature = "postgres", unix))]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that fails must stop, and it writes what it tests with"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use common::pg::migrated;
use common::shapes::{Shape, document};
use common::{Place, Ran, finish};
use pg_test_server::{Database, Server};
use regex::Regex;

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts");
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/command-json.md");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    Json,
    Postgres,
}

/// What stands for what differs from run to run.
fn patterns() -> Vec<(Regex, &'static str)> {
    [
        // The test server's own.
        (r"(?m)^warning: fsync is off on the server: .*\n", ""),
        (r#""fsync is off on the server: [^"]*""#, ""),
        (r"postgresql://127\.0\.0\.1:\d+/\w+", "json:DATABASE"),
        (r"\(STORAGE_MODE is (json|postgres)\)", "(STORAGE_MODE says so)"),
        (r", which will be created", ""),
        (r" --data-dir data\b", ""),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", "TIME"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME"),
        (r"storage-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ", "storage-TIME"),
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
        (r"[0-9a-f]{64}", "SHA256"),
        (r#""bytes":\d+"#, r#""bytes":N"#),
        (r"bytes( +)\d+", "bytes${1}N"),
        (r"process \d+", "process PID"),
        (r"\d+(\.\d+)? (KiB|MiB|GiB|TiB|MB|GB|TB)", "SIZE"),
    ]
    .map(|(pattern, shown)| (Regex::new(pattern).unwrap(), shown))
    .to_vec()
}

struct Stage {
    on: On,
    place: Place,
    database: Option<Database>,
    patterns: Vec<(Regex, &'static str)>,
}

impl Stage {
    fn new(on: On) -> Self {
        let place = Place::new();
        let database = (on == On::Postgres).then(|| migrated(Server::shared().unwrap()));
        std::fs::copy(Path::new(HERE).join("store.jsonl"), place.path("store.jsonl")).unwrap();
        let legacy = place.path("legacy");
        std::fs::create_dir(&legacy).unwrap();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/legacy-data");
        for entry in std::fs::read_dir(example).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), legacy.join(entry.file_name())).unwrap();
        }
        Self { on, place, database, patterns: patterns() }
    }

    fn run(&self, line: &str) -> Ran {
        let dir = self.place.dir.path().canonicalize().unwrap();
        let mut words = words(&line.replace("DIR/", &format!("{}/", dir.display()))).into_iter();
        let mut variables = Vec::new();
        let mut word = words.next().unwrap();
        while let Some((name, value)) = word.clone().split_once('=') {
            variables.push((name.to_owned(), value.to_owned()));
            word = words.next().unwrap();
        }
        assert_eq!(word, "storage", "{line}");
        let arguments: Vec<String> = words.collect();
        let mut command = self.place.command(&arguments);
        command.env("DATA_DIR", "data");
        command.env("STORAGE_MODE", if self.on == On::Json { "json" } else { "postgres" });
        if let Some(database) = &self.database {
            command.env("DATABASE_URL", database.url());
        }
        let ran = finish(with(command, variables), &[]);
        if self.on == On::Postgres {
            let secret = Server::shared().unwrap().password();
            assert!(
                !ran.stdout.contains(secret) && !ran.stderr.contains(secret),
                "{line} tells the password: {ran:#?}"
            );
        }
        ran
    }

    /// Without what differs from run to run, and from backend to backend.
    fn shown(&self, text: &str) -> String {
        let dir = self.place.dir.path();
        let real = dir.canonicalize().unwrap();
        let mut shown = text.replace(&real.display().to_string(), "DIR").replace(&dir.display().to_string(), "DIR");
        for (pattern, with) in &self.patterns {
            shown = pattern.replace_all(&shown, *with).into_owned();
        }
        if self.on == On::Postgres {
            let as_json = [
                ("postgres at json:DATABASE", "json at data"),
                ("there are users at json:DATABASE", "there are users at data"),
                ("json:DATABASE takes changes", "data takes changes"),
                (r#""name":"postgres""#, r#""name":"json""#),
                (r#""location":"json:DATABASE""#, r#""location":"data""#),
                (r#""store":"json:DATABASE""#, r#""store":"data""#),
                ("STORAGE_MODE is postgres", "STORAGE_MODE is json"),
            ];
            for (theirs, ours) in as_json {
                shown = shown.replace(theirs, ours);
            }
        }
        shown.replace("STORAGE_MODE is json", "STORAGE_MODE says so")
    }
}

fn with(mut command: std::process::Command, variables: Vec<(String, String)>) -> std::process::Command {
    command.envs(variables);
    command
}

/// The words of a line as a shell reads them.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            _ => word.push(c),
        }
    }
    words.push(word);
    words
}

/// What the lines of a transcript answer.
fn play(text: &str, stage: &Stage, seen: &mut BTreeMap<String, Shape>) -> String {
    let mut page = String::new();
    for line in text.lines() {
        let Some(command) = line.strip_prefix("$ ") else {
            if line.starts_with('#') {
                let _ = writeln!(page, "{line}");
            }
            continue;
        };
        let (command, most) = match command.split_once(" | head -") {
            Some((command, most)) => (command, most.parse().unwrap()),
            None => (command, usize::MAX),
        };
        let ran = stage.run(command);
        let _ = writeln!(page, "{line}");
        for line in stage.shown(&ran.stderr).lines() {
            let _ = writeln!(page, "! {line}");
        }
        for line in stage.shown(&ran.stdout).lines().take(most) {
            let _ = writeln!(page, "{line}");
        }
        // What is wrong with a machine is another machine's own.
        if ran.code != 0 && !command.contains(" doctor") {
            let _ = writeln!(page, "=> {}", ran.code);
        }
        if command.contains(" --json") && !command.contains(" dump -") {
            let object = ran.json();
            let kind = if object.get("error").is_some() {
                "an error".to_owned()
            } else if object.get("dry_run") == Some(&true.into()) && object.get("would").is_some() {
                "a plan (`--dry-run`)".to_owned()
            } else {
                format!("`storage {}`", path(command).join(" "))
            };
            seen.entry(kind).or_default().see(&object);
        }
    }
    page
}

/// The words of a command line that name the command.
fn path(line: &str) -> Vec<String> {
    let words = words(line);
    let at = words.iter().position(|word| word == "storage").unwrap();
    let group = ["user", "payments", "jobs"].contains(&words[at + 1].as_str());
    words[at + 1..].iter().take(if group { 2 } else { 1 }).cloned().collect()
}

fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(HERE).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "txt"));
    files.sort_unstable();
    files
}

#[test]
fn every_command_answers_as_it_did_on_both_backends() {
    let write = std::env::var("GOLDEN").is_ok_and(|value| value == "write");
    let mut seen = BTreeMap::new();
    let (mut used, mut wrong) = (BTreeSet::new(), Vec::new());
    for file in files() {
        let text = std::fs::read_to_string(&file).unwrap();
        let stages: &[On] = match text.lines().next() {
            Some("# only json") => &[On::Json],
            Some("# only postgres") => &[On::Postgres],
            _ => &[On::Json, On::Postgres],
        };
        used.extend(text.lines().filter_map(|line| line.strip_prefix("$ ")).map(|line| path(line).join(" ")));
        let mut wanted = text.clone();
        for (number, on) in stages.iter().enumerate() {
            let page = play(&text, &Stage::new(*on), &mut seen);
            if write && number == 0 {
                std::fs::write(&file, &page).unwrap();
                wanted.clone_from(&page);
            }
            if page != wanted {
                let differing = page.lines().zip(wanted.lines()).find(|(one, other)| one != other);
                let (got, expected) = differing.unwrap_or(("one of them is longer", ""));
                wrong.push(format!("{} on {on:?}\n  {expected}\n  {got}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\nGOLDEN=write renews them", wrong.join("\n"));
    for command in common::commands(&Place::new()) {
        assert!(used.contains(&command), "no transcript shows `storage {command}`");
    }
    let page = document(&seen);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(DOCUMENT, &page).unwrap();
    }
    let known = std::fs::read_to_string(DOCUMENT).unwrap_or_default();
    assert!(known == page, "docs/command-json.md is not what the commands answer: UPDATE_DOCS=1 renews it");
}
