//! Saying something, on which nothing hangs.

use std::time::Duration;

use teloxide::requests::Request;
use teloxide::{ApiError, RequestError};
use tracing::warn;

use crate::trouble::{Pause, Trouble, is_refusal, was_done};

/// So often something is said before it is left.
const TRIES: usize = 4;
/// Whoever flooded the bot is not waited for longer: others stand behind.
const PATIENCE: Duration = Duration::from_secs(5);

/// Telegram takes so much text in a message, in the units of UTF-16.
pub(crate) const LONGEST_MESSAGE: usize = 4096;

/// Sends, and a few times again. `false` when it was not said: the bot is blocked, the chat is flooded, Telegram is away.
/// What it tells of is in the store, so that it can be asked for.
pub(crate) async fn said<R: Request<Err = RequestError>>(request: R) -> bool {
    let mut pause = Pause::new();
    for _ in 0..TRIES {
        let error = match request.send_ref().await {
            // It says so already.
            Ok(_) | Err(RequestError::Api(ApiError::MessageNotModified)) => return true,
            Err(error) if was_done(&error) => return true,
            Err(error) => error,
        };
        let refused = is_refusal(&error);
        let trouble = Trouble::from(error);
        if refused || trouble.wanted_pause() > PATIENCE {
            warn!("not said: {trouble}");
            return false;
        }
        pause.after(&trouble).await;
    }
    warn!("not said in {TRIES} tries");
    false
}

/// As much of a text as fits into so many units of UTF-16.
pub(crate) fn shortened(text: &str, most: usize) -> &str {
    let mut units = 0;
    for (at, letter) in text.char_indices() {
        units += letter.len_utf16();
        if units > most {
            return &text[..at];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_letters() {
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened("abc", 2), "ab");
        // Two units each.
        assert_eq!(shortened("🐈🐈", 3), "🐈");
        assert_eq!(shortened("", 0), "");
    }
}
