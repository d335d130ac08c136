//! Reading of messages, field by field, with errors of one sentence.

use serde_json::Value;

use crate::message::whole;
use crate::{Difficulty, Target};

/// Longest line that is accepted, in bytes, without its end. The longest real ones are jobs of pools
/// that pay in the coinbase, some 20 KB.
pub const MAX_LINE: usize = 65_536;

/// Reason why a line is not a message of the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is longer than [`MAX_LINE`].
    #[error("the line is longer than {MAX_LINE} bytes")]
    TooLong,
    /// It is not JSON, or not an object.
    #[error("the line is not a JSON object: {0}")]
    Json(String),
    /// A method that the protocol does not have, cut to 64 characters. It may be an extension, which
    /// the receiver can ignore.
    #[error("the method `{0}` is unknown")]
    UnknownMethod(String),
    /// A field that is missing, or of the wrong form.
    #[error("{of}: {field} is not {wanted}")]
    Field { of: &'static str, field: &'static str, wanted: &'static str },
}

/// Reads a line as a JSON object.
pub(crate) fn object(line: &[u8]) -> Result<Value, Malformed> {
    if line.len() > MAX_LINE {
        return Err(Malformed::TooLong);
    }
    match serde_json::from_slice(line) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(Malformed::Json("it holds another value".into())),
        Err(error) => Err(Malformed::Json(error.to_string())),
    }
}

/// Returns the error for an unknown method.
pub(crate) fn unknown(method: &str) -> Malformed {
    Malformed::UnknownMethod(one_line(method, 64))
}

/// Makes text of the other side fit for a log or a condition: at most `longest` characters of it, with
/// control characters escaped, so that it can neither flood a log nor forge a line in it.
pub(crate) fn one_line(text: &str, longest: usize) -> String {
    text.chars().take(longest).fold(String::new(), |mut line, next| {
        if next.is_control() {
            line.extend(next.escape_default());
        } else {
            line.push(next);
        }
        line
    })
}

/// The fields of one message, by position or by name.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    of: &'static str,
    from: Option<&'a Value>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(of: &'static str, from: Option<&'a Value>) -> Self {
        Self { of, from }
    }

    /// Returns the field at a position of a list.
    pub(crate) fn at(self, index: usize, name: &'static str) -> Field<'a> {
        self.field(name, self.from.and_then(|from| from.get(index)))
    }

    /// Returns the field of an object.
    pub(crate) fn named(self, name: &'static str) -> Field<'a> {
        self.field(name, self.from.and_then(|from| from.get(name)))
    }

    /// Returns the field of an object under a key, with a name for errors.
    pub(crate) fn keyed(self, key: &str, name: &'static str) -> Field<'a> {
        self.field(name, self.from.and_then(|from| from.get(key)))
    }

    fn field(self, name: &'static str, value: Option<&'a Value>) -> Field<'a> {
        Field { of: self.of, name, value: value.filter(|value| !value.is_null()) }
    }
}

/// One field. A null value counts as absent.
#[derive(Clone, Copy)]
pub(crate) struct Field<'a> {
    of: &'static str,
    name: &'static str,
    pub(crate) value: Option<&'a Value>,
}

impl<'a> Field<'a> {
    pub(crate) fn not(self, wanted: &'static str) -> Malformed {
        Malformed::Field { of: self.of, field: self.name, wanted }
    }

    /// Takes an empty string for a field that is missing.
    pub(crate) fn unless_empty(self) -> Self {
        Self { value: self.value.filter(|value| value.as_str() != Some("")), ..self }
    }

    /// Reads the field if it is there.
    pub(crate) fn maybe<T>(
        self,
        read: impl FnOnce(Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        self.value.map(|_| read(self)).transpose()
    }

    pub(crate) fn text(self) -> Result<&'a str, Malformed> {
        self.value.and_then(Value::as_str).ok_or_else(|| self.not("a string"))
    }

    pub(crate) fn string(self) -> Result<String, Malformed> {
        self.text().map(String::from)
    }

    /// Reads a name that some pools write as a number.
    pub(crate) fn name(self) -> Result<String, Malformed> {
        match self.value {
            Some(Value::Number(number)) => Ok(number.to_string()),
            _ => self.string(),
        }
    }

