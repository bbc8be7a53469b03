//! A probe made of the library alone, on the example in memory: the store outlives its handles, not the process.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a surprise is a failure")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use clap::Parser;
use memory_backend::MemoryPlace;
use storage_core::{AddBalance, Environment, PageRequest, PageSize, Result, SharedStorage};
use storage_probe::{Opener, Run, Verify};

/// Stores by the argument of the command line.
#[derive(Default)]
struct Memory(Mutex<BTreeMap<String, Arc<MemoryPlace>>>);

#[async_trait]
impl Opener for Memory {
    async fn open(&self, store: &str, environment: Environment, _: Option<Duration>) -> Result<SharedStorage> {
        let place = Arc::clone(self.0.lock().unwrap().entry(store.to_owned()).or_default());
        Ok(Arc::new(memory_backend::open(place, environment).await?))
    }
}

/// The same, and whoever opens it again is given money that nobody paid.
#[derive(Default)]
struct Generous(Memory);

#[async_trait]
impl Opener for Generous {
    async fn open(&self, store: &str, environment: Environment, limit: Option<Duration>) -> Result<SharedStorage> {
        let storage = self.0.open(store, environment, limit).await?;
        let users = storage.list_users(PageRequest::first(PageSize::MAX)).await?;
        if let Some(user) = users.items.first() {
            storage.add_balance(AddBalance::new(user.id, "0.01".parse()?)).await?;
        }
        Ok(storage)
    }
}

/// The same, and after a close the last operation is gone: `short` is what is there then.
#[derive(Default)]
struct Forgetful(Memory);

#[async_trait]
impl Opener for Forgetful {
    async fn open(&self, store: &str, environment: Environment, limit: Option<Duration>) -> Result<SharedStorage> {
        let there = if self.0.0.lock().unwrap().contains_key(store) { "short" } else { store };
        self.0.open(there, environment, limit).await
    }
}

#[derive(Parser)]
enum Command {
    Run(Run),
    Verify(Verify),
}

/// What a program does with its arguments; answers its exit code and what it printed.
fn probe(opener: &impl Opener, arguments: &[&str]) -> (ExitCode, Vec<u8>) {
    let mut out = Vec::new();
    let words = ["probe"].iter().chain(arguments).map(OsString::from);
    let code = match Command::try_parse_from(words).unwrap() {
        Command::Run(run) => run.perform(opener, &mut out),
        Command::Verify(verify) => verify.perform(opener, &mut out),
    };
    (code, out)
}

/// Runs, and leaves what was acknowledged in a file.
fn run(opener: &impl Opener, acks: &Path, arguments: &[&str]) {
    let (code, out) = probe(opener, &[&["run", "a store"], arguments].concat());
    assert_eq!(code, ExitCode::SUCCESS);
    save(acks, &out);
}

#[expect(clippy::disallowed_methods, reason = "a file of the test, not of a store")]
fn save(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

fn verify(opener: &impl Opener, acks: &Path, arguments: &[&str]) -> ExitCode {
    probe(opener, &[&["verify", "a store", acks.to_str().unwrap()], arguments].concat()).0
}

#[test]
fn what_was_acknowledged_is_there() {
    let scratch = tempfile::tempdir().unwrap();
    let acks = scratch.path().join("acks");
    let memory = Memory::default();
    for tasks in ["1", "3"] {
        let arguments = [tasks, "90", "--tasks", tasks];
        for _ in 0..2 {
            run(&memory, &acks, &arguments);
            assert_eq!(std::fs::read_to_string(&acks).unwrap().lines().count(), 90);
            assert_eq!(verify(&memory, &acks, &["90", "--named"]), ExitCode::SUCCESS);
        }
    }
    assert_eq!(verify(&memory, &acks, &["91", "--named"]), ExitCode::from(1));
}

#[test]
fn a_store_that_forgets_is_caught() {
    let scratch = tempfile::tempdir().unwrap();
    let acks = scratch.path().join("acks");
    let forgetful = Forgetful::default();
    let (code, _) = probe(&forgetful.0, &["run", "short", "1", "39"]);
    assert_eq!(code, ExitCode::SUCCESS);
    run(&forgetful, &acks, &["1", "40"]);
    assert_eq!(verify(&forgetful, &acks, &["40"]), ExitCode::from(1));
}

#[test]
fn a_wrong_balance_is_caught() {
    let scratch = tempfile::tempdir().unwrap();
    let acks = scratch.path().join("acks");
    let generous = Generous::default();
    run(&generous, &acks, &["1", "40"]);
    assert_eq!(verify(&generous, &acks, &["40"]), ExitCode::from(1));
    // Honest again, and the money is there.
    assert_eq!(verify(&generous.0, &acks, &["40"]), ExitCode::from(1));
}
