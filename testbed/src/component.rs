use std::fmt;

/// A part of the control plane. Each is a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Component {
    /// etcd: a single member, on a loopback port.
    Etcd,
    /// kube-apiserver: TLS, RBAC, the default admission plugins.
    ApiServer,
    /// kube-controller-manager: all its default controllers.
    ControllerManager,
    /// kube-scheduler, with its default profile.
    Scheduler,
    /// kwok for the nodes, and the testbed's own loop for their pods.
    Kwok,
    /// kubelet and containerd of a real node
    /// ([`Options::with_real_node`](crate::Options::with_real_node)). Both write to
    /// the same log. All containers end with it, by SIGKILL, as when a machine
    /// loses its power.
    Kubelet,
    /// kube-proxy of a real node ([`Options::with_services`](crate::Options::with_services)), with
    /// the machine's iptables.
    KubeProxy,
    /// Kueue, with its webhooks ([`Options::with_kueue`](crate::Options::with_kueue)). It has all
    /// rights.
    Kueue,
}

impl Component {
    /// Each component of a control plane with simulated nodes, in the order in
    /// which they start.
    pub const ALL: [Self; 5] =
        [Self::Etcd, Self::ApiServer, Self::ControllerManager, Self::Scheduler, Self::Kwok];

    /// The program in the testbed's binary, or one of its own.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kwok => "simulated-nodes",
            Self::Kubelet => "kubelet",
            Self::KubeProxy => "kube-proxy",
            Self::Kueue => "kueue",
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kwok => "kwok",
            other => other.program(),
        })
    }
}
