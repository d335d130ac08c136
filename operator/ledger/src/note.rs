//! Signed texts, by C2SP `signed-note`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::cosignature;
use crate::key::VerifierKey;

/// Most bytes of a note.
const MAX_BYTES: usize = 1_000_000;

/// Most signatures of a note.
const MAX_SIGNATURES: usize = 100;

/// First characters of a signature line.
const DASH: &str = "\u{2014} ";

/// Text with signatures. It is displayed as it is stored and sent.
///
/// A note that was parsed is not verified: what its text states counts only after [`Note::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Ends with a newline.
    text: String,
    signatures: Vec<Signature>,
}

/// Signature line of a note. It is displayed without the end of its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    name: String,
    id: u32,
    bytes: Vec<u8>,
}

/// Signature that was verified.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verified<'a> {
    /// Key that made it.
    pub key: &'a VerifierKey,
    /// Signature itself.
    pub signature: &'a Signature,
}

/// Error of a note.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is longer than a note may be.
    #[error("a note of {0} bytes exceeds the limit of {MAX_BYTES}")]
    TooLong(usize),
    /// It has more signatures than a note may have.
    #[error("the note has more than {MAX_SIGNATURES} signatures")]
    TooMany,
    /// It has a control character.
    #[error("the note has the control character {0:?}")]
    Control(char),
    /// It has no signatures, or no empty line before them.
    #[error("the note has no signature lines after an empty line")]
    Unsigned,
    /// A signature line is not one.
    #[error(
        "{0:?} is not a signature line: a dash (U+2014), the key's name, and the signature in base64"
    )]
    Line(String),
    /// A known key's signature is not one over this text.
    #[error("the signature of {0} is wrong: the text or the signature was changed")]
    Wrong(String),
    /// None of the keys signed it.
    #[error("none of the known keys ({0}) signed the note")]
    Unknown(String),
}

impl Verified<'_> {
    /// Returns when a cosignature was made, in seconds since 1970; `None` for another signature.
    pub fn time(&self) -> Option<u64> {
        let (time, _) = cosignature::split(&self.signature.bytes)?;
        self.key.is_cosigner().then_some(time)
    }
}

impl Note {
    /// Combines a text with signatures.
    ///
    /// # Errors
    ///
    /// There is no signature, or the whole would not be parsed as this note.
    pub fn new(text: String, signatures: Vec<Signature>) -> Result<Self, NoteError> {
        let note = Self { text, signatures };
        match Self::parse(&note.to_string())? {
            parsed if parsed == note => Ok(note),
            // The text does not end with one newline.
            _ => Err(NoteError::Unsigned),
        }
    }

