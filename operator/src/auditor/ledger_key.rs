//! The key with which the auditor signs its ledger. A right to write the journal's volume must not be
//! one to sign another history, so the key is kept elsewhere: in a Secret, or in a file.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use daylight_base::Name;
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
    #[error(
        "{place} has a key of the name {name}, but it must be another key of the name {needed}, which it \
         is to replace; name an empty place with --ledger-next-key"
    )]
    Next { place: LedgerKeyPlace, name: String, needed: String },
    #[error("{0} has no item {PRIVATE} with the ledger's key; restore it, or name another Secret")]
    NoItem(LedgerKeyPlace),
    #[error("cannot make a key for the ledger: the system gives no random bytes ({0})")]
    Random(getrandom::Error),
}

/// Keys that sign the ledger.
#[derive(Clone, Debug)]
pub struct LedgerKeys {
    /// The ledger's key.
    pub key: SigningKey,
    /// The key that will replace it, and signs as well until then.
    pub next: Option<SigningKey>,
}

impl LedgerKeys {
    /// Reads the keys, or makes those that are not there yet. The name of the second is that of the first.
    ///
    /// # Errors
    ///
    /// They can be neither read nor created, something else is there, or the second is another ledger's.
    pub async fn load(
        place: &LedgerKeyPlace,
        next: Option<&LedgerKeyPlace>,
        client: &Client,
        namespace: &str,
    ) -> Result<Self, LedgerKeyError> {
        let key = load(place, client, namespace, &new_name()?).await?;
        let Some(place) = next else { return Ok(Self { key, next: None }) };
        let next = load(place, client, namespace, key.name()).await?;
        if next.name() != key.name() || next.verifier() == key.verifier() {
            return Err(LedgerKeyError::Next {
                place: place.clone(),
                name: next.name().to_owned(),
                needed: key.name().to_owned(),
            });
        }
        Ok(Self { key, next: Some(next) })
    }

    /// Public keys, as the journal records them.
    pub fn verifiers(&self) -> Vec<Name> {
        let keys = [&self.key].into_iter().chain(&self.next);
        keys.map(|key| Name::from(key.verifier().to_string())).collect()
    }
}

/// Reads a key, or makes one of this name where there is none yet.
async fn load(
    place: &LedgerKeyPlace,
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<SigningKey, LedgerKeyError> {
    let text = match place {
        LedgerKeyPlace::File(path) => file(path, &new_key(name)?)
            .map_err(|error| LedgerKeyError::File(place.clone(), error))?,
        LedgerKeyPlace::Secret(secret) => {
            let secrets = Api::namespaced(client.clone(), namespace);
            let text = self::secret(&secrets, secret, name).await?;
            text.ok_or_else(|| LedgerKeyError::NoItem(place.clone()))?
        }
    };
    SigningKey::parse(text.trim()).map_err(|error| LedgerKeyError::Key(place.clone(), error))
}

/// Makes a name. It is the name of the log for ever, so it must be unlike that of any other.
fn new_name() -> Result<String, LedgerKeyError> {
    let mut name = [0_u8; 8];
    getrandom::fill(&mut name).map_err(LedgerKeyError::Random)?;
    Ok(format!("daylight.dev/ledger/{}", hex::encode(name)))
}

fn new_key(name: &str) -> Result<SigningKey, LedgerKeyError> {
    let mut seed = [0_u8; 32];
    getrandom::fill(&mut seed).map_err(LedgerKeyError::Random)?;
    SigningKey::from_seed(name, seed)
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
async fn secret(
    secrets: &Api<Secret>,
    name: &str,
    key_name: &str,
) -> Result<Option<String>, LedgerKeyError> {
    let failed =
        |error| LedgerKeyError::Secret(LedgerKeyPlace::Secret(name.to_owned()), Box::new(error));
    let found = match secrets.get_opt(name).await.map_err(failed)? {
        Some(found) => found,
        None => match secrets.create(&PostParams::default(), &new_secret(name, key_name)?).await {
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

fn new_secret(name: &str, key_name: &str) -> Result<Secret, LedgerKeyError> {
    let key = new_key(key_name)?;
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
        let load = async |place: &LedgerKeyPlace, next: Option<&LedgerKeyPlace>| {
            LedgerKeys::load(place, next, &client(), "n").await
        };
        let first = load(&place, None).await.unwrap().key;
        let again = load(&place, None).await.unwrap().key;
        assert_eq!(first.verifier(), again.verifier());
        assert!(first.name().starts_with("daylight.dev/ledger/"), "{}", first.name());
        let LedgerKeyPlace::File(path) = &place else { panic!("{place}") };
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);

        // The next key has the same name. What is there already must be one.
        let next: LedgerKeyPlace =
            directory.path().join("next.key").to_str().unwrap().parse().unwrap();
        let keys = load(&place, Some(&next)).await.unwrap();
        let verifiers =
            [&keys.key, keys.next.as_ref().unwrap()].map(|key| key.verifier().to_string());
        assert_eq!(keys.verifiers(), verifiers.map(Name::from));
        assert_eq!(keys.next.unwrap().name(), first.name());
        let error = load(&place, Some(&place)).await.unwrap_err().to_string();
        assert!(error.contains("but it must be another key of the name"), "{error}");

        std::fs::write(path, "something else").unwrap();
        let error = load(&place, None).await.unwrap_err().to_string();
        assert!(error.contains("ledger.key does not have the ledger's key"), "{error}");
        let nowhere: LedgerKeyPlace = "/nowhere/ledger.key".parse().unwrap();
        let error = load(&nowhere, None).await.unwrap_err().to_string();
        assert!(error.contains("cannot read or create /nowhere/ledger.key"), "{error}");
    }

    #[test]
    fn a_place_is_a_secret_or_a_file() {
        let place = |text: &str| text.parse::<LedgerKeyPlace>().unwrap();
        assert_eq!(place("secret/a"), LedgerKeyPlace::Secret("a".into()));
        assert_eq!(place("/etc/key"), LedgerKeyPlace::File("/etc/key".into()));
    }
}
