//! What is looked at in a block that is not run as commands, by its kind.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::blocks::{Block, read, root};
use super::common::{Place, finish};
use super::otherwise;

/// What is wrong with a block, or nothing. Commands (`sh`) are another file's.
pub(crate) fn check(block: &Block) -> Result<(), String> {
    match &*block.kind {
        "sh" => Ok(()),
        "rust" => rust(block),
        "json" => json(&block.text),
        "toml" => toml(&block.text),
        "text" => text(block),
        "env" => settings(&block.text),
        "ini" => unit_name(block).map(drop),
        "dockerfile" => dockerfile(&block.text),
        "" => Err("a block needs a word behind its fence".to_owned()),
        kind => Err(format!(
            "nothing here knows what to do with `{kind}`: take another word, or add a check to storage-cli/tests/book/kinds.rs"
        )),
    }
}

/// The page is compiled by a documentation test, and this block with it.
fn rust(block: &Block) -> Result<(), String> {
    let harmless = ["no_run", "standalone_crate"];
    if let Some(word) = block.attributes.iter().find(|word| !harmless.contains(&&***word)) {
        return Err(format!("{word}: a block of Rust is compiled"));
    }
    if compiled_pages().contains(&block.page) {
        return Ok(());
    }
    Err(format!(
        "no crate compiles this page: put `#[doc = include_str!(\"../../{}\")]` where storage-factory has the guide",
        block.page
    ))
}

/// The pages that some crate takes in as documentation, and so compiles.
fn compiled_pages() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in sources(&root()) {
        for line in read(&file).lines() {
            let included =
                line.trim().strip_prefix("#[doc = include_str!(\"").and_then(|rest| rest.strip_suffix("\")]"));
            let page = included.map(|path| plain(&file.parent().unwrap().join(path)));
            if let Some(Ok(page)) = page.as_deref().map(|page| page.strip_prefix(root())) {
                found.insert(page.display().to_string());
            }
        }
    }
    found
}

/// The crates' own files: what cargo compiles as libraries.
fn sources(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut directories) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = directories.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                directories.push(path);
            } else if name == "lib.rs" {
                found.push(path);
            }
        }
    }
    found
}

/// Without `..`, which a path that exists need not be asked for.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut path, part| {
        if part == Component::ParentDir {
            path.pop();
        } else {
            path.push(part);
        }
        path
    })
}

/// One value, or one on each line.
fn json(text: &str) -> Result<(), String> {
    if serde_json::from_str::<Value>(text).is_ok() {
        return Ok(());
    }
    let mut lines = text.lines().filter(|line| !line.is_empty());
    lines.try_for_each(|line| serde_json::from_str::<Value>(line).map(drop).map_err(|error| format!("{error}: {line}")))
}

/// Parts of a `Cargo.toml`: cargo reads them, our crates have this version and these features.
fn toml(text: &str) -> Result<(), String> {
    let place = Place::new();
    let dependencies = if text.starts_with('[') { "" } else { "[dependencies]\n" };
    let package = "[package]\nname = \"page\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
    write(&place.path("Cargo.toml"), &format!("{package}{dependencies}{text}"));
    for dir in ["src", "tests"] {
        std::fs::create_dir(place.path(dir)).unwrap();
    }
    write(&place.path("src/lib.rs"), "");
    write(&place.path("tests/conformance.rs"), "");
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]).current_dir(place.dir.path());
    let ran = finish(piped(cargo), &[]);
    if ran.code != 0 {
        return Err(ran.stderr);
    }
    let read: Value = serde_json::from_str(&ran.stdout).unwrap();
    for taken in read["packages"][0]["dependencies"].as_array().unwrap() {
        let name = taken["name"].as_str().unwrap();
        let Ok(ours) = std::fs::read_to_string(root().join(name).join("Cargo.toml")) else { continue };
        let version = concat!("^", env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));
        if taken["req"] != version {
            return Err(format!("{name} is of version {}", env!("CARGO_PKG_VERSION")));
        }
        let mut features = taken["features"].as_array().unwrap().iter().map(|feature| feature.as_str().unwrap());
        if let Some(missing) = features.find(|feature| !ours.contains(&format!("\n{feature} = ["))) {
            return Err(format!("{name} has no feature {missing}"));
        }
    }
    Ok(())
}

