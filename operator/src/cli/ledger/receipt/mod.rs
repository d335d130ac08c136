//! `daylight receipt`: what an AI job used, with proofs that its holder can verify offline.

mod content;
mod verify;

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use daylight_base::Name;
use daylight_crds::AiJob;
use daylight_ledger::TlogProof;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use serde::Serialize;

use self::content::{FORM, RECEIPT, Receipt, Subject, entry_files, is_proof};
use super::evidence::{self, CHECKPOINT, POLICY, ProvedEntry, untrusted};
use super::registration_proof;
use super::replaced_keys::Since;
use super::source::Source;
use super::trust::{Trust, vouch};
use super::verify::read_note;
use crate::cli::connect::{Connection, full_key, namespaced};
use crate::cli::error::{CommandError, ErrorCode};
use crate::cli::output::{Format, Output};
use crate::reporting::{JobReceipts, ProvedFigures, WantedJob};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(in crate::cli) struct Flags {
    #[command(subcommand)]
    command: Option<Command>,
    /// `AIJob`, or Job that no `AIJob` controls, as `namespace/name` or a name in --namespace
    #[arg(required_unless_present = "uid")]
    job: Option<String>,
    /// Directory of the ledger, or its address
    #[arg(long, value_name = "SOURCE", required = true)]
    ledger: Option<Source>,
    /// UID of the job; by default that of the job in the cluster
    #[arg(long)]
    uid: Option<Name>,
    /// File with the key of the ledger's pseudonyms, by which a job is found that the cluster no longer has;
    /// by default that in the ledger's directory
    #[arg(long, value_name = "FILE", requires = "job")]
    pseudonym_key: Option<PathBuf>,
    /// New directory for the receipt, the entries and their proofs
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
    /// Write the job's name in addition to its UID and its pseudonym
    #[arg(long, requires = "job")]
    reveal: bool,
    /// Checkpoint to use in place of the ledger's latest, such as one that witnesses cosigned
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    #[command(flatten)]
    since: Since,
    #[command(flatten)]
    trust: Trust,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compute the figures of a receipt again: from its own entries offline, and from a ledger if one is
    /// named
    Verify(verify::Flags),
}

/// Receipt that is printed, and was written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Printed {
    #[serde(flatten)]
    receipt: Receipt,
    signed_by: String,
    cosigned_by: Vec<String>,
    /// UIDs of other jobs that had its name, and are not in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    other_jobs: Vec<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    directory: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<String>,
}

impl Flags {
    /// The format of the command's output, and of its error.
    pub(in crate::cli) fn output_format(&self) -> Format {
        match &self.command {
            Some(Command::Verify(flags)) => flags.output.format,
            None => self.output.format,
        }
    }
}

