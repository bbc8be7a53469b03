//! Reads a row column by column, in the order in which its statement names them. What breaks a rule of the contract is
//! `Corrupt`, with table, row and column: nothing is guessed.

use std::fmt::{Display, Write as _};
use std::str::FromStr;

use storage_core::{
    Amount, CivilDate, Error, Fingerprint, Money, OperationId, Params, Place, Receipt, Result, ResultUrls, SignedMoney,
    Timestamp, Total, UserId,
};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};
use uuid::Uuid;

use crate::codec::{Day, Micros, MomentRead};

/// The columns of one row that were not read yet.
#[derive(Debug)]
pub(crate) struct Fields<'r> {
    row: &'r Row,
    table: &'static str,
    next: usize,
}

impl<'r> Fields<'r> {
    pub(crate) fn of(row: &'r Row, table: &'static str) -> Self {
        Self { row, table, next: 0 }
    }

    fn read<T: FromSql<'r>>(&mut self) -> Result<T> {
        let at = self.next;
        self.next += 1;
        self.row.try_get(at).map_err(|error| self.corrupt("cannot be read").caused_by(error))
    }

    /// The error for the column that was read last.
    fn corrupt(&self, problem: impl Display) -> Error {
        let columns = self.row.columns();
        let column = columns.get(self.next.saturating_sub(1)).map_or("?", |column| column.name());
        let mut key = String::new();
        // What identifies rows is selected first, as numbers and text.
        for (at, column) in columns.iter().enumerate().take(3) {
            let value = match *column.type_() {
                Type::INT8 => self.row.try_get::<_, i64>(at).map(|number| number.to_string()).ok(),
                Type::TEXT => self.row.try_get::<_, &str>(at).map(ToOwned::to_owned).ok(),
                _ => None,
            };
            if let Some(value) = value {
                let comma = if key.is_empty() { "" } else { ", " };
                // Writing to a String cannot fail.
                let _ = write!(key, "{comma}{} {value}", column.name());
            }
        }
        let place = Place::new(format!("table {}", self.table)).key(key);
        Error::corrupt(place, format!("column {column} {problem}"))
    }

    fn checked<T>(&self, value: Result<T>) -> Result<T> {
        value.map_err(|error| self.corrupt("breaks a rule").caused_by(error))
    }

    pub(crate) fn int(&mut self) -> Result<i64> {
        self.read()
    }
    pub(crate) fn flag(&mut self) -> Result<bool> {
        self.read()
    }
    pub(crate) fn opt_flag(&mut self) -> Result<Option<bool>> {
        self.read()
    }
    /// A number that is never negative.
    pub(crate) fn count<T: TryFrom<i64>>(&mut self) -> Result<T> {
        let number: i64 = self.read()?;
        T::try_from(number).map_err(|_| self.corrupt("is out of range"))
    }
    pub(crate) fn opt_count<T: TryFrom<i64>>(&mut self) -> Result<Option<T>> {
        let number: Option<i64> = self.read()?;
        number.map(T::try_from).transpose().map_err(|_| self.corrupt("is out of range"))
    }
    pub(crate) fn user(&mut self) -> Result<UserId> {
        let id = self.read()?;
        self.checked(UserId::new(id))
    }
    pub(crate) fn opt_user(&mut self) -> Result<Option<UserId>> {
        let id: Option<i64> = self.read()?;
        self.checked(id.map(UserId::new).transpose())
    }
    pub(crate) fn text<T: FromStr<Err = Error>>(&mut self) -> Result<T> {
        let text: &str = self.read()?;
        self.checked(text.parse())
    }
    pub(crate) fn opt_text<T: FromStr<Err = Error>>(&mut self) -> Result<Option<T>> {
        let text: Option<&str> = self.read()?;
        self.checked(text.map(str::parse).transpose())
    }
    pub(crate) fn word(&mut self) -> Result<&'r str> {
        self.read()
    }
    /// A word that this program does not know.
    pub(crate) fn unknown(&self, word: &str) -> Error {
        self.corrupt(format_args!("holds {word:?}, which is none of its words"))
    }
    fn money_of(&self, Micros(micros): Micros) -> Result<Money> {
        let micros = i64::try_from(micros).map_err(|_| self.corrupt("is out of range"))?;
        self.checked(Money::from_micros(micros))
    }
    pub(crate) fn money(&mut self) -> Result<Money> {
        let micros = self.read()?;
        self.money_of(micros)
    }
    pub(crate) fn opt_money(&mut self) -> Result<Option<Money>> {
        let micros: Option<Micros> = self.read()?;
        micros.map(|micros| self.money_of(micros)).transpose()
    }
    pub(crate) fn amount(&mut self) -> Result<Amount> {
        let money = self.money()?;
        self.checked(Amount::new(money))
    }
    pub(crate) fn signed(&mut self) -> Result<SignedMoney> {
        let Micros(micros) = self.read()?;
        let micros = i64::try_from(micros).map_err(|_| self.corrupt("is out of range"))?;
        self.checked(SignedMoney::from_micros(micros))
    }
    pub(crate) fn total(&mut self) -> Result<Total> {
        let Micros(micros) = self.read()?;
        Ok(Total::from_micros(micros))
    }
    pub(crate) fn at(&mut self) -> Result<Timestamp> {
        let MomentRead(micros) = self.read()?;
        self.checked(Timestamp::from_micros(micros))
    }
    pub(crate) fn opt_at(&mut self) -> Result<Option<Timestamp>> {
        let moment: Option<MomentRead> = self.read()?;
        self.checked(moment.map(|MomentRead(micros)| Timestamp::from_micros(micros)).transpose())
    }
    pub(crate) fn opt_day(&mut self) -> Result<Option<CivilDate>> {
        let day: Option<Day> = self.read()?;
        Ok(day.map(|Day(date)| date))
    }
    pub(crate) fn operation(&mut self) -> Result<OperationId> {
        let id: Uuid = self.read()?;
        Ok(OperationId::from_u128(id.as_u128()))
    }
    pub(crate) fn opt_operation(&mut self) -> Result<Option<OperationId>> {
        let id: Option<Uuid> = self.read()?;
        Ok(id.map(|id| OperationId::from_u128(id.as_u128())))
    }
    pub(crate) fn fingerprint(&mut self) -> Result<Fingerprint> {
        let digest: Uuid = self.read()?;
        Ok(Fingerprint::from_bytes(digest.into_bytes()))
    }
    pub(crate) fn params(&mut self) -> Result<Params> {
        let text: &str = self.read()?;
        self.checked(Params::from_json(text))
    }
    pub(crate) fn urls(&mut self) -> Result<ResultUrls> {
        let urls: Vec<String> = self.read()?;
        self.checked(ResultUrls::new(urls))
    }
    /// A first answer: the operation and the balance after it.
    pub(crate) fn receipt(&mut self) -> Result<Receipt> {
        Ok(Receipt { operation: self.operation()?, balance_after: self.money()?, replayed: false })
    }
    pub(crate) fn opt_receipt(&mut self) -> Result<Option<Receipt>> {
        let (operation, balance) = (self.opt_operation()?, self.opt_money()?);
        match (operation, balance) {
            (Some(operation), Some(balance_after)) => Ok(Some(Receipt { operation, balance_after, replayed: false })),
            (None, None) => Ok(None),
            _ => Err(self.corrupt("stands without its other half")),
        }
    }
}
