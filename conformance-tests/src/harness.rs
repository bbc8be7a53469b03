//! What a backend's author writes.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{Environment, Storage};

/// Where a store lives, in the harness's own words: a directory, a schema, a number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site(String);

impl Site {
    /// Names a place.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What a scenario needs beyond one open handle. What is not listed here cannot be waived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// Two handles on one site at the same time.
    SecondHandle,
    /// What was stored is there when the site is opened again after every handle was closed.
    Reopen,
    /// Time zones other than UTC.
    TimeZones,
    /// The handle may mark the store as moved. A way in with few rights may lack this one, a backend may not.
    Mark,
}

impl Need {
    /// Every need.
    pub const ALL: [Self; 4] = [Self::SecondHandle, Self::Reopen, Self::TimeZones, Self::Mark];

    /// The need's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SecondHandle => "a second handle",
            Self::Reopen => "reopening",
            Self::TimeZones => "time zones",
            Self::Mark => "the right to mark",
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How the suite comes by stores of the backend under test.
///
/// Scenarios run beside each other, each on sites of its own.
#[async_trait]
pub trait Harness: Send + Sync + 'static {
    /// The backend's name, for reports.
    fn name(&self) -> &str;

    /// Whether the backend has what some scenarios need. Those that it has not are reported as ignored.
    fn supports(&self, need: Need) -> bool;

    /// Whether this run stands beside one of the same backend that leaves nothing out: a way in that lacks something on purpose. What
    /// it lacks is then no failure under `CONFORMANCE_WHOLE`; its certificate says so all the same.
    fn is_a_part(&self) -> bool {
        false
    }

    /// A new, empty place for a store. The text of an error is shown as it is.
    async fn create(&self) -> Result<Site, String>;

    /// Opens the store at a site, founding it the first time.
    ///
    /// Opening a site twice gives a second handle, opening it after a close is a reopen.
    async fn open(&self, site: &Site, environment: Environment) -> storage_core::Result<Arc<dyn Storage>>;

    /// Removes a site whose scenario passed. The handles were closed or dropped before.
    async fn destroy(&self, site: Site);
}
