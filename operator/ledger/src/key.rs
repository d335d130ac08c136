//! Keys of signers, in the text forms of C2SP `signed-note` and of Go's package `note`.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::checkpoint::Checkpoint;
use crate::cosignature::{self, CosignError};
use crate::note::{Signature, is_key_name};

/// Type of a key that signs texts by Ed25519.
const ED25519: u8 = 0x01;

/// Type of a key that cosigns checkpoints by Ed25519.
const COSIGNATURE_ED25519: u8 = 0x04;

/// Type of a key that cosigns checkpoints by ML-DSA-44.
const COSIGNATURE_ML_DSA_44: u8 = 0x06;

const PRIVATE: &str = "PRIVATE+KEY+";

type MlDsaKey = ml_dsa::SigningKey<ml_dsa::MlDsa44>;
type MlDsaVerifier = ml_dsa::VerifyingKey<ml_dsa::MlDsa44>;

/// Public key with a name. It is displayed as `name+number+key`, and parsed from that.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifierKey {
    name: String,
    id: u32,
    public: Public,
}

#[derive(Clone, Debug, PartialEq)]
enum Public {
    Ed25519(VerifyingKey),
    CosignatureEd25519(VerifyingKey),
    CosignatureMlDsa44(Box<MlDsaVerifier>),
}

/// Error of a text that is not a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A key's name is empty or has a character that it may not have.
    #[error(
        "{0:?} is not a name for a key: it is empty, or has a space, a + or a control character"
    )]
    Name(String),
    /// A key's name is longer than its signatures can state.
    #[error("the name of a cosigning key has {0} bytes, but at most 255 are possible")]
    LongName(usize),
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
    /// The key is of a type that is not supported, or not for this purpose.
    #[error("the key {name} is of type 0x{kind:02x}, which is not supported here")]
    Kind { name: String, kind: u8 },
    /// The bytes are not a key of their type.
    #[error("the key {0} is not a valid public key of its type")]
    Invalid(String),
}

impl VerifierKey {
    fn new(name: &str, public: Public) -> Result<Self, KeyError> {
        if !is_key_name(name) {
            return Err(KeyError::Name(name.to_owned()));
        }
        let id = key_id(name, public.kind(), &public.bytes());
        Ok(Self { name: name.to_owned(), id, public })
    }

    /// Name of the key.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of the key, which the beginning of a hash over the key and its name is.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Returns `true` if its signatures are cosignatures: they have a time, and sign nothing but
    /// checkpoints.
    pub fn is_cosigner(&self) -> bool {
        match self.public {
            Public::Ed25519(_) => false,
            Public::CosignatureEd25519(_) | Public::CosignatureMlDsa44(_) => true,
        }
    }

    /// Returns `true` if both are one key, with whatever names and types.
    pub fn is_same_key(&self, other: &Self) -> bool {
        self.public.bytes() == other.public.bytes()
    }

    /// Returns `true` if the bytes are this key's signature over the text of a note.
    pub(crate) fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        match &self.public {
            Public::Ed25519(key) => verifies_ed25519(key, text.as_bytes(), signature),
            Public::CosignatureEd25519(key) => {
                cosignature::split(signature).is_some_and(|(time, signature)| {
                    let message = cosignature::ed25519_message(text, time);
                    verifies_ed25519(key, message.as_bytes(), signature)
                })
            }
            Public::CosignatureMlDsa44(key) => self.verifies_ml_dsa(key, text, signature).is_some(),
        }
    }

    fn verifies_ml_dsa(&self, key: &MlDsaVerifier, text: &str, signature: &[u8]) -> Option<()> {
        let (time, signature) = cosignature::split(signature)?;
        let signature = ml_dsa::Signature::try_from(signature).ok()?;
        let checkpoint = Checkpoint::parse(text).ok()?;
        let message = cosignature::ml_dsa_message(&self.name, &checkpoint, time).ok()?;
        key.verify_with_context(&message, &[], &signature).then_some(())
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, id, public } = self;
        let key = [&[public.kind()][..], &public.bytes()].concat();
        write!(f, "{name}+{id:08x}+{}", STANDARD.encode(key))
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (name, id, kind, key) = parts(text).ok_or(KeyError::Verifier)?;
        let invalid = || KeyError::Invalid(name.to_owned());
        let ed25519 = || VerifyingKey::try_from(key.as_slice()).map_err(|_| invalid());
        let public = match kind {
            ED25519 => Public::Ed25519(ed25519()?),
            COSIGNATURE_ED25519 => Public::CosignatureEd25519(ed25519()?),
            COSIGNATURE_ML_DSA_44 => {
                let key = key.as_slice().try_into().map_err(|_| invalid())?;
                Public::CosignatureMlDsa44(Box::new(MlDsaVerifier::decode(key)))
            }
            _ => return Err(KeyError::Kind { name: name.to_owned(), kind }),
        };
        let key = Self::new(name, public)?;
        if key.id == id { Ok(key) } else { Err(KeyError::Number(name.to_owned())) }
    }
}

