//! Ctrl-C: what goes in batches ends after one and goes on later; what is one atom leaves nothing.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails must stop")]

mod common;

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command};

use common::{Place, Ran};

fn legacy(place: &Place, users: u32) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/legacy/make_legacy.py");
    let made = Command::new("python3")
        .arg(script)
        .arg(place.path("legacy"))
        .args(["--users", &users.to_string(), "--seed", "3"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
}

fn interrupt(child: &Child) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
}

fn ended(mut child: Child) -> Ran {
    let (mut stdout, mut stderr) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    Ran { code: child.wait().unwrap().code().unwrap_or(-1), stdout, stderr }
}

/// Waits until what a command makes first is there.
fn begun(child: &mut Child, file: &Path) {
    while !file.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it began");
        std::thread::yield_now();
    }
}

#[test]
fn an_import_ends_after_a_batch_and_goes_on() {
    let place = Place::new();
    legacy(&place, 4000);
    let mut child = place.command(&["import", "legacy", "--yes"]).spawn().unwrap();
    begun(&mut child, &place.data().join("manifest.json"));
    interrupt(&child);
    let ran = ended(child).exits(1);
    assert!(
        ran.stderr.contains("stopping after this batch") && ran.stderr.contains("error: interrupted after"),
        "{ran:#?}"
    );
    assert!(ran.stderr.contains("try: the same command again"), "{ran:#?}");
    place.run(&["audit"]).exits(0);
    let report = place.run(&["import", "legacy", "--yes", "--json"]).exits(0).json();
    let whole = Place::new();
    let legacy = place.path("legacy");
    let expected = whole.run(&["import", legacy.to_str().unwrap(), "--yes", "--json"]).exits(0).json();
    assert_eq!(report["after"], expected["after"]);
    place.run(&["audit"]).exits(0);
}

#[test]
fn a_copy_that_is_interrupted_goes_on() {
    let place = Place::new();
    legacy(&place, 2000);
    place.run(&["import", "legacy", "--yes"]).exits(0);
    let copy = ["copy", "--from", "json:data", "--to", "json:there", "--yes", "--json"];
    let mut child = place.command(&copy).spawn().unwrap();
    begun(&mut child, &place.path("there"));
    interrupt(&child);
    let ran = ended(child);
    // Where it was quick, it had ended.
    if ran.code != 0 {
        let ran = ran.exits(1);
        assert!(ran.stdout.contains("Interrupted") && ran.stdout.contains("the same command again"), "{ran:#?}");
    }
    let receipt = place.run(&copy).exits(0).json();
    assert_eq!(receipt["verified"], true);
    place.run(&["audit", "--data-dir", "there"]).exits(0);
}
