//! How values cross the wire: money as NUMERIC, moments as TIMESTAMPTZ, days as DATE, all in PostgreSQL's binary form.
//!
//! Money never passes through a float, and never through a decimal type of narrower range: the store's totals need 38
//! digits.

use std::error::Error as StdError;

use bytes::{BufMut, BytesMut};
use storage_core::{CivilDate, Money, SignedMoney, Timestamp, Total};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

type Boxed = Box<dyn StdError + Sync + Send>;

/// Millionths, as a NUMERIC of six decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Micros(pub(crate) i128);

impl From<Money> for Micros {
    fn from(money: Money) -> Self {
        Self(money.micros().into())
    }
}

impl From<SignedMoney> for Micros {
    fn from(money: SignedMoney) -> Self {
        Self(money.micros().into())
    }
}

impl From<Total> for Micros {
    fn from(total: Total) -> Self {
        Self(total.micros())
    }
}

const NEGATIVE: u16 = 0x4000;
const POSITIVE: u16 = 0x0000;
/// Decimal digits in one digit of a NUMERIC.
const GROUP: i128 = 10_000;

impl ToSql for Micros {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Boxed> {
        // Eight decimals are two whole groups.
        let mut rest = self.0.unsigned_abs().checked_mul(100).ok_or("the amount is too large for NUMERIC(38, 6)")?;
        let mut groups: Vec<i16> = Vec::with_capacity(10);
        while rest > 0 {
            groups.push(i16::try_from(rest % GROUP.unsigned_abs())?);
            rest /= GROUP.unsigned_abs();
        }
        let weight = i16::try_from(groups.len())? - 3;
        let trailing = groups.iter().take_while(|group| **group == 0).count();
        let digits = &groups[trailing..];
        out.put_i16(i16::try_from(digits.len())?);
        out.put_i16(if digits.is_empty() { 0 } else { weight });
        out.put_u16(if self.0 < 0 { NEGATIVE } else { POSITIVE });
        out.put_i16(6);
        for group in digits.iter().rev() {
            out.put_i16(*group);
        }
        Ok(IsNull::No)
    }
    fn accepts(ty: &Type) -> bool {
        *ty == Type::NUMERIC
    }
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Micros {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Boxed> {
        let mut words = raw.chunks_exact(2).map(|pair| i16::from_be_bytes([pair[0], pair[1]]));
        let mut word = || words.next().ok_or("a NUMERIC that ends too early");
        let (count, weight, sign, _scale) = (word()?, word()?, word()?.cast_unsigned(), word()?);
        if sign != POSITIVE && sign != NEGATIVE {
            return Err("a NUMERIC that is no number".into());
        }
        let mut micros: i128 = 0;
        for place in 0..count {
            let digit = i128::from(word()?);
            // The place's value in millionths is 10 to the power of this.
            let power = 4 * (i32::from(weight) - i32::from(place)) + 6;
            let part = match u32::try_from(power) {
                Ok(power) => 10_i128.checked_pow(power).and_then(|unit| digit.checked_mul(unit)),
                Err(_) => 10_i128
                    .checked_pow(power.unsigned_abs())
                    .and_then(|unit| (digit % unit == 0).then_some(digit / unit)),
            };
            let part = part.ok_or("a NUMERIC beyond 38 digits or with more than 6 decimals")?;
            micros = micros.checked_add(part).ok_or("a NUMERIC beyond 38 digits")?;
        }
        Ok(Self(if sign == NEGATIVE { -micros } else { micros }))
    }
    fn accepts(ty: &Type) -> bool {
        *ty == Type::NUMERIC
    }
}

/// Microseconds between 1970 and 2000, where PostgreSQL counts from.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// Days between 1970 and 2000.
const EPOCH_DAYS: i32 = 10_957;

/// A moment, as a TIMESTAMPTZ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    At(Timestamp),
    /// Earlier than every moment: where a list begins that goes from the oldest to the newest.
    NegativeInfinity,
    /// Later than every moment: where a list begins that goes from the newest to the oldest.
    Infinity,
}

