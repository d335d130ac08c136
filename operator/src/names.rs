//! Names on objects that only the controller and the index deal with; the public ones are in
//! [`daylight_crds::labels`].

/// Label of a miner pod: the revision of the `Miner` it was made from.
pub const REVISION: &str = "daylight.dev/revision";

/// Label of a miner pod: the watts that were declared for it when it was granted.
pub const WATTS: &str = "daylight.dev/watts";

/// Annotation of a miner pod: when it must have stopped, in RFC 3339, if ever.
pub const UNTIL: &str = "daylight.dev/until";

/// The `PriorityClass` of miner pods: below every other pod, and displacing none.
pub const MINER_PRIORITY_CLASS: &str = "daylight-miner";

/// Its priority.
pub const MINER_PRIORITY: i32 = -1_000_000;

/// The `ConfigMap` in Daylight's namespace that is the emergency stop while it exists.
pub const EMERGENCY_STOP: &str = "daylight-emergency-stop";

/// Label by which Kueue finds the queue of a job.
pub const KUEUE_QUEUE: &str = "kueue.x-k8s.io/queue-name";
