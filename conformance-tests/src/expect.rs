//! Expected refusals: which kind, with which figures.

use std::fmt::{self, Debug};

use storage_core::{Applied, Entity, Error, ErrorKind, Result};

use crate::check::{Check, Failure};

/// The refusal that a call must answer.
#[derive(Clone, Debug)]
pub(crate) enum Expected {
    /// This very kind, figures included.
    Exactly(ErrorKind),
    /// `Conflict` over this record; the reason is the backend's to word.
    Conflict(Entity),
    /// `Conflict` whose message names this.
    ConflictNaming(String),
    /// `InvalidInput` of this field; the rule is core's to word.
    Invalid(&'static str),
    /// A kind by its name, where its contents are the backend's to word.
    Kind(&'static str),
}

impl Expected {
    fn is(&self, error: &Error) -> bool {
        match (self, error.kind()) {
            (Self::Exactly(expected), kind) => expected == kind,
            (Self::Conflict(expected), ErrorKind::Conflict { entity, .. }) => expected == entity,
            (Self::ConflictNaming(name), ErrorKind::Conflict { .. }) => error.to_string().contains(name),
            (Self::Invalid(expected), ErrorKind::InvalidInput { field, .. }) => expected == field,
            (Self::Kind(expected), kind) => *expected == kind.name(),
            _ => false,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(kind) => write!(f, "{kind:?}"),
            Self::Conflict(entity) => write!(f, "Conflict over {entity}"),
            Self::ConflictNaming(name) => write!(f, "Conflict naming {name}"),
            Self::Invalid(field) => write!(f, "InvalidInput of {field}"),
            Self::Kind(name) => f.write_str(name),
        }
    }
}

/// Fails unless the call was refused in just this way, with nothing applied.
#[track_caller]
pub(crate) fn refused<T: Debug>(result: Result<T>, expected: &Expected) -> Check {
    let error = match result {
        Err(error) if expected.is(&error) => error,
        other => return Err(Failure::new(format!("wrong answer\n       got: {other:?}\n  expected: {expected}"))),
    };
    if error.applied() == Applied::No {
        Ok(())
    } else {
        Err(Failure::new(format!("a refusal must say that nothing was applied: {error:?}")))
    }
}

/// `InsufficientFunds` with both figures.
pub(crate) fn insufficient(available: &str, required: &str) -> Result<Expected> {
    let (available, required) = (available.parse()?, required.parse()?);
    Ok(Expected::Exactly(ErrorKind::InsufficientFunds { available, required }))
}

/// `QuotaExhausted` with both figures.
pub(crate) fn exhausted(used: u32, limit: u32) -> Expected {
    Expected::Exactly(ErrorKind::QuotaExhausted { used, limit })
}

/// `NotFound` of this record.
pub(crate) fn not_found(kind: &'static str, id: &str) -> Expected {
    Expected::Exactly(ErrorKind::NotFound(Entity::new(kind, id)))
}

/// `InvalidTransition` of this record between these states.
pub(crate) fn transition(kind: &'static str, id: &str, from: &'static str, to: &'static str) -> Expected {
    Expected::Exactly(ErrorKind::InvalidTransition { entity: Entity::new(kind, id), from: from.into(), to: to.into() })
}

/// `Conflict` over this record.
pub(crate) fn conflict(kind: &'static str, id: &str) -> Expected {
    Expected::Conflict(Entity::new(kind, id))
}

/// `Conflict` over an operation's key.
pub(crate) fn key_conflict(key: &str) -> Expected {
    conflict("operation key", key)
}

/// `Closed`.
pub(crate) fn closed() -> Expected {
    Expected::Exactly(ErrorKind::Closed)
}

/// Runs a call that must be refused, and proves that it left no trace: the dump is the same to the byte, and the
/// audit is clean.
macro_rules! refused_without_trace {
    ($storage:expr, $call:expr, $expected:expr $(,)?) => {{
        let before = $crate::steps::dump_text(&*$storage).await?;
        let result = $call.await;
        $crate::expect::refused(result, &$expected)?;
        let after = $crate::steps::dump_text(&*$storage).await?;
        $crate::check::ensure_eq!(after, before, "a refusal left a trace");
        $crate::steps::clean(&*$storage).await?;
    }};
}

pub(crate) use refused_without_trace;
