//! Pools and activity classes.

use std::sync::Arc;

use daylight_base::{Name, Timestamp};
use daylight_cluster::selector::{NodeFilter, PoolSelector};
use daylight_cluster::slim::{Custom, Node};
use daylight_cluster::taints::{Toleration, tolerated};
use daylight_cluster::{Changed, Cluster, Kind, keys, same_spec};
use daylight_crds::{ActivityClass, Assignment, CONDITION_METERED, GpuPool, JOURNAL_FULL};
use daylight_planner::model;
use daylight_planner::model::{
    AutoscaledNodes, ClassAssignment, Delta, Headroom, Membership, MiningPolicy, Queueing,
    ReclaimUnit, Recording,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rustc_hash::FxHashSet;

use super::View;

/// The pools as they apply to nodes, the oldest first: where two claim the same resource of a
/// node, the older one has it.
#[derive(Debug, Default)]
pub struct PoolMap {
    pools: Vec<PoolOnNodes>,
    /// The extended resources that pools name.
    resources: FxHashSet<Name>,
}

/// The part of a pool that applies to nodes.
#[derive(Debug, PartialEq)]
struct PoolOnNodes {
    created: Timestamp,
    name: Name,
    resource: Name,
    selector: PoolSelector,
    tolerations: Vec<Toleration>,
    /// The nodes that the pool's `RuntimeClass` allows.
    runtime_nodes: NodeFilter,
}

/// The objects that a change of pools affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affected {
    Nothing,
    /// The membership of nodes in pools.
    Nodes,
    /// The set of extended resources that count.
    Resources,
}

impl PoolMap {
    /// Compiles the map again from the pools of the cluster.
    pub fn rebuild(&mut self, cluster: &mut Cluster) -> Affected {
        let mut pools: Vec<PoolOnNodes> = cluster
            .pools
            .iter()
            .filter_map(|(name, pool)| {
                let spec = &pool.get()?.spec;
                let class = spec.runtime_class_name.as_deref();
                let class = class.and_then(|class| cluster.runtime_classes.get(class));
                let tolerations = spec.tolerations.iter().filter_map(toleration);
                let of_class =
                    class.into_iter().flat_map(|class| class.tolerations.iter().cloned());
                Some(PoolOnNodes {
                    created: pool.created,
                    name: name.clone(),
                    resource: Arc::from(spec.resource.as_str()),
                    // A selector that cannot be read selects no node; the pool's status has the
                    // reason.
                    selector: PoolSelector::new(&spec.node_selector).unwrap_or_default(),
                    tolerations: tolerations.chain(of_class).collect(),
                    runtime_nodes: class.map(|class| class.nodes.clone()).unwrap_or_default(),
                })
            })
            .collect();
        pools.sort_unstable_by(|one, other| {
            (one.created, &one.name).cmp(&(other.created, &other.name))
        });
        for pool in &mut pools {
            cluster.names.share(&mut pool.resource);
        }
        let resources = pools.iter().map(|pool| pool.resource.clone()).collect();
        let affected = if self.resources != resources {
            Affected::Resources
        } else if self.pools != pools {
            Affected::Nodes
        } else {
            Affected::Nothing
        };
        *self = Self { pools, resources };
        affected
    }

    /// Returns `true` if a pool has this extended resource.
    pub fn has_resource(&self, resource: &str) -> bool {
        self.resources.contains(resource)
    }

    /// The extended resources that pools name, in no order.
    pub(super) fn resources(&self) -> impl Iterator<Item = &Name> {
        self.resources.iter()
    }

    /// The first of these extended resources that a pool has, and its count.
    pub(super) fn first_of<'a>(&self, extended: &'a [(Name, u32)]) -> Option<&'a (Name, u32)> {
        extended.iter().find(|(resource, _)| self.has_resource(resource))
    }

    /// The pool that has a resource of a node.
    pub fn pool_of(&self, node: &Node, resource: &str) -> Option<&Name> {
        let mut pools = self.pools.iter();
        pools
            .find(|pool| *pool.resource == *resource && pool.selector.matches(&node.labels))
            .map(|pool| &pool.name)
    }

    /// The pools that select a node.
    pub(super) fn memberships(&self, node: &Node) -> Vec<Membership> {
        let pools = self.pools.iter().filter(|pool| pool.selector.matches(&node.labels));
        pools
            .map(|pool| Membership {
                pool: pool.name.clone(),
                tolerated: tolerated(&pool.tolerations, &node.taints),
                runs_miners: pool.runtime_nodes.matches(&node.name, &node.labels),
            })
            .collect()
    }
}

