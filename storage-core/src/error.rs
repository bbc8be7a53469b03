//! One error type for every backend: what failed, what to do, and whether anything was applied.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{Money, OperationKey, Timestamp};

/// The result of every operation of the storage.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whether a failed operation may have changed the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Nothing was changed, and nothing will be.
    No,
    /// The change may or may not be there. Repeating the operation with [`Error::key`] settles it.
    Unknown,
}

/// A record that an error speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entity {
    /// What it is: `"user"`, `"job"`, `"payment"`, `"hold"`, `"operation key"`, ...
    pub kind: &'static str,
    /// Its id, as the caller knows it.
    pub id: String,
}

impl Entity {
    /// Names a record.
    pub fn new(kind: &'static str, id: impl fmt::Display) -> Self {
        Self { kind, id: id.to_string() }
    }
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.id)
    }
}

/// Where damaged data was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// File name or table.
    pub source: String,
    /// Key of the record, when one is known.
    pub key: Option<String>,
    /// Line, counted from 1.
    pub line: Option<u64>,
    /// Column in bytes, counted from 1.
    pub column: Option<u64>,
    /// Byte offset from the start of the file.
    pub offset: Option<u64>,
}

impl Place {
    /// A whole file or table.
    pub fn new(source: impl Into<String>) -> Self {
        Self { source: source.into(), ..Self::default() }
    }
    /// Adds the record's key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }
    /// Adds line and column, both counted from 1.
    #[must_use]
    pub fn at(mut self, line: u64, column: u64) -> Self {
        self.line = Some(line);
        self.column = Some(column);
        self
    }
    /// Adds the byte offset.
    #[must_use]
    pub fn offset(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, ", line {line}, column {column}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, ", byte {offset}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ", key {key:?}")?;
        }
        Ok(())
    }
}

/// What went wrong. Expected refusals carry their figures.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The record that the operation names does not exist.
    NotFound(Entity),
    /// The id or key is taken by something else.
    Conflict {
        /// What is taken.
        entity: Entity,
        /// What stands there instead.
        reason: Cow<'static, str>,
    },
    /// A value breaks a rule of the contract.
    InvalidInput {
        /// The field or type that is wrong.
        field: Cow<'static, str>,
        /// The rule it breaks.
        rule: Cow<'static, str>,
    },
    /// There is less money than the operation needs.
    InsufficientFunds {
        /// What could be spent at that moment.
        available: Money,
        /// What the operation asked for.
        required: Money,
    },
    /// Neither today's quota nor the bank holds a free generation.
    QuotaExhausted {
        /// Taken today.
        used: u32,
        /// Today's quota.
        limit: u32,
    },
    /// The status machine has no such step.
    InvalidTransition {
        /// The record.
        entity: Entity,
        /// Its present state.
        from: Cow<'static, str>,
        /// The state asked for.
        to: Cow<'static, str>,
    },
    /// Another process keeps the store.
    Locked {
        /// Its process id, when it could be read.
        pid: Option<u32>,
        /// When it took the store.
        since: Option<Timestamp>,
    },
    /// A wait other than for a process lock ran out.
    Busy {
        /// How long was waited.
        waited: Duration,
    },
    /// The store cannot be reached.
    Unavailable,
    /// The disk or the database has no room.
    StorageFull,
    /// The store takes no writes.
    ReadOnly,
    /// Stored data is damaged; its bytes were left untouched.
    Corrupt(Place),
    /// The store has another format or policy than this program wants.
    SchemaMismatch {
        /// What was found.
        found: String,
        /// What is wanted.
        wanted: String,
        /// The command that helps.
        run: String,
    },
    /// The store's contents were moved elsewhere.
    Moved {
        /// Where to.
        to: String,
    },
    /// The backend was not compiled in.
    BackendDisabled {
        /// The Cargo feature that compiles it in.
        feature: &'static str,
    },
    /// The handle was closed.
    Closed,
    /// A defect of the storage itself.
    Internal,
}

