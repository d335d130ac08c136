//! Pseudonyms of tenants and people in the journal.
//!
//! A pseudonym is the first 16 bytes of HMAC-SHA256 of a name under the installation's key, in
//! hexadecimal. The same name always has the same pseudonym, which reveals nothing without the key.
//! With the key, anyone can show which name a pseudonym belongs to.

use std::io;

use hmac::{Hmac, KeyInit as _, Mac as _};
use rustc_hash::FxHashMap;
use serde_json::Value;
use sha2::Sha256;

use super::journal::{Disk, JournalError};

/// File with the key: any text of [`KEY_BYTES`] or more.
const KEY: &str = "pseudonym.key";

/// Fewest bytes of a key. With a shorter one, names could be found by trying keys.
const KEY_BYTES: usize = 16;

/// Before the name of a person. No namespace and no object has a colon in its name, so that a person
/// and a namespace of one name have different pseudonyms.
const PERSON: &str = "user:";

/// Pseudonyms that are kept rather than computed again. It bounds their memory; the names in use on
/// a site are far fewer.
const REMEMBERED: usize = 100_000;

/// Replaces names by pseudonyms.
#[derive(Debug)]
pub struct Pseudonyms {
    hmac: Hmac<Sha256>,
    known: FxHashMap<Box<str>, Box<str>>,
}

/// Kind of a name in an entry.
#[derive(Clone, Copy)]
enum NameKind {
    /// A namespace.
    Namespace,
    /// A person.
    Person,
    /// An object, as `namespace/name`.
    Object,
}

/// Reads the key of a journal; `None` if it has none.
pub(super) fn read_key(disk: &impl Disk) -> Result<Option<Vec<u8>>, JournalError> {
    disk.read(KEY).map_err(|error| JournalError::Disk { path: KEY.into(), error })
}

/// Writes the key of a journal.
pub(super) fn write_key(disk: &mut impl Disk, key: &[u8]) -> Result<(), JournalError> {
    disk.replace(KEY, key).map_err(|error| JournalError::Disk { path: KEY.into(), error })
}

/// Copies the key of a journal to the disk of one that continues it, so that pseudonyms stay the same.
pub(super) fn copy_key(from: &impl Disk, to: &mut impl Disk) -> Result<(), JournalError> {
    let key = read_key(from)?.ok_or_else(missing)?;
    write_key(to, &key)
}

fn missing() -> JournalError {
    JournalError::Damaged(format!("{KEY}, the key of its pseudonyms, is missing"))
}

impl Pseudonyms {
    /// Pseudonyms under the key on the disk. `is_new` creates a key for a new journal. In an older
    /// one, another key would give the same names other pseudonyms.
    ///
    /// # Errors
    ///
    /// The key cannot be read, is missing or too short.
    pub fn open(disk: &mut impl Disk, is_new: bool) -> Result<Self, JournalError> {
        let failed = |error| JournalError::Disk { path: KEY.into(), error };
        match read_key(disk)? {
            Some(key) if key.trim_ascii().len() < KEY_BYTES => Err(JournalError::ShortKey {
                path: KEY,
                bytes: key.trim_ascii().len(),
                fewest: KEY_BYTES,
            }),
            Some(key) => Ok(Self::new(key.trim_ascii())),
            None if is_new => {
                let mut bytes = [0_u8; 32];
                getrandom::fill(&mut bytes).map_err(|error| failed(io::Error::other(error)))?;
                let key = hex::encode(bytes);
                write_key(disk, key.as_bytes())?;
                Ok(Self::new(key.as_bytes()))
            }
            None => Err(missing()),
        }
    }

    /// Pseudonyms under a key.
    pub fn new(key: &[u8]) -> Self {
        let hmac =
            Hmac::new_from_slice(key).unwrap_or_else(|_| unreachable!("a key may have any length"));
        Self { hmac, known: FxHashMap::default() }
    }

    /// Replaces the names in an entry by pseudonyms.
    pub(crate) fn hide(&mut self, entry: &mut Value) {
        each_name(entry, &mut |kind, text| match kind {
            NameKind::Namespace => self.of(text),
            NameKind::Person => self.of(&format!("{PERSON}{text}")),
            // The whole text and not its second half: two tenants may use the same name, and the
            // journal should not show that.
            NameKind::Object => self.of_object(text),
        });
    }

    /// Returns the pseudonym of a registration.
    pub(crate) fn of_registration(&mut self, registration: &str) -> daylight_base::Name {
        self.of_object(registration).into()
    }

    fn of_object(&mut self, name: &str) -> String {
        let namespace = name.split_once('/').map_or("", |(namespace, _)| namespace);
        format!("{}/{}", self.of(namespace), self.of(name))
    }

    fn of(&mut self, name: &str) -> String {
        if let Some(pseudonym) = self.known.get(name) {
            return pseudonym.to_string();
        }
        let code = self.hmac.clone().chain_update(name).finalize().into_bytes();
        let pseudonym = hex::encode(&code[..16]);
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(name.into(), pseudonym.as_str().into());
        pseudonym
    }
}

