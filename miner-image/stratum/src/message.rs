//! Parts of messages in every dialect: the number, and a pool's refusal.

use serde_json::{Value, json};

use crate::malformed::{Field, Malformed, one_line};

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

    /// Reads the number that a reply repeats; none if it is that of no request.
    pub(crate) fn of_reply(message: &Value) -> Option<Self> {
        match message.get("id")? {
            Value::String(text) => Some(Self::Text(text.clone())),
            // Some pools write every number as a fraction.
            number => whole(number).map(Self::Number),
        }
    }

    /// Returns the number, for programs that only use numbers. Some pools repeat it as a string.
    pub(crate) fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.trim().parse().ok(),
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

    /// Whether it says that the share's job had expired.
    pub fn is_stale(&self) -> bool {
        self.code == Self::STALE || self.says(&STALE)
    }

    /// Whether it says that the pool does not know the session, so that no later share can be accepted
    /// either.
    pub(crate) fn ends_session(&self) -> bool {
        matches!(self.code, Self::UNAUTHORIZED | Self::NOT_SUBSCRIBED) || self.says(&FORGOTTEN)
    }

    fn says(&self, any: &[&str]) -> bool {
        let message = self.message.to_ascii_lowercase();
        any.iter().any(|words| message.contains(words))
    }

    /// Reads why a reply refuses; none if it does not say so. `error` is a list of code and message,
    /// an object of them, a string or a number, in some pools with parts missing or as strings. What is
    /// empty (null, false, an empty string, list or object) is no refusal. ckpool has
    /// the reason in a field of its own.
    pub(crate) fn of_reply(reply: &Value) -> Option<Self> {
        let own_field = || reply.get("reject-reason").and_then(Value::as_str);
        let error = reply.get("error").filter(|error| !is_empty(error));
        let (code, message) = match error {
            None => (None, Some(own_field()?)),
            Some(Value::Array(parts)) => {
                (parts.first().and_then(code), parts.iter().skip(1).find_map(Value::as_str))
            }
            Some(Value::Object(parts)) => {
                (parts.get("code").and_then(code), parts.get("message").and_then(Value::as_str))
            }
            Some(Value::String(text)) => (None, Some(&**text)),
            Some(other) => (code(other), None),
        };
        let message = message.or_else(own_field);
        Some(Self::new(code.unwrap_or(Self::OTHER), message.unwrap_or(NO_REASON)))
    }
}

/// Words of pools without codes for a share whose job has expired: those of p2pool, nodejs-pool,
/// xmrig-proxy, ckpool and public-pool.
const STALE: [&str; 6] =
    ["stale", "block expired", "job not found", "invalid job id", "unknown job", "no such job"];

/// Words of pools without codes for a session that they do not know, or no longer serve; `XMRig` and
/// cgminer connect again for the same.
const FORGOTTEN: [&str; 6] = [
    "unauthenticated",
    "not authenticated",
    "not subscribed",
    "unauthorized worker",
    "ip is banned",
    "ip address currently banned",
];

/// Message of a refusal without one.
pub(crate) const NO_REASON: &str = "the pool refused without a reason";

fn is_empty(error: &Value) -> bool {
    match error {
        Value::Null => true,
        Value::Bool(is_error) => !is_error,
        Value::String(text) => text.is_empty(),
        Value::Array(parts) => parts.is_empty(),
        Value::Object(parts) => parts.is_empty(),
        Value::Number(_) => false,
    }
}

fn code(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// Reads a whole number, also one that is written as a fraction.
pub(crate) fn whole(value: &Value) -> Option<u64> {
    let fraction = || value.as_f64().filter(|number| number.fract() == 0.0);
    value.as_u64().or_else(|| fraction().filter(|n| (0.0..9.0e15).contains(n)).map(|n| n as u64))
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (code {})", one_line(&self.message, 256), self.code)
    }
}
