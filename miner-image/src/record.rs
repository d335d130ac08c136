//! The record of work that is left in the container's termination message, in the form of
//! `docs/metering.md`, "Work of miners".

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;

use crate::outcome::Outcome;

/// Kubernetes keeps 4,096 bytes of a termination message; so much of a sentence is enough.
const LONGEST: usize = 1024;

/// What was done.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record<'a> {
    /// The version of the record.
    #[serde(rename = "daylight.dev/work")]
    pub(crate) version: &'static str,
    /// Shares that the pool took.
    #[serde(serialize_with = "text")]
    pub(crate) shares_accepted: u64,
    /// Shares that it did not take, late ones included.
    #[serde(serialize_with = "text")]
    pub(crate) shares_rejected: u64,
    #[serde(serialize_with = "text")]
    pub(crate) hashes: u64,
    pub(crate) evidence: Evidence,
    /// How it ended, or `None` while it goes on.
    pub(crate) reason: Option<Outcome>,
    /// The same as a sentence.
    pub(crate) message: &'a str,
    pub(crate) engine: &'a str,
    pub(crate) algorithm: Option<&'a str>,
    /// Seconds in which the engine ran.
    pub(crate) seconds: u64,
    /// How often the engine was started again.
    pub(crate) restarts: u32,
}

/// Who saw what a record says: the agent, where it stands between engine and pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Evidence {
    /// The agent saw the pool take it.
    Seen,
    /// The engine says so.
    Claimed,
}

impl Evidence {
    /// The word in the record.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Claimed => "claimed",
        }
    }
}

impl Default for Record<'_> {
    fn default() -> Self {
        Self {
            version: "v1",
            shares_accepted: 0,
            shares_rejected: 0,
            hashes: 0,
            evidence: Evidence::Claimed,
            reason: None,
            message: "",
            engine: "",
            algorithm: None,
            seconds: 0,
            restarts: 0,
        }
    }
}

impl Record<'_> {
    /// Puts the record into `file`, over what was there. The file is a mount of its own in a
    /// container, so that no other one can take its place; what is written is never shorter than
    /// what was there for longer than a moment.
    pub(crate) fn write(&self, file: &Path) -> io::Result<()> {
        let end = self.message.floor_char_boundary(LONGEST);
        let cut = Record { message: &self.message[..end], ..*self };
        let mut line = serde_json::to_vec(&cut)?;
        line.push(b'\n');
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(file)?;
        file.write_all(&line)?;
        // A device such as a terminal has no length.
        if file.metadata()?.is_file() {
            file.set_len(line.len() as u64)?;
        }
        Ok(())
    }
}

/// Totals are written as text, since a JSON number may be read as one with 53 bits.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn text<S: serde::Serializer>(total: &u64, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_that_fits() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("termination-log");
        std::fs::write(&file, "x".repeat(9000)).unwrap();
        let said = "ä\n\"".repeat(2000);
        let record = Record {
            shares_accepted: 118,
            hashes: 9_000_000_000,
            reason: Some(Outcome::Drained),
            message: &said,
            engine: "xmrig",
            ..Record::default()
        };
        record.write(&file).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.len() < 4096, "{}", text.len());
        assert_eq!(text.lines().count(), 1);
        let start = r#"{"daylight.dev/work":"v1","sharesAccepted":"118","sharesRejected":"0","hashes":"9000000000","evidence":"claimed","reason":"Drained","#;
        assert!(text.starts_with(start), "{text}");
    }
}
