//! The probe: a workload whose every operation can be repeated, and the verifier of what it left behind.
//!
//! `run STORE SEED N` does N seeded operations and prints one line for each that the store promised. Run again with the same
//! arguments after a crash, it repeats them all, and the store must recognise each. `verify STORE ACKS [N]` compares the store
//! with a naive model of the same operations. Whoever wants to know what a crash, a full disk or a power cut does to a store lets
//! it happen between the two; the tools of `scripts/fault` do so at every single call.
//!
//! # A probe for your store
//!
//! A program of a few lines is one, whatever the store is made of:
//!
//! ```no_run
//! use std::process::ExitCode;
//! use std::sync::Arc;
//! use std::time::Duration;
//! use storage_core::{Environment, Result, SharedStorage};
//!
//! struct Mine;
//!
//! #[async_trait::async_trait]
//! impl storage_probe::Opener for Mine {
//!     async fn open(&self, store: &str, environment: Environment, _: Option<Duration>) -> Result<SharedStorage> {
//!         // Your store at the path `store`. This one is new each time, and the verifier tells.
//!         Ok(Arc::new(memory_backend::open(Arc::default(), environment).await?))
//!     }
//! }
//!
//! fn main() -> ExitCode {
//!     storage_probe::main(&Mine)
//! }
//! ```
//!
//! As `examples/probe.rs` it needs nothing but development dependencies: this crate with `default-features = false`, which leaves
//! out the backends that the program of this package works on. `docs/writing-a-backend.md` has the whole, with the commands.
//!
//! A program with flags of its own puts [`Run`] and [`Verify`] into its command line and performs them itself.
//!
//! # Reading the code
//!
//! * `lane`, `op`, `plan`, `random`: which operations there are, from the seed alone.
//! * `model`: what they come to, written once more and shared with no backend.
//! * `opener`, `call`, `run`: the operations as calls of a store.
//! * `acks`, `facts`, `read`, `verify`: the comparison.
//! * `command`: both as commands. `main` and `store` are the program that works on our own backends.

mod acks;
mod call;
mod command;
mod facts;
mod lane;
mod model;
mod op;
mod opener;
mod plan;
mod random;
mod read;
mod run;
mod verify;

pub use command::main;
pub use opener::Opener;
/// The arguments of `run`, as `#[command(flatten)]` takes them: operations, and a line for each that the store promised.
pub use run::Run;
/// The arguments of `verify`, as `#[command(flatten)]` takes them: the store compared with what was acknowledged.
pub use verify::Verify;
