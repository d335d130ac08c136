//! Leases: pods on a node that are on record, with the GPUs that they hold.

use std::collections::BTreeMap;

use daylight_base::{Name, Timestamp};
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use strum::{IntoStaticStr, VariantArray};

use crate::amount::{Bounded, is_zero};
use crate::key::Method;
use crate::moment::Moment;
use crate::operated::Requested;

/// Account to which time, energy and work are booked.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Account {
    /// Activity class; `None` if undeclared.
    pub class: Option<Name>,
    /// `namespace/name` of the registration; `None` if unregistered.
    pub registration: Option<Name>,
    pub namespace: Name,
}

/// Pod on a node that is on record, while it runs and until all of it is booked.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub uid: Name,
    /// `namespace/name` of the pod.
    pub pod: Name,
    pub account: Account,
    /// 0 if it holds none.
    pub gpus: u32,
    #[serde(default, skip_serializing_if = "Requested::is_nothing")]
    pub requested: Requested,
    /// True if the pod waits for its end to be recorded before it is released.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub owed: bool,
    /// Declared power, in watts.
    #[serde(default)]
    pub watts: u64,
    /// Time when the pod was bound.
    pub bound: Moment,
    /// Time when its containers started.
    pub started: Option<Moment>,
    /// Start of its time in the books: after `bound` only if the books had passed that already.
    pub from: Timestamp,
    /// End of its time in the books; `None` while it holds its GPUs.
    pub until: Option<Timestamp>,
    /// Time of its end, as reported.
    pub ended: Option<Moment>,
    /// Operating time booked so far, in milliseconds.
    #[serde(
        rename = "operatedMs",
        with = "crate::amount::decimal",
        default,
        skip_serializing_if = "is_zero"
    )]
    pub operated_ms: u64,
    /// Energy booked so far, in millijoules.
    #[serde(default)]
    pub energy: Bounded,
    /// Energy booked so far by its method, and bounds of what it may have drawn without a reading. Not in
    /// states of earlier versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub methods: BTreeMap<Method, Bounded>,
    /// Devices that the exporter's labels named for it, while its node had them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Name>,
    /// Work that it last reported, while it holds its GPUs.
    pub work: Option<Facts>,
    /// What it runs, for a miner's pod.
    pub program: Option<Box<Program>>,
    /// Job that it works for.
    pub job: Option<Box<JobReference>>,
    /// Images of its containers, of a pod that does not mine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image>,
    /// Number of further images, which are not recorded.
    #[serde(default, rename = "moreImages", skip_serializing_if = "is_zero")]
    pub more_images: u32,
    /// How its pod ended; `None` while it runs, and if that was not observed.
    pub outcome: Option<PodOutcome>,
}

/// Most images that are recorded of a lease.
pub const MOST_IMAGES: usize = 8;

/// Job, in the namespace of its pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JobReference {
    pub kind: JobKind,
    /// `namespace/name`.
    pub name: Name,
    pub uid: Name,
}

/// Kind of a job.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    IntoStaticStr,
    VariantArray,
)]
#[strum(const_into_str)]
pub enum JobKind {
    /// `daylight.dev` `AIJob`.
    AIJob,
    /// `batch/v1` Job that no `AIJob` controls.
    Job,
}

/// Image of a container.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Image {
    /// Digest of its manifest, `sha256:…`, as the kubelet reports it.
    pub digest: Option<Name>,
    /// The image as requested, if no digest is known.
    pub requested: Option<Name>,
}

/// How a pod ended.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase", const_into_str)]
pub enum PodOutcome {
    Succeeded,
    Failed,
    /// It was deleted while it ran.
    Deleted,
    /// It was preempted, evicted or drained.
    Disrupted,
}

/// What a pod is part of, what it runs, and how it ended, as far as it is observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    pub job: Option<JobReference>,
    pub images: Vec<Image>,
    /// Number of images that are not in `images`.
    pub more_images: u32,
    pub outcome: Option<PodOutcome>,
}

