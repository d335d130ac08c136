use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::{Component, RealNode};

/// The rate limit of a component's requests, as Kubernetes' clients have it: requests
/// a second, and the burst after a quiet time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientRate {
    /// Requests a second, sustained.
    pub qps: u32,
    pub burst: u32,
}

impl ClientRate {
    /// High enough to be no limit on a testbed.
    pub const HIGH: Self = Self { qps: 5_000, burst: 10_000 };
    /// The default of kube-controller-manager.
    pub const STOCK_CONTROLLER_MANAGER: Self = Self { qps: 20, burst: 30 };
    /// The default of kube-scheduler.
    pub const STOCK_SCHEDULER: Self = Self { qps: 50, burst: 100 };
}

/// The components of a control plane, and their settings.
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
    pub(crate) services: bool,
}

impl Options {
    /// etcd and the API server: objects are stored and validated, and no component
    /// acts on them. No controller would remove the `not-ready` taint from new
    /// nodes, so the admission plugin that adds it (`TaintNodesByCondition`) is
    /// off.
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
            services: false,
        }
    }

    /// Everything: with the controllers, the scheduler and simulated nodes.
    pub fn full() -> Self {
        Self { components: Component::ALL.into(), ..Self::api_server() }
    }

    /// With a real node, on which containers run, in addition to the simulated ones.
    /// [`isolate`](crate::isolate) has to be called first.
    pub fn with_real_node(mut self, node: RealNode) -> Self {
        self.real_node = node;
        self.with(Component::Kubelet)
    }

    /// With kube-proxy on the real node: its pods reach Services, and the API server as pods do, at the
    /// Service `kubernetes`. It requires the machine's iptables.
    pub fn with_services(mut self) -> Self {
        self.services = true;
        self.with(Component::KubeProxy)
    }

    /// With Kueue, which is built from source the first time. [`ControlPlane::restart_kueue`]
    /// changes its configuration.
    ///
    /// [`ControlPlane::restart_kueue`]: crate::ControlPlane::restart_kueue
    pub fn with_kueue(self) -> Self {
        self.with(Component::Kueue)
    }

    /// Adds this component.
    pub fn with(mut self, component: Component) -> Self {
        self.components.insert(component);
        self
    }

    /// Removes this component. etcd and the API server always stay.
    pub fn without(mut self, component: Component) -> Self {
        if component > Component::ApiServer {
            self.components.remove(&component);
        }
        self
    }

    /// Adds a flag for a component, such as `--event-ttl=10m`. It follows the
    /// testbed's own, and so overrides them.
    pub fn flag(mut self, component: Component, flag: impl Into<String>) -> Self {
        self.flags.entry(component).or_default().push(flag.into());
        self
    }

    /// Sets a feature gate of a component. With an unknown one the component does
    /// not start.
    pub fn feature_gate(mut self, component: Component, gate: &str, on: bool) -> Self {
        self.feature_gates.entry(component).or_default().push(format!("{gate}={on}"));
        self
    }

    /// The rates at which kube-controller-manager and kube-scheduler may send
    /// requests. [`ClientRate::HIGH`] unless set, so that tests do not wait.
    pub fn client_rates(mut self, controller_manager: ClientRate, scheduler: ClientRate) -> Self {
        self.controller_manager_rate = controller_manager;
        self.scheduler_rate = scheduler;
        self
    }

    /// Kubernetes' default rates, for comparisons. The scheduler then binds at most
    /// 50 pods a second, and the controller manager takes nearly two minutes to
    /// remove the `not-ready` taint from 500 new nodes.
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
    /// times in it. At most 180 s: the controller manager considers a node
    /// lost after 50 s without a renewal. 100 s unless set; kubelet's default
    /// is 40 s.
    pub fn node_lease(mut self, duration: Duration) -> Self {
        self.node_lease = duration;
        self
    }

    /// The longest time for each component to become ready. 90 s unless set.
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
