//! What `RuntimeClass`es add to pods, planned before the first pod shows it.

use daylight_cluster::pod_requests::Requests;
use daylight_cluster::slim::RuntimeClass;
use daylight_cluster::{Changed, keys};
use daylight_crds::MinerSpec;
use daylight_planner::model::{Delta, Shape};

use super::View;
use super::pools::Affected;

impl View {
    pub(super) fn runtime_class_changed(
        &mut self,
        Changed { key, before }: Changed<RuntimeClass>,
        out: &mut Vec<Delta>,
    ) {
        let adds = |class: &RuntimeClass| {
            (class.overhead.clone(), class.nodes.clone(), class.tolerations.clone())
        };
        let after = self.cluster.runtime_classes.get(&key).map(adds);
        if before.as_deref().map(adds).unwrap_or_default() == after.unwrap_or_default() {
            return;
        }
        if self.pools.rebuild(&mut self.cluster) != Affected::Nothing {
            self.emit_nodes(out);
        }
        for miner in keys(&self.cluster.miners) {
            self.emit_miner(&miner, out);
        }
        for job in keys(&self.cluster.ai_jobs) {
            self.emit_job(&job, out);
        }
    }

    fn runtime_class_of_pool(&self, pool: &str) -> Option<&RuntimeClass> {
        let class = self.cluster.pool(pool)?.spec.runtime_class_name.as_deref()?;
        self.cluster.runtime_classes.get(class)
    }

    /// The `RuntimeClass` of a job's workers: that of the template, or else that of the pool.
    pub(super) fn runtime_class_of_job(
        &self,
        own: Option<&str>,
        pool: Option<&str>,
    ) -> Option<&RuntimeClass> {
        match own {
            Some(own) => self.cluster.runtime_classes.get(own),
            None => self.runtime_class_of_pool(pool?),
        }
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
            add_overhead(&mut here, self.runtime_class_of_pool(pool));
            shape.cpu_milli = shape.cpu_milli.max(here.cpu_milli);
            shape.memory = shape.memory.max(here.memory);
        }
    }
}

/// Adds the overhead of a `RuntimeClass` to a shape.
pub(super) fn add_overhead(shape: &mut Shape, class: Option<&RuntimeClass>) {
    let Some(Requests { cpu_milli, memory, .. }) = class.map(|class| &class.overhead) else {
        return;
    };
    shape.cpu_milli = shape.cpu_milli.saturating_add(*cpu_milli);
    shape.memory = shape.memory.saturating_add(*memory);
}
