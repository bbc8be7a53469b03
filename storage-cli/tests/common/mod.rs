//! Runs the command as a shell does.
#![allow(dead_code, reason = "each test file uses its part")]

#[cfg(feature = "postgres")]
pub(crate) mod pg;
pub(crate) mod shapes;

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use storage_core::SharedStorage;
use storage_factory::{Config, Mode, connect};

/// What a command left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The one JSON object on stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "{self:#?}");
        let value: Value = serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"));
        assert!(value.is_object(), "{self:#?}");
        value
    }
    /// Checks the exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }
}

/// A directory for one test, and the command run beside it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_storage"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("STORAGE_") {
                command.env_remove(name);
            }
        }
        command
            .env_remove("DATABASE_URL")
            .env_remove("MIGRATION_DATABASE_URL")
            .env("DATA_DIR", self.data())
            .current_dir(self.dir.path());
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        finish(self.command(arguments), &[])
    }
    pub(crate) fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
        let mut command = self.command(arguments);
        command.envs(variables.iter().copied());
        finish(command, &[])
    }
    pub(crate) fn run_piped(&self, arguments: &[&str], stdin: &[u8]) -> Ran {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped());
        finish(command, stdin)
    }
    /// Works on the store through the library.
    pub(crate) fn with_store<T>(&self, work: impl AsyncFnOnce(&SharedStorage) -> T) -> T {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let config = Config { mode: Mode::Json, data_dir: self.data(), ..Config::default() };
            let storage = connect(config).await.unwrap();
            let value = work(&storage).await;
            storage.close().await.unwrap();
            value
        })
    }

    /// What a program in mode `auto` does that credits user 1 through the library, whatever it opens.
    #[cfg(feature = "postgres")]
    pub(crate) fn program_credits(&self, url: &str, amount: &str) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let database_url = Some(url.parse().unwrap());
            let storage = connect(Config { data_dir: self.data(), database_url, ..Config::default() }).await.unwrap();
            let user = storage_core::UserId::new(1).unwrap();
            storage.add_balance(storage_core::AddBalance::new(user, amount.parse().unwrap())).await.unwrap();
            storage.close().await.unwrap();
        });
    }
}

pub(crate) fn finish(mut command: Command, stdin: &[u8]) -> Ran {
    let mut child = command.spawn().unwrap();
    if let Some(mut pipe) = child.stdin.take() {
        // Whoever refuses early does not read to the end.
        let _ = pipe.write_all(stdin);
    }
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Every command by its words, as the help lists them.
pub(crate) fn commands(place: &Place) -> Vec<String> {
    let mut all = Vec::new();
    for name in listed(place, &[]) {
        let help = place.run(&[&*name, "--help"]).exits(0).stdout;
        if help.contains("\nCommands:\n") {
            all.extend(listed(place, &[&*name]).into_iter().map(|below| format!("{name} {below}")));
        } else {
            all.push(name);
        }
    }
    all
}

fn listed(place: &Place, path: &[&str]) -> Vec<String> {
    let help = place.run(&[path, &["--help"]].concat()).exits(0).stdout;
    let (_, list) = help.split_once("\nCommands:\n").unwrap();
    let lines = list.lines().take_while(|line| !line.is_empty());
    // A description that is long goes on below itself.
    let lines = lines.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    lines.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

/// Every file below a directory with its bytes.
pub(crate) fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut directories = vec![dir.to_owned()];
    while let Some(dir) = directories.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                found.push((path, bytes));
            }
        }
    }
    found.sort();
    found
}