impl ToSql for Moment {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Boxed> {
        out.put_i64(match self {
            Self::At(at) => at.micros() - EPOCH_MICROS,
            Self::NegativeInfinity => i64::MIN,
            Self::Infinity => i64::MAX,
        });
        Ok(IsNull::No)
    }
    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
    to_sql_checked!();
}

/// A moment that was read; the year is checked by whoever wants it as a [`Timestamp`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct MomentRead(pub(crate) i64);

impl<'a> FromSql<'a> for MomentRead {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Boxed> {
        let micros = i64::from_be_bytes(raw.try_into()?);
        Ok(Self(micros.checked_add(EPOCH_MICROS).ok_or("a moment beyond the year 9999")?))
    }
    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}

/// A calendar date, as a DATE.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Day(pub(crate) CivilDate);

impl ToSql for Day {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Boxed> {
        out.put_i32(self.0.days() - EPOCH_DAYS);
        Ok(IsNull::No)
    }
    fn accepts(ty: &Type) -> bool {
        *ty == Type::DATE
    }
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Day {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Boxed> {
        let days = i64::from(i32::from_be_bytes(raw.try_into()?)) + i64::from(EPOCH_DAYS);
        let date = CivilDate::from_days(days);
        if i64::from(date.days()) != days {
            return Err("a date outside the years 0000 to 9999".into());
        }
        Ok(Self(date))
    }
    fn accepts(ty: &Type) -> bool {
        *ty == Type::DATE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(micros: i128) -> i128 {
        let mut bytes = BytesMut::new();
        Micros(micros).to_sql(&Type::NUMERIC, &mut bytes).unwrap();
        Micros::from_sql(&Type::NUMERIC, &bytes).unwrap().0
    }

    #[test]
    fn edges_round_trip() {
        for micros in [0, 1, -1, 99, 100, 9_999, 10_000, 999_999, 1_000_000, 10_000_000_000, 999_999_999_999_999_999] {
            assert_eq!(round_trip(micros), micros);
            assert_eq!(round_trip(-micros), -micros);
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_server() {
        // What `SELECT 12.5::numeric(18,6)` sends: 2 digits, weight 0, positive, scale 6, 12, 5000.
        let mut bytes = BytesMut::new();
        Micros(12_500_000).to_sql(&Type::NUMERIC, &mut bytes).unwrap();
        assert_eq!(&bytes[..], [0, 2, 0, 0, 0, 0, 0, 6, 0, 12, 0x13, 0x88]);
    }

    #[test]
    fn what_is_no_money_is_refused() {
        // NaN; seven decimals (0.0000001); cut off.
        for raw in [
            &[0, 0, 0, 0, 0xC0, 0, 0, 0][..],
            &[0, 1, 0xFF, 0xFE, 0, 0, 0, 7, 0, 10],
            &[0, 2, 0, 0, 0, 0, 0, 6, 0, 12],
            &[0, 1],
        ] {
            assert!(Micros::from_sql(&Type::NUMERIC, raw).is_err(), "{raw:?}");
        }
    }

    proptest! {
        #[test]
        fn every_amount_round_trips(micros in -(10_i128.pow(36))..10_i128.pow(36)) {
            prop_assert_eq!(round_trip(micros), micros);
        }
        #[test]
        fn every_moment_round_trips(micros in 0..=Timestamp::MAX.micros()) {
            let mut bytes = BytesMut::new();
            Moment::At(Timestamp::from_micros(micros).unwrap()).to_sql(&Type::TIMESTAMPTZ, &mut bytes).unwrap();
            prop_assert_eq!(MomentRead::from_sql(&Type::TIMESTAMPTZ, &bytes).unwrap().0, micros);
        }
        #[test]
        fn every_day_round_trips(days in -719_528..=2_932_896_i64) {
            let day = CivilDate::from_days(days);
            let mut bytes = BytesMut::new();
            Day(day).to_sql(&Type::DATE, &mut bytes).unwrap();
            prop_assert_eq!(Day::from_sql(&Type::DATE, &bytes).unwrap().0, day);
        }
    }
}
