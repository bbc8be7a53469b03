//! A hold, and the status machine that it goes through.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Amount, Error, HoldName, Money, Newest, Receipt, Result, Timestamp, UserId};

/// Where a hold stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldStatus {
    /// The money is set aside.
    Open,
    /// It was spent, wholly or in part.
    Committed,
    /// It was given back.
    Released,
}

impl HoldStatus {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Open, Self::Committed, Self::Released];

    /// The state's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Committed => "committed",
            Self::Released => "released",
        }
    }
}

impl fmt::Display for HoldStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for HoldStatus {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| Error::invalid("hold status", "must be open, committed or released"))
    }
}

/// A hold among those of one moment: by name, then by user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HoldPlace {
    /// The hold's name.
    pub name: HoldName,
    /// Whose hold.
    pub user: UserId,
}

impl fmt::Display for HoldPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A number holds no colon, a name may.
        write!(f, "{}:{}", self.user, self.name)
    }
}

impl FromStr for HoldPlace {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let form = || Error::invalid("hold", "must be a user and a name");
        let (user, name) = text.split_once(':').ok_or_else(form)?;
        Ok(Self { name: name.parse()?, user: user.parse()? })
    }
}

/// Money set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Whose money.
    pub user: UserId,
    /// The hold's name, unique for the user.
    pub name: HoldName,
    /// How much was set aside.
    pub amount: Amount,
    /// Where it stands.
    pub status: HoldStatus,
    /// How much of it was spent.
    pub committed: Money,
    /// From when on a sweep may release it.
    pub expires_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// What making it answered.
    pub opened: Receipt,
    /// What ending it answered.
    pub ended: Option<Receipt>,
}

impl Hold {
    /// Its position in a list.
    pub fn position(&self) -> Newest<HoldPlace> {
        Newest::new(self.created_at, HoldPlace { name: self.name.clone(), user: self.user })
    }
}
