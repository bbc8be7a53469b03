//! The embedded backend of the generation storage: a directory of readable JSON files with a journal.

mod json_text;
pub mod legacy;
mod options;

pub use options::{Access, Durability, JsonOptions, Locking};
