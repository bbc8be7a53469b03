//! How a scenario fails: a message with both sides, and the line of the check.

use std::fmt;
use std::panic::Location;

/// A check that did not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    message: String,
    file: &'static str,
    line: u32,
}

/// What a scenario answers, and every step of one.
pub(crate) type Check<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure at the caller's line.
    #[track_caller]
    pub fn new(message: impl Into<String>) -> Self {
        let place = Location::caller();
        Self { message: message.into(), file: place.file(), line: place.line() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

impl std::error::Error for Failure {}

/// An operation that should have succeeded; the place is that of the `?`.
impl From<storage_core::Error> for Failure {
    #[track_caller]
    fn from(error: storage_core::Error) -> Self {
        Self::new(format!("unexpected error: {}", error.report()))
    }
}

impl From<serde_json::Error> for Failure {
    #[track_caller]
    fn from(error: serde_json::Error) -> Self {
        Self::new(format!("not JSON: {error}"))
    }
}

/// The value, or a failure that says what is missing.
#[track_caller]
pub(crate) fn present<T>(value: Option<T>, what: &str) -> Check<T> {
    // A closure would not pass the caller's place on.
    match value {
        Some(value) => Ok(value),
        None => Err(Failure::new(format!("{what} is missing"))),
    }
}

/// Both sides below each other; long ones from shortly before where they begin to differ.
pub(crate) fn sides(got: &str, expected: &str) -> String {
    const LONG: usize = 400;
    let same = got.chars().zip(expected.chars()).take_while(|(one, other)| one == other).count();
    let skipped = if got.len().max(expected.len()) > LONG { same.saturating_sub(60) } else { 0 };
    let shown = |text: &str| {
        let from = if skipped > 0 { "..." } else { "" };
        let part: String = text.chars().skip(skipped).take(LONG).collect();
        let to = if text.chars().count() > skipped + LONG { "..." } else { "" };
        format!("{from}{part}{to}")
    };
    format!("\n       got: {}\n  expected: {}", shown(got), shown(expected))
}

/// Fails unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::check::Failure::new(format!(
                "{}: {}",
                format_args!($($message)+),
                stringify!($condition)
            )));
        }
    };
}

/// Fails unless both sides are equal, and prints both.
macro_rules! ensure_eq {
    ($left:expr, $right:expr $(,)?) => {
        ensure_eq!($left, $right, "differs")
    };
    ($left:expr, $right:expr, $($message:tt)+) => {
        match (&$left, &$right) {
            (left, right) => {
                if !(*left == *right) {
                    return Err($crate::check::Failure::new(format!(
                        "{}: {}{}",
                        format_args!($($message)+),
                        stringify!($left),
                        $crate::check::sides(&format!("{left:?}"), &format!("{right:?}"))
                    )));
                }
            }
        }
    };
}

pub(crate) use {ensure, ensure_eq};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_sides_are_shown_where_they_differ() {
        assert_eq!(sides("1", "2"), "\n       got: 1\n  expected: 2");
        let shown = sides(&format!("{}b", "a".repeat(1000)), &format!("{}c", "a".repeat(1000)));
        assert!(shown.contains("ab\n") && shown.ends_with("ac") && shown.len() < 300, "{shown}");
    }

    #[test]
    fn a_failure_names_the_line_of_the_question_mark() {
        fn fails() -> Check {
            let () = Err(storage_core::Error::closed())?;
            Ok(())
        }
        let failure = fails().unwrap_err();
        assert_eq!(failure.file, file!());
        assert_eq!(failure.line, line!() - 5);
    }
}
