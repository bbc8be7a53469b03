//! What goes wrong between this program and the server, told apart by SQLSTATE, and what each means to a caller.

use std::time::Duration;

use storage_core::{Error, ErrorKind, Place, UserId};
use tokio_postgres::error::{DbError, SqlState};

use crate::attempts::ROW_IS_HELD;

/// Why an attempt did not answer.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The contract's own refusal, judged from what is stored. Trying again would judge the same.
    Refused(Error),
    /// The server or the connection said no.
    Database(tokio_postgres::Error),
    /// The server did not answer in time.
    Silent(Duration),
    /// Somebody else holds the row of this user, and it was not to be waited for.
    Held(UserId),
    /// What was seen is not held: the user appeared between the lock, which found nobody, and the look; or is not as it
    /// was seen any more.
    Overtaken,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

/// What to do about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Hand it to the caller.
    Report,
    /// Somebody was first, or the server asked for another try: judge again. Nothing was applied.
    Again,
    /// The connection is gone, and with it the answer: what was under way may have been applied. Ask again on another
    /// connection, with the same key.
    Reconnect,
    /// The server takes no writes any more: it became a standby, or the name leads to one. Nothing was applied. Ask again on another
    /// connection, which proves that it leads to the primary.
    Elsewhere,
    /// Somebody else holds the row. Nothing was applied; who may wait asks again in turn.
    InTurn,
    /// The connection's prepared statements are of no use any more. Nothing was applied; once more on a new connection,
    /// where the same answer means that it is not about them.
    Anew,
}

impl Fault {
    fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Database(error) => error.code(),
            Self::Refused(_) | Self::Silent(_) | Self::Held(_) | Self::Overtaken => None,
        }
    }

    /// What to do about it.
    pub(crate) fn remedy(&self) -> Remedy {
        let error = match self {
            Self::Refused(_) => return Remedy::Report,
            Self::Silent(_) => return Remedy::Reconnect,
            Self::Held(_) => return Remedy::InTurn,
            Self::Overtaken => return Remedy::Again,
            Self::Database(error) => error,
        };
        let Some(code) = error.code() else {
            // No word from the server: a closed connection, or an answer that this program cannot read.
            return if is_unreadable(error) { Remedy::Report } else { Remedy::Reconnect };
        };
        match code.code() {
            // A twin made the same user, key or id in between; the next judgement sees it.
            "23505" | "40001" | "40P01" | "55P03" => Remedy::Again,
            // The server is going down or coming up, or a pooler lost its server; the database was dropped, which the
            // next connection tells. The server also ends sessions that were idle, or at work, for too long. The last one:
            // whether it was done is not known, says the server.
            "57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "25P03" | "25P04" | "40003" => Remedy::Reconnect,
            code if code.starts_with("08") => Remedy::Reconnect,
            "25006" => Remedy::Elsewhere,
            // A statement that was prepared is gone, or the tables changed under it.
            "26000" | "0A000" => Remedy::Anew,
            _ => Remedy::Report,
        }
    }

    /// Whether what was sent may have been applied all the same: the connection or the answer was lost, or the answer
    /// could not be read.
    pub(crate) fn leaves_doubt(&self) -> bool {
        match self {
            Self::Database(error) => error.code().is_none() || self.remedy() == Remedy::Reconnect,
            Self::Silent(_) => true,
            Self::Refused(_) | Self::Held(_) | Self::Overtaken => false,
        }
    }

    /// Whether a row was there already under a unique constraint.
    pub(crate) fn is_twin(&self) -> bool {
        self.code() == Some(&SqlState::UNIQUE_VIOLATION)
    }

    /// Whether a lock was not granted in time.
    pub(crate) fn is_lock_timeout(&self) -> bool {
        self.code() == Some(&SqlState::LOCK_NOT_AVAILABLE)
    }

    /// Whether a constraint stopped the statement. A statement that does everything at once lets the constraints tell
    /// that it is not the plain case; why is judged afterwards.
    pub(crate) fn is_constraint(&self) -> bool {
        self.code().is_some_and(|code| {
            // A marked store refuses the statement whatever it would have changed; the judgement knows repeats.
            let refused = code.code().starts_with("23") || code.code() == migrations::MOVED_SQLSTATE;
            refused || *code == SqlState::NUMERIC_VALUE_OUT_OF_RANGE
        })
    }

    /// The error for the caller.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Refused(error) => error,
            Self::Silent(waited) => Error::new(ErrorKind::Busy { waited })
                .message("the server did not answer; look at the network and at what the server is doing"),
            Self::Held(_) => Error::new(ErrorKind::Busy { waited: Duration::ZERO }).message(ROW_IS_HELD),
            Self::Overtaken => Error::new(ErrorKind::Busy { waited: Duration::ZERO })
                .message("others changed the same user again and again: repeat, and look for triggers on the tables"),
            Self::Database(error) => database(error),
        }
    }
}

