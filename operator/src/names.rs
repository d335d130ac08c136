//! Names on objects that only the controller deals with; the public ones are in
//! [`daylight_crds::labels`], those that the index reads in [`crate::index::marks`].

/// Annotation of a miner pod: when it must have stopped, in RFC 3339, if ever.
pub const UNTIL: &str = "daylight.dev/until";

/// Annotation by which the cluster autoscaler knows pods that keep no node.
pub const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";

/// Label by which Kueue finds the queue of a job.
pub const KUEUE_QUEUE: &str = "kueue.x-k8s.io/queue-name";

/// Reason of a Miner or `AIJob` whose pods the API server does not take.
pub const PODS_REFUSED: &str = "PodsRefused";
