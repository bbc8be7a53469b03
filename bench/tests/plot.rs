//! The plots in docs are exactly what the command makes of the figures beside them, so that no plot differs from its data.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance");

fn plot(from: &Path, to: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_storage-bench")).arg("plot").arg(from).arg("--to").arg(to).output().unwrap()
}

#[test]
fn the_plots_in_docs_show_their_data() {
    let scratch = tempfile::tempdir().unwrap();
    let output = plot(Path::new(DOCS), scratch.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = |dir: &Path| {
        let mut names: Vec<_> = dir.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.retain(|name| Path::new(name).extension().is_some_and(|ending| ending == "svg"));
        names.sort_unstable();
        names
    };
    assert_eq!(names(scratch.path()), names(Path::new(DOCS)));
    for name in names(scratch.path()) {
        let (made, kept) = (scratch.path().join(&name), Path::new(DOCS).join(&name));
        assert!(
            fs::read(made).unwrap() == fs::read(kept).unwrap(),
            "docs/performance/{} does not show its data; run `storage-bench plot`",
            name.display()
        );
    }
}

#[test]
fn what_is_missing_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let docs = Path::new(DOCS);
    fs::copy(docs.join("json.json"), scratch.path().join("json.json")).unwrap();
    let output = plot(scratch.path(), scratch.path());
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("pg.json"));
    // A run of another part has no figures for this plot.
    fs::copy(docs.join("json.json"), scratch.path().join("pg.json")).unwrap();
    let output = plot(scratch.path(), scratch.path());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no table \"credit\" by 8 tasks"), "{said}");
}
