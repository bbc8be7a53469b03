//! Steps that no transaction can hold, because programs are to work meanwhile: an index that is built beside writers, a constraint that is
//! validated, rows that are filled in pieces.
//!
//! They stand in a migration's file behind the line [`MARK`], and run one after the other when what stands before it is committed. Each can
//! be repeated, so a run that was killed anywhere goes on with the same command; which version is not done yet stands in `storage_meta`.
//! Each ends with `;` at the end of a line. There are three kinds:
//!
//! - `CREATE [UNIQUE] INDEX CONCURRENTLY name ON table ...`: left alone when it is there and valid; what a killed run left invalid is made
//!   anew. It runs alone, without the path of the schema: functions, operators and collations in it are named in full.
//! - Behind the line [`AGAIN`]: a piece of rows that are filled, in a transaction of its own, repeated until it changes no row.
//! - Anything else: in a transaction of its own. A killed run does it once more.

use std::time::Duration;

use tokio::time::sleep;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::answered;
use crate::error::Error;
use crate::plan::{META_TABLE, Plan, UNFINISHED};
use crate::reader::Reader;
use crate::run::{Attempt, Patience, begin, or_again, refuse_without_rights, within_the_schema};
use crate::schema::{Schema, quote};

/// What stands before the steps: a line of its own.
const MARK: &str = "-- outside of the transaction";
/// Before a step that is repeated until it changes no row: a line of its own.
const AGAIN: &str = "-- until nothing is left";
/// Between two pieces of rows, so that programs come to their turn.
const BREATH: Duration = Duration::from_millis(20);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// An index of this name on this table, and what follows the table's name.
    Index { unique: bool, name: String, table: String, rest: String },
    /// Repeated until it changes no row.
    Again(String),
    /// Does no harm when it is done twice.
    Once(String),
}

/// What stands before the mark, and what behind it.
fn split(text: &str) -> (&str, Option<&str>) {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let end = start + line.len();
        if line.trim_end() == MARK {
            return (&text[..start], Some(&text[end..]));
        }
        start = end;
    }
    (text, None)
}

/// The part of a migration's text that runs in the transaction.
pub(crate) fn inside(text: &str) -> &str {
    split(text).0
}

/// Whether the text has steps that do not.
pub(crate) fn has_steps(text: &str) -> bool {
    split(text).1.is_some()
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let (mut sql, mut again) = (String::new(), false);
    for line in split(text).1.unwrap_or_default().lines() {
        if line.trim_start().starts_with("--") {
            again |= line.trim() == AGAIN;
            continue;
        }
        sql.push_str(line);
        sql.push('\n');
        if let Some(statement) = sql.trim().strip_suffix(';') {
            let kind = if std::mem::take(&mut again) { Step::Again } else { Step::Once };
            steps.push(index(statement).unwrap_or_else(|| kind(statement.to_owned())));
            sql.clear();
        }
    }
    if !sql.trim().is_empty() {
        // The server says what is wrong with it.
        steps.push(Step::Once(sql));
    }
    steps
}

/// The next word of some SQL, and what follows it.
fn word(sql: &str) -> Option<(&str, &str)> {
    sql.trim_start().split_once(char::is_whitespace)
}

/// A statement that builds an index beside writers.
fn index(statement: &str) -> Option<Step> {
    let keyword = |sql, wanted: &str| {
        let (found, rest) = word(sql)?;
        found.eq_ignore_ascii_case(wanted).then_some(rest)
    };
    let rest = keyword(statement, "CREATE")?;
    let (unique, rest) = keyword(rest, "UNIQUE").map_or((false, rest), |rest| (true, rest));
    let rest = keyword(keyword(rest, "INDEX")?, "CONCURRENTLY")?;
    let (name, rest) = word(rest)?;
    let (table, rest) = word(keyword(rest, "ON")?)?;
    Some(Step::Index { unique, name: name.to_owned(), table: table.to_owned(), rest: rest.to_owned() })
}

impl Step {
    /// What is being done, for an error.
    fn doing(&self) -> String {
        match self {
            Self::Index { name, table, .. } => format!("the index {name} of {table}"),
            Self::Again(sql) | Self::Once(sql) => sql.split_whitespace().collect::<Vec<_>>().join(" "),
        }
    }

