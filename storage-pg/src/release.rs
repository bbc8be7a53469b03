//! The releases of PostgreSQL that a store runs on. `scripts/prove versions` runs the suite on each.

use std::fmt;

const OLDEST: i64 = 13;
const NEWEST: i64 = 18;

/// A release, as the server counts: `server_version_num`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Release(pub(crate) i64);

impl Release {
    fn major(self) -> i64 {
        self.0 / 10_000
    }
    /// Whether a store does not open there.
    pub(crate) fn is_too_old(self) -> bool {
        self.major() < OLDEST
    }
    /// Whether nobody has tried.
    pub(crate) fn is_untried(self) -> bool {
        self.major() > NEWEST
    }
    /// The range, in words.
    pub(crate) fn supported() -> String {
        format!("PostgreSQL {OLDEST} to {NEWEST}")
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL {}.{}", self.major(), self.0 % 10_000)
    }
}

#[cfg(test)]
mod tests {
    use super::Release;

    #[test]
    fn the_range_ends_with_its_releases() {
        assert!(Release(120_022).is_too_old() && !Release(130_000).is_too_old());
        assert!(!Release(180_004).is_untried() && Release(190_000).is_untried());
        assert_eq!(Release(150_018).to_string(), "PostgreSQL 15.18");
        assert_eq!(Release::supported(), "PostgreSQL 13 to 18");
    }
}