/// What a test wrote there, or a drawing; not commands that nobody runs.
fn text(block: &Block) -> Result<(), String> {
    if let Some((_, file)) =
        block.above.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")?.split_once(": written by "))
    {
        let name = block.page.rsplit('/').next().unwrap();
        let writer = std::fs::read_to_string(root().join(file)).map_err(|error| format!("{file}: {error}"))?;
        return if writer.contains(name) { Ok(()) } else { Err(format!("{file} does not write {name}")) };
    }
    let command = block
        .text
        .lines()
        .find(|line| ["$ ", "storage ", "scripts/", "cargo "].iter().any(|begin| line.starts_with(begin)));
    command.map_or(Ok(()), |line| Err(format!("a command that nobody runs; `sh` runs it: {line}")))
}

/// `NAME=VALUE`, each name one that the programs read.
fn settings(text: &str) -> Result<(), String> {
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, _) = line.split_once('=').ok_or_else(|| format!("no setting: {line}"))?;
        known_variable(name)?;
    }
    Ok(())
}

/// The page on operations lists what the programs read, and a test of its own proves each.
fn known_variable(name: &str) -> Result<(), String> {
    let listed = read(&root().join("docs/operations.md")).contains(&format!("`{name}`"));
    let read = ["storage-factory/src/config.rs", "storage-cli/src/args.rs"]
        .iter()
        .any(|file| read(&root().join(file)).contains(&format!("\"{name}\"")));
    if listed && read { Ok(()) } else { Err(format!("no program reads {name}")) }
}

/// The file name of a unit: its first line is `# /etc/systemd/system/NAME`.
fn unit_name(block: &Block) -> Result<&str, String> {
    let first = block.text.lines().next().unwrap_or_default();
    first
        .strip_prefix("# /etc/systemd/system/")
        .ok_or_else(|| "the first line names the file of a systemd unit".to_owned())
}

/// systemd reads the units of a page together and finds nothing amiss, and our own commands in them are run. Where there is no
/// systemd, the words are compared with those that were seen to be right.
pub(crate) fn units(blocks: &[&Block]) {
    let place = Place::new();
    place.run(&["import", &root().join("examples/legacy-data").display().to_string(), "--yes"]).exits(0);
    std::fs::create_dir(place.path("bin")).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_storage"), place.path("bin/storage")).unwrap();
    std::os::unix::fs::symlink("/bin/true", place.path("bin/bot")).unwrap();
    let mut names = Vec::new();
    for block in blocks {
        let name = unit_name(block).unwrap();
        for line in block.text.lines().filter(|line| !line.starts_with(['#', '[']) && !line.is_empty()) {
            let (word, value) = line.split_once('=').unwrap_or_else(|| panic!("{name}: {line}"));
            assert!(UNIT_WORDS.contains(&word), "{name}: {word}: look it up, and add it to UNIT_WORDS");
            if let Some(words) = value.strip_prefix("/usr/local/bin/storage ") {
                assert_eq!(word, "ExecStart");
                let made = |word: &str| word.strip_prefix("/var/lib/").map(|name| place.path(name));
                let words = words.split(' ').map(|word| match made(word) {
                    Some(dir) => {
                        std::fs::create_dir(&dir).unwrap();
                        dir.display().to_string()
                    }
                    None => word.to_owned(),
                });
                finish(place.command(&words.collect::<Vec<_>>()), &[]).exits(0);
            }
        }
        write(&place.path(name), &block.text.replace("/usr/local/bin/", &format!("{}/", place.path("bin").display())));
        names.push(name);
    }
    if Command::new("systemd-analyze").arg("--version").stdout(Stdio::null()).status().is_err() {
        return;
    }
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).args(names.iter().map(|name| place.path(name)));
    verify.env("SYSTEMD_UNIT_PATH", format!("{}:", place.dir.path().display()));
    // Whatever else is amiss on this machine is not the page's.
    let said = finish(piped(verify), &[]).stderr;
    let ours: Vec<&str> = said.lines().filter(|line| names.iter().any(|name| line.contains(name))).collect();
    assert!(ours.is_empty(), "{}", ours.join("\n"));
}

