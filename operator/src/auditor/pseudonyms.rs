//! Names of tenants stand in the journal only as pseudonyms.
//!
//! A pseudonym is HMAC-SHA256 of a name under the installation's key, its first 16 bytes in
//! hexadecimal: the same name always has the same one, and without the key it tells nothing. Who
//! has the key can show which name one stands for. The auditor itself goes on from the journal with
//! real names, so it keeps them in a file beside it, which is not for others.

use std::fmt::Write as _;
use std::io;

use hmac::{Hmac, KeyInit as _, Mac as _};
use rustc_hash::FxHashMap;
use serde_json::Value;
use sha2::Sha256;

use super::journal::{Disk, JournalError};

/// The file with the key: any text.
const KEY: &str = "pseudonym.key";
/// The file with the names: in each line a pseudonym and what it stands for, as JSON.
const NAMES: &str = "names";

/// A pseudonym, and the name it stands for.
pub(super) type Named = (Box<str>, Box<str>);

/// Gives names their pseudonyms.
#[derive(Debug)]
pub(super) struct Pseudonyms {
    hmac: Hmac<Sha256>,
    /// By their names, those that the file has, or is to have.
    known: FxHashMap<Box<str>, Box<str>>,
    /// Those of them that the file does not have yet.
    new: Vec<Named>,
}

/// The file of names. It may have more than the journal needs, and never less.
#[derive(Debug)]
pub(super) struct Names {
    length: u64,
}

/// What a string of an entry names.
#[derive(Clone, Copy)]
enum Is {
    /// A namespace, or a person.
    Name,
    /// Something in a namespace, as `namespace/name`.
    InNamespace,
}

impl Pseudonyms {
    /// With a key; those that stand for `names` are known.
    fn new(key: &[u8], names: Vec<Named>) -> Self {
        let hmac = Hmac::new_from_slice(key).unwrap_or_else(|_| unreachable!("any length will do"));
        let known = names.into_iter().map(|(pseudonym, name)| (name, pseudonym)).collect();
        Self { hmac, known, new: Vec::new() }
    }

    /// Puts pseudonyms in the place of names in an entry.
    pub(super) fn hide(&mut self, entry: &mut Value) {
        each_name(entry, &mut |is, text| match is {
            Is::Name => self.of(text),
            Is::InNamespace => {
                let namespace = text.split_once('/').map_or("", |(namespace, _)| namespace);
                format!("{}/{}", self.of(namespace), self.of(text))
            }
        });
    }

    fn of(&mut self, name: &str) -> String {
        if let Some(pseudonym) = self.known.get(name) {
            return pseudonym.to_string();
        }
        let code = self.hmac.clone().chain_update(name).finalize().into_bytes();
        let mut pseudonym = String::with_capacity(32);
        for byte in &code[..16] {
            let _ = write!(pseudonym, "{byte:02x}");
        }
        self.known.insert(name.into(), pseudonym.as_str().into());
        self.new.push((pseudonym.as_str().into(), name.into()));
        pseudonym
    }

    /// The names that the file does not have yet.
    pub(super) fn take_new(&mut self) -> Vec<Named> {
        std::mem::take(&mut self.new)
    }

    /// The file begins anew: it will have only the names that are used from now on.
    pub(super) fn begin_anew(&mut self) {
        self.known.clear();
    }
}

impl Names {
    /// Opens the file, and the key beside it, which is made the first time. Puts the names back in
    /// the place of pseudonyms in `entries`.
    pub(super) fn open(
        disk: &mut impl Disk,
        entries: &mut [Value],
    ) -> Result<(Self, Pseudonyms), JournalError> {
        let names = read(disk, NAMES)?;
        let key = match (read(disk, KEY)?, &names) {
            (Some(key), _) => key.trim_ascii().to_vec(),
            (None, Some(_)) => {
                return Err(JournalError::Damaged(format!(
                    "{KEY} is missing, by which its names became pseudonyms"
                )));
            }
            (None, None) => make_key(disk)?,
        };
        let text = names.unwrap_or_default();
        // A line that a crash cut off belongs to nothing that was committed.
        let length = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let lines = text[..length].split(|byte| *byte == b'\n');
        let named: Vec<Named> =
            lines.filter_map(|line| serde_json::from_slice(line).ok()).collect();
        let real: FxHashMap<&str, &str> =
            named.iter().map(|(pseudonym, name)| (&**pseudonym, &**name)).collect();
        for entry in entries {
            // What has no name any more keeps its pseudonym.
            each_name(entry, &mut |_, text| {
                let own = text.rsplit('/').next().unwrap_or(text);
                real.get(own).map_or(text, |name| name).to_owned()
            });
        }
        Ok((Self { length: length as u64 }, Pseudonyms::new(&key, named)))
    }

    /// Adds names, durable.
    pub(super) fn add(&mut self, disk: &mut impl Disk, new: &[Named]) -> Result<(), JournalError> {
        if new.is_empty() {
            return Ok(());
        }
        let text = lines(new);
        disk.extend(NAMES, self.length, &text).map_err(|error| failed(NAMES, error))?;
        self.length += text.len() as u64;
        Ok(())
    }

