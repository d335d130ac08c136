//! GPUs held by pods, added up for metrics.

use daylight_base::Name;
use daylight_cluster::Cluster;
use daylight_cluster::names::parts;
use rustc_hash::FxHashMap;

use super::pools::PoolMap;

/// The key of a sum of GPUs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Assigned {
    /// The pool that has the GPUs.
    pub pool: Name,
    /// The class that the pods declare, or `unlisted`.
    pub class: Option<Name>,
    /// `namespace/name` of the registration that the pods name, or `namespace/unlisted`.
    pub registration: Option<Name>,
    pub namespace: Name,
}

/// The GPUs held on nodes, by pool, class, registration and namespace.
pub fn assigned(cluster: &Cluster, pools: &PoolMap) -> FxHashMap<Assigned, u32> {
    let mut sums = FxHashMap::default();
    for pod in cluster.pods().filter(|pod| !pod.is_terminal() && pod.gates.is_empty()) {
        let Some(node) = pod.place().and_then(|node| cluster.node(node)) else { continue };
        for (resource, count) in &pod.requests.extended {
            let Some(pool) = pools.pool_of(node, resource) else { continue };
            let assigned = Assigned {
                pool: pool.clone(),
                class: cluster.class_of(pod).map(|class| cluster.listed_class(&class)),
                registration: pod.registration.as_ref().map(|it| cluster.listed_registration(it)),
                namespace: Name::from(parts(&pod.key).0),
            };
            *sums.entry(assigned).or_insert(0) += count;
        }
    }
    sums
}
