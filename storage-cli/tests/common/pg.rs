//! Databases on a throw-away server.

use std::time::Duration;

use pg_test_server::{Database, Server};
use storage_pg::PgOptions;

/// A database with the store's tables.
pub(crate) fn migrated(server: &Server) -> Database {
    let template = format!("storage_v{}", storage_pg::migration_steps().len());
    server.create_database_with(&template, migrate).unwrap()
}

fn migrate(url: &str) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let migrated = runtime.block_on(storage_pg::migrate(&PgOptions::new(url), Duration::from_secs(30)));
    migrated.map(drop).map_err(|error| error.error().report().to_string())
}

/// A database with the earlier system's tables.
pub(crate) fn original(server: &Server) -> Database {
    let database = server.create_empty_database().unwrap();
    let tables = include_str!("../../../migrations/tests/database/original.sql");
    // They belong to the program's role, as they did to the earlier program's.
    server.execute(database.name(), &format!("SET ROLE {}; {tables}", server.user())).unwrap();
    database
}

/// The one value that a query of the superuser answers.
pub(crate) fn value(server: &Server, database: &str, sql: &str) -> String {
    let rows = server.query_text(database, sql).unwrap();
    rows[0][0].clone().unwrap_or_default()
}

/// A role of its own, with a password and what `grants` allows it; answers its URL of the database.
pub(crate) fn role(server: &Server, database: &Database, name: &str, grants: &str) -> String {
    server.execute(database.name(), &format!("CREATE ROLE {name} LOGIN PASSWORD 'MARKED'; {grants}")).unwrap();
    let url = database.url();
    let (_, place) = url.split_once('@').unwrap();
    format!("postgresql://{name}:MARKED@{place}")
}
