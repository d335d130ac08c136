//! Pods.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use daylight_base::{Name, Timestamp};
use daylight_crds::labels;
use serde::{Deserialize, Deserializer};

use crate::amounts::Amounts;
use crate::names::{Names, parts};
use crate::pod_requests::{ContainerResources, Requests, Resources};
use crate::slim::failure::{PodFailure, Terminated, Waiting};
use crate::slim::meta::{Condition, Meta, Moment};
use crate::slim::spec::{Scheduling, Spec};
use crate::store::stored;
use crate::well_known;

/// A pod.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// `namespace/name`.
    pub key: Name,
    /// UID; empty for a pod that is only about to be created.
    pub uid: Box<str>,
    /// Resource version; 0 if it is not a number.
    pub version: u64,
    pub created: Timestamp,
    /// Time by which it has to be gone, if it is being deleted.
    pub deletion: Option<Timestamp>,
    /// Time that it has from the request of its deletion to its end.
    pub deletion_grace: Duration,
    /// The content of its labels, if it is a miner's pod: it has them and the priority class.
    pub lease: Option<Box<Lease>>,
    /// `namespace/name` of the `AIJob` that its label names.
    pub ai_job: Option<Name>,
    /// The class that its label names.
    pub activity: Option<Name>,
    /// `namespace/name` of the registration that its label names.
    pub registration: Option<Name>,
    pub owner: Option<Owner>,
    /// Images of its containers, of a pod that may be on record and does not mine. Some may repeat.
    pub images: Box<[ContainerImage]>,
    /// `true` if it has the auditor's finalizer.
    pub metered: bool,
    /// The node it is bound to.
    pub node: Option<Name>,
    /// The node that its affinity pins it to.
    pub pinned: Option<Name>,
    /// The node that kube-scheduler makes room on for it.
    pub nominated: Option<Name>,
    pub phase: Phase,
    /// `status.reason`: one word from the kubelet or a controller, if it failed.
    pub reason: Option<Name>,
    /// `true` if something disrupted it: preemption, eviction, a taint, a shutdown.
    pub disrupted: bool,
    /// Time since when kube-scheduler finds no node for it.
    pub unschedulable_since: Option<Timestamp>,
    /// Time at which it was bound, in whole seconds.
    pub bound_at: Option<Timestamp>,
    /// Time at which the kubelet accepted it, in whole seconds.
    pub started_at: Option<Timestamp>,
    /// Time at which its last container ended, in whole seconds, if all have.
    pub finished_at: Option<Timestamp>,
    /// The record of its work, if a container left one as it ended.
    pub work: Option<Box<Work>>,
    /// The failure of its container, for a miner's pod.
    pub failure: Option<Box<PodFailure>>,
    /// `true` if the container of a miner's pod ended. Others may keep the pod running.
    pub own_ended: bool,
    /// `true` if all its containers are ready.
    pub ready: bool,
    pub requests: Requests,
    /// The names of its volume claims.
    pub claims: Box<[Name]>,
    /// `true` if a `LimitRange` set requests of its containers.
    pub limit_ranged: bool,
    /// The extended resources that a DRA driver allocated for it, instead of a device plugin.
    pub by_claim: Box<[Name]>,
    pub priority: i32,
    /// The scheduling gates that keep kube-scheduler from binding it.
    pub gates: Box<[Name]>,
    /// The constraints on its node, if Daylight may have to make room for it: it is not bound, and
    /// kube-scheduler will not preempt for it.
    pub waiting: Option<Box<Scheduling>>,
}

/// A miner's pod as its labels describe it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// `namespace/name` of the miner; it is in the pod's namespace.
    pub miner: Name,
    /// `namespace/name` of the registration; it is in the pod's namespace.
    pub registration: Name,
    pub pool: Name,
    /// The slot on its node.
    pub slot: u32,
    /// Number of grants of the slot before this one.
    pub epoch: u32,
    /// Revision of the miner from which the pod was made.
    pub revision: u64,
    /// Watts declared for it.
    pub watts: u64,
    /// `true` until its node has prepared its volumes, its sandbox and its network.
    pub unprepared: bool,
    /// Image of the miner's container, as the kubelet reports it; empty before.
    pub image: Name,
    pub ip: Option<IpAddr>,
}

