//! Tests of the view: objects in, exact deltas out.

mod approvals;
mod caps;
mod energy;
mod jobs;
mod lifecycle;
mod mirror;
mod nodes;
mod order;
mod pods;
mod policy;
mod properties;
mod registered;
mod renewals;
mod silence;
pub(crate) mod test_cluster;

pub(crate) use test_cluster::TestCluster;