pub(in crate::cli) async fn run(
    connection: &Connection,
    flags: &Flags,
) -> Result<(), CommandError> {
    if let Some(Command::Verify(flags)) = &flags.command {
        return verify::run(flags);
    }
    let Some(from) = &flags.ledger else {
        return Err(CommandError::new("No ledger is named")
            .code(ErrorCode::Invalid)
            .remedy("Name its directory or its address with --ledger"));
    };
    if let Some(directory) = &flags.out {
        evidence::refuse_existing(directory, "receipt")?;
    }
    let policy = flags.trust.policy()?.ok_or_else(|| untrusted("receipt"))?;
    let (wanted, name) = wanted(connection, flags, from).await?;
    let source = from.open()?;
    let note = match &flags.checkpoint {
        Some(path) => read_note(path)?,
        None => source.checkpoint()?,
    };
    let vouched = vouch(Some(&policy), &note)?;
    let checkpoint = &vouched.checkpoint;
    let mut receipts = JobReceipts::new(wanted);
    let keys =
        flags.since.read_ledger(&source, checkpoint, |index, entry| receipts.take(index, entry))?;
    let ProvedFigures { figures, entries, other_jobs } = receipts.finish().ok_or_else(|| {
        CommandError::new("The ledger has no pod of the job that has ended")
            .code(ErrorCode::NotFound)
            .remedy("Wait until one has, or name the job's --uid or the ledger's --pseudonym-key")
    })?;
    let name = name.filter(|_| flags.reveal);
    let receipt = Receipt::new(figures, name, checkpoint);
    let mut files = Vec::new();
    if let Some(directory) = &flags.out {
        let json = serde_json::to_string_pretty(&receipt).unwrap_or_default() + "\n";
        let mut contents = vec![
            (RECEIPT.to_owned(), json),
            (CHECKPOINT.to_owned(), note.to_string()),
            (POLICY.to_owned(), flags.trust.text()?),
        ];
        for entry in evidence::prove_all(&source, checkpoint, entries)? {
            let ProvedEntry { index, entry, hashes } = entry;
            let proof = TlogProof { extra: None, index, hashes, checkpoint: note.clone() };
            let [entry_file, proof_file] = entry_files(index);
            contents.extend([(entry_file, entry), (proof_file, proof.to_string())]);
        }
        contents.extend(keys.prove(&source)?);
        let subject = Subject { job: receipt.figures.job.clone() };
        files = evidence::write(directory, FORM, subject, contents)?;
    }
    let printed = Printed {
        receipt,
        signed_by: vouched.signed_by.unwrap_or_default(),
        cosigned_by: vouched.cosigned_by,
        other_jobs,
        directory: flags.out.as_ref().map(|directory| directory.display().to_string()),
        files,
    };
    flags.output.print(&printed, text)
}

/// Returns which job is wanted, and its name if one is given.
///
/// An entry has the UID of a job, and a pseudonym of its name: a user who may read the job in the cluster
/// needs no key.
async fn wanted(
    connection: &Connection,
    flags: &Flags,
    from: &Source,
) -> Result<(WantedJob, Option<String>), CommandError> {
    let name = match (&flags.job, &connection.work_namespace) {
        (Some(name), Some(namespace)) if !name.contains('/') => Some(format!("{namespace}/{name}")),
        (name, _) => name.clone(),
    };
    if let Some(uid) = &flags.uid {
        return Ok((WantedJob::Uid(uid.clone()), name));
    }
    let name = name.unwrap_or_default();
    let is_whole = name.contains('/');
    let key = flags.pseudonym_key.as_deref();
    if is_whole && registration_proof::has_key(key, from.directory()) {
        let pseudonym = registration_proof::pseudonym(&name, key, from.directory())?;
        return Ok((WantedJob::Name(pseudonym), Some(name)));
    }
    let client = connection.client().await?;
    let (jobs, own) = namespaced::<AiJob>(&client, &name);
    let uid = match jobs.get_opt(own).await? {
        Some(job) => job.uid(),
        None => namespaced::<Job>(&client, &name).0.get_opt(own).await?.and_then(|job| job.uid()),
    };
    let name = full_key(&client, &name);
    let Some(uid) = uid else {
        return Err(CommandError::new(format!("The cluster has no AIJob and no Job {name}"))
            .code(ErrorCode::NotFound)
            .remedy("Name its --uid, or the --pseudonym-key of the ledger"));
    };
    Ok((WantedJob::Uid(uid.into()), Some(name)))
}

fn text(printed: &Printed) -> String {
    let Printed { receipt, signed_by, cosigned_by, other_jobs, directory, files } = printed;
    let mut text = receipt.text();
    if !other_jobs.is_empty() {
        let uids: Vec<&str> = other_jobs.iter().map(|uid| &**uid).collect();
        let _ = writeln!(
            text,
            "Other jobs had this name, and are not in it: {}. Name one with --uid.",
            uids.join(", ")
        );
    }
    text += &super::trust::signatures(Some(signed_by), cosigned_by);
    if let Some(directory) = directory {
        let proofs = files.iter().filter(|file| is_proof(file)).count();
        let _ = writeln!(
            text,
            "Wrote the receipt, with {proofs} entries that prove it, to {directory}.\n\
             Verify it with `daylight receipt verify {directory} --policy FILE`."
        );
    }
    text
}

#[cfg(test)]
mod tests;
