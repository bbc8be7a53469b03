//! How a command ends: exit codes, failures, and the advice that goes with them.

use std::process::ExitCode;

use serde::Serialize;
use storage_core::{Applied, Error, ErrorKind, Place};
use storage_factory::Backend;

use crate::context::Context;

/// How a command ended. The numbers are the process's exit codes and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what was asked.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The command line or an environment variable is wrong.
    Usage = 2,
    /// The store has another format or policy than this program wants.
    PendingMigrations = 3,
    /// Differences were found.
    Differences = 4,
    /// Another process keeps the store.
    Locked = 5,
    /// The store cannot be reached.
    CannotConnect = 6,
    /// Refused: not confirmed, or it would overwrite something.
    Refused = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What a command answers.
pub(crate) type Outcome = Result<Exit, Failure>;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The store said no.
    Store { error: Error, hint: Option<String> },
    /// The command line is wrong; the text says how.
    Usage(String),
    /// It could have been done and was not.
    Refused { message: String, hint: String },
    /// A file or stream outside the store failed.
    Io { message: String, error: std::io::Error, hint: Option<String> },
    /// Somebody pressed Ctrl-C.
    Interrupted { message: String, hint: String },
    /// The change was made; only its answer could not be printed.
    Unprinted { error: std::io::Error, see: String },
    /// Whoever reads our output has gone.
    ReaderGone,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store { error, hint: None }
    }
}

impl Failure {
    pub(crate) fn refused(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused { message: message.into(), hint: hint.into() }
    }
    pub(crate) fn io(message: impl Into<String>, error: std::io::Error) -> Self {
        Self::Io { message: message.into(), error, hint: None }
    }
    /// Of an answer that could not be printed, when what it tells has been done already: `see` shows it.
    pub(crate) fn after_change(self, see: impl Into<String>) -> Self {
        match self {
            Self::Io { error, .. } => Self::Unprinted { error, see: see.into() },
            other => other,
        }
    }
    /// With advice that fits better than the one for the error's kind.
    pub(crate) fn with_hint(self, hint: impl Into<String>) -> Self {
        match self {
            Self::Store { error, .. } => Self::Store { error, hint: Some(hint.into()) },
            Self::Interrupted { message, .. } => Self::Interrupted { message, hint: hint.into() },
            Self::Io { message, error, .. } => Self::Io { message, error, hint: Some(hint.into()) },
            other => other,
        }
    }

    /// Names the variable that a database's URL came from.
    pub(crate) fn naming_url(self, variable: &'static str) -> Self {
        match self {
            Self::Store { error, hint } => match error.kind() {
                ErrorKind::InvalidInput { field, rule } if field == "DATABASE_URL" => {
                    Self::Store { error: Error::invalid(variable, rule.clone()), hint }
                }
                _ => Self::Store { error, hint },
            },
            other => other,
        }
    }

