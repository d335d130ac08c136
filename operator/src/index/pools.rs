//! Pools and activity classes.

use std::sync::Arc;

use daylight_base::{Name, Timestamp};
use daylight_crds::{ActivityClass, Assignment, CONDITION_METERED, GpuPool, JOURNAL_FULL};
use daylight_planner::model;
use daylight_planner::model::{
    AutoscaledNodes, ClassAssignment, Delta, Headroom, MiningPolicy, Queueing, ReclaimUnit,
    Recording,
};
use daylight_planner::windows::Windows;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::selector::PoolSelector;
use super::slim::Custom;
use super::store::Touched;
use super::taints::Toleration;
use super::{Index, Kind, keys, windows};

/// A pool as it bears on nodes.
#[derive(Debug, PartialEq)]
pub(super) struct PoolFacts {
    created: Timestamp,
    pub(super) name: Name,
    pub(super) resource: Name,
    pub(super) selector: PoolSelector,
    pub(super) tolerations: Vec<Toleration>,
}

impl Index {
    pub(super) fn pool_touched(
        &mut self,
        Touched { key, before }: Touched<Custom<GpuPool>>,
        out: &mut Vec<Delta>,
    ) {
        let after = self.pools.get(&key);
        if same_spec(before.as_deref(), after, |pool| &pool.spec) {
            let recorded = before.as_deref().and_then(Custom::get).map(|pool| recording(pool));
            if recorded != after.and_then(Custom::get).map(|pool| recording(pool)) {
                self.tell_pool(&key, out);
            }
            return;
        }
        self.windows.remove(&key);
        let changed = self.rebuild_pools();
        self.tell_pool(&key, out);
        match changed {
            Changed::Nothing => {}
            Changed::Nodes => self.tell_nodes(out),
            Changed::Resources => {
                self.tell_nodes(out);
                for pod in keys(&self.pods) {
                    self.tell_pod(&pod, out);
                }
            }
        }
        for registration in keys(&self.registrations) {
            self.tell_registration(&registration, out);
        }
        for miner in keys(&self.miners) {
            self.tell_miner(&miner, out);
        }
        for job in keys(&self.ai_jobs) {
            self.tell_job(&job, out);
        }
    }

    fn tell_nodes(&mut self, out: &mut Vec<Delta>) {
        for node in keys(&self.nodes) {
            self.tell_node(&node, out);
        }
        self.tell_waiting(out);
    }

    /// Compiles what of the pools bears on nodes and pods.
    pub(super) fn rebuild_pools(&mut self) -> Changed {
        let mut facts: Vec<PoolFacts> = self
            .pools
            .iter()
            .filter_map(|(name, pool)| {
                let spec = &pool.get()?.spec;
                Some(PoolFacts {
                    created: pool.created,
                    name: name.clone(),
                    resource: Arc::from(spec.resource.as_str()),
                    // A selector that cannot be read takes no node; the pool tells why.
                    selector: PoolSelector::new(&spec.node_selector).unwrap_or_default(),
                    tolerations: spec
                        .tolerations
                        .iter()
                        .filter_map(|one| {
                            let text = |text: &Option<String>| text.clone().unwrap_or_default();
                            Toleration::new(
                                &text(&one.key),
                                &text(&one.operator),
                                &text(&one.value),
                                &text(&one.effect),
                            )
                        })
                        .collect(),
                })
            })
            .collect();
        facts.sort_unstable_by(|one, other| {
            (one.created, &one.name).cmp(&(other.created, &other.name))
        });
        for pool in &mut facts {
            self.names.share(&mut pool.resource);
        }
        let resources = facts.iter().map(|pool| pool.resource.clone()).collect();
        let changed = if self.resources != resources {
            Changed::Resources
        } else if self.pool_facts != facts {
            Changed::Nodes
        } else {
            Changed::Nothing
        };
        self.resources = resources;
        self.pool_facts = facts;
        changed
    }

