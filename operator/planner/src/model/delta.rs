//! The whole site, and changes to it.

use std::sync::Arc;

use daylight_base::Name;
use serde::{Deserialize, Serialize};

use crate::model::{Class, Job, Miner, Node, Pod, Pool, Registration};

/// The emergency stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmergencyStop {
    pub by: Arc<str>,
    pub reason: Arc<str>,
}

/// One change to the site: an object as it is now, or the name of one that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant)]
pub enum Delta {
    Pool(Pool),
    PoolGone(Name),
    Class(Class),
    ClassGone(Name),
    Registration(Registration),
    RegistrationGone(Name),
    Miner(Miner),
    MinerGone(Name),
    Job(Job),
    JobGone(Name),
    Node(Node),
    NodeGone(Name),
    Pod(Pod),
    PodGone(Name),
    EmergencyStop(Option<EmergencyStop>),
}

/// A whole site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    pub emergency_stop: Option<EmergencyStop>,
    pub pools: Vec<Pool>,
    pub classes: Vec<Class>,
    pub registrations: Vec<Registration>,
    pub miners: Vec<Miner>,
    pub jobs: Vec<Job>,
    pub nodes: Vec<Node>,
    pub pods: Vec<Pod>,
}