    /// With advice that fits the store of this command.
    pub(crate) fn advised(self, context: &Context) -> Self {
        match self.naming_url(context.url_variable) {
            Self::Store { error, hint: None } => {
                let hint = match context.choice.backend {
                    Backend::Postgres(_) => postgres_advice(&error),
                    Backend::Json => None,
                };
                let hint = hint.or_else(|| backend_advice(&error, context));
                Self::Store { error, hint }
            }
            other => other,
        }
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Store { error, .. } => exit_of(error.kind()),
            Self::Usage(_) => Exit::Usage,
            Self::Refused { .. } => Exit::Refused,
            Self::Io { .. } | Self::Interrupted { .. } | Self::Unprinted { .. } => Exit::Failed,
            // As with `head`: whoever stops reading has what was wanted.
            Self::ReaderGone => Exit::Done,
        }
    }

    /// What is printed.
    pub(crate) fn report(&self) -> Report {
        let (kind, message, advice) = match self {
            Self::Store { error, hint } => {
                (error.kind().name(), error.report().to_string(), hint.clone().unwrap_or_else(|| advice(error)))
            }
            Self::Usage(text) => {
                let text = text.trim();
                ("Usage", text.strip_prefix("error: ").unwrap_or(text).to_owned(), "storage --help".to_owned())
            }
            Self::Refused { message, hint } => ("Refused", message.clone(), hint.clone()),
            Self::Interrupted { message, hint } => ("Interrupted", message.clone(), hint.clone()),
            Self::Io { message, error, hint } => {
                let room = error.kind() == std::io::ErrorKind::StorageFull;
                let advice = if room { ROOM } else { "the same command again" };
                let advice = hint.clone().unwrap_or_else(|| advice.to_owned());
                ("Io", format!("{message}\n  because: {error}"), advice)
            }
            Self::Unprinted { error, see } => {
                let message = format!("it was done, only the answer could not be printed\n  because: {error}");
                ("Io", message, see.clone())
            }
            Self::ReaderGone => ("Io", "the output was closed".to_owned(), "the same command again".to_owned()),
        };
        let (applied, key) = match self {
            Self::Store { error, .. } => {
                let applied = match error.applied() {
                    Applied::No => "no",
                    Applied::Unknown => "unknown",
                };
                (applied, error.key().map(ToString::to_string))
            }
            Self::Unprinted { .. } => ("yes", None),
            Self::Interrupted { .. } => ("unknown", None),
            _ => ("no", None),
        };
        Report { kind, message: redact(&message), applied, key, advice: redact(&advice) }
    }
}

/// A failure as it is printed.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) kind: &'static str,
    pub(crate) message: String,
    pub(crate) applied: &'static str,
    pub(crate) key: Option<String>,
    #[serde(rename = "try")]
    pub(crate) advice: String,
}

fn exit_of(kind: &ErrorKind) -> Exit {
    match kind {
        ErrorKind::InvalidInput { .. } => Exit::Usage,
        ErrorKind::SchemaMismatch { .. } => Exit::PendingMigrations,
        ErrorKind::Locked { .. } | ErrorKind::Busy { .. } => Exit::Locked,
        ErrorKind::Unavailable | ErrorKind::BackendDisabled { .. } => Exit::CannotConnect,
        ErrorKind::Moved { .. } => Exit::Refused,
        ErrorKind::Conflict { entity, .. } if entity.kind == "backend" => Exit::Refused,
        _ => Exit::Failed,
    }
}

/// What helps when nothing else does.
const NEWEST: &str = "storage restore FILE --data-dir NEW, with the newest dump";

/// The files of a store that people can repair.
const DATA_FILES: [&str; 9] = [
    "user_balances.json",
    "user_languages.json",
    "gift_claimed.json",
    "daily_free_generations.json",
    "admin_limits.json",
    "generations_history.json",
    "payments.json",
    "referrals.json",
    "generation_jobs.json",
];

/// What helps where there is no room.
const ROOM: &str = "df -h, and the same command when there is room";