    /// Whether a pool is of this extended resource.
    pub fn is_of_a_pool(&self, resource: &str) -> bool {
        self.resources.contains(resource)
    }

    /// The pool that has a resource of a node: the oldest one that claims it.
    pub fn pool_of(&self, node: &str, resource: &str) -> Option<&Name> {
        let node = self.nodes.get(node)?;
        self.pool_facts
            .iter()
            .find(|pool| *pool.resource == *resource && pool.selector.matches(&node.labels))
            .map(|pool| &pool.name)
    }

    pub(super) fn tell_pool(&mut self, key: &Name, out: &mut Vec<Delta>) {
        let view = match self.pools.get(key) {
            None => {
                self.windows.remove(key);
                self.set_problem(Kind::GpuPool, key, None);
                None
            }
            Some(Custom { object: Err(problem), .. }) => {
                let problem = problem.clone();
                self.set_problem(Kind::GpuPool, key, Some(problem));
                None
            }
            Some(Custom { object: Ok(pool), created, .. }) => {
                let (pool, created) = (pool.clone(), *created);
                Some(self.pool_view(key, &pool, created))
            }
        };
        self.given.pool(key, view, out);
    }

    fn pool_view(&mut self, key: &Name, pool: &GpuPool, created: Timestamp) -> model::Pool {
        let mining = &pool.spec.mining;
        let windows = self
            .windows
            .entry(key.clone())
            .or_insert_with(|| {
                windows::compile(&mining.windows, &pool.spec.site.time_zone, self.now)
            })
            .clone();
        let headroom = headroom(&mining.headroom);
        let selector = PoolSelector::new(&pool.spec.node_selector).map_err(|operator| {
            format!(
                "spec.nodeSelector has the operator {operator:?}, which does not exist; use In, NotIn, Exists or DoesNotExist."
            )
        });
        let problem: Option<Arc<str>> = selector
            .err()
            .or(windows.as_ref().err().cloned())
            .or(headroom.as_ref().err().cloned())
            .map(Into::into);
        self.set_problem(Kind::GpuPool, key, problem.clone());
        model::Pool {
            name: key.clone(),
            created,
            resource: self.names.get(&pool.spec.resource),
            policy: match mining.policy {
                daylight_crds::MiningPolicy::Observe => MiningPolicy::Observe,
                daylight_crds::MiningPolicy::Fill => MiningPolicy::Fill,
                daylight_crds::MiningPolicy::Hold => MiningPolicy::Hold,
                daylight_crds::MiningPolicy::Drain => MiningPolicy::Drain,
            },
            windows: windows.unwrap_or_default(),
            max_gpus: mining.max_gpus,
            headroom: headroom.unwrap_or(Headroom::Percent(100)),
            power_budget_watts: mining.power_budget_watts,
            idle_delay: mining.idle_delay.as_duration(),
            min_run_time: mining.min_run_time.as_duration(),
            drain_timeout: mining.drain_timeout.as_duration(),
            reclaim_unit: match mining.reclaim_unit {
                daylight_crds::ReclaimUnit::Gpu => ReclaimUnit::Gpu,
                daylight_crds::ReclaimUnit::Node => ReclaimUnit::Node,
            },
            autoscaled_nodes: match mining.autoscaled_nodes {
                daylight_crds::AutoscaledNodes::Skip => AutoscaledNodes::Skip,
                daylight_crds::AutoscaledNodes::Use => AutoscaledNodes::Use,
            },
            queueing: match pool.spec.queueing {
                daylight_crds::Queueing::StrictFifo => Queueing::StrictFifo,
                daylight_crds::Queueing::Backfill => Queueing::Backfill,
            },
            recording: recording(pool),
            problem,
        }
    }

    /// When windows must be compiled further.
    pub(super) fn windows_due_at(&self) -> Option<Timestamp> {
        self.windows
            .values()
            .filter_map(|windows| windows.as_ref().ok()?.horizon())
            .min()
            .map(|horizon| horizon - windows::AHEAD)
    }

