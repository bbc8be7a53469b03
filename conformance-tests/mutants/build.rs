//! Copies the example backend, with every defect of the table in it and a switch before each.
//!
//! One copy and one compilation for all mutants; the example itself stays as it is.
#![expect(clippy::disallowed_methods, clippy::expect_used, reason = "a build script that fails must say why")]

#[expect(dead_code, reason = "the program reads the rest")]
#[path = "src/table.rs"]
mod table;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use table::{Change, mutants};

/// What is done at one place of a file: the numbers of the mutants and their code.
#[derive(Default)]
struct Place {
    instead: Vec<(usize, &'static str)>,
    before: Vec<(usize, &'static str)>,
}

fn main() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/memory-backend/src");
    println!("cargo::rerun-if-changed={}", sources.display());
    println!("cargo::rerun-if-changed=src/table.rs");
    println!("cargo::rerun-if-changed=src/table");
    let mut places: BTreeMap<&str, BTreeMap<&str, Place>> = BTreeMap::new();
    for (number, mutant) in (1..).zip(mutants()) {
        for change in mutant.changes {
            let (Change::Replace(file, text, code) | Change::Before(file, text, code)) = *change;
            let place = places.entry(file).or_default().entry(text).or_default();
            match change {
                Change::Replace(..) => place.instead.push((number, code)),
                Change::Before(..) => place.before.push((number, code)),
            }
        }
    }
    let mut modules = String::new();
    let mut root = String::new();
    let mut files: Vec<_> = std::fs::read_dir(&sources).expect("the example's sources").flatten().collect();
    files.sort_by_key(std::fs::DirEntry::file_name);
    for file in files {
        let name = file.file_name().into_string().expect("a file name");
        let source = std::fs::read_to_string(file.path()).expect("a source file");
        let code = changed(&name, &source, &places.remove(name.as_str()).unwrap_or_default());
        match name.strip_suffix(".rs") {
            Some("lib") => root = code,
            Some(module) => writeln!(modules, "mod {module} {{\n{code}\n}}").expect("a string"),
            None => {}
        }
    }
    assert!(places.is_empty(), "mutants of files that there are not: {:?}", places.keys());
    let out = std::env::var("OUT_DIR").expect("OUT_DIR");
    std::fs::write(Path::new(&out).join("broken.rs"), format!("{root}\n{modules}")).expect("the copy");
}

/// A file with its mutants, ready to stand in a module of its own.
fn changed(name: &str, source: &str, places: &BTreeMap<&str, Place>) -> String {
    // What is put in is found again by a mark, so that no text is looked for in another mutant's code.
    let mut code = source.to_owned();
    let mut put = Vec::new();
    for (text, place) in places {
        let plain = text.replace(['«', '»'], "");
        let found = source.matches(&plain).count();
        if found != 1 || !code.contains(&plain) {
            println!("cargo::error={name}: stands there {found} times, or overlaps with another place: {plain:?}");
            continue;
        }
        let (head, part, tail) = match (text.split_once('«'), text.rsplit_once('»')) {
            (Some((head, _)), Some((_, tail))) => (head, &plain[head.len()..plain.len() - tail.len()], tail),
            _ => ("", plain.as_str(), ""),
        };
        code = code.replacen(&plain, &format!("{head}\u{1}{}\u{1}{tail}", put.len()), 1);
        put.push(switched(part, place));
    }
    for (number, text) in put.iter().enumerate() {
        code = code.replacen(&format!("\u{1}{number}\u{1}"), text, 1);
    }
    let is_code = |line: &&str| {
        let declares_module = line.starts_with("mod ") && line.ends_with(';');
        !line.starts_with("//!") && !declares_module
    };
    let code: Vec<&str> = code.lines().filter(is_code).collect();
    code.join("\n").replace("crate::", "crate::broken::").replace('\u{2}', "crate::switch")
}

/// The text behind a switch. `\u{2}` stands for the module of the switch, whose name must stay as it is.
fn switched(text: &str, place: &Place) -> String {
    let mut code = String::new();
    for (number, before) in &place.before {
        let before = before.replace("switch::", "\u{2}::");
        writeln!(code, "if \u{2}::current() == {number} {{ {before} }}").expect("a string");
    }
    if place.instead.is_empty() {
        return code + text;
    }
    code.push_str("match \u{2}::current() {\n");
    for (number, instead) in &place.instead {
        let instead = instead.replace("switch::", "\u{2}::");
        writeln!(code, "{number} => {{ {instead} }}").expect("a string");
    }
    let whole = format!("{code} _ => {{ {text} }}\n}}");
    // A statement stands alone; an expression may be part of a longer one.
    if text.trim_end().ends_with(';') || !place.before.is_empty() { whole } else { format!("({whole})") }
}
