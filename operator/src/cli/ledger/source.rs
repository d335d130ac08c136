//! Places from which a ledger is read.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use daylight_ledger::{CHECKPOINT, Checkpoint, Files, Note};
use http::StatusCode;

use super::web::wait;
use crate::cli::error::{CommandError, ErrorCode};
use crate::files;
use crate::web::WebServer;

/// Most bytes of a file: a bundle of 256 entries of the greatest length has fewer.
const MOST_BYTES: usize = 17 << 20;

/// Directory of a ledger, or address of one that is served.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Directory(PathBuf),
    /// Without a `/` at its end.
    Web(String),
}

impl FromStr for Source {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let is_web = text.starts_with("http://") || text.starts_with("https://");
        Ok(if is_web {
            Self::Web(text.trim_end_matches('/').to_owned())
        } else {
            Self::Directory(text.into())
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::Web(url) => f.write_str(url),
        }
    }
}

impl Source {
    /// The directory, if it is one.
    pub(super) fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
            Self::Web(_) => None,
        }
    }

    /// Opens it for reading.
    pub(super) fn open(&self) -> Result<Opened<'_>, CommandError> {
        let reader = match self {
            Self::Directory(path) => Reader::Directory(path.clone()),
            Self::Web(url) => {
                let server = WebServer::new(url).map_err(|error| {
                    CommandError::new(format!("{url} is not the address of a ledger"))
                        .because(error)
                        .code(ErrorCode::Invalid)
                })?;
                Reader::Web(server)
            }
        };
        Ok(Opened { source: self, reader })
    }
}

/// Source that is open for reading.
pub(super) struct Opened<'a> {
    source: &'a Source,
    reader: Reader,
}

enum Reader {
    Directory(PathBuf),
    Web(WebServer),
}

impl Opened<'_> {
    /// The directory, if it is one.
    pub(super) fn directory(&self) -> Option<&Path> {
        self.source.directory()
    }

    /// Reads the checkpoint. Its signatures are not verified here.
    pub(super) fn checkpoint(&self) -> Result<Note, CommandError> {
        let Some(bytes) = self.read(CHECKPOINT)? else { return Err(self.absent()) };
        let text = String::from_utf8(bytes);
        let text =
            text.map_err(|error| self.invalid("has a checkpoint that is not text").because(error))?;
        Note::parse(&text).map_err(|error| self.unreadable_checkpoint(error))
    }

    /// Number of entries in the checkpoint. Its signatures are not verified here.
    pub(super) fn size(&self) -> Result<u64, CommandError> {
        Ok(self.parsed_checkpoint()?.size)
    }

    /// The checkpoint. Its signatures are not verified here.
    pub(super) fn parsed_checkpoint(&self) -> Result<Checkpoint, CommandError> {
        let checkpoint = Checkpoint::parse(self.checkpoint()?.text());
        checkpoint.map_err(|error| self.unreadable_checkpoint(error))
    }

    fn unreadable_checkpoint(&self, error: impl Error + Send + Sync + 'static) -> CommandError {
        self.invalid("has a checkpoint that cannot be read").because(error)
    }

    fn absent(&self) -> CommandError {
        let remedy = match self.reader {
            Reader::Directory(_) => {
                "Name the auditor's data directory, a copy of it, or a mirror: it contains \
                 `checkpoint` and `tile`. A journal of an earlier version has a checkpoint once an \
                 auditor of this one has opened it"
            }
            Reader::Web(_) => "Name the address of which /checkpoint is the checkpoint",
        };
        CommandError::new(format!("There is no ledger in {}", self.source))
            .code(ErrorCode::NoLedger)
            .remedy(remedy)
    }

    /// Error of a ledger that is not as it should be.
    pub(super) fn invalid(&self, problem: &str) -> CommandError {
        CommandError::new(format!("The ledger in {} {problem}", self.source))
            .code(ErrorCode::LedgerInvalid)
    }

    fn unreadable(&self, path: &str) -> CommandError {
        CommandError::new(format!("Cannot read {path} in {}", self.source))
    }
}

impl Files for Opened<'_> {
    type Error = CommandError;

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, CommandError> {
        match &self.reader {
            Reader::Directory(directory) => files::read(&directory.join(path))
                .map_err(|error| self.unreadable(path).because(error)),
            Reader::Web(server) => match wait(server.get(path, MOST_BYTES)) {
                Ok((StatusCode::OK, bytes)) => Ok(Some(bytes)),
                Ok((StatusCode::NOT_FOUND | StatusCode::GONE, _)) => Ok(None),
                Ok((status, _)) => {
                    Err(self.unreadable(path).because(format!("the server answers {status}")))
                }
                Err(error) => Err(self.unreadable(path).because(error)),
            },
        }
    }
}
