use std::io;
use std::path::{Path, PathBuf};

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Reason why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or a folder could not be read or written.
    #[error("{doing} {}: {source}", .path.display())]
    Io {
        /// `reading`, `writing`, …
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A file cannot be part of a layer.
    #[error("{path} cannot be put into the layer: {source}")]
    Layer {
        /// The file in the image.
        path: String,
        source: io::Error,
    },
    /// The image's configuration or annotations do not fit the format.
    #[error("the format does not allow the image's description: {0}")]
    Format(#[from] oci_spec::OciSpecError),
    #[error("the image's description cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// An image without libraries cannot run the program.
    #[error("the program cannot run in an image that holds nothing else: {0}")]
    Program(String),
    /// The layout's folder holds something else.
    #[error("{} exists and is not an image layout: name another folder, or remove it", .0.display())]
    Occupied(PathBuf),
}

impl Error {
    /// For `map_err`: an operation on a file.
    pub(crate) fn io(
        doing: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.as_ref().to_owned(), source }
    }
}
