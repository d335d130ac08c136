//! The part of the story that is about the ledger: it is verified by programs that know nothing but its
//! files and its public key, and changes are found.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use daylight_ledger::{Checkpoint, Entries, Hash, SigningKey, Tree, push_entry};
use daylight_peers::Tessera;

use crate::{Error, Process, Result, Story};

/// Bundle of the first entries.
const FIRST_BUNDLE: &str = "tile/entries/000";

impl Story<'_> {
    /// Verifies the ledger that an auditor serves, and shows that changes of copies are found.
    pub(super) async fn ledger(&mut self, auditor: &Process) -> Result<()> {
        let url = format!("http://{}/ledger", auditor.address());
        let public = self.secret("verifier").await?;
        let honest = self.log.with_file_name("ledger");
        let copy = honest.display().to_string();
        self.cluster.daylight(&["ledger", "mirror", &url, &copy, "--key", &public]).await?;
        let verified = self.cluster.daylight(&["ledger", "verify", &url, "--key", &public]).await?;
        let (first, _) = verified.split_once(". Root").unwrap_or((&verified, ""));
        let (seen, held) = match Tessera::find().await {
            Ok(tessera) => match tessera.fsck(&format!("{url}/"), &public).await {
                Ok(()) => (format!("{first}; tessera's fsck finds the same"), true),
                Err(error) => (format!("{first}, but tessera's fsck says: {error}"), false),
            },
            Err(error) => (format!("{first}; tessera's fsck cannot be had: {error}"), true),
        };
        self.step("the ledger is verified with its public key alone", None, seen, held);

        let flipped = self.copy_of(&honest, "ledger-flipped")?;
        let bundle = flipped.join(FIRST_BUNDLE);
        let mut bytes = fs::read(&bundle).map_err(failed(&bundle))?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&bundle, bytes).map_err(failed(&bundle))?;
        let place = flipped.display().to_string();
        let found =
            self.cluster.daylight_refused(&["ledger", "verify", &place, "--key", &public]).await;
        self.step(
            "one bit that is flipped is found",
            None,
            cause(found.as_deref()),
            found.is_some(),
        );

        // The owner of the private key can sign another history, whose entries contradict each other.
        let private = SigningKey::parse(&self.secret("key").await?)
            .map_err(|error| Error::new(error.to_string()))?;
        let forged = self.log.with_file_name("ledger-forged");
        forge(&honest, &forged, &private)?;
        let place = forged.display().to_string();
        let found =
            self.cluster.daylight_refused(&["ledger", "verify", &place, "--key", &public]).await;
        self.step(
            "an entry that the owner of the key left out is found",
            None,
            cause(found.as_deref()),
            found.is_some(),
        );
        Ok(())
    }

    /// Returns an item of the Secret with the ledger's key.
    pub(super) async fn secret(&self, item: &str) -> Result<String> {
        let path = format!("jsonpath={{.data.{item}}}");
        let get = ["get", "secret", "daylight-ledger-key", "-n", "daylight-system", "-o", &path];
        let encoded = self.cluster.kubectl(&get).await?;
        let text =
            STANDARD.decode(encoded.trim()).ok().and_then(|text| String::from_utf8(text).ok());
        text.ok_or_else(|| Error::new("the Secret of the ledger's key cannot be read"))
    }

    fn copy_of(&self, ledger: &Path, name: &str) -> Result<PathBuf> {
        let to = self.log.with_file_name(name);
        copy(ledger, &to)?;
        Ok(to)
    }
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |error| Error::new(format!("{}: {error}", path.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).map_err(failed(to))?;
    for file in fs::read_dir(from).map_err(failed(from))? {
        let file = file.map_err(failed(from))?.path();
        let to = to.join(file.file_name().unwrap_or_default());
        if file.is_dir() {
            copy(&file, &to)?;
        } else {
            fs::copy(&file, &to).map_err(failed(&to))?;
        }
    }
    Ok(())
}

/// Writes the first entries of a ledger again, without the second one, and signs that.
fn forge(honest: &Path, forged: &Path, key: &SigningKey) -> Result<()> {
    let path = honest.join(FIRST_BUNDLE);
    let bundle = fs::read(&path).map_err(failed(&path))?;
    let (mut without, mut tree) = (Vec::new(), Tree::new());
    for (number, entry) in Entries::new(&bundle).flatten().enumerate() {
        if number != 1 {
            push_entry(&mut without, entry).map_err(|error| Error::new(error.to_string()))?;
            tree.append(Hash::leaf(entry));
        }
    }
    let signed = Checkpoint::new(key.name(), tree.size(), tree.root()).sign(&[key]);
    let signed = signed.map_err(|error| Error::new(error.to_string()))?;
    let mut files = vec![
        (FIRST_BUNDLE.to_owned(), without),
        ("checkpoint".to_owned(), signed.to_string().into_bytes()),
    ];
    files
        .extend(tree.take_writes().into_iter().map(|write| (write.path.whole_name(), write.bytes)));
    for (name, bytes) in files {
        let path = forged.join(name);
        let directory = path.parent().unwrap_or(forged);
        fs::create_dir_all(directory).map_err(failed(directory))?;
        fs::write(&path, bytes).map_err(failed(&path))?;
    }
    Ok(())
}

/// Returns the cause in a refusal of `daylight ledger verify`, the first one of several.
fn cause(refusal: Option<&str>) -> String {
    let Some(refusal) = refusal else { return "it was not found".into() };
    let cause = ["is not what was signed: ", "but contradicts itself: "]
        .iter()
        .find_map(|before| Some(refusal.rsplit_once(before)?.1));
    let cause = cause.unwrap_or(refusal);
    cause.split_once("; ").map_or(cause, |(first, _)| first).trim().to_owned()
}
