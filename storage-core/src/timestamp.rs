//! Moments and civil dates.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digits::Digits;
use crate::{Error, Result};

/// A moment in UTC, in whole microseconds, in the years 1970 to 9999.
///
/// ```
/// use storage_core::Timestamp;
///
/// let moment: Timestamp = "2026-01-15T10:00:00.5Z".parse()?;
/// assert_eq!(moment.to_string(), "2026-01-15T10:00:00.500000Z");
/// assert_eq!(moment.micros(), 1_768_471_200_500_000);
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const MIN: Self = Self(0);
    /// 9999-12-31T23:59:59.999999Z.
    pub const MAX: Self = Self(253_402_300_799_999_999);

    /// Microseconds since 1970; `InvalidInput` outside the years 1970 to 9999.
    pub fn from_micros(micros: i64) -> Result<Self> {
        if (Self::MIN.0..=Self::MAX.0).contains(&micros) {
            Ok(Self(micros))
        } else {
            Err(Error::invalid("timestamp", "must be in the years 1970 to 9999"))
        }
    }
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub fn micros(self) -> i64 {
        self.0
    }
    /// This moment plus some microseconds (negative: before it), kept within the years 1970 to 9999.
    #[must_use]
    pub fn plus_micros(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros).clamp(Self::MIN.0, Self::MAX.0))
    }
    /// The moment without a zone, as the original system wrote times: `2026-01-15T10:00:00.500000`.
    pub fn to_naive_iso(self) -> String {
        let mut text = Digits::new();
        self.push_naive(&mut text);
        text.as_str().to_owned()
    }
    fn push_naive(self, text: &mut Digits<27>) {
        // Never before 1970.
        let micros = self.0.unsigned_abs();
        let seconds = micros / 1_000_000;
        text.push_padded(micros % 1_000_000, 6);
        text.push(b'.');
        text.push_padded(seconds % 60, 2);
        text.push(b':');
        text.push_padded(seconds / 60 % 60, 2);
        text.push(b':');
        text.push_padded(seconds / 3600 % 24, 2);
        text.push(b'T');
        CivilDate::from_days(self.0.div_euclid(DAY)).push(text);
    }
    fn text(self) -> Digits<27> {
        let mut text = Digits::new();
        text.push(b'Z');
        self.push_naive(&mut text);
        text
    }
    /// Reads what [`Timestamp::to_naive_iso`] wrote: no zone, 0 to 6 decimals, UTC.
    pub fn from_naive_iso(text: &str) -> Result<Self> {
        let moment: jiff::civil::DateTime = text.parse().map_err(|error| {
            Error::invalid("timestamp", "must be an ISO 8601 time such as 2026-01-15T10:00:00").caused_by(error)
        })?;
        // Not by way of a zoned moment: jiff's end a day before the year 9999 does.
        let (date, time) = (moment.date(), moment.time());
        if time.subsec_nanosecond() % 1000 != 0 {
            return Err(Error::invalid("timestamp", "must be whole microseconds"));
        }
        let seconds = (i64::from(time.hour()) * 60 + i64::from(time.minute())) * 60 + i64::from(time.second());
        let micros = seconds * 1_000_000 + i64::from(time.subsec_nanosecond() / 1000);
        Self::from_micros(i64::from(CivilDate::from_jiff(date).days()) * DAY + micros)
    }
    pub(crate) fn from_jiff(moment: jiff::Timestamp) -> Result<Self> {
        if moment.subsec_nanosecond() % 1000 != 0 {
            return Err(Error::invalid("timestamp", "must be whole microseconds"));
        }
        Self::from_micros(moment.as_microsecond())
    }
}

const DAY: i64 = 86_400_000_000;

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text().as_str())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = Error;
    /// Reads RFC 3339: a date, a time and a zone.
    fn from_str(text: &str) -> Result<Self> {
        if let Some(naive) = text.strip_suffix('Z') {
            return Self::from_naive_iso(naive);
        }
        let moment: jiff::Timestamp = text.parse().map_err(|error| {
            Error::invalid("timestamp", "must be RFC 3339, such as 2026-01-15T10:00:00Z").caused_by(error)
        })?;
        Self::from_jiff(moment)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text().as_str())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A calendar date, counted in days since 1970-01-01. Shown as `2026-01-15`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CivilDate(i32);

impl CivilDate {
    /// From days since 1970-01-01, kept within the years 0000 to 9999.
    pub fn from_days(days: i64) -> Self {
        // 0000-01-01 and 9999-12-31.
        Self(i32::try_from(days.clamp(-719_528, 2_932_896)).unwrap_or_default())
    }
    /// Days since 1970-01-01.
    pub fn days(self) -> i32 {
        self.0
    }
    pub(crate) fn from_jiff(date: jiff::civil::Date) -> Self {
        let epoch = jiff::civil::date(1970, 1, 1);
        Self(epoch.until(date).map(|span| span.get_days()).unwrap_or_default())
    }
    /// Year, month and day, by the algorithm `civil_from_days` of Howard Hinnant's `chrono`-compatible
    /// calendrical notes.
    fn ymd(self) -> (i64, i64, i64) {
        let shifted = i64::from(self.0) + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        (year_of_era + era * 400 + i64::from(month <= 2), month, day)
    }
}

impl CivilDate {
    /// Puts the date before a text. Years have four digits, 0000 to 9999.
    fn push<const N: usize>(self, text: &mut Digits<N>) {
        let (year, month, day) = self.ymd();
        text.push_padded(day.unsigned_abs(), 2);
        text.push(b'-');
        text.push_padded(month.unsigned_abs(), 2);
        text.push(b'-');
        text.push_padded(year.unsigned_abs(), 4);
    }
}

impl fmt::Display for CivilDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.ymd();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

impl fmt::Debug for CivilDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for CivilDate {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let form = || Error::invalid("date", "must be a date such as 2026-01-15");
        if text.len() != 10 {
            return Err(form());
        }
        let date: jiff::civil::Date = text.parse().map_err(|error| form().caused_by(error))?;
        Ok(Self::from_jiff(date))
    }
}

impl Serialize for CivilDate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CivilDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn years_from_both_sides() {
        assert_eq!("1970-01-01T00:00:00Z".parse::<Timestamp>().unwrap(), Timestamp::MIN);
        assert_eq!("9999-12-31T23:59:59.999999Z".parse::<Timestamp>().unwrap(), Timestamp::MAX);
        assert!("1969-12-31T23:59:59.999999Z".parse::<Timestamp>().is_err());
        assert!(Timestamp::from_micros(-1).is_err());
        assert!(Timestamp::from_micros(Timestamp::MAX.micros() + 1).is_err());
        assert!("2026-01-15T10:00:00.0000001Z".parse::<Timestamp>().is_err(), "finer than a microsecond");
        assert!("2026-01-15T10:00:00".parse::<Timestamp>().is_err(), "no zone");
        assert_eq!(Timestamp::MAX.to_naive_iso(), "9999-12-31T23:59:59.999999");
    }

    proptest! {
        #[test]
        fn naive_text_round_trips(micros in 0..=Timestamp::MAX.micros()) {
            let moment = Timestamp::from_micros(micros).unwrap();
            prop_assert_eq!(Timestamp::from_naive_iso(&moment.to_naive_iso()).unwrap(), moment);
            prop_assert_eq!(moment.to_string().parse::<Timestamp>().unwrap(), moment);
        }
        #[test]
        fn dates_agree_with_jiff(days in -719_528..2_932_896_i64) {
            let date = CivilDate::from_days(days);
            prop_assert_eq!(date.to_string().parse::<CivilDate>().unwrap(), date);
        }
    }
}
