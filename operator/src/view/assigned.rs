//! GPUs held by pods, added up for metrics and statuses.

use std::sync::Arc;

use daylight_base::Name;
use daylight_cluster::Cluster;
use daylight_cluster::names::parts;
use daylight_cluster::slim::Pod;
use rustc_hash::FxHashMap;

use super::View;
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
pub fn assigned(cluster: &Cluster, pools: &PoolMap) -> FxHashMap<Assigned, u64> {
    let mut sums = FxHashMap::default();
    for (assigned, gpus) in cluster.pods().flat_map(|pod| held(pod, cluster, pools)) {
        *sums.entry(assigned).or_default() += u64::from(gpus);
    }
    sums
}

/// The GPUs that a pod holds.
fn held(pod: &Pod, cluster: &Cluster, pools: &PoolMap) -> Vec<(Assigned, u32)> {
    if pod.requests.extended.is_empty() || pod.is_terminal() || !pod.gates.is_empty() {
        return Vec::new();
    }
    let Some(node) = pod.place().and_then(|node| cluster.node(node)) else { return Vec::new() };
    let extended = pod.requests.extended.iter().filter(|(_, count)| *count > 0);
    let in_pools = extended.filter_map(|(resource, count)| {
        let assigned = Assigned {
            pool: pools.pool_of(node, resource)?.clone(),
            class: cluster.class_of(pod).map(|class| cluster.listed_class(&class)),
            registration: pod.registration.as_ref().map(|it| cluster.listed_registration(it)),
            namespace: Name::from(parts(&pod.key).0),
        };
        Some((assigned, *count))
    });
    in_pools.collect()
}

/// The sums of [`assigned`], kept current pod by pod: to add up the 80,000 pods of a large site would
/// hold up the main loop.
#[derive(Debug, Default)]
pub(super) struct AssignedSums {
    sums: FxHashMap<Arc<Assigned>, u64>,
    /// What each pod adds.
    of_pods: FxHashMap<Name, Held>,
}

/// The GPUs that one pod holds, by sum.
type Held = Box<[(Arc<Assigned>, u32)]>;

impl AssignedSums {
    /// Sets what a pod adds.
    fn set(&mut self, pod: &Name, held: Vec<(Assigned, u32)>) {
        let known = self.of_pods.get(pod).map_or(&[][..], |known| known);
        let same = known.len() == held.len()
            && known
                .iter()
                .zip(&held)
                .all(|((was, before), (is, now))| **was == *is && before == now);
        if same {
            return;
        }
        for (assigned, gpus) in self.of_pods.remove(pod).into_iter().flatten() {
            let sum = self.sums.get_mut(&assigned);
            debug_assert!(sum.as_ref().is_some_and(|sum| **sum >= u64::from(gpus)), "{assigned:?}");
            if let Some(sum) = sum {
                *sum -= u64::from(gpus);
                if *sum == 0 {
                    self.sums.remove(&assigned);
                }
            }
        }
        if held.is_empty() {
            return;
        }
        let added = held.into_iter().map(|(assigned, gpus)| {
            let key = self.sums.get_key_value(&assigned).map(|(key, _)| key.clone());
            let key = key.unwrap_or_else(|| Arc::new(assigned));
            *self.sums.entry(key.clone()).or_default() += u64::from(gpus);
            (key, gpus)
        });
        let added = added.collect();
        self.of_pods.insert(pod.clone(), added);
    }
}

impl View {
    /// Returns the GPUs held on nodes, by pool, class, registration and namespace.
    pub fn assigned(&self) -> impl Iterator<Item = (&Assigned, u64)> {
        self.assigned.sums.iter().map(|(assigned, gpus)| (&**assigned, *gpus))
    }

    /// Counts the GPUs of all pods, as the sums should have them.
    #[cfg(test)]
    pub(crate) fn count_assigned(&self) -> FxHashMap<Assigned, u64> {
        assigned(&self.cluster, &self.pools)
    }

    /// Counts the GPUs of a pod again.
    pub(super) fn recount(&mut self, pod: &Name) {
        let held = self.cluster.pod(pod).map(|pod| held(pod, &self.cluster, &self.pools));
        self.assigned.set(pod, held.unwrap_or_default());
        self.recount_work(pod);
    }

    /// Counts the GPUs of some pods again, where what they name or where they are has changed.
    pub(super) fn recount_where(&mut self, changed: impl Fn(&Cluster, &Pod) -> bool) {
        let pods = self.cluster.pods().filter(|pod| changed(&self.cluster, pod));
        let pods: Vec<Name> = pods.map(|pod| pod.key.clone()).collect();
        for pod in pods {
            self.recount(&pod);
        }
    }

    /// Counts the GPUs of the pods on a node again.
    pub(super) fn recount_on(&mut self, node: &str) {
        let pods: Vec<Name> = self.tracking.on_node(node).cloned().collect();
        for pod in pods {
            self.recount(&pod);
        }
    }
}