/// Record of its work that a container left as it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    pub image: Box<str>,
    /// The termination message, which contains the record.
    pub message: Box<str>,
}

/// The object that controls a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub is_job: bool,
    pub name: Name,
    pub uid: Box<str>,
}

/// Image of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerImage {
    /// Digest of its manifest, as the kubelet reports it.
    Digest(Name),
    /// The image as requested, as long as no digest is known.
    Requested(Name),
}

/// Longest image reference that is kept. What is longer is cut.
const LONGEST_IMAGE: usize = 255;

impl ContainerImage {
    /// `id` is what the kubelet reports once it has the image: a repository with a digest, or a number of
    /// its own for an image that no registry gave it.
    fn new(id: &str, requested: &str) -> Self {
        let digest = id.rsplit_once('@').map(|(_, digest)| digest);
        let is_digest = |digest: &&str| {
            digest.split_once(':').is_some_and(|(algorithm, hex)| {
                let length = match algorithm {
                    "sha256" => 64,
                    "sha512" => 128,
                    _ => return false,
                };
                hex.len() == length && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
            })
        };
        if let Some(digest) = digest.filter(is_digest) {
            return Self::Digest(digest.into());
        }
        let end = requested.floor_char_boundary(LONGEST_IMAGE);
        Self::Requested(requested[..end].into())
    }
}

/// Phase of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, strum::Display)]
pub enum Phase {
    /// Not all containers have started.
    #[default]
    Pending,
    Running,
    /// All containers ended with exit code 0.
    Succeeded,
    /// A container failed, or the pod was ended.
    Failed,
}

impl Pod {
    /// Returns the namespace.
    pub fn namespace(&self) -> &str {
        parts(&self.key).0
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        parts(&self.key).1
    }

    /// Returns `true` if its containers have ended and it holds no resources any more.
    pub fn is_terminal(&self) -> bool {
        matches!(self.phase, Phase::Succeeded | Phase::Failed)
    }

    /// Returns the failure that keeps its container from starting, if it is likely to last.
    pub fn stuck(&self) -> Option<&PodFailure> {
        let failure = self.failure.as_deref().filter(|failure| failure.before_start)?;
        // The first failure to pull an image is often transient. The kubelet reports
        // `ImagePullBackOff` if it fails again.
        (!self.is_terminal() && &*failure.word != "ErrImagePull").then_some(failure)
    }

    /// Returns the node to which it is bound or, for a miner's pod that is not bound, pinned.
    pub fn place(&self) -> Option<&Name> {
        self.node.as_ref().or(self.pinned.as_ref().filter(|_| self.lease.is_some()))
    }
}

stored!(
    Pod,
    key,
    fn share(&mut self, names: &mut Names) {
        if let Some(lease) = &mut self.lease {
            for name in
                [&mut lease.miner, &mut lease.registration, &mut lease.pool, &mut lease.image]
            {
                names.share(name);
            }
        }
        for name in [
            &mut self.ai_job,
            &mut self.activity,
            &mut self.registration,
            &mut self.node,
            &mut self.pinned,
            &mut self.nominated,
            &mut self.reason,
        ] {
            names.share_some(name);
        }
        for (resource, _) in &mut self.requests.extended {
            names.share(resource);
        }
        self.by_claim.iter_mut().for_each(|resource| names.share(resource));
        for image in &mut self.images {
            let (ContainerImage::Digest(name) | ContainerImage::Requested(name)) = image;
            names.share(name);
        }
        if let Some(owner) = &mut self.owner {
            names.share(&mut owner.name);
        }
        self.gates.iter_mut().for_each(|gate| names.share(gate));
    }
);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Raw<'a> {
    #[serde(borrow)]
    metadata: Meta<'a>,
    #[serde(borrow)]
    spec: Spec<'a>,
    #[serde(borrow)]
    status: Status<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status<'a> {
    #[serde(borrow)]
    phase: Cow<'a, str>,
    #[serde(borrow)]
    reason: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
    #[serde(borrow)]
    conditions: Vec<Condition<'a>>,
    #[serde(borrow)]
    nominated_node_name: Cow<'a, str>,
    #[serde(borrow, rename = "podIP")]
    pod_ip: Cow<'a, str>,
    start_time: Option<Moment>,
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
    #[serde(rename = "extendedResourceClaimStatus")]
    claimed: Option<ClaimStatus>,
}