impl Public {
    fn kind(&self) -> u8 {
        match self {
            Self::Ed25519(_) => ED25519,
            Self::CosignatureEd25519(_) => COSIGNATURE_ED25519,
            Self::CosignatureMlDsa44(_) => COSIGNATURE_ML_DSA_44,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(key) | Self::CosignatureEd25519(key) => key.as_bytes().to_vec(),
            Self::CosignatureMlDsa44(key) => key.encode().to_vec(),
        }
    }
}

// Strict, so that all verifiers agree about each signature.
fn verifies_ed25519(key: &VerifyingKey, message: &[u8], signature: &[u8]) -> bool {
    ed25519_dalek::Signature::from_slice(signature)
        .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok())
}

/// Private key with which a log signs its checkpoints: Ed25519 over the text of the note.
#[derive(Clone)]
pub struct SigningKey {
    verifier: VerifierKey,
    key: ed25519_dalek::SigningKey,
}

impl SigningKey {
    /// Makes a key of 32 random bytes. The name of a log's key is the log's origin.
    ///
    /// # Errors
    ///
    /// A key cannot have this name.
    pub fn from_seed(name: &str, seed: [u8; 32]) -> Result<Self, KeyError> {
        let key = ed25519_dalek::SigningKey::from_bytes(&seed);
        let verifier = VerifierKey::new(name, Public::Ed25519(key.verifying_key()))?;
        Ok(Self { verifier, key })
    }

    /// Parses `PRIVATE+KEY+name+number+key`, without a newline at its end.
    ///
    /// # Errors
    ///
    /// The text is not such a key.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (name, id, kind, seed) = private_parts(text)?;
        if kind != ED25519 {
            return Err(KeyError::Kind { name: name.to_owned(), kind });
        }
        let key = Self::from_seed(name, seed)?;
        if key.verifier.id == id { Ok(key) } else { Err(KeyError::Number(name.to_owned())) }
    }

    /// Returns the text that [`SigningKey::parse`] reads: a secret.
    pub fn to_secret_text(&self) -> String {
        secret_text(&self.verifier, self.key.as_bytes())
    }

    /// Name of the key.
    pub fn name(&self) -> &str {
        &self.verifier.name
    }

    /// Returns the public key.
    pub fn verifier(&self) -> VerifierKey {
        self.verifier.clone()
    }

    /// Signs the text of a note, which ends with a newline.
    pub fn sign(&self, text: &str) -> Signature {
        let signature = self.key.sign(text.as_bytes()).to_bytes().to_vec();
        Signature::new(self.name().to_owned(), self.verifier.id, signature)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("name", &self.name()).finish_non_exhaustive()
    }
}

/// Private key with which a witness cosigns the checkpoints of logs.
#[derive(Clone)]
pub struct CosigningKey {
    verifier: VerifierKey,
    secret: Secret,
}

#[derive(Clone)]
enum Secret {
    Ed25519(Box<ed25519_dalek::SigningKey>),
    MlDsa44(Box<MlDsaKey>),
}

impl CosigningKey {
    /// Makes an Ed25519 key of 32 random bytes.
    ///
    /// # Errors
    ///
    /// A key cannot have this name.
    pub fn ed25519(name: &str, seed: [u8; 32]) -> Result<Self, KeyError> {
        let key = ed25519_dalek::SigningKey::from_bytes(&seed);
        let verifier = VerifierKey::new(name, Public::CosignatureEd25519(key.verifying_key()))?;
        Ok(Self { verifier, secret: Secret::Ed25519(Box::new(key)) })
    }

    /// Makes an ML-DSA-44 key of 32 random bytes.
    ///
    /// # Errors
    ///
    /// A key cannot have this name, or it is longer than 255 bytes.
    pub fn ml_dsa_44(name: &str, seed: [u8; 32]) -> Result<Self, KeyError> {
        if name.len() > cosignature::MAX_NAME {
            return Err(KeyError::LongName(name.len()));
        }
        let key = MlDsaKey::from_seed(&seed.into());
        let public = Box::new(key.expanded_key().verifying_key());
        let verifier = VerifierKey::new(name, Public::CosignatureMlDsa44(public))?;
        Ok(Self { verifier, secret: Secret::MlDsa44(Box::new(key)) })
    }

