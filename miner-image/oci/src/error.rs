use std::io;
use std::path::{Path, PathBuf};

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or a folder could not be read or written.
    #[error("{doing} {}: {source}", .path.display())]
    Io {
        /// `reading`, `writing`, …
        doing: &'static str,
        /// What was read or written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A layer could not be put together.
    #[error("{path} cannot be put into the layer: {source}")]
    Layer {
        /// The file in the image.
        path: String,
        /// What the archive said.
        source: io::Error,
    },
    /// What the image says of itself does not fit the format.
    #[error("the image's description is not what the format allows: {0}")]
    Format(#[from] oci_spec::OciSpecError),
    #[error("the image's description cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The program is none that an image without libraries can run.
    #[error("the program cannot run in an image that holds nothing else: {0}")]
    Program(String),
    /// Where the layout should go, there is something else.
    #[error("{} is there already and is no image layout: name another folder, or remove it", .0.display())]
    Occupied(PathBuf),
}

impl Error {
    /// For `map_err`: what was done with which file.
    pub(crate) fn io(
        doing: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.as_ref().to_owned(), source }
    }
}
