//! Parts of messages in both dialects: the number, and a pool's refusal.

use serde_json::{Value, json};

use crate::malformed::{Field, Fields, Malformed, one_line};

/// Number of a request, which its reply repeats.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Id {
    Number(u64),
    /// Some programs use strings.
    Text(String),
}

impl Id {
    pub(crate) fn encode(&self) -> Value {
        match self {
            Self::Number(number) => json!(number),
            Self::Text(text) => json!(text),
        }
    }

    pub(crate) fn decode(field: Field<'_>) -> Result<Option<Self>, Malformed> {
        match field.value {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(Self::Text(text.clone()))),
            Some(_) => Ok(Some(Self::Number(field.small("a whole number or a string")?))),
        }
    }

    /// Reads the number of a request, which must have one.
    pub(crate) fn required(field: Field<'_>) -> Result<Self, Malformed> {
        Self::decode(field)?.ok_or_else(|| field.not("a whole number or a string"))
    }
}

/// A pool's or a proxy's refusal. Stratum's own codes are 20 (other), 21 (job not found, stale), 22
/// (duplicate share), 23 (low difficulty), 24 (unauthorized worker) and 25 (not subscribed).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: i64,
    pub message: String,
}

impl Failure {
    /// Stratum's code for failures without a code of their own.
    pub const OTHER: i64 = 20;
    /// The job is unknown or expired.
    pub const STALE: i64 = 21;
    /// The share was submitted before.
    pub const DUPLICATE: i64 = 22;
    /// The hash does not reach the difficulty.
    pub const LOW_DIFFICULTY: i64 = 23;
    /// The worker is not logged in.
    pub const UNAUTHORIZED: i64 = 24;
    /// The connection has not subscribed.
    pub const NOT_SUBSCRIBED: i64 = 25;

    /// Makes a refusal of a code and a message.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Reads a pool's `error`: a list, an object, or a string.
    pub(crate) fn decode(of: &'static str, error: Field<'_>) -> Result<Self, Malformed> {
        let wanted = "a code and a message";
        let Some(value) = error.value else { return Err(error.not(wanted)) };
        let fields = Fields::new(of, Some(value));
        let (code, message) = match value {
            Value::Array(_) => (fields.at(0, "error code"), fields.at(1, "error message")),
            Value::Object(_) => {
                (fields.keyed("code", "error code"), fields.keyed("message", "error message"))
            }
            Value::String(text) => return Ok(Self::new(Self::OTHER, text)),
            _ => return Err(error.not(wanted)),
        };
        Ok(Self {
            code: code.value.and_then(Value::as_i64).ok_or_else(|| code.not("a whole number"))?,
            message: message.text()?.into(),
        })
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (code {})", one_line(&self.message, 256), self.code)
    }
}
