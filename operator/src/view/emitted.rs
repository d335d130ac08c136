//! The last state sent to the planner.

use std::hash::Hash;

use daylight_base::Name;
use daylight_planner::model::{
    Class, Delta, EmergencyStop, Job, Miner, Node, Pod, Pool, Registration, Snapshot,
};
use rustc_hash::FxHashMap;

/// The last state sent to the planner; used to suppress duplicate deltas.
#[derive(Debug, Default)]
pub(crate) struct Emitted {
    emergency_stop: Option<EmergencyStop>,
    pub(crate) pools: FxHashMap<Name, Pool>,
    pub(crate) classes: FxHashMap<Name, Class>,
    pub(crate) registrations: FxHashMap<Name, Registration>,
    pub(crate) miners: FxHashMap<Name, Miner>,
    pub(crate) jobs: FxHashMap<Name, Job>,
    pub(crate) nodes: FxHashMap<Name, Box<Node>>,
    pub(crate) pods: FxHashMap<Name, Box<Pod>>,
}

macro_rules! emit {
    ($emit:ident, $map:ident, $type:ty, $delta:expr, $gone:expr, $wrap:expr) => {
        /// Sends this object if it is new or has changed; `None` reports that it is gone.
        pub(crate) fn $emit(&mut self, key: &Name, object: Option<$type>, out: &mut Vec<Delta>) {
            match object {
                Some(object) => {
                    if let Some(delta) = put(&mut self.$map, key, $wrap(object)) {
                        out.push($delta(delta));
                    }
                }
                None => {
                    if self.$map.remove(key).is_some() {
                        out.push($gone(key.clone()));
                    }
                }
            }
        }
    };
}

impl Emitted {
    emit!(pool, pools, Pool, Delta::Pool, Delta::PoolGone, plain);
    emit!(class, classes, Class, Delta::Class, Delta::ClassGone, plain);
    emit!(
        registration,
        registrations,
        Registration,
        Delta::Registration,
        Delta::RegistrationGone,
        plain
    );
    emit!(miner, miners, Miner, Delta::Miner, Delta::MinerGone, plain);
    emit!(job, jobs, Job, Delta::Job, Delta::JobGone, plain);
    emit!(node, nodes, Node, |node: Box<Node>| Delta::Node(*node), Delta::NodeGone, Box::new);
    emit!(pod, pods, Pod, |pod: Box<Pod>| Delta::Pod(*pod), Delta::PodGone, Box::new);

    /// Sends the beginning or the end of an emergency stop.
    pub(crate) fn emergency_stop(&mut self, stop: Option<EmergencyStop>, out: &mut Vec<Delta>) {
        if self.emergency_stop != stop {
            self.emergency_stop.clone_from(&stop);
            out.push(Delta::EmergencyStop(stop));
        }
    }

    /// The emergency stop, if it is active.
    pub(crate) fn stop(&self) -> Option<&EmergencyStop> {
        self.emergency_stop.as_ref()
    }

    /// The whole state, sorted by key.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            emergency_stop: self.emergency_stop.clone(),
            pools: sorted(&self.pools),
            classes: sorted(&self.classes),
            registrations: sorted(&self.registrations),
            miners: sorted(&self.miners),
            jobs: sorted(&self.jobs),
            nodes: sorted(&self.nodes).into_iter().map(|node| *node).collect(),
            pods: sorted(&self.pods).into_iter().map(|pod| *pod).collect(),
        }
    }
}

fn plain<T>(object: T) -> T {
    object
}

/// Stores the object; returns a copy if it differs from the stored one.
fn put<T: Clone + PartialEq>(map: &mut FxHashMap<Name, T>, key: &Name, object: T) -> Option<T> {
    match map.get_mut(key) {
        Some(known) if *known == object => None,
        Some(known) => {
            *known = object.clone();
            Some(object)
        }
        None => {
            map.insert(key.clone(), object.clone());
            Some(object)
        }
    }
}

fn sorted<K: Clone + Ord + Hash, T: Clone>(map: &FxHashMap<K, T>) -> Vec<T> {
    let mut keys: Vec<_> = map.iter().collect();
    keys.sort_unstable_by(|one, other| one.0.cmp(other.0));
    keys.into_iter().map(|(_, object)| object.clone()).collect()
}
