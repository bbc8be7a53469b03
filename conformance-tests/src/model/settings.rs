//! How many random operations, and which.

/// What the environment says about random histories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Chooses the histories.
    pub(crate) seed: u64,
    /// How many operations to make at least.
    pub(crate) operations: u64,
    /// How many steps a history has at most.
    pub(crate) length: usize,
}

impl Settings {
    /// Few enough for every test run.
    pub(crate) const SHORT: Self = Self { seed: 1, operations: 300, length: 80 };

    /// From `CONFORMANCE_SEED`, `CONFORMANCE_OPERATIONS` and `CONFORMANCE_LENGTH`; what is not a number, and no
    /// operation at all, is an error.
    pub(crate) fn from_environment() -> Result<Self, String> {
        let length = number("CONFORMANCE_LENGTH", 80)?.clamp(1, 10_000);
        let operations = number("CONFORMANCE_OPERATIONS", Self::SHORT.operations)?;
        if operations == 0 {
            return Err("CONFORMANCE_OPERATIONS must be 1 or more: none would prove nothing".to_owned());
        }
        Ok(Self {
            seed: number("CONFORMANCE_SEED", Self::SHORT.seed)?,
            operations,
            length: usize::try_from(length).unwrap_or(Self::SHORT.length),
        })
    }

    /// Whether more was asked for than every test run does.
    pub(crate) fn is_long(self) -> bool {
        self.operations > Self::SHORT.operations * 10
    }
}

fn number(name: &str, default: u64) -> Result<u64, String> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => {
            text.parse().map_err(|_| format!("{name} must be a whole number, not {text:?}"))
        }
        _ => Ok(default),
    }
}
