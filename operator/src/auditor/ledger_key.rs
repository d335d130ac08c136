//! The key with which the auditor signs its ledger. A right to write the journal's volume must not be
//! one to sign another history, so the key is kept elsewhere: in a Secret, or in a file.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use daylight_ledger::{KeyError, SigningKey};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use crate::files;

/// Item of the Secret with the private key.
const PRIVATE: &str = "key";

/// Item of the Secret with the public key, for those who verify the ledger.
const PUBLIC: &str = "verifier";

/// Place of the key. A text is a Secret if it begins with `secret/`, and otherwise the path of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerKeyPlace {
    /// Name of a Secret in Daylight's namespace.
    Secret(String),
    File(PathBuf),
}

impl FromStr for LedgerKeyPlace {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.strip_prefix("secret/") {
            Some(name) => Self::Secret(name.to_owned()),
            None => Self::File(text.into()),
        })
    }
}

impl fmt::Display for LedgerKeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(name) => write!(f, "Secret {name}"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Error of a key that cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub enum LedgerKeyError {
    #[error(
        "cannot read or create {0} with the ledger's key ({1}); permit the auditor to, or name another \
         place with --ledger-key"
    )]
    File(LedgerKeyPlace, io::Error),
    #[error(
        "cannot read or create {0} with the ledger's key ({1}); permit the auditor to get and create \
         it, or name another place with --ledger-key"
    )]
    Secret(LedgerKeyPlace, Box<kube::Error>),
    #[error("{0} does not have the ledger's key ({1}); restore it, or name another place")]
    Key(LedgerKeyPlace, KeyError),
    #[error("{0} has no item {PRIVATE} with the ledger's key; restore it, or name another Secret")]
    NoItem(LedgerKeyPlace),
    #[error("cannot make a key for the ledger: the system gives no random bytes ({0})")]
    Random(getrandom::Error),
}

/// Reads the key, or makes one where there is none yet.
///
/// # Errors
///
/// It can be neither read nor created, or something else is there.
pub async fn load(
    place: &LedgerKeyPlace,
    client: &Client,
    namespace: &str,
) -> Result<SigningKey, LedgerKeyError> {
    let text = match place {
        LedgerKeyPlace::File(path) => {
            file(path, &new_key()?).map_err(|error| LedgerKeyError::File(place.clone(), error))?
        }
        LedgerKeyPlace::Secret(name) => {
            let secrets = Api::namespaced(client.clone(), namespace);
            secret(&secrets, name).await?.ok_or_else(|| LedgerKeyError::NoItem(place.clone()))?
        }
    };
    SigningKey::parse(text.trim()).map_err(|error| LedgerKeyError::Key(place.clone(), error))
}

/// Makes a key. Its name is the name of the log for ever, so it must be unlike that of any other.
fn new_key() -> Result<SigningKey, LedgerKeyError> {
    let mut bytes = [0_u8; 40];
    getrandom::fill(&mut bytes).map_err(LedgerKeyError::Random)?;
    let (name, seed) = bytes.split_at(8);
    let mut key = [0; 32];
    key.copy_from_slice(seed);
    SigningKey::from_seed(&format!("daylight.dev/ledger/{}", hex::encode(name)), key)
        .map_err(|error| LedgerKeyError::Key(LedgerKeyPlace::File(PathBuf::new()), error))
}

/// Reads a file, or creates it with this key, for its owner alone.
fn file(path: &Path, new: &SigningKey) -> io::Result<String> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = format!("{}\n", new.to_secret_text());
            files::create_secret(path, &text)?;
            Ok(text)
        }
        read => read,
    }
}

/// Reads a Secret, or creates it with a new key. `None` if it does not have the item.
async fn secret(secrets: &Api<Secret>, name: &str) -> Result<Option<String>, LedgerKeyError> {
    let failed =
        |error| LedgerKeyError::Secret(LedgerKeyPlace::Secret(name.to_owned()), Box::new(error));
    let found = match secrets.get_opt(name).await.map_err(failed)? {
        Some(found) => found,
        None => match secrets.create(&PostParams::default(), &new_secret(name)?).await {
            Ok(created) => created,
            // Another auditor was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                secrets.get(name).await.map_err(failed)?
            }
            Err(error) => return Err(failed(error)),
        },
    };
    let item = found.data.and_then(|mut data| data.remove(PRIVATE));
    Ok(item.map(|ByteString(bytes)| String::from_utf8_lossy(&bytes).into_owned()))
}

fn new_secret(name: &str) -> Result<Secret, LedgerKeyError> {
    let key = new_key()?;
    let items = [(PRIVATE, key.to_secret_text()), (PUBLIC, key.verifier().to_string())];
    let data = items.map(|(item, text)| (item.to_owned(), ByteString(text.into_bytes())));
    Ok(Secret {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        // With another key it would be another log.
        immutable: Some(true),
        data: Some(BTreeMap::from(data)),
        ..Secret::default()
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn client() -> Client {
        // Not used for files.
        let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Err::<http::Response<kube::client::Body>, _>(io::Error::other("no server"))
        });
        Client::new(service, "default")
    }

    #[tokio::test]
    async fn a_file_is_made_once_and_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let place: LedgerKeyPlace =
            directory.path().join("ledger.key").to_str().unwrap().parse().unwrap();
        let first = load(&place, &client(), "n").await.unwrap();
        let again = load(&place, &client(), "n").await.unwrap();
        assert_eq!(first.verifier(), again.verifier());
        assert!(first.name().starts_with("daylight.dev/ledger/"), "{}", first.name());
        let LedgerKeyPlace::File(path) = &place else { panic!("{place}") };
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);

        std::fs::write(path, "something else").unwrap();
        let error = load(&place, &client(), "n").await.unwrap_err().to_string();
        assert!(error.contains("ledger.key does not have the ledger's key"), "{error}");
        let nowhere: LedgerKeyPlace = "/nowhere/ledger.key".parse().unwrap();
        let error = load(&nowhere, &client(), "n").await.unwrap_err().to_string();
        assert!(error.contains("cannot read or create /nowhere/ledger.key"), "{error}");
    }

    #[test]
    fn a_place_is_a_secret_or_a_file() {
        let place = |text: &str| text.parse::<LedgerKeyPlace>().unwrap();
        assert_eq!(place("secret/a"), LedgerKeyPlace::Secret("a".into()));
        assert_eq!(place("/etc/key"), LedgerKeyPlace::File("/etc/key".into()));
    }
}
