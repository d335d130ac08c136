//! `daylight approve|reject|suspend|revoke`.

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
use serde_json::json;

use super::Failed;
use super::connect::{Connection, user};
use super::output::Output;
use crate::registration_signature;
use crate::view::digest;
use daylight_cluster::names::parts;

/// Writes `status.approval`, and nothing else.
const MANAGER: &str = "daylight/approval";

/// The registration, with or without the word: `approve team-a/night`, `approve registration
/// team-a/night`.
#[derive(Debug, Args)]
struct Subject {
    /// Registration to decide on
    #[arg(value_name = "NAMESPACE/NAME", required = true, num_args = 1..=2)]
    registration: Vec<String>,
}

impl Subject {
    fn key(&self) -> Result<&str, Failed> {
        match &self.registration[..] {
            [key] => Ok(key),
            [kind, key] if matches!(kind.as_str(), "registration" | "registrations" | "reg") => {
                Ok(key)
            }
            _ => Err(Failed::new(
                "Only a registration can be decided about; write its NAMESPACE/NAME, such as \
                 team-a/night.",
            )),
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
    /// Approve only if the spec still has this generation, the one that you read
    #[arg(long)]
    generation: Option<i64>,
    /// File with the authority's signature of what --print-message prints: its 64 bytes, or these in
    /// base64; - reads standard input
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// Print the bytes that the authority signs to approve the registration as it is now, and decide
    /// nothing
    #[arg(long, conflicts_with_all = ["signature", "message"])]
    print_message: bool,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Decide {
    #[command(flatten)]
    subject: Subject,
    /// Reason, which the operator of the registered work can read
    #[arg(short, long)]
    message: String,
    #[command(flatten)]
    output: Output,
}

/// What was decided, as it is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Decision {
    registration: String,
    approval: Approval,
    /// The state before.
    was: Option<RegistrationState>,
}

pub(super) async fn approve(connection: &Connection, flags: &Approve) -> Result<(), Failed> {
    let client = connection.client().await?;
    let key = flags.subject.key()?;
    let registration = get(&client, key).await?;
    let generation = registration.metadata.generation;
    if let Some(expected) = flags.generation
        && generation != Some(expected)
    {
        return Err(Failed::new(format!(
            "Registration {key} is at generation {}, not {expected}: it was edited since; read it \
             again before you approve it.",
            generation.unwrap_or_default(),
        )));
    }
    let digest = digest_of(&client, &registration).await?;
    if flags.print_message {
        print!("{}", registration_signature::message(&registration, &digest));
        return Ok(());
    }
    let by = user(&client).await?;
    if by == registration.spec.submitted_by {
        return Err(Failed::new(format!(
            "You ({by}) submitted registration {key}; let somebody else approve it."
        )));
    }
    let approval = Approval {
        state: ApprovalState::Approved,
        by,
        at: now(),
        spec_digest: Some(digest),
        digest_version: digest::VERSION,
        generation,
        message: flags.message.clone(),
        signature: flags.signature.as_deref().map(read_signature).transpose()?,
    };
    decide(&client, registration, approval, flags.output).await
}

/// A signature in base64, from a file that has it so or as its bytes.
fn read_signature(path: &Path) -> Result<String, Failed> {
    let read = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    let bytes = read.map_err(|error| {
        Failed::new(format!("The signature {} cannot be read ({error}).", path.display()))
    })?;
    let decoded = match str::from_utf8(&bytes) {
        Ok(text) if bytes.len() != 64 => {
            STANDARD.decode(text.split_whitespace().collect::<String>())
        }
        _ => Ok(bytes),
    };
    match decoded {
        Ok(signature) if signature.len() == 64 => Ok(STANDARD.encode(signature)),
        _ => Err(Failed::new(format!(
            "{} is no Ed25519 signature, which is 64 bytes or these in base64; make it with \
             `openssl pkeyutl -sign -rawin`.",
            path.display()
        ))),
    }
}

pub(super) async fn reject(connection: &Connection, flags: &Decide) -> Result<(), Failed> {
    refuse(connection, flags, ApprovalState::Rejected).await
}

pub(super) async fn suspend(connection: &Connection, flags: &Decide) -> Result<(), Failed> {
    refuse(connection, flags, ApprovalState::Suspended).await
}

pub(super) async fn revoke(connection: &Connection, flags: &Decide) -> Result<(), Failed> {
    refuse(connection, flags, ApprovalState::Revoked).await
}

async fn refuse(
    connection: &Connection,
    flags: &Decide,
    state: ApprovalState,
) -> Result<(), Failed> {
    let client = connection.client().await?;
    let registration = get(&client, flags.subject.key()?).await?;
    let approval = Approval {
        state,
        by: user(&client).await?,
        at: now(),
        spec_digest: None,
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

async fn get(client: &Client, key: &str) -> Result<Registration, Failed> {
    let (namespace, name) = parts(key);
    if namespace.is_empty() {
        return Err(Failed::new(format!(
            "{key:?} names no namespace; write NAMESPACE/NAME, such as team-a/{key}."
        )));
    }
    let api: Api<Registration> = Api::namespaced(client.clone(), namespace);
    api.get_opt(name).await?.ok_or_else(|| {
        Failed::new(format!(
            "There is no Registration {name} in namespace {namespace}; `kubectl get registrations \
             -A` lists them."
        ))
    })
}

/// The digest of what is approved. What does not exist cannot be approved: the approval would be
/// void as soon as it did.
async fn digest_of(client: &Client, registration: &Registration) -> Result<String, Failed> {
    let spec = &registration.spec;
    let classes: Api<ActivityClass> = Api::all(client.clone());
    let class = classes.get_opt(&spec.activity_class).await?.ok_or_else(|| {
        Failed::new(format!(
            "There is no ActivityClass {}, which the registration names; add it to the positive \
             list first.",
            spec.activity_class
        ))
    })?;
    let api: Api<GpuPool> = Api::all(client.clone());
    let mut pools = Vec::new();
    for name in &spec.pools {
        let pool = api.get_opt(name).await?.ok_or_else(|| {
            Failed::new(format!(
                "There is no GpuPool {name}, which the registration names; create it first, or \
                 take it out of spec.pools."
            ))
        })?;
        pools.push(pool);
    }
    let find = |name: &str| pools.iter().find(|pool| pool.name_any() == name);
    Ok(digest::spec_digest(registration, Some(&class), find))
}

async fn decide(
    client: &Client,
    registration: Registration,
    approval: Approval,
    output: Output,
) -> Result<(), Failed> {
    let (namespace, name) = (registration.namespace().unwrap_or_default(), registration.name_any());
    let api: Api<Registration> = Api::namespaced(client.clone(), &namespace);
    let patch = json!({
        "apiVersion": "daylight.dev/v1alpha1", "kind": "Registration",
        "metadata": { "name": name, "namespace": namespace, "uid": registration.uid() },
        "status": { "approval": approval },
    });
    let params = PatchParams::apply(MANAGER).force();
    api.patch_status(&name, &params, &Patch::Apply(&patch)).await?;
    let decision = Decision {
        registration: format!("{namespace}/{name}"),
        approval,
        was: registration.status.and_then(|status| status.state),
    };
    output.print(&decision, |decision| {
        let Decision { registration, approval, .. } = decision;
        let state = format!("{:?}", approval.state).to_lowercase();
        let mut text = format!("Registration {registration} is {state} by {}.\n", approval.by);
        if let (Some(digest), Some(generation)) = (&approval.spec_digest, approval.generation) {
            let _ = writeln!(
                text,
                "What was approved: generation {generation}, {digest}; an edit voids it."
            );
        }
        text
    })
}
