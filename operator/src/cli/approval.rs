//! `daylight approve|reject|suspend|revoke`: decisions about a registration.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use daylight_crds::{
    ActivityClass, Approval, ApprovalState, GpuPool, Registration, RegistrationState,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde::Serialize;
use serde_json::{Value, json};

use super::connect::{Connection, full_key, namespaced, user};
use super::error::{CommandError, ErrorCode};
use super::output::Output;
use super::review::Review;
use crate::registration_signature;
use crate::view::digest;

/// The field manager, which owns `status.approval` and nothing else.
const MANAGER: &str = "daylight/approval";

/// The registration, with or without its kind: `approve team-a/night`, `approve registration
/// team-a/night`.
#[derive(Debug, Args)]
struct Subject {
    /// Registration to decide on; without a namespace, that of --namespace, or the context's
    #[arg(value_name = "NAMESPACE/NAME", required = true, num_args = 1..=2)]
    registration: Vec<String>,
}

impl Subject {
    fn key(&self) -> Result<&str, CommandError> {
        match &self.registration[..] {
            [key] => Ok(key),
            [kind, key] if matches!(kind.as_str(), "registration" | "registrations" | "reg") => {
                Ok(key)
            }
            [kind, ..] => {
                let error = CommandError::new(format!("\"{kind}\" is not a registration"));
                let error = error.code(ErrorCode::Invalid);
                Err(error.remedy("Write the NAMESPACE/NAME of one, such as team-a/night"))
            }
            [] => Err(CommandError::new("No registration is named")),
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Approve {
    #[command(flatten)]
    subject: Subject,
    /// Note to record with the approval
    #[arg(short, long)]
    message: Option<String>,
    /// Approve the spec with this generation. Without it and --digest, display what would be approved and
    /// what changed since the last approval, and decide nothing
    #[arg(long)]
    generation: Option<i64>,
    /// Approve the registration, class and pools with this digest, as displayed
    #[arg(long)]
    digest: Option<String>,
    /// File with the authority's signature of what --print-message prints: its 64 bytes, or these in
    /// base64; - reads standard input
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// Print the bytes that the authority signs to approve the registration as it is now, and decide
    /// nothing
    #[arg(long, conflicts_with_all = ["signature", "message"])]
    print_message: bool,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Decide {
    #[command(flatten)]
    subject: Subject,
    /// Reason, which the operator of the registered work can read
    #[arg(short, long)]
    message: String,
    #[command(flatten)]
    pub(super) output: Output,
}

/// A decision that was made.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Decision {
    registration: String,
    approval: Approval,
    /// The state before.
    was: Option<RegistrationState>,
}

pub(super) async fn approve(connection: &Connection, flags: &Approve) -> Result<(), CommandError> {
    let client = connection.client().await?;
    let key = &full_key(&client, flags.subject.key()?);
    let registration = get(&client, key).await?;
    let generation = registration.metadata.generation;
    if let Some(expected) = flags.generation
        && generation != Some(expected)
    {
        let problem = format!(
            "Registration {key} was edited: it has generation {}, not {expected}",
            generation.unwrap_or_default()
        );
        return Err(CommandError::new(problem)
            .code(ErrorCode::Conflict)
            .remedy("Read it again before you approve it"));
    }
    let content = content_of(&client, &registration).await?;
    let digest = digest::of(&content);
    if flags.print_message {
        print!("{}", registration_signature::message(&registration, &digest));
        return Ok(());
    }
    let by = user(&client).await?;
    if by == registration.spec.submitted_by {
        let error = CommandError::new(format!("You ({by}) submitted registration {key}"));
        return Err(error.code(ErrorCode::Forbidden).remedy("Another person must approve it"));
    }
    if let Some(expected) = &flags.digest
        && *expected != digest
    {
        let problem = format!(
            "Registration {key}, its class or its pools were edited: the digest is {digest}"
        );
        return Err(CommandError::new(problem)
            .code(ErrorCode::Conflict)
            .remedy("Read it again before you approve it"));
    }
    if flags.generation.is_none() && flags.digest.is_none() {
        let remedy = format!("To approve it, run the command again with --digest {digest}");
        flags.output.print(&Review::new(&registration, content, digest), Review::text)?;
        return Err(CommandError::new(format!("Registration {key} is not approved yet"))
            .code(ErrorCode::NotConfirmed)
            .remedy(remedy));
    }
    let approval = Approval {
        state: ApprovalState::Approved,
        by,
        at: now(),
        spec_digest: Some(digest),
        approved_content: Some(digest::canonical(&content)),
        digest_version: digest::VERSION,
        generation,
        message: flags.message.clone(),
        signature: flags.signature.as_deref().map(read_signature).transpose()?,
    };
    decide(&client, registration, approval, flags.output).await
}

/// Reads a signature from a file with its bytes or their base64, and returns the base64.
fn read_signature(path: &Path) -> Result<String, CommandError> {
    let read = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    let bytes = read.map_err(|error| {
        CommandError::new(format!("Cannot read the signature {}", path.display()))
            .because(error)
            .code(ErrorCode::Invalid)
    })?;
    let decoded = match str::from_utf8(&bytes) {
        Ok(text) if bytes.len() != 64 => {
            STANDARD.decode(text.split_whitespace().collect::<String>())
        }
        _ => Ok(bytes),
    };
    match decoded {
        Ok(signature) if signature.len() == 64 => Ok(STANDARD.encode(signature)),
        _ => {
            let problem = format!(
                "{} does not contain an Ed25519 signature, which is 64 bytes or their base64",
                path.display()
            );
            Err(CommandError::new(problem)
                .code(ErrorCode::Invalid)
                .remedy("Create one with `openssl pkeyutl -sign -rawin`"))
        }
    }
}

pub(super) async fn reject(connection: &Connection, flags: &Decide) -> Result<(), CommandError> {
    refuse(connection, flags, ApprovalState::Rejected).await
}

pub(super) async fn suspend(connection: &Connection, flags: &Decide) -> Result<(), CommandError> {
    refuse(connection, flags, ApprovalState::Suspended).await
}

pub(super) async fn revoke(connection: &Connection, flags: &Decide) -> Result<(), CommandError> {
    refuse(connection, flags, ApprovalState::Revoked).await
}

async fn refuse(
    connection: &Connection,
    flags: &Decide,
    state: ApprovalState,
) -> Result<(), CommandError> {
    let client = connection.client().await?;
    let registration = get(&client, &full_key(&client, flags.subject.key()?)).await?;
    let last = registration.status.as_ref().and_then(|status| status.approval.as_ref());
    let approval = Approval {
        state,
        by: user(&client).await?,
        at: now(),
        spec_digest: None,
        approved_content: last.and_then(|last| last.approved_content.clone()),
        digest_version: digest::VERSION,
        generation: registration.metadata.generation,
        message: Some(flags.message.clone()),
        signature: None,
    };
    decide(&client, registration, approval, flags.output).await
}

fn now() -> Time {
    let now = jiff::Timestamp::now().as_second();
    Time(jiff::Timestamp::from_second(now).unwrap_or_default())
}

async fn get(client: &Client, key: &str) -> Result<Registration, CommandError> {
    let (api, name) = namespaced::<Registration>(client, key);
    api.get_opt(name).await?.ok_or_else(|| {
        CommandError::new(format!("There is no Registration {key}"))
            .code(ErrorCode::NotFound)
            .remedy("List them with `kubectl get registrations -A`")
    })
}

/// Returns what is approved: registration, class and pools. All must exist: an approval without one of
/// them would be void as soon as that one is created.
async fn content_of(client: &Client, registration: &Registration) -> Result<Value, CommandError> {
    let spec = &registration.spec;
    let classes: Api<ActivityClass> = Api::all(client.clone());
    let class = classes.get_opt(&spec.activity_class).await?.ok_or_else(|| {
        CommandError::new(format!(
            "The registration names ActivityClass {}, which does not exist",
            spec.activity_class
        ))
        .code(ErrorCode::NotFound)
        .remedy("Add it to the positive list first")
    })?;
    let api: Api<GpuPool> = Api::all(client.clone());
    let mut pools = Vec::new();
    for name in &spec.pools {
        let pool = api.get_opt(name).await?.ok_or_else(|| {
            CommandError::new(format!(
                "The registration names GpuPool {name}, which does not exist"
            ))
            .code(ErrorCode::NotFound)
            .remedy("Create it, or remove it from spec.pools")
        })?;
        pools.push(pool);
    }
    let find = |name: &str| pools.iter().find(|pool| pool.name_any() == name);
    Ok(digest::content(registration, Some(&class), find))
}

async fn decide(
    client: &Client,
    registration: Registration,
    approval: Approval,
    output: Output,
) -> Result<(), CommandError> {
    let (namespace, name) = (registration.namespace().unwrap_or_default(), registration.name_any());
    let api: Api<Registration> = Api::namespaced(client.clone(), &namespace);
    // The UID: a registration that was deleted and filed again under the same name must not get a
    // decision about the old one. An edit since it was read voids an approval, by its digest.
    let patch = json!({
        "apiVersion": "daylight.dev/v1alpha1", "kind": "Registration",
        "metadata": { "name": name, "namespace": namespace, "uid": registration.uid() },
        "status": { "approval": approval },
    });
    // Another field manager may own the last decision.
    let params = PatchParams::apply(MANAGER).force();
    api.patch_status(&name, &params, &Patch::Apply(&patch)).await?;
    let decision = Decision {
        registration: format!("{namespace}/{name}"),
        approval,
        was: registration.status.and_then(|status| status.state),
    };
    output.print(&decision, text)
}

fn text(decision: &Decision) -> String {
    let Decision { registration, approval, was: _ } = decision;
    let state = approval.state.to_string().to_lowercase();
    let mut text = format!("Registration {registration} is {state} by {}.\n", approval.by);
    if let (Some(digest), Some(generation)) = (&approval.spec_digest, approval.generation) {
        let _ = writeln!(text, "Approved: generation {generation}, {digest}. An edit voids it.");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(state: ApprovalState, digest: Option<&str>) -> Decision {
        let approval = Approval {
            state,
            by: "ann".into(),
            at: Time(jiff::Timestamp::UNIX_EPOCH),
            spec_digest: digest.map(str::to_owned),
            approved_content: None,
            digest_version: 1,
            generation: Some(3),
            message: None,
            signature: None,
        };
        let was = Some(RegistrationState::Pending);
        Decision { registration: "team-a/night".into(), approval, was }
    }

    #[test]
    fn a_decision_is_printed_with_what_was_approved() {
        assert_eq!(
            text(&decision(ApprovalState::Approved, Some("sha256:9f"))),
            "Registration team-a/night is approved by ann.\n\
             Approved: generation 3, sha256:9f. An edit voids it.\n"
        );
        assert_eq!(
            text(&decision(ApprovalState::Revoked, None)),
            "Registration team-a/night is revoked by ann.\n"
        );
    }

    #[test]
    fn json_has_the_approval_and_the_state_before() {
        let json = serde_json::to_value(decision(ApprovalState::Suspended, None)).unwrap();
        assert_eq!(json["registration"], "team-a/night");
        assert_eq!(json["approval"]["state"], "Suspended");
        assert_eq!(json["was"], "Pending");
    }

    #[test]
    fn a_registration_is_named_with_or_without_its_kind() {
        let key = |words: &[&str]| {
            let registration = words.iter().map(ToString::to_string).collect();
            Subject { registration }.key().map(str::to_owned).map_err(|error| error.report())
        };
        assert_eq!(key(&["team-a/night"]).as_deref(), Ok("team-a/night"));
        assert_eq!(key(&["registration", "team-a/night"]).as_deref(), Ok("team-a/night"));
        assert_eq!(
            key(&["miner", "team-a/night"]).unwrap_err(),
            "\"miner\" is not a registration. Write the NAMESPACE/NAME of one, such as team-a/night."
        );
    }
}
