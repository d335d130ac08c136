//! What is wrong with a message, as one sentence, and the reading of single fields that finds it.

use serde_json::Value;

use crate::Difficulty;

/// The longest line that is read or taken for a message, in bytes, without its end. The longest
/// real ones are jobs of pools that pay in the coinbase, some 20 KB.
pub const MAX_LINE: usize = 65_536;

/// Why a line is no message of the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// More than [`MAX_LINE`].
    #[error("the line is longer than {MAX_LINE} bytes")]
    TooLong,
    /// No JSON, or no object.
    #[error("the line is no JSON object: {0}")]
    Json(String),
    /// A method that the protocol does not have, cut to 64 characters. It may be an extension:
    /// whoever has no use for it can leave it out.
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

/// The error of a method that is not known.
pub(crate) fn unknown(method: &str) -> Malformed {
    Malformed::UnknownMethod(one_line(method, 64))
}

/// What the other side says, fit for a log or a condition: no more than so many characters of it,
/// control characters escaped, so that it can neither fill them nor begin a line of its own.
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

    /// The field at a position of a list.
    pub(crate) fn at(self, index: usize, name: &'static str) -> Field<'a> {
        self.field(name, self.from.and_then(|from| from.get(index)))
    }

    /// The field of an object.
    pub(crate) fn named(self, name: &'static str) -> Field<'a> {
        self.field(name, self.from.and_then(|from| from.get(name)))
    }

    /// The field of an object under a name that is the same for all.
    pub(crate) fn keyed(self, key: &str, name: &'static str) -> Field<'a> {
        self.field(name, self.from.and_then(|from| from.get(key)))
    }

    fn field(self, name: &'static str, value: Option<&'a Value>) -> Field<'a> {
        Field { of: self.of, name, value: value.filter(|value| !value.is_null()) }
    }
}

/// One field. What is null is not there.
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

    /// What is read from it, where it is not left out.
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

    pub(crate) fn switch(self) -> Result<bool, Malformed> {
        self.value.and_then(Value::as_bool).ok_or_else(|| self.not("true or false"))
    }

    pub(crate) fn whole(self) -> Result<u64, Malformed> {
        self.value.and_then(Value::as_u64).ok_or_else(|| self.not("a whole number"))
    }

    /// A whole number in a range that fits the type.
    pub(crate) fn small<T: TryFrom<u64>>(self, wanted: &'static str) -> Result<T, Malformed> {
        T::try_from(self.whole()?).map_err(|_| self.not(wanted))
    }

    pub(crate) fn difficulty(self) -> Result<Difficulty, Malformed> {
        self.value
            .and_then(Value::as_f64)
            .and_then(Difficulty::new)
            .ok_or_else(|| self.not("a number above 0"))
    }

    /// Bytes in hexadecimal digits.
    pub(crate) fn bytes(self) -> Result<Vec<u8>, Malformed> {
        hex::decode(self.text()?).map_err(|_| self.not("bytes in hexadecimal digits"))
    }

    /// As many bytes as the type has, in hexadecimal digits.
    pub(crate) fn array<const N: usize>(self, wanted: &'static str) -> Result<[u8; N], Malformed> {
        self.bytes()?.try_into().map_err(|_| self.not(wanted))
    }

    /// A number in one to eight hexadecimal digits, the highest first.
    pub(crate) fn hex32(self) -> Result<u32, Malformed> {
        let text = self.text()?;
        let digits = text.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(text);
        digits
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or_else(|| self.not("up to eight hexadecimal digits"))
    }
}