impl ErrorKind {
    /// The kind's name, stable for programs: `"NotFound"`, `"Conflict"`, ...
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "NotFound",
            Self::Conflict { .. } => "Conflict",
            Self::InvalidInput { .. } => "InvalidInput",
            Self::InsufficientFunds { .. } => "InsufficientFunds",
            Self::QuotaExhausted { .. } => "QuotaExhausted",
            Self::InvalidTransition { .. } => "InvalidTransition",
            Self::Locked { .. } => "Locked",
            Self::Busy { .. } => "Busy",
            Self::Unavailable => "Unavailable",
            Self::StorageFull => "StorageFull",
            Self::ReadOnly => "ReadOnly",
            Self::Corrupt(_) => "Corrupt",
            Self::SchemaMismatch { .. } => "SchemaMismatch",
            Self::Moved { .. } => "Moved",
            Self::BackendDisabled { .. } => "BackendDisabled",
            Self::Closed => "Closed",
            Self::Internal => "Internal",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(entity) => write!(f, "{entity} does not exist"),
            Self::Conflict { entity, reason } => write!(f, "{entity} is taken: {reason}"),
            Self::InvalidInput { field, rule } => write!(f, "{field}: {rule}"),
            Self::InsufficientFunds { available, required } => {
                write!(f, "insufficient funds: {required} required, {available} available")
            }
            Self::QuotaExhausted { used, limit } => {
                write!(f, "no free generation left: {used} of {limit} taken today and the bank is empty")
            }
            Self::InvalidTransition { entity, from, to } => write!(f, "{entity} cannot go from {from} to {to}"),
            Self::Locked { pid, since } => {
                f.write_str("the store is locked by ")?;
                match pid {
                    Some(pid) => write!(f, "process {pid}")?,
                    None => f.write_str("another process")?,
                }
                since.iter().try_for_each(|since| write!(f, " since {since}"))
            }
            Self::Busy { waited } => {
                write!(f, "gave up waiting after {}.{:03} s", waited.as_secs(), waited.subsec_millis())
            }
            Self::Unavailable => f.write_str("the store cannot be reached"),
            Self::StorageFull => f.write_str("no room left where the store lives"),
            Self::ReadOnly => f.write_str("the store is read-only"),
            Self::Corrupt(place) => write!(f, "damaged data in {place}"),
            Self::SchemaMismatch { found, wanted, run } => {
                write!(f, "found {found}, but this program wants {wanted}; run: {run}")
            }
            Self::Moved { to } => write!(f, "the contents of this store were moved to {to}"),
            Self::BackendDisabled { feature } => {
                write!(f, "this build has no such backend; compile with the feature `{feature}`")
            }
            Self::Closed => f.write_str("the store handle was closed"),
            Self::Internal => f.write_str("internal error"),
        }
    }
}

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    applied: Applied,
    operation: Option<&'static str>,
    key: Option<OperationKey>,
    message: Option<Cow<'static, str>>,
    source: Option<Arc<dyn StdError + Send + Sync + 'static>>,
}

/// Why an operation failed.
///
/// `Display` says what failed and what to do; the cause is behind [`source`](StdError::source) and is not
/// repeated. [`Error::report`] prints the whole chain.
///
/// ```
/// use storage_core::{Applied, Entity, Error, ErrorKind};
///
/// let error = Error::not_found("payment", "p-1").in_operation("get_payment");
/// assert_eq!(error.kind(), &ErrorKind::NotFound(Entity::new("payment", "p-1")));
/// assert_eq!(error.applied(), Applied::No);
/// assert_eq!(error.to_string(), "get_payment: payment p-1 does not exist");
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