    /// Parses a note, and verifies none of its signatures.
    ///
    /// # Errors
    ///
    /// It is not a note, or exceeds 1,000,000 bytes or 100 signatures.
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if note.len() > MAX_BYTES {
            return Err(NoteError::TooLong(note.len()));
        }
        if let Some(control) = note.chars().find(|character| *character < ' ' && *character != '\n')
        {
            return Err(NoteError::Control(control));
        }
        let before = note.rfind("\n\n").ok_or(NoteError::Unsigned)?;
        let (text, lines) = (&note[..=before], &note[before + 2..]);
        let signatures = Signature::parse_lines(lines)?;
        if signatures.is_empty() {
            return Err(NoteError::Unsigned);
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// Text that is signed, with the newline at its end.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Signatures, of known and unknown keys.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// Adds signatures, such as those of witnesses, unless they are there.
    ///
    /// # Errors
    ///
    /// The note would have too many. It is unchanged then.
    pub fn add(
        &mut self,
        signatures: impl IntoIterator<Item = Signature>,
    ) -> Result<(), NoteError> {
        let mut all = self.signatures.clone();
        for signature in signatures {
            if !all.contains(&signature) {
                all.push(signature);
            }
        }
        *self = Self::new(self.text.clone(), all)?;
        Ok(())
    }

    /// Adds those of a witness's signature lines that these keys made, and returns how many.
    ///
    /// # Errors
    ///
    /// The lines are not signature lines, a signature of a known key is wrong, or none of the keys made
    /// one. The note is unchanged then.
    pub fn add_lines(&mut self, lines: &str, keys: &[VerifierKey]) -> Result<usize, NoteError> {
        let answer = Self::new(self.text.clone(), Signature::parse_lines(lines)?)?;
        let verified: Vec<Signature> =
            answer.verify(keys)?.into_iter().map(|verified| verified.signature.clone()).collect();
        let count = verified.len();
        self.add(verified)?;
        Ok(count)
    }

    /// Verifies the signatures of known keys, and ignores those of others.
    ///
    /// # Errors
    ///
    /// One of the known keys' signatures is wrong, or there is none.
    pub fn verify<'a>(&'a self, keys: &'a [VerifierKey]) -> Result<Vec<Verified<'a>>, NoteError> {
        self.verify_all(&keys.iter().collect::<Vec<_>>())
    }

    /// Like [`Note::verify`], of keys that are in several places.
    pub(crate) fn verify_all<'a>(
        &'a self,
        keys: &[&'a VerifierKey],
    ) -> Result<Vec<Verified<'a>>, NoteError> {
        let mut verified = Vec::new();
        for signature in &self.signatures {
            let made =
                |key: &&&VerifierKey| key.name() == signature.name && key.id() == signature.id;
            let Some(key) = keys.iter().find(made) else { continue };
            if !key.verifies(&self.text, &signature.bytes) {
                return Err(NoteError::Wrong(signature.name.clone()));
            }
            verified.push(Verified { key, signature });
        }
        if verified.is_empty() {
            let names: Vec<&str> = keys.iter().map(|key| key.name()).collect();
            return Err(NoteError::Unknown(names.join(", ")));
        }
        Ok(verified)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

impl Signature {
    /// Describes the signature `bytes` of the key with this name and number.
    pub(crate) fn new(name: String, id: u32, bytes: Vec<u8>) -> Self {
        Self { name, id, bytes }
    }

    /// Parses signature lines, such as a witness answers with, each with the end of its line.
    ///
    /// # Errors
    ///
    /// A line is not a signature line, or there are more than 100.
    pub fn parse_lines(lines: &str) -> Result<Vec<Self>, NoteError> {
        let mut signatures = Vec::new();
        for line in lines.split_inclusive('\n') {
            if signatures.len() == MAX_SIGNATURES {
                return Err(NoteError::TooMany);
            }
            let signature = line.strip_suffix('\n').and_then(Self::parse);
            signatures
                .push(signature.ok_or_else(|| NoteError::Line(line.chars().take(100).collect()))?);
        }
        Ok(signatures)
    }

    fn parse(line: &str) -> Option<Self> {
        let (name, signature) = line.strip_prefix(DASH)?.split_once(' ')?;
        let signature = STANDARD.decode(signature).ok()?;
        let (id, bytes) = signature.split_first_chunk::<4>()?;
        (is_key_name(name) && !bytes.is_empty()).then(|| Self {
            name: name.to_owned(),
            id: u32::from_be_bytes(*id),
            bytes: bytes.to_owned(),
        })
    }

    /// Name of the key.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of the key, which the beginning of a hash over the key and its name is.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Signature after the number of the key.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, id, bytes } = self;
        let signature = [&id.to_be_bytes()[..], bytes].concat();
        write!(f, "{DASH}{name} {}", STANDARD.encode(signature))
    }
}

/// Returns `true` if a key may have this name: it is not empty, and has no space, `+` or control
/// character.
pub fn is_key_name(name: &str) -> bool {
    let is_refused =
        |character: char| character.is_whitespace() || character.is_control() || character == '+';
    !name.is_empty() && !name.contains(is_refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SigningKey;

    const KEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    const NOTE: &str = "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

    #[test]
    fn the_example_of_the_specification_verifies() {
        let keys: [VerifierKey; 1] = [KEY.parse().unwrap()];
        let note = Note::parse(NOTE).unwrap();
        assert_eq!(note.text(), "This is an example message.\n");
        assert_eq!(note.verify(&keys).unwrap()[0].key, &keys[0]);
        assert_eq!(note.to_string(), NOTE);
        assert_eq!(keys[0].to_string(), KEY);

        let changed = Note::parse(&NOTE.replace("This", "That")).unwrap();
        assert_eq!(changed.verify(&keys), Err(NoteError::Wrong("example.com/foo".into())));
    }

    #[test]
    fn signatures_of_unknown_keys_are_ignored() {
        let key = SigningKey::from_seed("example.com/foo", [1; 32]).unwrap();
        let other = SigningKey::from_seed("example.com/foo", [2; 32]).unwrap();
        let text = "text\n\nwith an empty line\n";
        let note = Note::new(text.into(), vec![other.sign(text), key.sign(text)]).unwrap();
        let keys = [key.verifier()];
        assert_eq!(note.verify(&keys).unwrap().len(), 1);
        let unknown = [SigningKey::from_seed("example.com/bar", [1; 32]).unwrap().verifier()];
        assert_eq!(note.verify(&unknown), Err(NoteError::Unknown("example.com/bar".into())));
        assert_eq!(Note::parse(&note.to_string()), Ok(note));
    }

    #[test]
    fn what_is_not_a_note_is_refused() {
        let wrong = |note: &str| Note::parse(note).unwrap_err();
        assert_eq!(wrong(""), NoteError::Unsigned);
        assert_eq!(wrong("text\n"), NoteError::Unsigned);
        assert_eq!(wrong("text\n\n"), NoteError::Unsigned);
        assert_eq!(wrong(&NOTE.replace("This", "\rThis")), NoteError::Control('\r'));
        for line in [
            "\u{2014} a AAAAAAA=",
            "\u{2014} a AAAAAA==\n",
            "- a AAAAAAA=\n",
            "\u{2014} a+b AAAAAAA=\n",
            "\u{2014} a\u{3000}b AAAAAAA=\n",
            "\u{2014}  AAAAAAA=\n",
            "\u{2014} a AAAAAAA\n",
            "\u{2014} a AAAAAAB=\n",
            "\u{2014} a AAAAAAA= \n",
            "\u{2014} a\n",
            "other\n",
        ] {
            assert!(matches!(wrong(&format!("text\n\n{line}")), NoteError::Line(_)), "{line:?}");
        }
        let line = "\u{2014} a AAAAAAA=\n";
        assert!(Note::parse(&format!("text\n\n{}", line.repeat(100))).is_ok());
        assert_eq!(wrong(&format!("text\n\n{}", line.repeat(101))), NoteError::TooMany);
        assert_eq!(wrong(&"\n".repeat(1_000_001)), NoteError::TooLong(1_000_001));
    }

    #[test]
    fn a_text_that_would_be_read_otherwise_is_not_signed() {
        let key = SigningKey::from_seed("example.com/foo", [1; 32]).unwrap();
        for text in ["", "text", "te\rxt\n"] {
            assert!(Note::new(text.into(), vec![key.sign(text)]).is_err(), "{text:?}");
        }
        assert_eq!(Note::new("text\n".into(), vec![]), Err(NoteError::Unsigned));
    }
}
