//! What the fuzzers do with one input, as functions that say what they found.
//!
//! libFuzzer calls them from `fuzz/fuzz_targets`, a test replays `fuzz/corpus` through them. Each goes the whole way: a
//! directory in memory, made of a small store with the input in place of one of its files or as damage to it, is opened,
//! dumped, audited, closed and opened again. `docs/fuzzing.md` says what the inputs look like and what must hold.

mod base;
mod check;
mod damage;
mod data_files;
mod import;
mod journal;
mod manifest;
mod seal;
mod tree;

use std::path::PathBuf;

use tokio::runtime::Runtime;

use crate::base::Bases;

/// What an input did that it must not do.
pub type Finding = String;

/// What comes of one input.
pub type Outcome = Result<(), Finding>;

/// The four things that are read from disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The journal and its head.
    Journal,
    /// The nine files, our own two, the ledger.
    DataFiles,
    /// The manifest.
    Manifest,
    /// A directory of the earlier system.
    Import,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Journal, Self::DataFiles, Self::Manifest, Self::Import];

    /// The name of the fuzzer and of its corpus.
    pub fn name(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::DataFiles => "data_files",
            Self::Manifest => "manifest",
            Self::Import => "import",
        }
    }
}

/// The place where inputs are tried: a directory in memory and the stores that inputs are put into.
#[derive(Debug)]
pub struct Bench {
    runtime: Runtime,
    bases: Bases,
    scratch: tempfile::TempDir,
}

impl Bench {
    /// Makes the stores, and a directory on a memory file system where there is one.
    ///
    /// # Errors
    /// As the disk or the store has it.
    pub fn new() -> Result<Self, Finding> {
        let memory = PathBuf::from("/dev/shm");
        let place = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let scratch = tempfile::Builder::new().prefix("storage-fuzz.").tempdir_in(place).map_err(shown)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(shown)?;
        let bases = runtime.block_on(Bases::make(scratch.path()))?;
        Ok(Self { runtime, bases, scratch })
    }

    /// Tries one input.
    ///
    /// # Errors
    /// What was found.
    pub fn run(&self, target: Target, input: &[u8]) -> Outcome {
        let dir = self.scratch.path().join("data");
        let (bases, dir) = (&self.bases, dir.as_path());
        self.runtime.block_on(async {
            match target {
                Target::Journal => journal::run(bases, dir, input).await,
                Target::DataFiles => data_files::run(bases, dir, input).await,
                Target::Manifest => manifest::run(bases, dir, input).await,
                Target::Import => import::run(dir, input).await,
            }
        })
    }

    /// Inputs to begin a corpus with, from the stores' real files: a name and the bytes of each.
    pub fn seeds(&self, target: Target) -> Vec<(String, Vec<u8>)> {
        match target {
            Target::Journal => journal::seeds(&self.bases),
            Target::DataFiles => data_files::seeds(&self.bases),
            Target::Manifest => manifest::seeds(&self.bases),
            Target::Import => import::seeds(),
        }
    }
}

/// Whether checksums made here are those that the store makes, and the stores are what they are meant to be.
///
/// # Errors
/// What is not as it should be.
pub fn check_seals(bench: &Bench) -> Outcome {
    bench.bases.check()
}

/// An input of [`Target::Import`] that describes files of the earlier system.
pub fn packed(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    import::packed(files)
}

/// [`packed`] of the files in a directory.
///
/// # Errors
/// As the disk has it.
pub fn packed_directory(dir: &std::path::Path) -> Result<Vec<u8>, Finding> {
    import::directory(dir)
}

fn shown(error: impl std::fmt::Display) -> Finding {
    error.to_string()
}