impl Error {
    /// An error of any kind; nothing was applied.
    pub fn new(kind: ErrorKind) -> Self {
        Self(Box::new(Inner { kind, applied: Applied::No, operation: None, key: None, message: None, source: None }))
    }
    /// `NotFound`.
    pub fn not_found(kind: &'static str, id: impl fmt::Display) -> Self {
        Self::new(ErrorKind::NotFound(Entity::new(kind, id)))
    }
    /// `Conflict`, saying what stands there instead.
    pub fn conflict(kind: &'static str, id: impl fmt::Display, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Conflict { entity: Entity::new(kind, id), reason: reason.into() })
    }
    /// `InvalidInput`, naming the field and the rule.
    pub fn invalid(field: impl Into<Cow<'static, str>>, rule: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidInput { field: field.into(), rule: rule.into() })
    }
    /// `InsufficientFunds` with both figures.
    pub fn insufficient_funds(available: Money, required: Money) -> Self {
        Self::new(ErrorKind::InsufficientFunds { available, required })
    }
    /// `InvalidTransition`.
    pub fn transition(
        kind: &'static str,
        id: impl fmt::Display,
        from: impl Into<Cow<'static, str>>,
        to: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(ErrorKind::InvalidTransition { entity: Entity::new(kind, id), from: from.into(), to: to.into() })
    }
    /// `Corrupt`, with the place and what is wrong there.
    pub fn corrupt(place: Place, problem: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Corrupt(place)).message(problem)
    }
    /// `SchemaMismatch`.
    pub fn schema(found: impl Into<String>, wanted: impl Into<String>, run: impl Into<String>) -> Self {
        Self::new(ErrorKind::SchemaMismatch { found: found.into(), wanted: wanted.into(), run: run.into() })
    }
    /// `Closed`.
    pub fn closed() -> Self {
        Self::new(ErrorKind::Closed)
    }
    /// `Internal`: a defect. The message says which assumption broke.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Internal).message(message)
    }

    /// Adds what failed in detail, or what to do.
    #[must_use]
    pub fn message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.0.message = Some(message.into());
        self
    }
    /// The same error as another kind, for whoever knows better what it means or how long it took.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }
    /// Names the operation, unless one is named already.
    #[must_use]
    pub fn in_operation(mut self, operation: &'static str) -> Self {
        self.0.operation.get_or_insert(operation);
        self
    }
    /// Says that the change may have been applied, and which key settles it.
    #[must_use]
    pub fn unknown(mut self, key: Option<OperationKey>) -> Self {
        self.0.applied = Applied::Unknown;
        self.0.key = key;
        self
    }
    /// Says that this operation changed nothing, whatever became of others beside it.
    #[must_use]
    pub fn not_applied(mut self) -> Self {
        (self.0.applied, self.0.key) = (Applied::No, None);
        self
    }
    /// Adds the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }
    /// Whether anything may have been applied.
    pub fn applied(&self) -> Applied {
        self.0.applied
    }
    /// The operation that failed.
    pub fn operation(&self) -> Option<&'static str> {
        self.0.operation
    }
    /// The key that settles an [`Applied::Unknown`].
    pub fn key(&self) -> Option<&OperationKey> {
        self.0.key.as_ref()
    }
    /// The message alone, without operation and kind.
    pub fn detail(&self) -> Option<&str> {
        self.0.message.as_deref()
    }
    /// The error and all its causes, one a line; with `{:#}` all in one line.
    pub fn report(&self) -> Report<'_> {
        Report(self)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        if let Some(operation) = inner.operation {
            write!(f, "{operation}: ")?;
        }
        write!(f, "{}", inner.kind)?;
        if let Some(message) = &inner.message {
            write!(f, ": {message}")?;
        }
        if inner.applied == Applied::Unknown {
            f.write_str("; it is unknown whether the change was applied")?;
            if let Some(key) = &inner.key {
                write!(f, ", repeat it with the key {key} to settle that")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        f.debug_struct("Error")
            .field("kind", &inner.kind)
            .field("applied", &inner.applied)
            .field("operation", &inner.operation)
            .field("key", &inner.key)
            .field("message", &inner.message)
            .field("source", &inner.source.as_ref().map(ToString::to_string))
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// Prints an error with its causes, one a line. Made by [`Error::report`].
#[derive(Debug)]
pub struct Report<'a>(&'a Error);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = StdError::source(self.0);
        while let Some(error) = cause {
            f.write_str(if f.alternate() { "; because: " } else { "\n  because: " })?;
            write!(f, "{error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_never_repeats_the_source() {
        let cause = std::io::Error::other("the disk said no");
        let error = Error::new(ErrorKind::ReadOnly).message("reopen the store").caused_by(cause);
        assert_eq!(error.to_string(), "the store is read-only: reopen the store");
        assert_eq!(error.report().to_string(), "the store is read-only: reopen the store\n  because: the disk said no");
        let in_one_line = format!("{:#}", error.report());
        assert_eq!(in_one_line, "the store is read-only: reopen the store; because: the disk said no");
    }

    #[test]
    fn an_unknown_outcome_names_its_key() {
        let key = OperationKey::new("k-1").unwrap();
        let error = Error::new(ErrorKind::ReadOnly).unknown(Some(key.clone()));
        assert_eq!(error.applied(), Applied::Unknown);
        assert_eq!(error.key(), Some(&key));
        assert!(error.to_string().contains("repeat it with the key k-1"));
    }
}
