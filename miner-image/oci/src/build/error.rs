use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

/// The builder's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Reason why no image is built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program or the layout does not make an image.
    #[error(transparent)]
    Image(#[from] crate::Error),
    #[error("{doing} {}: {source}", .path.display())]
    Io {
        /// `reading`, `writing`, …
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A compiler, git or cargo cannot be run, or fails.
    #[error("{0}")]
    Command(String),
    /// Text of another program, or of the environment, is not in the expected form.
    #[error("{subject}: {reason}")]
    Unreadable { subject: &'static str, reason: String },
    /// The current folder is not in a workspace that has the package.
    #[error("{0}")]
    Workspace(String),
    /// The program cannot be built for this target on this machine.
    #[error("{0}")]
    Target(String),
    /// A library that the program needs is not on this machine.
    #[error("{0}")]
    Library(String),
    /// A fact for the bill of materials is not known.
    #[error("{0}")]
    Unknown(String),
    /// cargo compiles other crates than it lists.
    #[error("cargo compiles {name} {version}, which cargo tree does not list")]
    Unlisted { name: String, version: String },
}

impl Error {
    /// For `map_err`: an operation on a file.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }

    /// For `map_err`: a text that is not in the expected form.
    pub(super) fn unreadable<E: Display>(subject: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Unreadable { subject, reason: error.to_string() }
    }
}
