//! Checkpoints, by C2SP `tlog-checkpoint`.

use std::fmt;

use crate::decimal;
use crate::hash::Hash;
use crate::key::SigningKey;
use crate::note::{Note, NoteError};

/// Most entries of a log. Programs in other languages read sizes as signed numbers.
pub const MAX_SIZE: u64 = i64::MAX as u64;

/// State of a log that its signer vouches for. It is displayed as the text of a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the log, such as `example.com/ledger`. It is also the name of the log's key.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// Root hash of the tree of that size.
    pub root: Hash,
    /// Lines that C2SP leaves to the log. Daylight writes none.
    pub extensions: Vec<String>,
}

/// Error of a text that is not a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// A line is missing.
    #[error("the checkpoint has {0} lines instead of an origin, a size and a root hash")]
    Lines(usize),
    /// The text does not end with a newline, or a line is empty.
    #[error("the checkpoint has an empty line, or its last line has no end")]
    Empty,
    /// The second line is not a size.
    #[error("{0:?}, the second line of the checkpoint, is not a size")]
    Size(String),
    /// The third line is not a hash.
    #[error("{0:?}, the third line of the checkpoint, is not a hash of 32 bytes in base64")]
    Root(String),
}

impl Checkpoint {
    /// Describes a log without extension lines.
    pub fn new(origin: impl Into<String>, size: u64, root: Hash) -> Self {
        Self { origin: origin.into(), size, root, extensions: Vec::new() }
    }

    /// Parses the text of a note. Who signed the note is not looked at here.
    ///
    /// # Errors
    ///
    /// The text is not a checkpoint.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let lines = text.strip_suffix('\n').ok_or(CheckpointError::Empty)?;
        let mut lines = lines.split('\n');
        if lines.clone().any(str::is_empty) {
            return Err(CheckpointError::Empty);
        }
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next())
        else {
            return Err(CheckpointError::Lines(text.lines().count()));
        };
        Ok(Self {
            origin: origin.to_owned(),
            size: decimal::parse(size)
                .filter(|size| *size <= MAX_SIZE)
                .ok_or_else(|| CheckpointError::Size(size.to_owned()))?,
            root: Hash::from_base64(root).ok_or_else(|| CheckpointError::Root(root.to_owned()))?,
            extensions: lines.map(str::to_owned).collect(),
        })
    }

    /// Signs the checkpoint.
    ///
    /// # Errors
    ///
    /// The origin or an extension has a character that a note may not have, or there is no key.
    pub fn sign(&self, keys: &[&SigningKey]) -> Result<Note, NoteError> {
        let text = self.to_string();
        let signatures = keys.iter().map(|key| key.sign(&text)).collect();
        Note::new(text, signatures)
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, size, root, extensions } = self;
        writeln!(f, "{origin}\n{size}\n{}", root.to_base64())?;
        extensions.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";

    #[test]
    fn the_example_of_the_specification_is_read() {
        let checkpoint = Checkpoint::parse(TEXT).unwrap();
        assert_eq!(checkpoint.origin, "example.com/behind-the-sofa");
        assert_eq!(checkpoint.size, 20_852_163);
        assert_eq!(checkpoint.to_string(), TEXT);
        let extended = format!("{TEXT}one\ntwo\n");
        assert_eq!(Checkpoint::parse(&extended).unwrap().extensions, ["one", "two"]);
        assert_eq!(Checkpoint::parse(&extended).unwrap().to_string(), extended);
    }

    #[test]
    fn what_is_not_a_checkpoint_is_refused() {
        let wrong = |from: &str, to: &str| Checkpoint::parse(&TEXT.replace(from, to)).unwrap_err();
        assert_eq!(wrong("20852163", "020852163"), CheckpointError::Size("020852163".into()));
        assert_eq!(
            wrong("20852163", "9223372036854775808"),
            CheckpointError::Size("9223372036854775808".into())
        );
        assert!(matches!(wrong("q2I=", "q2J="), CheckpointError::Root(_)));
        assert!(matches!(wrong("CsUY", ""), CheckpointError::Root(_)));
        assert_eq!(wrong("=\n", "="), CheckpointError::Empty);
        assert_eq!(wrong("=\n", "=\n\n"), CheckpointError::Empty);
        assert_eq!(wrong("example.com/behind-the-sofa", ""), CheckpointError::Empty);
        assert_eq!(Checkpoint::parse("a\n1\n"), Err(CheckpointError::Lines(2)));
        assert_eq!(Checkpoint::parse(""), Err(CheckpointError::Empty));
    }
}
