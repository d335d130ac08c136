//! The authority's own signature over an approval, made outside the cluster.
//!
//! The signed bytes are
//!
//! ```text
//! daylight.dev/registration/v1
//! NAMESPACE/NAME
//! UID
//! DIGEST
//! ```
//!
//! where each line, including the last, ends with a line feed. `UID` is the registration's
//! `metadata.uid`, `DIGEST` its `approval.specDigest`, as `sha256:` and 64 hexadecimal digits. The
//! first line keeps it apart from anything else that the key may sign. Name and UID bind it to
//! one registration: one that is deleted and filed again needs another signature, and so does
//! every edit, since that is another digest. A revocation is final for its UID, so a signature
//! does not outlive it.
//!
//! The signature proves what was approved, not that the approval still holds: a user who may write
//! approvals can lift a suspension with the signature that was given before it. Removing a key from
//! the `ConfigMap` voids everything that it signed. A user who may edit that `ConfigMap`, or run
//! another program in Daylight's place, decides which signatures count; the journal has each change of the keys.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use daylight_crds::Registration;
use ed25519_dalek::{Signature, VerifyingKey};

/// The first line of every signed message, which names the purpose of the signature.
const DOMAIN: &str = "daylight.dev/registration/v1";

/// Prefix of an Ed25519 key in DER (`SubjectPublicKeyInfo`, RFC 8410); 32 bytes follow.
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The message that the authority signs to approve the spec with this digest.
pub fn message(registration: &Registration, digest: &str) -> String {
    let metadata = &registration.metadata;
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    format!(
        "{DOMAIN}\n{}/{}\n{}\n{digest}\n",
        part(&metadata.namespace),
        part(&metadata.name),
        part(&metadata.uid),
    )
}

/// The authority's public keys, by their ids.
#[derive(Clone, Debug, Default)]
pub struct AuthorityKeys {
    keys: Vec<(Box<str>, VerifyingKey)>,
}

/// A signature that does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// No key is known.
    #[error("the ConfigMap of the authority's keys has no key that can be read")]
    NoKeys,
    /// The text is not a signature.
    #[error("the signature is not 64 bytes in base64, as Ed25519 requires")]
    Malformed,
    /// Another key made it, or it was made for another message.
    #[error(
        "none of the authority's keys made the signature for this registration as approved; sign the bytes that `daylight approve --print-message` prints"
    )]
    Foreign,
}

impl AuthorityKeys {
    /// Reads keys from the entries of a `ConfigMap`: key id and key, which is PEM
    /// (`-----BEGIN PUBLIC KEY-----`) or its 32 bytes in base64. The second value
    /// has the ids of entries that are not keys.
    pub fn read<'a>(entries: impl Iterator<Item = (&'a str, &'a str)>) -> (Self, Vec<String>) {
        let (mut keys, mut unread) = (Vec::new(), Vec::new());
        for (id, text) in entries {
            match read_key(text) {
                Some(key) => keys.push((id.into(), key)),
                None => unread.push(id.to_owned()),
            }
        }
        (Self { keys }, unread)
    }

    /// The keys, each as its 32 bytes in base64, sorted.
    pub fn in_base64(&self) -> Vec<String> {
        let mut keys: Vec<String> =
            self.keys.iter().map(|(_, key)| STANDARD.encode(key.as_bytes())).collect();
        keys.sort_unstable();
        keys
    }

    /// Returns the id of the key that made the signature, which is 64 bytes in base64.
    pub fn verify(&self, message: &str, signature: &str) -> Result<&str, SignatureError> {
        if self.keys.is_empty() {
            return Err(SignatureError::NoKeys);
        }
        let bytes = STANDARD.decode(signature).map_err(|_| SignatureError::Malformed)?;
        let signature = Signature::from_slice(&bytes).map_err(|_| SignatureError::Malformed)?;
        let made = |key: &VerifyingKey| key.verify_strict(message.as_bytes(), &signature).is_ok();
        let found = self.keys.iter().find(|(_, key)| made(key));
        found.map(|(id, _)| &**id).ok_or(SignatureError::Foreign)
    }
}

fn read_key(text: &str) -> Option<VerifyingKey> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("-----"));
    let bytes = STANDARD.decode(lines.collect::<String>()).ok()?;
    let key = bytes.strip_prefix(&SPKI).unwrap_or(&bytes);
    VerifyingKey::from_bytes(key.try_into().ok()?).ok().filter(|key| !key.is_weak())
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};
    use serde_json::json;

    use super::*;

    fn registration(name: &str, uid: &str) -> Registration {
        serde_json::from_value(json!({
            "apiVersion": "daylight.dev/v1alpha1", "kind": "Registration",
            "metadata": {"name": name, "namespace": "team-a", "uid": uid},
            "spec": {
                "operator": {"name": "Aurora AS"}, "submittedBy": "ann", "activityClass": "pow",
                "site": "oslo", "pools": ["a"], "limits": {"gpus": 1},
                "validFrom": "2026-01-01T00:00:00Z", "validUntil": "2027-01-01T00:00:00Z",
            },
        }))
        .unwrap()
    }

    fn signed(key: &SigningKey, message: &str) -> String {
        STANDARD.encode(key.sign(message.as_bytes()).to_bytes())
    }

    #[test]
    fn what_is_signed_is_frozen() {
        assert_eq!(
            message(&registration("night", "0a1b"), "sha256:00ff"),
            "daylight.dev/registration/v1\nteam-a/night\n0a1b\nsha256:00ff\n"
        );
    }

    #[test]
    fn a_signature_counts_for_one_registration_as_it_is() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let public = STANDARD.encode(key.verifying_key().to_bytes());
        let der = [&SPKI[..], &key.verifying_key().to_bytes()].concat();
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode(der)
        );
        let night = message(&registration("night", "0a1b"), "sha256:00ff");
        let signature = signed(&key, &night);
        for text in [&public, &pem] {
            let entries = [("2025", "junk"), ("2026", text)];
            let (keys, unread) = AuthorityKeys::read(entries.into_iter());
            assert_eq!(unread, ["2025"]);
            assert_eq!(keys.verify(&night, &signature), Ok("2026"));
            for other in [
                message(&registration("day", "0a1b"), "sha256:00ff"),
                message(&registration("night", "0a1c"), "sha256:00ff"),
                message(&registration("night", "0a1b"), "sha256:00fe"),
            ] {
                assert_eq!(keys.verify(&other, &signature), Err(SignatureError::Foreign));
            }
            let foreign = signed(&SigningKey::from_bytes(&[8; 32]), &night);
            assert_eq!(keys.verify(&night, &foreign), Err(SignatureError::Foreign));
            assert_eq!(keys.verify(&night, "AAAA"), Err(SignatureError::Malformed));
        }
        let (none, _) = AuthorityKeys::read(std::iter::empty());
        assert_eq!(none.verify(&night, &signature), Err(SignatureError::NoKeys));
    }
}
