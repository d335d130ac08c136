//! Invariants of a plan, checked in debug builds under the names of the property tests
//! (`tests/properties/checks.rs`). Those check them from outside, on the site; these name the step at
//! which one is broken.

use rustc_hash::FxHashSet;

use crate::explain::{Plan, Reason};
use crate::model::JobState;
use crate::plan::power::Counted;
use crate::plan::{Run, Undo, lease};
use crate::state::amounts::Amounts;

impl Run<'_> {
    /// Asserts that no GPU is granted twice, and none that AI holds or is promised.
    pub(super) fn assert_grants(&self) {
        let granted = self.undo.iter().filter_map(|step| match step {
            Undo::Grant(pod) => Some(*pod),
            _ => None,
        });
        for pod in granted {
            let pod = &self.state.pods[pod];
            let (Some(node), Some((.., pool))) = (pod.node, lease(pod)) else { continue };
            let (row, name) = (&self.state.nodes[node], self.state.nodes.name(node));
            debug_assert!(
                self.state
                    .host_in(node, pool)
                    .is_some_and(|host| host.fillable() && host.idle() >= host.claimed()),
                "grants: {name} gives away what AI holds or is promised"
            );
            let room =
                self.state.capacity(node) - row.used.fixed - row.used.mining - row.used.draining;
            debug_assert!(room.covers(&Amounts::default()), "grants: {name} is overfull");
            let firsts = row.pods.iter().filter(|holder| holder.is_first());
            let slots: Vec<_> = firsts.filter_map(|holder| holder.slot).collect();
            let distinct: FxHashSet<_> = slots.iter().collect();
            debug_assert_eq!(distinct.len(), slots.len(), "grants: a slot of {name} is shared");
        }
    }

    /// Asserts that no more GPUs and watts are held than each cap allows, stopping miners aside.
    pub(super) fn assert_caps(&self) {
        for &id in self.state.pools_by_name.values() {
            let row = &self.state.pools[id];
            let Some(pool) = &row.object else { continue };
            let held = row.held;
            debug_assert!(
                pool.max_gpus.is_none_or(|most| held.active_gpus <= most)
                    && pool.power_budget_watts.is_none_or(|most| self.pool_watts(
                        id,
                        Counted::Active,
                        None
                    ) <= most),
                "caps: pool {}",
                pool.name
            );
        }
        for (&id, verdict) in &self.verdicts {
            let held = self.state.registrations[id].held;
            debug_assert!(
                held.active_gpus <= verdict.gpus && self.active_watts(id) <= verdict.watts,
                "caps: registration {}",
                self.state.registrations.name(id)
            );
        }
        for (name, owner) in &self.owners {
            let ids = owner.registrations.iter();
            let (gpus, watts) = ids.fold((0, 0), |(gpus, watts), &id| {
                let held = self.state.registrations[id].held;
                (gpus + held.active_gpus, watts + self.active_watts(id))
            });
            debug_assert!(gpus <= owner.gpus && watts <= owner.watts, "caps: owner {name}");
        }
    }

    /// Asserts that every object has an explanation, and that one that waits has a reason.
    pub(super) fn assert_explanations(&self, plan: &Plan) {
        debug_assert_eq!(plan.pools.len(), self.state.pools_by_name.len(), "explanations");
        debug_assert_eq!(plan.miners.len(), self.state.miners_by_key.len(), "explanations");
        debug_assert_eq!(plan.jobs.len(), self.state.jobs_by_key.len(), "explanations");
        for report in &plan.miners {
            debug_assert!(
                report.held + report.stopping >= report.wanted || report.reason != Reason::Running,
                "explanations: miner {} waits without a reason",
                report.miner
            );
        }
        for (report, &id) in plan.jobs.iter().zip(self.state.jobs_by_key.values()) {
            let state = self.state.jobs[id].object.as_ref().map(|job| &job.state);
            debug_assert!(
                !matches!(state, Some(JobState::Queued { .. })) || report.reason != Reason::Running,
                "explanations: job {} waits without a reason",
                report.job
            );
        }
    }
}
