//! On a terminal the command asks, and shows colours; elsewhere neither.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails must stop")]

mod common;

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use common::{Place, Ran, finish};

/// Runs the command on a terminal of its own, where `typed` is typed.
fn on_terminal(place: &Place, line: &str, variables: &[(&str, &str)], typed: &str) -> Ran {
    finish(terminal(place, line, variables), typed.as_bytes())
}

fn terminal(place: &Place, line: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new("script");
    for (name, value) in place.command::<&str>(&[]).get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
        .args(["--quiet", "--return", "--command"])
        .arg(format!("{} {line}", env!("CARGO_BIN_EXE_storage")))
        .arg("/dev/null")
        .current_dir(place.dir.path())
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Presses Ctrl-C when this text was shown; answers the exit code.
fn interrupted_at(text: &str, place: &Place, line: &str) -> Option<i32> {
    let mut child = terminal(place, line, &[]).spawn().unwrap();
    let (mut stdout, mut shown) = (child.stdout.take().unwrap(), Vec::new());
    while !String::from_utf8_lossy(&shown).contains(text) {
        let mut some = [0; 256];
        let count = stdout.read(&mut some).unwrap();
        assert!(count > 0, "{line} did not say {text:?}: {}", String::from_utf8_lossy(&shown));
        shown.extend_from_slice(&some[..count]);
    }
    child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    stdout.read_to_end(&mut shown).unwrap();
    child.wait().unwrap().code()
}

#[test]
fn somebody_is_asked_and_the_answer_counts() {
    let place = Place::new();
    let line = "user credit 7 5 --key k";
    let no = on_terminal(&place, line, &[], "n\n").exits(7);
    assert!(no.stdout.contains("Go on? [y/N]") && no.stdout.contains("not confirmed"), "{no:#?}");
    assert!(!place.data().exists());
    // Anything but a yes is a no.
    on_terminal(&place, line, &[], "\n").exits(7);
    let yes = on_terminal(&place, line, &[], "y\n").exits(0);
    assert!(yes.stdout.contains("balance after: 5.00"), "{yes:#?}");
    // Who said yes beforehand is not asked.
    let yes = on_terminal(&place, &format!("{line} --yes"), &[], "").exits(0);
    assert!(!yes.stdout.contains("Go on?") && yes.stdout.contains("before, under this key"), "{yes:#?}");
}

#[test]
fn an_interrupt_at_the_question_ends_it_there() {
    let place = Place::new();
    place.run(&["user", "credit", "7", "5", "--yes"]).exits(0);
    let before = place.run(&["dump"]).exits(0).stdout;
    for line in ["copy --from json:data --to json:there", "user debit 7 1"] {
        assert_eq!(interrupted_at("Go on?", &place, line), Some(130), "{line}");
        // Also while the question is still being put together: behind the first line of the plan.
        for _ in 0..5 {
            assert_eq!(interrupted_at("\n", &place, line), Some(130), "{line}");
        }
    }
    assert!(!place.path("there").exists());
    assert_eq!(place.run(&["dump"]).exits(0).stdout, before);
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let place = Place::new();
    place.run(&["user", "credit", "7", "5", "--yes"]).exits(0);
    let escape = '\u{1b}';
    assert!(on_terminal(&place, "audit", &[], "").exits(0).stdout.contains(escape));
    for variables in [[("NO_COLOR", "1")], [("TERM", "dumb")]] {
        let plain = on_terminal(&place, "audit", &variables, "").exits(0);
        assert!(!plain.stdout.contains(escape), "{variables:?}: {plain:#?}");
    }
    // An empty one says nothing.
    assert!(on_terminal(&place, "audit", &[("NO_COLOR", "")], "").exits(0).stdout.contains(escape));
    assert!(!on_terminal(&place, "audit --json", &[], "").exits(0).stdout.contains(escape));
    // Into a pipe: neither colours nor bars.
    let piped = place.run(&["audit"]).exits(0);
    let copied = place.run(&["copy", "--from", "json:data", "--to", "json:there", "--yes"]).exits(0);
    for ran in [&piped, &copied] {
        assert!(!ran.stdout.contains(escape) && !ran.stderr.contains(escape), "{ran:#?}");
    }
}