const UNIT_WORDS: &[&str] = &[
    "After",
    "Description",
    "Environment",
    "EnvironmentFile",
    "ExecStart",
    "KillSignal",
    "NoNewPrivileges",
    "OnCalendar",
    "Persistent",
    "PrivateTmp",
    "ProtectHome",
    "ProtectSystem",
    "RandomizedDelaySec",
    "Restart",
    "RestartSec",
    "StateDirectory",
    "StateDirectoryMode",
    "TimeoutStopSec",
    "Type",
    "UMask",
    "User",
    "WantedBy",
    "Wants",
];

/// What an image runs, by the words that this workspace knows: nobody builds it here.
fn dockerfile(text: &str) -> Result<(), String> {
    for line in text.replace("\\\n", " ").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (word, rest) = line.split_once(' ').ok_or_else(|| format!("{line}?"))?;
        match word {
            "FROM" | "WORKDIR" | "USER" | "VOLUME" | "STOPSIGNAL" | "COPY" => {}
            "ENV" => settings(rest)?,
            // Ours is looked at like a line of a page; the rest is the distribution's.
            "RUN" if rest.starts_with("cargo ") => {
                otherwise::why_not(rest)?.ok_or_else(|| format!("nobody looks at {rest}"))?;
            }
            "RUN" if ["apt-get update", "useradd "].iter().any(|begin| rest.starts_with(begin)) => {}
            "CMD" | "ENTRYPOINT" | "HEALTHCHECK" => command_in(rest)?,
            _ => return Err(format!("nothing here knows {line}")),
        }
    }
    Ok(())
}

/// `["storage", "doctor"]`: the command line takes these words.
fn command_in(rest: &str) -> Result<(), String> {
    let list = rest.find('[').map(|at| &rest[at..]).ok_or_else(|| format!("no list: {rest}"))?;
    let words: Vec<String> = serde_json::from_str(list).map_err(|error| format!("{error}: {list}"))?;
    match words.split_first() {
        Some((program, words)) if program == "storage" => {
            let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
            words.push("--help");
            let ran = Place::new().run(&words);
            if ran.code == 0 { Ok(()) } else { Err(ran.stderr) }
        }
        Some((program, _)) if program == "bot" => Ok(()),
        _ => Err(format!("nothing here knows {list}")),
    }
}

fn piped(mut command: Command) -> Command {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

#[test]
fn what_cannot_be_right_is_refused() {
    let block = |kind: &str, text: &str| Block {
        page: "docs/none.md".to_owned(),
        heading: String::new(),
        line: 1,
        kind: kind.to_owned(),
        attributes: Vec::new(),
        above: String::new(),
        text: text.to_owned(),
    };
    for (kind, text) in [
        ("", "storage status"),
        ("console", "$ storage status"),
        ("bash", "storage status"),
        ("text", "storage status"),
        ("rust", "let a = 1;"),
        ("json", "{"),
        ("toml", "storage-core ="),
        ("toml", "storage-core = \"7.0\""),
        ("toml", "storage-factory = { version = \"0.1\", features = [\"nonsense\"] }"),
        ("env", "STORAGE_NONSENSE=1"),
        ("ini", "[Service]"),
        ("dockerfile", "RUN cargo build --release -p nonsense"),
        ("dockerfile", "CMD [\"storage\", \"nonsense\"]"),
        ("dockerfile", "ENV STORAGE_NONSENSE=1"),
    ] {
        assert!(check(&block(kind, text)).is_err(), "{kind}: {text}");
    }
    let mut ignored = block("rust", "let a = 1;");
    (ignored.page, ignored.attributes) = ("docs/guide.md".to_owned(), vec!["ignore".to_owned()]);
    assert!(check(&ignored).is_err());
    ignored.attributes.clear();
    assert_eq!(check(&ignored), Ok(()));
    assert_eq!(check(&block("json", "{\"a\":1}\n{\"b\":2}\n")), Ok(()));
    assert_eq!(check(&block("text", "a --> b")), Ok(()));
}