    pub(crate) fn list(self) -> Result<&'a [Value], Malformed> {
        self.value.and_then(Value::as_array).map(Vec::as_slice).ok_or_else(|| self.not("a list"))
    }

    pub(crate) fn texts(self) -> Result<Vec<String>, Malformed> {
        self.list()?
            .iter()
            .map(|item| {
                item.as_str().map(String::from).ok_or_else(|| self.not("a list of strings"))
            })
            .collect()
    }

    /// Reads a switch, which some pools write as a number; off if it is missing or something else.
    pub(crate) fn switch(self) -> bool {
        match self.value {
            Some(Value::Bool(on)) => *on,
            Some(Value::Number(number)) => number.as_f64() != Some(0.0),
            _ => false,
        }
    }

    /// Reads a whole number, also one in a string; none if it is neither.
    pub(crate) fn whole_if_any(self) -> Option<u64> {
        self.value.and_then(|value| whole(value).or_else(|| value.as_str()?.trim().parse().ok()))
    }

    pub(crate) fn whole(self) -> Result<u64, Malformed> {
        self.value.and_then(Value::as_u64).ok_or_else(|| self.not("a whole number"))
    }

    /// Reads a whole number that fits the type.
    pub(crate) fn small<T: TryFrom<u64>>(self, wanted: &'static str) -> Result<T, Malformed> {
        T::try_from(self.whole()?).map_err(|_| self.not(wanted))
    }

    pub(crate) fn difficulty(self) -> Result<Difficulty, Malformed> {
        self.value
            .and_then(|value| value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()))
            .and_then(Difficulty::new)
            .ok_or_else(|| self.not("a number above 0"))
    }

    /// Reads bytes in hexadecimal digits.
    pub(crate) fn bytes(self) -> Result<Vec<u8>, Malformed> {
        hex::decode(self.text()?).map_err(|_| self.not("bytes in hexadecimal digits"))
    }

    /// Reads exactly the bytes of an array, in hexadecimal digits.
    pub(crate) fn array<const N: usize>(self, wanted: &'static str) -> Result<[u8; N], Malformed> {
        self.bytes()?.try_into().map_err(|_| self.not(wanted))
    }

    /// Reads hexadecimal digits, also with `0x` before them.
    fn digits(self) -> Result<&'a str, Malformed> {
        let text = self.text()?;
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
        let are = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        are.then_some(digits).ok_or_else(|| self.not("hexadecimal digits"))
    }

    /// Reads at most this number of bytes in hexadecimal digits. Of an odd number of them, the first was
    /// a zero that was left out.
    pub(crate) fn few_bytes(self, most: usize, wanted: &'static str) -> Result<Vec<u8>, Malformed> {
        let digits = self.digits()?;
        let even = format!("{}{digits}", if digits.len().is_multiple_of(2) { "" } else { "0" });
        let bytes = hex::decode(even).ok().filter(|bytes| bytes.len() <= most);
        bytes.ok_or_else(|| self.not(wanted))
    }

    /// Reads a hash of 32 bytes in hexadecimal digits.
    pub(crate) fn hash(self) -> Result<[u8; 32], Malformed> {
        let wanted = "32 bytes in hexadecimal digits";
        self.few_bytes(32, wanted)?.try_into().map_err(|_| self.not(wanted))
    }

    /// Reads a target of up to 32 bytes in hexadecimal digits, the highest first.
    pub(crate) fn target(self) -> Result<Target, Malformed> {
        let wanted = "up to 32 bytes in hexadecimal digits, above 0";
        let bytes = self.few_bytes(32, wanted)?;
        let mut padded = [0; 32];
        padded[32 - bytes.len()..].copy_from_slice(&bytes);
        if padded == [0; 32] { Err(self.not(wanted)) } else { Ok(Target::from_be_bytes(padded)) }
    }

    /// Reads a whole number, in a string also in hexadecimal digits after `0x`; none if it is neither.
    pub(crate) fn height_if_any(self) -> Option<u64> {
        let digits = self.value.and_then(Value::as_str).and_then(|text| text.strip_prefix("0x"));
        match digits {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => self.whole_if_any(),
        }
    }

    /// Reads a number of one to eight hexadecimal digits, the highest first.
    pub(crate) fn hex32(self) -> Result<u32, Malformed> {
        let text = self.text()?;
        let digits = text.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(text);
        digits
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or_else(|| self.not("up to eight hexadecimal digits"))
    }
}
