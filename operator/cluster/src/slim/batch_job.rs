//! Jobs of `batch/v1`, of which Daylight makes one for each `AIJob`.

use std::borrow::Cow;

use daylight_base::{Name, Timestamp};
use daylight_crds::labels;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::slim::meta::{Condition, Meta, Moment};
use crate::store::stored;
use crate::well_known;

/// A `batch/v1` Job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchJob {
    /// `namespace/name`.
    pub key: Name,
    pub uid: Box<str>,
    /// Resource version; 0 if it is not a number.
    pub version: u64,
    pub generation: i64,
    pub created: Timestamp,
    pub deleting: bool,
    /// `namespace/name` of the `AIJob` that its label names.
    pub ai_job: Option<Name>,
    /// UID of the object that controls it; empty without one.
    pub owner: Box<str>,
    /// Value of its annotation `daylight.dev/revision`.
    pub revision: Option<Box<str>>,
    /// The Kueue `LocalQueue` that its label names.
    pub queue: Option<Name>,
    pub suspended: bool,
    /// Field manager, other than Daylight, that suspended it; `None` while it is not suspended.
    pub suspended_by: Option<Name>,
    /// Number of pods that are not terminal.
    pub active: u32,
    /// Number of these that are ready.
    pub ready: u32,
    /// Number of pods that succeeded.
    pub succeeded: u32,
    /// Number of pods that failed.
    pub failed: u32,
    /// Time at which it was last started or resumed.
    pub started_at: Option<Timestamp>,
    /// Time at which the Job controller reported it as suspended.
    pub suspended_at: Option<Timestamp>,
    /// `None` until it has ended.
    pub outcome: Option<Outcome>,
}

/// Outcome of a Job that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `true` if it completed, `false` if it failed.
    pub completed: bool,
    pub at: Option<Timestamp>,
    /// Reason of the condition, one word.
    pub reason: Box<str>,
    /// Message of the condition, a sentence.
    pub message: Box<str>,
}

stored!(BatchJob, key);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Raw<'a> {
    /// Read twice: only a suspended Job's field managers are of interest.
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    spec: Spec,
    #[serde(borrow)]
    status: Status<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Managed<'a> {
    #[serde(borrow)]
    managed_fields: Vec<Manager<'a>>,
}

/// A field manager, with the part of its fields that is needed.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Manager<'a> {
    #[serde(borrow)]
    manager: Cow<'a, str>,
    fields_v1: Fields,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    #[serde(rename = "f:spec")]
    spec: SpecFields,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SpecFields {
    #[serde(rename = "f:suspend")]
    suspend: Option<IgnoredAny>,
}

/// Returns the last field manager other than Daylight that owns `spec.suspend`. An update that
/// changes a field takes it from its former owners.
fn suspended_by(metadata: &str) -> Option<Name> {
    let managed: Managed<'_> = serde_json::from_str(metadata).ok()?;
    let mut owners = managed.managed_fields.iter().rev();
    let other = |one: &&Manager<'_>| {
        one.fields_v1.spec.suspend.is_some() && one.manager != well_known::QUEUE_MANAGER
    };
    owners.find(other).map(|one| (&*one.manager).into())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    suspend: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status<'a> {
    active: u32,
    ready: Option<u32>,
    succeeded: u32,
    failed: u32,
    start_time: Option<Moment>,
    #[serde(borrow)]
    conditions: Vec<Condition<'a>>,
}

impl<'de> Deserialize<'de> for BatchJob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Raw::deserialize(deserializer)?;
        let metadata = raw.metadata.map_or("{}", RawValue::get);
        let meta = serde_json::from_str(metadata).map_err(serde::de::Error::custom)?;
        let mut job = Self::read(&meta, &raw.spec, &raw.status);
        job.suspended_by = job.suspended.then(|| suspended_by(metadata)).flatten();
        Ok(job)
    }
}

impl BatchJob {
    fn read(metadata: &Meta<'_>, spec: &Spec, status: &Status<'_>) -> Self {
        let condition = |kind: &str| {
            status.conditions.iter().find(|one| one.kind == kind && one.status == "True")
        };
        let at = |one: &Condition<'_>| one.last_transition_time.map(|at| at.0);
        let outcome = |completed: bool| {
            move |one: &Condition<'_>| Outcome {
                completed,
                at: at(one),
                reason: (&*one.reason).into(),
                message: (&*one.message).into(),
            }
        };
        Self {
            key: metadata.key().into(),
            uid: (&*metadata.uid).into(),
            version: metadata.version(),
            generation: metadata.generation,
            created: metadata.created(),
            deleting: metadata.deletion_timestamp.is_some(),
            ai_job: metadata.sibling(labels::AI_JOB),
            owner: metadata.controller().map(|owner| (&*owner.uid).into()).unwrap_or_default(),
            revision: metadata.annotations.get(well_known::REVISION).map(Into::into),
            queue: metadata.labels.get(well_known::KUEUE_QUEUE).map(Name::from),
            suspended: spec.suspend.unwrap_or(false),
            suspended_by: None,
            active: status.active,
            ready: status.ready.unwrap_or(0),
            succeeded: status.succeeded,
            failed: status.failed,
            started_at: status.start_time.map(|at| at.0),
            suspended_at: condition("Suspended").and_then(at),
            outcome: condition("Complete")
                .map(outcome(true))
                .or_else(|| condition("Failed").map(outcome(false))),
        }
    }
}
