//! `daylight commit` and `daylight open`: salted commitments of official identifiers.
//!
//! A registration has SHA-256 of salt and identifier, which shows nothing without the salt. A Secret has
//! both. What was committed can be opened as long as there is a copy of the Secret, and by its owner
//! alone.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::error::{CommandError, ErrorCode};
use super::output::Output;
use crate::files;

/// Item of a Secret with the salt of a scheme.
const SALT: &str = ".salt";

#[derive(Debug, Args)]
pub(super) struct Commit {
    /// Kind of an identifier and the file with it, such as `lei=lei.txt`; `-` is standard input. An
    /// argument would be visible to other users of the machine
    #[arg(required = true, value_name = "SCHEME=FILE")]
    identifiers: Vec<Source>,
    /// Name of the Secret
    #[arg(long, value_name = "NAME", default_value = "identifiers")]
    secret: String,
    /// New file for the Secret's manifest, which has the plain text
    #[arg(long, value_name = "FILE", default_value = "identifiers-secret.json")]
    out: PathBuf,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Open {
    /// File with the Secret, as YAML or JSON; `-` is standard input
    secret: PathBuf,
    /// Commitments that it must open, `sha256:…`
    commitments: Vec<String>,
    #[command(flatten)]
    pub(super) output: Output,
}

/// Scheme, and where to read the identifier.
#[derive(Clone, Debug)]
struct Source {
    scheme: String,
    path: PathBuf,
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, path) = text.split_once('=').ok_or("write SCHEME=FILE")?;
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let inner = |byte: u8| letter(byte) || byte == b'-' || byte == b'.';
        let is_scheme = scheme.len() <= 63
            && scheme.bytes().all(inner)
            && scheme.bytes().next().is_some_and(letter)
            && scheme.bytes().last().is_some_and(letter)
            && !scheme.ends_with(SALT);
        if !is_scheme {
            return Err("write the scheme in lower case, such as lei, vat or org-number".to_owned());
        }
        Ok(Self { scheme: scheme.to_owned(), path: path.into() })
    }
}

/// Identifiers as a registration has them. It has no plain text.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Committed {
    identifiers: Vec<Identifier>,
    identifiers_secret_ref: SecretRef,
}

#[derive(Debug, Serialize)]
struct Identifier {
    scheme: String,
    commitment: String,
}

#[derive(Debug, Serialize)]
struct SecretRef {
    name: String,
}

/// Identifier with its plain text, from a Secret.
#[derive(Debug, Serialize)]
struct Opened {
    scheme: String,
    identifier: String,
    commitment: String,
}

/// Returns the commitment of a text.
fn commitment(salt: &str, text: &str) -> String {
    let hash = Sha256::new().chain_update(salt).chain_update(text).finalize();
    format!("sha256:{}", hex::encode(hash))
}

pub(super) fn commit(namespace: Option<&str>, flags: &Commit) -> Result<(), CommandError> {
    let mut items = BTreeMap::new();
    let mut identifiers = Vec::new();
    for Source { scheme, path } in &flags.identifiers {
        let text = read(path)?;
        let text = text.trim();
        if text.is_empty() || items.contains_key(scheme) {
            let problem = if text.is_empty() { "has no identifier" } else { "is named twice" };
            return Err(CommandError::new(format!("{scheme} {problem}")).code(ErrorCode::Invalid));
        }
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes)
            .map_err(|error| CommandError::new("Cannot make a salt").because(error))?;
        let salt = hex::encode(bytes);
        let commitment = commitment(&salt, text);
        identifiers.push(Identifier { scheme: scheme.clone(), commitment });
        items.insert(scheme.clone(), text.to_owned());
        items.insert(format!("{scheme}{SALT}"), salt);
    }
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(flags.secret.clone()),
            namespace: namespace.map(ToOwned::to_owned),
            ..ObjectMeta::default()
        },
        string_data: Some(items),
        ..Secret::default()
    };
    let json = serde_json::to_string_pretty(&secret).unwrap_or_default() + "\n";
    let path = flags.out.display();
    files::create_secret(&flags.out, &json).map_err(|error| {
        CommandError::new(format!("Cannot write the Secret to {path}")).because(error)
    })?;
    let name = flags.secret.clone();
    let committed = Committed { identifiers, identifiers_secret_ref: SecretRef { name } };
    flags.output.print(&committed, ToString::to_string)
}

pub(super) fn open(flags: &Open) -> Result<(), CommandError> {
    let found = opened(&read(&flags.secret)?)?;
    let is_missing = |wanted: &&String| found.iter().all(|it| it.commitment != **wanted);
    if let Some(missing) = flags.commitments.iter().find(is_missing) {
        return Err(CommandError::new(format!("The Secret does not open {missing}"))
            .code(ErrorCode::NotFound)
            .remedy("Compare it with the Secret that the registration names"));
    }
    flags.output.print(&found, |found| {
        let lines = found.iter().map(|Opened { scheme, identifier, commitment }| {
            format!("{scheme}: {identifier} is committed to by {commitment}\n")
        });
        lines.collect()
    })
}

/// Computes the commitments of the identifiers in a Secret.
fn opened(text: &str) -> Result<Vec<Opened>, CommandError> {
    let wrong = || CommandError::new("The file has no Secret").code(ErrorCode::Invalid);
    let secret: Secret = serde_saphyr::from_str(text).map_err(|_| {
        // The parser's error shows lines of the file.
        wrong().remedy("Write it by `kubectl get secret NAME -o json`")
    })?;
    let mut items: BTreeMap<String, String> = BTreeMap::new();
    for (name, bytes) in secret.data.unwrap_or_default() {
        let text = String::from_utf8(bytes.0)
            .map_err(|_| wrong().because(format!("{name} is not text")))?;
        items.insert(name, text);
    }
    items.extend(secret.string_data.unwrap_or_default());
    let found = items.iter().filter_map(|(scheme, identifier)| {
        let salt = items.get(&format!("{scheme}{SALT}"))?;
        let commitment = commitment(salt, identifier);
        Some(Opened { scheme: scheme.clone(), identifier: identifier.clone(), commitment })
    });
    let found: Vec<Opened> = found.collect();
    if found.is_empty() {
        return Err(wrong().because("no item NAME has a salt in an item NAME.salt"));
    }
    Ok(found)
}

