//! The probe that `scripts/fault` kills, fails and cuts: `docs/writing-a-backend.md`, step two.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use storage_core::{Environment, Result, SharedStorage};

struct Sqlite;

#[async_trait::async_trait]
impl storage_probe::Opener for Sqlite {
    async fn open(&self, store: &str, environment: Environment, _: Option<Duration>) -> Result<SharedStorage> {
        Ok(Arc::new(sqlite_backend::open(store, environment).await?))
    }
}

fn main() -> ExitCode {
    storage_probe::main(&Sqlite)
}
