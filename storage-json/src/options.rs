//! How a data directory is opened.

use std::path::PathBuf;
use std::time::Duration;

use storage_core::Environment;

/// Who may have the directory open at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Any number of processes. Each looks for the others' changes before it answers.
    #[default]
    Shared,
    /// This handle alone; others get `Locked`. Saves the look before each answer.
    Exclusive,
}

/// When a change counts as stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When the disk has confirmed it: after `Ok` a power cut loses nothing.
    #[default]
    Full,
    /// When the operating system has it: a killed process loses nothing, a power cut may lose the last seconds.
    ProcessOnly,
}

/// What to do where the file system cannot lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Locking {
    /// Refuse to open.
    #[default]
    Required,
    /// Go without, and warn. Two processes would then destroy each other's work.
    Without,
}

/// What to do when the store was created with another time zone or retention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PolicyMismatch {
    /// Refuse with `SchemaMismatch`.
    #[default]
    Refuse,
    /// Store the given policy from now on; only for the process that has the store alone.
    Adopt,
}

/// How a data directory is opened.
#[derive(Clone, Debug)]
pub struct JsonOptions {
    /// The directory. Created with mode 0700 when missing.
    pub dir: PathBuf,
    /// Clock, ids and policy.
    pub environment: Environment,
    /// Who may have it open at the same time. Default: any number of processes.
    pub access: Access,
    /// When a change counts as stored. Default: when the disk has confirmed it.
    pub durability: Durability,
    /// What to do where the file system cannot lock. Default: refuse.
    pub locking: Locking,
    /// What to do when the store was created with another time zone or retention. Default: refuse.
    pub on_policy_mismatch: PolicyMismatch,
    /// How long opening waits for another process. Default 10 s.
    pub lock_wait: Duration,
    /// How long one operation may take. Default 15 s. A dump, a restore and an audit take as long as there is much to do; an
    /// audit ends when nothing of it went on for so long.
    pub deadline: Duration,
    /// How many calls may wait for the writer; one more is `Busy` at once, and nothing was applied. From 1: whatever the
    /// limits are, one call fits. Default 16,384, of which one batch is made and on the disk in a fraction of a second; so
    /// much longer at most do other processes wait for their turn.
    pub queue_calls: u64,
    /// How many bytes the calls that wait may keep, arguments included; beyond it, `Busy` as with `queue_calls`. From 1. Default
    /// 32 MiB: a hundred and fifty of the largest calls that the contract allows (some 200 KiB), and tens of thousands of
    /// small ones.
    pub queue_bytes: u64,
    /// How large the journal may grow before a checkpoint, in bytes. Default 64 MiB.
    pub checkpoint_bytes: u64,
    /// Why this backend was chosen, for [`storage_core::BackendInfo`].
    pub reason: String,
    /// What whoever chose this backend has to say to an operator; shown before the store's own warnings. Default: nothing.
    pub warnings: Vec<String>,
}

impl JsonOptions {
    /// The defaults, for a directory.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            environment: Environment::default(),
            access: Access::default(),
            durability: Durability::default(),
            locking: Locking::default(),
            on_policy_mismatch: PolicyMismatch::default(),
            lock_wait: Duration::from_secs(10),
            deadline: Duration::from_secs(15),
            queue_calls: 16 * 1024,
            queue_bytes: 32 * 1024 * 1024,
            checkpoint_bytes: 64 * 1024 * 1024,
            reason: "opened directly".to_owned(),
            warnings: Vec::new(),
        }
    }
}
