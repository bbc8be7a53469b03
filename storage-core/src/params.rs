//! A generation's parameters: any JSON, kept as it was written.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::{Error, Result};

/// The most bytes of serialised parameters (V8).
pub const MAX_PARAMS_BYTES: usize = 64 * 1024;
/// The deepest nesting of parameters (V8): `[[1]]` has depth 2.
pub const MAX_PARAMS_DEPTH: usize = 32;

/// The parameters of a generation: any JSON value of at most 64 KiB and 32 levels, without NUL.
///
/// Held as the serialised text, so that it is stored and handed out without being built again; what is read
/// back equals what was written, `-0.0`, `1e16` and big integers included.
///
/// ```
/// use storage_core::Params;
/// use serde_json::json;
///
/// let params = Params::new(&json!({"prompt": "a cat in the rain", "steps": 30}))?;
/// assert_eq!(params.to_value()?, json!({"prompt": "a cat in the rain", "steps": 30}));
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Params(Arc<str>);

impl Params {
    /// `InvalidInput` when the value is too large, too deep or holds a NUL.
    pub fn new(value: &Value) -> Result<Self> {
        check(value, 0)?;
        let text = serde_json::to_string(value)
            .map_err(|error| Error::invalid("params", "must be serialisable as JSON").caused_by(error))?;
        if text.len() > MAX_PARAMS_BYTES {
            return Err(Error::invalid("params", "must be at most 64 KiB serialised"));
        }
        Ok(Self(text.into()))
    }
    /// Reads JSON text and keeps it in its shortest form.
    pub fn from_json(text: &str) -> Result<Self> {
        // A text with white space may be larger than the limit; one twice as large is not worth building.
        if text.len() > 4 * MAX_PARAMS_BYTES {
            return Err(Error::invalid("params", "must be at most 64 KiB serialised"));
        }
        let value: Value =
            serde_json::from_str(text).map_err(|error| Error::invalid("params", "must be JSON").caused_by(error))?;
        Self::new(&value)
    }
    /// The serialised text.
    pub fn as_json(&self) -> &str {
        &self.0
    }
    /// The value.
    pub fn to_value(&self) -> Result<Value> {
        serde_json::from_str(&self.0).map_err(|error| Error::internal("stored params are not JSON").caused_by(error))
    }
}

fn check(value: &Value, depth: usize) -> Result<()> {
    let clean = |text: &str| {
        if text.contains('\0') { Err(Error::invalid("params", "must not contain NUL")) } else { Ok(()) }
    };
    let deeper = || {
        if depth == MAX_PARAMS_DEPTH {
            Err(Error::invalid("params", "must nest at most 32 levels deep"))
        } else {
            Ok(depth + 1)
        }
    };
    match value {
        Value::String(text) => clean(text),
        Value::Array(items) => {
            let depth = deeper()?;
            items.iter().try_for_each(|item| check(item, depth))
        }
        Value::Object(fields) => {
            let depth = deeper()?;
            fields.iter().try_for_each(|(key, value)| clean(key).and_then(|()| check(value, depth)))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

impl Serialize for Params {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &serde_json::value::RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Params {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::new(&value).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn nested(depth: usize) -> Value {
        (0..depth).fold(json!(1), |inner, _| json!([inner]))
    }

    #[test]
    fn limits_from_both_sides() {
        assert!(Params::new(&nested(32)).is_ok());
        assert!(Params::new(&nested(33)).is_err());
        assert!(Params::new(&json!("x".repeat(MAX_PARAMS_BYTES - 2))).is_ok());
        assert!(Params::new(&json!("x".repeat(MAX_PARAMS_BYTES - 1))).is_err());
        assert!(Params::new(&json!({"a\0": 1})).is_err());
        assert!(Params::new(&json!(["a\0"])).is_err());
    }

    #[test]
    fn numbers_survive() {
        for value in [
            json!(-0.0),
            json!(1e16),
            json!(u64::MAX),
            json!(i64::MIN),
            json!(0.1),
            json!(5e-324),
            json!(1.797_693_134_862_315_7e308),
        ] {
            let params = Params::new(&value).unwrap();
            assert_eq!(params.to_value().unwrap(), value);
            let again: Params = serde_json::from_str(&serde_json::to_string(&params).unwrap()).unwrap();
            assert_eq!(again, params);
        }
    }
}
