//! Kubernetes objects reduced to what Daylight uses.
//!
//! They deserialize from the JSON of the API server. Fields that Daylight does not use are skipped
//! while reading, so that a cluster of 60,000 pods fits into a few dozen megabytes.

mod batch_job;
mod custom;
mod exporter_pod;
mod failure;
mod meta;
mod node;
mod pod;
mod runtime_class;
mod small;
mod spec;
mod volume_claim;
mod workload;

pub use batch_job::{BatchJob, Outcome};
pub use custom::Custom;
pub use exporter_pod::ExporterPod;
pub use failure::{PodFailure, is_reason};
pub use node::{Effect, Node, Readiness, Taint};
pub use pod::{ContainerImage, Lease, Owner, Phase, Pod, Work};
pub use runtime_class::RuntimeClass;
pub use small::{AdmissionList, ConfigMap, Namespace};
pub use spec::{Scheduling, Template};
pub use volume_claim::VolumeClaim;
pub use workload::{JobOfWorkload, Workload};
