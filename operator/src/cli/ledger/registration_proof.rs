//! Proof of what a ledger books to one registration, which its holder can check offline and which
//! contains the figures of no other.

use std::path::Path;

use daylight_base::Name;
use daylight_ledger::{Hash, Policy, SumNode, SumPath, SumProof, TlogProof};
use daylight_meter::{ClosingEntry, Decision, Entry, ObjectEntry, Use};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_with::{DisplayFromStr, serde_as};

use super::prove::prove;
use super::show::{bundle, entries};
use super::source::Opened;
use super::trust::Vouched;
use crate::auditor::pseudonyms::Pseudonyms;
use crate::cli::error::{CommandError, ErrorCode};
use crate::entries::sums::{Amounts, account_name, tree};
use crate::entries::{Closed, EntryVerifier};
use crate::files;

/// Form of the file.
const FORM: &str = "daylight.dev/registration-proof/v1";

/// File in a journal's directory with the key of its pseudonyms.
const PSEUDONYM_KEY: &str = "pseudonym.key";

/// What a ledger books to one registration from one closing to the next, with proofs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RegistrationProof {
    form: String,
    /// Pseudonym of the registration.
    registration: Name,
    closing: ProvedEntry,
    accounts: Vec<ProvedAccount>,
    /// The last entry of the registration itself, which has the digest of its spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    object: Option<ProvedEntry>,
}

/// Entry, byte for byte, with the proof that the ledger has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ProvedEntry {
    pub(super) entry: String,
    pub(super) proof: String,
}

/// Account in the closing's tree, with both paths to the root.
#[serde_as]
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProvedAccount {
    /// Canonical JSON, as the entries have it.
    usage: Value,
    #[serde(with = "daylight_meter::decimal")]
    device_ms: u64,
    #[serde(with = "daylight_meter::decimal")]
    millijoules: u64,
    #[serde(with = "daylight_meter::decimal")]
    declared_millijoules: u64,
    #[serde(with = "daylight_meter::decimal")]
    pod_ms: u64,
    paths: [ProvedPath; 2],
}

#[serde_as]
#[derive(Clone, Debug, Serialize, Deserialize)]
struct ProvedPath {
    #[serde_as(as = "DisplayFromStr")]
    number: u64,
    siblings: Vec<Sibling>,
}

/// Hash of a subtree, and its sums.
#[serde_as]
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Sibling {
    hash: Hash,
    #[serde_as(as = "[DisplayFromStr; 4]")]
    sums: Amounts,
}

/// What was checked.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Checked {
    pub(super) origin: String,
    pub(super) registration: String,
    /// Number of the closing.
    closing: u64,
    /// Indexes of the first entry that it has, and of its own.
    first: u64,
    index: u64,
    /// End of the booked time.
    until: String,
    accounts: Vec<CheckedAccount>,
    /// Digest of the registration's spec; `None` if its entry is older than the closings.
    digest: Option<String>,
    pub(super) signed_by: String,
    pub(super) cosigned_by: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CheckedAccount {
    class: Option<Name>,
    gpu_seconds: u64,
    millijoules: String,
    declared_millijoules: String,
    pod_seconds: u64,
}

/// Returns `true` if a key is named, or is in the ledger's directory.
pub(super) fn has_key(key: Option<&Path>, directory: Option<&Path>) -> bool {
    key.is_some() || directory.is_some_and(|directory| directory.join(PSEUDONYM_KEY).exists())
}

/// Returns the pseudonym of a registration, or of another object of a tenant, under the key in a file; of
/// a ledger's directory, under the key there.
pub(super) fn pseudonym(
    registration: &str,
    key: Option<&Path>,
    directory: Option<&Path>,
) -> Result<Name, CommandError> {
    let in_directory = directory.map(|directory| directory.join(PSEUDONYM_KEY));
    let Some(path) = key.or(in_directory.as_deref()) else {
        // Without a key it is the pseudonym itself.
        return Ok(registration.into());
    };
    let unread =
        || CommandError::new(format!("Cannot read the pseudonyms' key {}", path.display()));
    match files::read(path).map_err(|error| unread().because(error))? {
        Some(bytes) => {
            let named = serde_json::json!({ "registration": registration });
            let mut pseudonyms = Pseudonyms::new(bytes.trim_ascii());
            let mut hidden = named;
            pseudonyms.hide(&mut hidden);
            Ok(hidden["registration"].as_str().unwrap_or_default().into())
        }
        None if key.is_none() => Ok(registration.into()),
        None => Err(unread().code(ErrorCode::NotFound)),
    }
}

