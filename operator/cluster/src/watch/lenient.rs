//! Objects that may turn out not to be readable.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// An object, if it can be read. What cannot be read is logged and left out: one
/// malformed object must not hide all others.
pub(super) struct Lenient<T>(pub(super) Option<T>);

impl<T: DeserializeOwned> Lenient<T> {
    /// Reads an object from its JSON.
    pub(super) fn read(text: &str) -> Option<T> {
        serde_json::from_str(text)
            .inspect_err(|error| {
                let object = &text[..text.floor_char_boundary(300)];
                tracing::error!(%error, object, "an object cannot be read");
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
