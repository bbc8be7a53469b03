//! The migrations against a real server.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap fails the test, with its line")]

mod adopting;
mod cut;
mod outside;
mod runners;
mod states;
mod tables;

use std::error::Error as _;
use std::time::Duration;

use migrations::{Addition, Plan, Schema, latest};
use pg_test_server::{Database, PgBouncer, Server};
use tokio_postgres::types::FromSqlOwned;
use tokio_postgres::{Client, NoTls};

/// As long as no test takes.
const LONG: Duration = Duration::from_mins(1);

fn database() -> Database {
    Server::shared().unwrap().create_empty_database().unwrap()
}

fn pooled(database: &Database) -> String {
    PgBouncer::shared().unwrap().url(database.name())
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn all<T: FromSqlOwned>(client: &Client, sql: &str) -> Vec<T> {
    client.query_typed(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn one<T: FromSqlOwned>(client: &Client, sql: &str) -> T {
    client.query_typed_one(sql, &[]).await.unwrap().get(0)
}

/// Asks until the answer is yes.
async fn until(client: &Client, sql: &str) {
    let asking = async {
        while !one::<bool>(client, sql).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, asking).await.unwrap_or_else(|_| panic!("never true: {sql}"));
}

fn public() -> Schema {
    Schema::default()
}

/// The migrations of this program and one more.
fn longer() -> Plan {
    let version = latest() + 1;
    let addition = Addition { version, table: "users", columns: &["note"], unique: &["users_note_unique"] };
    let sql = "ALTER TABLE users ADD COLUMN note TEXT, ADD CONSTRAINT users_note_unique UNIQUE (id, note);";
    Plan::embedded().with(&format!("V{version}__note"), sql, &[addition]).unwrap()
}

/// The error and its causes, from the outside in.
fn chain(error: &migrations::Error) -> Vec<String> {
    let mut chain = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        chain.push(cause.to_string());
        source = cause.source();
    }
    chain
}
