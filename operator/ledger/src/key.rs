//! Keys of signers, in the text forms of C2SP `signed-note` and of Go's package `note`.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::note::{Signature, is_key_name};

/// Type of a key that signs texts by Ed25519.
const ED25519: u8 = 0x01;

const PRIVATE: &str = "PRIVATE+KEY+";

/// Public key with a name. It is displayed as `name+number+key`, and parsed from that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: u32,
    public: Public,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Public {
    Ed25519(VerifyingKey),
}

/// Error of a text that is not a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A key's name is empty or has a character that it may not have.
    #[error(
        "{0:?} is not a name for a key: it is empty, or has a space, a + or a control character"
    )]
    Name(String),
    /// The text does not have the parts of a key.
    #[error("the public key is not of the form NAME+NUMBER+KEY, with the key in base64")]
    Verifier,
    /// The text does not have the parts of a private key. It is not repeated here.
    #[error(
        "the private key is not of the form PRIVATE+KEY+NAME+NUMBER+KEY, with the key in base64"
    )]
    Signer,
    /// The number is not that of the key and its name.
    #[error(
        "the number of the key {0} does not belong to this name and key: one of them was changed"
    )]
    Number(String),
    /// Daylight does not know such keys.
    #[error("the key {name} is of type 0x{kind:02x}, which is not supported here")]
    Kind { name: String, kind: u8 },
    /// The bytes are not a key of their type.
    #[error("the key {0} is not a valid public key of its type")]
    Invalid(String),
}

impl VerifierKey {
    /// Name of the key.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of the key, which the beginning of a hash over the key and its name is.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Returns `true` if the bytes are this key's signature over the text of a note.
    pub(crate) fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        match &self.public {
            // Strict, so that all verifiers agree about each signature.
            Public::Ed25519(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(text.as_bytes(), &signature).is_ok()),
        }
    }
}

impl AsRef<Self> for VerifierKey {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, id, public } = self;
        let key = match public {
            Public::Ed25519(key) => [&[ED25519][..], key.as_bytes()].concat(),
        };
        write!(f, "{name}+{id:08x}+{}", STANDARD.encode(key))
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (name, id, kind, key) = parts(text).ok_or(KeyError::Verifier)?;
        if !is_key_name(name) {
            return Err(KeyError::Name(name.to_owned()));
        }
        let public = match kind {
            ED25519 => key
                .as_slice()
                .try_into()
                .ok()
                .and_then(|key| VerifyingKey::from_bytes(key).ok())
                .map(Public::Ed25519),
            _ => return Err(KeyError::Kind { name: name.to_owned(), kind }),
        };
        let public = public.ok_or_else(|| KeyError::Invalid(name.to_owned()))?;
        if id != key_id(name, kind, &key) {
            return Err(KeyError::Number(name.to_owned()));
        }
        Ok(Self { name: name.to_owned(), id, public })
    }
}

/// Private key with which a log signs its checkpoints: Ed25519 over the text of the note.
#[derive(Clone)]
pub struct SigningKey {
    name: String,
    id: u32,
    key: ed25519_dalek::SigningKey,
}

impl SigningKey {
    /// Makes a key of 32 random bytes. The name of a log's key is the log's origin.
    ///
    /// # Errors
    ///
    /// A key cannot have this name.
    pub fn from_seed(name: &str, seed: [u8; 32]) -> Result<Self, KeyError> {
        if !is_key_name(name) {
            return Err(KeyError::Name(name.to_owned()));
        }
        let key = ed25519_dalek::SigningKey::from_bytes(&seed);
        let id = key_id(name, ED25519, key.verifying_key().as_bytes());
        Ok(Self { name: name.to_owned(), id, key })
    }

