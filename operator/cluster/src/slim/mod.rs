//! Kubernetes objects reduced to what Daylight uses.
//!
//! They deserialize from what the API server sends; unknown fields are skipped
//! while reading, never kept. A cluster of 60,000 pods fits into a few dozen
//! megabytes that way.

mod batch_job;
mod custom;
mod exporter_pod;
mod failure;
mod meta;
mod node;
mod pod;
mod small;
mod spec;

pub use batch_job::{BatchJob, Outcome};
pub use custom::Custom;
pub use exporter_pod::ExporterPod;
pub use failure::{PodFailure, is_reason};
pub use node::{Effect, Node, Readiness, Taint};
pub use pod::{Lease, Owner, Phase, Pod, Work};
pub use small::{ConfigMap, Namespace};
pub use spec::{Scheduling, Template};
