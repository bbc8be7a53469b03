//! Keys that were used up, and the first answers that their replays get.

use storage_core::{Answer, KeySpace, OperationKey, QuotaReceipt, QuotaSource, Receipt, Result, UsedKey, UserId};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::codec::{Day, Micros};
use crate::fields::Fields;
use crate::statement::statements;
use crate::tx::{Param, param, uuid};

macro_rules! key_columns {
    () => {
        "user_id, space, key, arguments, operation_id, answer, answer_operation, answer_balance, answer_day, \
         answer_remaining, answer_first"
    };
}
pub(crate) use key_columns;

statements! {
    /// Statements of keys.
    KeyStatements {
        find(INT8, TEXT, TEXT) = concat!(
            "SELECT ", key_columns!(), " FROM {s}.operation_keys WHERE user_id = $1 AND space = $2 AND key = $3"
        );
        find_routed(TEXT, TEXT, TEXT) = concat!(
            "SELECT ", key_columns!(), " FROM {s}.operation_keys
             WHERE user_id = (SELECT user_id FROM {s}.id_routes WHERE kind = $1 AND id = $2)
                 AND space = 'operation' AND key = $3"
        );
        put(INT8, TEXT, TEXT, UUID, UUID, TEXT, UUID, NUMERIC, DATE, INT8, BOOL) = concat!(
            "INSERT INTO {s}.operation_keys (", key_columns!(), ")
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
        );
    }
}

pub(crate) fn space(word: &str) -> Option<KeySpace> {
    [KeySpace::Generation, KeySpace::Operation, KeySpace::Return].into_iter().find(|space| space.as_str() == word)
}

/// Reads the columns of `key_columns!`.
pub(crate) fn used_key(row: &Row) -> Result<(UserId, KeySpace, OperationKey, UsedKey)> {
    let mut fields = Fields::of(row, "operation_keys");
    let user = fields.user()?;
    let word = fields.word()?;
    let space = space(word).ok_or_else(|| fields.unknown(word))?;
    let key = fields.text()?;
    let (arguments, operation) = (fields.fingerprint()?, fields.operation()?);
    let word = fields.word()?;
    let unknown = fields.unknown(word);
    let (by, balance) = (fields.opt_operation()?, fields.opt_money()?);
    let (day, remaining, first) = (fields.opt_day()?, fields.opt_count()?, fields.opt_flag()?);
    let answer = match (word, by, balance, remaining, first) {
        ("money", Some(operation), Some(balance_after), ..) => {
            Answer::Money(Receipt { operation, balance_after, replayed: false })
        }
        ("quota", Some(operation), _, Some(remaining_after), _) => Answer::Quota(QuotaReceipt {
            operation,
            source: day.map_or(QuotaSource::Bank, QuotaSource::Day),
            remaining_after,
            replayed: false,
        }),
        ("gift", .., Some(first)) => Answer::Gift(first),
        ("record", ..) => Answer::Record,
        _ => return Err(unknown),
    };
    Ok((user, space, key, UsedKey { arguments, operation, answer }))
}

/// The parameters of `put`.
pub(crate) fn values(user: UserId, space: KeySpace, key: &OperationKey, used: &UsedKey) -> Vec<Param> {
    let (word, by, balance, day, remaining, first) = match &used.answer {
        Answer::Money(receipt) => ("money", Some(receipt.operation), Some(receipt.balance_after), None, None, None),
        Answer::Quota(receipt) => {
            let day = match receipt.source {
                QuotaSource::Day(date) => Some(Day(date)),
                QuotaSource::Bank => None,
            };
            let remaining = i64::try_from(receipt.remaining_after).unwrap_or(i64::MAX);
            ("quota", Some(receipt.operation), None, day, Some(remaining), None)
        }
        Answer::Gift(first) => ("gift", None, None, None, None, Some(*first)),
        Answer::Record => ("record", None, None, None, None, None),
    };
    vec![
        param(user.get()),
        param(space.as_str()),
        param(key.as_str().to_owned()),
        param(Uuid::from_bytes(used.arguments.to_bytes())),
        param(uuid(used.operation)),
        param(word),
        param(by.map(uuid)),
        param(balance.map(Micros::from)),
        param(day),
        param(remaining),
        param(first),
    ]
}