/// Finds a closing, the last one with the registration if none is named, and proves what it has of it.
pub(super) fn of_registration(
    source: &Opened<'_>,
    vouched: &Vouched,
    note: &daylight_ledger::Note,
    registration: &Name,
    closing: Option<u64>,
) -> Result<RegistrationProof, CommandError> {
    let size = vouched.checkpoint.size;
    let mut verifier = EntryVerifier::default();
    let (mut found, mut object) = (None, None);
    let mut at = 0;
    while at < size {
        let bundle = bundle(source, at, size)?;
        for entry in entries(&bundle, at)? {
            if let Some(violation) = verifier.take(at, &entry).into_iter().next() {
                return Err(source.invalid("contradicts itself").because(violation));
            }
            if is_object(&entry, registration) {
                object = Some(at);
            }
            if let Some(closed) = verifier.take_closed()
                && closing.map_or_else(
                    || closed.accounts.keys().any(|name| is_of(name, registration)),
                    |number| number == closed.closing.number,
                )
            {
                found = Some(closed);
            }
            at += 1;
        }
    }
    let Closed { index, closing: ClosingEntry { first, .. }, accounts } =
        found.ok_or_else(|| {
            CommandError::new(match closing {
                Some(number) => format!("The ledger has no closing with number {number}"),
                None => {
                    format!("No closing of the ledger has anything of registration {registration}")
                }
            })
            .code(ErrorCode::NotFound)
            .remedy("Name the --pseudonym-key of the ledger, or wait for the next closing")
        })?;
    let tree = tree(first, &accounts)
        .map_err(|error| source.invalid("cannot prove the account").because(error))?;
    let mut proved = Vec::new();
    for (name, amounts) in &accounts {
        let usage: Value = serde_json::from_slice(name).unwrap_or_default();
        if !is_of(name, registration) {
            continue;
        }
        let Some(SumProof { paths, .. }) = tree.prove(name, *amounts) else { continue };
        let [device_ms, millijoules, declared_millijoules, pod_ms] = *amounts;
        proved.push(ProvedAccount {
            usage,
            device_ms,
            millijoules,
            declared_millijoules,
            pod_ms,
            paths: paths.map(ProvedPath::from),
        });
    }
    if proved.is_empty() {
        return Err(CommandError::new(format!(
            "The closing in entry {index} has nothing of registration {registration}"
        ))
        .code(ErrorCode::NotFound)
        .remedy("Name another --closing, or the --pseudonym-key of the ledger"));
    }
    let proved_entry = |index| {
        let (proof, entry) = prove(source, note, &vouched.checkpoint, index)?;
        let entry = String::from_utf8_lossy(&entry).into_owned();
        Ok::<_, CommandError>(ProvedEntry { entry, proof: proof.to_string() })
    };
    Ok(RegistrationProof {
        form: FORM.to_owned(),
        registration: registration.clone(),
        closing: proved_entry(index)?,
        accounts: proved,
        object: object.map(proved_entry).transpose()?,
    })
}

/// Returns `true` for the name of an account of a registration.
fn is_of(account: &[u8], registration: &Name) -> bool {
    let usage = serde_json::from_slice::<Use>(account);
    usage.is_ok_and(|usage| usage.registration() == Some(registration))
}

/// The entry of a registration itself, if it is one.
fn object_of(entry: &[u8], registration: &Name) -> Option<ObjectEntry> {
    match serde_json::from_slice(entry).ok()? {
        Entry::Object(object) if object.seen.name == *registration => Some(*object),
        _ => None,
    }
}

fn is_object(entry: &[u8], registration: &Name) -> bool {
    // Most entries are of nodes: no need to read them.
    let is_of_it = entry.windows(registration.len()).any(|bytes| bytes == registration.as_bytes());
    is_of_it && object_of(entry, registration).is_some()
}

impl From<SumPath<4>> for ProvedPath {
    fn from(SumPath { number, siblings }: SumPath<4>) -> Self {
        let siblings = siblings.into_iter().map(|SumNode { hash, sums }| Sibling { hash, sums });
        Self { number, siblings: siblings.collect() }
    }
}

impl From<ProvedPath> for SumPath<4> {
    fn from(ProvedPath { number, siblings }: ProvedPath) -> Self {
        let siblings = siblings.into_iter().map(|Sibling { hash, sums }| SumNode { hash, sums });
        Self { number, siblings: siblings.collect() }
    }
}

