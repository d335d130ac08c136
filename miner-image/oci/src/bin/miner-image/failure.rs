use std::fmt::Display;
use std::io;
use std::path::Path;

/// A sentence that says why there is no image, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Failure(pub(crate) String);

pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// For `map_err`: what was done with which file.
pub(crate) fn doing(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure(format!("{doing} {}: {error}", path.display()))
}

/// For `map_err`: what a thing is, that was not as it should be.
pub(crate) fn wrong<E: Display>(what: &'static str) -> impl FnOnce(E) -> Failure {
    move |error| Failure(format!("{what}: {error}"))
}

impl From<daylight_oci::Error> for Failure {
    fn from(error: daylight_oci::Error) -> Self {
        Self(error.to_string())
    }
}
