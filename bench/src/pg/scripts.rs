//! The statements that storage-pg sends, and the scripts of pgbench that hold the very same ones.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use storage_core::{AddPayment, Payments as _, Store as _, UserId, Users as _};
use storage_pg::{PgOptions, PgStorage};
use tokio_postgres::SimpleQueryMessage;
use uuid::Uuid;

use super::ground;
use super::work::{AMOUNT, Call, HOT, Operation, Work, job};
use crate::result::Report;

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/pgbench");

/// By which the server tells the connection apart whose statements are looked at.
const WATCHED: &str = "storage-bench-watched";

/// The script of an operation.
fn script(operation: Operation) -> &'static str {
    match operation {
        Operation::GetBalance => include_str!("../../pgbench/get_balance.sql"),
        Operation::GetUser => include_str!("../../pgbench/get_user.sql"),
        Operation::AddBalance => include_str!("../../pgbench/add_balance.sql"),
        Operation::SubtractBalance => include_str!("../../pgbench/subtract_balance.sql"),
        Operation::AddJob => include_str!("../../pgbench/add_generation_job.sql"),
        Operation::RunJob => include_str!("../../pgbench/update_job_status.sql"),
        Operation::Approve => include_str!("../../pgbench/approve_payment.sql"),
        Operation::ListJobs => include_str!("../../pgbench/list_jobs.sql"),
    }
}

/// The scripts of a work, and how often each is run.
pub(super) fn scripts(work: Work) -> Vec<(String, u32)> {
    let hot = format!("\\set user {HOT}\n");
    let of = |operation| match work {
        Work::HotCredit => script(operation).replace("\\set user random(1, :users)\n", &hot),
        _ => script(operation).to_owned(),
    };
    work.mix().iter().map(|(operation, percent)| (of(*operation), *percent)).collect()
}

fn file(operation: Operation) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{}.sql", operation.name()))
}

/// Variables are numbers: 32 digits of one make a UUID. A fresh one each time, as the store's: what changes a user's row
/// twice under one id is taken for a change by hand.
const UNIQUE: &str = "lpad(:operation, 32, '0')::uuid";
const ARGUMENTS: &str = "'9f8b6f2a-51d2-4c0e-8d53-7a3c1e0b4d96'::uuid";

/// What stands for the parameters of an operation, from the first.
fn parameters(operation: Operation) -> Vec<String> {
    let given: &[&str] = match operation {
        Operation::GetBalance | Operation::GetUser => &[":user"],
        Operation::AddBalance | Operation::SubtractBalance => {
            &[":user", ":amount::numeric", ":key", UNIQUE, "now()", "NULL", "NULL", "NULL", ARGUMENTS]
        }
        Operation::AddJob => {
            return vec![
                ":user::bigint".to_owned(),
                ":job::text".to_owned(),
                format!("'{}'", job::MODEL_ID),
                format!("'{}'", job::MODEL_NAME),
                format!("'{}'", job::PARAMS),
                job::PRICE.to_owned(),
                "NULL::text".to_owned(),
                "now()".to_owned(),
                ARGUMENTS.to_owned(),
                UNIQUE.to_owned(),
                ":key::text".to_owned(),
                ARGUMENTS.to_owned(),
            ];
        }
        Operation::RunJob => &[
            "('job-' || :number::text)",
            "'running'",
            "NULL::text[]",
            "NULL::text",
            "now()",
            UNIQUE,
            ":key::text",
            "'{pending}'::text[]",
            ARGUMENTS,
        ],
        Operation::Approve => &[
            "('payment-' || :number::text)",
            "NULL::bigint",
            "NULL::text",
            "now()",
            UNIQUE,
            ":key::text",
            "'{pending}'::text[]",
            ARGUMENTS,
        ],
        Operation::ListJobs => &["'infinity'::timestamptz", "''", "21", ":user", "'{}'"],
    };
    given.iter().map(|text| (*text).to_owned()).collect()
}

/// The statements as storage-pg sends them.
#[derive(Debug)]
pub(super) struct Statements(BTreeMap<Operation, String>);

impl Statements {
    /// Lets storage-pg do each operation once, and looks at the server for what it sent.
    pub(super) async fn capture(url: &str) -> Result<Self, String> {
        let of_store = |error: storage_core::Error| error.report().to_string();
        let word = if url.contains('?') { '&' } else { '?' };
        let mut options = PgOptions::new(format!("{url}{word}application_name={WATCHED}"));
        options.max_connections = 1;
        let storage = PgStorage::open(options).await.map_err(|error| of_store(error.into()))?;
        let amount = AMOUNT.parse().map_err(of_store)?;
        let user = UserId::new(1).map_err(of_store)?;
        storage.get_user(user).await.map_err(of_store)?;
        let payment = async {
            let mut payment = AddPayment::new(user, amount, "card".parse()?);
            payment.payment = Some("first".parse()?);
            storage.add_payment(payment).await
        };
        payment.await.map_err(of_store)?;
        let mut texts = BTreeMap::new();
        for operation in Operation::ALL {
            let id = if operation == Operation::Approve { "first" } else { "job" }.to_owned();
            let key = operation.name().to_owned();
            let call = Call { operation, user: 1, id, key, unique: Uuid::nil() };
            call.on(&storage, amount).await.map_err(of_store)?;
            texts.insert(operation, last_statement(url).await?);
        }
        storage.close().await.map_err(of_store)?;
        Ok(Self(texts))
    }

    pub(super) fn text(&self, operation: Operation) -> &str {
        self.0.get(&operation).map_or("", String::as_str)
    }

    /// The script that pgbench would need.
    fn script(&self, operation: Operation) -> String {
        let mut script =
            "-- Written by `storage-bench pg --write-scripts`: the statement of storage-pg, with variables \
             for its parameters.\n-- By hand: pgbench -n -M prepared -c 10 -j 2 -D users=100000 -D jobs=1000000 \
             -D payments=250000 -f THIS\n"
                .to_owned();
        let unique = "\\set key random(1, 9223372036854775807)\n\\set operation random(1, 9223372036854775807)\n";
        let user = "\\set user random(1, :users)\n";
        let (variables, more) = match operation {
            Operation::GetBalance | Operation::GetUser | Operation::ListJobs => (user, String::new()),
            Operation::AddBalance | Operation::SubtractBalance => (user, format!("\\set amount {AMOUNT}\n{unique}")),
            Operation::AddJob => (user, format!("\\set job random(1, 9223372036854775807)\n{unique}")),
            // The upper half: the others take the lower one, each only once.
            Operation::RunJob => ("\\set number random(:jobs / 2 + 1, :jobs)\n", unique.to_owned()),
            Operation::Approve => ("\\set number random(:payments / 2 + 1, :payments)\n", unique.to_owned()),
        };
        script.push_str(variables);
        script.push_str(&more);
        // From the last one, so that $1 is not taken for a part of $12.
        let text = parameters(operation)
            .iter()
            .enumerate()
            .rev()
            .fold(self.text(operation).to_owned(), |text, (at, value)| text.replace(&format!("${}", at + 1), value));
        let _ = writeln!(script, "{text};");
        script
    }

    /// Says whether the scripts hold what storage-pg sends today.
    pub(super) fn check(&self) -> Result<(), String> {
        for operation in Operation::ALL {
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
        for operation in Operation::ALL {
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
            let ground = Ground::new(Some(database.url()), 1, false).unwrap();
            ground.migrate().await.unwrap();
            Statements::capture(ground.url()).await.unwrap().check().unwrap();
        });
    }
}