/// A value that could not be encoded or decoded: the connection is well, the program or the table is not.
fn is_unreadable(error: &tokio_postgres::Error) -> bool {
    // A closed connection has no cause or an I/O error as its cause; everything else never left this program.
    let cause = std::error::Error::source(error);
    !error.is_closed() && cause.is_none_or(|cause| !cause.is::<std::io::Error>())
}

fn database(error: tokio_postgres::Error) -> Error {
    let Some(server) = error.as_db_error() else {
        return if is_unreadable(&error) {
            Error::internal("a value could not be exchanged with the server").caused_by(error)
        } else {
            Error::new(ErrorKind::Unavailable)
                .message("the connection to the server was lost; repeat when it is back")
                .caused_by(error)
        };
    };
    let (kind, message) = classify(server);
    Error::new(kind).message(message).caused_by(error)
}

/// The kind and the remedy for what a server answered.
fn classify(server: &DbError) -> (ErrorKind, String) {
    let code = server.code().code();
    let table = || server.table().map_or_else(|| "a table".to_owned(), |table| format!("table {table}"));
    match code {
        migrations::MOVED_SQLSTATE => {
            let to = server.detail().unwrap_or("another place").to_owned();
            (ErrorKind::Moved { to }, "changes are refused here until the mark is lifted by that name".to_owned())
        }
        "25006" => (
            ErrorKind::ReadOnly,
            "the server is a standby or read-only: name the primary, or several hosts with \
             target_session_attrs=read-write"
                .to_owned(),
        ),
        "42501" => (
            // Not a rule of the contract but a right of the role: the store takes no writes from it.
            ErrorKind::ReadOnly,
            format!(
                "a missing right or row security keeps the role from {}: storage doctor names it, and what helps",
                table()
            ),
        ),
        "53100" => (ErrorKind::StorageFull, "the server's disk is full: make room and repeat".to_owned()),
        "53200" => (ErrorKind::Unavailable, "the server is out of memory".to_owned()),
        "53300" => (
            ErrorKind::Unavailable,
            "the server has no connection left: raise max_connections or lower the pool's size".to_owned(),
        ),
        "57014" | "25P03" | "25P04" => (
            ErrorKind::Busy { waited: Duration::ZERO },
            "the server cancelled the statement at its time limit: look for what blocks it, or raise statement_timeout"
                .to_owned(),
        ),
        "55P03" => (
            ErrorKind::Busy { waited: Duration::ZERO },
            "a lock was not granted in time: somebody holds the row, look into pg_stat_activity".to_owned(),
        ),
        "40001" | "40P01" => (
            ErrorKind::Busy { waited: Duration::ZERO },
            "others changed the same rows again and again: repeat".to_owned(),
        ),
        "3F000" | "42P01" | "42703" | "42883" | "42804" | "42P10" | "42704" => (
            ErrorKind::SchemaMismatch {
                found: "tables that this program does not know".to_owned(),
                wanted: format!("version {}", migrations::latest()),
                run: "storage migrate --check".to_owned(),
            },
            format!("the server says {code}"),
        ),
        "XX001" | "XX002" => (
            ErrorKind::Corrupt(Place::new(table())),
            "the server found damaged pages: stop writing and restore from a backup".to_owned(),
        ),
        _ if code.starts_with("08") || code.starts_with("57P") => {
            (ErrorKind::Unavailable, "the server ended the connection; repeat when it is back".to_owned())
        }
        _ if code.starts_with("28") => {
            (ErrorKind::Unavailable, "the server refused the login: check the role and its password".to_owned())
        }
        _ if code.starts_with("23") => {
            let constraint = server.constraint().unwrap_or("without a name");
            (ErrorKind::Internal, format!("the constraint {constraint} of {} said no ({code})", table()))
        }
        "58030" => (ErrorKind::Unavailable, "the server's disk failed: see the server's log".to_owned()),
        _ => (ErrorKind::Internal, format!("the server answered {code}")),
    }
}
