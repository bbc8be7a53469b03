//! What can go wrong, and whether it passes.

use std::fmt;

use storage_core::{Applied, Error, ErrorKind};
use teloxide::RequestError;

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

impl Trouble {
    /// Whether the same again may succeed. Everything this bot does may be done again: each change has a key, a hold's
    /// name or a job's id, and each delivery is the edit of one message.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Self::Storage(error) if error.applied() == Applied::Unknown => true,
            Self::Storage(error) => matches!(
                error.kind(),
                ErrorKind::Busy { .. }
                    | ErrorKind::Locked { .. }
                    | ErrorKind::Unavailable
                    | ErrorKind::StorageFull
                    | ErrorKind::ReadOnly
            ),
            Self::Telegram(RequestError::Api(_) | RequestError::MigrateToChatId(_)) => false,
            Self::Telegram(_) | Self::Provider(_) => true,
        }
    }
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
