//! What can go wrong, and what is to be done about it.

use std::fmt;
use std::time::Duration;

use storage_core::{Applied, Error, ErrorKind};
use teloxide::{ApiError, RequestError};

/// Why something was not done.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The store refused, or did not answer.
    Storage(Error),
    /// Telegram refused, or did not answer.
    Telegram(RequestError),
    /// The provider did not answer.
    Provider(String),
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cure {
    /// The same again: each change has a name, so that it is made once, and what is said is at worst said twice.
    Again,
    /// Nothing: it is the fault of what was asked for.
    Never,
    /// Somebody has to put something right, and then a new process does the same again.
    Operator,
}

impl Trouble {
    pub(crate) fn cure(&self) -> Cure {
        match self {
            Self::Storage(error) if error.applied() == Applied::Unknown => Cure::Again,
            Self::Storage(error) => match error.kind() {
                ErrorKind::NotFound(_)
                | ErrorKind::Conflict { .. }
                | ErrorKind::InvalidInput { .. }
                | ErrorKind::InsufficientFunds { .. }
                | ErrorKind::QuotaExhausted { .. }
                | ErrorKind::InvalidTransition { .. } => Cure::Never,
                ErrorKind::Busy { .. } | ErrorKind::Locked { .. } | ErrorKind::Unavailable | ErrorKind::StorageFull => {
                    Cure::Again
                }
                // Moved, damaged, read-only until it is opened anew, and kinds that are not known yet: an update that is
                // given up for one of these would be lost.
                _ => Cure::Operator,
            },
            Self::Telegram(error) if is_refusal(error) => Cure::Never,
            Self::Telegram(_) | Self::Provider(_) => Cure::Again,
        }
    }
    /// How long Telegram wants to be left alone.
    pub(crate) fn wanted_pause(&self) -> Duration {
        match self {
            Self::Telegram(RequestError::RetryAfter(seconds)) => seconds.duration(),
            _ => Duration::ZERO,
        }
    }
}

/// Whether Telegram will answer the same for ever. Its own failures (5xx, also when what was asked for has been done) and
/// those of the token come as the same type and pass.
pub(crate) fn is_refusal(error: &RequestError) -> bool {
    let text = match error {
        // It displays as more than what Telegram said.
        RequestError::Api(ApiError::Unknown(text)) => text.clone(),
        RequestError::Api(known) => known.to_string(),
        RequestError::MigrateToChatId(_) => return true,
        _ => return false,
    };
    ["Bad Request", "Forbidden", "Request Entity Too Large"].iter().any(|word| text.starts_with(word))
}

/// Whether it was done, though its answer could not be read.
pub(crate) fn was_done(error: &RequestError) -> bool {
    matches!(error, RequestError::InvalidJson { raw, .. } if raw.starts_with(r#"{"ok":true"#))
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage(error) => error.report().fmt(f),
            Self::Telegram(error) => error.fmt(f),
            Self::Provider(why) => write!(f, "the provider did not answer: {why}"),
        }
    }
}

impl std::error::Error for Trouble {}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Storage(error)
    }
}

impl From<RequestError> for Trouble {
    fn from(error: RequestError) -> Self {
        Self::Telegram(error)
    }
}

/// Pauses between tries: each twice as long as the last, and as long as Telegram wants.
#[derive(Debug)]
pub(crate) struct Pause(Duration);

impl Pause {
    const FIRST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(30);

    pub(crate) fn new() -> Self {
        Self(Self::FIRST)
    }
    pub(crate) async fn after(&mut self, trouble: &Trouble) {
        tokio::time::sleep(self.0.max(trouble.wanted_pause())).await;
        self.0 = (self.0 * 2).min(Self::LONGEST);
    }
}