/// Changes each string of an entry that names a tenant, a tenant's object, or a person.
///
/// A new field with such a name belongs in this list; `tests/e2e/metering.rs` looks for names in
/// every entry of a journal.
fn each_name(value: &mut Value, change: &mut impl FnMut(NameKind, &str) -> String) {
    match value {
        Value::Object(fields) => {
            let is_of_tenant = |object: &Value| object == "Registration" || object == "Declaration";
            let of_tenant = fields.get("object").is_some_and(is_of_tenant);
            for (field, value) in fields {
                let kind = match field.as_str() {
                    "namespace" => Some(NameKind::Namespace),
                    "by" => Some(NameKind::Person),
                    "registration" | "pod" | "holder" => Some(NameKind::Object),
                    "name" if of_tenant => Some(NameKind::Object),
                    _ => None,
                };
                // A job is named like its pods, in a field that others have for other names.
                if field == "job"
                    && let Some(Value::String(name)) = value.get_mut("name")
                {
                    *name = change(NameKind::Object, name);
                }
                match (kind, value) {
                    (Some(kind), Value::String(text)) => *text = change(kind, text),
                    (_, value) => each_name(value, change),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| each_name(value, change)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde_json::json;

    use super::*;

    #[derive(Default)]
    struct Memory(HashMap<String, Vec<u8>>);

    impl Disk for Memory {
        fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
            Ok(self.0.get(path).cloned())
        }

        fn extend(&mut self, path: &str, keep: u64, bytes: &[u8]) -> io::Result<()> {
            let file = self.0.entry(path.into()).or_default();
            file.truncate(usize::try_from(keep).unwrap());
            file.extend_from_slice(bytes);
            Ok(())
        }

        fn replace(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
            self.0.insert(path.into(), bytes.into());
            Ok(())
        }

        fn sync(&mut self, _: &str) -> io::Result<()> {
            Ok(())
        }

        fn remove(&mut self, path: &str) -> io::Result<()> {
            self.0.remove(path);
            Ok(())
        }
    }

    fn entry() -> Value {
        json!({
            "kind": "node", "node": "gpu-7", "used": [{"registration": "acme/night"}],
            "closed": [{"lease": {
                "pod": "acme/night-0", "job": {"kind": "AIJob", "name": "acme/night", "uid": "1b"},
                "account": {"class": "pow-mining", "registration": "acme/night", "namespace": "acme"},
            }}],
            "state": {"devices": [{"id": "GPU-1", "last": {"holder": "acme/night-0"}}]},
        })
    }

    #[test]
    fn names_are_hidden_and_nothing_else() {
        let mut hidden = entry();
        Pseudonyms::new(b"secret").hide(&mut hidden);
        let text = hidden.to_string();
        assert!(!text.contains("acme") && !text.contains("night"), "{text}");
        assert!(text.contains("pow-mining") && text.contains("gpu-7") && text.contains("GPU-1"));
        let lease = &hidden["closed"][0]["lease"];
        assert_eq!(lease["pod"], hidden["state"]["devices"][0]["last"]["holder"]);
        assert_eq!(lease["account"]["registration"], hidden["used"][0]["registration"]);
        assert_eq!((&lease["job"]["kind"], &lease["job"]["uid"]), (&json!("AIJob"), &json!("1b")));
        let namespace = lease["account"]["namespace"].as_str().unwrap();
        assert!(lease["pod"].as_str().unwrap().starts_with(&format!("{namespace}/")));
    }

    #[test]
    fn objects_of_tenants_are_hidden_and_others_are_not() {
        let mut pseudonyms = Pseudonyms::new(b"secret");
        for (object, is_hidden) in
            [("Registration", true), ("Declaration", true), ("GpuPool", false)]
        {
            let mut entry = json!({"object": object, "name": "acme/night-2026-11"});
            pseudonyms.hide(&mut entry);
            let is_kept = entry["name"] == "acme/night-2026-11";
            assert_eq!(is_kept, !is_hidden, "{object}");
        }
    }

    #[test]
    fn the_key_is_created_once_and_missed_if_it_is_gone() {
        let mut disk = Memory::default();
        let mut first = Pseudonyms::open(&mut disk, true).unwrap();
        let mut again = Pseudonyms::open(&mut disk, true).unwrap();
        assert_eq!(first.of("acme"), again.of("acme"));
        disk.0.remove(KEY);
        let error = Pseudonyms::open(&mut disk, false).unwrap_err().to_string();
        assert!(error.contains("pseudonym.key, the key of its pseudonyms, is missing"), "{error}");
    }

    #[test]
    fn a_key_that_is_empty_or_short_is_refused() {
        for key in ["", "\n", "0123456789abcde", "   0123456789abcde\n"] {
            let mut disk = Memory::default();
            disk.replace(KEY, key.as_bytes()).unwrap();
            let error = Pseudonyms::open(&mut disk, true).unwrap_err().to_string();
            assert!(error.contains("write 16 or more random bytes into it"), "{error}");
        }
        let mut disk = Memory::default();
        disk.replace(KEY, b"0123456789abcdef\n").unwrap();
        assert!(Pseudonyms::open(&mut disk, false).is_ok());
    }

    #[test]
    fn a_person_and_a_namespace_of_one_name_are_told_apart() {
        let mut hidden = json!({"namespace": "acme", "decision": {"by": "acme"}});
        let mut pseudonyms = Pseudonyms::new(b"secret");
        pseudonyms.hide(&mut hidden);
        assert_eq!(hidden["namespace"], pseudonyms.of("acme"));
        // printf user:acme | openssl dgst -sha256 -mac HMAC -macopt key:secret
        assert_eq!(hidden["decision"]["by"], pseudonyms.of("user:acme"));
        assert_ne!(hidden["namespace"], hidden["decision"]["by"]);
    }

    #[test]
    fn a_pseudonym_can_be_computed_with_the_key() {
        // printf acme | openssl dgst -sha256 -mac HMAC -macopt key:secret
        let mut pseudonyms = Pseudonyms::new(b"secret");
        assert_eq!(pseudonyms.of("acme"), "700f8a71077438948e68c52f90421d3f");
    }
}
