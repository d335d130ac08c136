//! Names, labels and annotations that are not in the list of the API crate.

/// Priority class of miners' pods; a pod with it and with a miner's labels is a lease.
pub const MINER_PRIORITY_CLASS: &str = "daylight-miner";

/// Priority of miners' pods: below every other pod, so that kube-scheduler displaces them.
pub const MINER_PRIORITY: i32 = -1_000_000;

/// Label of a miner's pod: the revision of the miner that it was made from.
pub const REVISION: &str = "daylight.dev/revision";

/// Label of a miner's pod: the watts declared for it when it was granted.
pub const WATTS: &str = "daylight.dev/watts";

/// Label of a node: `true` if an autoscaler may remove it, `false` if not. Needed where the
/// autoscaler leaves no mark of its own on the node.
pub const AUTOSCALED: &str = "daylight.dev/autoscaled";

/// `ConfigMap` in Daylight's namespace that contains the emergency stop.
pub const EMERGENCY_STOP: &str = "daylight-emergency-stop";

/// `ConfigMap` in Daylight's namespace that contains the authority's keys, unless the installation
/// names another.
pub const AUTHORITY_KEYS: &str = "daylight-authority-keys";

/// `AdmissionList` in Daylight's namespace from which the admission policies read registrations.
pub const REGISTRATION_MIRROR: &str = "registrations";

/// `AdmissionList` in Daylight's namespace from which the admission policies read classes.
pub const CLASS_MIRROR: &str = "classes";

/// Annotation of a miner's pod: time by which it must have stopped, in RFC 3339; absent if there is
/// none.
pub const UNTIL: &str = "daylight.dev/until";

/// Annotation of pods that do not keep cluster-autoscaler from removing their node.
pub const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";

/// Field manager of what the controller writes to start AIJobs.
pub const QUEUE_MANAGER: &str = "daylight/queue";

/// Label that names the Kueue queue of a job.
pub const KUEUE_QUEUE: &str = "kueue.x-k8s.io/queue-name";

/// Annotation of a pod that takes part in Kueue's topology-aware scheduling, wherever it is placed.
/// Kueue 0.17 to 0.20 count only the requests of bound pods without it as taken.
pub const KUEUE_UNCONSTRAINED: &str = "kueue.x-k8s.io/podset-unconstrained-topology";

/// Reason of a Miner or `AIJob` whose pods the API server refuses.
pub const PODS_REFUSED: &str = "PodsRefused";

/// Reason of a Miner that waits because the API server does not report changes.
pub const API_SERVER_SILENT: &str = "ApiServerSilent";

/// Name of the container in which a miner runs.
pub const MINER_CONTAINER: &str = "miner";

/// Annotation of a pod in which Kubernetes names the requests that a `LimitRange` set.
pub const LIMIT_RANGER: &str = "kubernetes.io/limit-ranger";
