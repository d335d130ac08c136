//! Objects of which some cannot be read.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// An object, or `None` if it cannot be read. Such an object is logged and left out, because one
/// malformed object must not hide all others.
pub(super) struct Lenient<T>(pub(super) Option<T>);

impl<T: DeserializeOwned> Lenient<T> {
    /// Reads an object from JSON; logs an object that cannot be read.
    pub(super) fn read(text: &str) -> Option<T> {
        serde_json::from_str(text)
            .inspect_err(|error| {
                let object = &text[..text.floor_char_boundary(300)];
                tracing::error!(%error, object, "An object cannot be read; correct or delete it.");
            })
            .ok()
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&RawValue>::deserialize(deserializer)?;
        Ok(Self(Self::read(text.get())))
    }
}
