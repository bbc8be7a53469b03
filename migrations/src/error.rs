//! What can go wrong, and what to do then.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::State;

/// Why nothing was migrated or adopted. Whatever the reason, the schema is as it was before, but for two: [`Error::Unfinished`], and a
/// connection that is lost while a commit is under way. Then either all was applied or nothing, and running it again tells which.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// There is no way from this state to the current version; the state says what to do.
    State(State),
    /// Adopting was asked for, and there is nothing of the earlier system here, neither as it was nor adopted.
    NothingToAdopt(State),
    /// Adopting would rename tables to names that are taken: the tables that exist under both names.
    AdoptedTwice {
        /// The earlier system's names.
        tables: Vec<String>,
    },
    /// Somebody else's migration, or locks of a running store, stood in the way for as long as the caller would wait.
    Busy {
        /// How long it was tried.
        waited: Duration,
        /// Who had the locks, in words, as far as it shows.
        holders: Vec<String>,
        /// What the server said the last time, when it was a lock on a table.
        source: Option<tokio_postgres::Error>,
    },
    /// Only the owner of the tables, who may also make something in their schema, changes the mark.
    NotOwner {
        /// The role that asks.
        role: String,
        /// The owner of the tables.
        owner: String,
    },
    /// The role may not make or change what is to be made or changed.
    NoRight {
        /// The role that asks.
        role: String,
        /// What it may not do.
        what: String,
        /// What helps, as a superuser or the owner.
        run: String,
    },
    /// The server took the connection and then answered nothing for so long.
    Silent(Duration),
    /// The connection or a statement failed.
    Postgres(tokio_postgres::Error),
    /// A migration failed.
    Migration {
        /// What was being done.
        doing: String,
        /// What the server said, when it was the server.
        source: Option<tokio_postgres::Error>,
    },
    /// A migration is applied, and of what comes outside of its transaction this failed.
    Unfinished {
        /// The migration's version.
        version: i32,
        /// What was being done.
        doing: String,
        /// Why it failed.
        source: Box<Error>,
    },
    /// The store is marked as moved, and what is pending changes rows.
    Moved {
        /// Where its contents are.
        to: String,
    },
    /// An index is to be made, and something else has its name.
    Taken {
        /// The name.
        name: String,
        /// The schema.
        schema: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(state) => write!(f, "cannot migrate from here: {state}"),
            Self::NothingToAdopt(State::Missing) => f.write_str(
                "there is nothing to adopt, the schema has none of the earlier system's tables: check the database and \
                 the schema, or run `storage migrate` for a new store",
            ),
            Self::NothingToAdopt(state) => {
                write!(f, "there is nothing to adopt, no table of the earlier system is here: {state}")
            }
            Self::AdoptedTwice { tables } => {
                f.write_str("cannot adopt, tables stand here both as they were and adopted:")?;
                for (at, table) in tables.iter().enumerate() {
                    write!(f, "{} {table} and legacy_{table}", if at == 0 { "" } else { "," })?;
                }
                f.write_str("; rename or move one of each pair")
            }
            Self::Busy { waited, holders, source } => {
                let what = if source.is_some() { "locks on the tables" } else { "another migration" };
                let who = if holders.is_empty() { String::new() } else { format!(" ({})", holders.join("; ")) };
                write!(
                    f,
                    "{what} stood in the way for {} ms{who}, and the last attempt changed nothing: try again, or wait longer",
                    waited.as_millis()
                )
            }
            Self::NotOwner { role, owner } => write!(
                f,
                "the role {role} may not change the mark, and nothing was changed: do it as {owner}, whose tables these are"
            ),
            Self::NoRight { role, what, run } => {
                write!(f, "the role {role} may not {what}, and nothing was changed: {run}")
            }
            Self::Silent(waited) => write!(
                f,
                "the server did not answer for {} s: look at the network and at what the server is doing",
                waited.as_secs()
            ),
            Self::Postgres(_) => f.write_str("the server could not be asked, or refused"),
            Self::Migration { doing, .. } => write!(f, "nothing was migrated, this failed: {doing}"),
            Self::Unfinished { version, doing, .. } => write!(
                f,
                "version {version} is applied, what comes after it beside working programs is not done yet: {doing}; when what stood in the way is gone, the same command goes on"
            ),
            Self::Moved { to } => write!(
                f,
                "the contents of this store were moved to {to}, and what is pending changes rows: nothing was changed; migrate the other one"
            ),
            Self::Taken { name, schema } => write!(
                f,
                "something else has the name of the index {name} in the schema {schema}: look at it, then rename or drop it"
            ),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::State(_)
            | Self::NothingToAdopt(_)
            | Self::AdoptedTwice { .. }
            | Self::NotOwner { .. }
            | Self::NoRight { .. }
            | Self::Moved { .. }
            | Self::Taken { .. }
            | Self::Silent(_) => None,
            Self::Unfinished { source, .. } => Some(&**source),
            Self::Busy { source, .. } | Self::Migration { source, .. } => source.as_ref().map(|error| error as _),
            Self::Postgres(error) => Some(error),
        }
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}
