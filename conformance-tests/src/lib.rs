//! The suite that every backend must pass: named scenarios, one or more for each rule of the contract.
//!
//! # Proving a backend
//!
//! Implement [`Harness`] (four methods and a list of optional needs) and call [`run`] from a test without the
//! default harness:
//!
//! ```no_run
//! use std::process::ExitCode;
//! use std::sync::Arc;
//! use conformance_tests::{Harness, Need, Site};
//! use storage_core::{Environment, Storage};
//!
//! struct Mine;
//!
//! #[async_trait::async_trait]
//! impl Harness for Mine {
//!     fn name(&self) -> &str {
//!         "mine"
//!     }
//!     fn supports(&self, need: Need) -> bool {
//!         match need {
//!             Need::SecondHandle | Need::Reopen | Need::TimeZones | Need::Mark => true,
//!         }
//!     }
//!     async fn create(&self) -> Result<Site, String> {
//!         Ok(Site::new("a new, empty place"))
//!     }
//!     async fn open(&self, site: &Site, environment: Environment) -> storage_core::Result<Arc<dyn Storage>> {
//!         Err(storage_core::Error::internal(format!("open {site} with {environment:?} here")))
//!     }
//!     async fn destroy(&self, site: Site) {}
//! }
//!
//! fn main() -> ExitCode {
//!     conformance_tests::run(Mine)
//! }
//! ```
//!
//! In `Cargo.toml`: `[[test]] name = "conformance"`, `harness = false`. Then `cargo test --test conformance` prints
//! one line for each scenario, `cargo test --test conformance payments::` runs those of one domain.
//!
//! A scenario whose optional need is not supported is reported as ignored, never as passed. The site of a scenario
//! that failed is kept, and its name printed.
//!
//! `docs/writing-a-backend.md` is the longer way, with what a run can be told by the environment; [`run`] lists its
//! exit codes.
//!
//! # Reading the suite
//!
//! A scenario is a plain async function in the file of its domain; the list at the top of each file gives its
//! name and the ids of the contract that it proves. [`table`] turns the lists into `docs/scenarios.md`.

mod calls;
mod certificate;
mod check;
mod context;
mod coverage;
mod expect;
mod harness;
mod runner;
mod scenario;
mod steps;

mod admin_limits;
mod balances;
mod clocks;
mod concurrency;
mod edges;
mod errors;
mod free_generations;
mod history;
mod imports;
mod jobs;
mod keys;
mod linear;
mod model;
mod operations;
mod paging;
mod payments;
mod referrals;
mod reserves;
mod rules;
mod store;
mod users;
mod values;

pub use check::Failure;
pub use context::Context;
pub use coverage::{Elsewhere, contract_ids, elsewhere, gaps, table};
pub use harness::{Harness, Need, Site};
pub use model::differential;
pub use runner::{prove, run};
pub use scenario::{Scenario, scenarios};
