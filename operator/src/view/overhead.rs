//! What `RuntimeClass`es add to the requests of pods, planned before the first pod shows it.

use daylight_cluster::pod_requests::Requests;
use daylight_cluster::slim::RuntimeClass;
use daylight_cluster::{Changed, keys};
use daylight_crds::MinerSpec;
use daylight_planner::model::{Delta, Shape};

use super::View;

impl View {
    pub(super) fn runtime_class_changed(
        &mut self,
        Changed { key, before }: Changed<RuntimeClass>,
        out: &mut Vec<Delta>,
    ) {
        let before = before.map(|class| class.overhead).unwrap_or_default();
        if before == *self.overhead(&key).unwrap_or(&Requests::default()) {
            return;
        }
        for miner in keys(&self.cluster.miners) {
            self.emit_miner(&miner, out);
        }
        for job in keys(&self.cluster.ai_jobs) {
            self.emit_job(&job, out);
        }
    }

    fn overhead(&self, class: &str) -> Option<&Requests> {
        self.cluster.runtime_classes.get(class).map(|class| &class.overhead)
    }

    fn overhead_of_pool(&self, pool: &str) -> Option<&Requests> {
        self.overhead(self.cluster.pool(pool)?.spec.runtime_class_name.as_deref()?)
    }

    /// Adds to the shape of a job's workers what their `RuntimeClass` does: that of the template, or
    /// else that of the pool.
    pub(super) fn add_overhead_of_job(
        &self,
        own: Option<&str>,
        pool: Option<&str>,
        shape: &mut Shape,
    ) {
        let overhead = match (own, pool) {
            (Some(own), _) => self.overhead(own),
            (None, Some(pool)) => self.overhead_of_pool(pool),
            (None, None) => None,
        };
        add(shape, overhead);
    }

    /// Adds to the shape of a miner's replicas what the `RuntimeClass` of its pools does. If they
    /// differ, the largest counts, since a replica has the same shape wherever it runs.
    pub(super) fn add_overhead_of_miner(
        &self,
        spec: &MinerSpec,
        registration: &str,
        shape: &mut Shape,
    ) {
        let registered = self.cluster.registration(registration).map(|one| &one.spec.pools);
        let pools = if spec.pools.is_empty() { registered } else { Some(&spec.pools) };
        let own = *shape;
        for pool in pools.into_iter().flatten() {
            let mut here = own;
            add(&mut here, self.overhead_of_pool(pool));
            shape.cpu_milli = shape.cpu_milli.max(here.cpu_milli);
            shape.memory = shape.memory.max(here.memory);
        }
    }
}

fn add(shape: &mut Shape, overhead: Option<&Requests>) {
    let Some(Requests { cpu_milli, memory, .. }) = overhead else { return };
    shape.cpu_milli = shape.cpu_milli.saturating_add(*cpu_milli);
    shape.memory = shape.memory.saturating_add(*memory);
}