    async fn attempt(
        &self,
        client: &mut Client,
        schema: &Schema,
        (version, patience): (i32, &Patience),
    ) -> Result<Attempt<bool>, Error> {
        match self {
            Self::Index { unique, name, table, rest } => {
                let index = Index { schema, unique: *unique, name, table };
                index.attempt(client, rest, patience).await
            }
            Self::Again(sql) => {
                in_a_transaction(client, schema, sql, (version, patience)).await.map(|attempt| match attempt {
                    Attempt::Done(rows) => Attempt::Done(rows == 0),
                    Attempt::Again(source) => Attempt::Again(source),
                })
            }
            Self::Once(sql) => {
                in_a_transaction(client, schema, sql, (version, patience)).await.map(|attempt| match attempt {
                    Attempt::Done(_) => Attempt::Done(true),
                    Attempt::Again(source) => Attempt::Again(source),
                })
            }
        }
    }
}

/// Runs what comes behind the transaction of a version. Several runners may do so at once.
pub(crate) async fn finish(
    client: &mut Client,
    schema: &Schema,
    plan: &Plan,
    version: i32,
    patience: &Patience,
) -> Result<(), Error> {
    if let Some(transaction) = answered(begin(client, schema, patience)).await? {
        answered(refuse_without_rights(&transaction, schema, plan)).await?;
        transaction.rollback().await?;
    }
    let failed = |doing, source| Error::Unfinished { version, doing, source: Box::new(source) };
    for step in steps(plan.text(version)) {
        // What was done is no waiting.
        let mut patience = patience.renewed();
        loop {
            // Somebody else may have ended it, and applied what comes after: then its steps are no longer due.
            if !is_unfinished(Reader::Alone(client), schema, version).await? {
                return Ok(());
            }
            match step.attempt(client, schema, (version, &patience)).await.or_else(or_again) {
                Ok(Attempt::Done(true)) => break,
                Ok(Attempt::Done(false)) => {
                    sleep(BREATH).await;
                    patience = patience.renewed();
                }
                Ok(Attempt::Again(source)) => {
                    patience.pause(client, schema, source).await.map_err(|source| failed(step.doing(), source))?;
                }
                Err(source) => return Err(failed(step.doing(), source)),
            }
        }
    }
    let done =
        format!("DELETE FROM {}.{META_TABLE} WHERE name = '{UNFINISHED}' AND value = '{version}'", schema.quoted());
    let patience = patience.renewed();
    loop {
        match in_a_transaction(client, schema, &done, (version, &patience)).await.or_else(or_again)? {
            Attempt::Done(_) => return Ok(()),
            Attempt::Again(source) => patience.pause(client, schema, source).await?,
        }
    }
}

/// Whether the steps of a version are still due.
async fn is_unfinished(reader: Reader<'_>, schema: &Schema, version: i32) -> Result<bool, Error> {
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM {}.{META_TABLE} AS m WHERE m.name = '{UNFINISHED}' AND m.value = $1)",
        schema.quoted()
    );
    let rows = answered(reader.rows(&sql, &[(&version.to_string(), Type::TEXT)])).await?;
    Ok(rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(false))
}

/// One statement, as it would run in the transaction of a migration; how many rows it changed.
async fn in_a_transaction(
    client: &mut Client,
    schema: &Schema,
    sql: &str,
    (version, patience): (i32, &Patience),
) -> Result<Attempt<u64>, Error> {
    let Some(transaction) = answered(begin(client, schema, patience)).await? else { return Ok(Attempt::Again(None)) };
    if !is_unfinished(Reader::Within(transaction.client()), schema, version).await? {
        transaction.rollback().await?;
        return Ok(Attempt::Done(0));
    }
    within_the_schema(&transaction, schema).await?;
    let rows = transaction.execute_typed(sql, &[]).await?;
    transaction.commit().await?;
    Ok(Attempt::Done(rows))
}

/// An index that is to be there.
struct Index<'a> {
    schema: &'a Schema,
    unique: bool,
    name: &'a str,
    table: &'a str,
}

/// What has an index's name.
enum Found {
    Nothing,
    Valid,
    /// Somebody is building it now, or was killed while building it.
    Invalid,
}

