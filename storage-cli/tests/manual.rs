//! `storage completions` and `storage man`.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails must stop")]

mod common;

use std::process::{Command, Stdio};

use common::Place;

#[test]
fn every_command_has_a_page_and_is_completed() {
    let place = Place::new();
    let all = common::commands(&place);
    assert!(all.len() > 20, "{all:?}");
    std::fs::create_dir(place.path("man")).unwrap();
    place.run(&["man", "man"]).exits(0);
    let page = place.run(&["man"]).exits(0).stdout;
    assert!(page.contains(".TH storage 1") && page.contains("storage\\-copy"), "{page}");
    let bash = place.run(&["completions", "bash"]).exits(0).stdout;
    for name in &all {
        let page = std::fs::read_to_string(place.path(&format!("man/storage-{}.1", name.replace(' ', "-")))).unwrap();
        assert!(page.contains("Examples:") && page.contains("STORAGE_MODE"), "{name}: {page}");
        let word = name.rsplit(' ').next().unwrap();
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
