//! The rules of the shop, given when a store is opened.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{CivilDate, Error, Language, Money, Result, Timestamp, UserId};

/// A time zone by its IANA name.
#[derive(Clone, PartialEq)]
pub struct TimeZone(jiff::tz::TimeZone);

impl TimeZone {
    /// UTC, the default.
    pub const UTC: Self = Self(jiff::tz::TimeZone::UTC);

    /// `InvalidInput` for a name that the compiled-in zone database does not have.
    pub fn new(name: &str) -> Result<Self> {
        if name == "UTC" {
            return Ok(Self::UTC);
        }
        jiff::tz::TimeZone::get(name).map(Self).map_err(|error| {
            Error::invalid("time zone", format!("{name:?} is not an IANA name such as Europe/Kyiv")).caused_by(error)
        })
    }
    /// The IANA name.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }
    /// The civil date of a moment in this zone.
    pub fn date_of(&self, moment: Timestamp) -> CivilDate {
        let moment = jiff::Timestamp::from_microsecond(moment.micros()).unwrap_or(jiff::Timestamp::MAX);
        CivilDate::from_jiff(self.0.to_datetime(moment).date())
    }
    /// The moment of a local time without a zone; of two at the end of summer time the earlier.
    pub fn moment_of(&self, naive: &str) -> Result<Timestamp> {
        let local: jiff::civil::DateTime = naive.parse().map_err(|error| {
            Error::invalid("timestamp", "must be an ISO 8601 time such as 2026-01-15T10:00:00").caused_by(error)
        })?;
        let moment = self
            .0
            .to_ambiguous_timestamp(local)
            .compatible()
            .map_err(|error| Error::invalid("timestamp", "must be in the years 1970 to 9999").caused_by(error))?;
        Timestamp::from_micros(moment.as_microsecond())
    }
}

impl fmt::Debug for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Eq for TimeZone {}

impl FromStr for TimeZone {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self> {
        Self::new(name)
    }
}

impl Serialize for TimeZone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for TimeZone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::new(&name).map_err(serde::de::Error::custom)
    }
}

/// How much of a user's generation history is kept. Ids and prices outlive the trimming.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryRetention {
    /// The newest so many of each user.
    Newest(NonZeroU32),
    /// All of it.
    Everything,
}

impl HistoryRetention {
    /// The most entries kept of a user.
    pub fn limit(self) -> usize {
        match self {
            Self::Newest(count) => usize::try_from(count.get()).unwrap_or(usize::MAX),
            Self::Everything => usize::MAX,
        }
    }
}

impl fmt::Display for HistoryRetention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest(count) => count.fmt(f),
            Self::Everything => f.write_str("everything"),
        }
    }
}

impl FromStr for HistoryRetention {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        if text.eq_ignore_ascii_case("everything") {
            return Ok(Self::Everything);
        }
        let count = text.parse().map(Self::Newest);
        count.map_err(|_| Error::invalid("history retention", "must be a whole number from 1, or everything"))
    }
}

/// The rules of the shop.
///
/// Time zone and history retention are stored when a store is created; opening it with another value is
/// `SchemaMismatch` with the command that changes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The language of a user who chose none. Default `ru`.
    pub default_language: Language,
    /// Free generations a day. Default 5.
    pub daily_free_generations: u32,
    /// The limit of an admin for whom none was set. Default 100.
    pub default_admin_limit: Money,
    /// The admin without a limit. Default none.
    pub main_admin: Option<UserId>,
    /// How much history is kept. Default: the newest 100 of each user.
    pub history: HistoryRetention,
    /// In which zone a day begins. Default UTC.
    pub time_zone: TimeZone,
}

impl Policy {
    /// Proves that a store can be opened with this policy: zone and retention are those that it was made with.
    ///
    /// # Errors
    /// `SchemaMismatch` with the command that changes them, and the variables that keep them.
    pub fn check_store(&self, time_zone: &TimeZone, history: HistoryRetention) -> Result<()> {
        if (time_zone, history) == (&self.time_zone, self.history) {
            return Ok(());
        }
        let shown = |zone: &TimeZone, history| match history {
            HistoryRetention::Newest(count) => format!("time zone {zone} and the newest {count} history entries"),
            HistoryRetention::Everything => format!("time zone {zone} and all history"),
        };
        Err(Error::schema(
            format!("a store with {}", shown(time_zone, history)),
            shown(&self.time_zone, self.history),
            format!(
                "storage policy --time-zone {} --history {} to change the store, or keep it with \
                 STORAGE_TIME_ZONE={time_zone} STORAGE_HISTORY={history}",
                self.time_zone, self.history,
            ),
        ))
    }
    /// The civil date at `now` in the policy's zone.
    pub fn today(&self, now: Timestamp) -> CivilDate {
        self.time_zone.date_of(now)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            default_language: Language::new("ru").unwrap_or_else(|_| unreachable!("a valid tag")),
            daily_free_generations: 5,
            default_admin_limit: Money::from_units(100).unwrap_or(Money::ZERO),
            main_admin: None,
            history: HistoryRetention::Newest(NonZeroU32::new(100).unwrap_or(NonZeroU32::MIN)),
            time_zone: TimeZone::UTC,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn today_is_the_date_of_the_zone() {
        let moment: Timestamp = "2026-01-15T22:30:00Z".parse().unwrap();
        for (zone, date) in [("UTC", "2026-01-15"), ("Europe/Kyiv", "2026-01-16"), ("America/New_York", "2026-01-15")] {
            assert_eq!(TimeZone::new(zone).unwrap().date_of(moment).to_string(), date, "{zone}");
        }
        assert!(TimeZone::new("Mars/Olympus").is_err());
    }
}