    /// Parses `PRIVATE+KEY+name+number+key`, without a newline at its end.
    ///
    /// # Errors
    ///
    /// The text is not such a key.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (name, id, kind, seed) = private_parts(text)?;
        let key = match kind {
            COSIGNATURE_ED25519 => Self::ed25519(name, seed)?,
            COSIGNATURE_ML_DSA_44 => Self::ml_dsa_44(name, seed)?,
            _ => return Err(KeyError::Kind { name: name.to_owned(), kind }),
        };
        if key.verifier.id == id { Ok(key) } else { Err(KeyError::Number(name.to_owned())) }
    }

    /// Returns the text that [`CosigningKey::parse`] reads: a secret.
    pub fn to_secret_text(&self) -> String {
        match &self.secret {
            Secret::Ed25519(key) => secret_text(&self.verifier, key.as_bytes()),
            Secret::MlDsa44(key) => secret_text(&self.verifier, key.as_seed()),
        }
    }

    /// Name of the key.
    pub fn name(&self) -> &str {
        &self.verifier.name
    }

    /// Returns the public key.
    pub fn verifier(&self) -> VerifierKey {
        self.verifier.clone()
    }

    /// Cosigns a checkpoint at a time in seconds since 1970. Whether it is consistent with what this
    /// key cosigned before is the caller's duty: use [`Witness`](crate::Witness).
    ///
    /// # Errors
    ///
    /// ML-DSA-44 cannot sign the origin, or the time is 0 or exceeds 2^63 - 1.
    pub fn cosign(&self, checkpoint: &Checkpoint, time: u64) -> Result<Signature, CosignError> {
        if !(1..=cosignature::MAX_TIME).contains(&time) {
            return Err(CosignError::Time(time));
        }
        let signature = match &self.secret {
            Secret::Ed25519(key) => {
                let message = cosignature::ed25519_message(&checkpoint.to_string(), time);
                key.sign(message.as_bytes()).to_bytes().to_vec()
            }
            Secret::MlDsa44(key) => {
                let message = cosignature::ml_dsa_message(self.name(), checkpoint, time)?;
                key.sign(&message).encode().to_vec()
            }
        };
        let signature = [&time.to_be_bytes()[..], &signature].concat();
        Ok(Signature::new(self.name().to_owned(), self.verifier.id, signature))
    }
}

impl fmt::Debug for CosigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CosigningKey").field("name", &self.name()).finish_non_exhaustive()
    }
}

fn secret_text(verifier: &VerifierKey, seed: &[u8]) -> String {
    let VerifierKey { name, id, public } = verifier;
    let seed = [&[public.kind()][..], seed].concat();
    format!("{PRIVATE}{name}+{id:08x}+{}", STANDARD.encode(seed))
}

fn private_parts(text: &str) -> Result<(&str, u32, u8, [u8; 32]), KeyError> {
    let (name, id, kind, seed) =
        text.strip_prefix(PRIVATE).and_then(parts).ok_or(KeyError::Signer)?;
    Ok((name, id, kind, seed.try_into().map_err(|_| KeyError::Signer)?))
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

    #[test]
    fn cosigning_keys_are_read_back() {
        for key in [
            CosigningKey::ed25519("example.com/w", [3; 32]).unwrap(),
            CosigningKey::ml_dsa_44("example.com/w", [3; 32]).unwrap(),
        ] {
            let again = CosigningKey::parse(&key.to_secret_text()).unwrap();
            assert_eq!(again.to_secret_text(), key.to_secret_text());
            assert_eq!(key.verifier().to_string().parse(), Ok(again.verifier()));
            assert!(key.verifier().is_cosigner());
            assert!(matches!(
                SigningKey::parse(&key.to_secret_text()),
                Err(KeyError::Kind { kind: 4 | 6, .. })
            ));
        }
        let text = SigningKey::from_seed("example.com/w", [3; 32]).unwrap().verifier();
        let cosigner = CosigningKey::ed25519("example.com/w", [3; 32]).unwrap().verifier();
        assert!(text.is_same_key(&cosigner) && text != cosigner && text.id() != cosigner.id());
        assert_eq!(
            CosigningKey::ml_dsa_44(&"w".repeat(256), [0; 32]).unwrap_err(),
            KeyError::LongName(256)
        );
    }
}