/// What a miner's pod runs, and where it earns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Image of its container, as the kubelet reports it.
    pub image: Name,
    /// Endpoints of mining pools, as its `Miner` has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Name>,
}

impl Lease {
    /// Adds energy by its method.
    pub(crate) fn add_energy(&mut self, method: Method, mj: Bounded) {
        if !mj.is_zero() {
            self.methods.entry(method).or_default().add(mj);
        }
    }

    /// Takes what is observed of it. What is known and no longer observed is kept: a job may be deleted
    /// before its pods, and a container may be started again from another image.
    pub(crate) fn describe(&mut self, seen: Description) {
        let Description { job, images, more_images, outcome } = seen;
        let known = self.job.as_ref().map(|job| job.kind);
        if let Some(job) = job
            && known.is_none_or(|known| known == JobKind::Job || job.kind == JobKind::AIJob)
        {
            self.job = Some(Box::new(job));
        }
        if !images.is_empty() {
            self.images.retain(|image| image.digest.is_some());
            for image in images {
                if self.images.contains(&image) {
                    continue;
                }
                if self.images.len() < MOST_IMAGES {
                    self.images.push(image);
                } else {
                    self.more_images = self.more_images.max(1);
                }
            }
            self.more_images = self.more_images.max(more_images);
        }
        self.outcome = self.outcome.or(outcome);
    }

    /// Latest time at which it may have held its GPUs; `None` while it holds them.
    pub(crate) fn held_until(&self) -> Option<Timestamp> {
        Some(self.until?.max(self.ended?.latest))
    }

    /// Returns whether it held its GPUs all the time between two times, and surely so.
    pub(crate) fn held_throughout(&self, from: Timestamp, until: Timestamp) -> bool {
        self.bound.latest <= from
            && self.until.is_none_or(|booked| booked >= until)
            && self.ended.is_none_or(|ended| ended.earliest >= until)
    }

    /// Returns whether it may have held its GPUs at some time within a moment.
    pub(crate) fn may_live_at(&self, at: Moment) -> bool {
        self.bound.earliest <= at.latest && self.held_until().is_none_or(|end| end >= at.earliest)
    }

    /// Returns whether labels name it on a device. A pod has the same devices for all of its time:
    /// if more are named than it has GPUs, none of the labels is believed.
    pub(crate) fn is_named_on(&self, device: &Name) -> bool {
        self.devices.len() <= self.gpus as usize && self.devices.contains(device)
    }

    /// Number of its GPUs that may be other devices than those that labels name.
    pub(crate) fn gpus_elsewhere(&self) -> u64 {
        let (gpus, named) = (u64::from(self.gpus), self.devices.len() as u64);
        if named > gpus { gpus } else { gpus - named }
    }

    /// Returns whether it may hold a device, by what labels name.
    pub(crate) fn may_hold(&self, device: &Name) -> bool {
        self.gpus_elsewhere() > 0 || self.is_named_on(device)
    }

    /// Returns whether it holds its GPUs at a time, by the books.
    pub(crate) fn holds_at(&self, at: Timestamp) -> bool {
        self.from <= at && self.until.is_none_or(|until| at < until)
    }
}

/// Work that a miner reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// Shares that the mining pool accepted.
    #[serde(with = "crate::amount::decimal")]
    pub shares_accepted: u64,
    #[serde(with = "crate::amount::decimal")]
    pub shares_rejected: u64,
    #[serde(with = "crate::amount::decimal")]
    pub hashes: u64,
    /// True if the agent observed the mining pool's answers; false if the miner claims them.
    pub seen: bool,
}

impl Facts {
    /// Adds work with the same evidence.
    pub fn add(&mut self, more: Self) {
        let Self { shares_accepted, shares_rejected, hashes, seen } = more;
        self.shares_accepted = self.shares_accepted.saturating_add(shares_accepted);
        self.shares_rejected = self.shares_rejected.saturating_add(shares_rejected);
        self.hashes = self.hashes.saturating_add(hashes);
        self.seen = seen;
    }
}
