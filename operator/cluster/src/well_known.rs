//! Marks on objects that are not in the API crate's list of labels.

/// The priority class of miners' pods; what has it and a miner's labels is a lease.
pub const MINER_PRIORITY_CLASS: &str = "daylight-miner";

/// The priority of miner pods: below every other pod, so that kube-scheduler displaces them.
pub const MINER_PRIORITY: i32 = -1_000_000;

/// Label of a miner's pod: the revision of the miner that it was made from.
pub const REVISION: &str = "daylight.dev/revision";

/// Label of a miner's pod: the watts declared for it when it was granted.
pub const WATTS: &str = "daylight.dev/watts";

/// Label of a node, `true` or `false`: whether an autoscaler may remove it,
/// where that cannot be told from what the autoscaler leaves on it.
pub const AUTOSCALED: &str = "daylight.dev/autoscaled";

/// The `ConfigMap` in Daylight's namespace that holds the emergency stop.
pub const EMERGENCY_STOP: &str = "daylight-emergency-stop";

/// The `ConfigMap` in Daylight's namespace that holds the authority's keys, unless the
/// installation names another.
pub const AUTHORITY_KEYS: &str = "daylight-authority-keys";

/// The `ConfigMap` in Daylight's namespace by which admission knows registrations.
pub const REGISTRATION_MIRROR: &str = "daylight-registrations";

/// The `ConfigMap` in Daylight's namespace by which admission knows classes.
pub const CLASS_MIRROR: &str = "daylight-classes";

/// Label of these two: which of them it is.
pub const MIRROR: &str = "daylight.dev/mirror";

/// Value of [`MIRROR`] on the mirror of registrations.
pub const MIRROR_OF_REGISTRATIONS: &str = "registrations";

/// Value of [`MIRROR`] on the mirror of classes.
pub const MIRROR_OF_CLASSES: &str = "classes";
/// Annotation of a miner pod: when it must have stopped, in RFC 3339, if ever.
pub const UNTIL: &str = "daylight.dev/until";

/// Annotation by which the cluster autoscaler knows pods that keep no node.
pub const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";

/// Label by which Kueue finds the queue of a job.
pub const KUEUE_QUEUE: &str = "kueue.x-k8s.io/queue-name";

/// Reason of a Miner or `AIJob` whose pods the API server does not take.
pub const PODS_REFUSED: &str = "PodsRefused";
