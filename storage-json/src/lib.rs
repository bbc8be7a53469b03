//! The embedded backend of the generation storage: a directory of readable JSON files with a journal.
//!
//! The whole store lives in memory as typed maps. A change is decided against them, appended to a journal as one JSON
//! line with absolute values, made durable together with the others that wait, and only then visible and answered. The
//! nine files of the original system are checkpoints of that state, in the original's shapes.
//!
//! ```
//! use storage_core::{AddBalance, Balances, Result, Store, UserId};
//! use storage_json::{JsonOptions, JsonStorage};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
//! # let scratch = tempfile::tempdir().map_err(|error| storage_core::Error::internal(error.to_string()))?;
//! # let dir = scratch.path().join("data");
//! let storage = JsonStorage::open(JsonOptions::new(&dir)).await?;
//! let user = UserId::new(1001)?;
//! storage.add_balance(AddBalance::new(user, "12.50".parse()?)).await?; // on the disk when it answers
//! storage.close().await?; // now `user_balances.json` has it too
//!
//! let again = JsonStorage::open(JsonOptions::new(&dir)).await?;
//! assert_eq!(again.get_balance(user).await?.to_string(), "12.50");
//! # again.close().await
//! # }
//! ```
//!
//! A program that does not know its backend beforehand opens it with `storage-factory`.
//!
//! | file | what |
//! | --- | --- |
//! | `user_balances.json` ... `generation_jobs.json` | the nine files of the original |
//! | `users.json`, `balance_reserves.json` | what the nine have no room for |
//! | `ledger.jsonl` | the ledger and the receipts, append-only |
//! | `ledger-N.index` | where each key's line stands in the ledger; derived |
//! | `journal-N.jsonl` | changes since the last checkpoint |
//! | `journal.head` | how far the journal is durable, for the other processes |
//! | `manifest.json` | format, policy, checksum of each file |
//! | `opening.lock`, `presence.lock`, `writer.lock`, `checkpoint.lock` | who opens or closes the store, who has it open, who writes, who makes a checkpoint |
//! | `.checkpoint/` | a second copy of the nine, for when one is edited while changes wait in the journal |
//!
//! `docs/json-directory.md` tells the rest. [`legacy`] reads directories that the earlier system left.

mod admin_limits;
mod ahead;
mod background;
mod balances;
mod before;
mod checkpoint;
mod disk;
mod doctor;
mod dump;
mod engine;
mod follow;
mod free_generations;
mod history;
mod holder;
mod index;
mod jobs;
mod journal;
mod json_text;
mod ledger;
pub mod legacy;
mod line;
mod lists;
mod locks;
mod manifest;
mod mend;
mod moved;
mod open;
mod operations;
mod options;
mod patience;
mod payments;
mod presence;
mod queue;
mod recover;
mod referrals;
mod reserves;
mod restore;
mod shapes;
mod spread;
mod state;
mod store;
mod tx;
mod users;
mod watch;
mod writer;

pub use doctor::examine;
pub use engine::{JsonStorage, Vitals};
pub use open::{Found, inspect};
pub use options::{Access, Durability, JsonOptions, Locking, PolicyMismatch};