impl Index<'_> {
    async fn attempt(&self, client: &mut Client, rest: &str, patience: &Patience) -> Result<Attempt<bool>, Error> {
        match answered(self.look(Reader::Alone(client))).await? {
            Found::Valid => return Ok(Attempt::Done(true)),
            Found::Invalid => return self.clear_away(client, patience).await,
            Found::Nothing => {}
        }
        let unique = if self.unique { "UNIQUE " } else { "" };
        let sql = format!(
            "CREATE {unique}INDEX CONCURRENTLY {} ON {}.{} {rest}",
            quote(self.name),
            self.schema.quoted(),
            quote(self.table)
        );
        match client.batch_execute(&sql).await {
            // Somebody else was first: it is looked at.
            Err(error) if error.code() == Some(&SqlState::DUPLICATE_TABLE) => Ok(Attempt::Done(false)),
            // It is looked at again: that it was built is no proof that it is valid.
            other => other.map(|()| Attempt::Done(false)).map_err(Error::from),
        }
    }

    async fn look(&self, reader: Reader<'_>) -> Result<Found, Error> {
        let rows = reader
            .rows(
                "SELECT x.indisvalid AND x.indisready, x.indisunique, t.relname::text
                 FROM pg_class i JOIN pg_namespace n ON n.oid = i.relnamespace
                    LEFT JOIN pg_index x ON x.indexrelid = i.oid LEFT JOIN pg_class t ON t.oid = x.indrelid
                 WHERE n.nspname = $1 AND i.relname = $2",
                &[(&self.schema.name(), Type::NAME), (&self.name, Type::NAME)],
            )
            .await?;
        let Some(row) = rows.first() else { return Ok(Found::Nothing) };
        let (valid, unique, table): (Option<bool>, Option<bool>, Option<String>) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if unique != Some(self.unique) || table.as_deref() != Some(self.table) {
            return Err(Error::Taken { name: self.name.to_owned(), schema: self.schema.to_string() });
        }
        Ok(if valid == Some(true) { Found::Valid } else { Found::Invalid })
    }

    /// Drops an invalid index that a killed run left. A running build holds SHARE UPDATE EXCLUSIVE on the table until it ends, so taking
    /// that lock here proves that no build is under way.
    async fn clear_away(&self, client: &mut Client, patience: &Patience) -> Result<Attempt<bool>, Error> {
        let Some(transaction) = answered(begin(client, self.schema, patience)).await? else {
            return Ok(Attempt::Again(None));
        };
        let s = self.schema.quoted();
        transaction
            .batch_execute(&format!("LOCK TABLE {s}.{} IN SHARE UPDATE EXCLUSIVE MODE", quote(self.table)))
            .await?;
        if matches!(self.look(Reader::Within(transaction.client())).await?, Found::Invalid) {
            transaction.batch_execute(&format!("DROP INDEX {s}.{}", quote(self.name))).await?;
        }
        transaction.commit().await?;
        Ok(Attempt::Done(false))
    }
}

#[cfg(test)]
mod tests {
    use super::{Step, inside, steps};

    #[test]
    fn a_file_is_cut_at_the_mark() {
        let text = "ALTER TABLE users ADD note TEXT;\n-- outside of the transaction\n-- why\ncreate unique index concurrently \
                    users_by_note\n    ON users (note ASC)\n    WHERE note <> '';\n-- until nothing is left\nUPDATE users SET \
                    note = 'x';\nALTER TABLE users VALIDATE CONSTRAINT c;\n";
        assert_eq!(inside(text), "ALTER TABLE users ADD note TEXT;\n");
        let [Step::Index { unique: true, name, table, rest }, Step::Again(fill), Step::Once(once)] = &steps(text)[..]
        else {
            panic!("{:?}", steps(text));
        };
        assert_eq!((name.as_str(), table.as_str()), ("users_by_note", "users"));
        assert_eq!(rest.split_whitespace().collect::<Vec<_>>().join(" "), "(note ASC) WHERE note <> ''");
        assert_eq!(
            (fill.as_str(), once.as_str()),
            ("UPDATE users SET note = 'x'", "ALTER TABLE users VALIDATE CONSTRAINT c")
        );
        assert!(steps("SELECT 1; -- outside of the transaction\n").is_empty(), "the mark is a line of its own");
    }
}