    /// Keeps only these.
    pub(super) fn keep(
        &mut self,
        disk: &mut impl Disk,
        only: &[Named],
    ) -> Result<(), JournalError> {
        let text = lines(only);
        disk.replace(NAMES, &text).map_err(|error| failed(NAMES, error))?;
        self.length = text.len() as u64;
        Ok(())
    }
}

fn make_key(disk: &mut impl Disk) -> Result<Vec<u8>, JournalError> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| failed(KEY, io::Error::other(error)))?;
    let mut key = String::with_capacity(64);
    for byte in bytes {
        let _ = write!(key, "{byte:02x}");
    }
    disk.replace(KEY, key.as_bytes()).map_err(|error| failed(KEY, error))?;
    Ok(key.into_bytes())
}

fn lines(names: &[Named]) -> Vec<u8> {
    let mut text = Vec::new();
    for name in names {
        // Two strings: that cannot fail.
        text.extend(serde_json::to_vec(name).unwrap_or_default());
        text.push(b'\n');
    }
    text
}

fn read(disk: &impl Disk, path: &str) -> Result<Option<Vec<u8>>, JournalError> {
    disk.read(path).map_err(|error| failed(path, error))
}

fn failed(path: &str, error: io::Error) -> JournalError {
    JournalError::Disk { path: path.into(), error }
}

/// Changes each string of an entry that names a tenant, something of a tenant, or a person.
fn each_name(value: &mut Value, change: &mut impl FnMut(Is, &str) -> String) {
    match value {
        Value::Object(fields) => {
            let of_registration =
                fields.get("object").is_some_and(|object| object == "Registration");
            for (field, value) in fields {
                let is = match field.as_str() {
                    "namespace" | "by" => Some(Is::Name),
                    "registration" | "pod" | "holder" => Some(Is::InNamespace),
                    "name" if of_registration => Some(Is::InNamespace),
                    _ => None,
                };
                match (is, value) {
                    (Some(is), Value::String(text)) => *text = change(is, text),
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
    }

    fn entry() -> Value {
        json!({
            "kind": "node", "node": "gpu-7", "used": [{"registration": "acme/night"}],
            "closed": [{"lease": {
                "pod": "acme/night-0",
                "account": {"class": "pow-mining", "registration": "acme/night", "namespace": "acme"},
            }}],
            "state": {"devices": [{"id": "GPU-1", "last": {"holder": "acme/night-0"}}]},
        })
    }

    #[test]
    fn names_are_hidden_and_come_back() {
        let mut disk = Memory::default();
        let (mut names, mut pseudonyms) = Names::open(&mut disk, &mut []).unwrap();
        let mut hidden = [entry()];
        pseudonyms.hide(&mut hidden[0]);
        let text = hidden[0].to_string();
        assert!(!text.contains("acme") && !text.contains("night"), "{text}");
        assert!(text.contains("pow-mining") && text.contains("gpu-7") && text.contains("GPU-1"));
        assert_eq!(
            hidden[0]["closed"][0]["lease"]["pod"],
            hidden[0]["state"]["devices"][0]["last"]["holder"]
        );
        let new = pseudonyms.take_new();
        assert_eq!(new.len(), 3);
        names.add(&mut disk, &new).unwrap();
        // A crash left a line half written.
        disk.0.get_mut(NAMES).unwrap().extend(b"[\"12ab");

        // The next process has the names, and gives the same pseudonyms.
        let mut shown = hidden.clone();
        let (mut names, mut again) = Names::open(&mut disk, &mut shown).unwrap();
        assert_eq!(shown, [entry()]);
        again.hide(&mut shown[0]);
        assert_eq!(shown, hidden);
        assert!(again.take_new().is_empty());
        again.of("beta");
        names.add(&mut disk, &again.take_new()).unwrap();
        let mut beta = [json!({"namespace": again.of("beta")})];
        let (mut names, _) = Names::open(&mut disk, &mut beta).unwrap();
        assert_eq!(beta[0]["namespace"], "beta");

        // Of what is not kept the pseudonym is left.
        names.keep(&mut disk, &new[..1]).unwrap();
        let mut shown = hidden.clone();
        Names::open(&mut disk, &mut shown).unwrap();
        assert_eq!(shown[0]["closed"][0]["lease"]["account"]["namespace"], "acme");
        assert_eq!(shown[0]["closed"][0]["lease"]["pod"], hidden[0]["closed"][0]["lease"]["pod"]);
    }

    #[test]
    fn without_its_key_a_journal_is_not_gone_on_with() {
        let mut disk = Memory::default();
        let (mut names, mut pseudonyms) = Names::open(&mut disk, &mut []).unwrap();
        pseudonyms.hide(&mut entry());
        names.add(&mut disk, &pseudonyms.take_new()).unwrap();
        disk.0.remove(KEY);
        let error = Names::open(&mut disk, &mut []).unwrap_err().to_string();
        assert!(error.contains("pseudonym.key is missing"), "{error}");
    }

    #[test]
    fn anybody_with_the_key_can_tell() {
        // printf acme | openssl dgst -sha256 -mac HMAC -macopt key:secret
        let mut pseudonyms = Pseudonyms::new(b"secret", Vec::new());
        assert_eq!(pseudonyms.of("acme"), "700f8a71077438948e68c52f90421d3f");
    }
}
