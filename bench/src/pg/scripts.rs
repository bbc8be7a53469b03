//! The statements that storage-pg sends, and the scripts of pgbench that hold the very same ones.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use storage_core::{AddBalance, Balances as _, Store as _, UserId};
use storage_pg::{PgOptions, PgStorage};
use tokio_postgres::SimpleQueryMessage;

use super::{AMOUNT, Operation, ground};
use crate::result::Report;

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/pgbench");
const GET_BALANCE: &str = include_str!("../../pgbench/get_balance.sql");
const ADD_BALANCE: &str = include_str!("../../pgbench/add_balance.sql");

/// By which the server tells the connection apart whose statements are looked at.
const WATCHED: &str = "storage-bench-watched";

/// The script of an operation.
pub(super) fn script(operation: Operation) -> &'static str {
    match operation {
        Operation::GetBalance => GET_BALANCE,
        Operation::AddBalance => ADD_BALANCE,
    }
}

fn file(operation: Operation) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{}.sql", operation.name()))
}

/// The statements as storage-pg sends them.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) get_balance: String,
    pub(super) add_balance: String,
}

impl Statements {
    /// Lets storage-pg do each operation once, and looks at the server for what it sent.
    pub(super) async fn capture(url: &str) -> Result<Self, String> {
        let of_store = |error: storage_core::Error| error.report().to_string();
        let word = if url.contains('?') { '&' } else { '?' };
        let mut options = PgOptions::new(format!("{url}{word}application_name={WATCHED}"));
        options.max_connections = 1;
        let storage = PgStorage::open(options).await.map_err(|error| of_store(error.into()))?;
        let user = UserId::new(1).map_err(of_store)?;
        let amount = AMOUNT.parse().map_err(of_store)?;
        storage.get_balance(user).await.map_err(of_store)?;
        let get_balance = last_statement(url).await?;
        storage.add_balance(AddBalance::new(user, amount)).await.map_err(of_store)?;
        let add_balance = last_statement(url).await?;
        storage.close().await.map_err(of_store)?;
        Ok(Self { get_balance, add_balance })
    }

    fn text(&self, operation: Operation) -> &str {
        match operation {
            Operation::GetBalance => &self.get_balance,
            Operation::AddBalance => &self.add_balance,
        }
    }

    /// The script that pgbench would need.
    fn script(&self, operation: Operation) -> String {
        let mut script =
            "-- Written by `storage-bench pg --write-scripts`: the statement of storage-pg, with variables \
                          for its parameters.\n-- By hand: pgbench -n -M prepared -c 10 -j 2 -D users=100000 -f THIS\n\
                          \\set user random(1, :users)\n"
                .to_owned();
        let given: &[(&str, &str)] = match operation {
            Operation::GetBalance => &[("$1", ":user")],
            Operation::AddBalance => {
                // Variables are numbers: 32 digits of one make a UUID. A fresh one each time, as the store's: what
                // changes a user's row twice under one id is taken for a change by hand.
                let _ = writeln!(
                    script,
                    "\\set amount {AMOUNT}\n\\set key random(1, 9223372036854775807)\n\
                     \\set operation random(1, 9223372036854775807)"
                );
                &[
                    ("$1", ":user"),
                    ("$2", ":amount"),
                    ("$3", ":key"),
                    ("$4", "lpad(:operation, 32, '0')::uuid"),
                    ("$5", "now()"),
                    ("$6", "NULL"),
                    ("$7", "NULL"),
                    ("$8", "NULL"),
                    ("$9", "'9f8b6f2a-51d2-4c0e-8d53-7a3c1e0b4d96'::uuid"),
                ]
            }
        };
        let text = given
            .iter()
            .fold(self.text(operation).to_owned(), |text, (parameter, value)| text.replace(parameter, value));
        let _ = writeln!(script, "{text};");
        script
    }

    /// Says whether the scripts hold what storage-pg sends today.
    pub(super) fn check(&self) -> Result<(), String> {
        for operation in [Operation::GetBalance, Operation::AddBalance] {
            if self.script(operation) != script(operation) {
                return Err(format!(
                    "{} is not what storage-pg sends: storage-bench pg --write-scripts, then build anew",
                    file(operation).display()
                ));
            }
        }
        Ok(())
    }

    /// Writes the scripts anew.
    pub(super) fn write(&self) -> Result<Written, String> {
        let mut written = Vec::new();
        for operation in [Operation::GetBalance, Operation::AddBalance] {
            let path = file(operation);
            std::fs::File::create(&path)
                .and_then(|mut file| file.write_all(self.script(operation).as_bytes()))
                .map_err(|error| format!("{}: {error}", path.display()))?;
            written.push(path);
        }
        Ok(Written(written))
    }
}

/// What the watched connection sent last.
async fn last_statement(url: &str) -> Result<String, String> {
    let client = ground::client(url).await?;
    let asked = format!(
        "SELECT query, length(query) + 1 >= pg_size_bytes(current_setting('track_activity_query_size'))
         FROM pg_stat_activity WHERE application_name = '{WATCHED}'"
    );
    let answer = client.simple_query(&asked).await.map_err(|error| error.to_string())?;
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((row.get(0)?.to_owned(), row.get(1)?.to_owned())),
        _ => None,
    });
    match row {
        Some((text, cut)) if cut == "f" => Ok(text),
        Some(_) => Err("the server cuts statements short: set its track_activity_query_size to 16kB".to_owned()),
        None => Err("the server does not tell what was sent: is track_activities off?".to_owned()),
    }
}

/// The scripts that were written.
#[derive(Debug)]
pub(super) struct Written(Vec<PathBuf>);

impl Report for Written {
    fn to_text(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, path| {
            let _ = writeln!(text, "written: {}", path.display());
            text
        })
    }
    fn to_json(&self) -> serde_json::Value {
        json!({ "written": self.0 })
    }
}

#[cfg(test)]
mod tests {
    use pg_test_server::{Options, Server};

    use super::*;
    use crate::pg::ground::{Ground, SETTINGS};

    #[test]
    fn the_scripts_hold_what_storage_pg_sends() {
        let settings = SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let server = Server::start(Options { settings, ..Options::default() }).unwrap();
        let database = server.create_empty_database().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let ground = Ground::new(Some(database.url()), 1).unwrap();
            ground.migrate().await.unwrap();
            Statements::capture(ground.url()).await.unwrap().check().unwrap();
        });
    }
}
