//! One record of a dump: its kind, its place in the order, and how it is read back.

use std::fmt::{self, Write as _};

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::{AccountRecord, GenerationRecord, JobRecord, KeyRecord, PaymentRecord};
use crate::{Error, Hold, HoldStatus, LedgerRow, Result, UserId};

/// One record of a dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
// Not `kind`: a ledger row has a field of that name.
#[serde(tag = "record", rename_all = "snake_case")]
pub enum DumpRecord {
    /// A user.
    Account(AccountRecord),
    /// A history entry.
    Generation(GenerationRecord),
    /// A hold.
    Hold(Hold),
    /// A job.
    Job(JobRecord),
    /// A used key.
    Key(KeyRecord),
    /// A ledger row.
    Ledger(LedgerRow),
    /// A payment.
    Payment(PaymentRecord),
}

impl DumpRecord {
    /// The kind's word: what the footer counts by.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Account(_) => "account",
            Self::Generation(_) => "generation",
            Self::Hold(_) => "hold",
            Self::Job(_) => "job",
            Self::Key(_) => "key",
            Self::Ledger(_) => "ledger",
            Self::Payment(_) => "payment",
        }
    }
    /// Proves what no type proves. `InvalidInput` naming the field and its limit.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Account(account) => account.check(),
            Self::Hold(hold) if hold.committed > hold.amount.money() => {
                Err(Error::invalid("committed", "must be at most the hold's amount"))
            }
            Self::Hold(hold) if hold.ended.is_some() == (hold.status == HoldStatus::Open) => {
                Err(Error::invalid("ended", "must be there exactly where the hold is not open any more"))
            }
            Self::Generation(_) | Self::Hold(_) | Self::Job(_) | Self::Key(_) | Self::Ledger(_) | Self::Payment(_) => {
                Ok(())
            }
        }
    }
    /// Whose record it is.
    pub fn user(&self) -> UserId {
        match self {
            Self::Account(account) => account.user,
            Self::Generation(generation) => generation.user,
            Self::Hold(hold) => hold.user,
            Self::Job(job) => job.user,
            Self::Key(used) => used.user,
            Self::Ledger(row) => row.user,
            Self::Payment(payment) => payment.user,
        }
    }
    /// Where the record belongs in the order: kind, user, key.
    pub fn place(&self) -> (&'static str, UserId, String) {
        let mut key = String::new();
        self.write_key(&mut key);
        (self.kind(), self.user(), key)
    }
    fn write_key(&self, key: &mut String) {
        // Writing to a String cannot fail.
        let _ = match self {
            Self::Account(_) => Ok(()),
            Self::Generation(generation) => key.write_str(generation.id.as_str()),
            Self::Hold(hold) => key.write_str(hold.name.as_str()),
            Self::Job(job) => key.write_str(job.id.as_str()),
            Self::Key(used) => write!(key, "{}/{}", used.space.as_str(), used.key),
            Self::Ledger(row) => write!(key, "{:020}", row.seq),
            Self::Payment(payment) => key.write_str(payment.id.as_str()),
        };
    }
}

/// The place of the last record, which the next one must come behind.
#[derive(Debug, Default)]
pub(super) struct Order {
    last: Option<(&'static str, UserId)>,
    key: String,
    next: String,
}

impl Order {
    /// Whether a record comes behind the last one, which it then is itself.
    pub(super) fn follows(&mut self, record: &DumpRecord) -> bool {
        self.next.clear();
        record.write_key(&mut self.next);
        let place = (record.kind(), record.user());
        let follows = self.last.is_none_or(|last| (last, self.key.as_str()) < (place, self.next.as_str()));
        self.last = Some(place);
        std::mem::swap(&mut self.key, &mut self.next);
        follows
    }
}

/// The name of a record's first field.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum First {
    Record,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Account,
    Generation,
    Hold,
    Job,
    Key,
    Ledger,
    Payment,
}

// Written out because a derived one would keep all fields of a record until it had found the one that says what it is.
impl<'de> Deserialize<'de> for DumpRecord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Tagged;
        impl<'de> Visitor<'de> for Tagged {
            type Value = DumpRecord;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object whose first field is `record`")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> std::result::Result<DumpRecord, A::Error> {
                let Some(First::Record) = fields.next_key()? else { return Err(A::Error::missing_field("record")) };
                let kind = fields.next_value()?;
                let rest = MapAccessDeserializer::new(fields);
                Ok(match kind {
                    Kind::Account => DumpRecord::Account(AccountRecord::deserialize(rest)?),
                    Kind::Generation => DumpRecord::Generation(GenerationRecord::deserialize(rest)?),
                    Kind::Hold => DumpRecord::Hold(Hold::deserialize(rest)?),
                    Kind::Job => DumpRecord::Job(JobRecord::deserialize(rest)?),
                    Kind::Key => DumpRecord::Key(KeyRecord::deserialize(rest)?),
                    Kind::Ledger => DumpRecord::Ledger(LedgerRow::deserialize(rest)?),
                    Kind::Payment => DumpRecord::Payment(PaymentRecord::deserialize(rest)?),
                })
            }
        }
        deserializer.deserialize_map(Tagged)
    }
}