impl RegistrationProof {
    /// Reads a proof; `None` if the bytes are not of this form.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|proof: &Self| proof.form == FORM)
    }

    /// Checks all that it proves, under a policy.
    pub(super) fn check(&self, policy: &Policy) -> Result<Checked, CommandError> {
        let Self { form: _, registration, closing, accounts, object } = self;
        let wrong = |what: &str| {
            CommandError::new(format!("The proof does not hold: {what}"))
                .code(ErrorCode::LedgerInvalid)
        };
        let (proof, vouched) = closing.check(policy)?;
        let Ok(Entry::Closing(sums)) = serde_json::from_str(&closing.entry) else {
            return Err(wrong("its entry is not a closing"));
        };
        let root = SumNode {
            hash: sums
                .root
                .parse()
                .map_err(|error| wrong("its root is not a hash").because(error))?,
            sums: [sums.device_ms, sums.millijoules, sums.declared_millijoules, sums.pod_ms],
        };
        let mut checked = Vec::new();
        for account in accounts {
            let ProvedAccount {
                usage,
                device_ms,
                millijoules,
                declared_millijoules,
                pod_ms,
                paths,
            } = account.clone();
            let proof = SumProof {
                amounts: [device_ms, millijoules, declared_millijoules, pod_ms],
                paths: paths.map(SumPath::from),
            };
            proof
                .verify(sums.first, &account_name(&usage), sums.accounts, &root)
                .map_err(|error| wrong("an account is not in the closing").because(error))?;
            let Ok(Use::Lease(lease) | Use::Pod(lease)) = serde_json::from_value(usage) else {
                return Err(wrong("an account is not one of leases"));
            };
            if lease.registration.as_ref() != Some(registration) {
                return Err(wrong("an account is of another registration"));
            }
            checked.push(CheckedAccount {
                class: lease.class,
                gpu_seconds: device_ms / 1000,
                millijoules: millijoules.to_string(),
                declared_millijoules: declared_millijoules.to_string(),
                pod_seconds: pod_ms / 1000,
            });
        }
        let digest = match object {
            Some(object) => {
                object.check(policy)?;
                let entry = object_of(object.entry.as_bytes(), registration);
                let entry = entry.ok_or_else(|| wrong("its entry is of another object"))?;
                let decision: Option<&Decision> = entry.seen.decision.as_ref();
                let approved = decision.and_then(|decision| decision.digest.clone());
                Some(approved.unwrap_or(entry.seen.digest).to_string())
            }
            None => None,
        };
        Ok(Checked {
            origin: vouched.checkpoint.origin,
            registration: registration.to_string(),
            closing: sums.number,
            first: sums.first,
            index: proof.index,
            until: sums.until.to_string(),
            accounts: checked,
            digest,
            signed_by: vouched.signed_by.unwrap_or_default(),
            cosigned_by: vouched.cosigned_by,
        })
    }
}

impl ProvedEntry {
    /// Checks that the ledger has the entry.
    pub(super) fn check(&self, policy: &Policy) -> Result<(TlogProof, Vouched), CommandError> {
        let wrong = || {
            CommandError::new("An entry is not proved to be in the ledger")
                .code(ErrorCode::LedgerInvalid)
        };
        let proof: TlogProof = self
            .proof
            .parse()
            .map_err(|error: daylight_ledger::TlogProofError| wrong().because(error))?;
        let accepted = proof.verify(Hash::leaf(self.entry.as_bytes()), policy);
        let vouched = accepted.map(Vouched::from).map_err(|error| wrong().because(error))?;
        Ok((proof, vouched))
    }
}

impl Checked {
    /// Lines about what was checked, without who signed it.
    pub(super) fn text(&self) -> String {
        let Self { origin, registration, closing, first, index, until, accounts, digest, .. } =
            self;
        let head = format!(
            "Closing {closing} of {origin} (entries {first} to {index}, until {until}) has of \
             registration {registration}:\n"
        );
        let lines = accounts.iter().map(|account| {
            let CheckedAccount {
                class,
                gpu_seconds,
                millijoules,
                declared_millijoules,
                pod_seconds,
            } = account;
            let class = class.as_deref().unwrap_or("undeclared");
            format!(
                "  {class}: {gpu_seconds} GPU-seconds, {pod_seconds} pod-seconds, {millijoules} mJ \
                 measured, {declared_millijoules} mJ declared\n"
            )
        });
        let lines: String = lines.collect();
        let digest = match digest {
            Some(digest) => format!(
                "It is the registration whose approved digest is {digest}: compare with its \
                 status.approval.digest.\n"
            ),
            None => String::new(),
        };
        head + &lines + &digest
    }
}
