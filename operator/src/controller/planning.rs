//! The planner, with a guard against its own defects.
//!
//! Tenants choose much of what a plan is made of, so one object may make each plan panic. That must not
//! end the process again and again while AI jobs wait. After a panic the planner is built again, and
//! until a back-off is over every pool counts as one that cannot be relied on: its miners stay, none
//! starts, and AI jobs displace them as before.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use daylight_planner::explain::Plan;
use daylight_planner::model::{Delta, Pool};
use daylight_planner::{Margins, Planner};

use super::backoff::Backoff;
use super::state::State;

/// What the status of each pool states after a panic.
const DEFECT: &str = "A defect of Daylight made a plan fail. Until it is tried again no miner starts, and AI \
     jobs displace miners as before. Report the panic in the controller's log.";

/// Makes plans, and survives their panics.
#[derive(Default)]
pub struct Planning {
    planner: Planner,
    margins: Margins,
    trust: Trust,
    /// The wait after the last panic.
    backoff: Option<Backoff>,
}

/// The extent to which plans can be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Trust {
    #[default]
    Full,
    /// Without filling pools.
    Careful,
    /// Not at all: the careful plan panicked, too.
    None,
}

impl Planning {
    /// Creates a planner without a site, with these margins around energy limits.
    pub fn new(margins: Margins) -> Self {
        Self { planner: Planner::default().with_margins(margins), margins, ..Self::default() }
    }

    /// Records one change of the site.
    pub fn apply(&mut self, mut delta: Delta) {
        match (self.trust, &mut delta) {
            // It is built again before the next plan.
            (Trust::None, _) => return,
            (Trust::Careful, Delta::Pool(pool)) => distrust(pool),
            _ => {}
        }
        self.planner.apply(delta);
    }

    /// Makes a plan; `None` if there is none to be had until [`Planning::wake_at`].
    pub fn plan(&mut self, state: &State) -> Option<Plan> {
        self.plan_by(state, |planner| planner.plan(state.now))
    }

    /// The time at which to plan again even if nothing changes.
    pub fn wake_at(&self) -> Option<Instant> {
        self.backoff.filter(|_| self.trust != Trust::Full).map(|backoff| backoff.until)
    }

    /// Makes a plan by `make`.
    fn plan_by(&mut self, state: &State, make: impl Fn(&mut Planner) -> Plan) -> Option<Plan> {
        let lasts = self.backoff.is_some_and(|backoff| backoff.lasts(state.instant));
        if self.trust != Trust::Full && !lasts {
            self.rebuild(state, Trust::Full);
        }
        if self.trust == Trust::Full {
            if let Some(plan) = self.attempt(state, &make) {
                return Some(plan);
            }
            self.backoff = Some(Backoff::after(self.backoff, state.instant));
            self.rebuild(state, Trust::Careful);
        }
        if self.trust == Trust::Careful {
            if let Some(plan) = self.attempt(state, &make) {
                return Some(plan);
            }
            self.trust = Trust::None;
        }
        None
    }

    fn attempt(&mut self, state: &State, make: impl Fn(&mut Planner) -> Plan) -> Option<Plan> {
        let planner = &mut self.planner;
        // After a panic the planner is not used again.
        let plan = catch_unwind(AssertUnwindSafe(|| make(planner)));
        plan.inspect_err(|_| {
            state.metrics.plan_panics.inc();
            tracing::error!(trust = ?self.trust, "A plan panicked, which is a defect of Daylight: please report it.");
        })
        .ok()
    }

    fn rebuild(&mut self, state: &State, trust: Trust) {
        let mut site = state.snapshot();
        if trust == Trust::Careful {
            site.pools.iter_mut().for_each(distrust);
        }
        self.planner = Planner::new(site).with_margins(self.margins);
        self.trust = trust;
    }
}

/// Leaves a pool's miners as they are.
fn distrust(pool: &mut Pool) {
    pool.problem.get_or_insert_with(|| Arc::from(DEFECT));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use daylight_base::Timestamp;
    use daylight_planner::explain::{Action, Reason};

    use super::*;
    use crate::controller::events::Events;
    use crate::controller::metrics::Metrics;
    use crate::view::tests::test_cluster::{TestCluster, ai_job, class, node, pool};

    fn state() -> State {
        let ai = class("ai-training", "Guaranteed");
        let objects = [pool("a"), node("n1", "a"), ai, ai_job("train", 1)];
        let view = TestCluster::with(&objects).view;
        State::new(view, Events::new("test"), Metrics::new().unwrap())
    }

    /// Plans, and panics while a pool is to be filled, or always.
    fn panicking(always: bool, now: Timestamp) -> impl Fn(&mut Planner) -> Plan {
        move |planner| {
            let plan = planner.plan(now);
            let careful =
                plan.pools.iter().all(|pool| matches!(pool.mining, Reason::Invalid { .. }));
            assert!(careful && !always, "as the test wants it");
            plan
        }
    }

    fn serves_the_job(plan: &Plan) -> bool {
        let serves =
            |action: &Action| matches!(action, Action::Reserve { .. } | Action::Release { .. });
        plan.actions.iter().any(serves)
    }

    #[test]
    fn a_plan_that_panics_over_miners_is_made_for_ai() {
        let mut state = state();
        let mut planning = Planning::default();
        for delta in state.take_deltas() {
            planning.apply(delta);
        }
        planning.rebuild(&state, Trust::Full);
        let panics = |state: &State| state.metrics.plan_panics.get();
        let over_miners = panicking(false, state.now);
        for again in 0..2 {
            let plan = planning.plan_by(&state, &over_miners).unwrap();
            assert!(serves_the_job(&plan), "{again}: {:?}", plan.actions);
            let Reason::Invalid { problem } = &plan.pools[0].mining else { panic!() };
            assert_eq!((&**problem, panics(&state)), (DEFECT, 1));
        }
        // A pool that changes meanwhile is not filled either.
        planning.apply(Delta::Pool(state.snapshot().pools.remove(0)));
        assert!(planning.plan_by(&state, &over_miners).is_some());

        // Once the wait is over, a full plan is tried again; the next wait is twice as long.
        let until = planning.wake_at().unwrap();
        assert_eq!(until, state.instant + Duration::from_secs(2));
        state.instant = until;
        assert!(planning.plan_by(&state, &over_miners).is_some());
        assert_eq!(panics(&state), 2);
        assert_eq!(planning.wake_at().unwrap(), state.instant + Duration::from_secs(4));
        state.instant = planning.wake_at().unwrap();
        let plan = planning.plan(&state).unwrap();
        assert!(!matches!(plan.pools[0].mining, Reason::Invalid { .. }));
        assert_eq!((planning.wake_at(), panics(&state)), (None, 2));
    }

    #[test]
    fn without_any_plan_the_process_waits() {
        let mut state = state();
        let mut planning = Planning::default();
        planning.rebuild(&state, Trust::Full);
        let always = panicking(true, state.now);
        assert!(planning.plan_by(&state, &always).is_none());
        assert!(planning.plan_by(&state, &always).is_none());
        assert_eq!(state.metrics.plan_panics.get(), 2, "a full plan and a careful one");
        // What changes meanwhile is in the site from which the planner is built again.
        planning.apply(Delta::PoolGone("a".into()));
        state.instant = planning.wake_at().unwrap();
        assert!(serves_the_job(&planning.plan(&state).unwrap()));
    }
}
