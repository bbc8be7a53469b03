//! Exact money: whole millionths, never a float.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digits::Digits;
use crate::{Error, Result};

/// Millionths in one unit of money.
const SCALE: i64 = 1_000_000;

/// An amount of money that is never negative, with at most 6 decimals.
///
/// Held as whole millionths in 8 bytes, which is exact and covers [`Money::MAX`]. Parsed from text and
/// integers only; the public API has no way in for a float.
///
/// ```
/// use storage_core::Money;
///
/// let price: Money = "0.1".parse()?;
/// let sum = price.checked_add("0.2".parse()?)?;
/// assert_eq!(sum.to_string(), "0.30");
/// assert!("0.0000001".parse::<Money>().is_err(), "an error, not a rounding");
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i64);

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// 999,999,999,999.999999: the most that a user's balance and held money may come to together.
    pub const MAX: Self = Self(999_999_999_999_999_999);
    /// One millionth.
    pub const STEP: Self = Self(1);

    /// Whole units.
    pub fn from_units(units: u64) -> Result<Self> {
        i64::try_from(units)
            .ok()
            .and_then(|units| units.checked_mul(SCALE))
            .ok_or_else(too_much)
            .and_then(Self::from_micros)
    }
    /// Millionths, 0 to 999,999,999,999,999,999.
    pub fn from_micros(micros: i64) -> Result<Self> {
        if micros < 0 {
            return Err(Error::invalid("money", "must not be negative"));
        }
        if micros > Self::MAX.0 { Err(too_much()) } else { Ok(Self(micros)) }
    }
    /// The amount in millionths.
    pub fn micros(self) -> i64 {
        self.0
    }
    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
    /// The sum, `InvalidInput` above [`Money::MAX`].
    pub fn checked_add(self, other: Self) -> Result<Self> {
        Self::from_micros(self.0 + other.0)
    }
    /// The difference, `None` below zero.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        (self.0 >= other.0).then(|| Self(self.0 - other.0))
    }
    /// The signed difference `self - before`.
    pub fn change_since(self, before: Self) -> SignedMoney {
        SignedMoney(self.0 - before.0)
    }
}

impl Money {
    fn text(self) -> Text {
        micros_text(u128::from(self.0.unsigned_abs()))
    }
}

impl Amount {
    fn text(self) -> Text {
        self.0.text()
    }
}

impl SignedMoney {
    fn text(self) -> Text {
        let mut text = Money(self.0.saturating_abs()).text();
        text.push(if self.0 < 0 { b'-' } else { b'+' });
        text
    }
}

impl Total {
    fn text(self) -> Text {
        let mut text = micros_text(self.0.unsigned_abs());
        if self.0 < 0 {
            text.push(b'-');
        }
        text
    }
}

fn too_much() -> Error {
    Error::invalid("money", "must be at most 999999999999.999999")
}

/// Reads decimal text into millionths: digits, at most one dot, at most 6 decimals.
fn parse_micros(digits: &str) -> Result<i64> {
    let form = || Error::invalid("money", "must be a decimal number such as 12.50, with at most 6 decimals");
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) || fraction.len() > 6 {
        return Err(form());
    }
    let whole = whole.trim_start_matches('0');
    if whole.len() > 12 {
        return Err(too_much());
    }
    let mut micros: i64 = 0;
    for byte in whole.bytes().chain(fraction.bytes()).chain(std::iter::repeat_n(b'0', 6 - fraction.len())) {
        micros = micros * 10 + i64::from(byte - b'0');
    }
    Ok(micros)
}

/// The most of a text: 33 digits of the widest total, the point, 6 decimals, a sign.
type Text = Digits<41>;

/// Decimal text, with two decimals at least.
fn micros_text(micros: u128) -> Text {
    const UNIT: u64 = SCALE.unsigned_abs();
    let mut text = Text::new();
    // A division of 128 bits takes many times as long.
    let (whole, fraction) = match u64::try_from(micros) {
        Ok(micros) => (u128::from(micros / UNIT), micros % UNIT),
        Err(_) => (micros / u128::from(UNIT), u64::try_from(micros % u128::from(UNIT)).unwrap_or_default()),
    };
    let (mut fraction, mut decimals) = (fraction, 6);
    while decimals > 2 && fraction % 10 == 0 {
        fraction /= 10;
        decimals -= 1;
    }
    text.push_padded(fraction, decimals);
    text.push(b'.');
    push_wide(&mut text, whole);
    text
}

fn push_wide(text: &mut Text, number: u128) {
    const HALF: u128 = 10_u128.pow(19);
    match u64::try_from(number) {
        Ok(number) => text.push_number(number),
        Err(_) => {
            text.push_padded(u64::try_from(number % HALF).unwrap_or_default(), 19);
            push_wide(text, number / HALF);
        }
    }
}

impl FromStr for Money {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        if text.starts_with('-') {
            return Err(Error::invalid("money", "must not be negative"));
        }
        parse_micros(text).and_then(Self::from_micros)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text().as_str())
    }
}

/// An amount greater than zero: what a credit, a debit, a hold or a payment is made of.
///
/// ```
/// use storage_core::{Amount, Money};
///
/// let amount: Amount = "12.50".parse()?;
/// assert_eq!(amount.money(), "12.5".parse::<Money>()?);
/// assert!(Amount::new(Money::ZERO).is_err());
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(Money);

impl Amount {
    /// `InvalidInput` for zero.
    pub fn new(money: Money) -> Result<Self> {
        if money.is_zero() { Err(Error::invalid("amount", "must be greater than zero")) } else { Ok(Self(money)) }
    }
    /// The amount as money.
    pub fn money(self) -> Money {
        self.0
    }
}