    /// Compiles the windows further that end soon.
    pub(super) fn refresh_windows(&mut self, out: &mut Vec<Delta>) {
        let now = self.now;
        let mut due: Vec<Name> = self
            .windows
            .iter()
            .filter(|(_, compiled)| compiled.as_ref().is_ok_and(|compiled| is_due(compiled, now)))
            .map(|(name, _)| name.clone())
            .collect();
        due.sort_unstable();
        for pool in due {
            self.windows.remove(&pool);
            self.tell_pool(&pool, out);
        }
    }

    pub(super) fn class_touched(
        &mut self,
        Touched { key, before }: Touched<Custom<ActivityClass>>,
        out: &mut Vec<Delta>,
    ) {
        if same_spec(before.as_deref(), self.classes.get(&key), |class| &class.spec) {
            return;
        }
        self.tell_class(&key, out);
        for registration in keys(&self.registrations) {
            self.tell_registration(&registration, out);
        }
        for miner in keys(&self.miners) {
            self.tell_miner(&miner, out);
        }
    }

    pub(super) fn tell_class(&mut self, key: &Name, out: &mut Vec<Delta>) {
        let class = self.classes.get(key);
        let problem = class.and_then(|class| class.object.as_ref().err()).cloned();
        let view = class.and_then(Custom::get).map(|class| model::Class {
            name: key.clone(),
            assignment: match class.spec.assignment {
                Assignment::Guaranteed => ClassAssignment::Guaranteed,
                Assignment::IdleOnly => ClassAssignment::IdleOnly,
                Assignment::None => ClassAssignment::Prohibited,
            },
            rank: class.spec.rank,
        });
        self.set_problem(Kind::ActivityClass, key, problem);
        self.given.class(key, view, out);
    }
}

/// What a change of pools bears on.
pub(super) enum Changed {
    Nothing,
    /// Which nodes belong to which pools.
    Nodes,
    /// Which extended resources count at all.
    Resources,
}

fn is_due(windows: &Windows, now: Timestamp) -> bool {
    windows.horizon().is_some_and(|horizon| now + windows::AHEAD >= horizon)
}

/// Whether two states of an object differ in their status alone.
pub(super) fn same_spec<K, S: PartialEq>(
    before: Option<&Custom<K>>,
    after: Option<&Custom<K>>,
    spec: impl Fn(&K) -> &S,
) -> bool {
    match (before, after) {
        (Some(before), Some(after)) => {
            before.uid == after.uid
                && before.deleting == after.deleting
                && match (&before.object, &after.object) {
                    (Ok(before), Ok(after)) => spec(before) == spec(after),
                    (Err(before), Err(after)) => before == after,
                    _ => false,
                }
        }
        _ => false,
    }
}

/// What the auditor says of a pool.
fn recording(pool: &GpuPool) -> Recording {
    let conditions = pool.status.iter().flat_map(|status| &status.conditions);
    let full = |one: &Condition| {
        one.type_ == CONDITION_METERED && one.status == "False" && one.reason == JOURNAL_FULL
    };
    if conditions.into_iter().any(full) { Recording::Full } else { Recording::Works }
}

fn headroom(value: &IntOrString) -> Result<Headroom, String> {
    let invalid = |text: &str| {
        format!(
            "spec.mining.headroom is {text:?}; write a count such as 8, or a percentage such as \"5%\"."
        )
    };
    match value {
        IntOrString::Int(count) => {
            u32::try_from(*count).map(Headroom::Count).map_err(|_| invalid(&count.to_string()))
        }
        IntOrString::String(text) => match text.strip_suffix('%') {
            Some(percent) => {
                percent.parse().ok().filter(|percent| *percent <= 100).map(Headroom::Percent)
            }
            None => text.parse().ok().map(Headroom::Count),
        }
        .ok_or_else(|| invalid(text)),
    }
}
