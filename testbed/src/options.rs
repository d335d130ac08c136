use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::{Component, RealNode};

/// How many requests a second a component may send, and how many at once
/// after a quiet time. Kubernetes' own limits, in its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientRate {
    /// Requests a second, sustained.
    pub qps: u32,
    pub burst: u32,
}

impl ClientRate {
    /// High enough to be no limit on a testbed.
    pub const HIGH: Self = Self { qps: 5_000, burst: 10_000 };
    /// What kube-controller-manager has when it is told nothing.
    pub const STOCK_CONTROLLER_MANAGER: Self = Self { qps: 20, burst: 30 };
    /// What kube-scheduler has when it is told nothing.
    pub const STOCK_SCHEDULER: Self = Self { qps: 50, burst: 100 };
}

/// What a control plane is made of, and how its parts are set.
///
/// ```
/// use daylight_testbed::{Component, Options};
///
/// let options = Options::full()
///     .feature_gate(Component::ApiServer, "WatchList", false)
///     .flag(Component::ControllerManager, "--node-monitor-grace-period=20s");
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Options {
    pub(crate) components: BTreeSet<Component>,
    pub(crate) flags: BTreeMap<Component, Vec<String>>,
    pub(crate) feature_gates: BTreeMap<Component, Vec<String>>,
    pub(crate) controller_manager_rate: ClientRate,
    pub(crate) scheduler_rate: ClientRate,
    pub(crate) fsync: bool,
    pub(crate) node_lease: Duration,
    pub(crate) start_timeout: Duration,
    pub(crate) real_node: RealNode,
}

impl Options {
    /// etcd and the API server: objects are stored and validated, and nothing
    /// happens to them. No controller takes the `not-ready` taint from new
    /// nodes here, so the admission plugin that gives it
    /// (`TaintNodesByCondition`) is off.
    pub fn api_server() -> Self {
        Self {
            components: [Component::Etcd, Component::ApiServer].into(),
            flags: BTreeMap::new(),
            feature_gates: BTreeMap::new(),
            controller_manager_rate: ClientRate::HIGH,
            scheduler_rate: ClientRate::HIGH,
            fsync: false,
            node_lease: Duration::from_secs(100),
            start_timeout: Duration::from_secs(90),
            real_node: RealNode::new("real-0"),
        }
    }

    /// Everything: with the controllers, the scheduler and simulated nodes.
    pub fn full() -> Self {
        Self { components: Component::ALL.into(), ..Self::api_server() }
    }

    /// With a real node, on which containers run, beside the simulated ones.
    /// [`isolate`](crate::isolate) has to be called before.
    pub fn with_real_node(mut self, node: RealNode) -> Self {
        self.real_node = node;
        self.with(Component::Kubelet)
    }

    /// With this component, too.
    pub fn with(mut self, component: Component) -> Self {
        self.components.insert(component);
        self
    }

    /// Without this component. (Without etcd or the API server there is no
    /// control plane: these two stay.)
    pub fn without(mut self, component: Component) -> Self {
        if component > Component::ApiServer {
            self.components.remove(&component);
        }
        self
    }

    /// One more flag for a component, after the testbed's own, which it thus
    /// overrides: `--event-ttl=10m`.
    pub fn flag(mut self, component: Component, flag: impl Into<String>) -> Self {
        self.flags.entry(component).or_default().push(flag.into());
        self
    }

    /// A feature gate of a component. One that the component does not know
    /// keeps it from starting.
    pub fn feature_gate(mut self, component: Component, gate: &str, on: bool) -> Self {
        self.feature_gates.entry(component).or_default().push(format!("{gate}={on}"));
        self
    }

    /// The rates at which kube-controller-manager and kube-scheduler may send
    /// requests. [`ClientRate::HIGH`] unless set: tests do not want to wait.
    pub fn client_rates(mut self, controller_manager: ClientRate, scheduler: ClientRate) -> Self {
        self.controller_manager_rate = controller_manager;
        self.scheduler_rate = scheduler;
        self
    }

    /// The rates of a Kubernetes that is told nothing, for comparing with it.
    /// The scheduler then binds 50 pods a second at most, and the controller
    /// manager takes nearly two minutes to take the `not-ready` taint from 500
    /// new nodes.
    pub fn stock_client_rates(self) -> Self {
        self.client_rates(ClientRate::STOCK_CONTROLLER_MANAGER, ClientRate::STOCK_SCHEDULER)
    }

    /// Whether etcd waits for the disk at each write. Off unless set: a
    /// testbed's data need not survive a loss of power.
    pub fn fsync(mut self, on: bool) -> Self {
        self.fsync = on;
        self
    }

    /// The duration of the simulated nodes' leases, which are renewed four
    /// times in it. At most 180 s: the controller manager takes a node for
    /// dead after 50 s without a renewal. 100 s unless set; kubelets have
    /// 40 s.
    pub fn node_lease(mut self, duration: Duration) -> Self {
        self.node_lease = duration;
        self
    }

    /// How long each component may take to become ready. 90 s unless set.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::full()
    }
}