impl FromStr for Amount {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        text.parse().and_then(Self::new)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A change of money: as [`Money`], with a sign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignedMoney(i64);

impl SignedMoney {
    /// No change.
    pub const ZERO: Self = Self(0);
    /// A gain of `money`.
    pub fn plus(money: Money) -> Self {
        Self(money.0)
    }
    /// A loss of `money`.
    pub fn minus(money: Money) -> Self {
        Self(-money.0)
    }
    /// Millionths, between the negative and the positive of [`Money::MAX`].
    pub fn from_micros(micros: i64) -> Result<Self> {
        if micros.unsigned_abs() > Money::MAX.0.unsigned_abs() { Err(too_much()) } else { Ok(Self(micros)) }
    }
    /// The change in millionths.
    pub fn micros(self) -> i64 {
        self.0
    }
}

impl FromStr for SignedMoney {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let (sign, digits) = match text.as_bytes().first() {
            Some(b'-') => (-1, &text[1..]),
            Some(b'+') => (1, &text[1..]),
            _ => (1, text),
        };
        parse_micros(digits).and_then(|micros| Self::from_micros(sign * micros))
    }
}

impl fmt::Display for SignedMoney {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text().as_str())
    }
}

/// A sum over many users or many generations: wider than [`Money`], printed as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Total(i128);

impl Total {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// A total in millionths.
    pub const fn from_micros(micros: i128) -> Self {
        Self(micros)
    }
    /// The total in millionths.
    pub fn micros(self) -> i128 {
        self.0
    }
    /// This total and one more amount.
    #[must_use]
    pub fn plus(self, money: Money) -> Self {
        Self(self.0.saturating_add(i128::from(money.0)))
    }
    /// What is left of `limit` after this total, never below zero.
    pub fn left_of(self, limit: Money) -> Money {
        i64::try_from((i128::from(limit.0) - self.0).max(0)).map_or(limit, |left| Money(left.min(limit.0)))
    }
}

impl From<Money> for Total {
    fn from(money: Money) -> Self {
        Self(i128::from(money.0))
    }
}

impl std::iter::Sum<Money> for Total {
    fn sum<I: Iterator<Item = Money>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Self::plus)
    }
}

impl FromStr for Total {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let form = || Error::invalid("total", "must be a decimal number with at most 6 decimals");
        let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        if fraction.len() > 6 || whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit())
        {
            return Err(form());
        }
        let padded = format!("{whole}{fraction:0<6}");
        padded.parse::<i128>().map(|micros| Self(sign * micros)).map_err(|_| form())
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 0 {
            f.write_str("-")?;
        }
        f.pad(micros_text(self.0.unsigned_abs()).as_str())
    }
}

macro_rules! serde_as_text {
    ($($type:ty),+) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.text().as_str())
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
serde_as_text!(Money, Amount, SignedMoney, Total);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn money(text: &str) -> Money {
        text.parse().unwrap()
    }

    #[test]
    fn limits_from_both_sides() {
        assert_eq!(money("999999999999.999999"), Money::MAX);
        for bad in [
            "1000000000000",
            "1000000000000.00",
            "0.0000001",
            "-1",
            "-0.000001",
            "NaN",
            "1e400",
            "1e2",
            "",
            ".",
            "1.",
            ".5",
            "+1",
            " 1",
            "1 ",
            "1,5",
            "inf",
            "0x10",
            "١",
        ] {
            let error = bad.parse::<Money>().unwrap_err();
            assert!(matches!(error.kind(), crate::ErrorKind::InvalidInput { field, .. } if field == "money"), "{bad}");
        }
        assert!(Money::MAX.checked_add(Money::STEP).is_err());
        assert_eq!(Money::ZERO.checked_sub(Money::STEP), None);
        assert!(Money::from_units(999_999_999_999).is_ok());
        assert!(Money::from_units(1_000_000_000_000).is_err());
        assert!(Money::from_units(u64::MAX).is_err());
        assert!("0".parse::<Amount>().is_err());
        assert_eq!("0.000001".parse::<Amount>().unwrap().money(), Money::STEP);
    }

    #[test]
    fn shows_at_least_two_decimals() {
        for (given, shown) in
            [("0", "0.00"), ("12.5", "12.50"), ("0.000001", "0.000001"), ("7.120", "7.12"), ("00012", "12.00")]
        {
            assert_eq!(money(given).to_string(), shown);
        }
        assert_eq!("-5".parse::<SignedMoney>().unwrap().to_string(), "-5.00");
        assert_eq!(SignedMoney::ZERO.to_string(), "+0.00");
        let widest = "170141183460469231731687303715884.105727";
        assert_eq!(Total::from_micros(i128::MAX).to_string(), widest);
        assert_eq!(serde_json::to_string(&Total::from_micros(-i128::MAX)).unwrap(), format!("\"-{widest}\""));
        assert_eq!(format!("{:>8}|{:<8}|", money("1.5"), money("0.1")), "    1.50|0.10    |");
    }

    #[test]
    fn totals_are_wider_than_money() {
        let total: Total = std::iter::repeat_n(Money::MAX, 1_000_000).sum();
        assert_eq!(total.to_string(), "999999999999999999.00");
        assert_eq!(total.to_string().parse::<Total>().unwrap(), total);
        assert_eq!(total.left_of(Money::MAX), Money::ZERO);
    }

    proptest! {
        #[test]
        fn text_round_trips(micros in 0..=Money::MAX.micros()) {
            let value = Money::from_micros(micros).unwrap();
            prop_assert_eq!(value.to_string().parse::<Money>().unwrap(), value);
            let json = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(serde_json::from_str::<Money>(&json).unwrap(), value);
        }
    }
}