/// Extended resources that are allocated by DRA.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClaimStatus {
    request_mappings: Vec<ClaimRequest>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClaimRequest {
    resource_name: Name,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatus {
    name: Box<str>,
    image: Box<str>,
    #[serde(rename = "imageID")]
    image_id: Box<str>,
    allocated_resources: Amounts,
    resources: Option<Resources>,
    state: State,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct State {
    waiting: Option<Waiting>,
    terminated: Option<Terminated>,
}

impl<'de> Deserialize<'de> for Pod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Raw::deserialize(deserializer).map(Pod::from)
    }
}

impl From<Raw<'_>> for Pod {
    fn from(raw: Raw<'_>) -> Self {
        let Raw { metadata, spec, mut status } = raw;
        let condition = |kind: &str| status.conditions.iter().find(|one| one.kind == kind);
        let since = |condition: Option<&Condition<'_>>| {
            condition.and_then(|one| one.last_transition_time.map(|at| at.0))
        };
        let scheduled = condition("PodScheduled");
        let finished_at = status
            .container_statuses
            .iter()
            .map(|one| Some(one.state.terminated.as_ref()?.finished_at?.0))
            .collect::<Option<Vec<_>>>()
            .and_then(|times| times.into_iter().max());
        let lease = Lease::read(&metadata)
            .filter(|_| spec.priority_class_name == well_known::MINER_PRIORITY_CLASS)
            .map(|lease| {
                let image = own_container(&status.container_statuses).map_or("", |one| &one.image);
                let unprepared = condition("PodReadyToStartContainers")
                    .is_some_and(|one| one.status == "False" && status.phase == "Pending");
                Box::new(Lease {
                    unprepared,
                    image: image.into(),
                    ip: status.pod_ip.parse().ok(),
                    ..lease
                })
            });
        let some = |text: &str| (!text.is_empty()).then(|| Name::from(text));
        let node = some(&spec.node_name);
        let waits = node.is_none() && spec.preemption_policy == "Never" && lease.is_none();
        let pinned = if lease.is_some() { spec.node_filter().pinned().cloned() } else { None };
        let first = own_container(&status.container_statuses).filter(|_| lease.is_some());
        let disrupted = condition("DisruptionTarget").filter(|one| one.status == "True");
        let evicted = if status.reason == "Evicted" {
            Some(&status.message)
        } else {
            // A pod whose container ends with exit code 0 has no reason, even if the kubelet
            // evicted it; only the condition records that.
            let by_kubelet = disrupted.filter(|one| one.reason == "TerminationByKubelet");
            by_kubelet.map(|one| &one.message)
        };
        let failure = match evicted.filter(|_| lease.is_some()) {
            Some(message) => Some(PodFailure::of_eviction(message)),
            None => first.and_then(|one| match (&one.state.terminated, &one.state.waiting) {
                (Some(ended), _) => PodFailure::of_ended(ended),
                (None, Some(waiting)) => PodFailure::of_waiting(waiting),
                (None, None) => None,
            }),
        };
        let own_ended = first.is_some_and(|one| one.state.terminated.is_some());
        let work = status.container_statuses.iter_mut().find_map(|one| {
            let ended = one.state.terminated.as_mut()?;
            let has_record = ended.message.contains(daylight_agent_api::RECORD_KEY);
            has_record.then(|| {
                let message = std::mem::take(&mut ended.message);
                Box::new(Work { image: std::mem::take(&mut one.image), message })
            })
        });
        let images: Vec<_> = if lease.is_none() {
            let id = |name: &str| {
                let known = status.container_statuses.iter().find(|one| *one.name == *name);
                known.map_or("", |one| &one.image_id)
            };
            let containers = spec.containers.iter();
            containers.map(|one| ContainerImage::new(id(&one.name), &one.image)).collect()
        } else {
            Vec::new()
        };
        let by_claim = status.claimed.unwrap_or_default().request_mappings;
        let resize_is_infeasible =
            condition("PodResizePending").is_some_and(|one| one.reason == "Infeasible");
        let in_use: Vec<_> = status
            .container_statuses
            .into_iter()
            .chain(status.init_container_statuses)
            .map(|one| ContainerResources {
                name: one.name,
                allocated: one.allocated_resources,
                in_use: one.resources,
            })
            .collect();
        let requests = spec.requests(&in_use, resize_is_infeasible);
        let activity = metadata.labels.get(labels::ACTIVITY).map(Name::from);
        let registration = metadata.sibling(labels::REGISTRATION);
        let may_count =
            !requests.extended.is_empty() || activity.is_some() || registration.is_some();
        Self {
            key: metadata.key().into(),
            uid: (&*metadata.uid).into(),
            version: metadata.version(),
            by_claim: by_claim.into_iter().map(|one| one.resource_name).collect(),
            created: metadata.created(),
            deletion: metadata.deletion_timestamp.map(|at| at.0),
            deletion_grace: Duration::from_secs(metadata.deletion_grace_period_seconds),
            ai_job: metadata.sibling(labels::AI_JOB),
            activity,
            registration,
            owner: metadata.controller().map(|owner| Owner {
                is_job: owner.kind == "Job",
                name: (&*owner.name).into(),
                uid: (&*owner.uid).into(),
            }),
            images: if may_count { images.into() } else { Box::default() },
            metered: metadata.finalizers.iter().any(|one| one == labels::METERED_FINALIZER),
            pinned,
            nominated: some(&status.nominated_node_name),
            phase: match &*status.phase {
                "Running" => Phase::Running,
                "Succeeded" => Phase::Succeeded,
                "Failed" => Phase::Failed,
                _ => Phase::Pending,
            },
            reason: some(&status.reason),
            disrupted: disrupted.is_some(),
            unschedulable_since: since(
                scheduled.filter(|one| one.status == "False" && one.reason == "Unschedulable"),
            ),
            bound_at: since(scheduled.filter(|one| one.status == "True")),
            started_at: status.start_time.map(|at| at.0),
            finished_at,
            work,
            failure: failure.map(Box::new),
            own_ended,
            ready: condition("Ready").is_some_and(|one| one.status == "True"),
            requests,
            claims: spec.claims(&metadata.name),
            limit_ranged: metadata.annotations.get(well_known::LIMIT_RANGER).is_some(),
            priority: spec.priority,
            gates: if node.is_none() { spec.gates() } else { Box::default() },
            waiting: waits.then(|| Box::new(spec.scheduling())),
            node,
            lease,
        }
    }
}

/// Returns the status of the miner's container. A webhook may add others, whose names may sort first.
fn own_container(statuses: &[ContainerStatus]) -> Option<&ContainerStatus> {
    let own = statuses.iter().find(|one| &*one.name == well_known::MINER_CONTAINER);
    own.or(statuses.first())
}

impl Lease {
    fn read(metadata: &Meta<'_>) -> Option<Self> {
        let number = |label: &str| metadata.labels.get(label)?.parse().ok();
        Some(Self {
            miner: metadata.sibling(labels::MINER)?,
            registration: metadata.sibling(labels::REGISTRATION)?,
            pool: metadata.labels.get(labels::POOL)?.into(),
            slot: u32::try_from(number(labels::SLOT)?).ok()?,
            epoch: number(labels::EPOCH)
                .and_then(|epoch: u64| u32::try_from(epoch).ok())
                .unwrap_or(0),
            revision: number(well_known::REVISION).unwrap_or(0),
            watts: number(well_known::WATTS).unwrap_or(0),
            ..Self::default()
        })
    }
}
