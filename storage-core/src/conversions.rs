//! Conversions to and from the types of other crates, each behind a feature of that crate's name.
//!
//! Into ours they are checked by the same rules as any other input and answer `InvalidInput`; out of ours nothing is lost.

#[cfg(feature = "chrono")]
mod with_chrono {
    use chrono::{DateTime, Datelike as _, NaiveDate, Utc};

    use crate::{CivilDate, Error, Result, Timestamp};

    /// ```
    /// # fn main() -> storage_core::Result<()> {
    /// let at: storage_core::Timestamp = "2026-01-15T10:00:00.000001Z".parse()?;
    /// let theirs = chrono::DateTime::<chrono::Utc>::from(at);
    /// assert_eq!(theirs.timestamp_micros(), at.micros());
    /// assert_eq!(storage_core::Timestamp::try_from(theirs)?, at);
    /// # Ok(()) }
    /// ```
    impl From<Timestamp> for DateTime<Utc> {
        fn from(at: Timestamp) -> Self {
            // Years 1970 to 9999 are all within chrono's.
            Self::from_timestamp_micros(at.micros()).unwrap_or_default()
        }
    }

    impl<Zone: chrono::TimeZone> TryFrom<DateTime<Zone>> for Timestamp {
        type Error = Error;
        /// Cut to the microsecond. `InvalidInput` outside of the years 1970 to 9999.
        fn try_from(at: DateTime<Zone>) -> Result<Self> {
            Self::from_micros(at.timestamp_micros())
        }
    }

    impl From<CivilDate> for NaiveDate {
        fn from(date: CivilDate) -> Self {
            Self::from_epoch_days(date.days()).unwrap_or_default()
        }
    }

    impl From<NaiveDate> for CivilDate {
        fn from(date: NaiveDate) -> Self {
            // Counted from the first day of the year 1.
            Self::from_days(i64::from(date.num_days_from_ce()) - 719_163)
        }
    }
}

#[cfg(feature = "rust_decimal")]
mod with_rust_decimal {
    use rust_decimal::Decimal;

    use crate::{Amount, Error, Money, Result, SignedMoney};

    fn micros(field: &'static str, decimal: Decimal) -> Result<i64> {
        let rule = "must be a decimal of at most 6 places within the limits of money";
        let mut scaled = decimal.normalize();
        if scaled.scale() > 6 {
            return Err(Error::invalid(field, rule));
        }
        scaled.rescale(6);
        i64::try_from(scaled.mantissa()).map_err(|_| Error::invalid(field, rule))
    }

    macro_rules! decimals {
        ($($name:ident, $field:literal, $micros:expr;)+) => {$(
            impl From<$name> for Decimal {
                fn from(money: $name) -> Self {
                    let micros: fn($name) -> i64 = $micros;
                    Self::new(micros(money), 6).normalize()
                }
            }
        )+};
    }
    decimals! {
        Money, "money", Money::micros;
        Amount, "amount", |amount| amount.money().micros();
        SignedMoney, "change of money", SignedMoney::micros;
    }

    impl TryFrom<Decimal> for Money {
        type Error = Error;
        /// `InvalidInput` for more than 6 decimals, which are never rounded away, and for what no money is.
        ///
        /// ```
        /// # fn main() -> storage_core::Result<()> {
        /// let price = storage_core::Money::try_from(rust_decimal::dec!(7.50))?;
        /// assert_eq!(price.to_string(), "7.50");
        /// assert!(storage_core::Money::try_from(rust_decimal::dec!(0.0000001)).is_err());
        /// # Ok(()) }
        /// ```
        fn try_from(decimal: Decimal) -> Result<Self> {
            Self::from_micros(micros("money", decimal)?)
        }
    }

    impl TryFrom<Decimal> for Amount {
        type Error = Error;
        /// `InvalidInput` as for [`Money`], and for zero.
        fn try_from(decimal: Decimal) -> Result<Self> {
            Self::new(Money::try_from(decimal)?)
        }
    }

    impl TryFrom<Decimal> for SignedMoney {
        type Error = Error;
        /// `InvalidInput` as for [`Money`], but for the sign.
        fn try_from(decimal: Decimal) -> Result<Self> {
            Self::from_micros(micros("change of money", decimal)?)
        }
    }
}

#[cfg(feature = "teloxide")]
mod with_teloxide {
    use teloxide_core::types::{ChatId, UserId as TelegramUser};

    use crate::{Error, Result, UserId};

    impl TryFrom<TelegramUser> for UserId {
        type Error = Error;
        /// `InvalidInput` for 0 and for what does not fit into 63 bits: Telegram uses 52 of them.
        ///
        /// ```
        /// # fn main() -> storage_core::Result<()> {
        /// let user = storage_core::UserId::try_from(teloxide_core::types::UserId(1001))?;
        /// assert_eq!(user.get(), 1001);
        /// assert_eq!(teloxide_core::types::ChatId::from(user).0, 1001);
        /// # Ok(()) }
        /// ```
        fn try_from(user: TelegramUser) -> Result<Self> {
            let id = i64::try_from(user.0).map_err(|_| Error::invalid("user id", "must fit into 63 bits"))?;
            Self::new(id)
        }
    }

    impl TryFrom<ChatId> for UserId {
        type Error = Error;
        /// A group's id is negative, and a user like any other. `InvalidInput` for 0.
        fn try_from(chat: ChatId) -> Result<Self> {
            Self::new(chat.0)
        }
    }

    impl From<UserId> for ChatId {
        fn from(user: UserId) -> Self {
            Self(user.get())
        }
    }
}

#[cfg(all(test, feature = "chrono", feature = "rust_decimal"))]
mod tests {
    use chrono::{DateTime, NaiveDate, Utc};
    use proptest::prelude::*;
    use rust_decimal::Decimal;

    use crate::{Amount, CivilDate, Money, SignedMoney, Timestamp};

    proptest! {
        #[test]
        fn what_goes_out_comes_back(micros in 0..=253_402_300_799_999_999_i64, days in 0..2_932_896_i64, money in 1..=1_000_000_000_000_000_i64) {
            let at = Timestamp::from_micros(micros).unwrap();
            prop_assert_eq!(Timestamp::try_from(DateTime::<Utc>::from(at)).unwrap(), at);
            let date = CivilDate::from_days(days);
            prop_assert_eq!(NaiveDate::from(date).to_string(), date.to_string());
            prop_assert_eq!(CivilDate::from(NaiveDate::from(date)), date);
            let money = Money::from_micros(money).unwrap();
            prop_assert_eq!(Money::try_from(Decimal::from(money)).unwrap(), money);
            let amount = Amount::new(money).unwrap();
            prop_assert_eq!(Amount::try_from(Decimal::from(amount)).unwrap(), amount);
            for change in [SignedMoney::plus(money), SignedMoney::minus(money)] {
                prop_assert_eq!(SignedMoney::try_from(Decimal::from(change)).unwrap(), change);
            }
        }
    }

    #[test]
    fn what_no_money_is_stays_outside() {
        for text in ["-0.01", "0.0000001", "1.2345678", "79228162514264337593543950335"] {
            let decimal: Decimal = text.parse().unwrap();
            assert_eq!(Money::try_from(decimal).unwrap_err().kind().name(), "InvalidInput", "{text}");
        }
        assert_eq!(Amount::try_from(Decimal::ZERO).unwrap_err().kind().name(), "InvalidInput");
        assert_eq!(Money::try_from("1.500000000".parse::<Decimal>().unwrap()).unwrap().to_string(), "1.50");
    }
}