/// The command that helps, by kind of error.
fn advice(error: &Error) -> String {
    if let (Applied::Unknown, Some(key)) = (error.applied(), error.key()) {
        return format!("the same command with --key {}", quoted(key.as_str()));
    }
    match error.kind() {
        ErrorKind::NotFound(entity) => match entity.kind {
            "payment" => "storage payments list".to_owned(),
            "job" => "storage jobs list".to_owned(),
            "user" => "storage user list".to_owned(),
            _ => "storage status".to_owned(),
        },
        ErrorKind::Conflict { entity, .. } => match entity.kind {
            "operation key" => "another --key, or none".to_owned(),
            "payment" => format!("storage payments show {}", quoted(&entity.id)),
            "job" => format!("storage jobs show {}", quoted(&entity.id)),
            _ => "storage status".to_owned(),
        },
        ErrorKind::InvalidInput { .. } => "storage --help".to_owned(),
        ErrorKind::InsufficientFunds { .. } | ErrorKind::QuotaExhausted { .. } => "storage user show ID".to_owned(),
        ErrorKind::InvalidTransition { entity, .. } => match entity.kind {
            "payment" => format!("storage payments show {}", quoted(&entity.id)),
            "job" => format!("storage jobs show {}", quoted(&entity.id)),
            _ => "storage user show ID".to_owned(),
        },
        ErrorKind::Locked { pid: Some(pid), .. } => format!("ps -p {pid}, and the same command when it has ended"),
        ErrorKind::Locked { .. } | ErrorKind::Busy { .. } => "the same command a little later".to_owned(),
        ErrorKind::Unavailable => "storage doctor".to_owned(),
        ErrorKind::StorageFull => ROOM.to_owned(),
        ErrorKind::ReadOnly => "storage doctor, which says what to do".to_owned(),
        ErrorKind::Corrupt(Place { source, line: Some(line), column: Some(column), .. }) => {
            format!("repair {} at line {line}, column {column}; or {NEWEST}", quoted(source))
        }
        ErrorKind::Corrupt(Place { source, .. }) if source.ends_with("backend.json") => {
            format!("repair {}; --mode postgres or --mode json does not ask it", quoted(source))
        }
        ErrorKind::Corrupt(Place { source, .. }) if DATA_FILES.contains(&source.as_str()) => {
            format!("repair {source}; or {NEWEST}")
        }
        ErrorKind::Corrupt(_) => NEWEST.to_owned(),
        ErrorKind::SchemaMismatch { run, .. } => run.clone(),
        ErrorKind::Moved { to } => format!("the same command for {to}"),
        ErrorKind::BackendDisabled { feature } => {
            format!("storage status --mode json, or a build with --features {feature}")
        }
        _ => "storage verify".to_owned(),
    }
}

/// What helps where mode `auto` refuses to switch between two stores.
fn backend_advice(error: &Error, context: &Context) -> Option<String> {
    let ErrorKind::Conflict { entity, .. } = error.kind() else { return None };
    match (entity.kind, entity.id.as_str()) {
        ("backend", "json") => {
            Some("storage status with DATABASE_URL and a running server, or storage status --mode json".to_owned())
        }
        ("backend", "postgres") => {
            let dir = quoted(&context.config.data_dir.display().to_string());
            Some(format!("storage merge --from json:{dir} --to DATABASE_URL"))
        }
        ("backend", _) => Some("storage status --mode postgres, to look at that database".to_owned()),
        _ => None,
    }
}

/// What helps with a database, where that is not what helps with files.
fn postgres_advice(error: &Error) -> Option<String> {
    if error.applied() == Applied::Unknown {
        return None;
    }
    let advice = match error.kind() {
        ErrorKind::InvalidInput { field, .. } if field.ends_with("DATABASE_URL") => {
            "postgresql://user:password@host:port/database?word=value in that variable"
        }
        ErrorKind::Unavailable => "storage status, when that is put right",
        ErrorKind::ReadOnly => "storage status, when the role may write there and the server takes writes",
        ErrorKind::StorageFull => "the same command when the server's disk has room",
        ErrorKind::Busy { .. } => "the same command a little later; pg_stat_activity shows who is in the way",
        ErrorKind::Corrupt(place) if !place.source.contains(".json") => {
            "a backup of the database, or storage restore FILE with the newest dump and an empty STORAGE_SCHEMA"
        }
        ErrorKind::Conflict { entity, .. } if entity.kind == "tables" => "storage migrate --adopt, after that",
        _ => return None,
    };
    Some(advice.to_owned())
}

/// A word as a shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !word.is_empty() && !word.starts_with('-') && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A URL that is nobody's.
const FORM: &str = "user:password@host:port/database";

