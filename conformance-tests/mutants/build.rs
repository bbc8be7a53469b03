//! Copies the kernel, `Serial` and the example in memory, with every defect of the table in them and a switch before each.
//!
//! One copy and one compilation for all mutants; the originals stay as they are. A rule's mutant stands in the kernel's copy,
//! one of queue, pages and sweep in that of `Serial`, a store's in the example's.
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

/// A folder of sources that is copied into a module.
struct Folder {
    /// The module, and what stands before the names of its files in the table; empty for the root.
    module: &'static str,
    /// Where it lies, from here.
    path: &'static str,
    /// The file that declares the others.
    root: &'static str,
    /// What its paths mean in the copy, in this order.
    paths: &'static [(&'static str, &'static str)],
}

const FOLDERS: [Folder; 3] = [
    Folder {
        module: "kernel",
        path: "../../storage-core/src/kernel",
        root: "mod",
        // It uses nothing of its crate but what everybody can.
        paths: &[("crate::", "storage_core::")],
    },
    Folder {
        module: "serial",
        path: "../../storage-core/src/serial",
        root: "mod",
        paths: &[("crate::kernel::", "\u{3}::kernel::"), ("crate::", "storage_core::"), ("\u{3}", "crate::broken")],
    },
    Folder {
        module: "",
        path: "../../examples/memory-backend/src",
        root: "lib",
        paths: &[
            ("crate::", "crate::broken::"),
            ("storage_core::kernel::", "crate::broken::kernel::"),
            ("storage_core::serial::", "crate::broken::serial::"),
        ],
    },
];

fn main() {
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
    let copy: String = FOLDERS.iter().map(|folder| copied(folder, &mut places)).collect();
    assert!(places.is_empty(), "mutants of files that there are not: {:?}", places.keys());
    let out = std::env::var("OUT_DIR").expect("OUT_DIR");
    std::fs::write(Path::new(&out).join("broken.rs"), copy).expect("the copy");
}

/// A folder's files with their mutants, as a module.
fn copied(folder: &Folder, places: &mut BTreeMap<&str, BTreeMap<&str, Place>>) -> String {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder.path);
    println!("cargo::rerun-if-changed={}", sources.display());
    let mut files: Vec<_> = std::fs::read_dir(&sources).expect("the sources").flatten().collect();
    files.sort_by_key(std::fs::DirEntry::file_name);
    let (mut root, mut modules) = (String::new(), String::new());
    for file in files {
        let name = file.file_name().into_string().expect("a file name");
        let known = if folder.module.is_empty() { name.clone() } else { format!("{}/{name}", folder.module) };
        let source = std::fs::read_to_string(file.path()).expect("a source file");
        let code = changed(&known, &source, &places.remove(known.as_str()).unwrap_or_default());
        let code = folder.paths.iter().fold(code, |code, (path, in_copy)| code.replace(path, in_copy));
        // The module of the switch keeps its name.
        let code = code.replace('\u{2}', "crate::switch");
        match name.strip_suffix(".rs") {
            Some("tests") | None => {}
            Some(module) if module == folder.root => root = code,
            Some(module) => writeln!(modules, "mod {module} {{\n{code}\n}}").expect("a string"),
        }
    }
    if folder.module.is_empty() {
        root + &modules
    } else {
        format!("mod {} {{\n{root}\n{modules}\n}}\n", folder.module)
    }
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
        // Nothing but the declaration of tests stands behind such a line.
        !line.starts_with("//!") && !declares_module && *line != "#[cfg(test)]"
    };
    let code: Vec<&str> = code.lines().filter(is_code).collect();
    code.join("\n")
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
