//! What the README tells a newcomer to type, as it stands there.
#![cfg(all(feature = "postgres", unix))]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails must stop")]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use common::{Place, finish};
use pg_test_server::Server;

/// The commands below a heading.
fn commands(heading: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let (_, section) = readme.split_once(&format!("## {heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let (_, block) = section.split_once("```sh\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    block.lines().map(str::to_owned).collect()
}

#[test]
fn from_a_legacy_directory_to_postgresql_in_five_commands_or_fewer() {
    let commands = commands("From the earlier system's files to PostgreSQL");
    assert!(commands.iter().filter(|line| line.starts_with("storage ")).count() <= 5);
    let server = Server::shared().unwrap();
    let (database, place) = (server.create_empty_database().unwrap(), Place::new());
    let made = Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/legacy/make_legacy.py"))
        .arg(place.path("legacy"))
        .args(["--users", "200", "--seed", "5", "--shape", "mixed"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    // Only the place of the database is another one, and nobody is there to say yes.
    let export = "export DATABASE_URL=postgresql://bot:secret@localhost/bot";
    assert!(commands.iter().any(|line| line == export), "{commands:#?}");
    let script = commands.join("\n").replace(export, &format!("export DATABASE_URL='{}'", database.url()));
    let program = Path::new(env!("CARGO_BIN_EXE_storage")).parent().unwrap();
    // The surroundings of the command's own tests, with a shell in its place.
    let mut command = Command::new("sh");
    for (name, value) in place.command::<&str>(&[]).get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
        .args(["-e", "-c", &script])
        .current_dir(place.dir.path())
        .env("PATH", format!("{}:{}", program.display(), std::env::var("PATH").unwrap()))
        .env("STORAGE_YES", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let ran = finish(command, &[]).exits(0);
    assert!(ran.stdout.contains("copied, and proved equal"), "{ran:#?}");
    let url = database.url();
    let status = place.run_with(&["status", "--json"], &[("DATABASE_URL", &url)]).exits(0).json();
    assert_eq!(status["backend"]["name"], "postgres");
    let moved = place.run_with(&["status", "--json"], &[("STORAGE_MODE", "json")]).exits(0).json();
    assert_eq!((&moved["users"], &moved["balance_sum"]), (&status["users"], &status["balance_sum"]));
    assert!(moved["backend"]["warnings"].to_string().contains("were moved to postgresql://"), "{moved}");
}
