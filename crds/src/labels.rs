//! Names that Daylight puts on objects: labels, annotations, finalizers, field managers.
//!
//! Users read them in `kubectl get pods --show-labels`, policies match on them and the audit
//! trail is keyed by them, so every one is part of the API.

/// Label of a miner pod: the `Miner` it belongs to (same namespace).
pub const MINER: &str = "daylight.dev/miner";

/// Label of a pod: the `Registration` it works under (same namespace).
pub const REGISTRATION: &str = "daylight.dev/registration";

/// Label of a pod, or of a namespace for all pods in it: the `ActivityClass` of the work.
pub const ACTIVITY: &str = "daylight.dev/activity";

/// Label of a pod: the `GpuPool` whose GPUs it holds.
pub const POOL: &str = "daylight.dev/pool";

/// Label of a job, its pods and its Service: the `AIJob` they belong to (same namespace).
pub const AI_JOB: &str = "daylight.dev/aijob";

/// Label of a miner pod: the slot of its node that it holds, counted from 0.
pub const SLOT: &str = "daylight.dev/slot";

/// Label of a miner pod: how often its slot was granted before, so that names never repeat.
pub const EPOCH: &str = "daylight.dev/epoch";

/// Annotation of a pod that Daylight ends: why, for instance `AiDemand` or `WindowClosed`.
pub const RECLAIM_REASON: &str = "daylight.dev/reclaim-reason";

/// Annotation of a pod that Daylight ends: for whom its GPUs are taken back.
pub const RECLAIM_FOR: &str = "daylight.dev/reclaim-for";

/// Prefix of annotations that tell simulated nodes how a pod behaves, for instance how long it
/// runs. Those of a `Miner` are passed on to its pods; real nodes ignore them.
pub const SIMULATED_PREFIX: &str = "daylight.dev/simulated-";

/// Finalizer of pods that Daylight creates: the auditor removes it once the end is on record.
pub const METERED_FINALIZER: &str = "daylight.dev/metered";

/// Prefix of the field managers Daylight writes with; a scope follows, as in `daylight/status`.
pub const FIELD_MANAGER_PREFIX: &str = "daylight/";

/// Value of `app.kubernetes.io/managed-by` on everything Daylight creates.
pub const MANAGED_BY: &str = "daylight";