/// Takes whatever could be a password out of the URLs in a text: user, password and options.
fn redact(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, url) = rest.split_at(at + 3);
        shown.push_str(before);
        let end = url.find(|c: char| c.is_whitespace() || "'\"`<>".contains(c)).unwrap_or(url.len());
        let (url, behind) = url.split_at(end);
        let place = match url.rfind('@') {
            // What a URL looks like is told in these very words.
            Some(_) if url.starts_with(FORM) => {
                shown.push_str(FORM);
                &url[FORM.len()..]
            }
            Some(at) => {
                shown.push_str("***");
                &url[at..]
            }
            None => url,
        };
        shown.push_str(place.split('?').next().unwrap_or_default());
        rest = behind;
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_what_is_secret() {
        for (text, shown) in [
            ("open 'postgres://u:S3@h:1/d?password=S3' failed", "open 'postgres://***@h:1/d' failed"),
            ("postgres://u:S3@S3@h and http://a/b", "postgres://***@h and http://a/b"),
            ("postgres://h/d?password=S3", "postgres://h/d"),
            ("plain a@b", "plain a@b"),
            ("postgresql://user:password@host:port/database?S3", "postgresql://user:password@host:port/database"),
            ("postgresql://user:password@host:port/S3", "postgresql://***@host:port/S3"),
        ] {
            assert_eq!(redact(text), shown);
        }
    }

    #[test]
    fn every_kind_has_its_exit_code_and_advice() {
        let entity = || storage_core::Entity::new("payment", "p 1");
        for (kind, exit, advice) in [
            (ErrorKind::NotFound(entity()), Exit::Failed, "storage payments list"),
            (
                ErrorKind::InvalidTransition { entity: entity(), from: "a".into(), to: "b".into() },
                Exit::Failed,
                "storage payments show 'p 1'",
            ),
            (ErrorKind::InvalidInput { field: "f".into(), rule: "r".into() }, Exit::Usage, "storage --help"),
            (
                ErrorKind::SchemaMismatch { found: "a".into(), wanted: "b".into(), run: "storage x".into() },
                Exit::PendingMigrations,
                "storage x",
            ),
            (ErrorKind::Locked { pid: Some(7), since: None }, Exit::Locked, "ps -p 7"),
            (ErrorKind::Locked { pid: None, since: None }, Exit::Locked, "a little later"),
            (ErrorKind::Busy { waited: std::time::Duration::from_secs(1) }, Exit::Locked, "a little later"),
            (ErrorKind::Unavailable, Exit::CannotConnect, "storage doctor"),
            (ErrorKind::BackendDisabled { feature: "postgres" }, Exit::CannotConnect, "--features postgres"),
            (ErrorKind::Moved { to: "there".into() }, Exit::Refused, "there"),
            (
                ErrorKind::Conflict { entity: storage_core::Entity::new("backend", "json"), reason: "r".into() },
                Exit::Refused,
                "storage status",
            ),
            (ErrorKind::StorageFull, Exit::Failed, "df -h"),
            (ErrorKind::ReadOnly, Exit::Failed, "storage doctor"),
            (ErrorKind::Corrupt(storage_core::Place::new("x")), Exit::Failed, "storage restore"),
            (
                ErrorKind::Corrupt(storage_core::Place::new("payments.json").at(3, 7)),
                Exit::Failed,
                "repair payments.json at line 3, column 7; or storage restore",
            ),
            (ErrorKind::Internal, Exit::Failed, "storage verify"),
        ] {
            let failure = Failure::from(Error::new(kind));
            assert_eq!(failure.exit(), exit, "{failure:?}");
            let report = failure.report();
            assert!(report.advice.contains(advice), "{report:?}");
        }
    }

    #[test]
    fn an_unknown_outcome_is_settled_by_its_key() {
        let key = storage_core::OperationKey::new("k-1").unwrap();
        let report = Failure::from(Error::new(ErrorKind::Unavailable).unknown(Some(key))).report();
        assert_eq!((report.applied, report.key.as_deref()), ("unknown", Some("k-1")));
        assert!(report.advice.ends_with("--key k-1"), "{report:?}");
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        for (word, shown) in [("p-1", "p-1"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("", "''"), ("-x", "'-x'")] {
            assert_eq!(quoted(word), shown);
        }
    }
}
