//! Places from which a ledger is read.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use daylight_ledger::{CHECKPOINT, Files, Note};
use http_body_util::{BodyExt as _, Limited};
use kube::client::Body;
use tokio::runtime::Handle;

use crate::cli::error::{CommandError, ErrorCode};
use crate::connection;

/// Most bytes of a file: a bundle of 256 entries of the greatest length has fewer.
const MOST_BYTES: usize = 17 << 20;

/// Time that a web server has to answer.
const TIMEOUT: Duration = Duration::from_secs(30);

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
    /// Opens it for reading.
    pub(super) fn open(&self) -> Result<Opened<'_>, CommandError> {
        let reader = match self {
            Self::Directory(path) => Reader::Directory(path.clone()),
            Self::Web(url) => {
                let invalid = || {
                    CommandError::new(format!("{url} is not the address of a ledger"))
                        .code(ErrorCode::Invalid)
                };
                let uri: http::Uri = url.parse().map_err(|error| invalid().because(error))?;
                let config = kube::Config::new(uri);
                let client =
                    connection::client(&config).map_err(|error| invalid().because(error))?;
                Reader::Web(client)
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
    /// Paths are relative to the address of the ledger.
    Web(kube::Client),
}

impl Opened<'_> {
    /// Reads the checkpoint. Its signatures are not verified here.
    pub(super) fn checkpoint(&self) -> Result<Note, CommandError> {
        let Some(bytes) = self.read(CHECKPOINT)? else { return Err(self.absent()) };
        let text = String::from_utf8(bytes);
        let text =
            text.map_err(|error| self.invalid("has a checkpoint that is not text").because(error))?;
        Note::parse(&text)
            .map_err(|error| self.invalid("has a checkpoint that cannot be read").because(error))
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
            Reader::Directory(directory) => match std::fs::read(directory.join(path)) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(self.unreadable(path).because(error)),
            },
            Reader::Web(client) => {
                let request = http::Request::get(format!("/{path}")).body(Body::empty());
                let request = request.map_err(|error| self.unreadable(path).because(error))?;
                let answer = tokio::task::block_in_place(|| {
                    Handle::current().block_on(tokio::time::timeout(TIMEOUT, get(client, request)))
                });
                match answer {
                    Ok(Ok((http::StatusCode::OK, bytes))) => Ok(Some(bytes)),
                    Ok(Ok((http::StatusCode::NOT_FOUND | http::StatusCode::GONE, _))) => Ok(None),
                    Ok(Ok((status, _))) => {
                        Err(self.unreadable(path).because(format!("the server answers {status}")))
                    }
                    Ok(Err(error)) => Err(self.unreadable(path).because(error)),
                    Err(error) => Err(self.unreadable(path).because(error)),
                }
            }
        }
    }
}

async fn get(
    client: &kube::Client,
    request: http::Request<Body>,
) -> Result<(http::StatusCode, Vec<u8>), Box<dyn std::error::Error + Send + Sync>> {
    let (head, body) = client.send(request).await?.into_parts();
    let body = Limited::new(body, MOST_BYTES).collect().await?;
    Ok((head.status, body.to_bytes().to_vec()))
}
