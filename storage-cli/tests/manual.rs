//! `storage completions` and `storage man`.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails must stop")]

mod common;

use std::process::{Command, Stdio};

use common::Place;

/// The commands that the help lists, and those below them.
fn commands(place: &Place, path: &[&str]) -> Vec<String> {
    let help = place.run(&[path, &["--help"]].concat()).exits(0).stdout;
    let (_, list) = help.split_once("\nCommands:\n").unwrap();
    let names = list.lines().take_while(|line| !line.is_empty());
    // A description that is long goes on below itself.
    names
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')))
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .collect()
}

#[test]
fn every_command_has_a_page_and_is_completed() {
    let place = Place::new();
    let commands_of = |path: &[&str]| commands(&place, path);
    let mut all = commands_of(&[]);
    assert!(all.len() > 20, "{all:?}");
    let groups = ["user", "payments", "jobs"];
    for group in groups {
        all.extend(commands_of(&[group]).into_iter().map(|below| format!("{group}-{below}")));
    }
    std::fs::create_dir(place.path("man")).unwrap();
    place.run(&["man", "man"]).exits(0);
    let page = place.run(&["man"]).exits(0).stdout;
    assert!(page.contains(".TH storage 1") && page.contains("storage\\-copy"), "{page}");
    let bash = place.run(&["completions", "bash"]).exits(0).stdout;
    for name in &all {
        let page = std::fs::read_to_string(place.path(&format!("man/storage-{name}.1"))).unwrap();
        assert!(page.contains("Examples:") && page.contains("STORAGE_MODE"), "{name}: {page}");
        let word = name.split_once('-').filter(|(group, _)| groups.contains(group)).map_or(&**name, |(_, below)| below);
        assert!(bash.contains(&format!(" {word} ")) || bash.contains(&format!(" {word}\"")), "{name} is not completed");
    }
    place.run(&["man", "missing"]).exits(1);
    // Neither needs a store, nor a configuration that makes sense.
    let odd = [("STORAGE_MODE", "sqlite"), ("DATABASE_URL", "nonsense")];
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = place.run_with(&["completions", shell], &odd).exits(0).stdout;
        assert!(script.contains("set-language") && script.contains("keep-source"), "{shell}");
    }
    assert!(!place.data().exists());
    let mut parse = Command::new("bash");
    parse.arg("-n").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    common::finish(parse, bash.as_bytes()).exits(0);
}