fn read(path: &Path) -> Result<String, CommandError> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    read.map_err(|error| {
        CommandError::new(format!("Cannot read {}", path.display())).because(error)
    })
}

/// As it stands under `spec.operator` of a registration.
impl fmt::Display for Committed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "identifiers:")?;
        for Identifier { scheme, commitment } in &self.identifiers {
            writeln!(f, "  - scheme: {scheme}\n    commitment: {commitment}")?;
        }
        writeln!(f, "identifiersSecretRef:\n  name: {}", self.identifiers_secret_ref.name)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use clap::Parser;

    use super::*;

    const LEI: &str = "529900EXAMPLE0000000";

    #[derive(Parser)]
    enum Words {
        Commit(Commit),
        Open(Open),
    }

    fn run(words: &[&str]) -> Result<(), String> {
        let words = Words::try_parse_from([&["daylight"], words].concat());
        match words.map_err(|error| error.to_string())? {
            Words::Commit(flags) => commit(Some("tenant-a"), &flags),
            Words::Open(flags) => open(&flags),
        }
        .map_err(|error| error.json())
    }

    #[test]
    fn a_commitment_is_that_of_the_shell() {
        // printf '%s%s' 00ff 529900EXAMPLE0000000 | sha256sum
        let expected = "sha256:61be100a3973006b4527a06a85f997660146eb87197505f53db61aae6c88dc0d";
        assert_eq!(commitment("00ff", LEI), expected);
        assert_ne!(commitment("00ff", LEI), commitment("00fe", LEI));
    }

    /// The plain text of identifiers is in the Secret, and nowhere else: not in what is printed, and not
    /// in an error.
    #[test]
    fn only_the_secret_has_the_plain_text() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        fs::write(path("lei.txt"), format!("{LEI}\n")).unwrap();
        fs::write(path("inn.txt"), "7700000000").unwrap();
        let (lei, inn) = (format!("lei={}", path("lei.txt")), format!("inn={}", path("inn.txt")));
        let secret = path("secret.json");
        run(&["commit", &lei, &inn, "--secret", "kaspa-identifiers", "--out", &secret]).unwrap();
        assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
        let error = run(&["commit", &lei, "--out", &secret]).unwrap_err();
        assert!(error.contains("Cannot write the Secret"), "it is never replaced: {error}");

        let text = fs::read_to_string(&secret).unwrap();
        assert!(text.contains("\"namespace\": \"tenant-a\""), "{text}");
        let found = opened(&text).unwrap();
        let schemes: Vec<_> = found.iter().map(|it| (&*it.scheme, &*it.identifier)).collect();
        assert_eq!(schemes, [("inn", "7700000000"), ("lei", LEI)]);
        run(&["open", &secret, &found[0].commitment, &found[1].commitment]).unwrap();
        let other = commitment("", LEI);
        let error = run(&["open", &secret, &other]).unwrap_err();
        assert!(error.contains("does not open"), "{error}");

        // As the API server has it, in base64.
        let mut object: serde_json::Value = serde_json::from_str(&text).unwrap();
        let data: Secret = serde_json::from_value(object.clone()).unwrap();
        let data = data.string_data.unwrap().into_iter();
        let data = data.map(|(name, text)| (name, k8s_openapi::ByteString(text.into_bytes())));
        let data: BTreeMap<_, _> = data.collect();
        object.as_object_mut().unwrap().remove("stringData");
        object["data"] = serde_json::to_value(&data).unwrap();
        assert_eq!(opened(&object.to_string()).unwrap()[1].commitment, found[1].commitment);

        // What a user sees and applies.
        let identifiers = found
            .iter()
            .map(|it| Identifier { scheme: it.scheme.clone(), commitment: it.commitment.clone() });
        let committed = Committed {
            identifiers: identifiers.collect(),
            identifiers_secret_ref: SecretRef { name: "kaspa-identifiers".into() },
        };
        let json = serde_json::to_string(&committed).unwrap();
        for shown in [committed.to_string(), json, error] {
            assert!(!shown.contains(LEI) && !shown.contains("7700000000"), "{shown}");
        }
        let operator: daylight_crds::Operator =
            serde_saphyr::from_str(&format!("name: Tenant A\n{committed}")).unwrap();
        assert_eq!(operator.identifiers.len(), 2);

        let broken = format!("{{\"stringData\": {LEI}");
        let Err(error) = opened(&broken) else { panic!("it is not a Secret") };
        assert!(!error.report().contains(LEI), "{}", error.report());
    }

    #[test]
    fn what_is_not_an_identifier_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("empty");
        fs::write(&file, "\n").unwrap();
        let named = |scheme: &str| format!("{scheme}={}", file.display());
        let error = run(&["commit", &named("lei")]).unwrap_err();
        assert!(error.contains("lei has no identifier"), "{error}");
        for scheme in ["LEI", "", "a-", "a.salt", "a b"] {
            let error = run(&["commit", &named(scheme)]).unwrap_err();
            assert!(error.contains("lower case"), "{scheme}: {error}");
        }
        run(&["commit", "lei"]).unwrap_err();
    }
}
