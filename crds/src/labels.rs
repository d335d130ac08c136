//! Labels, annotations, finalizers and field managers that Daylight sets on objects.
//!
//! They are part of the API: users read them with `kubectl get pods --show-labels`, policies
//! match them, and the audit trail uses them as keys.

/// Label of a miner pod: its `Miner` (same namespace).
pub const MINER: &str = "daylight.dev/miner";

/// Label of a pod: the `Registration` of its work (same namespace).
pub const REGISTRATION: &str = "daylight.dev/registration";

/// Label of a pod, or of a namespace for all pods in it: the `ActivityClass` of the work.
pub const ACTIVITY: &str = "daylight.dev/activity";

/// What stands for a class or a registration that is not on the list, in books and metrics. No class
/// and no registration may have this name.
pub const UNLISTED: &str = "unlisted";

/// What stands for the class of work that declares none, in metrics. No class may have this name.
pub const UNDECLARED: &str = "undeclared";

/// Label of a pod: the `GpuPool` whose GPUs it holds.
pub const POOL: &str = "daylight.dev/pool";

/// Label of a job, its pods and its Service: their `AIJob` (same namespace).
pub const AI_JOB: &str = "daylight.dev/aijob";

/// Label of a miner pod: its slot on the node, counted from 0.
pub const SLOT: &str = "daylight.dev/slot";

/// Label of a miner pod: the number of earlier grants of its slot, so that names never repeat.
pub const EPOCH: &str = "daylight.dev/epoch";

/// Annotation of a pod that Daylight deletes: the reason, for instance `AiDemand`.
pub const RECLAIM_REASON: &str = "daylight.dev/reclaim-reason";

/// Annotation of a pod that Daylight deletes: the object for which its GPUs are reclaimed.
pub const RECLAIM_FOR: &str = "daylight.dev/reclaim-for";

/// Prefix of annotations with which simulated nodes decide how a pod behaves, for instance how
/// long it runs. The pods of a `Miner` inherit them. Real nodes ignore them.
pub const SIMULATED_PREFIX: &str = "daylight.dev/simulated-";

/// Finalizer of pods that Daylight creates. The auditor removes it once their end is recorded.
pub const METERED_FINALIZER: &str = "daylight.dev/metered";

/// Prefix of Daylight's field managers. A scope follows, as in `daylight/status`.
pub const FIELD_MANAGER_PREFIX: &str = "daylight/";

/// Value of `app.kubernetes.io/managed-by` on each object that Daylight creates.
pub const MANAGED_BY: &str = "daylight";