    /// Parses `PRIVATE+KEY+name+number+key`, without a newline at its end.
    ///
    /// # Errors
    ///
    /// The text is not such a key.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (name, id, kind, seed) =
            text.strip_prefix(PRIVATE).and_then(parts).ok_or(KeyError::Signer)?;
        if kind != ED25519 {
            return Err(KeyError::Kind { name: name.to_owned(), kind });
        }
        let key = Self::from_seed(name, seed.try_into().map_err(|_| KeyError::Signer)?)?;
        if key.id == id { Ok(key) } else { Err(KeyError::Number(name.to_owned())) }
    }

    /// Returns the text that [`SigningKey::parse`] reads: a secret.
    pub fn to_secret_text(&self) -> String {
        let Self { name, id, key } = self;
        let seed = [&[ED25519][..], key.as_bytes()].concat();
        format!("{PRIVATE}{name}+{id:08x}+{}", STANDARD.encode(seed))
    }

    /// Name of the key.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the public key.
    pub fn verifier(&self) -> VerifierKey {
        let public = Public::Ed25519(self.key.verifying_key());
        VerifierKey { name: self.name.clone(), id: self.id, public }
    }

    /// Signs the text of a note, which ends with a newline.
    pub fn sign(&self, text: &str) -> Signature {
        let signature = self.key.sign(text.as_bytes()).to_bytes().to_vec();
        Signature::new(self.name.clone(), self.id, signature)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Splits `name+number+base64(type, key)`.
fn parts(text: &str) -> Option<(&str, u32, u8, Vec<u8>)> {
    // A name has no `+`, but base64 may have some.
    let (name, rest) = text.split_once('+')?;
    let (id, key) = rest.split_once('+')?;
    let is_hexadecimal = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    if id.len() != 8 || !id.bytes().all(is_hexadecimal) {
        return None;
    }
    let key = STANDARD.decode(key).ok()?;
    let (kind, key) = key.split_first()?;
    Some((name, u32::from_str_radix(id, 16).ok()?, *kind, key.to_owned()))
}

fn key_id(name: &str, kind: u8, public: &[u8]) -> u32 {
    let hash = Sha256::new().chain_update(name).chain_update([b'\n', kind]).chain_update(public);
    let hash: [u8; 32] = hash.finalize().into();
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    // The pair of keys in the documentation of Go's package note.
    const SIGNER: &str =
        "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    const VERIFIER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

    #[test]
    fn go_keys_are_read_and_written() {
        let key = SigningKey::parse(SIGNER).unwrap();
        assert_eq!(key.to_secret_text(), SIGNER);
        assert_eq!(key.verifier().to_string(), VERIFIER);
        assert_eq!(key.verifier(), VERIFIER.parse().unwrap());
        assert!(!format!("{key:?}").contains("AYEK"));
        // Signed by Go's package note.
        let text = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n";
        assert_eq!(
            key.sign(text).to_string(),
            "\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
        );
    }

    #[test]
    fn what_is_not_a_key_is_refused() {
        let wrong = |from, to| VERIFIER.replace(from, to).parse::<VerifierKey>().unwrap_err();
        assert_eq!(wrong("Peter", "peter"), KeyError::Number("peterNeumann".into()));
        assert_eq!(wrong("c74f20a3", "c74f20a4"), KeyError::Number("PeterNeumann".into()));
        assert_eq!(wrong("c74f20a3", "C74F20A3"), KeyError::Verifier);
        assert_eq!(wrong("PeterN", "Peter N"), KeyError::Name("Peter Neumann".into()));
        assert_eq!(wrong("ARpc", "Arpc"), KeyError::Kind { name: "PeterNeumann".into(), kind: 2 });
        assert_eq!(wrong("ARpc", ""), KeyError::Kind { name: "PeterNeumann".into(), kind: 0xd9 });
        assert_eq!(SigningKey::parse(VERIFIER).unwrap_err(), KeyError::Signer);
        assert_eq!(
            SigningKey::parse(&SIGNER.replace("AYEK", "AYEL")).unwrap_err(),
            KeyError::Number("PeterNeumann".into())
        );
    }
}