fn toleration(one: &k8s_openapi::api::core::v1::Toleration) -> Option<Toleration> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Toleration::new(&text(&one.key), &text(&one.operator), &text(&one.value), &text(&one.effect))
}

impl View {
    pub(super) fn pool_changed(
        &mut self,
        Changed { key, before }: Changed<Custom<GpuPool>>,
        out: &mut Vec<Delta>,
    ) {
        let after = self.cluster.pools.get(&key);
        if same_spec(before.as_deref(), after, |pool| &pool.spec) {
            let recorded = before.as_deref().and_then(Custom::get).map(|pool| recording(pool));
            if recorded != after.and_then(Custom::get).map(|pool| recording(pool)) {
                self.emit_pool(&key, out);
            }
            return;
        }
        self.windows.forget(&key);
        let affected = self.pools.rebuild(&mut self.cluster);
        self.emit_pool(&key, out);
        if affected != Affected::Nothing {
            self.recount_where(|_, _| true);
            self.emit_nodes(out);
        }
        if affected == Affected::Resources {
            for pod in keys(&self.cluster.pods) {
                self.emit_pod(&pod, out);
            }
        }
        self.emit_registrations_and_miners(out);
        for job in keys(&self.cluster.ai_jobs) {
            self.emit_job(&job, out);
        }
    }

    /// Evaluates all nodes again, because pools changed.
    pub(super) fn emit_nodes(&mut self, out: &mut Vec<Delta>) {
        for node in keys(&self.cluster.nodes) {
            self.emit_node(&node, out);
        }
        self.emit_waiting(out);
    }

    pub(super) fn emit_pool(&mut self, key: &Name, out: &mut Vec<Delta>) {
        let (view, problem) = match self.cluster.pools.get(key) {
            None => {
                self.windows.forget(key);
                (None, None)
            }
            Some(Custom { object: Err(problem), .. }) => (None, Some(problem.clone())),
            Some(Custom { object: Ok(pool), created, .. }) => {
                let (pool, created) = (pool.clone(), *created);
                let view = self.pool_view(key, &pool, created);
                let problem = view.problem.clone();
                (Some(view), problem)
            }
        };
        self.problems.set(Kind::GpuPool, key, problem);
        self.emitted.pool(key, view, out);
    }

    fn pool_view(&mut self, key: &Name, pool: &GpuPool, created: Timestamp) -> model::Pool {
        let mining = &pool.spec.mining;
        let windows = self.windows.of(key, pool, self.now);
        let headroom = headroom(&mining.headroom);
        let selector = PoolSelector::new(&pool.spec.node_selector).map_err(|operator| {
            format!(
                "spec.nodeSelector has the operator {operator:?}, which does not exist; use In, NotIn, Exists or DoesNotExist."
            )
        });
        let problem =
            selector.err().or(windows.as_ref().err().cloned()).or(headroom.as_ref().err().cloned());
        model::Pool {
            name: key.clone(),
            created,
            resource: self.cluster.names.get(&pool.spec.resource),
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
            problem: problem.map(Into::into),
        }
    }

    /// Extends the compiled windows that end soon.
    pub(super) fn refresh_windows(&mut self, out: &mut Vec<Delta>) {
        for pool in self.windows.take_due(self.now) {
            self.emit_pool(&pool, out);
        }
    }

    pub(super) fn class_changed(
        &mut self,
        Changed { key, before }: Changed<Custom<ActivityClass>>,
        out: &mut Vec<Delta>,
    ) {
        let after = self.cluster.classes.get(&key);
        if same_spec(before.as_deref(), after, |class| &class.spec) {
            return;
        }
        self.recount_where(|cluster, pod| match cluster.class_of(pod) {
            Some(class) => class == key,
            // It has the class of its registration.
            None => pod.registration.is_some(),
        });
        self.emit_class(&key, out);
        self.emit_pods_of_class(&key, out);
        self.emit_registrations_and_miners(out);
    }

    pub(super) fn emit_class(&mut self, key: &Name, out: &mut Vec<Delta>) {
        let class = self.cluster.classes.get(key);
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
        self.problems.set(Kind::ActivityClass, key, problem);
        self.emitted.class(key, view, out);
    }
}

/// Reads from a pool's status whether the auditor can still record what happens in it.
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
